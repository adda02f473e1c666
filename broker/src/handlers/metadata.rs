//! Metadata: brokers, topics, and who leads what; creates topics on demand.

use std::collections::{BTreeSet, HashMap};

use coordinator::cluster::{Broker, MAX_PARTITIONS_PER_COMMAND, NO_LEADER, Partition, Topic};
use model::{TopicId, TopicName, TopicPartition};
use protocol::messages::metadata_request::MetadataRequestTopic;
use protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use protocol::messages::{MetadataRequest, MetadataResponse};
use protocol::{ApiKey, ErrorCode, Str};

use super::once_each::once_each;
use super::topics::{
    ALL_CLUSTER_OPERATIONS, ALL_TOPIC_OPERATIONS, OPERATIONS_UNKNOWN, controller_id, create_on_demand, offline_replicas,
};
use super::{BadRequest, RequestContext};
use crate::broker::LISTENER;
use crate::metadata::ClusterImage;

/// First version in which an empty list means "no topics" instead of "all topics".
const EMPTY_MEANS_NONE: i16 = 1;
/// First version that asks for topics by their ids.
const TOPIC_IDS: i16 = 12;
/// Topics that one request may create because it names them. Clients ask again for the others.
const MAX_CREATED: usize = 100;

/// What a topic and a partition take in a response beyond names and lists of nodes, in memory and encoded.
const TOPIC_BYTES: usize = 384;
const PARTITION_BYTES: usize = 320;
/// What one node takes in the three lists of a partition, likewise.
const REPLICA_BYTES: usize = 24;

pub(super) async fn handle(
    context: &RequestContext<'_>,
    request: MetadataRequest,
) -> Result<MetadataResponse, BadRequest> {
    let is_too_new = |topic: &MetadataRequestTopic| topic.name.is_none() || !TopicId(topic.topic_id).is_zero();
    if context.version < TOPIC_IDS && request.topics.iter().flatten().any(is_too_new) {
        let code = ErrorCode::InvalidRequest;
        let wanted = request.topics.into_iter().flatten();
        let name = |topic: &MetadataRequestTopic| Some(topic.name.clone().unwrap_or_default());
        let topics = wanted.map(|topic| failed(name(&topic), TopicId(topic.topic_id), code)).collect();
        return Ok(MetadataResponse { topics, ..MetadataResponse::default() });
    }
    context.broker.metadata.confirm().await?;
    let may_create = request.allow_auto_topic_creation && context.broker.config.settings.broker.auto_create_topics;
    let wants_all = match &request.topics {
        None => true,
        Some(topics) => topics.is_empty() && context.version < EMPTY_MEANS_NONE,
    };
    let operations = |wanted, all| if wanted { all } else { OPERATIONS_UNKNOWN };
    let topic_operations = operations(request.include_topic_authorized_operations, ALL_TOPIC_OPERATIONS);
    let mut topics = Vec::new();
    if wants_all {
        let image = context.broker.metadata.image();
        let bytes = image.topics().map(|topic| weight(&image, topic)).sum();
        context.claim_reply(ApiKey::Metadata, bytes).await?;
        topics.extend(image.topics().map(|topic| describe(&image, topic)));
    } else {
        let wanted = once_each(request.topics.unwrap_or_default(), |topic| (name_of(topic).cloned(), topic.topic_id));
        let mut created = if may_create { create_missing(context, &wanted).await } else { HashMap::new() };
        let image = context.broker.metadata.image();
        let known = wanted.iter().filter_map(|topic| named(&image, topic));
        context.claim_reply(ApiKey::Metadata, known.map(|topic| weight(&image, topic)).sum()).await?;
        topics.extend(wanted.into_iter().map(|topic| {
            let refusal = topic.name.as_ref().and_then(|name| created.remove(name));
            find(&image, topic, refusal)
        }));
    }
    // Where an id names no topic, its operations are unknown, as in Kafka.
    for topic in topics.iter_mut().filter(|topic| topic.error_code != ErrorCode::UnknownTopicId.code()) {
        topic.topic_authorized_operations = topic_operations;
    }
    let image = context.broker.metadata.image();
    Ok(MetadataResponse {
        brokers: context.broker.metadata.named_brokers(&image).filter_map(broker_entry).collect(),
        cluster_id: Some(Str::from(image.cluster_id().to_owned())),
        controller_id: controller_id(context.broker, &image),
        topics,
        cluster_authorized_operations: operations(
            request.include_cluster_authorized_operations,
            ALL_CLUSTER_OPERATIONS,
        ),
        ..MetadataResponse::default()
    })
}

/// The topic that is asked for. An id decides, and the name beside it has no effect.
fn named<'a>(image: &'a ClusterImage, topic: &MetadataRequestTopic) -> Option<&'a Topic> {
    match name_of(topic) {
        Some(name) => image.topic(name),
        None => image.topic_by_id(TopicId(topic.topic_id)),
    }
}

/// The name, where the topic is asked for by name.
fn name_of(topic: &MetadataRequestTopic) -> Option<&Str> {
    topic.name.as_ref().filter(|_| TopicId(topic.topic_id).is_zero())
}

/// What the topic takes in a response, in memory and encoded.
fn weight(image: &ClusterImage, topic: &Topic) -> usize {
    let of_partition =
        |(_, partition): (TopicPartition, &Partition)| PARTITION_BYTES + REPLICA_BYTES * partition.replicas.len();
    TOPIC_BYTES + image.partitions_of(topic.id).map(of_partition).sum::<usize>()
}

fn broker_entry(broker: &Broker) -> Option<MetadataResponseBroker> {
    let listener = broker.listener(LISTENER)?;
    Some(MetadataResponseBroker {
        node_id: broker.id,
        host: Str::from(listener.host.clone()),
        port: i32::from(listener.port),
        rack: broker.rack.clone().map(Str::from),
        ..MetadataResponseBroker::default()
    })
}

/// Creates the topics that do not exist, at most [`MAX_CREATED`] of them. Returns the errors of those that it could not create.
async fn create_missing(context: &RequestContext<'_>, wanted: &[MetadataRequestTopic]) -> HashMap<Str, ErrorCode> {
    let image = context.broker.metadata.image();
    let names = wanted.iter().filter_map(name_of);
    let missing: BTreeSet<&Str> =
        names.filter(|name| image.topic(name).is_none() && TopicName::new(name).is_ok()).collect();
    let partitions = i64::from(context.broker.config.settings.broker.num_partitions).max(1);
    let fitting = usize::try_from(MAX_PARTITIONS_PER_COMMAND / partitions).unwrap_or_default().clamp(1, MAX_CREATED);
    create_on_demand(context.broker, missing.into_iter().take(fitting)).await
}

fn find(image: &ClusterImage, wanted: MetadataRequestTopic, not_created: Option<ErrorCode>) -> MetadataResponseTopic {
    if let Some(topic) = named(image, &wanted) {
        return describe(image, topic);
    }
    let id = TopicId(wanted.topic_id);
    match wanted.name.filter(|_| id.is_zero()) {
        None => failed(None, id, ErrorCode::UnknownTopicId),
        Some(name) if TopicName::new(&name).is_err() => failed(Some(name), id, ErrorCode::InvalidTopicException),
        Some(name) => failed(Some(name), id, not_created.unwrap_or(ErrorCode::UnknownTopicOrPartition)),
    }
}

fn failed(name: Option<Str>, id: TopicId, code: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic { error_code: code.code(), name, topic_id: id.0, ..MetadataResponseTopic::default() }
}

fn describe(image: &ClusterImage, topic: &Topic) -> MetadataResponseTopic {
    let entry = |(id, partition): (TopicPartition, &Partition)| {
        let is_led = partition.leader != NO_LEADER;
        MetadataResponsePartition {
            error_code: if is_led { 0 } else { ErrorCode::LeaderNotAvailable.code() },
            partition_index: id.partition,
            leader_id: partition.leader,
            leader_epoch: partition.leader_epoch,
            replica_nodes: partition.replicas.clone(),
            isr_nodes: partition.isr.clone(),
            offline_replicas: offline_replicas(image, partition),
            ..MetadataResponsePartition::default()
        }
    };
    MetadataResponseTopic {
        name: Some(Str::from(topic.name.to_string())),
        topic_id: topic.id.0,
        is_internal: topic.name.is_internal(),
        partitions: image.partitions_of(topic.id).map(entry).collect(),
        ..MetadataResponseTopic::default()
    }
}
