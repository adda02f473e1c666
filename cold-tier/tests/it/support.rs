//! Segments built in memory, an archive over them, and a store that fails on command.

use std::fmt;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cold_tier::{ArchiveOptions, ArchivedSegment, ColdFetch, ColdTier, Config, ManifestChange, ReadError, SweepBy};
use futures::stream::BoxStream;
use model::archive::ManifestPointer;
use model::batch::{BatchBuilder, BatchFacts, Batches, Compression, NewRecord, RecordsBuffer, TimestampType};
use model::segment::{AbortedTransaction, EpochStart, SealedSegment};
use model::{Offset, TopicId, TopicName, TopicPartition};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use uuid::Uuid;

pub(crate) const LEADER_EPOCH: i32 = 3;
pub(crate) const NOW: i64 = 1_700_000_000_000;

/// A record as a consumer sees it, with the facts of its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) offset: Offset,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(crate) timestamp_type: TimestampType,
    pub(crate) leader_epoch: i32,
    pub(crate) producer: (i64, i16, i32),
}

/// One batch to write.
#[derive(Debug, Clone)]
pub(crate) struct BatchSpec {
    pub(crate) facts: BatchFacts,
    pub(crate) records: Vec<RecordSpec>,
}

#[derive(Debug, Clone)]
pub(crate) struct RecordSpec {
    /// Offsets skipped before this record.
    pub(crate) gap: u32,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

pub(crate) fn record(value: impl Into<Vec<u8>>) -> RecordSpec {
    RecordSpec { gap: 0, timestamp: NOW, key: None, value: Some(value.into()), headers: Vec::new() }
}

pub(crate) fn plain_batch(records: Vec<RecordSpec>) -> BatchSpec {
    BatchSpec { facts: BatchFacts { leader_epoch: LEADER_EPOCH, ..BatchFacts::default() }, records }
}

pub(crate) fn topic() -> TopicName {
    TopicName::new("orders").unwrap()
}

pub(crate) fn partition() -> TopicPartition {
    TopicPartition { topic_id: TopicId(Uuid::from_u128(0xfeed)), partition: 2 }
}

/// A sealed segment and what a consumer must get from it.
pub(crate) struct Built {
    pub(crate) segment: SealedSegment,
    pub(crate) seen: Vec<Seen>,
}

/// Writes `batches` from `base` on; control batches and aborted records are not expected back.
pub(crate) fn segment(base: Offset, batches: &[BatchSpec], aborted: &[AbortedTransaction]) -> Built {
    let mut bytes = Vec::new();
    let mut seen = Vec::new();
    let mut next = base;
    let mut max_timestamp = -1;
    for batch in batches {
        let first = next + batch.records.first().map_or(0, |r| i64::from(r.gap));
        let append_time = batch.facts.timestamp_type == TimestampType::LogAppendTime;
        let largest = batch.records.iter().map(|r| r.timestamp).max().unwrap_or(-1);
        let mut builder = BatchBuilder::new(batch.facts);
        for record in &batch.records {
            let offset = next + i64::from(record.gap);
            next = offset + 1;
            let headers: Vec<_> = record.headers.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
            builder.append(&NewRecord {
                offset,
                timestamp: record.timestamp,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &headers,
            });
            let is_aborted = batch.facts.is_transactional
                && aborted.iter().any(|t| {
                    t.producer_id == batch.facts.producer_id && (t.first_offset..=t.last_offset).contains(&offset)
                });
            if batch.facts.is_control || is_aborted {
                continue;
            }
            max_timestamp = max_timestamp.max(record.timestamp);
            let sequence = match batch.facts.base_sequence {
                negative if negative < 0 => negative,
                base => ((i64::from(base) + offset - first) & i64::from(i32::MAX)) as i32,
            };
            seen.push(Seen {
                offset,
                timestamp: if append_time { largest } else { record.timestamp },
                key: record.key.clone(),
                value: record.value.clone(),
                headers: record.headers.clone(),
                timestamp_type: batch.facts.timestamp_type,
                leader_epoch: batch.facts.leader_epoch,
                producer: (batch.facts.producer_id, batch.facts.producer_epoch, sequence),
            });
        }
        bytes.extend_from_slice(&builder.finish().unwrap());
    }
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    let segment = SealedSegment {
        topic: topic(),
        partition: partition(),
        base_offset: base,
        next_offset: next,
        size_bytes: bytes.len() as u64,
        max_timestamp,
        leader_epoch: LEADER_EPOCH,
        epochs: vec![EpochStart { leader_epoch: LEADER_EPOCH, start_offset: 0 }],
        aborted: aborted.to_vec(),
        producers: Bytes::from_static(b"producer state"),
        file: Arc::new(file),
    };
    Built { segment, seen }
}

/// `count` records of `size` bytes in batches of 16 KiB or so, timestamps rising by one.
pub(crate) fn simple(base: Offset, count: usize, size: usize) -> Built {
    let per_batch = (16_384 / size).clamp(1, count);
    let mut batches = Vec::new();
    for start in (0..count).step_by(per_batch) {
        let records = (start..count.min(start + per_batch)).map(|i| {
            let mut value = format!("value {} ", base + i as i64).into_bytes();
            value.resize(size.max(value.len()), b'x');
            RecordSpec { timestamp: NOW + base + i as i64, key: Some(format!("k{i}").into_bytes()), ..record(value) }
        });
        batches.push(plain_batch(records.collect()));
    }
    segment(base, &batches, &[])
}

pub(crate) fn config() -> Config {
    Config {
        cluster_id: "test".into(),
        call_timeout: Duration::from_millis(500),
        call_retries: 1,
        chunk_bytes: 4 << 10,
        row_group_bytes: 32 << 10,
        cache_bytes: 8 << 20,
        sweep_grace: Duration::ZERO,
        ..Config::default()
    }
}

pub(crate) fn memory_tier() -> ColdTier {
    ColdTier::with_store(config(), Arc::new(InMemory::new())).unwrap()
}

pub(crate) fn options() -> ArchiveOptions {
    ArchiveOptions {
        codec: Compression::Zstd,
        attempt: Uuid::new_v4(),
        leader_epoch: LEADER_EPOCH,
        now: NOW,
        from: None,
    }
}

/// The sweep of the broker that archives in these tests.
pub(crate) fn by(now: i64) -> SweepBy {
    SweepBy { leader_epoch: LEADER_EPOCH, now }
}

pub(crate) fn append(segments: Vec<ArchivedSegment>) -> ManifestChange {
    ManifestChange { append: segments, log_start: None, leader_epoch: LEADER_EPOCH, attempt: Uuid::new_v4() }
}

pub(crate) async fn commit(
    tier: &ColdTier,
    previous: Option<&ManifestPointer>,
    change: ManifestChange,
) -> ManifestPointer {
    tier.write_manifest(&partition(), &topic(), previous, change).await.unwrap()
}

/// Archives each segment by itself, with a commit each.
pub(crate) async fn archive_all(tier: &ColdTier, built: &[Built]) -> ManifestPointer {
    let mut pointer = None;
    for built in built {
        let archived = tier.archive(std::slice::from_ref(&built.segment), options()).await.unwrap();
        pointer = Some(commit(tier, pointer.as_ref(), append(vec![archived])).await);
    }
    pointer.unwrap()
}

pub(crate) fn fetch(from: Offset) -> ColdFetch {
    ColdFetch { from, max_bytes: 1 << 20, upper: Offset::MAX, timeout: Duration::from_secs(10) }
}

/// Reads everything from `from` on, as a consumer does.
pub(crate) async fn read_all(
    tier: &ColdTier,
    pointer: &ManifestPointer,
    from: Offset,
) -> std::result::Result<Vec<Seen>, ReadError> {
    read_with(tier, pointer, fetch(from)).await
}

pub(crate) async fn read_with(
    tier: &ColdTier,
    pointer: &ManifestPointer,
    mut request: ColdFetch,
) -> std::result::Result<Vec<Seen>, ReadError> {
    let mut seen = Vec::new();
    while request.from < pointer.archived_end {
        let read = tier.read(partition(), pointer, request).await?;
        assert!(read.next_offset > request.from, "a read at {} made no progress", request.from);
        for slice in &read.records {
            seen.extend(parse(slice).into_iter().filter(|r| r.offset >= request.from));
        }
        request.from = read.next_offset;
    }
    Ok(seen)
}

pub(crate) fn parse(bytes: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut buffer = RecordsBuffer::new(1 << 30);
    for batch in Batches::new(bytes) {
        let batch = batch.unwrap();
        batch.verify_crc().unwrap();
        let header = batch.header;
        assert!(!header.is_control() && !header.is_transactional());
        for record in batch.records(&mut buffer).unwrap() {
            let record = record.unwrap();
            let sequence = match header.base_sequence {
                negative if negative < 0 => negative,
                base => ((i64::from(base) + i64::from(record.offset_delta)) & i64::from(i32::MAX)) as i32,
            };
            seen.push(Seen {
                offset: record.offset,
                timestamp: record.timestamp,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record
                    .headers
                    .iter()
                    .map(|h| h.map(|(k, v)| (k.to_owned(), v.map(<[u8]>::to_vec))).unwrap())
                    .collect(),
                timestamp_type: header.attributes.timestamp_type(),
                leader_epoch: header.leader_epoch,
                producer: (header.producer_id, header.producer_epoch, sequence),
            });
        }
    }
    seen
}

/// What a faulty store does to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Fails without effect.
    Fail,
    /// Takes effect, then fails.
    FailAfterEffect,
    /// Answers fewer bytes.
    Short,
    /// Answers wrong bytes of the right length.
    Wrong,
    /// Answers after this many milliseconds.
    Stall(u64),
    /// A put is refused because the object exists, which it does not.
    Conflict,
}

type Plan = dyn Fn(&str, &str, u64) -> Option<Fault> + Send + Sync;

/// A memory store that fails as a plan says: by operation, object and number of the call.
pub(crate) struct Faulty {
    inner: InMemory,
    plan: Mutex<Arc<Plan>>,
    calls: AtomicU64,
    log: Mutex<Vec<(String, String)>>,
}

impl Faulty {
    pub(crate) fn new() -> Arc<Self> {
        let plan: Arc<Plan> = Arc::new(|_, _, _| None);
        Arc::new(Faulty {
            inner: InMemory::new(),
            plan: Mutex::new(plan),
            calls: AtomicU64::new(0),
            log: Mutex::default(),
        })
    }

    /// From now on, calls fail as `plan(operation, object, number)` says; numbers begin at 0 again.
    pub(crate) fn plan(&self, plan: impl Fn(&str, &str, u64) -> Option<Fault> + Send + Sync + 'static) {
        *self.plan.lock() = Arc::new(plan);
        self.calls.store(0, Ordering::SeqCst);
        self.log.lock().clear();
    }

    /// Operations and objects since the last plan.
    pub(crate) fn log(&self) -> Vec<(String, String)> {
        self.log.lock().clone()
    }

    async fn fault(&self, operation: &str, object: &str) -> Option<Fault> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        self.log.lock().push((operation.to_owned(), object.to_owned()));
        let plan = self.plan.lock().clone();
        let fault = plan(operation, object, number);
        if let Some(Fault::Stall(ms)) = fault {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        fault
    }
}

fn failure() -> object_store::Error {
    object_store::Error::Generic { store: "Faulty", source: "as planned".into() }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match self.fault("put", location.as_ref()).await {
            Some(Fault::Fail) => Err(failure()),
            Some(Fault::Conflict) => {
                Err(object_store::Error::AlreadyExists { path: location.to_string(), source: "as planned".into() })
            }
            Some(Fault::FailAfterEffect) => {
                self.inner.put_opts(location, payload, options).await?;
                Err(failure())
            }
            _ => self.inner.put_opts(location, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        match self.fault("multipart", location.as_ref()).await {
            Some(Fault::Fail | Fault::FailAfterEffect) => Err(failure()),
            _ => self.inner.put_multipart_opts(location, options).await,
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let fault = self.fault(if head { "head" } else { "get" }, location.as_ref()).await;
        if matches!(fault, Some(Fault::Fail | Fault::FailAfterEffect)) {
            return Err(failure());
        }
        let result = self.inner.get_opts(location, options).await?;
        if head || !matches!(fault, Some(Fault::Short | Fault::Wrong)) {
            return Ok(result);
        }
        let (meta, range, attributes) = (result.meta.clone(), result.range.clone(), result.attributes.clone());
        let mut bytes = result.bytes().await?.to_vec();
        if fault == Some(Fault::Short) {
            bytes.truncate(bytes.len() / 2);
        } else {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x40;
        }
        let payload = GetResultPayload::Stream(Box::pin(futures::stream::iter([Ok(Bytes::from(bytes))])));
        Ok(GetResult { payload, meta, range, attributes })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// Names of all objects in `store`.
pub(crate) async fn names(store: &dyn ObjectStore) -> Vec<String> {
    use futures::StreamExt;
    let mut names: Vec<_> = store.list(None).map(|meta| meta.unwrap().location.to_string()).collect().await;
    names.sort();
    names
}
