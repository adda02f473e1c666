//! What stands in the metadata log: what was decided, as records.
//!
//! Not the commands: a log is applied anew at every start, and a newer build may decide otherwise than the one that
//! answered the client. The leader decides once, on the state that it has, and an entry counts only on that state.

use std::io::{self, Cursor, Write};
use std::sync::Arc;

use coordinator::cluster::Record;
use serde::{Deserialize, Serialize};

openraft::declare_raft_types!(
    /// The types of our Raft.
    pub(super) TypeConfig:
        D = Decided,
        R = Effect,
);

pub(super) type Entry = openraft::Entry<TypeConfig>;
pub(super) type LogId = openraft::LogId<u64>;
pub(super) type Raft = openraft::Raft<TypeConfig>;
pub(super) type SnapshotMeta = openraft::SnapshotMeta<u64, openraft::BasicNode>;
pub(super) type StorageError = openraft::StorageError<u64>;
pub(super) type StorageIoError = openraft::StorageIOError<u64>;
pub(super) type StoredMembership = openraft::StoredMembership<u64, openraft::BasicNode>;
pub(super) type Vote = openraft::Vote<u64>;

/// The records of commands that became durable together. Copies share them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Decided {
    /// Version of the state on which the leader decided (see `ClusterImage::version`). On any other, the entry is void:
    /// another leader's entry came between.
    pub(super) base: u64,
    /// To be applied in this order.
    pub(super) records: Arc<Vec<Record>>,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Effect {
    /// Its records are applied. Also of Raft's own entries.
    #[default]
    Applied,
    /// It was decided on another state: nothing was applied.
    Void,
}

/// Bytes of the value as JSON: its size in the file of the log and on the way to another node.
pub(crate) fn encoded_len(value: &impl Serialize) -> usize {
    let mut counted = Counted(0);
    // Neither the counter nor the values of the log refuse; what cannot be written would fail there, with a reason.
    let _ = serde_json::to_writer(&mut counted, value);
    counted.0
}

/// Keeps the number of bytes, and nothing of them.
struct Counted(usize);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
