//! Records become true. Total: a record that does not fit the state (which no decision makes) changes nothing.

use std::sync::Arc;

use model::settings::SettingsMap;
use model::{NodeId, TimestampMs, TopicId, TopicPartition};

use super::{Broker, Cluster, DeletedTopic, Partition, Record, Topic, all_of};

impl Cluster {
    /// Makes a record true.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::ClusterCreated { cluster_id, created_ms, store_id } => {
                self.cluster_id = cluster_id;
                self.created_ms = created_ms;
                self.store_id = store_id;
            }
            Record::MetadataVersionSet { version } => self.metadata_version = version,
            Record::BrokerRegistered(broker) => self.put_broker(broker),
            Record::BrokerFencingChanged { broker_id, is_fenced, is_shutting_down } => {
                self.change_broker(broker_id, |old| Broker { is_fenced, is_shutting_down, ..old });
            }
            Record::BrokerUnregistered { broker_id } => {
                self.brokers.remove(&broker_id);
            }
            Record::BrokerEpochsRaised { next } => {
                self.next_broker_epoch = self.next_broker_epoch.max(next);
                self.was_recovered = true;
            }
            Record::TopicCreated(topic) => self.put_topic(topic),
            Record::PartitionSet { id, partition } => self.put_partition(id, partition),
            Record::TopicConfigsSet { topic_id, configs } => {
                self.change_topic(topic_id, |topic| topic.configs = configs)
            }
            Record::BrokerConfigsSet { broker_id, configs } => self.put_broker_configs(broker_id, configs),
            Record::TopicDeleted { topic_id, deleted_ms } => self.bury_topic(topic_id, deleted_ms),
            Record::ArchivePurged { topic_id } => self.forget_topic(topic_id),
            Record::ArchiveCommitted { partition, pointer } => {
                self.archive.insert(partition, Arc::new(pointer));
            }
            Record::ProducerIdsAllocated { next } => self.next_producer_id = next,
            Record::Answered { id, reply } => self.remember(id, reply),
        }
    }

    fn put_broker(&mut self, broker: Broker) {
        self.next_broker_epoch = self.next_broker_epoch.max(broker.epoch.saturating_add(1));
        self.brokers.insert(broker.id, Arc::new(broker));
    }

    fn change_broker(&mut self, id: NodeId, change: impl FnOnce(Broker) -> Broker) {
        if let Some(broker) = self.broker(id) {
            let broker = change(broker.clone());
            self.brokers.insert(id, Arc::new(broker));
        }
    }

    fn put_topic(&mut self, topic: Topic) {
        let topic = Arc::new(topic);
        self.index_name(&topic);
        self.topics.insert(topic.id, topic);
    }

    pub(super) fn index_name(&mut self, topic: &Topic) {
        self.names.insert(topic.name.clone(), topic.id);
        if let Some(metric_name) = metric_name(&topic.name) {
            self.metric_names.insert(metric_name, topic.name.clone());
        }
    }

    fn put_partition(&mut self, id: TopicPartition, partition: Partition) {
        let is_new = self.partitions.insert(id, Arc::new(partition)).is_none();
        if is_new {
            self.change_topic(id.topic_id, |topic| topic.partitions += 1);
        }
    }

    fn change_topic(&mut self, id: TopicId, change: impl FnOnce(&mut Topic)) {
        if let Some(topic) = self.topics.remove(&id) {
            let mut topic = topic;
            change(Arc::make_mut(&mut topic));
            self.topics.insert(id, topic);
        }
    }

    fn put_broker_configs(&mut self, id: Option<NodeId>, configs: SettingsMap) {
        match id {
            None => self.cluster_configs = Arc::new(configs),
            Some(id) if configs.is_empty() => {
                self.broker_configs.remove(&id);
            }
            Some(id) => {
                self.broker_configs.insert(id, Arc::new(configs));
            }
        }
    }

    fn bury_topic(&mut self, id: TopicId, deleted_ms: TimestampMs) {
        let Some(topic) = self.topics.remove(&id) else { return };
        self.names.remove(&topic.name);
        if let Some(metric_name) = metric_name(&topic.name) {
            self.metric_names.remove(&metric_name);
        }
        for partition in 0..topic.partitions {
            self.partitions.remove(&TopicPartition { topic_id: id, partition });
        }
        let (name, partitions) = (topic.name.clone(), topic.partitions);
        self.deleted_topics.insert(id, Arc::new(DeletedTopic { id, name, partitions, deleted_ms }));
    }

    fn forget_topic(&mut self, id: TopicId) {
        self.deleted_topics.remove(&id);
        let entries: Vec<TopicPartition> = self.archive.range(all_of(id)).map(|(id, _)| *id).collect();
        for entry in entries {
            self.archive.remove(&entry);
        }
    }
}

/// The form in metric names of a topic name that could collide with another.
pub(super) fn metric_name(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}
