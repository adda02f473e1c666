//! The object store as the archive uses it: every call with a deadline, bounded retries, a verdict and a metric.
//!
//! Objects are written once under names that never repeat, so a PUT may be tried again: when the store then says that the
//! object exists, its content is compared. Equal content is success in a store of the cloud, where an object that can be read
//! is durable: that settles a PUT whose answer was lost. In a folder it is not ([`durable`]): there the object is written
//! again, and success is that of the new write.
//! The stores of the cloud retry inside `object_store` too ([`open`] bounds it); the retries here cover the rest.

pub mod durable;
pub mod open;

mod credentials;
pub(crate) mod probe;
pub(crate) mod staged;
mod upload;
pub(crate) mod words;

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use parking_lot::Mutex;

use self::credentials::ChainCredentials;
use self::words::Words;
use crate::error::{StoreError, StoreErrorKind};

/// Slowest transfer that is waited for, in bytes per second.
pub(crate) const MIN_RATE_BYTES_PER_SECOND: u64 = 2 << 20;
/// Ranges closer than this, in bytes, are fetched by one request: a request costs more than the bytes between.
const COALESCE_GAP_BYTES: u64 = 512 << 10;
const FIRST_BACKOFF: Duration = Duration::from_millis(50);

/// Calls that failed in a row.
#[derive(Debug, Clone)]
pub struct StoreTrouble {
    /// When the first of them failed.
    pub since: Instant,
    /// How many, retries counted each.
    pub calls: u64,
    /// The last failure.
    pub error: StoreError,
}

/// What lies directly in a folder.
#[derive(Debug, Clone, Default)]
pub struct Folder {
    /// Names of the folders in it, from the root on.
    pub folders: Vec<String>,
    /// The objects in it.
    pub objects: Vec<ObjectMeta>,
}

/// An object store with deadlines, retries and metrics.
#[derive(Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    call_timeout: Duration,
    retries: u32,
    /// An object that can be read is durable: true of all stores but folders.
    presence_is_durable: bool,
    credentials: Option<Arc<ChainCredentials>>,
    trouble: Arc<Mutex<Option<StoreTrouble>>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.inner)
    }
}

impl Store {
    /// Wraps `inner`: each try of a call takes at most `call_timeout` plus a second for every 2 MiB.
    pub fn new(inner: Arc<dyn ObjectStore>, call_timeout: Duration, retries: u32) -> Self {
        Store { inner, call_timeout, retries, presence_is_durable: true, credentials: None, trouble: Arc::default() }
    }

    /// The credentials to renew when the store refuses them.
    pub(crate) fn with_credentials(self, credentials: Option<Arc<ChainCredentials>>) -> Self {
        Store { credentials, ..self }
    }

    /// The store is a folder, where an object can be read before it is durable.
    pub(crate) fn of_folder(self) -> Self {
        Store { presence_is_durable: false, ..self }
    }

    /// Creates an object that must not exist; answers its ETag where the store has such.
    ///
    /// # Errors
    /// [`StoreErrorKind::AlreadyExists`] only when an object of that name holds other bytes.
    pub async fn put_new(&self, key: &str, payload: PutPayload) -> Result<Option<String>, StoreError> {
        let size = payload.content_length();
        let put = || {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let (inner, payload, path) = (self.inner.clone(), payload.clone(), Path::from(key));
            async move { inner.put_opts(&path, payload, options).await }
        };
        let mut tries = 0;
        loop {
            let exists = match self.call("put", key, size as u64, &put).await {
                Ok(result) => {
                    metrics::counter!("firn_object_store_sent_bytes_total").increment(size as u64);
                    return Ok(result.e_tag);
                }
                Err(error) if error.kind == StoreErrorKind::AlreadyExists => error,
                Err(error) => return Err(error),
            };
            match self.settle_put(exists, key, &payload).await {
                // S3 answers a conflict (409) to one of two writes at once, also when the other then fails.
                Err(gone) if gone.kind == StoreErrorKind::NotFound && tries < self.retries => tries += 1,
                settled => return settled,
            }
        }
    }

    /// Creates an object, or puts other bytes in its place. Not for data, which never change: for hints.
    ///
    /// # Errors
    /// As the store says; the object then holds the old bytes or the new ones.
    pub async fn replace(&self, key: &str, payload: PutPayload) -> Result<(), StoreError> {
        self.overwrite(key, &payload).await.map(drop)
    }

    async fn overwrite(&self, key: &str, payload: &PutPayload) -> Result<Option<String>, StoreError> {
        let put = || {
            let (inner, payload, path) = (self.inner.clone(), payload.clone(), Path::from(key));
            async move { inner.put(&path, payload).await }
        };
        let result = self.call("put", key, payload.content_length() as u64, put).await?;
        Ok(result.e_tag)
    }

    /// An object is there already: ours, if it holds the same bytes. Where that does not prove that it is durable, it is
    /// written again.
    async fn settle_put(
        &self,
        exists: StoreError,
        key: &str,
        payload: &PutPayload,
    ) -> Result<Option<String>, StoreError> {
        let meta = self.head(key).await?;
        if meta.size != payload.content_length() as u64 {
            return Err(exists);
        }
        let stored = self.get(key, meta.size).await?;
        let mut rest = &stored[..];
        for part in payload {
            match rest.strip_prefix(&part[..]) {
                Some(tail) => rest = tail,
                None => return Err(exists),
            }
        }
        if self.presence_is_durable { Ok(meta.e_tag) } else { self.overwrite(key, payload).await }
    }

    /// A whole object of at most `max_bytes`.
    ///
    /// # Errors
    /// Also when the object is larger, or shorter than the store says.
    pub async fn get(&self, key: &str, max_bytes: u64) -> Result<Bytes, StoreError> {
        let mut tries = 0;
        loop {
            match self.get_once(key, max_bytes).await {
                Err(error) if self.may_retry(&error, tries) => tries += 1,
                done => return done,
            }
        }
    }

    /// The size is known only when the answer begins: the body then has a deadline of its own.
    async fn get_once(&self, key: &str, max_bytes: u64) -> Result<Bytes, StoreError> {
        let path = Path::from(key);
        let answer = self.inner.get_opts(&path, GetOptions::default());
        let result = self.once("get", key, self.deadline(0), answer).await?;
        let size = result.meta.size;
        if size > max_bytes {
            let detail = format!("it has {size} bytes, at most {max_bytes} are expected");
            let (object, kind) = (key.to_owned(), StoreErrorKind::Permanent);
            return Err(StoreError { operation: "get", object, kind, detail });
        }
        let deadline = self.deadline(size);
        let bytes = match tokio::time::timeout(deadline, result.bytes()).await {
            Ok(bytes) => bytes.and_then(|bytes| check_len(&bytes, size).map(|()| bytes)),
            Err(_) => return Err(self.timed_out("get", key, deadline)),
        }
        .map_err(|e| self.error("get", key, &e))?;
        received(&bytes);
        Ok(bytes)
    }

    /// Bytes `range` of an object, exactly.
    ///
    /// # Errors
    /// Also when the store answers fewer or more bytes.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let len = range.end.saturating_sub(range.start);
        let get = || {
            let (inner, path, range) = (self.inner.clone(), Path::from(key), range.clone());
            async move {
                let bytes = inner.get_range(&path, range).await?;
                check_len(&bytes, len)?;
                Ok(bytes)
            }
        };
        let bytes = self.call("get_range", key, len, get).await?;
        received(&bytes);
        Ok(bytes)
    }

    /// Several ranges of an object, in the order asked for; close ones share a request.
    ///
    /// # Errors
    /// The first range that fails.
    pub async fn get_ranges(&self, key: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, StoreError> {
        let spans = coalesce(ranges);
        let fetched = futures::future::try_join_all(spans.iter().map(|span| self.get_range(key, span.clone()))).await?;
        let slice = |range: &Range<u64>| {
            let at = spans.partition_point(|span| span.start <= range.start).checked_sub(1)?;
            let from = usize::try_from(range.start - spans[at].start).ok()?;
            let len = usize::try_from(range.end - range.start).ok()?;
            (from + len <= fetched[at].len()).then(|| fetched[at].slice(from..from + len))
        };
        let missing = || self.error("get_range", key, &generic("a range got lost".into()));
        ranges.iter().map(|range| slice(range).ok_or_else(missing)).collect()
    }

    /// What the store knows of an object.
    ///
    /// # Errors
    /// [`StoreErrorKind::NotFound`] when it does not exist.
    pub async fn head(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        let head = || {
            let (inner, path) = (self.inner.clone(), Path::from(key));
            async move { inner.head(&path).await }
        };
        self.call("head", key, 0, head).await
    }

    /// Deletes an object; one that is gone already is success.
    ///
    /// # Errors
    /// As the store says.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let delete = || {
            // As it was listed: what others have named may hold signs that another way would encode once more.
            let (inner, path) = (self.inner.clone(), Path::parse(key).unwrap_or_else(|_| Path::from(key)));
            async move { inner.delete(&path).await }
        };
        match self.call("delete", key, 0, delete).await {
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// The objects below `prefix`, a folder; each step has the deadline of a call.
    pub fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectMeta, StoreError>> {
        let prefix = prefix.to_owned();
        let inner = self.inner.list(Some(&Path::from(prefix.as_str())));
        metrics::counter!("firn_object_store_calls_total", "operation" => "list").increment(1);
        let step = move |state: Option<(BoxStream<'static, object_store::Result<ObjectMeta>>, String)>| async move {
            let (mut stream, prefix) = state?;
            match tokio::time::timeout(self.call_timeout, stream.next()).await {
                Ok(Some(Ok(meta))) if is_below(&prefix, meta.location.as_ref()) => {
                    Some((Ok(meta), Some((stream, prefix))))
                }
                Ok(Some(Ok(meta))) => {
                    // A deletion by a listing must not see it.
                    let lie = generic(format!("the listing names {}, which is not in that folder", meta.location));
                    Some((Err(self.error("list", &prefix, &lie)), None))
                }
                Ok(Some(Err(error))) => {
                    let error = self.error("list", &prefix, &error);
                    self.renew_if_denied(&error).await;
                    Some((Err(error), None))
                }
                Ok(None) => None,
                Err(_) => Some((Err(self.timed_out("list", &prefix, self.call_timeout)), None)),
            }
        };
        futures::stream::unfold(Some((inner, prefix)), step).boxed()
    }

    /// What lies directly in a folder, `""` being the root; nothing when there is no such folder.
    ///
    /// # Errors
    /// As the store says.
    pub async fn list_folder(&self, prefix: &str) -> Result<Folder, StoreError> {
        let list = || {
            let (inner, path) = (self.inner.clone(), Path::from(prefix));
            async move { inner.list_with_delimiter(Some(&path).filter(|path| !path.as_ref().is_empty())).await }
        };
        match self.call("list", prefix, 0, list).await {
            Ok(listed) => {
                let folders = listed.common_prefixes.iter().map(ToString::to_string).collect();
                Ok(Folder { folders, objects: listed.objects })
            }
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(Folder::default()),
            Err(error) => Err(error),
        }
    }

    /// The store underneath.
    pub(crate) fn inner(&self) -> &Arc<dyn ObjectStore> {
        &self.inner
    }

    /// Time that a call with a body of `bytes` may take.
    pub(crate) fn deadline(&self, bytes: u64) -> Duration {
        self.call_timeout + Duration::from_millis(bytes.saturating_mul(1000) / MIN_RATE_BYTES_PER_SECOND)
    }

    /// Runs `attempt` until it succeeds, fails for certain, or the retries are used up.
    async fn call<T, F, A>(&self, operation: &'static str, key: &str, bytes: u64, attempt: A) -> Result<T, StoreError>
    where
        A: Fn() -> F,
        F: Future<Output = object_store::Result<T>>,
    {
        let deadline = self.deadline(bytes);
        let mut backoff = FIRST_BACKOFF;
        let mut tries = 0;
        loop {
            let error = match self.once(operation, key, deadline, attempt()).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if !self.may_retry(&error, tries) {
                return Err(error);
            }
            tries += 1;
            tokio::time::sleep(backoff).await;
            backoff *= 4;
        }
    }

    /// Whether another try may help: also once after the credentials were refused, because new ones may be there.
    fn may_retry(&self, error: &StoreError, tries: u32) -> bool {
        let has_new_credentials = error.kind == StoreErrorKind::Denied && self.credentials.is_some() && tries == 0;
        has_new_credentials || (!error.kind.is_certain() && tries < self.retries)
    }

    /// One try of a call, timed and counted. Credentials that were refused are not used again.
    pub(crate) async fn once<T>(
        &self,
        operation: &'static str,
        key: &str,
        deadline: Duration,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StoreError> {
        let start = Instant::now();
        let result = match tokio::time::timeout(deadline, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.error(operation, key, &error)),
            Err(_) => Err(self.timed_out(operation, key, deadline)),
        };
        metrics::counter!("firn_object_store_calls_total", "operation" => operation).increment(1);
        metrics::histogram!("firn_object_store_call_seconds", "operation" => operation).record(start.elapsed());
        if let Err(error) = &result {
            let kind = metric_name(error.kind);
            metrics::counter!("firn_object_store_errors_total", "operation" => operation, "kind" => kind).increment(1);
            self.renew_if_denied(error).await;
        }
        self.take_note(result.as_ref().err());
        result
    }

    /// What has failed since a call went right last.
    pub(crate) fn trouble(&self) -> Option<StoreTrouble> {
        self.trouble.lock().clone()
    }

    fn take_note(&self, error: Option<&StoreError>) {
        use StoreErrorKind::{AlreadyExists, NotFound};
        let mut trouble = self.trouble.lock();
        // An answer about one object is an answer of a store that works.
        let Some(error) = error.filter(|error| !matches!(error.kind, NotFound | AlreadyExists)) else {
            *trouble = None;
            return;
        };
        let (since, calls) = trouble.as_ref().map_or((Instant::now(), 0), |before| (before.since, before.calls));
        *trouble = Some(StoreTrouble { since, calls: calls.saturating_add(1), error: error.clone() });
    }

    async fn renew_if_denied(&self, error: &StoreError) {
        if let (StoreErrorKind::Denied, Some(credentials)) = (error.kind, &self.credentials) {
            credentials.refused().await;
        }
    }

    fn timed_out(&self, operation: &'static str, key: &str, deadline: Duration) -> StoreError {
        StoreError {
            operation,
            object: key.to_owned(),
            kind: StoreErrorKind::TimedOut,
            detail: format!("no answer from {} within {deadline:?}", self.inner),
        }
    }

    pub(crate) fn error(&self, operation: &'static str, key: &str, error: &object_store::Error) -> StoreError {
        let Words { short: detail, code, is_forbidden } = words::of(error);
        let kind = match (classify(error), code.as_deref()) {
            (_, Some(code)) if EXPIRED_CODES.contains(&code) => StoreErrorKind::Denied,
            (StoreErrorKind::NotFound, Some(code)) if NO_BUCKET.contains(&code) => StoreErrorKind::Permanent,
            // A listing's is a general error to the library.
            (StoreErrorKind::Uncertain, _) if is_forbidden => StoreErrorKind::Denied,
            // The client refuses such a request before it sends a byte.
            _ if detail.contains("URL scheme is not allowed") => StoreErrorKind::Permanent,
            (kind, _) => kind,
        };
        StoreError { operation, object: key.to_owned(), kind, detail }
    }
}

/// S3 says with status 400, not 403, that temporary credentials are over.
const EXPIRED_CODES: [&str; 3] = ["ExpiredToken", "TokenRefreshRequired", "InvalidToken"];

/// No bucket is another matter than no object.
const NO_BUCKET: [&str; 2] = ["NoSuchBucket", "ContainerNotFound"];

fn is_below(folder: &str, name: &str) -> bool {
    folder.is_empty() || name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

fn classify(error: &object_store::Error) -> StoreErrorKind {
    use object_store::Error;
    match error {
        Error::NotFound { .. } => StoreErrorKind::NotFound,
        Error::AlreadyExists { .. } | Error::Precondition { .. } => StoreErrorKind::AlreadyExists,
        Error::InvalidPath { .. }
        | Error::NotSupported { .. }
        | Error::NotImplemented { .. }
        | Error::UnknownConfigurationKey { .. } => StoreErrorKind::Permanent,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => StoreErrorKind::Denied,
        _ => StoreErrorKind::Uncertain,
    }
}

fn metric_name(kind: StoreErrorKind) -> &'static str {
    match kind {
        StoreErrorKind::NotFound => "not_found",
        StoreErrorKind::AlreadyExists => "already_exists",
        StoreErrorKind::Denied => "denied",
        StoreErrorKind::Permanent => "permanent",
        StoreErrorKind::Uncertain => "uncertain",
        StoreErrorKind::TimedOut => "timed_out",
    }
}

fn received(bytes: &Bytes) {
    metrics::counter!("firn_object_store_received_bytes_total").increment(bytes.len() as u64);
}

fn generic(reason: String) -> object_store::Error {
    object_store::Error::Generic { store: "archive", source: reason.into() }
}

fn check_len(bytes: &Bytes, expected: u64) -> object_store::Result<()> {
    if bytes.len() as u64 == expected {
        return Ok(());
    }
    Err(generic(format!("{} bytes came back, {expected} were asked for", bytes.len())))
}

/// Sorted spans that cover `ranges`, with small gaps closed.
fn coalesce(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted: Vec<_> = ranges.to_vec();
    sorted.sort_by_key(|range| range.start);
    let mut spans: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match spans.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(COALESCE_GAP_BYTES) => {
                last.end = last.end.max(range.end)
            }
            _ => spans.push(range),
        }
    }
    spans
}

#[cfg(test)]
mod tests;
