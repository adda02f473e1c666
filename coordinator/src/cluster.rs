//! The cluster's metadata as a pure machine: brokers, topics, leaders and ISRs, settings, producer ids, archive ledger.
//!
//! [`Cluster::decide`] turns a command into records and a reply, [`Cluster::apply`] makes a record true; nothing else
//! changes the state. The metadata log holds the records, so that a decision is never made a second time, not even by a
//! newer build with other rules. What [`Cluster::apply`] makes of a record must therefore stay as it is; where it cannot, the
//! change waits for a new [`Cluster::metadata_version`].
//!
//! A [`Cluster`] is also the image that brokers read: copies share what they have in common (`crate::shared_map`).
//!
//! Invariants:
//! - topic names and ids are unique, and an id is never used again while its archive exists;
//! - a topic's partitions are `0..topic.partitions`; `isr ⊆ replicas`; the leader is in the ISR, or there is none;
//! - no broker is in both the ISR and the ELR (KIP-966); the members of both have all that was acknowledged, or there is no leader
//!   without loss ([`Partition`]);
//! - leader epochs, partition epochs, log starts, broker epochs, producer ids and ledger versions only grow;
//! - in the ledger, `log_start ≤ archived_end`, and neither goes backwards;
//! - the ledger has entries for partitions of existing topics and of deleted ones that are not purged, and no others.

use std::sync::Arc;

use model::archive::ManifestPointer;
use model::settings::SettingsMap;
use model::{NodeId, ProducerId, TimestampMs, TopicId, TopicName, TopicPartition};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

mod answers;
mod apply;
mod archive;
mod broker;
mod command;
mod configs;
mod draft;
mod election;
mod error;
mod isr;
mod layers;
mod leadership;
mod log_start;
mod on_request;
mod placement;
mod reassignment;
mod record;
mod recovered;
mod registration;
mod reply;
mod store_identity;
mod topic;
mod topics;
mod versions;
mod waiting;

pub use crate::shared_map::SharedMap;
pub use answers::REMEMBERED_ANSWERS;
pub use broker::{Broker, Listener};
pub use command::{
    ArchiveCommit, BrokerRef, Command, CommandId, ConfigChange, ConfigEdit, ConfigOp, ConfigOpKind, ConfigResource,
    ElectionKind, IsrChange, Layout, LogStartMove, MorePartitions, NewTopic, Reassignment, RegisterBroker, Submission,
    TopicRef,
};
pub use error::ClusterError;
pub use record::Record;
pub use reply::{AlteredPartition, ArchiveReply, CreatedTopic, RemovedTopic, Reply};
pub use topic::{DeletedTopic, NO_LEADER, Partition, Topic};
pub use topics::MAX_PARTITIONS_PER_COMMAND;
pub use versions::{METADATA_VERSION, MetadataVersions, VersionChange};

use draft::Draft;

/// Producer ids handed out at once, as in Kafka.
pub const PRODUCER_ID_BLOCK: i64 = 1000;

/// The state. See the module's page for its invariants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    cluster_id: String,
    created_ms: TimestampMs,
    metadata_version: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    store_id: Option<Uuid>,
    next_broker_epoch: i64,
    next_producer_id: ProducerId,
    brokers: SharedMap<NodeId, Arc<Broker>>,
    cluster_configs: Arc<SettingsMap>,
    broker_configs: SharedMap<NodeId, Arc<SettingsMap>>,
    topics: SharedMap<TopicId, Arc<Topic>>,
    partitions: SharedMap<TopicPartition, Arc<Partition>>,
    archive: SharedMap<TopicPartition, Arc<ManifestPointer>>,
    deleted_topics: SharedMap<TopicId, Arc<DeletedTopic>>,
    answers: SharedMap<CommandId, Arc<Reply>>,
    #[serde(skip_serializing_if = "is_false")]
    was_recovered: bool,
    /// Follows from `topics`.
    #[serde(skip)]
    names: SharedMap<TopicName, TopicId>,
    /// Follows from `topics`: the names with '.' or '_', by their form in metric names.
    #[serde(skip)]
    metric_names: SharedMap<String, TopicName>,
}

/// What a command leads to: records to apply, in order, and the answer to the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// To be applied in this order.
    pub records: Vec<Record>,
    /// To be given once the records are durable.
    pub reply: Reply,
}

impl Cluster {
    /// A cluster before its first command.
    #[must_use]
    pub fn new() -> Self {
        Cluster::default()
    }

    /// What the command leads to at `now` (ms since the Unix epoch). Changes nothing.
    #[must_use]
    pub fn decide(&self, submission: &Submission, now: TimestampMs) -> Decision {
        match self.answer_before(submission.id) {
            Ok(None) => {}
            Ok(Some(reply)) => return Decision { records: Vec::new(), reply },
            Err(error) => return Decision { records: Vec::new(), reply: Reply::Refused(error) },
        }
        let mut draft = Draft::new(self, now);
        match draft.run(&submission.command) {
            Ok(reply) => draft.into_decision(submission.id, reply),
            Err(error) => Decision { records: Vec::new(), reply: Reply::Refused(error) },
        }
    }

    /// When time alone changes something: never. A lost broker is noticed by the leader of the metadata log, which says so
    /// with [`Command::FenceBroker`]; nothing else in here ages.
    #[must_use]
    pub fn next_deadline(&self) -> Option<TimestampMs> {
        None
    }

    /// The cluster's id, empty before CreateCluster.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// When the cluster was created.
    #[must_use]
    pub fn created_ms(&self) -> TimestampMs {
        self.created_ms
    }

    /// Identity of the object store that holds the archive; none before metadata version 4, and until a broker has told it.
    #[must_use]
    pub fn store_id(&self) -> Option<Uuid> {
        self.store_id
    }

    /// The rules that are valid; see [`MetadataVersions`].
    #[must_use]
    pub fn metadata_version(&self) -> u16 {
        self.metadata_version
    }

    /// The registered brokers by id, fenced ones included.
    pub fn brokers(&self) -> impl DoubleEndedIterator<Item = &Broker> {
        self.brokers.values().map(Arc::as_ref)
    }

    /// A registered broker.
    #[must_use]
    pub fn broker(&self, id: NodeId) -> Option<&Broker> {
        self.brokers.get(&id).map(Arc::as_ref)
    }

    /// True when the broker is registered and not fenced.
    #[must_use]
    pub fn is_alive(&self, id: NodeId) -> bool {
        self.broker(id).is_some_and(|broker| !broker.is_fenced)
    }

    /// True when the broker can be given leaderships, and places in ISRs: it is alive and not about to stop.
    #[must_use]
    pub fn is_active(&self, id: NodeId) -> bool {
        self.broker(id).is_some_and(Broker::is_active)
    }

    /// The settings of one broker, as they were set dynamically.
    #[must_use]
    pub fn broker_configs(&self, id: NodeId) -> Option<&SettingsMap> {
        self.broker_configs.get(&id).map(Arc::as_ref)
    }

    /// The settings of all brokers, as they were set dynamically.
    #[must_use]
    pub fn cluster_configs(&self) -> &SettingsMap {
        &self.cluster_configs
    }

    /// Number of topics.
    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Number of partitions of all topics.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.partitions.len()
    }

    /// The topics in the order of their names.
    pub fn topics(&self) -> impl DoubleEndedIterator<Item = &Topic> {
        self.names.values().filter_map(|id| self.topic_by_id(*id))
    }

    /// The topic of that name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.names.get(name).and_then(|id| self.topic_by_id(*id))
    }

    /// The topic of that id.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(&id).map(Arc::as_ref)
    }

    /// A partition's replicas and leader.
    #[must_use]
    pub fn partition(&self, id: TopicPartition) -> Option<&Partition> {
        self.partitions.get(&id).map(Arc::as_ref)
    }

    /// The partitions of a topic, in the order of their indexes.
    pub fn partitions_of(&self, topic_id: TopicId) -> impl Iterator<Item = (TopicPartition, &Partition)> {
        self.partitions.range(all_of(topic_id)).map(|(id, partition)| (*id, partition.as_ref()))
    }

    /// All partitions, in the order of topic id and index.
    pub fn partitions(&self) -> impl DoubleEndedIterator<Item = (TopicPartition, &Partition)> {
        self.partitions.iter().map(|(id, partition)| (*id, partition.as_ref()))
    }

    /// The partitions whose replicas change.
    pub fn reassignments(&self) -> impl DoubleEndedIterator<Item = (TopicPartition, &Partition)> {
        self.partitions().filter(|(_, partition)| partition.is_reassigning())
    }

    /// A partition's entry in the archive ledger, also while its topic is deleted but not purged.
    #[must_use]
    pub fn archive(&self, id: TopicPartition) -> Option<&Arc<ManifestPointer>> {
        self.archive.get(&id)
    }

    /// The whole archive ledger.
    pub fn archives(&self) -> impl DoubleEndedIterator<Item = (TopicPartition, &Arc<ManifestPointer>)> {
        self.archive.iter().map(|(id, pointer)| (*id, pointer))
    }

    /// The deleted topics whose archive must still be removed.
    pub fn deleted_topics(&self) -> impl DoubleEndedIterator<Item = &DeletedTopic> {
        self.deleted_topics.values().map(Arc::as_ref)
    }

    /// A deleted topic whose archive must still be removed.
    #[must_use]
    pub fn deleted_topic(&self, id: TopicId) -> Option<&DeletedTopic> {
        self.deleted_topics.get(&id).map(Arc::as_ref)
    }

    /// True when nothing but the archive ledger, producer ids and remembered answers can differ between two images: topics,
    /// partitions, brokers and settings are shared. Cheap; images that are merely equal may count as different.
    #[must_use]
    pub fn shares_layout_with(&self, other: &Cluster) -> bool {
        self.topics.is_same(&other.topics)
            && self.partitions.is_same(&other.partitions)
            && self.deleted_topics.is_same(&other.deleted_topics)
            && self.brokers.is_same(&other.brokers)
            && self.broker_configs.is_same(&other.broker_configs)
            && Arc::ptr_eq(&self.cluster_configs, &other.cluster_configs)
    }

    /// Producer ids below this were handed out.
    #[must_use]
    pub fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }

    /// True when these metadata once were a copy that may have lacked changes: the bucket may hold objects that the ledger
    /// would name if nothing had been lost.
    #[must_use]
    pub fn was_recovered(&self) -> bool {
        self.was_recovered
    }

    /// Must be called on a value that serde made: it fills in what follows from the rest.
    #[must_use]
    pub fn restored(mut self) -> Self {
        self.names = SharedMap::new();
        self.metric_names = SharedMap::new();
        let topics: Vec<Arc<Topic>> = self.topics.values().cloned().collect();
        for topic in topics {
            self.index_name(&topic);
        }
        self
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The range of a topic's partitions.
fn all_of(topic_id: TopicId) -> std::ops::RangeInclusive<TopicPartition> {
    TopicPartition { topic_id, partition: 0 }..=TopicPartition { topic_id, partition: i32::MAX }
}

#[cfg(test)]
mod tests;
