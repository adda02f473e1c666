//! Why the cluster refuses. The broker's handlers translate each variant to Kafka's error code.

use model::{LeaderEpoch, NodeId, Offset, TopicId, TopicPartition};
use serde::{Deserialize, Serialize};

/// A refusal. The texts go to the client as Kafka's error message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum ClusterError {
    /// Any other command came before CreateCluster.
    #[error("the cluster does not exist yet: its first command must create it")]
    NoCluster,
    /// A second CreateCluster.
    #[error("the cluster exists already and has the id {cluster_id}")]
    ClusterExists {
        /// Its id.
        cluster_id: String,
    },
    /// A metadata version that this cluster cannot have.
    #[error("metadata version {asked} is not possible: the cluster is at {current}, this build knows up to {newest}")]
    InvalidMetadataVersion {
        /// What was asked for.
        asked: u16,
        /// What is valid.
        current: u16,
        /// What this build can do.
        newest: u16,
    },
    /// A change of the metadata version that cannot be. Kafka: INVALID_UPDATE_VERSION.
    #[error("{reason}")]
    MetadataVersionRefused {
        /// What is in the way.
        reason: String,
    },
    /// The command contradicts itself. Kafka: INVALID_REQUEST.
    #[error("{reason}")]
    InvalidRequest {
        /// What is wrong.
        reason: String,
    },
    /// The answer to this command is no longer known: it may have been applied before.
    #[error("command {sequence} of broker {node_id} is too old: whether it was applied is no longer known")]
    Forgotten {
        /// The broker that asked.
        node_id: NodeId,
        /// Number of its command.
        sequence: u64,
    },
    /// Kafka: BROKER_ID_NOT_REGISTERED.
    #[error("broker {broker_id} is not registered")]
    UnknownBroker {
        /// Which.
        broker_id: NodeId,
    },
    /// Kafka: DUPLICATE_BROKER_REGISTRATION.
    #[error("broker {broker_id} is alive: {reason}")]
    BrokerIsAlive {
        /// Which broker.
        broker_id: NodeId,
        /// Why it must not be, and what to do.
        reason: String,
    },
    /// Kafka: STALE_BROKER_EPOCH.
    #[error("broker {broker_id} asked with epoch {given}, its registration has {current}: it must register again")]
    StaleBrokerEpoch {
        /// Which broker.
        broker_id: NodeId,
        /// Its epoch as it knows it.
        given: i64,
        /// Its epoch.
        current: i64,
    },
    /// Kafka: INVALID_TOPIC_EXCEPTION.
    #[error("{reason}")]
    InvalidTopicName {
        /// Which rule the name breaks.
        reason: String,
    },
    /// Kafka: INVALID_TOPIC_EXCEPTION, as '.' and '_' are the same in metric names.
    #[error(
        "the topic name {name:?} collides with the existing topic {existing:?}: '.' and '_' are not told apart in metrics"
    )]
    TopicCollision {
        /// The name that was asked for.
        name: String,
        /// The topic that exists.
        existing: String,
    },
    /// Kafka: TOPIC_ALREADY_EXISTS.
    #[error("the topic {name:?} exists already")]
    TopicExists {
        /// Its name.
        name: String,
    },
    /// The caller must draw another id.
    #[error("the topic id {id} is taken or reserved")]
    TopicIdTaken {
        /// The id.
        id: TopicId,
    },
    /// Kafka: UNKNOWN_TOPIC_OR_PARTITION.
    #[error("there is no topic {name:?}")]
    UnknownTopic {
        /// The name.
        name: String,
    },
    /// Kafka: UNKNOWN_TOPIC_ID.
    #[error("there is no topic with the id {id}")]
    UnknownTopicId {
        /// The id.
        id: TopicId,
    },
    /// Kafka: UNKNOWN_TOPIC_OR_PARTITION.
    #[error("there is no partition {partition}")]
    UnknownPartition {
        /// The partition.
        partition: TopicPartition,
    },
    /// Kafka: INVALID_PARTITIONS.
    #[error("{reason}")]
    InvalidPartitions {
        /// What is wrong.
        reason: String,
    },
    /// Kafka: INVALID_REPLICATION_FACTOR.
    #[error("{reason}")]
    InvalidReplicationFactor {
        /// What is wrong.
        reason: String,
    },
    /// Kafka: INVALID_REPLICA_ASSIGNMENT.
    #[error("{reason}")]
    InvalidReplicaAssignment {
        /// What is wrong.
        reason: String,
    },
    /// Kafka: INVALID_CONFIG.
    #[error("{reason}")]
    InvalidConfig {
        /// The setting.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Kafka: POLICY_VIOLATION.
    #[error("{reason}")]
    LimitExceeded {
        /// Which limit.
        reason: String,
    },
    /// Kafka: FENCED_LEADER_EPOCH.
    #[error("partition {partition} has leader epoch {current}, the command carries {given}")]
    FencedLeaderEpoch {
        /// Which partition.
        partition: TopicPartition,
        /// The epoch of the command.
        given: LeaderEpoch,
        /// The epoch that is valid.
        current: LeaderEpoch,
    },
    /// Kafka: UNKNOWN_LEADER_EPOCH.
    #[error("partition {partition} has leader epoch {current}, the command carries {given}, which has not begun")]
    UnknownLeaderEpoch {
        /// Which partition.
        partition: TopicPartition,
        /// The epoch of the command.
        given: LeaderEpoch,
        /// The epoch that is valid.
        current: LeaderEpoch,
    },
    /// Kafka: NOT_LEADER_OR_FOLLOWER.
    #[error("partition {partition} is led by {leader}, not by broker {broker_id}")]
    NotLeader {
        /// Which partition.
        partition: TopicPartition,
        /// Who asked.
        broker_id: NodeId,
        /// The leader, −1 for none.
        leader: NodeId,
    },
    /// Kafka: INVALID_UPDATE_VERSION.
    #[error("partition {partition} has partition epoch {current}, the change replaces {given}")]
    InvalidUpdateVersion {
        /// Which partition.
        partition: TopicPartition,
        /// The epoch that the change replaces.
        given: i32,
        /// The epoch that is valid.
        current: i32,
    },
    /// Kafka: INELIGIBLE_REPLICA.
    #[error("broker {broker_id} cannot join the ISR of {partition}: {reason}")]
    IneligibleReplica {
        /// Which partition.
        partition: TopicPartition,
        /// Which broker.
        broker_id: NodeId,
        /// Why not.
        reason: String,
    },
    /// Kafka: ELECTION_NOT_NEEDED.
    #[error("partition {partition} is led by {leader} already: no election is needed")]
    ElectionNotNeeded {
        /// Which partition.
        partition: TopicPartition,
        /// Who leads it.
        leader: NodeId,
    },
    /// Kafka: PREFERRED_LEADER_NOT_AVAILABLE.
    #[error("broker {broker_id}, the preferred leader of {partition}, is not in sync or cannot lead at present")]
    PreferredLeaderNotAvailable {
        /// Which partition.
        partition: TopicPartition,
        /// Its preferred leader.
        broker_id: NodeId,
    },
    /// Kafka: ELIGIBLE_LEADERS_NOT_AVAILABLE.
    #[error("no replica of {partition} can lead at present")]
    EligibleLeadersNotAvailable {
        /// Which partition.
        partition: TopicPartition,
    },
    /// Kafka: NO_REASSIGNMENT_IN_PROGRESS.
    #[error("partition {partition} is not being reassigned")]
    NoReassignment {
        /// Which partition.
        partition: TopicPartition,
    },
    /// A manifest pointer that breaks the ledger's invariants: a bug of the committer.
    #[error(
        "the manifest pointer for {partition} is impossible (log start {log_start}, archived end {archived_end}): {reason}"
    )]
    InvalidPointer {
        /// Which partition.
        partition: TopicPartition,
        /// Its log start.
        log_start: Offset,
        /// Its archived end.
        archived_end: Offset,
        /// What is wrong.
        reason: String,
    },
}
