//! Questions about the archive that need no records, or one chunk of them: by timestamp and by leader epoch.

use std::ops::ControlFlow;

use model::archive::ManifestPointer;
use model::batch::{Batches, RecordsBuffer};
use model::{LeaderEpoch, NO_TIMESTAMP, Offset, TimestampMs};

use super::Place;
use crate::error::ReadError;
use crate::manifest::{ArchivedSegment, Child};
use crate::tier::{ColdTier, Inner};
use std::sync::Arc;

/// A record by offset and timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampOffset {
    /// Its timestamp in ms.
    pub timestamp: TimestampMs,
    /// Its offset.
    pub offset: Offset,
    /// Leader epoch of its batch.
    pub leader_epoch: LeaderEpoch,
}

impl ColdTier {
    /// The first record at or above the log start with a timestamp of `timestamp` or later, if the archive has one.
    ///
    /// # Errors
    /// When a manifest, a footer or a chunk cannot be read. Takes no deadline: bound it from outside; what was loaded
    /// stays cached.
    pub async fn offset_for_timestamp(
        &self,
        pointer: &ManifestPointer,
        timestamp: TimestampMs,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let mut from = pointer.log_start;
        while let Some(segment) = self.inner.next_with_time(pointer, from, timestamp).await? {
            if let Some(found) = self.inner.search_segment(&segment, from, timestamp).await? {
                return Ok(Some(found));
            }
            from = segment.next_offset;
        }
        Ok(None)
    }

    /// The first record with the largest timestamp in the archive, if any carries one.
    ///
    /// # Errors
    /// As [`Self::offset_for_timestamp`].
    pub async fn max_timestamp(&self, pointer: &ManifestPointer) -> Result<Option<TimestampOffset>, ReadError> {
        // The pointer's largest timestamp may belong to a record below the log start, in a segment that reaches above it.
        let mut largest = pointer.max_timestamp;
        // A batch whose records are all from before 1970 has no largest timestamp, as in Kafka and in the hot tier.
        while largest > NO_TIMESTAMP {
            if let Some(found) = self.offset_for_timestamp(pointer, largest).await? {
                return Ok(Some(found));
            }
            largest = self.inner.largest_below(pointer, largest).await?;
        }
        Ok(None)
    }

    /// The largest leader epoch up to `leader_epoch` that has records in the archive, and the offset at which the next
    /// one begins (KIP-101); the archive's end where no later epoch is archived.
    ///
    /// # Errors
    /// When a manifest cannot be read.
    pub async fn end_offset_for_epoch(
        &self,
        pointer: &ManifestPointer,
        leader_epoch: LeaderEpoch,
    ) -> Result<Option<(LeaderEpoch, Offset)>, ReadError> {
        let mut found = None;
        let mut end = pointer.archived_end;
        let visit = |segment: &ArchivedSegment| {
            for epoch in &segment.epochs {
                if epoch.leader_epoch <= leader_epoch {
                    found = Some(epoch.leader_epoch);
                } else {
                    end = epoch.start_offset.max(pointer.log_start);
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        };
        self.inner.manifests.each(pointer, pointer.log_start, |_| true, visit).await?;
        Ok(found.map(|epoch| (epoch, end)))
    }
}

impl Inner {
    async fn next_with_time(
        self: &Arc<Self>,
        pointer: &ManifestPointer,
        from: Offset,
        timestamp: TimestampMs,
    ) -> Result<Option<ArchivedSegment>, ReadError> {
        let has = |max: TimestampMs| max != NO_TIMESTAMP && max >= timestamp;
        let mut found = None;
        let enter = |child: &Child| has(child.totals.max_timestamp);
        let visit = |segment: &ArchivedSegment| {
            if !has(segment.max_timestamp) {
                return ControlFlow::Continue(());
            }
            found = Some(segment.clone());
            ControlFlow::Break(())
        };
        self.manifests.each(pointer, from, enter, visit).await?;
        Ok(found)
    }

    /// The first record of the segment at or above `from` that is new enough.
    async fn search_segment(
        self: &Arc<Self>,
        segment: &ArchivedSegment,
        from: Offset,
        timestamp: TimestampMs,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let footer = self.footer(segment).await?;
        let mut next = footer.chunk_at(from);
        while let Some(chunk) = footer.chunk_from_time(timestamp, next) {
            let place = Place { segment: Arc::new(segment.clone()), footer: Arc::clone(&footer), chunk };
            let replayed = self.chunk(&place).await?;
            if let Some(found) = search(&replayed.bytes, from, timestamp) {
                return Ok(Some(found));
            }
            next = chunk + 1;
        }
        Ok(None)
    }

    /// The largest timestamp of any chunk at or above the log start that is smaller than `timestamp`.
    async fn largest_below(
        self: &Arc<Self>,
        pointer: &ManifestPointer,
        timestamp: TimestampMs,
    ) -> Result<TimestampMs, ReadError> {
        let Some(first) = self.manifests.find(pointer, pointer.log_start).await? else { return Ok(NO_TIMESTAMP) };
        let footer = self.footer(&first).await?;
        let mut largest = NO_TIMESTAMP;
        if let Some(chunk) = footer.chunks.get(footer.chunk_at(pointer.log_start)) {
            // Only the chunk that holds the log start can have lost its largest record.
            let place = Place {
                segment: Arc::new(first),
                footer: Arc::clone(&footer),
                chunk: footer.chunk_at(pointer.log_start),
            };
            let below = chunk.facts.max_timestamp.min(timestamp - 1);
            let replayed = self.chunk(&place).await?;
            largest = largest_in(&replayed.bytes, pointer.log_start).min(below);
        }
        let in_chunks =
            footer.chunks.iter().skip(footer.chunk_at(pointer.log_start) + 1).map(|c| c.facts.max_timestamp);
        largest = in_chunks.filter(|&t| t < timestamp).fold(largest, i64::max);
        let mut in_segments = NO_TIMESTAMP;
        let visit = |segment: &ArchivedSegment| {
            if segment.base_offset > pointer.log_start && segment.max_timestamp < timestamp {
                in_segments = in_segments.max(segment.max_timestamp);
            }
            ControlFlow::Continue(())
        };
        self.manifests.each(pointer, pointer.log_start, |_| true, visit).await?;
        Ok(largest.max(in_segments))
    }
}

fn records(bytes: &[u8], mut visit: impl FnMut(TimestampOffset) -> ControlFlow<()>) {
    let mut scratch = RecordsBuffer::new(0);
    for batch in Batches::new(bytes).flatten() {
        let Ok(records) = batch.records(&mut scratch) else { return };
        for record in records.flatten() {
            let leader_epoch = batch.header.leader_epoch;
            if visit(TimestampOffset { timestamp: record.timestamp, offset: record.offset, leader_epoch }).is_break() {
                return;
            }
        }
    }
}

/// How many of the records lie below `offset`.
pub(super) fn count_below(bytes: &[u8], offset: Offset) -> u64 {
    let mut count = 0;
    records(bytes, |record| {
        if record.offset >= offset {
            return ControlFlow::Break(());
        }
        count += 1;
        ControlFlow::Continue(())
    });
    count
}

fn search(bytes: &[u8], from: Offset, timestamp: TimestampMs) -> Option<TimestampOffset> {
    let mut found = None;
    records(bytes, |record| {
        if record.offset < from || record.timestamp == NO_TIMESTAMP || record.timestamp < timestamp {
            return ControlFlow::Continue(());
        }
        found = Some(record);
        ControlFlow::Break(())
    });
    found
}

fn largest_in(bytes: &[u8], from: Offset) -> TimestampMs {
    let mut largest = NO_TIMESTAMP;
    records(bytes, |record| {
        if record.offset >= from {
            largest = largest.max(record.timestamp);
        }
        ControlFlow::Continue(())
    });
    largest
}
