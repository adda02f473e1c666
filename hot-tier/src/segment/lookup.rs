//! Finding a batch of a segment by offset or by timestamp.

use std::ops::{ControlFlow, Range};
use std::sync::atomic::Ordering;

use model::batch::BatchHeader;
use model::{NO_TIMESTAMP, Offset, TimestampMs};

use super::scan::{Depth, Span, WalkEnd};
use super::{Found, Located, SPARSE_BYTES_MAX, Segment, TimeEntry};
use crate::error::StorageError;
use crate::open_files::OpenFiles;

/// Bytes between two entries of an index that is built anew.
const REBUILD_INTERVAL_BYTES: u64 = 4096;

impl Segment {
    /// The first batch whose last offset is at least `offset`, below what readers may see; none when all are lower.
    ///
    /// # Errors
    /// Those of reading, and [`StorageError::Damaged`] when a batch on the way is not one.
    pub(crate) fn locate(&self, files: &OpenFiles, offset: Offset) -> Result<Option<Located>, StorageError> {
        let Span { bytes, offsets } = self.span();
        let (size, end) = (bytes.end, offsets.end);
        let start = self.index_position(files, offset, size)?;
        let span = || Span { bytes: start..size, offsets: offsets.clone() };
        let found = match self.first_from(files, span(), |header| header.last_offset() >= offset) {
            Err(damage @ StorageError::Damaged { .. }) => {
                return self.containing(files, span(), offset)?.map(Some).ok_or(damage);
            }
            found => found?,
        };
        let reached = found.map_or(size, |found| found.position);
        if reached - start > SPARSE_BYTES_MAX && !self.rebuilt.load(Ordering::Acquire) {
            // The index lost entries in a power cut: this lookup was slow, the next ones will not be.
            let _ = self.rebuild_indexes(files, REBUILD_INTERVAL_BYTES);
        }
        let is_behind = found.map_or(offset < end, |found| found.header.base_offset > offset);
        if is_behind {
            // A gap, or a batch that was passed over because its last offset has changed: its checksum tells.
            return self.walk_to(files, span(), Depth::Checksums, |header| header.last_offset() >= offset);
        }
        Ok(found)
    }

    /// The intact batch that contains `offset`, whatever lies before it.
    fn containing(&self, files: &OpenFiles, span: Span, offset: Offset) -> Result<Option<Located>, StorageError> {
        let mut found = None;
        let _passed = self.walk_past_damage(files, span, |step| {
            if step.header.last_offset() < offset {
                return ControlFlow::Continue(());
            }
            let located = Located { position: step.position, header: *step.header };
            found = Some(located).filter(|located| located.header.base_offset <= offset);
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// The position up to which the segment is kept, and the offset up to which it is then, when everything from `offset` on
    /// goes. A batch that spans it goes as a whole, and so do damaged bytes that may hold it. Damage below stays.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn cut_point(&self, files: &OpenFiles, offset: Offset) -> Result<(u64, Offset), StorageError> {
        if self.size() == 0 {
            return Ok((0, offset));
        }
        match self.locate(files, offset) {
            Ok(Some(found)) => return Ok((found.position, offset.min(found.header.base_offset))),
            Ok(None) => return Ok((self.size(), offset)),
            Err(StorageError::Damaged { .. }) => {}
            Err(e) => return Err(e),
        }
        let mut found = (self.size(), offset);
        let damage = self.walk_past_damage(files, self.span(), |step| {
            if step.header.last_offset() < offset {
                return ControlFlow::Continue(());
            }
            found = (step.position, offset.min(step.header.base_offset));
            ControlFlow::Break(())
        })?;
        // Which of its offsets lie below the cut cannot be told.
        let spanning = damage.iter().find(|damage| damage.offsets.end > offset);
        Ok(spanning.map_or(found, |damage| (damage.bytes.start, damage.offsets.start)))
    }

    /// The first batch from `from` on whose largest timestamp is at least `timestamp`.
    ///
    /// # Errors
    /// As [`Segment::locate`].
    pub(crate) fn locate_timestamp(
        &self,
        files: &OpenFiles,
        timestamp: TimestampMs,
        from: Offset,
    ) -> Result<Option<Located>, StorageError> {
        let size = self.size();
        let found = self.times.find(files, timestamp, size).map_err(|e| self.io("read the time index of", e))?;
        let first = match found {
            // All batches before the one that first reached the entry's timestamp lie below it.
            Found::Entry(entry) if self.is_true(files, entry, size)? => self.base + i64::from(entry.relative_offset),
            Found::Nothing => self.base,
            Found::Entry(_) | Found::Damaged => {
                let _ = self.rebuild_indexes(files, REBUILD_INTERVAL_BYTES);
                self.base
            }
        };
        let start = self.index_position(files, first.max(from), size)?;
        // A changed timestamp would hide a batch: the few that are passed over are checked whole.
        let wanted = |header: &BatchHeader| header.max_timestamp >= timestamp && header.last_offset() >= from;
        self.walk_to(files, self.span_from(start), Depth::Checksums, wanted)
    }

    /// The largest timestamp of the batches that have records in `offsets`, −1 without any. Reads their headers.
    ///
    /// # Errors
    /// As [`Segment::locate`].
    pub(crate) fn largest_timestamp(
        &self,
        files: &OpenFiles,
        offsets: Range<Offset>,
    ) -> Result<TimestampMs, StorageError> {
        let mut largest = NO_TIMESTAMP;
        let past = |header: &BatchHeader| {
            if header.base_offset < offsets.end && header.last_offset() >= offsets.start {
                largest = largest.max(header.max_timestamp);
            }
            header.base_offset >= offsets.end
        };
        self.walk_to(files, self.span(), Depth::Headers, past)?;
        Ok(largest)
    }

    /// True when the batch that the entry speaks of has the entry's timestamp.
    fn is_true(&self, files: &OpenFiles, entry: TimeEntry, size: u64) -> Result<bool, StorageError> {
        let last = self.base + i64::from(entry.relative_offset);
        let start = self.index_position(files, last, size)?;
        let found =
            self.walk_to(files, self.span_from(start), Depth::Checksums, |header| header.last_offset() >= last)?;
        let is_true = found
            .is_some_and(|found| found.header.last_offset() == last && found.header.max_timestamp == entry.timestamp);
        if !is_true {
            tracing::warn!(segment = %self.log.path().display(), "the time index of a segment is damaged");
        }
        Ok(is_true)
    }

    /// A position at or before the batch of `offset`: where the index says, once that was checked.
    fn index_position(&self, files: &OpenFiles, offset: Offset, size: u64) -> Result<u64, StorageError> {
        let key = offset.saturating_sub(self.base);
        for _ in 0..2 {
            let found = self.offsets.find(files, key, size).map_err(|e| self.io("read the offset index of", e))?;
            match found {
                Found::Nothing => return Ok(0),
                Found::Entry(entry) if u64::from(entry.position) >= size => return Ok(0),
                Found::Entry(entry) => {
                    let position = u64::from(entry.position);
                    let expected = self.base + i64::from(entry.relative_offset);
                    let at = self.first_from(files, self.span_from(position), |_| true);
                    if matches!(at, Ok(Some(at)) if at.header.last_offset() == expected) {
                        return Ok(position);
                    }
                    if let Err(e @ StorageError::NoDescriptor { .. }) = at {
                        return Err(e);
                    }
                    tracing::warn!(segment = %self.log.path().display(), position, "the offset index of a segment is damaged");
                }
                Found::Damaged => {}
            }
            self.rebuild_indexes(files, REBUILD_INTERVAL_BYTES)?;
            self.store_indexes(files);
        }
        Ok(0)
    }

    /// The first batch in the span that `wanted` takes.
    fn first_from(
        &self,
        files: &OpenFiles,
        span: Span,
        wanted: impl Fn(&BatchHeader) -> bool,
    ) -> Result<Option<Located>, StorageError> {
        self.walk_to(files, span, Depth::Headers, wanted)
    }

    fn walk_to(
        &self,
        files: &OpenFiles,
        span: Span,
        depth: Depth,
        mut wanted: impl FnMut(&BatchHeader) -> bool,
    ) -> Result<Option<Located>, StorageError> {
        let mut found = None;
        let end = self.walk(files, span, depth, |step| {
            if !wanted(step.header) {
                return ControlFlow::Continue(());
            }
            found = Some(Located { position: step.position, header: *step.header });
            ControlFlow::Break(())
        })?;
        match end {
            WalkEnd::Damaged(damage) => Err(self.damaged(damage.bytes.start, damage.what)),
            WalkEnd::Reached => Ok(found),
        }
    }
}
