//! Segments of which the file is gone, or ends before the segment does.
//!
//! They stay part of the log: a reader of what they held must meet damage, not the segment behind them. How many bytes were
//! lost is known from the checkpoint at best. What is restored is written behind what is there, in pieces.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::batch::{BatchHeader, HEADER_LEN};
use model::{NO_TIMESTAMP, Offset};

use super::scan::Damage;
use super::{Segment, SegmentFacts, Span};
use crate::disk::is_unreadable;
use crate::error::StorageError;
use crate::open_files::OpenFiles;

impl SegmentFacts {
    /// True when the number of bytes may be wrong: the file was lost, at least in part.
    pub(crate) fn is_lost(&self) -> bool {
        self.size > 0 && self.first_append_ms == NO_TIMESTAMP
    }

    /// A segment whose file is gone, and of which nothing is known but that `next` is newer.
    pub(crate) fn lost(base: Offset, next: &SegmentFacts) -> Self {
        SegmentFacts {
            next: next.base,
            size: 1,
            max_timestamp: next.max_timestamp,
            max_timestamp_offset: base,
            last_append_ms: next.last_append_ms,
            ..SegmentFacts::empty(base)
        }
    }
}

impl Segment {
    /// A closed segment whose file is gone.
    pub(crate) fn lost(dir: &Arc<Path>, base: Offset, next: &SegmentFacts) -> Self {
        let segment = Segment::existing(dir, SegmentFacts::lost(base, next));
        segment.close_at(0, next.base);
        segment
    }

    /// The file is gone, or ends before the segment does; checkpoints remember that.
    pub(crate) fn note_lost(&self) {
        self.first_append_ms.store(NO_TIMESTAMP, Ordering::Release);
    }

    /// True from [`Segment::note_lost`] until everything is restored.
    pub(crate) fn is_lost(&self) -> bool {
        self.facts().is_lost()
    }

    /// True when the error says that the file is gone although the log needs it.
    pub(super) fn lacks_file(&self, error: &StorageError) -> bool {
        error.is_not_found() && !self.is_retired()
    }

    /// The damage of a span of which nothing is there; takes note of that.
    pub(super) fn all_lost(&self, span: Span) -> Damage {
        self.note_lost();
        let Span { bytes, offsets } = span;
        Damage { bytes, offsets, what: "the file is missing".to_owned(), is_unreadable: true }
    }

    /// True when the file was cut off at these bytes, which are its last: there are none, or they begin a batch that is longer.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn is_torn(&self, files: &OpenFiles, end: Range<u64>) -> Result<bool, StorageError> {
        if end.is_empty() {
            return Ok(true);
        }
        let mut head = Vec::with_capacity(HEADER_LEN);
        match self.open_log(files)?.read_into(&mut head, HEADER_LEN, end.start) {
            Err(e) if is_unreadable(&e) => return Ok(false),
            read => read.map_err(|e| self.io("read", e))?,
        };
        let is_longer = |header: BatchHeader| header.size_bytes() as u64 > end.end - end.start;
        Ok(head.len() < HEADER_LEN || BatchHeader::parse(&head).is_ok_and(is_longer))
    }

    /// True when the file ends before the segment does, and all of `damage` lies at that end.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn is_cut_off(&self, files: &OpenFiles, damage: &Damage) -> Result<bool, StorageError> {
        let size = self.size();
        let len = match self.open_log(files) {
            Err(e) if self.lacks_file(&e) => 0,
            file => file?.len().map_err(|e| self.io("measure", e))?,
        };
        Ok(len < size && damage.bytes.end == size)
    }

    /// What was lost is there again up to byte `end`, and offset `next`. True when that is all.
    pub(crate) fn restore(&self, end: u64, next: Offset) -> bool {
        let is_whole = next == self.next();
        if is_whole {
            self.size.store(end, Ordering::Release);
            self.first_append_ms.store(self.last_append_ms.load(Ordering::Acquire).max(0), Ordering::Release);
        } else {
            // The rest is longer than nothing.
            self.size.fetch_max(end + 1, Ordering::AcqRel);
        }
        is_whole
    }
}
