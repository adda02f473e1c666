//! OffsetDelete (KIP-496).

use coordinator::group::DeleteOffsets;
use protocol::ErrorCode;
use protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::{code_of, error_code, owned, partition_exists, topic_id};
use crate::handlers::RequestContext;

pub(crate) async fn handle(context: &RequestContext<'_>, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let mut partitions = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let topic_id = topic_id(context, &topic.name);
        let mut answered = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let partition_index = partition.partition_index;
            let exists = partition_exists(context, topic_id, partition_index);
            if exists {
                partitions.push((owned(&topic.name), partition_index));
            }
            let error = if exists { ErrorCode::None } else { ErrorCode::UnknownTopicOrPartition };
            let error_code = error.code();
            answered.push(OffsetDeleteResponsePartition { partition_index, error_code });
        }
        topics.push(OffsetDeleteResponseTopic { name: topic.name, partitions: answered });
    }
    let delete = DeleteOffsets { group: owned(&request.group_id), partitions };
    match context.broker.groups.delete_offsets(delete).await {
        Err(error) => OffsetDeleteResponse { error_code: error_code(error).code(), ..OffsetDeleteResponse::default() },
        Ok(results) => {
            // Those that exist take the coordinator's results, in their order.
            let existing = topics.iter_mut().flat_map(|topic| &mut topic.partitions).filter(|it| it.error_code == 0);
            for (partition, result) in existing.zip(&results) {
                partition.error_code = code_of(result);
            }
            OffsetDeleteResponse { topics, ..OffsetDeleteResponse::default() }
        }
    }
}
