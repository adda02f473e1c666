//! What several topic APIs share: creating topics and finding out how they are doing.

use std::collections::HashMap;
use std::sync::Arc;

use coordinator::cluster::{
    Cluster, Command, CreatedTopic, Layout, MAX_PARTITIONS_PER_COMMAND, NewTopic, Partition, RemovedTopic, Reply,
    TopicRef,
};
use model::topic_name::{GROUP_OFFSETS_TOPIC, INTERNAL_TOPICS, InvalidTopicName};
use model::{NodeId, TopicName};
use protocol::{ErrorCode, Str};

use super::errors::Refusal;
use crate::broker::Broker;
use crate::metadata::parts::{InParts, encoded_len};
use crate::metadata::{ClusterImage, new_topic_id};

/// The allowed operations were not asked for, or are unknown without authorization.
pub(super) const OPERATIONS_UNKNOWN: i32 = i32::MIN;
/// Every operation on a topic (read, write, create, delete, alter, describe and their configs), as Kafka's bit set.
pub(super) const ALL_TOPIC_OPERATIONS: i32 = 0x0df8;
/// "There is no controller."
const NO_CONTROLLER: NodeId = -1;
/// For so many milliseconds after its creation a cluster waits for the nodes that it was created with.
const YOUNG_CLUSTER_MS: i64 = 60_000;
/// Bytes that a record of one topic or partition takes in the metadata log beside what the request says, at most.
pub(super) const RECORD_BYTES: usize = 512;
/// Every operation on the cluster (create, alter, describe, cluster action, describe and alter its configs, idempotent
/// write), as Kafka's bit set: bit n is the operation with ACL code n.
pub(super) const ALL_CLUSTER_OPERATIONS: i32 = 0x1fa0;

/// Tells a name that no topic can have from one that no topic has.
///
/// # Errors
/// `INVALID_TOPIC_EXCEPTION` with the rule that the name breaks.
pub(super) fn check_topic_name(name: &str) -> Result<(), Refusal> {
    let invalid = |error: InvalidTopicName| Refusal::new(ErrorCode::InvalidTopicException, error.to_string());
    TopicName::new(name).map(drop).map_err(invalid)
}

/// Creates topics, each for itself, and opens their partitions.
pub(crate) async fn create(
    broker: &Arc<Broker>,
    topics: Vec<NewTopic>,
    validate_only: bool,
) -> Vec<Result<CreatedTopic, Refusal>> {
    let partitions = topics.iter().map(|topic| topic.layout.partitions()).fold(0, i64::saturating_add);
    // The cluster refuses so many at once: it must see all of them.
    let is_too_many = partitions > MAX_PARTITIONS_PER_COMMAND;
    let bytes = |topic: &NewTopic| if is_too_many { 0 } else { encoded_len(topic) };
    let outcomes = |reply| match reply {
        Reply::TopicsCreated(outcomes) => Some(outcomes),
        _ => None,
    };
    let how = InParts { command: |topics| Command::CreateTopics { topics, validate_only }, outcomes };
    let outcomes = broker.metadata.submit_in_parts(topics, bytes, how).await;
    broker.follow_metadata().await;
    outcomes.into_iter().map(|outcome| outcome.map_err(Refusal::from)).collect()
}

/// Deletes topics, each for itself, and closes their partitions.
pub(crate) async fn delete(broker: &Arc<Broker>, topics: Vec<TopicRef>) -> Vec<Result<RemovedTopic, Refusal>> {
    let outcomes = |reply| match reply {
        Reply::TopicsDeleted(outcomes) => Some(outcomes),
        _ => None,
    };
    let how = InParts { command: |topics| Command::DeleteTopics { topics }, outcomes };
    let outcomes = broker.metadata.submit_in_parts(topics, |topic| encoded_len(topic) + RECORD_BYTES, how).await;
    broker.follow_metadata().await;
    outcomes.into_iter().map(|outcome| outcome.map_err(Refusal::from)).collect()
}

/// A topic under the broker's defaults.
pub(crate) fn new_topic(broker: &Broker, name: &str) -> NewTopic {
    let settings = &broker.config.settings.broker;
    let (partitions, replication_factor) = (settings.num_partitions, settings.default_replication_factor);
    let layout = Layout::Placed { partitions, replication_factor };
    NewTopic { id: new_topic_id(), name: name.to_owned(), layout, configs: Vec::new(), wanted_replicas: None }
}

/// How many replicas `__consumer_offsets` gets at first: as many as are wanted and as there are brokers. It waits for the
/// others, and gets them when there are enough brokers.
///
/// The first group often comes while a cluster still starts, and its topic would lack replicas for ever: a young cluster
/// waits for the nodes that it was created with.
fn group_offsets_replicas(broker: &Broker) -> Result<i16, ErrorCode> {
    let wanted = broker.config.settings.broker.offsets_topic_replication_factor;
    let image = broker.metadata.image();
    let count = |nodes: usize| i16::try_from(nodes).unwrap_or(i16::MAX);
    let active = count(image.brokers().filter(|broker| broker.is_active()).count());
    let expected = wanted.min(count(broker.metadata.quorum().voters.len()));
    let is_young = broker.clock.settled_ms() < image.created_ms().saturating_add(YOUNG_CLUSTER_MS);
    if active == 0 || (active < expected && is_young) {
        return Err(ErrorCode::CoordinatorNotAvailable);
    }
    Ok(wanted.min(active))
}

/// `__consumer_offsets`. It is not archived: its history is of no use to anyone but the group coordinator.
fn group_offsets_topic(broker: &Broker) -> Result<NewTopic, ErrorCode> {
    let partitions = broker.config.settings.broker.offsets_topic_partitions;
    let replication_factor = group_offsets_replicas(broker)?;
    let setting = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
    Ok(NewTopic {
        id: new_topic_id(),
        name: GROUP_OFFSETS_TOPIC.to_owned(),
        layout: Layout::Placed { partitions, replication_factor },
        configs: vec![
            setting("compression.type", "producer"),
            setting("remote.storage.enable", "false"),
            setting("retention.bytes", "-1"),
            setting("retention.ms", "-1"),
            setting("segment.bytes", "104857600"),
        ],
        wanted_replicas: usize::try_from(broker.config.settings.broker.offsets_topic_replication_factor).ok(),
    })
}

/// A cluster that has so many partitions gets no more by naming topics: those have to be created on purpose.
const MAX_PARTITIONS_ON_DEMAND: usize = 20_000;

/// Creates topics because a client asked for them (`auto.create.topics.enable`), or because they are ours. Returns why some of
/// them do not exist.
pub(crate) async fn create_on_demand(
    broker: &Arc<Broker>,
    names: impl Iterator<Item = &Str>,
) -> HashMap<Str, ErrorCode> {
    let (mut topics, mut refused) = (Vec::new(), HashMap::new());
    let image = broker.metadata.image();
    let partitions: usize = image.topics().map(|topic| usize::try_from(topic.partitions).unwrap_or(0)).sum();
    for name in names {
        let topic = match &**name {
            GROUP_OFFSETS_TOPIC => group_offsets_topic(broker),
            name if INTERNAL_TOPICS.contains(&name) || TopicName::is_reserved(name) => {
                Err(ErrorCode::UnknownTopicOrPartition)
            }
            _ if partitions >= MAX_PARTITIONS_ON_DEMAND => Err(ErrorCode::PolicyViolation),
            name => Ok(new_topic(broker, name)),
        };
        match topic {
            Ok(topic) => topics.push(topic),
            Err(code) => drop(refused.insert(name.clone(), code)),
        }
    }
    let names: Vec<Str> = topics.iter().map(|topic| Str::from(topic.name.clone())).collect();
    let outcomes = create(broker, topics, false).await;
    let failed = names.into_iter().zip(outcomes).filter_map(|(name, outcome)| Some((name, outcome.err()?.code)));
    refused.extend(failed.filter(|(_, code)| *code != ErrorCode::TopicAlreadyExists));
    refused
}

/// Replicas of a partition whose brokers are not alive.
pub(super) fn offline_replicas(image: &ClusterImage, partition: &Partition) -> Vec<i32> {
    partition.replicas.iter().copied().filter(|id| !image.is_alive(*id)).collect()
}

/// Whom clients send their changes to: the node that leads the metadata log. While it is not known or serves no clients,
/// another one, which passes changes on (Apache Kafka answers with any broker that is alive).
pub(super) fn controller_id(broker: &Broker, image: &ClusterImage) -> NodeId {
    controller_of(image, broker.metadata.controller(), broker.config.node_id)
}

/// One of the brokers that clients see: librdkafka waits for ever for a controller that is not among them. Our own node
/// is not, as long as it starts.
fn controller_of(image: &Cluster, leader: Option<NodeId>, own: NodeId) -> NodeId {
    let mut candidates = leader.into_iter().chain([own]).chain(image.brokers().map(|broker| broker.id));
    candidates.find(|id| image.is_alive(*id)).unwrap_or(NO_CONTROLLER)
}

#[cfg(test)]
mod tests {
    use coordinator::cluster::{Broker, Record};

    use super::*;

    #[test]
    fn clients_are_told_a_controller_that_is_among_the_brokers_they_are_told() {
        let with_fenced = |fenced: &[NodeId]| {
            let mut cluster = Cluster::new();
            for id in 1..=3 {
                let registered = serde_json::json!({
                    "id": id, "epoch": 1, "incarnation": uuid::Uuid::nil(), "listeners": [],
                    "is_fenced": fenced.contains(&id),
                });
                let broker: Broker = serde_json::from_value(registered).unwrap();
                cluster.apply(Record::BrokerRegistered(broker));
            }
            cluster
        };
        let told = |fenced: &[NodeId], leader| controller_of(&with_fenced(fenced), leader, 1);
        assert_eq!(told(&[], Some(2)), 2);
        assert_eq!([told(&[2], Some(2)), told(&[], None)], [1, 1], "this node passes changes on");
        assert_eq!(told(&[1], Some(1)), 2, "this node leads the log and is not ready yet");
        assert_eq!(told(&[1, 2], None), 3);
        assert_eq!(told(&[1, 2, 3], Some(2)), NO_CONTROLLER);
    }
}
