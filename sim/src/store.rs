//! The object store that the nodes share: in memory, a little slow, and out of order when told to.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

/// Longest that a call takes, in ms.
const SLOWEST_MS: u64 = 30;
/// One call of so many loses its answer although it was carried out.
const LOST_ANSWERS: u32 = 50;

/// The store. Copies share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Store {
    inner: Arc<InMemory>,
    is_out: Arc<AtomicBool>,
}

impl Store {
    /// From now on calls fail, or work again.
    pub(crate) fn set_out(&self, is_out: bool) {
        self.is_out.store(is_out, Ordering::Relaxed);
    }

    async fn reach(&self) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(rand::random_range(1..=SLOWEST_MS))).await;
        if self.is_out.load(Ordering::Relaxed) { Err(unavailable()) } else { Ok(()) }
    }

    /// What was carried out, unless its answer is lost.
    async fn answer<T>(&self, done: Result<T>) -> Result<T> {
        self.reach().await?;
        if rand::random_ratio(1, LOST_ANSWERS) { Err(unavailable()) } else { done }
    }
}

fn unavailable() -> object_store::Error {
    object_store::Error::Generic { store: "simulated", source: "the store does not answer".into() }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a simulated store")
    }
}

#[async_trait]
impl ObjectStore for Store {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.reach().await?;
        let done = self.inner.put_opts(location, payload, options).await;
        self.answer(done).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.reach().await?;
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.reach().await?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.reach().await?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (store, gate) = (self.clone(), self.clone());
        let reached = locations.and_then(move |location| {
            let gate = gate.clone();
            async move { gate.reach().await.map(|()| location) }
        });
        store.inner.delete_stream(reached.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (gate, listed) = (self.clone(), self.inner.list(prefix));
        futures::stream::once(async move { gate.reach().await.map(|()| listed) }).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.reach().await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.reach().await?;
        self.inner.copy_opts(from, to, options).await
    }
}
