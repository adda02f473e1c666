//! Reading whole batches from an offset on, without a lock.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use model::Offset;
use model::batch::BatchHeader;

use super::PartitionLog;
use crate::error::{ReadError, StorageError};
use crate::segment::{Located, Segment};

/// How often a reader looks again while files go away under it, and how long it pauses between.
const ATTEMPTS_MAX: u32 = 2000;
const PAUSE: Duration = Duration::from_millis(1);

/// How much a read may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Bytes at most.
    pub max_bytes: usize,
    /// First offset that must not be seen: the high watermark for a consumer, the log end for a follower.
    pub upper: Offset,
    /// Answer one whole batch even when it is larger than `max_bytes`, so that the reader gets on (KIP-74).
    pub at_least_one: bool,
}

/// Whole batches, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRead {
    /// The batches, back to back; the first one contains the offset that was asked for, or follows it.
    pub records: Bytes,
    /// Base offset of the first batch; the offset that was asked for when there is none.
    pub base_offset: Offset,
    /// First offset behind the last batch; the offset that was asked for when there is none.
    pub next_offset: Offset,
}

impl PartitionLog {
    /// Reads batches from the one that contains `from`, out of one segment. Nothing is answered when nothing below
    /// `upper` is there, or when the first batch is larger than allowed.
    ///
    /// # Errors
    /// [`ReadError::OutOfRange`] when `from` is not in `[local start, log end]`; [`StorageError::Damaged`] when the bytes
    /// are no batches. Checksums are not looked at: the consumer does.
    pub fn read(&self, from: Offset, limits: ReadLimits) -> Result<LogRead, ReadError> {
        self.undisturbed(|| self.try_read(from, limits))
    }

    /// Repeats `look` until no file went away meanwhile.
    pub(super) fn undisturbed<T>(&self, look: impl Fn() -> Result<T, ReadError>) -> Result<T, ReadError> {
        for _ in 0..ATTEMPTS_MAX {
            let before = self.generation.load(Ordering::Acquire);
            let result = look();
            if before.is_multiple_of(2) && self.generation.load(Ordering::Acquire) == before {
                return result;
            }
            std::thread::sleep(PAUSE);
        }
        let busy = std::io::Error::new(std::io::ErrorKind::TimedOut, "the log is being cut");
        Err(StorageError::io("read", &self.dir, busy).into())
    }

    /// Checks that `from` is on local disk.
    pub(super) fn check_range(&self, from: Offset) -> Result<(), ReadError> {
        let (start, end) = (self.local_start(), self.log_end());
        if from < start || from > end {
            return Err(ReadError::OutOfRange { partition: self.id, offset: from, start, end });
        }
        if self.is_removed() {
            return Err(StorageError::Removed(self.id).into());
        }
        Ok(())
    }

    fn try_read(&self, from: Offset, limits: ReadLimits) -> Result<LogRead, ReadError> {
        self.check_range(from)?;
        let nothing = LogRead { records: Bytes::new(), base_offset: from, next_offset: from };
        let upper = limits.upper.min(self.log_end());
        if from >= upper {
            return Ok(nothing);
        }
        let Some((segment, first)) = self.locate(from)? else { return Ok(nothing) };
        if first.header.next_offset() > upper {
            return Ok(nothing);
        }
        let len = if first.header.size_bytes() <= limits.max_bytes {
            limits.max_bytes
        } else if limits.at_least_one {
            first.header.size_bytes()
        } else {
            return Ok(nothing);
        };
        self.read_batches(&segment, first, len, upper).map_err(ReadError::from)
    }

    /// The batch that contains `offset`, or the next one behind it.
    pub(super) fn locate(&self, offset: Offset) -> Result<Option<(Arc<Segment>, Located)>, StorageError> {
        let segments = self.segments.load();
        let from = segments.partition_point(|segment| segment.base() <= offset).saturating_sub(1);
        for segment in &segments[from..] {
            if segment.size() > 0
                && let Some(located) = segment.locate(&self.core.files, offset)?
            {
                return Ok(Some((Arc::clone(segment), located)));
            }
        }
        Ok(None)
    }

    /// Reads up to `len` bytes from a batch on and cuts them behind the last whole batch below `upper`.
    fn read_batches(
        &self,
        segment: &Segment,
        first: Located,
        len: usize,
        upper: Offset,
    ) -> Result<LogRead, StorageError> {
        let available = usize::try_from(segment.size().saturating_sub(first.position)).unwrap_or(usize::MAX);
        let len = len.min(available);
        let file = segment.open_log(&self.core.files)?;
        let mut bytes = Vec::with_capacity(len);
        file.read_into(&mut bytes, len, first.position).map_err(|e| segment.io("read", e))?;
        let mut end = 0;
        let mut next_offset = first.header.base_offset;
        while end < bytes.len() {
            let Ok(header) = BatchHeader::parse(&bytes[end..]) else { break };
            let whole = end.checked_add(header.size_bytes()).filter(|whole| *whole <= bytes.len());
            let (Some(whole), true) = (whole, header.base_offset >= next_offset) else { break };
            if header.next_offset() > upper {
                break;
            }
            end = whole;
            next_offset = header.next_offset();
        }
        if end == 0 {
            return Err(segment.damaged(first.position, "the bytes changed while they were read"));
        }
        bytes.truncate(end);
        Ok(LogRead { records: Bytes::from(bytes), base_offset: first.header.base_offset, next_offset })
    }
}
