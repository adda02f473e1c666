//! DeleteRecords (KIP-107): moves a partition's log start, in both tiers.
//!
//! The new start is in the cluster's metadata before the leader shows it to readers, so that no later leader shows the records
//! again, and durable on every in-sync replica before the reply leaves. The archiver then writes it to the manifest, and the
//! sweep removes the objects that cannot be read any more.

use futures::future::join_all;
use indexmap::IndexMap;
use protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use protocol::{ErrorCode, Str};
use tokio::time::Instant;

use super::RequestContext;
use crate::timing::request_timeout;

/// "Everything up to the high watermark."
const HIGH_WATERMARK: i64 = -1;
/// Partitions of one request whose log starts move at a time.
const CONCURRENCY: usize = 64;

pub(super) async fn handle(context: &RequestContext<'_>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let deadline = Instant::now() + request_timeout(request.timeout_ms);
    // A partition that is named twice is moved once, to the offset that is named last, as in Kafka.
    let mut by_topic: IndexMap<Str, IndexMap<i32, i64>> = IndexMap::new();
    for topic in request.topics {
        let wanted = topic.partitions.iter().map(|wanted| (wanted.partition_index, wanted.offset));
        by_topic.entry(topic.name).or_default().extend(wanted);
    }
    let mut topics = Vec::with_capacity(by_topic.len());
    for (name, wanted) in by_topic {
        let wanted: Vec<(i32, i64)> = wanted.into_iter().collect();
        let mut partitions = Vec::with_capacity(wanted.len());
        for some in wanted.chunks(CONCURRENCY) {
            partitions.extend(join_all(some.iter().map(|one| answer(context, &name, *one, deadline))).await);
        }
        topics.push(DeleteRecordsTopicResult { name, partitions, ..DeleteRecordsTopicResult::default() });
    }
    DeleteRecordsResponse { topics, ..DeleteRecordsResponse::default() }
}

async fn answer(
    context: &RequestContext<'_>,
    topic: &str,
    (partition_index, offset): (i32, i64),
    deadline: Instant,
) -> DeleteRecordsPartitionResult {
    let moved = delete(context, topic, partition_index, offset, deadline).await;
    DeleteRecordsPartitionResult {
        partition_index,
        low_watermark: moved.unwrap_or(-1),
        error_code: moved.err().map_or(0, ErrorCode::code),
        ..DeleteRecordsPartitionResult::default()
    }
}

async fn delete(
    context: &RequestContext<'_>,
    topic: &str,
    partition: i32,
    offset: i64,
    deadline: Instant,
) -> Result<i64, ErrorCode> {
    let partition = context.broker.partitions.leader_by_name(topic, partition)?;
    if partition.topic.is_internal() {
        return Err(ErrorCode::PolicyViolation);
    }
    let high_watermark = partition.high_watermark();
    let offset = if offset == HIGH_WATERMARK { high_watermark } else { offset };
    if offset < 0 || offset > high_watermark {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    partition.delete_below(&context.broker.metadata, offset, deadline).await.map_err(|error| {
        tracing::warn!(%topic, partition = partition.id.partition, offset, %error, "cannot delete records");
        super::errors::delete_error(&error)
    })?;
    partition.gone_everywhere(offset, deadline).await.map_err(super::errors::not_committed)?;
    Ok(partition.log_start())
}
