//! A segment: one file of record batches back to back, with its two sparse indexes.
//!
//! One writer (who holds the partition's lock) adds batches at the end; readers need no lock. What a reader may look at
//! is `[0, size)`, and `size` moves only when all bytes below it are in the file. The indexes may lag behind.

use std::io::{self, IoSlice};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use model::batch::BatchHeader;
use model::{NO_TIMESTAMP, Offset, TimestampMs};

use crate::disk::{DiskFile, Open, UNREADABLE_STEP, is_unreadable};
use crate::error::StorageError;
use crate::layout::{FileKind, file_name};
use crate::open_files::{FileSlot, OpenFiles};
use crate::sync::{Mutex, MutexGuard};

pub(crate) mod scan;
pub(crate) mod side_index;

use scan::{Damage, Depth, Span, Step, WalkEnd};
use side_index::{Found, OffsetEntry, SideIndex, TimeEntry};

/// Bytes that a lookup may have to walk over before the index counts as full of holes and is rebuilt.
const SPARSE_BYTES_MAX: u64 = 1 << 20;

/// Facts about a segment that are kept in the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentFacts {
    pub(crate) base: Offset,
    pub(crate) next: Offset,
    pub(crate) size: u64,
    pub(crate) max_timestamp: TimestampMs,
    /// Last offset of the batch that first has `max_timestamp`.
    pub(crate) max_timestamp_offset: Offset,
    /// The broker's time at the first append, or −1 while the segment is empty.
    pub(crate) first_append_ms: TimestampMs,
    /// The broker's time at the last append, or −1.
    pub(crate) last_append_ms: TimestampMs,
}

impl SegmentFacts {
    /// A segment without a record.
    pub(crate) fn empty(base: Offset) -> Self {
        SegmentFacts {
            base,
            next: base,
            size: 0,
            max_timestamp: NO_TIMESTAMP,
            max_timestamp_offset: base,
            first_append_ms: NO_TIMESTAMP,
            last_append_ms: NO_TIMESTAMP,
        }
    }

    /// Takes a batch into account.
    pub(crate) fn add(&mut self, header: &BatchHeader, now_ms: TimestampMs) {
        self.size += header.size_bytes() as u64;
        self.next = header.next_offset();
        if header.max_timestamp > self.max_timestamp {
            self.max_timestamp = header.max_timestamp;
            self.max_timestamp_offset = header.last_offset();
        }
        self.appended_at(now_ms);
    }

    /// Something was appended at `now_ms`.
    pub(crate) fn appended_at(&mut self, now_ms: TimestampMs) {
        if self.first_append_ms == NO_TIMESTAMP {
            self.first_append_ms = now_ms;
        }
        self.last_append_ms = now_ms;
    }
}

/// One segment of a partition's log.
#[derive(Debug)]
pub(crate) struct Segment {
    base: Offset,
    log: Arc<FileSlot>,
    offsets: SideIndex<OffsetEntry>,
    times: SideIndex<TimeEntry>,
    size: AtomicU64,
    next: AtomicI64,
    max_timestamp: AtomicI64,
    max_timestamp_offset: AtomicI64,
    first_append_ms: AtomicI64,
    last_append_ms: AtomicI64,
    /// Bytes since the last index entry.
    unindexed: AtomicU64,
    /// Bytes that a sync has covered.
    synced: AtomicU64,
    /// The file's name is known to be durable.
    named: AtomicBool,
    /// Journal position behind the entry that closed the segment.
    closed_lsn: AtomicU64,
    rebuilt: AtomicBool,
    /// The file's name was taken away.
    retired: AtomicBool,
    /// Held while the file is synced. All segments that stand for the same file share it.
    syncing: Arc<Mutex<()>>,
}

/// A batch that a lookup found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Located {
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
}

impl Segment {
    /// A segment that begins now.
    pub(crate) fn new(dir: &Arc<Path>, base: Offset) -> Self {
        Self::build(dir, SegmentFacts::empty(base), SideIndex::empty, SideIndex::empty)
    }

    /// A segment whose files are there.
    pub(crate) fn existing(dir: &Arc<Path>, facts: SegmentFacts) -> Self {
        let segment = Self::build(dir, facts, SideIndex::stored, SideIndex::stored);
        // The file of an empty segment may never have been made.
        segment.named.store(facts.size > 0, Ordering::Relaxed);
        segment
    }

    /// Nothing is known to be durable of it.
    pub(crate) fn note_unsynced(&self) {
        self.synced.store(0, Ordering::Release);
        self.named.store(false, Ordering::Release);
    }

    fn build(
        dir: &Arc<Path>,
        facts: SegmentFacts,
        offsets: impl Fn(Arc<FileSlot>) -> SideIndex<OffsetEntry>,
        times: impl Fn(Arc<FileSlot>) -> SideIndex<TimeEntry>,
    ) -> Self {
        let slot = |kind| FileSlot::new(dir, file_name(facts.base, kind));
        Segment {
            base: facts.base,
            log: slot(FileKind::Log),
            offsets: offsets(slot(FileKind::OffsetIndex)),
            times: times(slot(FileKind::TimeIndex)),
            size: AtomicU64::new(facts.size),
            next: AtomicI64::new(facts.next),
            max_timestamp: AtomicI64::new(facts.max_timestamp),
            max_timestamp_offset: AtomicI64::new(facts.max_timestamp_offset),
            first_append_ms: AtomicI64::new(facts.first_append_ms),
            last_append_ms: AtomicI64::new(facts.last_append_ms),
            unindexed: AtomicU64::new(0),
            synced: AtomicU64::new(facts.size),
            named: AtomicBool::new(false),
            closed_lsn: AtomicU64::new(u64::MAX),
            rebuilt: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            syncing: Arc::default(),
        }
    }

    /// The segment that takes the place of `old`, with the same file.
    pub(crate) fn in_place_of(dir: &Arc<Path>, facts: SegmentFacts, old: &Segment) -> Self {
        Segment { syncing: Arc::clone(&old.syncing), ..Segment::existing(dir, facts) }
    }

    pub(crate) fn base(&self) -> Offset {
        self.base
    }

    /// First offset after the segment, for readers.
    pub(crate) fn next(&self) -> Offset {
        self.next.load(Ordering::Acquire)
    }

    /// Bytes that readers may look at.
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub(crate) fn max_timestamp(&self) -> TimestampMs {
        self.max_timestamp.load(Ordering::Acquire)
    }

    pub(crate) fn facts(&self) -> SegmentFacts {
        SegmentFacts {
            base: self.base,
            next: self.next(),
            size: self.size(),
            max_timestamp: self.max_timestamp(),
            max_timestamp_offset: self.max_timestamp_offset.load(Ordering::Acquire),
            first_append_ms: self.first_append_ms.load(Ordering::Acquire),
            last_append_ms: self.last_append_ms.load(Ordering::Acquire),
        }
    }

    /// The files, in the order in which their names go.
    pub(crate) fn slots(&self) -> [&Arc<FileSlot>; 3] {
        [&self.log, self.offsets.slot(), self.times.slot()]
    }

    pub(crate) fn log_slot(&self) -> &Arc<FileSlot> {
        &self.log
    }

    /// The file of batches.
    pub(crate) fn open_log(&self, files: &OpenFiles) -> Result<Arc<dyn DiskFile>, StorageError> {
        files.open(&self.log, Open::Existing).map_err(|e| self.io("open", e))
    }

    /// The file of batches, made when it is not there.
    pub(crate) fn create_log(&self, files: &OpenFiles) -> Result<Arc<dyn DiskFile>, StorageError> {
        files.open(&self.log, Open::Create).map_err(|e| self.io("create", e))
    }

    pub(crate) fn io(&self, action: &'static str, source: io::Error) -> StorageError {
        StorageError::io(action, &self.log.path(), source)
    }

    pub(crate) fn damaged(&self, position: u64, what: impl Into<String>) -> StorageError {
        StorageError::Damaged { path: self.log.path(), position, what: what.into() }
    }

    /// Bytes at the end that no sync has covered yet.
    pub(crate) fn is_dirty(&self) -> bool {
        self.size() > 0 && (self.synced.load(Ordering::Acquire) < self.size() || !self.is_named())
    }

    pub(crate) fn is_named(&self) -> bool {
        self.named.load(Ordering::Acquire)
    }

    /// Held while the file is synced: the operating system reports a failed write to one of two syncs only.
    pub(crate) fn lock_sync(&self) -> MutexGuard<'_, ()> {
        self.syncing.lock()
    }

    /// True when a sync that began after the first `size` bytes were written has ended, and the name is durable.
    pub(crate) fn is_synced_to(&self, size: u64) -> bool {
        self.synced.load(Ordering::Acquire) >= size && self.is_named()
    }

    /// The file's name is about to go: its bytes are needed no more.
    pub(crate) fn note_retired(&self) {
        self.retired.store(true, Ordering::Release);
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// A sync has covered the first `size` bytes and the name.
    pub(crate) fn note_synced(&self, size: u64) {
        self.synced.fetch_max(size, Ordering::AcqRel);
        self.named.store(true, Ordering::Release);
    }

    /// The segment grows no more: the journal says so at `lsn`, and the next one begins at `next`.
    pub(crate) fn close_at(&self, lsn: u64, next: Offset) {
        self.next.store(next, Ordering::Release);
        self.closed_lsn.store(lsn, Ordering::Release);
    }

    /// Journal position that must be flushed before the segment's end is final; `u64::MAX` while it is open.
    pub(crate) fn closed_lsn(&self) -> u64 {
        self.closed_lsn.load(Ordering::Acquire)
    }

    /// Writes batches behind the end. They are not part of the segment until [`Segment::publish`].
    pub(crate) fn write(&self, files: &OpenFiles, batches: &[IoSlice<'_>]) -> Result<(), StorageError> {
        let file = self.create_log(files)?;
        file.write_at(batches, self.size()).map_err(|e| self.io("append to", e))
    }

    /// True when the disk cannot read the last page of the segment, of which an append would have to keep the beginning.
    pub(crate) fn has_unreadable_end(&self, files: &OpenFiles) -> bool {
        let size = self.size();
        let rest = size % UNREADABLE_STEP as u64;
        let (Ok(file), Ok(len)) = (self.open_log(files), usize::try_from(rest)) else { return false };
        len > 0 && file.read_into(&mut Vec::new(), len, size - rest).is_err_and(|e| is_unreadable(&e))
    }

    /// Writes the file's own bytes of `range` again, so that the next sync has to bring them to the disk: after a failed flush
    /// the page cache may hold bytes that the disk does not have, and call them clean.
    pub(crate) fn write_again(&self, files: &OpenFiles, range: std::ops::Range<u64>) -> Result<(), StorageError> {
        const STEP: u64 = 1 << 20;
        let file = self.open_log(files)?;
        let (mut position, mut longest) = (range.start, STEP);
        let mut bytes = Vec::new();
        while position < range.end {
            bytes.clear();
            let to_boundary = longest - position % longest;
            let step = usize::try_from((range.end - position).min(to_boundary)).unwrap_or(0);
            let read = match file.read_into(&mut bytes, step, position) {
                Ok(0) => break,
                Ok(read) => read,
                Err(e) if is_unreadable(&e) && step > UNREADABLE_STEP => {
                    longest = UNREADABLE_STEP as u64;
                    continue;
                }
                // Damage: walking over the batches will meet it, too. Other bytes in its place would hide it.
                Err(e) if is_unreadable(&e) => {
                    position += step as u64;
                    continue;
                }
                Err(e) => return Err(self.io("read", e)),
            };
            file.write_at(&[IoSlice::new(&bytes)], position).map_err(|e| self.io("write again", e))?;
            position += read as u64;
        }
        Ok(())
    }

    /// Gives back the space of bytes that were written and not published.
    pub(crate) fn discard_unpublished(&self, files: &OpenFiles) -> Result<(), StorageError> {
        let file = self.open_log(files)?;
        file.set_len(self.size()).map_err(|e| self.io("cut", e))
    }

    /// Makes batches that were written part of the segment: `headers` in order, with offsets assigned.
    pub(crate) fn publish(&self, headers: &[BatchHeader], now_ms: TimestampMs, index_interval: u64) {
        let mut facts = self.facts();
        for header in headers {
            let position = facts.size;
            facts.add(header, now_ms);
            self.index(header, position, &facts, index_interval);
        }
        self.max_timestamp_offset.store(facts.max_timestamp_offset, Ordering::Release);
        self.max_timestamp.store(facts.max_timestamp, Ordering::Release);
        self.first_append_ms.store(facts.first_append_ms, Ordering::Release);
        self.last_append_ms.store(facts.last_append_ms, Ordering::Release);
        self.next.store(facts.next, Ordering::Release);
        self.size.store(facts.size, Ordering::Release);
    }

    /// Counts damaged bytes up to `position` as part of the segment, which continues with offset `next`: a reader of what they
    /// held must meet damage, not the batch behind them.
    pub(crate) fn pass_over(&self, position: u64, next: Offset, now_ms: TimestampMs) {
        let mut facts = self.facts();
        facts.appended_at(now_ms);
        self.first_append_ms.store(facts.first_append_ms, Ordering::Release);
        self.last_append_ms.store(facts.last_append_ms, Ordering::Release);
        self.next.store(next, Ordering::Release);
        self.size.store(position, Ordering::Release);
    }

    /// The same segment up to `position`, where the log continues with offset `next`. Its bytes stay as they are, damaged ones
    /// too: what cannot be read must not be taken for something that never was.
    ///
    /// # Errors
    /// Those of reading the batches.
    pub(crate) fn shortened(
        &self,
        dir: &Arc<Path>,
        files: &OpenFiles,
        (position, next): (u64, Offset),
    ) -> Result<Segment, StorageError> {
        let old = self.facts();
        let mut facts = SegmentFacts::empty(self.base);
        let span = Span { bytes: 0..position, offsets: self.base..next };
        let damage = self.walk_past_damage(files, span, |step| {
            facts.add(step.header, old.first_append_ms);
            ControlFlow::Continue(())
        })?;
        if !damage.is_empty() {
            // The damaged batch may be the one with the largest timestamp.
            facts.max_timestamp = old.max_timestamp;
            facts.max_timestamp_offset = old.max_timestamp_offset.min(next - 1).max(self.base);
            facts.first_append_ms = old.first_append_ms;
        }
        facts = SegmentFacts { size: position, next, last_append_ms: old.last_append_ms, ..facts };
        Ok(Segment::in_place_of(dir, facts, self))
    }

    /// All of the segment.
    pub(crate) fn span(&self) -> Span {
        self.span_from(0)
    }

    /// All of the segment from a position on.
    pub(crate) fn span_from(&self, position: u64) -> Span {
        // The size first: what it covers lies below the offset that is loaded after it.
        let size = self.size();
        Span { bytes: position..size, offsets: self.base..self.next() }
    }

    /// Walks over the batches in the span.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn walk(
        &self,
        files: &OpenFiles,
        span: Span,
        depth: Depth,
        visit: impl FnMut(Step<'_>) -> ControlFlow<()>,
    ) -> Result<WalkEnd, StorageError> {
        if span.bytes.is_empty() {
            // An empty segment may have no file yet.
            return Ok(WalkEnd::Reached);
        }
        let file = match self.open_log(files) {
            Err(e) if self.lacks_file(&e) => return Ok(WalkEnd::Damaged(self.all_lost(span))),
            file => file?,
        };
        scan::walk(&*file, span, depth, visit).map_err(|e| self.io("read", e))
    }

    /// Walks over the intact batches in the span, checksums included, and answers the damage between them.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn walk_past_damage(
        &self,
        files: &OpenFiles,
        span: Span,
        visit: impl FnMut(Step<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<Damage>, StorageError> {
        if span.bytes.is_empty() {
            return Ok(Vec::new());
        }
        let file = match self.open_log(files) {
            Err(e) if self.lacks_file(&e) => return Ok(vec![self.all_lost(span)]),
            file => file?,
        };
        scan::walk_past_damage(&*file, span, Depth::Checksums, visit).map_err(|e| self.io("read", e))
    }
}

mod indexes;
mod lookup;
mod lost;
