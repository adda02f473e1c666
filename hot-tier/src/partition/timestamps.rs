//! Offsets by timestamp, exact to the record (`ListOffsets`, KIP-79 and KIP-734).

use std::sync::Arc;

use model::batch::{BatchView, RecordsBuffer};
use model::{LeaderEpoch, NO_TIMESTAMP, Offset, TimestampMs};

use super::PartitionLog;
use crate::error::ReadError;
use crate::segment::{Located, Segment};

/// Largest batch, decompressed, in which a record is looked for, in bytes: what the door lets in is smaller.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

/// A record found by its timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampedOffset {
    /// The record's timestamp, in ms.
    pub timestamp: TimestampMs,
    /// Its offset.
    pub offset: Offset,
    /// Leader epoch of its batch, or −1.
    pub leader_epoch: LeaderEpoch,
}

impl PartitionLog {
    /// The first record on local disk, at or above the local start, whose timestamp is at least `timestamp` (ms).
    ///
    /// # Errors
    /// Those of reading, and damage in a batch that has to be looked into.
    pub fn offset_for_timestamp(&self, timestamp: TimestampMs) -> Result<Option<TimestampedOffset>, ReadError> {
        self.undisturbed(|| self.search(timestamp, self.local_start()))
    }

    /// The first record that has the largest timestamp of those on local disk below `end`, which lies between two batches.
    /// `None` if none has one.
    ///
    /// # Errors
    /// As [`PartitionLog::offset_for_timestamp`].
    pub fn max_timestamp(&self, end: Offset) -> Result<Option<TimestampedOffset>, ReadError> {
        self.undisturbed(|| {
            let start = self.local_start();
            let segments = self.segments.load();
            let largest = segments.iter().map(|segment| segment.max_timestamp()).max().unwrap_or(NO_TIMESTAMP);
            let is_between = |found: &TimestampedOffset| found.offset < end;
            if largest > NO_TIMESTAMP
                && let Some(found) = self.search(largest, start)?.filter(is_between)
            {
                return Ok(Some(found));
            }
            // What the segments know is of records that are gone, or not committed yet.
            match self.largest_between(start, end)? {
                NO_TIMESTAMP => Ok(None),
                largest => Ok(self.search(largest, start)?.filter(is_between)),
            }
        })
    }

    /// The largest timestamp of the batches between two offsets. Reads their headers, unless a whole segment lies between.
    fn largest_between(&self, start: Offset, end: Offset) -> Result<TimestampMs, ReadError> {
        let mut largest = NO_TIMESTAMP;
        for segment in self.segments.load().iter().filter(|segment| segment.size() > 0 && segment.base() < end) {
            if segment.next() <= end && segment.base() >= start && segment.max_timestamp() <= largest {
                continue;
            }
            largest = largest.max(segment.largest_timestamp(&self.core.files, start..end)?);
        }
        Ok(largest)
    }

    fn search(&self, timestamp: TimestampMs, start: Offset) -> Result<Option<TimestampedOffset>, ReadError> {
        let files = &self.core.files;
        for segment in self.segments.load().iter().filter(|segment| segment.size() > 0) {
            if segment.max_timestamp() < timestamp {
                continue;
            }
            let mut from = start.max(segment.base());
            while let Some(batch) = segment.locate_timestamp(files, timestamp, from)? {
                if let Some(found) = self.search_batch(segment, batch, timestamp, start)? {
                    return Ok(Some(found));
                }
                // The batch reaches the timestamp only below the log start.
                from = batch.header.next_offset();
            }
        }
        Ok(None)
    }

    fn search_batch(
        &self,
        segment: &Arc<Segment>,
        batch: Located,
        timestamp: TimestampMs,
        start: Offset,
    ) -> Result<Option<TimestampedOffset>, ReadError> {
        let read = self.read_batches(segment, batch, batch.header.size_bytes(), self.log_end())?;
        if read.records.is_empty() {
            return Ok(None);
        }
        let damaged = |e: model::batch::BatchError| ReadError::from(segment.damaged(batch.position, e.to_string()));
        let view = BatchView::parse(&read.records).map_err(damaged)?;
        let mut buffer = RecordsBuffer::new(DECOMPRESSED_BYTES_MAX);
        for record in view.records(&mut buffer).map_err(damaged)? {
            let record = record.map_err(damaged)?;
            if record.timestamp >= timestamp && record.offset >= start {
                let leader_epoch = batch.header.leader_epoch;
                return Ok(Some(TimestampedOffset {
                    timestamp: record.timestamp,
                    offset: record.offset,
                    leader_epoch,
                }));
            }
        }
        Ok(None)
    }
}
