//! What a segment enters in its two sparse indexes, and how they reach the disk.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use model::Offset;
use model::batch::BatchHeader;

use super::side_index::{OffsetEntry, TimeEntry};
use super::{Segment, SegmentFacts};
use crate::error::StorageError;
use crate::open_files::OpenFiles;

impl Segment {
    /// Adds index entries for the batch at `position` when enough bytes lie between it and the last entry.
    pub(super) fn index(&self, header: &BatchHeader, position: u64, facts: &SegmentFacts, interval: u64) {
        let unindexed = self.unindexed.load(Ordering::Relaxed);
        if unindexed > interval {
            if let (Some(relative_offset), Ok(position)) =
                (self.relative(header.last_offset()), u32::try_from(position))
            {
                self.offsets.push(OffsetEntry { relative_offset, position });
                self.push_time(facts);
            }
            self.unindexed.store(0, Ordering::Relaxed);
        }
        self.unindexed.fetch_add(header.size_bytes() as u64, Ordering::Relaxed);
    }

    fn push_time(&self, facts: &SegmentFacts) {
        if facts.max_timestamp >= 0
            && let Some(relative_offset) = self.relative(facts.max_timestamp_offset)
        {
            self.times.push(TimeEntry { timestamp: facts.max_timestamp, relative_offset });
        }
    }

    pub(super) fn relative(&self, offset: Offset) -> Option<u32> {
        // Kafka's tools read the relative offset as a signed number.
        i32::try_from(offset.checked_sub(self.base)?).ok().and_then(|relative| u32::try_from(relative).ok())
    }

    /// Writes index entries from memory; errors only cost a rebuild later.
    pub(crate) fn store_indexes(&self, files: &OpenFiles) {
        let size = self.size();
        let stored = self.offsets.store(files, size).and_then(|a| Ok(a & self.times.store(files, size)?));
        match stored {
            Ok(true) => {}
            Ok(false) => drop(self.rebuild_indexes(files, 4096)),
            Err(e) => tracing::warn!(segment = %self.log.path().display(), error = %e, "cannot write an index"),
        }
    }

    /// Writes index entries when many have collected.
    pub(crate) fn store_full_indexes(&self, files: &OpenFiles) {
        if self.offsets.is_tail_full() {
            self.store_indexes(files);
        }
    }

    /// The segment grows no more: its time index ends with its largest timestamp, as Kafka's do.
    pub(crate) fn finish_indexes(&self, files: &OpenFiles) {
        self.push_time(&self.facts());
        self.store_indexes(files);
    }

    /// Rebuilds both indexes from the intact batches.
    ///
    /// # Errors
    /// Those of reading the batches.
    pub(crate) fn rebuild_indexes(&self, files: &OpenFiles, interval: u64) -> Result<(), StorageError> {
        tracing::info!(segment = %self.log.path().display(), "rebuilding the indexes of a segment");
        let (mut offsets, mut times) = (Vec::<OffsetEntry>::new(), Vec::<TimeEntry>::new());
        let mut facts = SegmentFacts::empty(self.base);
        let mut unindexed = 0;
        let damage = self.walk_past_damage(files, self.span(), |step| {
            facts.add(step.header, 0);
            if unindexed > interval
                && let (Some(relative_offset), Ok(position)) =
                    (self.relative(step.header.last_offset()), u32::try_from(step.position))
            {
                offsets.push(OffsetEntry { relative_offset, position });
                if let Some(relative_offset) = self.relative(facts.max_timestamp_offset)
                    && facts.max_timestamp >= 0
                    && times.last().is_none_or(|last: &TimeEntry| last.timestamp < facts.max_timestamp)
                {
                    times.push(TimeEntry { timestamp: facts.max_timestamp, relative_offset });
                }
                unindexed = 0;
            }
            unindexed += step.header.size_bytes() as u64;
            ControlFlow::Continue(())
        })?;
        for damage in damage {
            let (segment, position, what) = (self.log.path(), damage.bytes.start, damage.what);
            tracing::warn!(segment = %segment.display(), position, what, "a damaged batch is left out of the index");
        }
        self.offsets.replace(offsets);
        self.times.replace(times);
        self.unindexed.store(unindexed, Ordering::Relaxed);
        self.rebuilt.store(true, Ordering::Release);
        Ok(())
    }
}
