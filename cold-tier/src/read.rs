//! Cold reads (D10): offset → manifest → footer → chunk → ready-made batches.
//!
//! ```text
//!   read(offset) ─▶ manifest (cached) ─▶ footer (cached) ─▶ chunk (cached) ─▶ slices of its batches
//!                                                             │ miss
//!                                       one fetch per run of chunks ─▶ decode threads ─▶ cache
//! ```
//!
//! A read waits for the first chunk that it needs and takes further ones only if they are there already. Loads run in
//! tasks of their own: a read that gives up does not stop them. Memory: decoded chunks live in the chunk cache; chunks in
//! the making hold permits of a semaphore, waiting in line, and a chunk larger than all permits takes all of them, so any
//! cache size makes progress. Batches that were handed out are the caller's memory.

pub(crate) mod ahead;
pub(crate) mod chunks;

pub(crate) mod lookup;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use model::archive::ManifestPointer;
use model::{Offset, TopicPartition};
use tokio::time::Instant;

use crate::error::ReadError;
use crate::footer::Footer;
use crate::manifest::ArchivedSegment;
use crate::replay::Replayed;
use crate::tier::{ColdTier, Inner};

/// What to read.
#[derive(Debug, Clone, Copy)]
pub struct ColdFetch {
    /// First offset wanted.
    pub from: Offset,
    /// Bytes wanted at most; the first batch comes whole whatever its size.
    pub max_bytes: usize,
    /// Batches that begin at or above this offset are not wanted.
    pub upper: Offset,
    /// Time that the read may take.
    pub timeout: Duration,
}

/// What was read.
#[derive(Debug, Clone, Default)]
pub struct ColdRead {
    /// Whole batches, back to back over all slices, from the one that holds the offset asked for, or the first after it.
    pub records: Vec<Bytes>,
    /// Where to read on: behind the last batch, or behind a gap at the end of the archive.
    pub next_offset: Offset,
}

impl ColdRead {
    /// Bytes of all slices.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }
}

/// A place in the archive.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) segment: Arc<ArchivedSegment>,
    pub(crate) footer: Arc<Footer>,
    pub(crate) chunk: usize,
}

impl ColdTier {
    /// Reads whole batches from the one that holds `request.from`; gaps are skipped. An empty answer says by its
    /// `next_offset` where the archive, or what is wanted of it, ends.
    ///
    /// # Errors
    /// [`ReadError::BelowLogStart`] for an offset that is gone; [`ReadError::TimedOut`] when nothing came in time (the
    /// load goes on, so asking again helps); otherwise what the store or its bytes did wrong.
    pub async fn read(
        &self,
        partition: TopicPartition,
        pointer: &ManifestPointer,
        request: ColdFetch,
    ) -> Result<ColdRead, ReadError> {
        if request.from < pointer.log_start {
            let log_start = pointer.log_start;
            return Err(ReadError::BelowLogStart { partition, offset: request.from, log_start });
        }
        let deadline = Instant::now() + request.timeout;
        let mut read = ColdRead { records: Vec::new(), next_offset: request.from };
        let end = request.upper.min(pointer.archived_end);
        let mut taken = 0;
        while read.next_offset < end && (taken == 0 || taken < request.max_bytes) {
            let step = self.inner.step(pointer, read.next_offset);
            let step = if taken == 0 {
                tokio::time::timeout_at(deadline, step)
                    .await
                    .map_err(|_| ReadError::TimedOut { partition, offset: read.next_offset })?
            } else {
                // Later chunks are a gift: neither their absence nor their failure spoils what is there.
                match step.now_or_never() {
                    Some(Ok(step)) => Ok(step),
                    _ => break,
                }
            };
            let (chunk, chunk_end) = match step? {
                Step::Chunk(chunk, chunk_end) => (chunk, chunk_end),
                Step::Gap(next_offset) => {
                    read.next_offset = next_offset;
                    continue;
                }
            };
            let sliced = slice(&chunk, read.next_offset, end, request.max_bytes.saturating_sub(taken), taken == 0);
            let Some((bytes, last_offset, whole)) = sliced else {
                // Nothing of this chunk is wanted, or nothing of it fits.
                break;
            };
            taken += bytes.len();
            read.records.push(bytes);
            read.next_offset = if whole { chunk_end } else { last_offset + 1 };
            if !whole {
                break;
            }
        }
        self.inner.read_ahead(partition, pointer, (request.from, read.next_offset), taken);
        Ok(read)
    }

    /// The archived segments, oldest first: for listings.
    ///
    /// # Errors
    /// When a manifest cannot be read.
    pub async fn entries(&self, pointer: &ManifestPointer) -> Result<Vec<ArchivedSegment>, ReadError> {
        self.entries_from(pointer, Offset::MIN).await
    }

    /// The archived segments that end after `from`, oldest first. Child manifests that end before are not read.
    ///
    /// # Errors
    /// When a manifest cannot be read.
    pub async fn entries_from(
        &self,
        pointer: &ManifestPointer,
        from: Offset,
    ) -> Result<Vec<ArchivedSegment>, ReadError> {
        let mut entries = Vec::new();
        let visit = |segment: &ArchivedSegment| {
            entries.push(segment.clone());
            std::ops::ControlFlow::Continue(())
        };
        self.inner.manifests.each(pointer, from, |_| true, visit).await?;
        Ok(entries)
    }

    /// The first archived segment that ends after `offset`.
    ///
    /// # Errors
    /// When a manifest cannot be read.
    pub async fn entry_at(
        &self,
        pointer: &ManifestPointer,
        offset: Offset,
    ) -> Result<Option<ArchivedSegment>, ReadError> {
        let mut found = None;
        let visit = |segment: &ArchivedSegment| {
            found = Some(segment.clone());
            std::ops::ControlFlow::Break(())
        };
        self.inner.manifests.each(pointer, offset, |_| true, visit).await?;
        Ok(found)
    }

    /// How many records of an archived segment lie below `offset`: by its footer, and by one chunk of it where the offset
    /// lies inside a chunk.
    ///
    /// # Errors
    /// When the object cannot be read.
    pub async fn records_below(&self, segment: &ArchivedSegment, offset: Offset) -> Result<u64, ReadError> {
        let footer = self.inner.footer(segment).await?;
        let chunk = footer.chunk_at(offset);
        let before: u64 = footer.chunks[..chunk].iter().map(|chunk| u64::from(chunk.facts.rows)).sum();
        let is_inside = footer.chunks.get(chunk).is_some_and(|chunk| chunk.facts.first_offset < offset);
        if !is_inside {
            return Ok(before);
        }
        let place = Place { segment: Arc::new(segment.clone()), footer, chunk };
        let replayed = self.inner.chunk(&place).await?;
        Ok(before + lookup::count_below(&replayed.bytes, offset))
    }
}

enum Step {
    /// A chunk, and the offset at which reading goes on behind it.
    Chunk(Arc<Replayed>, Offset),
    /// No record up to this offset.
    Gap(Offset),
}

impl Inner {
    /// The chunk that holds `offset` or the first record after it.
    async fn step(self: &Arc<Self>, pointer: &ManifestPointer, offset: Offset) -> Result<Step, ReadError> {
        let Some(place) = self.locate(pointer, offset).await? else { return Ok(Step::Gap(pointer.archived_end)) };
        if place.chunk == place.footer.chunks.len() {
            return Ok(Step::Gap(place.segment.next_offset));
        }
        let next_chunk = place.footer.chunks.get(place.chunk + 1);
        let chunk_end = next_chunk.map_or(place.segment.next_offset, |next| next.facts.first_offset);
        let chunk = self.chunk(&place).await?;
        Ok(Step::Chunk(chunk, chunk_end))
    }

    /// Where `offset` lies; the chunk number equals the chunk count in a gap at an object's end.
    pub(crate) async fn locate(
        self: &Arc<Self>,
        pointer: &ManifestPointer,
        offset: Offset,
    ) -> Result<Option<Place>, ReadError> {
        let Some(segment) = self.manifests.find(pointer, offset).await? else { return Ok(None) };
        let footer = self.footer(&segment).await?;
        let chunk = footer.chunk_at(offset);
        Ok(Some(Place { segment: Arc::new(segment), footer, chunk }))
    }

    /// The footer of an archived object.
    pub(crate) async fn footer(self: &Arc<Self>, segment: &ArchivedSegment) -> Result<Arc<Footer>, ReadError> {
        let (store, segment) = (self.store.clone(), segment.clone());
        let key = segment.object.clone();
        let load = move || async move {
            let tail = segment.bytes - segment.footer_bytes..segment.bytes;
            let bytes = store.get_range(&segment.object, tail).await?;
            let corrupt =
                |reason| ReadError::Corrupt { object: segment.object.clone(), offset: segment.base_offset, reason };
            Footer::parse(&segment, bytes).map(Arc::new).map_err(corrupt)
        };
        self.footers.get(key, load).await
    }
}

/// The batches of a chunk from the one that holds `from`, up to `max_bytes`: the bytes, the last offset, and whether the
/// chunk's last batch is among them. `None` when no batch is wanted.
fn slice(
    chunk: &Replayed,
    from: Offset,
    upper: Offset,
    max_bytes: usize,
    at_least_one: bool,
) -> Option<(Bytes, Offset, bool)> {
    let first = chunk.batches.partition_point(|batch| batch.last_offset < from);
    let start = first.checked_sub(1).map_or(0, |before| chunk.batches[before].end);
    let mut count = chunk.batches[first..]
        .iter()
        .take_while(|batch| batch.base_offset < upper && batch.end - start <= max_bytes)
        .count();
    let one_is_wanted = chunk.batches.get(first).is_some_and(|batch| batch.base_offset < upper);
    if count == 0 && at_least_one && one_is_wanted {
        count = 1;
    }
    let last = chunk.batches.get(first..first + count)?.last()?;
    let whole = first + count == chunk.batches.len();
    Some((chunk.bytes.slice(start..last.end), last.last_offset, whole))
}
