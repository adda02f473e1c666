//! Requests to a group, and replies, as values. Byte forms and versions of the protocol are the broker's business.

use std::sync::Arc;

use bytes::Bytes;
use model::{LeaderEpoch, Offset, PartitionIndex, TopicId};

use super::error::GroupError;
use super::record::{GroupId, MemberId};

/// Names one waiting request. The driver makes them unique; each is answered exactly once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestToken(pub u64);

/// A request that may change a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// JoinGroup.
    Join(JoinGroup),
    /// SyncGroup.
    Sync(SyncGroup),
    /// Heartbeat.
    Heartbeat(Heartbeat),
    /// LeaveGroup.
    Leave(LeaveGroup),
    /// OffsetCommit.
    CommitOffsets(CommitOffsets),
    /// OffsetDelete.
    DeleteOffsets(DeleteOffsets),
    /// DeleteGroups, for one group.
    DeleteGroup(GroupId),
}

impl Command {
    /// The group that the command is for.
    #[must_use]
    pub fn group(&self) -> &GroupId {
        match self {
            Command::Join(join) => &join.group,
            Command::Sync(sync) => &sync.group,
            Command::Heartbeat(heartbeat) => &heartbeat.group,
            Command::Leave(leave) => &leave.group,
            Command::CommitOffsets(commit) => &commit.group,
            Command::DeleteOffsets(delete) => &delete.group,
            Command::DeleteGroup(group) => group,
        }
    }

    /// The reply that refuses the whole command.
    #[must_use]
    pub fn refused(&self, error: GroupError) -> Reply {
        match self {
            Command::Join(join) => Reply::Join(Err(JoinRefused { member_id: join.member_id.clone(), error })),
            Command::Sync(_) => Reply::Sync(Err(error)),
            Command::Heartbeat(_) => Reply::Heartbeat(Err(error)),
            Command::Leave(_) => Reply::Leave(Err(error)),
            Command::CommitOffsets(_) => Reply::CommitOffsets(Err(error)),
            Command::DeleteOffsets(_) => Reply::DeleteOffsets(Err(error)),
            Command::DeleteGroup(_) => Reply::DeleteGroup(Err(error)),
        }
    }
}

/// The answer to a [`Command`] of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To JoinGroup.
    Join(Result<Joined, JoinRefused>),
    /// To SyncGroup.
    Sync(Result<Synced, GroupError>),
    /// To Heartbeat.
    Heartbeat(Result<(), GroupError>),
    /// To LeaveGroup: one result per member, in the order of the request.
    Leave(Result<Vec<Result<(), GroupError>>, GroupError>),
    /// To OffsetCommit: one result per offset, in the order of the request.
    CommitOffsets(Result<Vec<Result<(), GroupError>>, GroupError>),
    /// To OffsetDelete: one result per partition, in the order of the request.
    DeleteOffsets(Result<Vec<Result<(), GroupError>>, GroupError>),
    /// To DeleteGroups.
    DeleteGroup(Result<(), GroupError>),
}

/// One way of assigning that a member offers, with its metadata for it (for consumers: the subscription).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    /// Name of the assignor.
    pub name: Arc<str>,
    /// Opaque to the coordinator, save for the topics of `consumer` groups.
    pub metadata: Bytes,
}

/// JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinGroup {
    /// The group.
    pub group: GroupId,
    /// Empty for a member that has no id yet.
    pub member_id: MemberId,
    /// The id to use if this request makes a new member: the driver draws it, since a machine has no chance.
    pub new_member_id: MemberId,
    /// Set for a static member.
    pub instance_id: Option<Arc<str>>,
    /// The client's own name for itself.
    pub client_id: Arc<str>,
    /// Where it connects from, as Kafka prints it: `/127.0.0.1`.
    pub client_host: Arc<str>,
    /// Milliseconds.
    pub session_timeout_ms: i32,
    /// Milliseconds; version 0 sends none, the driver then repeats the session timeout.
    pub rebalance_timeout_ms: i32,
    /// `consumer`, `connect`, ….
    pub protocol_type: Arc<str>,
    /// In the member's order of preference.
    pub protocols: Arc<[Protocol]>,
    /// What the client's protocol version can do.
    pub abilities: JoinAbilities,
}

/// Differences between the versions of JoinGroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinAbilities {
    /// Version 4 and up: a dynamic member gets its id first and joins with it (KIP-394).
    pub member_id_required: bool,
    /// Version 9 and up: a returning static leader can skip the assignment (KIP-814).
    pub skip_assignment: bool,
}

/// A completed join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Number of the new generation.
    pub generation: i32,
    /// `consumer`, `connect`, ….
    pub protocol_type: Option<Arc<str>>,
    /// The chosen protocol.
    pub protocol_name: Option<Arc<str>>,
    /// The leader of the generation.
    pub leader: MemberId,
    /// The member's own id.
    pub member_id: MemberId,
    /// True for a returning static leader: the assignment stays valid, do not compute another (KIP-814).
    pub skip_assignment: bool,
    /// All members, for the leader only.
    pub members: Vec<JoinedMember>,
}

/// What the leader learns about a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// The member.
    pub member_id: MemberId,
    /// Set for a static member.
    pub instance_id: Option<Arc<str>>,
    /// Its metadata for the chosen protocol.
    pub metadata: Bytes,
}

/// A refused join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRefused {
    /// The member id that the reply carries: with [`GroupError::MemberIdRequired`] the one to join with.
    pub member_id: MemberId,
    /// Why.
    pub error: GroupError,
}

/// Who speaks, in requests of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberIdentity {
    /// The member's id.
    pub member_id: MemberId,
    /// Set for a static member.
    pub instance_id: Option<Arc<str>>,
}

/// SyncGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncGroup {
    /// The group.
    pub group: GroupId,
    /// Who asks.
    pub member: MemberIdentity,
    /// The generation that its join ended with.
    pub generation: i32,
    /// `None` before version 5.
    pub protocol_type: Option<Arc<str>>,
    /// `None` before version 5.
    pub protocol_name: Option<Arc<str>>,
    /// From the leader: what each member gets.
    pub assignments: Vec<(MemberId, Bytes)>,
}

/// A completed sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// `consumer`, `connect`, ….
    pub protocol_type: Option<Arc<str>>,
    /// The chosen protocol.
    pub protocol_name: Option<Arc<str>>,
    /// The member's own assignment, as the leader wrote it.
    pub assignment: Bytes,
}

/// Heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The group.
    pub group: GroupId,
    /// Who asks.
    pub member: MemberIdentity,
    /// The member's generation.
    pub generation: i32,
}

/// LeaveGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaveGroup {
    /// The group.
    pub group: GroupId,
    /// The members that leave; with an empty member id the holder of the instance id (administrative removal).
    pub members: Vec<MemberIdentity>,
}

/// OffsetCommit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitOffsets {
    /// The group.
    pub group: GroupId,
    /// Who commits; an empty id for a simple consumer or an administrator.
    pub member: MemberIdentity,
    /// The member's generation, −1 for a simple consumer.
    pub generation: i32,
    /// Versions 2 to 4: how long to keep the offsets, instead of the broker's setting.
    pub retention_ms: Option<i64>,
    /// What is committed.
    pub offsets: Vec<OffsetToCommit>,
}

/// One offset of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetToCommit {
    /// Topic by name.
    pub topic: Arc<str>,
    /// Its id, or [`TopicId::ZERO`] if unknown.
    pub topic_id: TopicId,
    /// Partition of the topic.
    pub partition: PartitionIndex,
    /// Next offset to consume.
    pub offset: Offset,
    /// Leader epoch of the last consumed record, or −1.
    pub leader_epoch: LeaderEpoch,
    /// The client's text.
    pub metadata: Arc<str>,
}

/// OffsetDelete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteOffsets {
    /// The group.
    pub group: GroupId,
    /// Whose offsets go.
    pub partitions: Vec<(Arc<str>, PartitionIndex)>,
}
