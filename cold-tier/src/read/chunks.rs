//! Fetching and decoding chunks: neighbours in one row group share their requests.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::OwnedSemaphorePermit;

use super::Place;
use crate::columns::Columns;
use crate::error::ReadError;
use crate::flight::Load;
use crate::footer::{Chunk, Footer};
use crate::manifest::ArchivedSegment;
use crate::replay::{Replayed, replay};
use crate::tier::{Inner, PERMIT_BYTES};
use crate::workers::JobError;

thread_local! {
    /// Buffers and contexts that a decode thread keeps.
    static COLUMNS: RefCell<Columns> = RefCell::default();
}

/// An object and the number of a chunk in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ChunkKey {
    pub(crate) object: Arc<str>,
    pub(crate) chunk: usize,
}

/// The pages of neighbouring chunks, and the memory reserved for turning them into batches.
struct Fetched {
    pages: Vec<Vec<Bytes>>,
    _permit: OwnedSemaphorePermit,
}

type Fetch = Shared<BoxFuture<'static, Result<Arc<Fetched>, ReadError>>>;

impl Inner {
    /// The chunk at `place`, from the cache or from the store.
    pub(crate) async fn chunk(self: &Arc<Self>, place: &Place) -> Result<Arc<Replayed>, ReadError> {
        let key = ChunkKey { object: place.segment.object.as_str().into(), chunk: place.chunk };
        if let Some(chunk) = self.chunks.peek(&key) {
            metrics::counter!("firn_cold_cache_total", "outcome" => "hit").increment(1);
            return Ok(chunk);
        }
        if let Some(load) = self.chunks.under_way(&key) {
            metrics::counter!("firn_cold_cache_total", "outcome" => "joined").increment(1);
            return load.await;
        }
        metrics::counter!("firn_cold_cache_total", "outcome" => "miss").increment(1);
        let run = place.chunk..place.chunk + 1;
        let fetch = self.fetch(place, run.clone(), None);
        self.load(place, run, &fetch, place.chunk).await
    }

    /// Starts loading `run`, chunks of one row group, unless the memory for chunks in the making is short.
    ///
    /// Answers whether it did.
    pub(crate) fn load_ahead(self: &Arc<Self>, place: &Place, run: Range<usize>) -> bool {
        let bytes = run_bytes(&place.footer, &run);
        let Ok(permit) = Arc::clone(&self.in_flight).try_acquire_many_owned(self.permits(bytes)) else { return false };
        metrics::counter!("firn_cold_read_ahead_chunks_total").increment(run.len() as u64);
        let fetch = self.fetch(place, run.clone(), Some(permit));
        for chunk in run.clone() {
            // The load runs by itself; nobody waits for it yet.
            drop(self.load(place, run.clone(), &fetch, chunk));
        }
        true
    }

    fn permits(&self, bytes: u64) -> u32 {
        let permits = u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
        permits.clamp(1, self.in_flight_permits)
    }

    /// One fetch for all chunks of the run. Starts when the first of them is awaited.
    fn fetch(self: &Arc<Self>, place: &Place, run: Range<usize>, permit: Option<OwnedSemaphorePermit>) -> Fetch {
        let (inner, place) = (Arc::clone(self), place.clone());
        async move {
            let permit = match permit {
                Some(permit) => permit,
                None => {
                    let permits = inner.permits(run_bytes(&place.footer, &run));
                    let waiting = Arc::clone(&inner.in_flight).acquire_many_owned(permits);
                    waiting.await.map_err(|_| ReadError::Closed)?
                }
            };
            let chunks = &place.footer.chunks[run];
            let ranges: Vec<Range<u64>> = chunks.iter().flat_map(|chunk| chunk.pages.iter().cloned()).collect();
            let mut fetched = inner.store.get_ranges(&place.segment.object, &ranges).await?.into_iter();
            let pages = chunks.iter().map(|chunk| fetched.by_ref().take(chunk.pages.len()).collect()).collect();
            Ok(Arc::new(Fetched { pages, _permit: permit }))
        }
        .boxed()
        .shared()
    }

    /// Decodes one chunk of a fetched run, and caches it.
    fn load(self: &Arc<Self>, place: &Place, run: Range<usize>, fetch: &Fetch, chunk: usize) -> Load<Arc<Replayed>> {
        let key = ChunkKey { object: place.segment.object.as_str().into(), chunk };
        let (inner, place, fetch) = (Arc::clone(self), place.clone(), fetch.clone());
        self.chunks.join(key, move || async move {
            let fetched = fetch.await?;
            let pages = fetched.pages.get(chunk - run.start).cloned().unwrap_or_default();
            let Place { segment, footer, .. } = place;
            let (object, offset) = (segment.object.clone(), footer.chunks[chunk].facts.first_offset);
            let decoding = inner.decoders.run(move || {
                let decoded = decode(&segment, &footer, &footer.chunks[chunk], &pages);
                // The memory reservation ends with the last chunk of the run.
                drop(fetched);
                decoded
            });
            match decoding.await {
                Ok(decoded) => decoded,
                Err(JobError::Closed) => Err(ReadError::Closed),
                Err(JobError::Panicked(reason)) => Err(ReadError::Corrupt { object, offset, reason }),
            }
        })
    }
}

fn decode(
    segment: &ArchivedSegment,
    footer: &Footer,
    chunk: &Chunk,
    pages: &[Bytes],
) -> Result<Arc<Replayed>, ReadError> {
    let start = std::time::Instant::now();
    let replayed = COLUMNS.with_borrow_mut(|columns| {
        let replayed = columns.decode(footer, chunk, pages).and_then(|()| replay(columns, chunk.facts.record_bytes));
        columns.shrink();
        replayed
    });
    metrics::histogram!("firn_cold_decode_seconds").record(start.elapsed());
    replayed.map(Arc::new).map_err(|reason| ReadError::Corrupt {
        object: segment.object.clone(),
        offset: chunk.facts.first_offset,
        reason,
    })
}

/// Memory that a run takes while it is in the making: its stored bytes, what they decode to, and room to decode the
/// largest chunk in.
fn run_bytes(footer: &Footer, run: &Range<usize>) -> u64 {
    let chunks = &footer.chunks[run.clone()];
    let room = chunks.iter().map(|chunk| chunk.facts.record_bytes).max().unwrap_or(0);
    room + chunks.iter().map(|chunk| chunk.stored_bytes() + chunk.facts.record_bytes).sum::<u64>()
}
