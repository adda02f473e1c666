//! Why archiving, retention and deletion of a partition's records end early.

use cold_tier::ArchiveError;

use crate::metadata::SubmitError;
use crate::partition::NotCommitted;
use crate::store_identity::StoreRefused;

/// Why a pass ended early. The next one starts from the ledger.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettleError {
    /// The local log.
    #[error("the local log: {0}")]
    Hot(#[from] hot_tier::StorageError),
    /// Segments that should be archived are not there.
    #[error("the local log: {0}")]
    Seal(#[from] hot_tier::SealError),
    /// The log start cannot move.
    #[error("the local log: {0}")]
    LogStart(#[source] hot_tier::ReadError),
    /// The object store, or bytes that do not match.
    #[error(transparent)]
    Cold(#[from] ArchiveError),
    /// Reading the archive.
    #[error(transparent)]
    Read(#[from] cold_tier::ReadError),
    /// The object store is not the cluster's, or does not say so.
    #[error(transparent)]
    Store(#[from] StoreRefused),
    /// The ledger could not be asked.
    #[error("the archive ledger did not answer: {0}")]
    Ledger(#[from] SubmitError),
    /// The log start could not be moved.
    #[error("the cluster's metadata did not take the log start: {0}")]
    NotKept(#[source] SubmitError),
    /// The bucket has a manifest that is newer than the ledger, of another history.
    #[error("the bucket holds {object}, which is newer than the ledger and cannot be adopted: {reason}")]
    Ahead {
        /// The manifest.
        object: String,
        /// Why it is not this partition's history.
        reason: String,
    },
    /// The bucket holds objects of another history of the partition.
    #[error(
        "nothing is deleted from the bucket: it held objects of another history of the partition, as {object} tells; remove \
         that object once the objects of the other history are saved or not needed"
    )]
    SweepHeld {
        /// The object that says so.
        object: String,
    },
    /// The topic is gone.
    #[error("the topic was deleted")]
    Deleted,
    /// Another node leads: the archive is its business.
    #[error("this broker does not lead the partition any more")]
    NotLeader,
    /// The ledger holds something else than what the commit would replace.
    #[error("another commit came first: {0}")]
    Overtaken(String),
}

/// Why records cannot be deleted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeleteError {
    /// The local log.
    #[error(transparent)]
    Hot(#[from] hot_tier::ReadError),
    /// The metadata do not keep the new log start.
    #[error("the cluster's metadata did not take the log start: {0}")]
    NotKept(#[source] SubmitError),
    /// Not durable in time.
    #[error(transparent)]
    NotCommitted(#[from] NotCommitted),
}
