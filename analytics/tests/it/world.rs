//! A small cluster in memory: logs, an archive over a folder, and the rows that a read-committed consumer sees.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use analytics::sql::{Answer, Engine, Limits, PinnedPartition, PinnedTopic, Source, SourceError, SqlError};
use arrow_array::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use cold_tier::{ArchiveOptions, ColdTier, Config, ManifestChange};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use model::archive::ManifestPointer;
use model::batch::{BatchBuilder, BatchFacts, Compression, NewRecord};
use model::segment::{AbortedTransaction, EpochStart, SealedSegment};
use model::{Offset, PartitionIndex, TopicId, TopicName, TopicPartition};
use parking_lot::Mutex;
use tempfile::TempDir;
use uuid::Uuid;

pub(crate) const NOW: i64 = 1_700_000_000_000;

/// A record as it is produced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Produced {
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A record as it is seen: partition and offset in front.
pub(crate) type Row = (PartitionIndex, Offset, Produced);

pub(crate) fn record(timestamp: i64, value: impl Into<Vec<u8>>) -> Produced {
    Produced { timestamp, key: None, value: Some(value.into()), headers: Vec::new() }
}

/// What a batch in the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain(Compression),
    Aborted,
    Control,
}

#[derive(Debug, Clone)]
struct Logged {
    base: Offset,
    next: Offset,
    bytes: Bytes,
    kind: Kind,
    records: Vec<(Offset, Produced)>,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Partition {
    log: Vec<Logged>,
    pub(crate) log_start: Offset,
    pub(crate) pointer: Option<ManifestPointer>,
    pub(crate) end: Offset,
}

#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub(crate) id: TopicId,
    pub(crate) partitions: Vec<Partition>,
}

/// Topics and an archive.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) cold: ColdTier,
    pub(crate) topics: Mutex<BTreeMap<String, Topic>>,
}

impl World {
    pub(crate) async fn new() -> Arc<World> {
        let folder = tempfile::tempdir().unwrap();
        let cold = ColdTier::open(config(folder.path())).await.unwrap();
        Arc::new(World { folder, cold, topics: Mutex::default() })
    }

    pub(crate) fn create(&self, name: &str, partitions: usize) {
        let topic = Topic { id: TopicId(Uuid::new_v4()), partitions: vec![Partition::default(); partitions] };
        self.topics.lock().insert(name.to_owned(), topic);
    }

    fn change<T>(&self, topic: &str, partition: PartitionIndex, change: impl FnOnce(&mut Partition) -> T) -> T {
        let mut topics = self.topics.lock();
        change(&mut topics.get_mut(topic).unwrap().partitions[partition as usize])
    }

    /// Appends one batch.
    pub(crate) fn produce(&self, topic: &str, partition: PartitionIndex, kind: Kind, records: &[Produced]) {
        self.change(topic, partition, |partition| {
            let base = partition.end;
            let facts = match kind {
                Kind::Plain(compression) => BatchFacts { compression, ..BatchFacts::default() },
                Kind::Aborted => transactional(false),
                Kind::Control => transactional(true),
            };
            let mut builder = BatchBuilder::new(facts);
            for (offset, record) in (base..).zip(records) {
                let headers: Vec<_> = record.headers.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
                builder.append(&NewRecord {
                    offset,
                    timestamp: record.timestamp,
                    key: record.key.as_deref(),
                    value: record.value.as_deref(),
                    headers: &headers,
                });
            }
            partition.end = base + records.len() as i64;
            partition.log.push(Logged {
                base,
                next: partition.end,
                bytes: builder.finish().unwrap(),
                kind,
                records: (base..).zip(records.iter().cloned()).collect(),
            });
        });
    }

    /// Archives the next `batches` batches as one object.
    pub(crate) async fn archive(&self, topic: &str, partition: PartitionIndex, batches: usize) {
        let (state, id) = {
            let topics = self.topics.lock();
            (topics[topic].partitions[partition as usize].clone(), topics[topic].id)
        };
        let at = state.pointer.as_ref().map_or(0, |pointer| pointer.archived_end);
        let sealed: Vec<_> = state.log.iter().filter(|batch| batch.next > at).take(batches).cloned().collect();
        if sealed.is_empty() {
            return;
        }
        let place = TopicPartition { topic_id: id, partition };
        let name = TopicName::new(topic).unwrap();
        let segment = segment(&name, place, &sealed);
        let options = ArchiveOptions {
            codec: Compression::Zstd,
            attempt: Uuid::new_v4(),
            leader_epoch: 0,
            now: NOW,
            from: (segment.base_offset < at).then_some(at),
        };
        let archived = self.cold.archive(&[segment], options).await.unwrap();
        self.commit(topic, partition, vec![archived], state.pointer.as_ref()).await;
    }

    async fn commit(
        &self,
        topic: &str,
        partition: PartitionIndex,
        append: Vec<cold_tier::ArchivedSegment>,
        before: Option<&ManifestPointer>,
    ) {
        let (id, log_start) = {
            let topics = self.topics.lock();
            (topics[topic].id, topics[topic].partitions[partition as usize].log_start)
        };
        let change = ManifestChange { append, log_start: Some(log_start), leader_epoch: 0, attempt: Uuid::new_v4() };
        let place = TopicPartition { topic_id: id, partition };
        let name = TopicName::new(topic).unwrap();
        let pointer = self.cold.write_manifest(&place, &name, before, change).await.unwrap();
        self.change(topic, partition, |partition| partition.pointer = Some(pointer));
    }

    /// Moves the log start, as DeleteRecords and retention do; the ledger may learn of it at once or later.
    pub(crate) async fn delete(&self, topic: &str, partition: PartitionIndex, to: Offset, in_ledger: bool) {
        let pointer = self.change(topic, partition, |partition| {
            partition.log_start = to.clamp(partition.log_start, partition.end);
            partition.pointer.clone()
        });
        if let Some(pointer) = pointer.filter(|_| in_ledger) {
            self.commit(topic, partition, Vec::new(), Some(&pointer)).await;
        }
    }

    /// What a read-committed consumer of the topic gets.
    pub(crate) fn rows(&self, topic: &str) -> Vec<Row> {
        let topics = self.topics.lock();
        let mut rows = Vec::new();
        for (index, partition) in topics[topic].partitions.iter().enumerate() {
            for batch in partition.log.iter().filter(|batch| matches!(batch.kind, Kind::Plain(_))) {
                let seen = batch.records.iter().filter(|(offset, _)| *offset >= partition.log_start);
                rows.extend(seen.map(|(offset, record)| (i32::try_from(index).unwrap(), *offset, record.clone())));
            }
        }
        rows
    }

    pub(crate) fn engine(self: &Arc<Self>) -> Engine {
        self.engine_with(|_| {})
    }

    pub(crate) fn engine_with(self: &Arc<Self>, change: impl FnOnce(&mut Limits)) -> Engine {
        let mut limits = Limits::new(self.folder.path().join("spill"));
        change(&mut limits);
        Engine::new(Arc::clone(self) as Arc<dyn Source>, limits).unwrap()
    }
}

pub(crate) fn config(folder: &std::path::Path) -> Config {
    Config {
        url: folder.join("store").to_str().unwrap().to_owned(),
        cluster_id: "test".into(),
        chunk_bytes: 4 << 10,
        row_group_bytes: 32 << 10,
        cache_bytes: 8 << 20,
        call_retries: 0,
        call_timeout: Duration::from_secs(5),
        ..Config::default()
    }
}

fn transactional(is_control: bool) -> BatchFacts {
    BatchFacts {
        producer_id: 7,
        producer_epoch: 0,
        base_sequence: 0,
        is_transactional: true,
        is_control,
        ..BatchFacts::default()
    }
}

fn segment(topic: &TopicName, partition: TopicPartition, batches: &[Logged]) -> SealedSegment {
    let mut file = tempfile::tempfile().unwrap();
    batches.iter().for_each(|batch| file.write_all(&batch.bytes).unwrap());
    let aborted = batches.iter().filter(|batch| batch.kind == Kind::Aborted).map(|batch| AbortedTransaction {
        producer_id: 7,
        first_offset: batch.base,
        last_offset: batch.next - 1,
    });
    SealedSegment {
        topic: topic.clone(),
        partition,
        base_offset: batches[0].base,
        next_offset: batches[batches.len() - 1].next,
        size_bytes: batches.iter().map(|batch| batch.bytes.len() as u64).sum(),
        max_timestamp: batches.iter().flat_map(|b| &b.records).map(|(_, r)| r.timestamp).max().unwrap_or(-1),
        leader_epoch: 0,
        epochs: vec![EpochStart { leader_epoch: 0, start_offset: 0 }],
        aborted: aborted.collect(),
        producers: Bytes::from_static(b"producer state"),
        file: Arc::new(file),
    }
}

#[async_trait]
impl Source for World {
    async fn topics(&self) -> Result<Vec<TopicName>, SourceError> {
        Ok(self.topics.lock().keys().map(|name| TopicName::new(name).unwrap()).collect())
    }

    async fn pin(&self, topic: &str) -> Result<Option<PinnedTopic>, SourceError> {
        let topics = self.topics.lock();
        let pin = |(index, partition): (usize, &Partition)| PinnedPartition {
            partition: i32::try_from(index).unwrap(),
            log_start: partition.log_start,
            pointer: partition.pointer.clone().map(Arc::new),
            end: partition.end,
        };
        Ok(topics.get(topic).map(|found| PinnedTopic {
            name: TopicName::new(topic).unwrap(),
            id: found.id,
            partitions: found.partitions.iter().enumerate().map(pin).collect(),
        }))
    }

    fn hot(
        &self,
        topic: &PinnedTopic,
        partition: PartitionIndex,
        range: Range<Offset>,
    ) -> BoxStream<'static, Result<Bytes, SourceError>> {
        let topics = self.topics.lock();
        let Some(found) = topics.get(topic.name.as_str()).filter(|found| found.id == topic.id) else {
            let gone = format!("topic {} was deleted", topic.name);
            return stream::once(async { Err(SourceError(gone)) }).boxed();
        };
        let log = &found.partitions[partition as usize].log;
        let wanted = log.iter().filter(|batch| batch.next > range.start && batch.base < range.end);
        let wanted = wanted.filter(|batch| batch.kind != Kind::Aborted);
        let slabs: Vec<_> = wanted.map(|batch| Ok(batch.bytes.clone())).collect();
        stream::iter(slabs).boxed()
    }

    fn cold(&self) -> Option<ColdTier> {
        Some(self.cold.clone())
    }

    fn notice(&self) -> Option<String> {
        None
    }
}

/// All rows of an answer.
/// A world with a topic `t` that has these values archived in each partition, so many in a batch.
pub(crate) async fn archived(partitions: PartitionIndex, batch: usize, values: &[String]) -> Arc<World> {
    let world = World::new().await;
    world.create("t", usize::try_from(partitions).unwrap());
    for partition in 0..partitions {
        let records: Vec<_> = (NOW..).zip(values).map(|(timestamp, value)| record(timestamp, value.clone())).collect();
        for batch in records.chunks(batch) {
            world.produce("t", partition, Kind::Plain(Compression::None), batch);
        }
        world.archive("t", partition, usize::MAX).await;
    }
    world
}

pub(crate) async fn rows_of(answer: Answer) -> Result<Vec<RecordBatch>, SqlError> {
    answer.batches.try_collect().await
}

/// All rows of a query.
pub(crate) async fn ask(engine: &Engine, sql: &str) -> Result<Vec<RecordBatch>, SqlError> {
    rows_of(engine.query(sql, None).await?).await
}

/// The rows of a query as CSV without a header.
pub(crate) async fn csv(engine: &Engine, sql: &str) -> Result<Vec<String>, SqlError> {
    let answer = engine.query_as(sql, None, analytics::sql::output::Format::Csv).await?;
    let pieces: Vec<Bytes> = answer.pieces.try_collect().await?;
    let text = String::from_utf8(pieces.concat()).unwrap();
    Ok(text.lines().skip(1).map(ToOwned::to_owned).collect())
}

/// The one value of a query.
pub(crate) async fn value(engine: &Engine, sql: &str) -> String {
    let rows = csv(engine, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
    rows[0].clone()
}
