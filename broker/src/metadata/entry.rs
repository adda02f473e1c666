//! What stands in the metadata log: batches of commands with the time at which the leader took them.

use std::io::Cursor;
use std::sync::Arc;

use coordinator::cluster::{Reply, Submission};
use model::TimestampMs;
use serde::{Deserialize, Serialize};

openraft::declare_raft_types!(
    /// The types of our Raft.
    pub(super) TypeConfig:
        D = Batch,
        R = Replies,
);

pub(super) type Entry = openraft::Entry<TypeConfig>;
pub(super) type LogId = openraft::LogId<u64>;
pub(super) type Raft = openraft::Raft<TypeConfig>;
pub(super) type SnapshotMeta = openraft::SnapshotMeta<u64, openraft::BasicNode>;
pub(super) type StorageError = openraft::StorageError<u64>;
pub(super) type StorageIoError = openraft::StorageIOError<u64>;
pub(super) type StoredMembership = openraft::StoredMembership<u64, openraft::BasicNode>;
pub(super) type Vote = openraft::Vote<u64>;

/// Commands that became durable together. Copies share them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Batch {
    /// The leader's clock: every replica decides with the same time.
    pub(super) now: TimestampMs,
    /// Applied in this order.
    pub(super) submissions: Arc<Vec<Submission>>,
}

/// One reply per command of the batch, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Replies(pub(super) Vec<Reply>);
