//! Clients at work: idempotent producers, readers that go back now and then, and a last reader of everything.

pub(crate) mod churn;
pub(crate) mod groups;
pub(crate) mod moves;
pub(crate) mod settings;
pub(crate) mod trim;

use std::time::Duration;

use model::batch::{BatchBuilder, BatchFacts, Batches, Compression, NewRecord, RecordsBuffer};
use model::{TopicId, TopicPartition};
use protocol::ErrorCode;
use protocol::messages::fetch_response::PartitionData;
use tokio::time::sleep;

use crate::client::{Client, NewTopic};
use crate::history::History;
use crate::pinned;

/// The topic that is written, read and consumed all the time.
pub(crate) const EVENTS: NewTopic<'_> = NewTopic { name: "events", partitions: 2, replicas: 3, settings: &SETTINGS };
/// Small segments, which leave local disk as soon as they are archived.
const SETTINGS: [(&str, &str); 6] = [
    ("min.insync.replicas", "2"),
    ("segment.bytes", "4096"),
    ("local.retention.bytes", "4096"),
    ("retention.ms", "-1"),
    ("retention.bytes", "-1"),
    ("remote.storage.enable", "true"),
];
/// Nodes of the cluster, from 1.
pub(crate) const NODES: i32 = 3;
/// Pause after an error.
const PAUSE_MS: u64 = 60;
/// Longest end of a value, in bytes.
const LONGEST_PADDING: usize = 300;

/// A partition that is written, read and judged.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) topic: &'static str,
    pub(crate) id: TopicPartition,
    /// Part of its values.
    pub(crate) name: String,
}

impl Log {
    /// Of a topic of which there is one only.
    pub(crate) fn new(topic: &'static str, topic_id: TopicId, partition: i32) -> Self {
        Log { topic, id: TopicPartition { topic_id, partition }, name: format!("{topic}-{partition}") }
    }
}

fn any_node() -> i32 {
    rand::random_range(1..=NODES)
}

async fn pause() {
    sleep(Duration::from_millis(rand::random_range(1..=PAUSE_MS))).await;
}

/// Makes the topic, as soon as there is a cluster.
pub(crate) async fn make_topic(new: &NewTopic<'_>) -> TopicId {
    let mut client = Client::default();
    loop {
        let node = any_node();
        let made = client.create_topic(node, new).await;
        match (made, client.topic_id(node, new.name).await) {
            (Ok(()), Ok(id)) => return id,
            (made, found) => tracing::info!(topic = new.name, ?made, ?found, "the topic is not made yet"),
        }
        pause().await;
    }
}

/// An idempotent producer of one log.
struct Writer {
    client: Client,
    log: Log,
    number: i32,
    producer: (i64, i16),
    sequence: i32,
    node: i32,
}

impl Writer {
    async fn open(log: Log, number: i32) -> Self {
        let mut client = Client::default();
        let producer = loop {
            match client.producer_id(any_node()).await {
                Ok(producer) => break producer,
                Err(error) => {
                    tracing::debug!(error, "no producer id yet");
                    pause().await;
                }
            }
        };
        Writer { client, log, number, producer, sequence: 0, node: any_node() }
    }

    /// Writes a batch until it is acknowledged. False when that became impossible, which is a violation.
    async fn append(&mut self, history: &History) -> bool {
        let (log, sequence) = (&self.log, self.sequence);
        let count = rand::random_range(1..=4);
        let values: Vec<String> =
            (sequence..sequence + count).map(|place| value(&log.name, self.number, place)).collect();
        let batch = batch(&values, self.producer, sequence);
        loop {
            let outcome = self.client.produce(self.node, log.id, batch.clone()).await;
            let code = outcome.as_ref().map(|part| part.error_code);
            let refused = |code: ErrorCode| Ok(code.code());
            match code {
                Ok(0) => {
                    history.acknowledge(&log.name, &values, outcome.ok().map(|part| part.base_offset));
                    break;
                }
                code if code == refused(ErrorCode::DuplicateSequenceNumber) => {
                    history.acknowledge(&log.name, &values, None);
                    break;
                }
                code if code == refused(ErrorCode::OutOfOrderSequenceNumber)
                    || code == refused(ErrorCode::InvalidProducerEpoch)
                    || code == refused(ErrorCode::UnknownProducerId)
                    || code == refused(ErrorCode::CorruptMessage) =>
                {
                    let (node, writer) = (self.node, self.number);
                    let what = format!("node {node} refuses sequence {sequence} of writer {writer}: {code:?}");
                    history.violation(format!("{}: {what}", log.name));
                    return false;
                }
                _ => {
                    let (node, writer) = (self.node, self.number);
                    tracing::debug!(log.name, writer, sequence, node, ?outcome, "not written yet");
                    pause().await;
                    self.node = self.client.leader(any_node(), log.id).await.unwrap_or(self.node);
                }
            }
        }
        self.sequence += count;
        true
    }
}

/// Writes to a log until `stop`, and until what it began is acknowledged.
pub(crate) async fn write(history: History, log: Log, number: i32, stop: Duration) {
    let mut writer = Writer::open(log, number).await;
    while pinned::elapsed() < stop && writer.append(&history).await {
        if rand::random_ratio(1, 4) {
            pause().await;
        }
    }
}

fn value(log: &str, writer: i32, place: i32) -> String {
    let padding = rand::random_range(0..LONGEST_PADDING);
    format!("{log}-{writer}-{place}-{padding:0>padding$}")
}

fn batch(values: &[String], (producer_id, producer_epoch): (i64, i16), base_sequence: i32) -> bytes::Bytes {
    let compression = if rand::random_bool(0.3) { Compression::Lz4 } else { Compression::None };
    let facts = BatchFacts { producer_id, producer_epoch, base_sequence, compression, ..BatchFacts::default() };
    let mut builder = BatchBuilder::new(facts);
    let timestamp = i64::try_from(pinned::elapsed().as_millis()).unwrap_or(0) + 1_767_225_600_000;
    for (value, offset) in values.iter().zip(0..) {
        builder.append(&NewRecord { offset, timestamp, key: None, value: Some(value.as_bytes()), headers: &[] });
    }
    builder.finish().expect("a small batch can be made")
}

/// What a reader finds at a position.
enum Found {
    /// The values from there on; none at the high watermark.
    Values(Vec<String>),
    /// The records there are deleted; the log begins here.
    Start(i64),
}

/// Reads a log again and again until `stop`, from where it was or from further back.
pub(crate) async fn read(history: History, log: Log, stop: Duration) {
    let mut client = Client::default();
    let (mut position, mut node) = (0, any_node());
    while pinned::elapsed() < stop {
        match read_on(&mut client, &history, node, &log, position).await {
            Ok(Found::Values(found)) if found.is_empty() && rand::random_ratio(1, 3) => {
                position = rand::random_range(0..=position);
            }
            Ok(Found::Values(found)) => position += i64::try_from(found.len()).unwrap_or(0),
            Ok(Found::Start(start)) => position = start,
            Err(_) => {
                pause().await;
                node = client.leader(any_node(), log.id).await.unwrap_or(node);
            }
        }
    }
}

/// Reads a log from its start to its high watermark, within `patience`, and has it judged.
pub(crate) async fn judge(history: &History, log: &Log, patience: Duration) {
    match tokio::time::timeout(patience, read_all(history, log)).await {
        Ok((start, values)) => history.judge(&log.name, start, &values),
        Err(_) => history.violation(format!("{} cannot be read to its end", log.name)),
    }
}

/// The start of a log, and the values from there to its high watermark.
async fn read_all(history: &History, log: &Log) -> (i64, Vec<String>) {
    let mut client = Client::default();
    let (mut node, mut start, mut values) = (any_node(), None, Vec::new());
    loop {
        let found = match start {
            None => client.start(node, log.topic, log.id.partition).await.map(Found::Start),
            Some(start) => {
                let position = start + i64::try_from(values.len()).unwrap_or(i64::MAX);
                read_on(&mut client, history, node, log, position).await
            }
        };
        match (found, start) {
            (Ok(Found::Start(found)), _) => (start, values) = (Some(found), Vec::new()),
            (Ok(Found::Values(found)), Some(start)) if found.is_empty() => return (start, values),
            (Ok(Found::Values(found)), _) => values.extend(found),
            (Err(error), _) => {
                tracing::debug!(log.name, node, error, "cannot read on");
                pause().await;
                node = client.leader(any_node(), log.id).await.unwrap_or(node);
            }
        }
    }
}

async fn read_on(client: &mut Client, history: &History, node: i32, log: &Log, position: i64) -> Result<Found, String> {
    let answer = client.fetch(node, log.id, position).await?;
    if answer.error_code == ErrorCode::OffsetOutOfRange.code() {
        if history.may_start_at(&log.name, position + 1) {
            return client.start(node, log.topic, log.id.partition).await.map(Found::Start);
        }
        let (name, start, end) = (&log.name, answer.log_start_offset, answer.high_watermark);
        history
            .violation(format!("{name}: a reader had everything below {position}, node {node} has {start} to {end}"));
    }
    if answer.error_code != 0 {
        return Err(format!("error {}", answer.error_code));
    }
    let high_watermark = answer.high_watermark;
    let found = values(answer, position).inspect_err(|error| {
        history.violation(format!("{}: what follows {position} cannot be read: {error}", log.name));
    })?;
    for ((offset, value), expected) in found.iter().zip(position..) {
        history.read(&log.name, expected, *offset, value);
    }
    // Nothing at all although there is something: the leader has only begun, or the archive took too long.
    if found.is_empty() && position < high_watermark {
        return Err("nothing yet".to_owned());
    }
    Ok(Found::Values(found.into_iter().map(|(_, value)| value).collect()))
}

fn values(answer: PartitionData, position: i64) -> Result<Vec<(i64, String)>, String> {
    let bytes = answer.records.map(protocol::Records::into_bytes).unwrap_or_default();
    let (mut found, mut buffer) = (Vec::new(), RecordsBuffer::new(1 << 20));
    for batch in Batches::new(&bytes) {
        let Ok(batch) = batch else { break };
        batch.verify_crc().map_err(|error| error.to_string())?;
        for record in batch.records(&mut buffer).map_err(|error| error.to_string())? {
            let record = record.map_err(|error| error.to_string())?;
            if record.offset >= position {
                let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
                found.push((record.offset, value));
            }
        }
    }
    Ok(found)
}
