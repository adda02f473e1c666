//! Produce: batches pass the door, are appended, and are acknowledged when what the acknowledgement promises is true.
//!
//! Validation and append happen before [`start`] returns, so that the requests of a connection keep their order; the wait
//! for durability is left to the reply. On a topic that flushes (`firn.flush=durable`), acks=1 waits for this node's
//! stable storage and acks=all for that of every in-sync replica; else acks=1 waits for nothing.

use std::sync::Arc;

use bytes::Bytes;
use hot_tier::{AppendError, AppendTime, StorageError};
use model::batch::{BatchBuilder, BatchFacts, BatchView, Compression, NewRecord, ProduceLimits, RecordsBuffer};
use model::batch::{InvalidBatch, OutsideTimestamp, OutsideTimestamps, ValidatedBatch, validate_produced};
use model::settings::{CompressionSetting, FlushMode, TopicSettings};
use model::{Offset, TimestampMs, TopicId};
use protocol::ErrorCode;
use protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use protocol::messages::{ProduceRequest, ProduceResponse};
use protocol::{ApiKey, Str};
use tokio::time::Instant;
use tracing::warn;

use super::certainty::certain_image;
use super::errors::{NO_TRANSACTIONS, Refusal, batch_error, not_accepted, not_committed};
use super::leader_hints::{Endpoint, LeaderHints};
use super::{BadRequest, Reply, RequestContext, encode};
use crate::broker::Broker;
use crate::partition::{Accepted, NotAccepted, NotCommitted, Partition, journal_deadline, journal_space};
use crate::timing::request_timeout;

/// First version whose response can name the leader.
const LEADERS_SINCE: i16 = 10;
/// What a batch may decompress to, as a multiple of `max.message.bytes` and at least [`MIN_DECOMPRESSED_BYTES`].
const MAX_EXPANSION: u64 = 64;
/// A small limit on batches must not refuse ordinary compression ratios.
const MIN_DECOMPRESSED_BYTES: u64 = 64 << 20;
/// Whatever the settings say, one batch never takes more memory than this.
const MAX_DECOMPRESSED_BYTES: u64 = 256 << 20;

/// Memory of a partition while its answer waits, and of the answer, encoded as well; without its error's text.
const PENDING_PARTITION_BYTES: usize = size_of::<PendingPartition>() + size_of::<PartitionProduceResponse>() + 64;
/// The same of a topic beyond its name.
const PENDING_TOPIC_BYTES: usize = size_of::<PendingTopic>() + size_of::<TopicProduceResponse>() + 32;
/// The same of a record that is named as being at fault.
const RECORD_ERROR_BYTES: usize = size_of::<BatchIndexAndErrorMessage>() + 2 * 160 + 32;
/// Kafka's words for records with timestamps that the topic does not allow.
const WRONG_TIMES: &str = "One or more records have been rejected due to invalid timestamp";

/// Appends, and answers with the reply to come.
pub(super) async fn start(
    context: &RequestContext<'_>,
    correlation_id: i32,
    request: ProduceRequest,
) -> Result<Reply, BadRequest> {
    // A transactional id has no effect without a transactional batch, and those are refused.
    let ProduceRequest { acks, timeout_ms, topic_data, .. } = request;
    let refused = (!(-1..=1).contains(&acks)).then_some(ErrorCode::InvalidRequiredAcks);
    let now = context.broker.clock.append_time();
    let mut pending = Vec::with_capacity(topic_data.len());
    let deadline = journal_deadline();
    for topic in topic_data {
        journal_space(deadline, || context.broker.hot.has_journal_space()).await;
        pending.push(append_topic(context, topic, acks, now, refused));
    }
    if acks == 0 {
        let failed = pending.iter().flat_map(|topic| &topic.partitions).find_map(|p| p.outcome.as_ref().err());
        return failed.map_or(Ok(Reply::Nothing), |refused| Err(BadRequest::Unanswerable(refused.why.code)));
    }
    // The records are in the log: from here on the answer waits for followers, who need memory to fetch them.
    context.claims.settle(&context.broker.memory, pending.iter().map(PendingTopic::kept_bytes).sum());
    let (version, broker) = (context.version, Arc::clone(context.broker));
    let deadline = Instant::now() + request_timeout(timeout_ms);
    Ok(Reply::Later(Box::pin(async move {
        let mut responses = Vec::with_capacity(pending.len());
        for topic in pending {
            responses.push(topic.finish(deadline).await);
        }
        let mut response = ProduceResponse { responses, ..ProduceResponse::default() };
        doubt_gaps(&broker, &mut response).await;
        if version >= LEADERS_SINCE {
            name_leaders(&broker, &mut response);
        }
        encode(ApiKey::Produce, version, correlation_id, &response)
    })))
}

/// Reports missing sequence numbers only where this node certainly leads.
async fn doubt_gaps(broker: &Broker, response: &mut ProduceResponse) {
    let is_gap = |one: &PartitionProduceResponse| one.error_code == ErrorCode::OutOfOrderSequenceNumber.code();
    if !response.responses.iter().flat_map(|topic| &topic.partition_responses).any(is_gap) {
        return;
    }
    let mut leaders = certain_image(broker).await.map(LeaderHints::new);
    for topic in &mut response.responses {
        for one in topic.partition_responses.iter_mut().filter(|one| is_gap(one)) {
            let leader = leaders.as_mut().map(|all| all.leader(TopicId(topic.topic_id), &topic.name, one.index).0);
            if leader != Some(broker.config.node_id) {
                one.error_code = ErrorCode::NotLeaderOrFollower.code();
                one.error_message = None;
            }
        }
    }
}

/// Names the leader where the client asked the wrong broker (KIP-951).
fn name_leaders(broker: &Broker, response: &mut ProduceResponse) {
    let mut hints = LeaderHints::new(broker.metadata.image());
    for topic in &mut response.responses {
        for partition in &mut topic.partition_responses {
            if partition.error_code == ErrorCode::NotLeaderOrFollower.code() {
                let (leader_id, leader_epoch) = hints.leader(TopicId(topic.topic_id), &topic.name, partition.index);
                partition.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch, ..LeaderIdAndEpoch::default() };
            }
        }
    }
    let node =
        |(node_id, host, port, rack): Endpoint| NodeEndpoint { node_id, host, port, rack, ..NodeEndpoint::default() };
    response.node_endpoints = hints.nodes().into_iter().map(node).collect();
}

/// Records of a partition that are refused.
struct Refused {
    why: Refusal,
    /// Where the log starts, where Kafka tells it beside this error; else −1.
    log_start: Offset,
    /// The records at fault, where they are known.
    records: Vec<BatchIndexAndErrorMessage>,
}

impl From<Refusal> for Refused {
    fn from(why: Refusal) -> Self {
        Refused { why, log_start: -1, records: Vec::new() }
    }
}

struct PendingTopic {
    name: Str,
    topic_id: uuid::Uuid,
    partitions: Vec<PendingPartition>,
}

struct PendingPartition {
    index: i32,
    outcome: Result<Pending, Refused>,
}

struct Pending {
    partition: Arc<Partition>,
    accepted: Accepted,
    waits_for: Option<WaitsFor>,
}

/// What must be true of the records before they are acknowledged.
#[derive(Clone, Copy)]
enum WaitsFor {
    /// They are on this node's stable storage.
    Disk,
    /// They are on that of enough replicas.
    Replicas,
}

impl Pending {
    async fn acknowledged(&self, deadline: Instant) -> Result<(), NotCommitted> {
        let Accepted { appended, term } = self.accepted;
        let (partition, end) = (&self.partition, appended.last_offset + 1);
        match self.waits_for {
            None => Ok(()),
            Some(WaitsFor::Disk) => partition.flushed(end, term, deadline).await,
            Some(WaitsFor::Replicas) => match partition.committed(end, term, deadline).await {
                // The in-sync replicas may have become too few since the append.
                Ok(()) | Err(NotCommitted::TimedOut) if partition.lacks_replicas() => {
                    Err(NotCommitted::NotEnoughReplicas)
                }
                waited => waited,
            },
        }
    }
}

fn append_topic(
    context: &RequestContext<'_>,
    topic: TopicProduceData,
    acks: i16,
    now: AppendTime,
    refused: Option<ErrorCode>,
) -> PendingTopic {
    let TopicProduceData { name, topic_id, partition_data, .. } = topic;
    let append = |data: PartitionProduceData| {
        let index = data.index;
        let outcome = match refused {
            Some(code) => Err(Refusal::without_words(code).into()),
            None => find(context, &name, topic_id, index)
                .map_err(|code| Refusal::without_words(code).into())
                .and_then(|partition| append(partition, data, acks, now)),
        };
        PendingPartition { index, outcome }
    };
    let partitions = partition_data.into_iter().map(append).collect();
    // Text of its own: an answer that waits must not keep the request's frame.
    PendingTopic { name: Str::from(name.as_str()), topic_id, partitions }
}

fn find(
    context: &RequestContext<'_>,
    name: &str,
    topic_id: uuid::Uuid,
    index: i32,
) -> Result<Arc<Partition>, ErrorCode> {
    let found = if context.version >= 13 {
        context.broker.partitions.leader_by_id(TopicId(topic_id), index)
    } else {
        context.broker.partitions.leader_by_name(name, index)
    };
    match found {
        Ok(partition) if partition.topic.is_internal() => Err(ErrorCode::InvalidTopicException),
        found => found,
    }
}

fn append(
    partition: Arc<Partition>,
    data: PartitionProduceData,
    acks: i16,
    now: AppendTime,
) -> Result<Pending, Refused> {
    let settings = partition.log.settings();
    if acks == -1 {
        partition.check_in_sync().map_err(|e| Refusal::new(not_accepted(&e), e.to_string()))?;
    }
    let records = data.records.unwrap_or_default().into_bytes();
    let batch = validate_produced(records, &limits(&settings, now.stamp_ms)).map_err(|e| refusal(&partition, &e))?;
    if batch.is_transactional() {
        return Err(Refusal::new(ErrorCode::TransactionalIdAuthorizationFailed, NO_TRANSACTIONS).into());
    }
    let batch = match settings.compression_type {
        CompressionSetting::Codec(codec) => recompress(batch, codec).map_err(|e| refusal(&partition, &e))?,
        CompressionSetting::Producer => batch,
    };
    let bytes = batch.bytes().len();
    // The limit is on the stored batch, too: compressed in another way it may have grown.
    if bytes as u64 > settings.max_message_bytes {
        let limit = usize::try_from(settings.max_message_bytes).unwrap_or(usize::MAX);
        return Err(refusal(&partition, &InvalidBatch::TooLarge { size: bytes, limit }));
    }
    if bytes as u64 > settings.segment_bytes {
        let reason = format!("the batch has {bytes} bytes, a segment takes {} (segment.bytes)", settings.segment_bytes);
        return Err(Refusal::new(ErrorCode::RecordListTooLarge, reason).into());
    }
    let records = u64::try_from(batch.record_count).unwrap_or(0);
    match partition.append(vec![batch], now) {
        Ok(accepted) => {
            metrics::counter!("firn_produced_bytes_total").increment(bytes as u64);
            metrics::counter!("firn_produced_records_total").increment(records);
            let waits_for = match acks {
                -1 => Some(WaitsFor::Replicas),
                _ => (settings.flush == FlushMode::Durable).then_some(WaitsFor::Disk),
            };
            Ok(Pending { partition, accepted, waits_for })
        }
        Err(error) => {
            let code = not_accepted(&error);
            // That too many files are open has been logged, once for many.
            let no_descriptor = |e: &AppendError| matches!(e, AppendError::Storage(StorageError::NoDescriptor { .. }));
            let is_told = matches!(&error, NotAccepted::Log(e) if no_descriptor(e));
            if code == ErrorCode::KafkaStorageError && !is_told {
                warn!(topic = %partition.topic, partition = partition.id.partition, %error, "cannot append");
            }
            let tells_start = matches!(&error, NotAccepted::Log(e) if is_about_the_producer(e));
            let log_start = if tells_start { partition.log_start() } else { -1 };
            Err(Refused { log_start, ..Refusal::new(code, error.to_string()).into() })
        }
    }
}

fn refusal(partition: &Partition, error: &InvalidBatch) -> Refused {
    warn!(topic = %partition.topic, partition = partition.id.partition, %error, "refusing a record batch");
    let tells_start = matches!(error, InvalidBatch::Timestamps(_) | InvalidBatch::Invalid(_));
    let log_start = if tells_start { partition.log_start() } else { -1 };
    let (why, records) = match error {
        InvalidBatch::Timestamps(outside) => {
            (WRONG_TIMES.to_owned(), outside.named().map(|it| at_fault(it, outside)).collect())
        }
        error => (error.to_string(), Vec::new()),
    };
    Refused { why: Refusal::new(batch_error(error), why), log_start, records }
}

/// What a client tells the sender of a record; the others of the batch are told that they were not at fault.
fn at_fault(record: &OutsideTimestamp, of: &OutsideTimestamps) -> BatchIndexAndErrorMessage {
    let OutsideTimestamp { index, timestamp } = *record;
    let (earliest, latest) = (of.allowed.start(), of.allowed.end());
    let message = format!(
        "Timestamp {timestamp} of message with offset {index} is out of range. \
         The timestamp should be within [{earliest}, {latest}]"
    );
    BatchIndexAndErrorMessage {
        batch_index: index,
        batch_index_error_message: Some(Str::from(message)),
        ..BatchIndexAndErrorMessage::default()
    }
}

fn is_about_the_producer(error: &AppendError) -> bool {
    matches!(error, AppendError::OutOfOrderSequence { .. } | AppendError::InvalidProducerEpoch { .. })
}

fn limits(settings: &TopicSettings, now: TimestampMs) -> ProduceLimits {
    let max_decompressed = settings.max_message_bytes.saturating_mul(MAX_EXPANSION);
    let bounded = max_decompressed.clamp(MIN_DECOMPRESSED_BYTES, MAX_DECOMPRESSED_BYTES);
    ProduceLimits {
        max_batch_bytes: usize::try_from(settings.max_message_bytes).unwrap_or(usize::MAX),
        max_decompressed_bytes: usize::try_from(bounded).unwrap_or(usize::MAX),
        timestamp_type: settings.message_timestamp_type,
        timestamp_before_max_ms: settings.message_timestamp_before_max_ms,
        timestamp_after_max_ms: settings.message_timestamp_after_max_ms,
        now,
    }
}

/// Brings a batch to the codec that its topic demands (`compression.type`).
fn recompress(batch: ValidatedBatch, codec: Compression) -> Result<ValidatedBatch, InvalidBatch> {
    let header = *batch.header();
    if header.attributes.compression().map_err(InvalidBatch::Corrupt)? == codec {
        return Ok(batch);
    }
    let view = BatchView::parse(batch.bytes()).map_err(InvalidBatch::Corrupt)?;
    let mut buffer = RecordsBuffer::new(usize::try_from(MAX_DECOMPRESSED_BYTES).unwrap_or(usize::MAX));
    let mut builder = BatchBuilder::new(BatchFacts {
        leader_epoch: header.leader_epoch,
        timestamp_type: header.attributes.timestamp_type(),
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        compression: codec,
        is_transactional: header.is_transactional(),
        is_control: false,
    });
    for record in view.records(&mut buffer).map_err(InvalidBatch::Corrupt)? {
        let record = record.map_err(InvalidBatch::Corrupt)?;
        let headers = record.headers.iter().collect::<Result<Vec<_>, _>>().map_err(InvalidBatch::Corrupt)?;
        let model::batch::Record { offset, timestamp, key, value, .. } = record;
        builder.append(&NewRecord { offset, timestamp, key, value, headers: &headers });
    }
    let bytes: Bytes = builder.finish().map_err(|e| InvalidBatch::Invalid(e.to_string()))?;
    ValidatedBatch::from_own(bytes).map_err(InvalidBatch::Corrupt)
}

impl PendingTopic {
    /// Memory that is kept until the answer is written, and that of the answer.
    fn kept_bytes(&self) -> usize {
        let of_partition = |partition: &PendingPartition| {
            let refused = partition.outcome.as_ref().err();
            let message = refused.and_then(|refused| refused.why.message.as_ref());
            let records = refused.map_or(0, |refused| refused.records.len());
            PENDING_PARTITION_BYTES + message.map_or(0, |message| 2 * message.len()) + records * RECORD_ERROR_BYTES
        };
        PENDING_TOPIC_BYTES + 3 * self.name.len() + self.partitions.iter().map(of_partition).sum::<usize>()
    }

    async fn finish(self, deadline: Instant) -> TopicProduceResponse {
        let mut partition_responses = Vec::with_capacity(self.partitions.len());
        for partition in self.partitions {
            partition_responses.push(partition.finish(deadline).await);
        }
        TopicProduceResponse {
            name: self.name,
            topic_id: self.topic_id,
            partition_responses,
            ..TopicProduceResponse::default()
        }
    }
}

impl PendingPartition {
    async fn finish(self, deadline: Instant) -> PartitionProduceResponse {
        let refuse = |refused: Refused| PartitionProduceResponse {
            index: self.index,
            error_code: refused.why.code.code(),
            base_offset: -1,
            log_start_offset: refused.log_start,
            record_errors: refused.records,
            error_message: refused.why.message.map(Str::from),
            ..PartitionProduceResponse::default()
        };
        let pending = match self.outcome {
            Ok(pending) => pending,
            Err(refused) => return refuse(refused),
        };
        if let Err(error) = pending.acknowledged(deadline).await {
            return refuse(Refusal::new(not_committed(error), error.to_string()).into());
        }
        let Pending { partition, accepted: Accepted { appended, .. }, .. } = pending;
        PartitionProduceResponse {
            index: self.index,
            base_offset: appended.base_offset,
            log_append_time_ms: appended.log_append_time.unwrap_or(-1),
            log_start_offset: partition.log_start(),
            ..PartitionProduceResponse::default()
        }
    }
}
