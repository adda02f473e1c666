//! OffsetFetch: one group up to version 7, any number of them later; topics by id from version 10 on.

use coordinator::group::{CommittedOffset, OffsetsByTopic};
use model::TopicId;
use protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};
use protocol::{ErrorCode, Str};

use super::{error_code, topic_id, topic_name, wire};
use crate::handlers::RequestContext;

/// First version whose answer can refuse a request as a whole.
const TOP_LEVEL_ERROR: i16 = 2;
/// First version with several groups.
const BATCHED: i16 = 8;
/// First version that names topics by their ids.
const TOPIC_IDS: i16 = 10;
/// "Nothing is committed for this partition."
const NO_OFFSET: i64 = -1;

pub(crate) async fn handle(context: &RequestContext<'_>, request: OffsetFetchRequest) -> OffsetFetchResponse {
    // `require_stable` needs nothing: there are no offsets of open transactions.
    if context.version < BATCHED {
        return single(context, request).await;
    }
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in &request.groups {
        groups.push(fetch(context, group).await);
    }
    OffsetFetchResponse { groups, ..OffsetFetchResponse::default() }
}

/// The old form is the new one with one group.
async fn single(context: &RequestContext<'_>, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let topics = request.topics.map(|topics| {
        let convert = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name,
            partition_indexes: topic.partition_indexes,
            ..OffsetFetchRequestTopics::default()
        });
        convert.collect()
    });
    let group = OffsetFetchRequestGroup { group_id: request.group_id, topics, ..OffsetFetchRequestGroup::default() };
    let mut answer = fetch(context, &group).await;
    let refused = answer.error_code;
    if refused != 0 && context.version < TOP_LEVEL_ERROR {
        let asked = group.topics.as_deref().unwrap_or_default();
        answer.topics = asked.iter().map(|topic| unknown(topic, refused)).collect();
    }
    let topics = answer.topics.into_iter().map(|topic| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(old_partition).collect(),
        ..OffsetFetchResponseTopic::default()
    });
    OffsetFetchResponse { topics: topics.collect(), error_code: refused, ..OffsetFetchResponse::default() }
}

async fn fetch(context: &RequestContext<'_>, group: &OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let group_id = group.group_id.clone();
    let offsets = match context.broker.groups.offsets(&group_id).await {
        Ok(offsets) => offsets,
        Err(error) => {
            let error_code = error_code(error).code();
            return OffsetFetchResponseGroup { group_id, error_code, ..OffsetFetchResponseGroup::default() };
        }
    };
    let topics = match &group.topics {
        None => all_topics(context, &offsets),
        Some(topics) => topics.iter().map(|topic| named_topic(context, topic, &offsets)).collect(),
    };
    OffsetFetchResponseGroup { group_id, topics, ..OffsetFetchResponseGroup::default() }
}

fn all_topics(context: &RequestContext<'_>, offsets: &OffsetsByTopic) -> Vec<OffsetFetchResponseTopics> {
    let by_id = context.version >= TOPIC_IDS;
    let mut topics = Vec::with_capacity(offsets.len());
    for (name, of_topic) in offsets {
        let id = topic_id(context, name);
        // A client that speaks in ids cannot be told of a topic that is gone.
        if by_id && id.is_zero() {
            continue;
        }
        let current = of_topic.iter().filter(|(_, committed)| committed.is_of(id));
        topics.push(OffsetFetchResponseTopics {
            name: wire(name),
            topic_id: id.0,
            partitions: current.map(|(index, committed)| partition(*index, Some(committed))).collect(),
            ..OffsetFetchResponseTopics::default()
        });
    }
    topics
}

fn named_topic(
    context: &RequestContext<'_>,
    topic: &OffsetFetchRequestTopics,
    offsets: &OffsetsByTopic,
) -> OffsetFetchResponseTopics {
    let (name, id) = if context.version >= TOPIC_IDS {
        let id = TopicId(topic.topic_id);
        let Some(name) = topic_name(context, id) else { return unknown(topic, ErrorCode::UnknownTopicId.code()) };
        (name, id)
    } else {
        (topic.name.clone(), topic_id(context, &topic.name))
    };
    let of_topic = offsets.get(&*name);
    // What was committed for a former topic of that name is not for this one.
    let current = |index: &i32| of_topic.and_then(|it| it.get(index)).filter(|it| it.is_of(id));
    let indexes = topic.partition_indexes.iter();
    OffsetFetchResponseTopics {
        name,
        topic_id: topic.topic_id,
        partitions: indexes.map(|index| partition(*index, current(index))).collect(),
        ..OffsetFetchResponseTopics::default()
    }
}

fn unknown(topic: &OffsetFetchRequestTopics, error_code: i16) -> OffsetFetchResponseTopics {
    let refuse = |index: &i32| OffsetFetchResponsePartitions { error_code, ..partition(*index, None) };
    OffsetFetchResponseTopics {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic.partition_indexes.iter().map(refuse).collect(),
        ..OffsetFetchResponseTopics::default()
    }
}

fn partition(partition_index: i32, committed: Option<&CommittedOffset>) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: committed.map_or(NO_OFFSET, |it| it.offset),
        committed_leader_epoch: committed.map_or(model::NO_LEADER_EPOCH, |it| it.leader_epoch),
        metadata: Some(committed.map_or_else(Str::default, |it| wire(&it.metadata))),
        ..OffsetFetchResponsePartitions::default()
    }
}

fn old_partition(partition: OffsetFetchResponsePartitions) -> OffsetFetchResponsePartition {
    OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
        ..OffsetFetchResponsePartition::default()
    }
}
