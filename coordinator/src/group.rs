//! Consumer groups by the classic protocol: members join, one of them assigns the partitions, all commit offsets.
//!
//! A pure machine. [`Groups::decide`] and [`Groups::tick`] say what a request or the time leads to, without changing
//! anything: records for the log, changes of what is kept in memory only, and replies. A request that must wait (a join
//! until the others have joined, a sync until the leader has assigned) gets its reply in a later decision, under the
//! token that it came with; every token is answered exactly once.
//!
//! Records become certain after they are decided: they are appended, and committed later. [`Groups::take`] makes a decision
//! the state that the next one builds on, [`Groups::settle`] makes it visible: committed offsets are shown, and a member
//! whose answer was waiting for the log begins a fresh session. While a record of the group itself is under way
//! ([`Groups::is_unsettled`]) the driver keeps the group's other commands back, and time does not judge its members.
//!
//! What is persisted is what Kafka persists, no more: the last completed generation and the committed offsets. Who is
//! just joining is lost with the process, and the members then join again. Replaying the records
//! ([`Groups::apply`]) gives the same persisted state wherever it is done.
//!
//! Semantics are those of Kafka 4's classic groups, with KIP-62 (session and rebalance timeout), KIP-134 (initial
//! delay), KIP-211 (retention of offsets), KIP-345 (static members), KIP-394 (member id first), KIP-496 (deletion of
//! offsets), KIP-814 (skipped assignment). Cooperative assignment is the clients' affair and needs nothing here.

mod cleanup;
mod command;
mod deleted_topics;
mod describe;
mod draft;
mod error;
mod join;
mod machine;
mod membership;
mod memory;
mod now;
mod offsets;
mod record;
mod settings;
mod subscription;
mod sync;
#[cfg(test)]
mod tests;
mod uncommitted;
mod unused_ids;
mod weight;

pub use command::{
    Command, CommitOffsets, DeleteOffsets, Heartbeat, JoinAbilities, JoinGroup, JoinRefused, Joined, JoinedMember,
    LeaveGroup, MemberIdentity, OffsetToCommit, Protocol, Reply, RequestToken, SyncGroup, Synced,
};
pub use deleted_topics::DeletedTopics;
pub use describe::{GROUP_TYPE, GroupDescription, GroupListing, ListFilter, MemberDescription};
pub use error::GroupError;
pub use machine::{Decision, Groups};
pub use membership::GroupState;
pub use now::Now;
pub use record::{CommittedOffset, GroupId, GroupImage, GroupRecord, MemberId, MemberImage, OffsetsByTopic};
pub use settings::GroupSettings;
pub use uncommitted::Appended;
