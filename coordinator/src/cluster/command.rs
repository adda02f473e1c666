//! Requests to the cluster. Their serde form travels between nodes of the same or a neighbouring version.
//!
//! Fields and variants may be added, with a serde default; none may change its meaning.

use model::archive::ManifestPointer;
use model::settings::SettingsMap;
use model::{LeaderEpoch, NodeId, Offset, TopicId, TopicPartition};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Listener;
use super::versions::{MetadataVersions, VersionChange};

/// A command as a client hands it in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// Makes the command apply once, however often it is handed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<CommandId>,
    /// What to do.
    pub command: Command,
}

impl From<Command> for Submission {
    fn from(command: Command) -> Self {
        Submission { id: None, command }
    }
}

/// Names one command of one broker process: handed in again, it is answered from memory, not applied again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CommandId {
    /// The broker that asks.
    pub node_id: NodeId,
    /// Its broker epoch, from its registration: with each, the numbers below start again.
    pub broker_epoch: i64,
    /// Number of the command within that, in the order of asking. Answers are kept for the last
    /// [`REMEMBERED_ANSWERS`](super::REMEMBERED_ANSWERS) numbers.
    pub sequence: u64,
}

/// What the cluster can be asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// The first command of all.
    CreateCluster {
        /// 22 characters of URL-safe base64, as Kafka's cluster ids.
        cluster_id: String,
        /// Rules to start with: 1 up to [`METADATA_VERSION`](super::METADATA_VERSION).
        metadata_version: u16,
    },
    /// Makes other rules valid, which all registered brokers must know.
    SetMetadataVersion {
        /// The new version.
        version: u16,
        /// Which way.
        #[serde(default, skip_serializing_if = "is_default")]
        change: VersionChange,
        /// Answer as if, change nothing.
        #[serde(default, skip_serializing_if = "is_default")]
        validate_only: bool,
    },
    /// A broker process presents itself.
    RegisterBroker(RegisterBroker),
    /// A broker is lost: it loses its leaderships, and its places in the ISRs that have another member.
    FenceBroker(BrokerRef),
    /// A broker is ready: it may lead.
    UnfenceBroker(BrokerRef),
    /// A broker is about to stop: it hands over what others can take, and is given nothing new until it registers again.
    /// Asked again, it hands over what has become possible since.
    ShutDownBroker(BrokerRef),
    /// A broker will not come back.
    UnregisterBroker {
        /// Which.
        broker_id: NodeId,
    },
    /// The metadata are a copy that may lack the newest changes: epochs and ids that these may have given out are passed
    /// over. To be said once, before anything else, after a recovery from the loss of the quorum.
    PassOverLostNumbers,
    /// Creates topics, each for itself.
    CreateTopics {
        /// The topics.
        topics: Vec<NewTopic>,
        /// Answer as if, change nothing.
        #[serde(default)]
        validate_only: bool,
    },
    /// Deletes topics, each for itself.
    DeleteTopics {
        /// The topics.
        topics: Vec<TopicRef>,
    },
    /// Adds partitions to topics, each for itself.
    CreatePartitions {
        /// The topics.
        topics: Vec<MorePartitions>,
        /// Answer as if, change nothing.
        #[serde(default)]
        validate_only: bool,
    },
    /// Changes settings of topics and brokers, each resource for itself and as a whole.
    AlterConfigs {
        /// The resources.
        changes: Vec<ConfigChange>,
        /// Answer as if, change nothing.
        #[serde(default)]
        validate_only: bool,
    },
    /// Asks for producer ids that no producer had before.
    AllocateProducerIds(BrokerRef),
    /// A leader changes the ISRs of its partitions, each for itself.
    AlterPartitions {
        /// The leader.
        broker: BrokerRef,
        /// The partitions.
        changes: Vec<IsrChange>,
    },
    /// A leader moves the log starts of its partitions, each for itself, before it shows them to readers. Changes nothing before
    /// metadata version 3.
    MoveLogStarts {
        /// The leader.
        broker: BrokerRef,
        /// The partitions.
        moves: Vec<LogStartMove>,
    },
    /// Elects leaders, of each partition for itself (KIP-460).
    ElectLeaders {
        /// How.
        kind: ElectionKind,
        /// Of which; none: of all, and the reply names only those for which there was something to do.
        #[serde(default)]
        partitions: Option<Vec<TopicPartition>>,
    },
    /// Returns leaderships to preferred leaders that can lead: what the leader of the metadata log asks from time to time.
    BalanceLeaders {
        /// Leaderships to move at once.
        at_most: usize,
    },
    /// Moves partitions to other brokers, each for itself (KIP-455). A new reassignment replaces one that is under way.
    AlterReassignments {
        /// Which, and where to.
        changes: Vec<Reassignment>,
        /// Refuse changes of the number of replicas.
        #[serde(default)]
        keep_replication_factor: bool,
    },
    /// Begins to give partitions the replicas that they wait for, where there are enough brokers by now: what the leader of
    /// the metadata log asks when brokers come. From metadata version 2 on.
    AddWantedReplicas {
        /// Partitions of the cluster that may be reassigned at a time.
        at_most: usize,
    },
    /// Keeps the identity of the object store that holds the archive. From metadata version 4 on.
    SetStoreId {
        /// What the store answers with.
        store_id: Uuid,
        /// The identity that it takes the place of; none for the first.
        #[serde(default, skip_serializing_if = "is_default")]
        replaces: Option<Uuid>,
    },
    /// Moves a partition's manifest pointer (D7).
    ArchiveCommit(ArchiveCommit),
    /// Nothing of a deleted topic is left in the archive.
    ArchivePurged {
        /// The deleted topic.
        topic_id: TopicId,
    },
}

/// A broker as it knows itself: stale epochs are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerRef {
    /// Its id.
    pub broker_id: NodeId,
    /// The epoch that its registration returned.
    pub broker_epoch: i64,
}

/// See [`Command::RegisterBroker`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterBroker {
    /// Its id.
    pub broker_id: NodeId,
    /// Random id of the process: the same one asking again keeps its epoch and its leaderships.
    pub incarnation: Uuid,
    /// Where it is reached.
    pub listeners: Vec<Listener>,
    /// Its rack.
    #[serde(default)]
    pub rack: Option<String>,
    /// Where other nodes reach it for the cluster's own calls.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub internal: String,
    /// Random id of what its disk holds, drawn when the data folder is made. None: as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_id: Option<Uuid>,
    /// The defaults for topic settings that its own configuration states, under the topic settings' names.
    #[serde(default, skip_serializing_if = "SettingsMap::is_empty")]
    pub topic_defaults: SettingsMap,
    /// The metadata versions that its build knows.
    #[serde(default, skip_serializing_if = "MetadataVersions::is_default")]
    pub metadata_versions: MetadataVersions,
    /// Not ready yet: it says so later by [`Command::UnfenceBroker`].
    #[serde(default)]
    pub is_fenced: bool,
}

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTopic {
    /// A fresh random id, drawn by the caller: the machine has no chance.
    pub id: TopicId,
    /// Unchecked: an invalid one is refused with the reason.
    pub name: String,
    /// How many partitions, and where.
    pub layout: Layout,
    /// Settings of the topic's own. A missing value is refused, as in Kafka.
    #[serde(default)]
    pub configs: Vec<(String, Option<String>)>,
    /// How many replicas its partitions shall have once there are enough brokers, if that is more than they get now. Without
    /// a meaning before metadata version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted_replicas: Option<usize>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Partitions and replicas of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// The cluster chooses the brokers: even, and spread over racks.
    Placed {
        /// At least 1. The caller fills in the default.
        partitions: i32,
        /// At least 1, at most the number of brokers. The caller fills in the default.
        replication_factor: i16,
    },
    /// The replicas of partition 0, 1, 2, …, the preferred leader first.
    Assigned(Vec<Vec<NodeId>>),
}

impl Layout {
    /// Number of partitions; unchecked.
    #[must_use]
    pub fn partitions(&self) -> i64 {
        match self {
            Layout::Placed { partitions, .. } => i64::from(*partitions).max(0),
            Layout::Assigned(assignment) => i64::try_from(assignment.len()).unwrap_or(i64::MAX),
        }
    }
}

/// A topic by one of its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopicRef {
    /// By its id.
    Id(TopicId),
    /// By its name.
    Name(String),
}

/// A topic that shall have more partitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MorePartitions {
    /// Which topic.
    pub name: String,
    /// Number of partitions afterwards.
    pub total: i32,
    /// The replicas of each new partition; without it, the cluster chooses.
    #[serde(default)]
    pub assignment: Option<Vec<Vec<NodeId>>>,
}

/// Whose settings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigResource {
    /// A topic's, by name.
    Topic(String),
    /// One broker's.
    Broker(NodeId),
    /// All brokers', where they have none of their own.
    Cluster,
}

/// A change of one resource's settings.
///
/// Topic settings are checked by [`model::settings`]. Which settings brokers have is known to the broker only: its
/// handler checks those before it hands the change in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChange {
    /// Whose settings.
    pub resource: ConfigResource,
    /// How they change.
    pub edit: ConfigEdit,
}

/// How settings change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigEdit {
    /// One by one (IncrementalAlterConfigs, KIP-339).
    Incremental(Vec<ConfigOp>),
    /// These and no others (AlterConfigs).
    Replace(Vec<(String, Option<String>)>),
}

/// A change of one setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigOp {
    /// Name of the setting.
    pub name: String,
    /// What to do.
    pub kind: ConfigOpKind,
    /// With what; none for [`ConfigOpKind::Delete`].
    #[serde(default)]
    pub value: Option<String>,
}

/// What to do with a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigOpKind {
    /// Set it.
    Set,
    /// Return it to its default.
    Delete,
    /// Add words to a list.
    Append,
    /// Take words from a list.
    Subtract,
}

/// An ISR that a leader wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsrChange {
    /// Which partition.
    pub partition: TopicPartition,
    /// Epoch in which the broker leads it.
    pub leader_epoch: LeaderEpoch,
    /// The partition epoch that the change replaces.
    pub partition_epoch: i32,
    /// The wanted ISR, each member with the broker epoch that its last fetch carried (KIP-903): a member that has
    /// registered again since may have lost what it had. An epoch of −1, "not known", is taken for present members only.
    pub isr: Vec<BrokerRef>,
}

/// A log start that a leader wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStartMove {
    /// Which partition.
    pub partition: TopicPartition,
    /// Epoch in which the broker leads it.
    pub leader_epoch: LeaderEpoch,
    /// The first offset that readers may still see. A lower one than before changes nothing.
    pub log_start: Offset,
}

/// Where a partition shall be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reassignment {
    /// Which partition.
    pub partition: TopicPartition,
    /// Its replicas, the preferred leader first; none: the reassignment under way is cancelled.
    #[serde(default)]
    pub replicas: Option<Vec<NodeId>>,
}

/// How a leader is chosen on request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ElectionKind {
    /// The first of the replicas, if it is in sync.
    Preferred,
    /// Where no replica leads: any that can lead. The records that it lacks are lost.
    Unclean,
}

/// See [`Command::ArchiveCommit`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveCommit {
    /// Which partition.
    pub partition: TopicPartition,
    /// Epoch in which the committer leads it.
    pub leader_epoch: LeaderEpoch,
    /// The version that the commit replaces, 0 for none.
    pub replaces: u64,
    /// The new pointer, of version `replaces` + 1.
    pub pointer: ManifestPointer,
    /// True when the pointer continues a manifest that lies in the store and is newer than the ledger: its version may
    /// then be any above `replaces`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub adopts: bool,
}
