//! Answers of the cluster. Some are kept in the state (see `CommandId`), hence their serde forms.

use model::archive::ManifestPointer;
use model::settings::SettingsMap;
use model::{LeaderEpoch, ProducerId, TopicId, TopicName, TopicPartition};
use serde::{Deserialize, Serialize};

use super::{ClusterError, Partition};

/// The answer to a command. Lists have one entry per entry of the command, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It is done, and there is nothing to say about it.
    Done,
    /// The command as a whole was refused and changed nothing.
    Refused(ClusterError),
    /// To RegisterBroker.
    BrokerRegistered {
        /// The broker's epoch from now on.
        broker_epoch: i64,
    },
    /// To ShutDownBroker.
    BrokerShutsDown {
        /// How many partitions it still leads, because no other member of their ISRs could.
        led_partitions: usize,
    },
    /// To CreateTopics.
    TopicsCreated(Vec<Result<CreatedTopic, ClusterError>>),
    /// To DeleteTopics.
    TopicsDeleted(Vec<Result<RemovedTopic, ClusterError>>),
    /// To CreatePartitions.
    PartitionsCreated(Vec<Result<(), ClusterError>>),
    /// To AlterConfigs.
    ConfigsAltered(Vec<Result<(), ClusterError>>),
    /// To AllocateProducerIds: the ids from `first`, `count` of them.
    ProducerIds {
        /// The first id.
        first: ProducerId,
        /// How many ids.
        count: i64,
    },
    /// To AlterPartitions and MoveLogStarts: the partitions as they are now.
    PartitionsAltered(Vec<Result<AlteredPartition, ClusterError>>),
    /// To ElectLeaders: what became of each partition.
    LeadersElected(Vec<(TopicPartition, Result<(), ClusterError>)>),
    /// To BalanceLeaders.
    LeadersBalanced {
        /// Leaderships that moved.
        moved: usize,
        /// True when more could have moved.
        is_more_left: bool,
    },
    /// To AlterReassignments.
    ReassignmentsAltered(Vec<Result<(), ClusterError>>),
    /// To AddWantedReplicas.
    ReplicasAdded {
        /// Partitions whose reassignment began.
        partitions: usize,
    },
    /// To ArchiveCommit.
    Archive(ArchiveReply),
}

/// A topic that was created, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedTopic {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// Number of its partitions.
    pub partitions: i32,
    /// Replicas of each.
    pub replication_factor: i16,
    /// Its own settings.
    pub configs: SettingsMap,
}

/// A topic that was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedTopic {
    /// The id that it had.
    pub id: TopicId,
    /// The name that it had.
    pub name: TopicName,
}

/// A partition after a change by its leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlteredPartition {
    /// Which.
    pub id: TopicPartition,
    /// Its state.
    pub partition: Partition,
}

/// The outcome of a commit to the archive ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArchiveReply {
    /// The ledger holds the new pointer.
    Committed,
    /// Another leadership has begun: the committer is no longer the one to commit.
    Fenced {
        /// The partition's leader epoch.
        current: LeaderEpoch,
    },
    /// The ledger does not hold the version that the commit replaces.
    VersionConflict {
        /// What it holds.
        current: Option<ManifestPointer>,
    },
}
