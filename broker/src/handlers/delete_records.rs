//! DeleteRecords (KIP-107): moves a partition's log start, in both tiers.
//!
//! The move is durable on every in-sync replica before the reply leaves, so that no later leader shows the records again;
//! the archiver then writes it to the manifest, and the sweep removes the objects that nobody can read any more.

use protocol::ErrorCode;
use protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use tokio::time::Instant;

use super::RequestContext;
use crate::timing::request_timeout;

/// "Everything up to the high watermark."
const HIGH_WATERMARK: i64 = -1;

pub(super) async fn handle(context: &RequestContext<'_>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let deadline = Instant::now() + request_timeout(request.timeout_ms);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let moved = delete(context, &topic.name, wanted.partition_index, wanted.offset, deadline).await;
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: wanted.partition_index,
                low_watermark: moved.unwrap_or(-1),
                error_code: moved.err().map_or(0, ErrorCode::code),
                ..DeleteRecordsPartitionResult::default()
            });
        }
        topics.push(DeleteRecordsTopicResult { name: topic.name, partitions, ..DeleteRecordsTopicResult::default() });
    }
    DeleteRecordsResponse { topics, ..DeleteRecordsResponse::default() }
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
    partition.delete_below(offset, deadline).await.map_err(|error| {
        tracing::warn!(%topic, partition = partition.id.partition, offset, %error, "cannot delete records");
        super::errors::delete_error(&error)
    })?;
    partition.gone_everywhere(offset, deadline).await.map_err(super::errors::not_committed)?;
    Ok(partition.log_start())
}
