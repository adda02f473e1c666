//! Opening stores, the probe, and one conformance suite over every kind of store that needs no network.

use std::sync::Arc;
use std::time::Duration;
use std::{fmt, fs};

use async_trait::async_trait;
use cold_tier::store::durable::DurableLocal;
use cold_tier::{ColdTier, Config, OpenError};
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::support::*;

async fn conforms(store: Arc<dyn ObjectStore>) {
    let tier = ColdTier::with_store(config(), store.clone()).unwrap();
    let built = [simple(0, 300, 200), simple(300, 10, 50)];
    let pointer = archive_all(&tier, &built).await;
    let all: Vec<_> = built.iter().flat_map(|b| b.seen.clone()).collect();
    let fresh = ColdTier::with_store(config(), store.clone()).unwrap();
    assert_eq!(read_all(&fresh, &pointer, 0).await.unwrap(), all);
    let report = fresh.sweep_partition(&topic(), partition(), Some(&pointer), by(i64::MAX)).await.unwrap();
    assert_eq!((report.deleted, report.waiting), (1, 0), "the first manifest");
    assert_eq!(read_all(&fresh, &pointer, 0).await.unwrap(), all);
    assert_eq!(fresh.delete_topic(&topic(), partition().topic_id).await.unwrap().deleted, 3);
    assert!(names(&*store).await.is_empty());
}

#[tokio::test]
async fn memory_conforms() {
    conforms(Arc::new(InMemory::new())).await;
}

#[tokio::test]
async fn a_folder_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conforms(Arc::new(DurableLocal::new(folder.path()).unwrap())).await;
}

#[tokio::test]
async fn a_faulty_store_without_a_plan_conforms() {
    conforms(Faulty::new()).await;
}

#[tokio::test]
async fn a_folder_opens_by_url_and_by_bare_path_and_keeps_its_archive() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/archive");
    let built = simple(0, 100, 100);
    let url = format!("file://{}", path.display());
    let tier = ColdTier::open(Config { url, ..config() }).await.unwrap();
    let pointer = archive_all(&tier, std::slice::from_ref(&built)).await;
    let bare = Config { url: path.display().to_string(), ..config() };
    let tier = ColdTier::open(bare).await.unwrap();
    assert_eq!(read_all(&tier, &pointer, 0).await.unwrap(), built.seen);
    let names = names(&DurableLocal::new(&path).unwrap()).await;
    assert_eq!(names.len(), 3, "{names:?}: a marker, an object, a manifest, and nothing of the probes");
    assert!(names.contains(&"firn-cluster-test.json".to_owned()));
}

#[tokio::test]
async fn the_sweep_of_a_folder_takes_what_interrupted_uploads_staged() {
    const HOUR: Duration = Duration::from_secs(3600);
    let folder = tempfile::tempdir().unwrap();
    let at = |sweep_grace| Config { url: format!("file://{}", folder.path().display()), sweep_grace, ..config() };
    let tier = ColdTier::open(at(HOUR)).await.unwrap();
    let built = simple(0, 100, 100);
    let pointer = archive_all(&tier, std::slice::from_ref(&built)).await;
    let store = DurableLocal::new(folder.path()).unwrap();
    let kept = names(&store).await;
    let object = kept.iter().find(|name| name.ends_with(".parquet")).unwrap();
    let staged = folder.path().join(format!("{object}#1"));
    fs::write(&staged, b"half an object").unwrap();
    assert_eq!(names(&store).await, kept, "a listing does not show it");
    let report = tier.sweep_partition(&topic(), partition(), Some(&pointer), by(i64::MAX)).await.unwrap();
    assert_eq!((report.deleted, report.waiting), (0, 1), "its upload may be under way");
    assert!(staged.exists());
    let tier = ColdTier::open(at(Duration::ZERO)).await.unwrap();
    let report = tier.sweep_partition(&topic(), partition(), Some(&pointer), by(i64::MAX)).await.unwrap();
    assert_eq!((report.deleted, report.deleted_bytes, report.waiting), (1, 14, 0));
    assert!(!staged.exists());
    assert_eq!(names(&store).await, kept);
    fs::write(&staged, b"again").unwrap();
    tier.delete_topic(&topic(), partition().topic_id).await.unwrap();
    assert!(!staged.parent().unwrap().exists(), "a deleted topic leaves neither files nor their folder");
}

#[tokio::test]
async fn urls_that_name_no_store_are_refused_with_the_reason() {
    let too_long = format!("s3://bucket/{}", "deep/".repeat(120));
    for (url, reason) in [
        (too_long.as_str(), "longer than 512 bytes"),
        ("ftp://host/path", "the scheme \"ftp\" is not known"),
        ("s3://bucket?endpoint=127.0.0.1:9000", "has no scheme: write http://127.0.0.1:9000"),
        ("s3:/bucket", "two slashes"),
        ("s3://bucket?endpiont=http://x", "endpiont"),
        ("s3://", "names no bucket"),
        ("gs://bucket?nonsense=1", "nonsense"),
        ("file:///tmp/firn-store?foo=bar", "the option \"foo\" is not known: a folder has no options"),
        ("", "it is empty"),
        (" ", "it is empty"),
    ] {
        let error = ColdTier::open(Config { url: url.into(), ..config() }).await.unwrap_err();
        assert!(matches!(error, OpenError::Url { .. }) && error.to_string().contains(reason), "{error}");
    }
    let bad = Config { cluster_id: "a/b".into(), ..config() };
    assert!(matches!(ColdTier::open(bad).await, Err(OpenError::ClusterId(_))));
}

/// A memory store with one broken promise.
#[derive(Debug)]
struct Broken {
    inner: InMemory,
    overwrites: bool,
    lists_nothing: bool,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Broken")
    }
}

#[async_trait]
impl ObjectStore for Broken {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        if self.overwrites {
            options.mode = PutMode::Overwrite;
        }
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.lists_nothing { Box::pin(futures::stream::empty()) } else { self.inner.list(prefix) }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn a_store_that_breaks_a_promise_is_refused_by_its_reason() {
    for (overwrites, lists_nothing, reason) in
        [(true, false, "If-None-Match"), (false, true, "missing from the listing")]
    {
        let store = Arc::new(Broken { inner: InMemory::new(), overwrites, lists_nothing });
        let error = ColdTier::open_with(config(), store).await.unwrap_err();
        assert!(matches!(error, OpenError::Unfit { .. }) && error.to_string().contains(reason), "{error}");
    }
}

#[tokio::test]
async fn a_store_that_is_down_is_named_as_unreachable() {
    let store = Faulty::new();
    store.plan(|_, _, _| Some(Fault::Fail));
    let error = ColdTier::open_with(config(), store).await.unwrap_err();
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");
}
