//! The partition of `__consumer_offsets` below a shard: appending, waiting until it is committed, and reading back from
//! both tiers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hot_tier::AppendTime;
use model::batch::ValidatedBatch;
use model::{LeaderEpoch, Offset};
use tokio::time::Instant;
use tracing::warn;

use crate::partition::{NotAccepted, NotCommitted, Partition, ReadRequest};

/// How long one wait for durability lasts before it is worth a line in the log; the wait itself goes on.
const SLOW_COMMIT: Duration = Duration::from_secs(5);
/// Bytes read at once while loading.
const READ_BYTES: usize = 1 << 20;
/// How long one read may take while loading.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Why records could not be stored or read back: text for a person, and whether trying again is of use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogFailure {
    /// Nothing was appended, and the partition takes nothing for now. What is stored, and the state that rests on it, is
    /// as it was.
    #[error("{0}")]
    Refused(String),
    /// The partition is gone, or its disk failed for good.
    #[error("the partition is closed: {0}")]
    Closed(String),
    /// Another node leads the partition, or this one in another epoch.
    #[error("the partition is led in another epoch")]
    Lost,
    /// Nothing was appended, or nothing read; a later attempt may succeed.
    #[error("{0}")]
    Failed(String),
}

/// The log below a shard.
#[derive(Debug, Clone)]
pub(crate) enum OffsetsLog {
    /// A real partition, for as long as this node leads it in that epoch.
    Partition(Arc<Partition>, LeaderEpoch),
    /// Memory, for tests.
    #[cfg(test)]
    Memory(Arc<super::tests::memory_log::MemoryLog>),
}

impl OffsetsLog {
    /// Largest batch that the topic allows, in bytes.
    pub(super) fn max_batch_bytes(&self) -> usize {
        match self {
            OffsetsLog::Partition(partition, _) => {
                usize::try_from(partition.log.settings().max_message_bytes).unwrap_or(usize::MAX)
            }
            #[cfg(test)]
            OffsetsLog::Memory(log) => log.max_batch_bytes(),
        }
    }

    /// Whether the partition takes records now. To be asked before a decision takes effect.
    ///
    /// # Errors
    /// [`LogFailure::Refused`] while too few replicas are in sync, since what cannot be committed would hold up all after it,
    /// and while the journal or the disk is full.
    pub(super) fn admit(&self) -> Result<(), LogFailure> {
        match self {
            OffsetsLog::Partition(partition, _) => {
                partition.check_in_sync().map_err(not_accepted)?;
                if partition.log.is_disk_full() || !partition.log.has_journal_space() {
                    return Err(LogFailure::Refused("the local disk or the journal is full".to_owned()));
                }
                Ok(())
            }
            #[cfg(test)]
            OffsetsLog::Memory(log) => log.admit(),
        }
    }

    /// Appends one batch; the end of the log then. Whether enough replicas are in sync was asked before.
    pub(super) fn append(&self, batch: Bytes, now: AppendTime) -> Result<Offset, LogFailure> {
        match self {
            OffsetsLog::Partition(partition, term) => {
                let batch = ValidatedBatch::from_own(batch).map_err(|e| LogFailure::Failed(e.to_string()))?;
                let accepted = partition.append_in(*term, vec![batch], now).map_err(not_accepted)?;
                Ok(accepted.appended.last_offset + 1)
            }
            #[cfg(test)]
            OffsetsLog::Memory(log) => log.append(&batch),
        }
    }

    /// Whether everything below `end` is committed.
    pub(super) fn is_committed(&self, end: Offset) -> bool {
        match self {
            OffsetsLog::Partition(partition, term) => partition.is_committed(end, *term),
            #[cfg(test)]
            OffsetsLog::Memory(log) => log.is_committed(end),
        }
    }

    /// Waits until everything below `end` is committed, however long that takes: an append whose outcome is open must not
    /// be given up, since what follows builds on it.
    pub(super) async fn committed(&self, end: Offset) -> Result<(), LogFailure> {
        match self {
            OffsetsLog::Partition(partition, term) => committed(partition, end, *term).await,
            #[cfg(test)]
            OffsetsLog::Memory(log) => log.committed(end).await,
        }
    }

    /// Waits until nothing is in flight, then says where the log begins and ends.
    pub(super) async fn bounds(&self) -> Result<(Offset, Offset), LogFailure> {
        match self {
            OffsetsLog::Partition(partition, term) => {
                let end = partition.log.log_end();
                committed(partition, end, *term).await?;
                Ok((partition.log_start(), end))
            }
            #[cfg(test)]
            OffsetsLog::Memory(log) => log.bounds().await,
        }
    }

    /// Whole batches, the first of which holds `from` or is the next after it. Empty if the archive is slow.
    pub(super) async fn read(&self, from: Offset) -> Result<Vec<Bytes>, LogFailure> {
        match self {
            OffsetsLog::Partition(partition, _) => {
                let deadline = Instant::now() + READ_TIMEOUT;
                let request = ReadRequest { from, max_bytes: READ_BYTES, min_one: true, deadline };
                let read = partition.read(request).await.map_err(|e| LogFailure::Failed(e.to_string()))?;
                Ok(read.records)
            }
            #[cfg(test)]
            OffsetsLog::Memory(log) => log.read(from),
        }
    }
}

fn not_accepted(error: NotAccepted) -> LogFailure {
    match error {
        NotAccepted::NotLeader => LogFailure::Lost,
        error @ NotAccepted::NotEnoughReplicas { .. } => LogFailure::Refused(error.to_string()),
        error => LogFailure::Failed(error.to_string()),
    }
}

async fn committed(partition: &Partition, end: Offset, term: LeaderEpoch) -> Result<(), LogFailure> {
    loop {
        match partition.committed(end, term, Instant::now() + SLOW_COMMIT).await {
            Ok(()) => return Ok(()),
            Err(NotCommitted::NotLeader) => return Err(LogFailure::Lost),
            Err(NotCommitted::TimedOut) => {
                warn!(partition = %partition.id, end, "records of consumer groups are not committed yet");
            }
            Err(error) => return Err(LogFailure::Closed(error.to_string())),
        }
    }
}
