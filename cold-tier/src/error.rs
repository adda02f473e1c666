//! What can go wrong, by operation; storage errors say whether the call certainly had no effect.

use model::{Offset, TopicPartition};

/// A call to the object store that failed, after its retries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("object store: {operation} of {object:?} {kind}: {detail}")]
pub struct StoreError {
    /// What was being done: `put`, `get`, `list`, …
    pub operation: &'static str,
    /// To which object or prefix, relative to the store's root.
    pub object: String,
    /// What kind of failure it is.
    pub kind: StoreErrorKind,
    /// The store's own words.
    pub detail: String,
}

/// What a failed call means for its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// Certain: there is no such object.
    NotFound,
    /// Certain: an object of that name with other content exists.
    AlreadyExists,
    /// Certain: the store does not accept our credentials, or there are none.
    Denied,
    /// Certain: the store refuses the call, and trying again will not help before an operator changes something.
    Permanent,
    /// Uncertain: the call may have taken effect.
    Uncertain,
    /// Uncertain: no answer within the deadline.
    TimedOut,
}

impl StoreErrorKind {
    /// True when the call certainly had no effect.
    #[must_use]
    pub fn is_certain(self) -> bool {
        !matches!(self, StoreErrorKind::Uncertain | StoreErrorKind::TimedOut)
    }
}

impl std::fmt::Display for StoreErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            StoreErrorKind::NotFound => "found nothing",
            StoreErrorKind::AlreadyExists => "met an object with other content",
            StoreErrorKind::Denied => "was denied, the store does not accept our credentials",
            StoreErrorKind::Permanent => "was refused",
            StoreErrorKind::Uncertain => "failed with an uncertain outcome",
            StoreErrorKind::TimedOut => "timed out with an uncertain outcome",
        })
    }
}

/// Why the archive cannot be opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// The URL or an option is malformed.
    #[error("object store URL {url:?}: {reason}")]
    Url {
        /// The URL as given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The folder cannot be used.
    #[error("object store URL {url:?}: {reason}")]
    Folder {
        /// The URL as given.
        url: String,
        /// What is in the way.
        reason: String,
    },
    /// The cluster id cannot be part of an object name.
    #[error("cluster id {0:?} must be 1 to 64 characters of [A-Za-z0-9_-]")]
    ClusterId(String),
    /// The store does not do what the archive's correctness rests on.
    #[error("object store {url} cannot hold an archive: {reason}")]
    Unfit {
        /// Which store.
        url: String,
        /// Which promise it broke.
        reason: String,
    },
    /// The store did not answer a call of the probe.
    #[error("object store {url}: {}", advice(url, call))]
    Unreachable {
        /// Which store.
        url: String,
        /// The failed call. Not a source: its words are among those of this error.
        call: StoreError,
    },
    /// The threads could not be started.
    #[error("cannot start the archive's threads: {0}")]
    Threads(String),
}

impl OpenError {
    /// True when what was asked for can never be opened: the user has to write something else.
    #[must_use]
    pub fn is_wrong_use(&self) -> bool {
        matches!(self, OpenError::Url { .. } | OpenError::ClusterId(_))
    }
}

/// What is wrong and what to do, then what the store said.
fn advice(url: &str, call: &StoreError) -> String {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    match crate::store::words::advice(call, scheme) {
        Some(advice) => format!("{advice}. {}", call.detail),
        None => format!("it failed its start-up probe. {call}"),
    }
}

/// Why a segment was not archived or a manifest not written. Nothing is evicted then; the caller tries again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ArchiveError {
    /// The segments do not belong together, or do not continue the archive.
    #[error("cannot archive {partition}: {reason}")]
    Segments {
        /// Whose segments.
        partition: TopicPartition,
        /// What does not fit.
        reason: String,
    },
    /// The local segment is damaged: it must not be archived, nor evicted.
    #[error("local segment of {partition} is damaged near offset {offset}: {reason}; it was not archived")]
    DamagedSegment {
        /// Whose segment.
        partition: TopicPartition,
        /// Offset of the batch or record.
        offset: Offset,
        /// What is wrong.
        reason: String,
    },
    /// The Parquet library refused.
    #[error("cannot encode {object}: {reason}")]
    Encode {
        /// The object in the making.
        object: String,
        /// Its words.
        reason: String,
    },
    /// The object does not say what the segment says (D8).
    #[error(
        "archived object {object} differs from the local segment at offset {offset} in column {column}; it was not committed"
    )]
    Mismatch {
        /// The object.
        object: String,
        /// First offset that differs.
        offset: Offset,
        /// The column that differs.
        column: &'static str,
    },
    /// The object or a manifest could not be read back.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive is shutting down.
    #[error("the archive is shutting down")]
    Closed,
}

/// Why a cold read failed. All but [`ReadError::BelowLogStart`] are worth another try by the client.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The deadline passed; the read continues to fill the cache.
    #[error(
        "a cold read of {partition} at offset {offset} did not finish within its deadline; it continues in the background"
    )]
    TimedOut {
        /// Whose records.
        partition: TopicPartition,
        /// Offset asked for.
        offset: Offset,
    },
    /// The offset is gone.
    #[error("offset {offset} of {partition} is below the log start {log_start}")]
    BelowLogStart {
        /// Whose records.
        partition: TopicPartition,
        /// Offset asked for.
        offset: Offset,
        /// First offset that exists.
        log_start: Offset,
    },
    /// Bytes from the store are not what was written.
    #[error("object {object} is damaged near offset {offset}: {reason}")]
    Corrupt {
        /// The object.
        object: String,
        /// Where in the log.
        offset: Offset,
        /// What is wrong.
        reason: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive is shutting down.
    #[error("the archive is shutting down")]
    Closed,
}
