//! Changes of the cluster: the only way its state moves, and the entries of the metadata log
//! (`docs/formats/metadata.md`).
//!
//! Fields and variants may be added, with a serde default; none may change its meaning, since old logs are replayed.

use model::archive::ManifestPointer;
use model::settings::SettingsMap;
use model::{NodeId, ProducerId, TimestampMs, TopicId, TopicPartition};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Broker, CommandId, Partition, Reply, Topic};

/// One change of the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// The cluster exists; written again when its object store gets an identity or another one.
    ClusterCreated {
        /// Its id.
        cluster_id: String,
        /// When.
        created_ms: TimestampMs,
        /// Identity of its object store. From metadata version 4 on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        store_id: Option<Uuid>,
    },
    /// These rules are valid from here on.
    MetadataVersionSet {
        /// Their version.
        version: u16,
    },
    /// A broker registered, for the first time or again.
    BrokerRegistered(Broker),
    /// A broker may lead no longer, or again, or is about to stop.
    BrokerFencingChanged {
        /// Which.
        broker_id: NodeId,
        /// True when it may not lead.
        is_fenced: bool,
        /// True when it is about to stop.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_shutting_down: bool,
    },
    /// A broker is gone for good.
    BrokerUnregistered {
        /// Which.
        broker_id: NodeId,
    },
    /// Broker epochs below this may have been given out.
    BrokerEpochsRaised {
        /// The first free one.
        next: i64,
    },
    /// A topic exists, without partitions yet.
    TopicCreated(Topic),
    /// A partition exists, or has changed. New ones come in the order of their indexes.
    PartitionSet {
        /// Which.
        id: TopicPartition,
        /// Its state.
        partition: Partition,
    },
    /// A topic's own settings, all of them.
    TopicConfigsSet {
        /// Which topic.
        topic_id: TopicId,
        /// Its settings.
        configs: SettingsMap,
    },
    /// A broker's own settings, all of them; without a broker, those of the whole cluster.
    BrokerConfigsSet {
        /// Which broker.
        #[serde(default)]
        broker_id: Option<NodeId>,
        /// Its settings.
        configs: SettingsMap,
    },
    /// A topic is gone, save for its archive.
    TopicDeleted {
        /// Which.
        topic_id: TopicId,
        /// When.
        deleted_ms: TimestampMs,
    },
    /// Nothing is left of a deleted topic.
    ArchivePurged {
        /// Which.
        topic_id: TopicId,
    },
    /// The archive ledger has a new entry for a partition.
    ArchiveCommitted {
        /// Which partition.
        partition: TopicPartition,
        /// The entry.
        pointer: ManifestPointer,
    },
    /// Producer ids below this are taken.
    ProducerIdsAllocated {
        /// The first free one.
        next: ProducerId,
    },
    /// A command was answered.
    Answered {
        /// Which.
        id: CommandId,
        /// How.
        reply: Reply,
    },
}
