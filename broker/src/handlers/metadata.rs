//! Metadata: brokers, topics, and who leads what; creates topics on demand.

use coordinator::cluster::{Broker, NO_LEADER, Partition, Topic};
use model::{TopicId, TopicName, TopicPartition};
use protocol::Str;
use protocol::error_code::ErrorCode;
use protocol::messages::metadata_request::MetadataRequestTopic;
use protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use protocol::messages::{MetadataRequest, MetadataResponse};

use super::RequestContext;
use super::topics::{
    ALL_CLUSTER_OPERATIONS, ALL_TOPIC_OPERATIONS, OPERATIONS_UNKNOWN, controller_id, create_on_demand, offline_replicas,
};
use crate::broker::LISTENER;
use crate::metadata::ClusterImage;

/// First version in which an empty list means "no topics" instead of "all topics".
const EMPTY_MEANS_NONE: i16 = 1;

pub(super) async fn handle(context: &RequestContext<'_>, request: MetadataRequest) -> MetadataResponse {
    context.broker.metadata.confirm().await;
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
        topics.extend(image.topics().map(|topic| describe(&image, topic)));
    } else {
        for wanted in request.topics.unwrap_or_default() {
            topics.push(find(context, wanted, may_create).await);
        }
    }
    for topic in &mut topics {
        topic.topic_authorized_operations = topic_operations;
    }
    let image = context.broker.metadata.image();
    MetadataResponse {
        brokers: context.broker.metadata.named_brokers(&image).filter_map(broker_entry).collect(),
        cluster_id: Some(Str::from(image.cluster_id().to_owned())),
        controller_id: controller_id(context.broker, &image),
        topics,
        cluster_authorized_operations: operations(
            request.include_cluster_authorized_operations,
            ALL_CLUSTER_OPERATIONS,
        ),
        ..MetadataResponse::default()
    }
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

async fn find(context: &RequestContext<'_>, wanted: MetadataRequestTopic, may_create: bool) -> MetadataResponseTopic {
    let id = TopicId(wanted.topic_id);
    let Some(name) = wanted.name else {
        let image = context.broker.metadata.image();
        return match image.topic_by_id(id) {
            Some(topic) => describe(&image, topic),
            None => failed(None, id, ErrorCode::UnknownTopicId),
        };
    };
    if let Err(_invalid) = TopicName::new(&name) {
        return failed(Some(name), id, ErrorCode::InvalidTopicException);
    }
    let exists = context.broker.metadata.image().topic(&name).is_some();
    let created = if !exists && may_create { create_on_demand(context.broker, &name).await } else { Ok(()) };
    let image = context.broker.metadata.image();
    match (image.topic(&name), created) {
        (Some(topic), _) => describe(&image, topic),
        (None, Ok(())) => failed(Some(name), id, ErrorCode::UnknownTopicOrPartition),
        (None, Err(code)) => failed(Some(name), id, code),
    }
}

fn failed(name: Option<Str>, id: TopicId, code: ErrorCode) -> MetadataResponseTopic {
    let name = Some(name.unwrap_or_default());
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
