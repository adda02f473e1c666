//! Comparing the archive with the local log, record by record, where both hold the same offsets.
//!
//! Two histories that were once one disk may have the same offsets in the same leader epochs; only their records tell them
//! apart. Control records are in neither: there are no transactions yet.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cold_tier::{ColdFetch, ReadError};
use hot_tier::ReadLimits;
use model::Offset;
use model::archive::ManifestPointer;
use model::batch::{BatchError, Batches, RecordsBuffer};

use super::Partition;
use crate::machine::blocking;

/// Bytes of record batches that are read from a tier at a time.
const STEP_BYTES: usize = 1 << 20;
/// Largest batch that is unpacked, in bytes.
const MAX_UNPACKED_BYTES: usize = 256 << 20;
/// How long the archive has for one step.
const STEP_WITHIN: Duration = Duration::from_secs(30);

/// A record's offset, and a hash of its key and value.
type Digest = (Offset, u64);

impl Partition {
    /// The first offset in `[from, to)` where the archive and the local log have different records, or only one of them has
    /// one. `Err` in the result says that the local log cannot be read.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub(super) async fn first_difference(
        &self,
        pointer: &ManifestPointer,
        from: Offset,
        to: Offset,
    ) -> Result<Result<Option<Offset>, String>, ReadError> {
        let (mut cold_at, mut hot_at) = (from, from);
        let (mut cold, mut hot) = (VecDeque::new(), VecDeque::new());
        loop {
            if cold.is_empty() && cold_at < to {
                let fetch = ColdFetch { from: cold_at, max_bytes: STEP_BYTES, upper: to, timeout: STEP_WITHIN };
                let read = self.cold.read(self.id, pointer, fetch).await?;
                let range = cold_at..to;
                cold_at = if read.next_offset > cold_at { read.next_offset } else { to };
                match blocking::run(move || digests(&read.records, &range)).await {
                    Ok(found) => cold.extend(found),
                    Err(error) => return Ok(Err(error.to_string())),
                }
                continue;
            }
            if hot.is_empty() && hot_at < to {
                let limits = ReadLimits { max_bytes: STEP_BYTES, upper: self.log.log_end(), at_least_one: true };
                let (log, range) = (Arc::clone(&self.log), hot_at..to);
                let read = blocking::run(move || {
                    let read = log.read(range.start, limits).map_err(|error| error.to_string())?;
                    let found = digests(std::slice::from_ref(&read.records), &range).map_err(|e| e.to_string())?;
                    Ok::<_, String>((found, read.next_offset))
                });
                match read.await {
                    Ok((found, next)) => {
                        hot.extend(found);
                        hot_at = if next > hot_at { next } else { to };
                    }
                    Err(error) => return Ok(Err(error)),
                }
                continue;
            }
            match (cold.pop_front(), hot.pop_front()) {
                (None, None) => return Ok(Ok(None)),
                (one, other) if one == other => {}
                (one, other) => return Ok(Ok(one.into_iter().chain(other).map(|(offset, _)| offset).min())),
            }
        }
    }
}

/// The records of whole batches that lie in the range.
fn digests(slices: &[Bytes], range: &std::ops::Range<Offset>) -> Result<Vec<Digest>, BatchError> {
    let mut buffer = RecordsBuffer::new(MAX_UNPACKED_BYTES);
    let mut found = Vec::new();
    for slice in slices {
        for batch in Batches::new(slice) {
            for record in batch?.records(&mut buffer)? {
                let record = record?;
                if range.contains(&record.offset) {
                    let mut hasher = DefaultHasher::new();
                    (record.key, record.value).hash(&mut hasher);
                    found.push((record.offset, hasher.finish()));
                }
            }
        }
    }
    Ok(found)
}
