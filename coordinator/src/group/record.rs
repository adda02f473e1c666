//! What a group writes to its partition of `__consumer_offsets`: the meaning of Kafka's two kinds of records there.
//!
//! The byte form is Kafka's (`GroupMetadataKey`/`Value`, `OffsetCommitKey`/`Value`) and is the broker's business.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use model::{LeaderEpoch, Offset, PartitionIndex, TimestampMs, TopicId};

/// Name of a group; compared byte for byte.
pub type GroupId = Arc<str>;
/// Identity of a member; empty in a request of a member that has none yet.
pub type MemberId = Arc<str>;

/// One record, a tombstone where the value is absent. Applying records in log order rebuilds what a group persists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupRecord {
    /// The group completed a generation, became empty, or (`None`) is gone.
    Metadata {
        /// Whose record it is.
        group: GroupId,
        /// The group as of this record.
        image: Option<GroupImage>,
    },
    /// A committed offset, or (`None`) its removal.
    Offset {
        /// Whose record it is.
        group: GroupId,
        /// Topic by name, as in Kafka's key.
        topic: Arc<str>,
        /// Partition of the topic.
        partition: PartitionIndex,
        /// What was committed.
        committed: Option<CommittedOffset>,
    },
}

impl GroupRecord {
    /// Whose record it is.
    #[must_use]
    pub fn group(&self) -> &GroupId {
        match self {
            GroupRecord::Metadata { group, .. } | GroupRecord::Offset { group, .. } => group,
        }
    }

    /// True when it removes something.
    pub(super) fn is_tombstone(&self) -> bool {
        matches!(self, GroupRecord::Metadata { image: None, .. } | GroupRecord::Offset { committed: None, .. })
    }
}

/// The persisted part of a group: its last completed generation. No members means that the group is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupImage {
    /// `consumer`, `connect`, …; `None` for a group that never had members.
    pub protocol_type: Option<Arc<str>>,
    /// Number of the generation; it only grows.
    pub generation: i32,
    /// Name of the chosen protocol (assignor).
    pub protocol_name: Option<Arc<str>>,
    /// The member that computes assignments.
    pub leader: Option<MemberId>,
    /// When the group took its state, or `None` in records of old Kafka versions.
    pub state_timestamp: Option<TimestampMs>,
    /// Members in the order of their ids.
    pub members: BTreeMap<MemberId, MemberImage>,
}

/// The persisted part of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberImage {
    /// Set for a static member (KIP-345).
    pub instance_id: Option<Arc<str>>,
    /// The client's own name for itself.
    pub client_id: Arc<str>,
    /// Where it connects from, as Kafka prints it: `/127.0.0.1`.
    pub client_host: Arc<str>,
    /// Milliseconds.
    pub rebalance_timeout_ms: i32,
    /// Milliseconds.
    pub session_timeout_ms: i32,
    /// Metadata for the chosen protocol, opaque.
    pub subscription: Bytes,
    /// What the leader assigned, opaque.
    pub assignment: Bytes,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Next offset to consume.
    pub offset: Offset,
    /// Leader epoch of the last consumed record, or −1.
    pub leader_epoch: LeaderEpoch,
    /// The client's text.
    pub metadata: Arc<str>,
    /// When it was committed.
    pub commit_timestamp: TimestampMs,
    /// When it lapses, where an old client named a retention of its own.
    pub expire_timestamp: Option<TimestampMs>,
    /// The topic that was meant, or [`TopicId::ZERO`] in old records: a later topic of the same name is another one.
    pub topic_id: TopicId,
}

impl CommittedOffset {
    /// Whether it belongs to the topic that has this id now; an unknown id belongs to any.
    #[must_use]
    pub fn is_of(&self, topic_id: TopicId) -> bool {
        self.topic_id == topic_id || self.topic_id.is_zero() || topic_id.is_zero()
    }
}

/// Committed offsets by topic name and partition.
pub type OffsetsByTopic = BTreeMap<Arc<str>, BTreeMap<PartitionIndex, CommittedOffset>>;
