//! Clients at work: idempotent producers, readers that go back now and then, and a last reader of everything.

use std::time::Duration;

use model::batch::{BatchBuilder, BatchFacts, Batches, Compression, NewRecord, RecordsBuffer};
use protocol::ErrorCode;
use protocol::messages::fetch_response::PartitionData;
use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::history::History;
use crate::pinned;

/// The topic that is written.
pub(crate) const TOPIC: &str = "events";
/// Its partitions.
pub(crate) const PARTITIONS: i32 = 2;
/// Its settings: small segments, which leave local disk as soon as they are archived.
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

fn any_node() -> i32 {
    rand::random_range(1..=NODES)
}

async fn pause() {
    sleep(Duration::from_millis(rand::random_range(1..=PAUSE_MS))).await;
}

/// Makes the topic, as soon as there is a cluster.
pub(crate) async fn make_topic() {
    let mut client = Client::default();
    while let Err(error) = client.create_topic(any_node(), TOPIC, PARTITIONS, &SETTINGS).await {
        tracing::info!(error, "the topic is not made yet");
        pause().await;
    }
}

/// Writes to a partition until `stop`, and until what it began is acknowledged.
pub(crate) async fn write(history: History, partition: i32, writer: i32, stop: Duration) {
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
    let mut sequence = 0;
    let mut node = any_node();
    while pinned::elapsed() < stop {
        let count = rand::random_range(1..=4);
        let values: Vec<String> = (sequence..sequence + count).map(|place| value(partition, writer, place)).collect();
        let batch = batch(&values, producer, sequence);
        loop {
            let outcome = client.produce(node, TOPIC, partition, batch.clone()).await;
            let code = outcome.as_ref().map(|part| part.error_code);
            let refused = |code: ErrorCode| Ok(code.code());
            match code {
                Ok(0) => {
                    history.acknowledge(partition, &values, outcome.ok().map(|part| part.base_offset));
                    break;
                }
                code if code == refused(ErrorCode::DuplicateSequenceNumber) => {
                    history.acknowledge(partition, &values, None);
                    break;
                }
                code if code == refused(ErrorCode::OutOfOrderSequenceNumber)
                    || code == refused(ErrorCode::InvalidProducerEpoch)
                    || code == refused(ErrorCode::UnknownProducerId)
                    || code == refused(ErrorCode::CorruptMessage) =>
                {
                    history.violation(format!(
                        "partition {partition}: node {node} refuses sequence {sequence} of writer {writer}: {code:?}"
                    ));
                    return;
                }
                _ => {
                    tracing::debug!(partition, writer, sequence, node, ?outcome, "not written yet");
                    pause().await;
                    node = client.leader(any_node(), TOPIC, partition).await.unwrap_or(node);
                }
            }
        }
        sequence += count;
        if rand::random_ratio(1, 4) {
            pause().await;
        }
    }
}

fn value(partition: i32, writer: i32, place: i32) -> String {
    let padding = rand::random_range(0..LONGEST_PADDING);
    format!("{partition}-{writer}-{place}-{padding:0>padding$}")
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

/// Reads a partition again and again until `stop`, from where it was or from further back.
pub(crate) async fn read(history: History, partition: i32, stop: Duration) {
    let mut client = Client::default();
    let (mut position, mut node) = (0, any_node());
    while pinned::elapsed() < stop {
        match read_on(&mut client, &history, node, partition, position).await {
            Ok(found) if found.is_empty() && rand::random_ratio(1, 3) => position = rand::random_range(0..=position),
            Ok(found) => position += i64::try_from(found.len()).unwrap_or(0),
            Err(_) => {
                pause().await;
                node = client.leader(any_node(), TOPIC, partition).await.unwrap_or(node);
            }
        }
    }
}

/// Reads a partition from its start to its high watermark, within `patience`.
pub(crate) async fn read_all(history: &History, partition: i32, patience: Duration) -> Option<Vec<String>> {
    let mut client = Client::default();
    let deadline = Instant::now() + patience;
    let (mut log, mut node) = (Vec::new(), any_node());
    while Instant::now() < deadline {
        let position = i64::try_from(log.len()).unwrap_or(i64::MAX);
        match read_on(&mut client, history, node, partition, position).await {
            Ok(found) if found.is_empty() => return Some(log),
            Ok(found) => log.extend(found),
            Err(error) => {
                tracing::debug!(partition, position, node, error, "cannot read on");
                pause().await;
                node = client.leader(any_node(), TOPIC, partition).await.unwrap_or(node);
            }
        }
    }
    None
}

/// The values from `position` on; none at the high watermark.
async fn read_on(
    client: &mut Client,
    history: &History,
    node: i32,
    partition: i32,
    position: i64,
) -> Result<Vec<String>, String> {
    let answer = client.fetch(node, TOPIC, partition, position).await?;
    if answer.error_code == ErrorCode::OffsetOutOfRange.code() {
        let (start, end) = (answer.log_start_offset, answer.high_watermark);
        history.violation(format!(
            "partition {partition}: a reader had everything below {position}, node {node} has {start} to {end}"
        ));
    }
    if answer.error_code != 0 {
        return Err(format!("error {}", answer.error_code));
    }
    let high_watermark = answer.high_watermark;
    let found = values(answer, position).inspect_err(|error| {
        history.violation(format!("partition {partition}: what follows {position} cannot be read: {error}"));
    })?;
    for ((offset, value), expected) in found.iter().zip(position..) {
        history.read(partition, expected, *offset, value);
    }
    // Nothing at all although there is something: the leader has only begun, or the archive took too long.
    if found.is_empty() && position < high_watermark {
        return Err("nothing yet".to_owned());
    }
    Ok(found.into_iter().map(|(_, value)| value).collect())
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
