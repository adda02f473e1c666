//! Reading a partition, whichever tier holds the offset.

use std::sync::Arc;

use bytes::Bytes;
use cold_tier::ColdFetch;
use hot_tier::{ReadLimits, StorageError};
use model::Offset;
use tokio::time::Instant;
use tracing::{error, warn};

use super::Partition;
use crate::machine::blocking;

/// What to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadRequest {
    /// First offset.
    pub(crate) from: Offset,
    /// Most bytes.
    pub(crate) max_bytes: usize,
    /// Answer at least one whole batch, however large.
    pub(crate) min_one: bool,
    /// When the archive must have answered.
    pub(crate) deadline: Instant,
}

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct PartitionRead {
    /// Whole batches, the first of which holds the wanted offset or is the next after it.
    pub(crate) records: Vec<Bytes>,
}

impl PartitionRead {
    /// Bytes of records.
    pub(crate) fn size_bytes(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadFailure {
    /// The offset is not in the log.
    #[error("offset {from} is outside the log, which spans {log_start} to {log_end}")]
    OutOfRange {
        /// The wanted offset.
        from: Offset,
        /// First offset there is.
        log_start: Offset,
        /// First offset there is not.
        log_end: Offset,
    },
    /// This replica has not come as far as its leader may have.
    #[error("offset {from} is not here yet, the replica ends at {log_end}")]
    Behind {
        /// The wanted offset.
        from: Offset,
        /// First offset that the replica does not have.
        log_end: Offset,
    },
    /// The local disk.
    #[error("cannot read the local log: {0}")]
    Hot(#[source] hot_tier::ReadError),
    /// The local disk changed what was written, and the archive does not have it.
    #[error("the local log is damaged: {0}")]
    Damaged(#[source] StorageError),
    /// Neither tier has the offset, although the log spans it.
    #[error(
        "offset {from} is missing: the archive ends at {archived_end}, as far as the ledger knows, and the local log begins \
         at {local_start}"
    )]
    Missing {
        /// The wanted offset.
        from: Offset,
        /// First offset that is not archived.
        archived_end: Offset,
        /// First offset on the local disk.
        local_start: Offset,
    },
    /// The object store; trying again may help.
    #[error("cannot read the archive: {0}")]
    Cold(#[source] cold_tier::ReadError),
}

impl Partition {
    /// Reads committed records from `request.from` on; nothing when they are not there yet, or when the archive does not
    /// answer in time.
    ///
    /// # Errors
    /// [`ReadFailure`].
    pub(crate) async fn read(self: &Arc<Self>, request: ReadRequest) -> Result<PartitionRead, ReadFailure> {
        let ReadRequest { from, .. } = request;
        let term = self.term();
        let (log_start, log_end) = (self.log_start(), self.log.log_end());
        if from > log_end && (term.is_none() || self.term() != term) {
            return Err(ReadFailure::Behind { from, log_end });
        }
        if from < log_start || from > log_end {
            return Err(ReadFailure::OutOfRange { from, log_start, log_end });
        }
        // Below the archive's end a new leader's log may have what was never committed.
        let is_archived = from < self.archived_end() && self.is_lineage_open();
        if from >= self.log.local_start() && !is_archived {
            match self.read_hot(&request).await {
                // The segment was evicted between the check and the read: the archive has it.
                Err(hot_tier::ReadError::OutOfRange { .. }) if from < self.log.local_start() => {}
                Err(hot_tier::ReadError::Storage(damage @ StorageError::Damaged { .. })) => {
                    if !self.meet_damage(from, &damage) {
                        return Err(ReadFailure::Damaged(damage));
                    }
                }
                read => return read.map_err(ReadFailure::Hot),
            }
        }
        self.read_cold(&request).await
    }

    async fn read_hot(&self, request: &ReadRequest) -> Result<PartitionRead, hot_tier::ReadError> {
        self.read_local(request, self.last_stable_offset()).await
    }

    /// Reads from local disk what lies below `upper`. While files of the log change it waits, not this thread.
    pub(super) async fn read_local(
        &self,
        request: &ReadRequest,
        upper: Offset,
    ) -> Result<PartitionRead, hot_tier::ReadError> {
        let from = request.from;
        if from >= upper {
            return Ok(PartitionRead::default());
        }
        let limits = ReadLimits { max_bytes: request.max_bytes, upper, at_least_one: request.min_one };
        let read = match self.log.read_at_once(from, limits) {
            Err(hot_tier::ReadError::Disturbed { .. }) => {
                let log = Arc::clone(&self.log);
                blocking::run(move || log.read(from, limits)).await?
            }
            read => read?,
        };
        let records = if read.records.is_empty() { Vec::new() } else { vec![read.records] };
        Ok(PartitionRead { records })
    }

    async fn read_cold(&self, request: &ReadRequest) -> Result<PartitionRead, ReadFailure> {
        let Some(pointer) = self.ledger() else { return Err(self.missing(request.from)) };
        let timeout = request.deadline.saturating_duration_since(Instant::now()).min(self.cold_timeout);
        let ReadRequest { from, max_bytes, min_one, .. } = *request;
        let fetch = ColdFetch { from, max_bytes, upper: pointer.archived_end, timeout };
        let read = match self.cold.read(self.id, &pointer, fetch).await {
            Ok(read) => read,
            // The read continues in the background and fills the cache: the client's next fetch finds it there.
            Err(cold_tier::ReadError::TimedOut { .. }) => return Ok(PartitionRead::default()),
            Err(error) => {
                if self.archive.lock().reading_failed(&error, Instant::now(), from) {
                    let (topic, partition) = (&self.topic, self.id.partition);
                    warn!(%topic, partition, offset = from, %error, "a fetch from the archive failed, the client will try again");
                }
                return Err(ReadFailure::Cold(error));
            }
        };
        if read.records.is_empty()
            && read.next_offset >= pointer.archived_end
            && let Some((archived_end, _)) = self.hole()
            && archived_end <= read.next_offset
        {
            return Err(self.missing(read.next_offset));
        }
        self.archive.lock().read(from, read.next_offset);
        if read.records.is_empty() && read.next_offset > from && read.next_offset >= self.log.local_start() {
            // The archive ends in a gap: the next record is on the local disk.
            let beyond = ReadRequest { from: read.next_offset, ..*request };
            return self.read_hot(&beyond).await.map_err(ReadFailure::Hot);
        }
        // The archive answers at least one batch; whether that fits was not its question.
        if !min_one && read.size_bytes() > max_bytes {
            return Ok(PartitionRead::default());
        }
        Ok(PartitionRead { records: read.records })
    }

    /// The offsets between the archive's end and the local log that neither has, though readers may ask for them: the ledger
    /// is older than the archive.
    pub(super) fn hole(&self) -> Option<(Offset, Offset)> {
        // In this order: what is evicted in between is archived by then.
        let local_start = self.log.local_start();
        let archived_end = self.archived_end();
        (archived_end < local_start).then_some((archived_end, local_start))
    }

    /// Takes note of an offset that neither tier has.
    fn missing(&self, from: Offset) -> ReadFailure {
        let (archived_end, local_start) = (self.archived_end(), self.log.local_start());
        let failure = ReadFailure::Missing { from, archived_end, local_start };
        if self.archive.lock().offset_missing(failure.to_string(), Instant::now(), from) {
            let (topic, partition) = (&self.topic, self.id.partition);
            error!(%topic, partition, error = %failure, "consumers cannot read these offsets");
        }
        failure
    }

    /// True when the offset can only come from the archive.
    pub(crate) fn is_cold(&self, from: Offset) -> bool {
        from < self.log.local_start() && from >= self.log_start()
    }
}
