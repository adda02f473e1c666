//! What can go wrong, by operation. Every error names the file, the partition or the offset that it is about.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::batch::BatchError;
use model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicPartition};
use rustix::io::Errno;

/// Why the tier acknowledges nothing any more: a write or sync failed, so it is not known what is on the disk.
///
/// A failed `fdatasync` is never repeated: the kernel may have dropped the bytes and would report success. After a restart of
/// the process, recovery writes what it replays again, because the page cache may still hold bytes that the disk never took.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the local log has failed and acknowledges nothing until a restart: {0}")]
pub struct TierFailure(pub(crate) Arc<str>);

/// A file operation that did not work, or bytes that are not what was written.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The operating system refused. The operation certainly did not take effect as a whole.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The disk is full. Nothing partial is left; the same operation may work once there is room.
    #[error("cannot {action} {}: the disk is full", path.display())]
    Full {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
    },
    /// A file could not be opened: the process, or the system, has as many open as it may. The same operation may work once
    /// some are closed.
    #[error("cannot {action} {}: too many files are open", path.display())]
    NoDescriptor {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
    },
    /// A file's bytes are not what was written.
    #[error("{} is damaged at byte {position}: {what}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// What is wrong.
        what: String,
    },
    /// The journal is full: segments cannot be flushed as fast as records come. The same operation may work later.
    #[error("the journal is full: the disk does not keep up")]
    JournalFull,
    /// A thread of the tier has panicked.
    #[error("the {0} thread has panicked")]
    ThreadLost(&'static str),
    /// The partition was removed from this disk.
    #[error("partition {0} was removed from this broker")]
    Removed(TopicPartition),
    /// The partition could not be opened when the tier was.
    #[error("partition {partition} is out of service until a restart can open it: {reason}")]
    Unopened {
        /// Which partition.
        partition: TopicPartition,
        /// What kept it from being opened.
        reason: Arc<str>,
    },
    /// The tier has failed before.
    #[error(transparent)]
    Failed(#[from] TierFailure),
}

impl StorageError {
    /// Wraps an error of the operating system.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StorageError::Full { action, path },
            _ if lacks_descriptor(&source) => StorageError::NoDescriptor { action, path },
            _ => StorageError::Io { action, path, source },
        }
    }

    /// True when the disk had no space for something that may be tried again: anything but a sync, see [`TierFailure`].
    pub(crate) fn lacks_space(&self) -> bool {
        matches!(self, StorageError::Full { action, .. } if *action != "flush")
    }

    /// True when the file is not there.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, StorageError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// True when the process, or the system, has as many files open as it may.
pub(crate) fn lacks_descriptor(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Why the tier cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{} is in use by another process: two brokers cannot share a data folder", .0.display())]
    Locked(PathBuf),
    /// A setting cannot work.
    #[error("{name} = {value}: {expected}")]
    Setting {
        /// Which setting of [`crate::Config`].
        name: &'static str,
        /// Its value.
        value: u64,
        /// What it must be.
        expected: &'static str,
    },
    /// The disk does not let us.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A thread cannot be started.
    #[error("cannot start the {name} thread: {source}")]
    Thread {
        /// Which thread.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Why batches were not appended. In every case nothing of the call is in the log.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Kafka: `OUT_OF_ORDER_SEQUENCE_NUMBER`.
    #[error(
        "{partition}: producer {producer_id} (epoch {producer_epoch}) sent sequence {sequence}, {expected} was expected"
    )]
    OutOfOrderSequence {
        /// Where.
        partition: TopicPartition,
        /// Who.
        producer_id: ProducerId,
        /// Its epoch in the batch.
        producer_epoch: ProducerEpoch,
        /// The batch's first sequence number.
        sequence: i32,
        /// The number that follows what is stored.
        expected: i32,
    },
    /// Kafka: `INVALID_PRODUCER_EPOCH`.
    #[error("{partition}: producer {producer_id} wrote with epoch {producer_epoch}, its epoch is {current} already")]
    InvalidProducerEpoch {
        /// Where.
        partition: TopicPartition,
        /// Who.
        producer_id: ProducerId,
        /// The epoch in the batch.
        producer_epoch: ProducerEpoch,
        /// The newest epoch that the log has seen.
        current: ProducerEpoch,
    },
    /// Kafka: `NOT_LEADER_OR_FOLLOWER`: the log has seen a newer leader.
    #[error("{partition}: leader epoch {leader_epoch} is older than the log's {latest}")]
    StaleLeaderEpoch {
        /// Where.
        partition: TopicPartition,
        /// The epoch that was to be stamped.
        leader_epoch: LeaderEpoch,
        /// The newest epoch of the log.
        latest: LeaderEpoch,
    },
    /// A leader's batch that does not continue this log.
    #[error("{partition}: a batch at offset {base_offset} cannot follow log end {log_end}")]
    NotContiguous {
        /// Where.
        partition: TopicPartition,
        /// The batch's first offset.
        base_offset: Offset,
        /// The first offset that was free.
        log_end: Offset,
    },
    /// Bytes from a leader that are not whole, intact batches.
    #[error("{partition}: a batch from the leader is not intact: {source}")]
    Invalid {
        /// Where.
        partition: TopicPartition,
        /// What is wrong.
        source: BatchError,
    },
    /// Nothing to append.
    #[error("{0}: an append needs at least one batch")]
    Empty(TopicPartition),
    /// The log has no offset left: its end would pass 2⁶³ − 1.
    #[error("{0}: no offsets are left")]
    OffsetsExhausted(TopicPartition),
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why a read was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Kafka: `OFFSET_OUT_OF_RANGE`, unless the archive has the offset.
    #[error("{partition}: offset {offset} is not on local disk, which holds [{start}, {end}]")]
    OutOfRange {
        /// Where.
        partition: TopicPartition,
        /// What was asked for.
        offset: Offset,
        /// The first offset on local disk.
        start: Offset,
        /// The log end.
        end: Offset,
    },
    /// Files of the log go away or change just now: a moment later the same can be read.
    #[error("{partition}: the log is being cut")]
    Disturbed {
        /// Where.
        partition: TopicPartition,
    },
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
