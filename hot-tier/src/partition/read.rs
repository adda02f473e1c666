//! Reading whole batches from an offset on, without a lock on the log.
//!
//! Every batch is checked before it is answered: its checksum, and that its offset and leader epoch fit the log. A disk may
//! change bytes at any time, most consumers look at no checksum, and none could tell that an offset is wrong. It costs
//! one pass over bytes that the read has just brought into the processor's cache.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use model::batch::{BatchHeader, BatchView, HEADER_LEN};
use model::{NO_LEADER_EPOCH, Offset};

use super::PartitionLog;
use crate::disk::is_unreadable;
use crate::error::{ReadError, StorageError};
use crate::leader_epochs::LeaderEpochs;
use crate::segment::scan::unreadable;
use crate::segment::{Located, Segment};

/// How often a reader that may block looks again while files go away under it, and how long it pauses between.
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
    /// As [`PartitionLog::read`], without waiting for a change of the log's files to end.
    ///
    /// # Errors
    /// [`ReadError::Disturbed`] while one is under way; those of [`PartitionLog::read`].
    pub fn read_at_once(&self, from: Offset, limits: ReadLimits) -> Result<LogRead, ReadError> {
        self.look(|| self.try_read(from, limits))
    }

    /// Reads batches from the one that contains `from`, out of one segment. Nothing is answered when nothing below
    /// `upper` is there, or when the first batch is larger than allowed. Blocks while files of the log change: not for threads
    /// that others wait for.
    ///
    /// # Errors
    /// [`ReadError::OutOfRange`] when `from` is not in `[local start, log end]`; [`StorageError::Damaged`] when the first
    /// batch is not what was written.
    pub fn read(&self, from: Offset, limits: ReadLimits) -> Result<LogRead, ReadError> {
        self.undisturbed(|| self.try_read(from, limits))
    }

    /// Repeats `look` until no file went away meanwhile.
    pub(super) fn undisturbed<T>(&self, look: impl Fn() -> Result<T, ReadError>) -> Result<T, ReadError> {
        for _ in 0..ATTEMPTS_MAX {
            match self.look(&look) {
                Err(ReadError::Disturbed { .. }) => std::thread::sleep(PAUSE),
                found => return found,
            }
        }
        let busy = std::io::Error::new(std::io::ErrorKind::TimedOut, "the log is being cut");
        Err(StorageError::io("read", &self.dir, busy).into())
    }

    fn look<T>(&self, look: impl Fn() -> Result<T, ReadError>) -> Result<T, ReadError> {
        let before = self.generation.load(Ordering::Acquire);
        if before.is_multiple_of(2) {
            let result = look();
            if self.generation.load(Ordering::Acquire) == before {
                return result.map_err(|e| match e {
                    ReadError::Storage(e) => self.unless_removed(e).into(),
                    e => e,
                });
            }
        }
        Err(ReadError::Disturbed { partition: self.id })
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
        let len = if first.header.size_bytes() <= limits.max_bytes {
            limits.max_bytes
        } else if limits.at_least_one {
            first.header.size_bytes()
        } else {
            return Ok(nothing);
        };
        let read = self.read_batches(&segment, first, len, upper)?;
        Ok(if read.records.is_empty() { nothing } else { read })
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

    /// Reads up to `len` bytes from a batch on and cuts them behind the last whole and intact batch below `upper`.
    pub(super) fn read_batches(
        &self,
        segment: &Segment,
        first: Located,
        len: usize,
        upper: Offset,
    ) -> Result<LogRead, StorageError> {
        // The size first: what it covers lies below the offset that is loaded after it.
        let size = segment.size();
        let segment_end = segment.next();
        let available = usize::try_from(size.saturating_sub(first.position)).unwrap_or(usize::MAX);
        // One header more than asked for: it tells whether the offset of the batch before it can be right.
        let wanted = len.saturating_add(HEADER_LEN).min(available);
        let mut bytes = self.read_bytes(segment, first, wanted)?;
        let epochs = self.epochs.read();
        let mut place = Place { lowest: segment.base(), is_exact: first.position == 0, segment_end, upper };
        let mut end = 0;
        while end < bytes.len().min(len) {
            let header = match place.check(&bytes[end..], &epochs) {
                Ok(header) if end + header.size_bytes() <= len => header,
                Ok(_) => break,
                // What lies before it can be answered; the next read begins here.
                Err(_) if end > 0 => break,
                Err(what) => return Err(segment.damaged(first.position, what)),
            };
            if header.next_offset() > upper {
                break;
            }
            end += header.size_bytes();
            place = Place { lowest: header.next_offset(), is_exact: true, ..place };
        }
        drop(epochs);
        bytes.truncate(end);
        let base_offset = first.header.base_offset;
        let next_offset = if end == 0 { base_offset } else { place.lowest };
        Ok(LogRead { records: Bytes::from(bytes), base_offset, next_offset })
    }

    /// Up to `wanted` bytes from a batch on; that batch alone where the disk cannot read all of them.
    fn read_bytes(&self, segment: &Segment, first: Located, wanted: usize) -> Result<Vec<u8>, StorageError> {
        let file = segment.open_log(&self.core.files)?;
        let mut bytes = Vec::with_capacity(wanted);
        let mut read = file.read_into(&mut bytes, wanted, first.position);
        if read.as_ref().is_err_and(is_unreadable) {
            bytes.clear();
            read = file.read_into(&mut bytes, first.header.size_bytes().min(wanted), first.position);
        }
        match read {
            Err(e) if is_unreadable(&e) => Err(segment.damaged(first.position, unreadable(&e))),
            read => read.map(|_| bytes).map_err(|e| segment.io("read", e)),
        }
    }
}

/// Where the next batch of a read must be. Kafka's checksum leaves out a batch's offset and leader epoch: these are
/// compared with what the log knows otherwise.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Its offset is not below this one.
    lowest: Offset,
    /// A batch that begins at `lowest` follows the one before without a gap.
    is_exact: bool,
    /// All of the segment's batches end at or below.
    segment_end: Offset,
    /// Batches from here on may be of an append that is under way: their epoch is not known yet.
    upper: Offset,
}

impl Place {
    /// The header of the batch at the start of `bytes`; says what is wrong when the batch is not what was written.
    fn check(&self, bytes: &[u8], epochs: &LeaderEpochs) -> Result<BatchHeader, String> {
        let batch = BatchView::parse(bytes).map_err(|e| e.to_string())?;
        batch.verify_crc().map_err(|e| e.to_string())?;
        let header = batch.header;
        let (base, next) = (header.base_offset, header.next_offset());
        if base < self.lowest || next > self.segment_end {
            let (lowest, end) = (self.lowest, self.segment_end);
            return Err(format!("a batch of offsets {base} to {} lies outside {lowest} to {end}", next - 1));
        }
        if let Ok(follower) = BatchHeader::parse(&bytes[batch.bytes.len()..])
            && follower.base_offset < next
            && !(self.is_exact && base == self.lowest)
        {
            return Err(format!(
                "a batch of offsets {base} to {} is followed by offset {}",
                next - 1,
                follower.base_offset
            ));
        }
        let known = epochs.at(base);
        if base < self.upper && known != NO_LEADER_EPOCH && known != header.leader_epoch {
            return Err(format!("the batch at offset {base} has leader epoch {}, not {known}", header.leader_epoch));
        }
        Ok(header)
    }
}
