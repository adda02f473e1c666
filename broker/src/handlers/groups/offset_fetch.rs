//! OffsetFetch: one group up to version 7, any number of them later; topics by id from version 10 on.

use coordinator::group::{CommittedOffset, OffsetsByTopic};
use indexmap::map::Entry;
use indexmap::{IndexMap, IndexSet};
use model::TopicId;
use protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};
use protocol::{ApiKey, ErrorCode, Str};
use uuid::Uuid;

use super::{error_code, topic_id, topic_name, wire};
use crate::handlers::{BadRequest, RequestContext};

/// First version whose answer can refuse a request as a whole.
const TOP_LEVEL_ERROR: i16 = 2;
/// First version with several groups.
const BATCHED: i16 = 8;
/// First version that names topics by their ids.
const TOPIC_IDS: i16 = 10;
/// "Nothing is committed for this partition."
const NO_OFFSET: i64 = -1;

/// What an offset takes while it is answered beyond its metadata, in memory and encoded.
const OFFSET_BYTES: usize = 320;

pub(crate) async fn handle(
    context: &RequestContext<'_>,
    request: OffsetFetchRequest,
) -> Result<OffsetFetchResponse, BadRequest> {
    // `require_stable` needs nothing: there are no offsets of open transactions.
    if context.version < BATCHED {
        claim(context, std::iter::once(&request.group_id)).await?;
        return Ok(single(context, request).await);
    }
    let wanted = each_group_once(request.groups);
    claim(context, wanted.iter().map(|group| &group.group_id)).await?;
    let mut groups = Vec::with_capacity(wanted.len());
    for group in wanted {
        groups.push(fetch(context, group).await);
    }
    Ok(OffsetFetchResponse { groups, ..OffsetFetchResponse::default() })
}

/// Claims memory for all that the groups have committed, whatever part of it is asked for.
async fn claim(context: &RequestContext<'_>, groups: impl Iterator<Item = &Str> + Send) -> Result<(), BadRequest> {
    let mut bytes = 0;
    for group in groups {
        let weight = context.broker.groups.query(group, |groups, group| groups.each_offset(group).map(weight).sum());
        bytes += weight.await.unwrap_or(0);
    }
    context.claim_reply(ApiKey::OffsetFetch, bytes).await
}

fn weight(committed: &CommittedOffset) -> usize {
    OFFSET_BYTES + 2 * committed.metadata.len()
}

/// The groups in their order, each once with all that is asked of it.
fn each_group_once(groups: Vec<OffsetFetchRequestGroup>) -> Vec<OffsetFetchRequestGroup> {
    let mut by_id: IndexMap<Str, OffsetFetchRequestGroup> = IndexMap::new();
    for group in groups {
        match by_id.entry(group.group_id.clone()) {
            Entry::Vacant(entry) => drop(entry.insert(group)),
            Entry::Occupied(mut entry) => {
                let known = &mut entry.get_mut().topics;
                *known = known.take().zip(group.topics).map(|(known, more)| [known, more].concat());
            }
        }
    }
    by_id.into_values().collect()
}

/// The topics in their order, and each of their partitions, once.
fn each_partition_once(topics: Vec<OffsetFetchRequestTopics>) -> Vec<OffsetFetchRequestTopics> {
    let mut by_topic: IndexMap<(Str, Uuid), (OffsetFetchRequestTopics, IndexSet<i32>)> = IndexMap::new();
    for mut topic in topics {
        let indexes = std::mem::take(&mut topic.partition_indexes);
        let key = (topic.name.clone(), topic.topic_id);
        by_topic.entry(key).or_insert_with(|| (topic, IndexSet::new())).1.extend(indexes);
    }
    let merged = |(topic, indexes): (OffsetFetchRequestTopics, IndexSet<i32>)| OffsetFetchRequestTopics {
        partition_indexes: indexes.into_iter().collect(),
        ..topic
    };
    by_topic.into_values().map(merged).collect()
}

/// The old form is the new one with one group.
async fn single(context: &RequestContext<'_>, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let topics: Option<Vec<_>> = request.topics.map(|topics| {
        let convert = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name,
            partition_indexes: topic.partition_indexes,
            ..OffsetFetchRequestTopics::default()
        });
        convert.collect()
    });
    let asked: Option<Vec<_>> = topics.map(each_partition_once);
    let group = OffsetFetchRequestGroup {
        group_id: request.group_id,
        topics: asked.clone(),
        ..OffsetFetchRequestGroup::default()
    };
    let mut answer = fetch(context, group).await;
    let refused = answer.error_code;
    if refused != 0 && context.version < TOP_LEVEL_ERROR {
        answer.topics = asked.unwrap_or_default().iter().map(|topic| unknown(topic, refused)).collect();
    }
    let topics = answer.topics.into_iter().map(|topic| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(old_partition).collect(),
        ..OffsetFetchResponseTopic::default()
    });
    OffsetFetchResponse { topics: topics.collect(), error_code: refused, ..OffsetFetchResponse::default() }
}

async fn fetch(context: &RequestContext<'_>, group: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let OffsetFetchRequestGroup { group_id, topics, .. } = group;
    let offsets = match context.broker.groups.offsets(&group_id).await {
        Ok(offsets) => offsets,
        Err(error) => {
            let error_code = error_code(error).code();
            return OffsetFetchResponseGroup { group_id, error_code, ..OffsetFetchResponseGroup::default() };
        }
    };
    let topics = match topics.map(each_partition_once) {
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
        // To a client that speaks in ids, a deleted topic cannot be named.
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
