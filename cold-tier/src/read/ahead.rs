//! Read-ahead: a reader that goes on where it stopped finds the next chunks decoded.
//!
//! A reader is known by partition and next offset. The window is four times what it has read in sequence, up to the
//! configured bound and a quarter of the chunk cache. It is refilled in steps, as soon as one has been read, and no load
//! is larger than a step: large enough for few requests, small enough that several are under way at any time, so that a
//! store that answers late costs little. One task per reader plans and starts loads, across objects; it stops when the
//! memory for chunks in the making is short.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use model::archive::ManifestPointer;
use model::{Offset, TopicPartition};
use moka::sync::Cache;
use parking_lot::Mutex;

use super::Place;
use super::chunks::ChunkKey;
use crate::error::ReadError;
use crate::tier::Inner;

/// Readers that are remembered.
const MAX_STREAMS: u64 = 4096;
/// Time after which a reader that does not come back is forgotten.
const STREAM_IDLE: Duration = Duration::from_secs(60);
/// The window, in multiples of what was read in sequence.
const WINDOW_FACTOR: u64 = 4;
/// Record bytes by which a large window is refilled (a small one by half of it), and most that one load brings.
const STEP_BYTES: u64 = 8 << 20;

/// Readers by where they will read on.
#[derive(Debug)]
pub(crate) struct Streams {
    by_position: Cache<(TopicPartition, Offset), Arc<Mutex<Stream>>>,
}

/// One sequential reader.
#[derive(Debug, Default)]
struct Stream {
    /// Bytes read in sequence.
    run_bytes: u64,
    /// First offset behind what was planned.
    ahead_offset: Offset,
    /// Record bytes planned and not yet read.
    ahead_bytes: u64,
    /// A task is planning.
    planning: bool,
}

impl Streams {
    pub(crate) fn new() -> Self {
        let by_position = Cache::builder().max_capacity(MAX_STREAMS).time_to_idle(STREAM_IDLE).build();
        Streams { by_position }
    }
}

impl Inner {
    /// Takes note of a read of `bytes` over `[from, next)`, and loads ahead if it continues another.
    pub(crate) fn read_ahead(
        self: &Arc<Self>,
        partition: TopicPartition,
        pointer: &ManifestPointer,
        (from, next): (Offset, Offset),
        bytes: usize,
    ) {
        let limit = self.config.read_ahead_max_bytes.min(self.config.chunk_cache_bytes() / 4);
        if limit == 0 || bytes == 0 {
            return;
        }
        let known = self.streams.by_position.get(&(partition, from));
        let is_sequential = known.is_some();
        let stream = known.unwrap_or_default();
        let want = {
            let mut state = stream.lock();
            state.run_bytes = state.run_bytes.saturating_add(bytes as u64);
            state.ahead_bytes = state.ahead_bytes.saturating_sub(bytes as u64);
            let window = state.run_bytes.saturating_mul(WINDOW_FACTOR).min(limit);
            let step = STEP_BYTES.min(window / 2);
            let is_due = is_sequential && !state.planning && state.ahead_bytes + step <= window;
            state.planning |= is_due;
            is_due.then(|| (state.ahead_offset.max(next), window - state.ahead_bytes))
        };
        self.streams.by_position.insert((partition, next), Arc::clone(&stream));
        let Some((start, bytes)) = want.filter(|(start, _)| *start < pointer.archived_end) else {
            stream.lock().planning &= want.is_none();
            return;
        };
        let (inner, pointer) = (Arc::clone(self), pointer.clone());
        tokio::spawn(async move {
            let planned = inner.plan(&pointer, start, bytes).await;
            let mut state = stream.lock();
            state.planning = false;
            // A failure shows itself again to the reader that gets there.
            if let Ok((offset, bytes)) = planned {
                state.ahead_offset = offset;
                state.ahead_bytes = state.ahead_bytes.saturating_add(bytes);
            }
        });
    }

    /// Starts loading `bytes` from `offset` on; answers how far it came and how many bytes that is.
    async fn plan(
        self: &Arc<Self>,
        pointer: &ManifestPointer,
        mut offset: Offset,
        bytes: u64,
    ) -> Result<(Offset, u64), ReadError> {
        let mut planned = 0;
        while planned < bytes && offset < pointer.archived_end {
            let Some(place) = self.locate(pointer, offset).await? else { break };
            let Some((run, run_bytes)) = next_run(&place, (bytes - planned).min(STEP_BYTES)) else {
                offset = place.segment.next_offset;
                continue;
            };
            if !self.load_missing(&place, run.clone()) {
                break;
            }
            planned += run_bytes;
            let next_chunk = place.footer.chunks.get(run.end);
            offset = next_chunk.map_or(place.segment.next_offset, |chunk| chunk.facts.first_offset);
        }
        Ok((offset, planned))
    }

    /// Loads what the cache lacks of `run`; false when memory is short.
    fn load_missing(self: &Arc<Self>, place: &Place, run: Range<usize>) -> bool {
        let is_missing = |chunk: usize| {
            let key = ChunkKey { object: place.segment.object.as_str().into(), chunk };
            self.chunks.peek(&key).is_none() && self.chunks.under_way(&key).is_none()
        };
        let mut start = run.start;
        while start < run.end {
            if !is_missing(start) {
                start += 1;
                continue;
            }
            let end = (start..run.end).find(|&chunk| !is_missing(chunk)).unwrap_or(run.end);
            if !self.load_ahead(place, start..end) {
                return false;
            }
            start = end;
        }
        true
    }
}

/// Chunks from `place` on, within its row group, of about `bytes`; `None` behind the object's last chunk.
fn next_run(place: &Place, bytes: u64) -> Option<(Range<usize>, u64)> {
    let chunks = &place.footer.chunks;
    let row_group = chunks.get(place.chunk)?.facts.row_group;
    let mut run_bytes = 0;
    let mut end = place.chunk;
    while end < chunks.len() && chunks[end].facts.row_group == row_group && run_bytes < bytes {
        run_bytes += chunks[end].facts.record_bytes;
        end += 1;
    }
    Some((place.chunk..end, run_bytes))
}
