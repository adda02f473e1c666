//! What leaves of the tree, such as SQL and Iceberg tables, see of a running node: values of one moment, and the archive.
//!
//! Everything else they learn as any client does, through the Kafka protocol.

use std::path::PathBuf;
use std::sync::Arc;

use cold_tier::ColdTier;
use coordinator::cluster::{Cluster, NO_LEADER};
use model::archive::{PartitionArchive, TopicArchive};
use model::{LeaderEpoch, TimestampMs, TopicPartition};
use tokio::sync::OnceCell;

use crate::broker::{Broker, LISTENER};
use crate::config::layers::DefaultLayers;
use crate::config::{BrokerSettings, HostPort};

/// A node as others see it. Cheap to clone. Until the node is open there is nothing to see: every answer is `None`.
#[derive(Debug, Clone, Default)]
pub struct View(pub(crate) Arc<OnceCell<Arc<Broker>>>);

impl View {
    fn broker(&self) -> Option<&Arc<Broker>> {
        self.0.get()
    }

    /// All topics with their archives, in the order of their names, internal ones included: all of one moment.
    #[must_use]
    pub fn topics(&self) -> Option<Vec<TopicArchive>> {
        let broker = self.broker()?;
        let image = broker.metadata.image();
        let layers = DefaultLayers::of(&broker.config.settings, &image, broker.config.node_id);
        Some(image.topics().map(|topic| topic_archive(&image, topic, &layers)).collect())
    }

    /// The topic of that name; `Some(None)` when there is none.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<Option<TopicArchive>> {
        let broker = self.broker()?;
        let image = broker.metadata.image();
        let layers = DefaultLayers::of(&broker.config.settings, &image, broker.config.node_id);
        Some(image.topic(name).map(|topic| topic_archive(&image, topic, &layers)))
    }

    /// The leader epoch in which this node leads the partition, while it does.
    #[must_use]
    pub fn term(&self, id: TopicPartition) -> Option<LeaderEpoch> {
        self.broker()?.partitions.leader_by_id(id.topic_id, id.partition).ok()?.term()
    }

    /// The names of all topics, internal ones included, in their order.
    #[must_use]
    pub fn topic_names(&self) -> Option<Vec<String>> {
        let image = self.broker()?.metadata.image();
        Some(image.topics().map(|topic| topic.name.to_string()).collect())
    }

    /// How another process reaches the archive: its URL, the cluster's id and the deadline of calls; the rest as by default.
    /// The URL may hold secrets.
    #[must_use]
    pub fn store(&self) -> Option<cold_tier::Config> {
        let broker = self.broker()?;
        Some(cold_tier::Config {
            url: broker.config.object_store_url(),
            cluster_id: broker.metadata.image().cluster_id().to_owned(),
            call_timeout: broker.config.settings.broker.object_store_timeout,
            ..cold_tier::Config::default()
        })
    }

    /// The archive.
    #[must_use]
    pub fn cold(&self) -> Option<ColdTier> {
        self.broker().map(|broker| broker.cold.clone())
    }

    /// The time in ms as the node takes it for decisions that cannot be taken back: leaps of the wall clock come late.
    #[must_use]
    pub fn settled_ms(&self) -> Option<TimestampMs> {
        self.broker().map(|broker| broker.clock.settled_ms())
    }

    /// The node's own settings.
    #[must_use]
    pub fn settings(&self) -> Option<BrokerSettings> {
        self.broker().map(|broker| broker.config.settings.broker.clone())
    }

    /// The folder of the log and the metadata.
    #[must_use]
    pub fn data_dir(&self) -> Option<PathBuf> {
        self.broker().map(|broker| broker.config.data_dir.clone())
    }

    /// Where Kafka clients reach this node.
    #[must_use]
    pub fn advertised(&self) -> Option<HostPort> {
        let broker = self.broker()?;
        let image = broker.metadata.image();
        let listeners = &image.broker(broker.config.node_id)?.listeners;
        let listener = listeners.iter().find(|listener| listener.name == LISTENER)?;
        Some(HostPort { host: listener.host.clone(), port: listener.port })
    }
}

fn topic_archive(image: &Cluster, topic: &coordinator::cluster::Topic, layers: &DefaultLayers<'_>) -> TopicArchive {
    let partitions = image.partitions_of(topic.id).map(|(id, partition)| PartitionArchive {
        leader: (partition.leader != NO_LEADER).then_some(partition.leader),
        log_start: partition.log_start,
        pointer: image.archive(id).cloned(),
    });
    TopicArchive {
        name: topic.name.clone(),
        id: topic.id,
        settings: layers.resolve(&topic.configs),
        partitions: partitions.collect(),
    }
}
