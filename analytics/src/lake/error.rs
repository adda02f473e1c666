//! Why a table could not be brought up to date. It stays as it was, and the next try may go better.

use cold_tier::{ReadError, StoreError};
use model::TopicPartition;

use crate::iceberg::TableError;

/// Why a table could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The archive's manifests or an object could not be read.
    #[error(transparent)]
    Archive(#[from] ReadError),
    /// The store failed; after a failed put of the metadata the commit may have taken place.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The table's next state cannot be made.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The table shows a newer ledger than this node knows.
    #[error("the table shows version {shown} of the ledger of {partition}, this node knows {known}")]
    Older {
        /// Whose ledger entry.
        partition: TopicPartition,
        /// The version that the table shows.
        shown: u64,
        /// The version that this node knows.
        known: u64,
    },
    /// Others committed again and again while this node tried.
    #[error("others have committed {0} times meanwhile")]
    Overtaken(u32),
    /// This node has lost the partition's leadership, or the topic is gone.
    #[error("this node does not lead the topic's partition 0 any more")]
    NotLeader,
    /// The commit took so long that its files may have been swept.
    #[error("the commit took {0} s, which is too long to finish it")]
    TooLate(u64),
}

/// What of the table cannot be used, so that it is recreated.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("its metadata are gone or damaged: {0}")]
    Metadata(String),
    #[error("it was made for {0}")]
    Elsewhere(String),
    #[error("what it has of partition {0} is not in the ledger")]
    OtherHistory(i32),
    #[error("a manifest is gone or damaged: {0}")]
    Manifest(String),
}
