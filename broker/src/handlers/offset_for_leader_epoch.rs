//! OffsetForLeaderEpoch (KIP-101, KIP-320): where an epoch ends, so that clients notice truncation.

use protocol::ErrorCode;
use protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::RequestContext;

pub(super) async fn handle(
    context: &RequestContext<'_>,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let partition = wanted.partition;
            partitions.push(match look_up(context, &topic.topic, wanted).await {
                Ok((leader_epoch, end_offset)) => {
                    EpochEndOffset { partition, leader_epoch, end_offset, ..EpochEndOffset::default() }
                }
                Err(code) => EpochEndOffset { partition, error_code: code.code(), ..EpochEndOffset::default() },
            });
        }
        topics.push(OffsetForLeaderTopicResult {
            topic: topic.topic,
            partitions,
            ..OffsetForLeaderTopicResult::default()
        });
    }
    OffsetForLeaderEpochResponse { topics, ..OffsetForLeaderEpochResponse::default() }
}

async fn look_up(
    context: &RequestContext<'_>,
    topic: &str,
    wanted: &OffsetForLeaderPartition,
) -> Result<(i32, i64), ErrorCode> {
    let partition = context.broker.partitions.leader_by_name(topic, wanted.partition)?;
    partition.leadership().check_epoch(wanted.current_leader_epoch)?;
    partition.end_of_epoch(wanted.leader_epoch).await.map_err(|_| ErrorCode::LeaderNotAvailable)
}
