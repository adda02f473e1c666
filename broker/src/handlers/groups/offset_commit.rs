//! OffsetCommit: topics by name up to version 9, by id from version 10 on.

use std::sync::Arc;

use coordinator::group::{CommitOffsets, MemberIdentity, OffsetToCommit};
use model::TopicId;
use protocol::ErrorCode;
use protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::{error_code, owned, owned_option, partition_exists, topic_id, topic_name};
use crate::handlers::RequestContext;

/// First version that knows of groups that are not there.
const GROUP_ID_NOT_FOUND: i16 = 9;
/// First version that names topics by their ids.
const TOPIC_IDS: i16 = 10;

pub(crate) async fn handle(context: &RequestContext<'_>, mut request: OffsetCommitRequest) -> OffsetCommitResponse {
    let wire_topics = std::mem::take(&mut request.topics);
    let mut offsets = Vec::new();
    let mut topics = Vec::with_capacity(wire_topics.len());
    for topic in &wire_topics {
        topics.push(check_topic(context, topic, &mut offsets));
    }
    if !offsets.is_empty() {
        let codes = commit(context, &request, offsets).await;
        // Those that passed the check take the coordinator's results, in their order.
        let accepted = topics.iter_mut().flat_map(|topic| &mut topic.partitions).filter(|it| it.error_code == 0);
        for (partition, code) in accepted.zip(codes) {
            partition.error_code = code.code();
        }
    }
    OffsetCommitResponse { topics, ..OffsetCommitResponse::default() }
}

/// Answers for the partitions that are not there, and collects the offsets of the others.
fn check_topic(
    context: &RequestContext<'_>,
    topic: &OffsetCommitRequestTopic,
    offsets: &mut Vec<OffsetToCommit>,
) -> OffsetCommitResponseTopic {
    let (name, topic_id) = if context.version >= TOPIC_IDS {
        let id = TopicId(topic.topic_id);
        (topic_name(context, id), id)
    } else {
        (Some(topic.name.clone()), topic_id(context, &topic.name))
    };
    let kept_name: Arc<str> = name.as_ref().map(owned).unwrap_or_default();
    let check = |partition: &OffsetCommitRequestPartition| {
        let partition_index = partition.partition_index;
        let error = match &name {
            None => ErrorCode::UnknownTopicId,
            Some(_) if !partition_exists(context, topic_id, partition_index) => ErrorCode::UnknownTopicOrPartition,
            Some(_) => {
                offsets.push(to_commit(&kept_name, topic_id, partition));
                ErrorCode::None
            }
        };
        OffsetCommitResponsePartition {
            partition_index,
            error_code: error.code(),
            ..OffsetCommitResponsePartition::default()
        }
    };
    OffsetCommitResponseTopic {
        partitions: topic.partitions.iter().map(check).collect(),
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        ..OffsetCommitResponseTopic::default()
    }
}

fn to_commit(topic: &Arc<str>, topic_id: TopicId, partition: &OffsetCommitRequestPartition) -> OffsetToCommit {
    OffsetToCommit {
        topic: Arc::clone(topic),
        topic_id,
        partition: partition.partition_index,
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: owned_option(partition.committed_metadata.as_ref()).unwrap_or_default(),
    }
}

async fn commit(
    context: &RequestContext<'_>,
    request: &OffsetCommitRequest,
    offsets: Vec<OffsetToCommit>,
) -> Vec<ErrorCode> {
    let count = offsets.len();
    let commit = CommitOffsets {
        group: owned(&request.group_id),
        member: MemberIdentity {
            member_id: owned(&request.member_id),
            instance_id: owned_option(request.group_instance_id.as_ref()),
        },
        generation: request.generation_id_or_member_epoch,
        retention_ms: Some(request.retention_time_ms).filter(|ms| *ms >= 0),
        offsets,
    };
    match context.broker.groups.commit(commit).await {
        Ok(results) => results.into_iter().map(|it| it.err().map_or(ErrorCode::None, error_code)).collect(),
        Err(error) => {
            let code = match error_code(error) {
                ErrorCode::GroupIdNotFound if context.version < GROUP_ID_NOT_FOUND => ErrorCode::IllegalGeneration,
                code => code,
            };
            vec![code; count]
        }
    }
}
