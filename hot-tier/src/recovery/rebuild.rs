//! Second pass: one partition's log from its base, its steps and its files.

use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;

use model::Offset;
use model::batch::{BatchHeader, BatchView, Batches};
use model::settings::FlushMode;

use super::plan::{Plan, Step};
use crate::core::Core;
use crate::disk::{is_unreadable, rename_aside};
use crate::error::StorageError;
use crate::journal::entry::{Extent, LogPoint};
use crate::journal::replay::{Place, Tail};
use crate::layout::{self, FileKind};
use crate::leader_epochs::LeaderEpochs;
use crate::open_files::FileSlot;
use crate::partition::producers_at;
use crate::producer_state::ProducerStates;
use crate::segment::scan::{Depth, Span, WalkEnd};
use crate::segment::{Segment, SegmentFacts};

/// Bytes between index entries of what is recovered.
const INDEX_INTERVAL_BYTES: u64 = 4096;

/// The checksum of a range of a file.
enum Checksum {
    Is(u32),
    /// The file ends before the range does.
    CutOff,
    /// The disk cannot read all of it.
    Unreadable,
}

/// Where the batches behind a checkpoint end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScanEnd {
    /// At the limit, at the end of the file, or at a batch that is torn.
    Readable,
    /// At a place that the disk cannot read, and nothing intact follows.
    Unreadable,
}

/// A partition's log as far as it has been rebuilt.
pub(super) struct Rebuild<'a> {
    pub(super) core: &'a Core,
    pub(super) dir: Arc<Path>,
    pub(super) mode: FlushMode,
    pub(super) log_start: Offset,
    /// Never empty once [`Rebuild::start`] is through.
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) epochs: LeaderEpochs,
    pub(super) producers: ProducerStates,
    /// Bases of the segment files in the folder.
    pub(super) files: BTreeSet<Offset>,
    /// What was lost or found damaged, for people.
    pub(super) damage: Vec<String>,
    /// The log ends before the journal says it does.
    pub(super) was_cut: bool,
    /// Base of the first segment whose file may be longer than it should.
    pub(super) touched_from: Offset,
    /// Segments whose bytes only the page cache may have.
    pub(super) unsynced: Vec<Arc<Segment>>,
}

impl Rebuild<'_> {
    /// Takes the plan's steps on top of what the base gave.
    pub(super) fn run(&mut self, plan: &Plan, tail: &Tail) -> Result<(), StorageError> {
        for step in &plan.steps {
            let goes_on = match step {
                Step::Append(extent, place) => self.append(*extent, *place, tail)?,
                Step::Bypassed(extent, len, crc) => self.bypassed(*extent, *len, *crc)?,
                Step::Roll(base) => self.roll(*base)?,
                Step::Epoch(epoch, start) => {
                    self.epochs.begin(*epoch, *start);
                    true
                }
                Step::Mode(mode, point) => {
                    let reached = self.mode == FlushMode::Durable || self.scan_to(*point)?;
                    self.mode = *mode;
                    reached
                }
            };
            if !goes_on {
                self.was_cut = true;
                break;
            }
        }
        if self.mode == FlushMode::Replicated {
            self.scan_to_the_end()?;
        }
        self.cut_files()
    }

    pub(super) fn active(&self) -> &Arc<Segment> {
        // Filled by the base, and never emptied.
        &self.segments[self.segments.len() - 1]
    }

    pub(super) fn end(&self) -> LogPoint {
        let active = self.active();
        LogPoint { segment_base: active.base(), position: active.size(), offset: active.next() }
    }

    fn append(&mut self, extent: Extent, place: Place, tail: &Tail) -> Result<bool, StorageError> {
        if self.is_displaced(extent) {
            if self.active().is_lost() {
                self.begin_segment(extent.first);
            }
        } else if self.is_behind(extent, place.len as u64) {
            return Ok(true);
        } else if !self.reach(extent)? {
            return Ok(false);
        }
        let bytes = tail.batches(place)?;
        let mut headers = Vec::new();
        for batch in Batches::new(&bytes) {
            match batch {
                Ok(BatchView { header, .. }) => headers.push(header),
                // The entry's checksum held: this is what was written.
                Err(e) => return Err(self.active().damaged(extent.position, e.to_string())),
            }
        }
        let active = Arc::clone(self.active());
        self.touched_from = self.touched_from.min(active.base());
        active.write(&self.core.files, &[std::io::IoSlice::new(&bytes)])?;
        self.take(&headers);
        Ok(true)
    }

    /// A large append: its bytes must be in the segment, or it was never acknowledged.
    fn bypassed(&mut self, extent: Extent, len: u64, crc: Option<u32>) -> Result<bool, StorageError> {
        if self.is_displaced(extent) {
            self.take_lost(extent);
            return Ok(true);
        }
        if self.is_behind(extent, len) {
            return Ok(true);
        }
        if !self.reach(extent)? {
            return Ok(false);
        }
        if let Some(crc) = crc {
            match self.checksum(extent.position..extent.position + len)? {
                Checksum::Is(found) if found == crc => {}
                // A crash tears what was being written; it does not make it unreadable.
                Checksum::Unreadable => {}
                Checksum::Is(_) | Checksum::CutOff => return Ok(false),
            }
        }
        let target = LogPoint { position: extent.position + len, offset: extent.next, ..self.end() };
        let before = self.end();
        if !self.scan_to(target)? {
            // All or nothing: what is there of the append goes too.
            self.cut_back(before)?;
            return Ok(false);
        }
        Ok(true)
    }

    /// CRC-32C of a range of the active segment's file.
    fn checksum(&self, range: Range<u64>) -> Result<Checksum, StorageError> {
        const STEP: u64 = 1 << 20;
        let active = self.active();
        let file = match active.open_log(&self.core.files) {
            Err(e) if e.is_not_found() => return Ok(Checksum::CutOff),
            file => file?,
        };
        if file.len().map_err(|e| active.io("measure", e))? < range.end {
            return Ok(Checksum::CutOff);
        }
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        let mut position = range.start;
        let mut bytes = Vec::new();
        while position < range.end {
            let step = usize::try_from((range.end - position).min(STEP)).unwrap_or(0);
            bytes.clear();
            match file.read_into(&mut bytes, step, position) {
                Ok(read) if read == step => {}
                Ok(_) => return Ok(Checksum::CutOff),
                Err(e) if is_unreadable(&e) => return Ok(Checksum::Unreadable),
                Err(e) => return Err(active.io("read", e)),
            }
            digest.update(&bytes);
            position += step as u64;
        }
        Ok(u32::try_from(digest.finalize()).map_or(Checksum::CutOff, Checksum::Is))
    }

    /// True when the append continues the log, and the segment that it was written to is lost.
    fn is_displaced(&self, extent: Extent) -> bool {
        let end = self.end();
        extent.first == end.offset && (extent.segment_base < end.segment_base || self.active().is_lost())
    }

    /// Counts an append as lost of which the file alone had the bytes.
    fn take_lost(&mut self, extent: Extent) {
        if self.active().size() == 0 {
            self.segments.pop();
        }
        let now_ms = self.core.now_ms();
        let newest = SegmentFacts { last_append_ms: now_ms, max_timestamp: now_ms, ..SegmentFacts::empty(extent.next) };
        self.segments.push(Arc::new(Segment::lost(&self.dir, extent.first, &newest)));
        self.segments.push(Arc::new(Segment::new(&self.dir, extent.next)));
    }

    /// True when the base has these bytes already.
    fn is_behind(&self, extent: Extent, len: u64) -> bool {
        let end = self.end();
        (extent.segment_base, extent.position + len) <= (end.segment_base, end.position)
    }

    /// Gets to the place of an append; through the files when entries before it are missing.
    fn reach(&mut self, extent: Extent) -> Result<bool, StorageError> {
        let target = LogPoint { segment_base: extent.segment_base, position: extent.position, offset: extent.first };
        let end = self.end();
        if (end.segment_base, end.position) == (target.segment_base, target.position) {
            return Ok(true);
        }
        let reached = self.scan_to(target)?;
        if !reached {
            let (from, to) = (end.offset, extent.first);
            self.damage.push(format!("{}: records {from} to {to} are lost, and all behind them", self.dir.display()));
        }
        Ok(reached)
    }

    fn roll(&mut self, base: Offset) -> Result<bool, StorageError> {
        if base < self.active().base() || (base == self.active().base() && self.active().size() == 0) {
            return Ok(true);
        }
        if self.end().offset < base {
            // Batches before it are in the file only: they were never journaled, or the journal is damaged.
            self.scan_before(base)?;
        }
        let (active, end) = (self.active().base(), self.end().offset);
        // A leader's gap that is too wide for one segment is the only one that a new segment may leave.
        let is_gap = end < base && base - active > i64::from(i32::MAX);
        if end != base && !is_gap {
            if self.mode == FlushMode::Durable {
                self.damage
                    .push(format!("{}: records {end} to {base} are lost, and all behind them", self.dir.display()));
            }
            return Ok(false);
        }
        self.begin_segment(base);
        Ok(true)
    }

    pub(super) fn begin_segment(&mut self, base: Offset) {
        self.active().close_at(0, base);
        self.active().finish_indexes(&self.core.files);
        self.segments.push(Arc::new(Segment::new(&self.dir, base)));
    }

    /// Takes batches from the files up to `target`; false when they do not get there.
    fn scan_to(&mut self, target: LogPoint) -> Result<bool, StorageError> {
        while self.end().segment_base < target.segment_base {
            let Some(next) = self.next_file() else {
                self.scan_active(None)?;
                return Ok(false);
            };
            self.scan_before(next)?;
            if next < self.end().offset || next > target.segment_base {
                return Ok(false);
            }
            self.begin_segment(next);
        }
        if self.end().segment_base != target.segment_base || self.end().position > target.position {
            return Ok(false);
        }
        if self.scan_active(Some(target.position))? == ScanEnd::Unreadable {
            self.pass_unreadable(target.position, target.offset)?;
        }
        Ok(self.end().position == target.position && self.end().offset <= target.offset)
    }

    /// Takes all intact batches that follow in the files.
    pub(super) fn scan_to_the_end(&mut self) -> Result<(), StorageError> {
        while let Some(next) = self.next_file() {
            self.scan_before(next)?;
            if next != self.end().offset {
                return Ok(());
            }
            self.begin_segment(next);
        }
        self.scan_active(None).map(drop)
    }

    /// Takes the rest of the active segment, behind which another one begins at `next`.
    fn scan_before(&mut self, next: Offset) -> Result<(), StorageError> {
        if self.scan_active(None)? == ScanEnd::Unreadable && next > self.end().offset {
            let active = self.active();
            let len = active.open_log(&self.core.files)?.len().map_err(|e| active.io("measure", e))?;
            self.pass_unreadable(len, next)?;
        }
        Ok(())
    }

    fn next_file(&self) -> Option<Offset> {
        self.files.range(self.active().base() + 1..).next().copied()
    }

    /// Takes intact batches behind the active segment's end, up to `limit` bytes of the file, and the places between them
    /// that the disk cannot read. No checkpoint covers them: they are written again, and synced before they are served when
    /// the topic promises that.
    fn scan_active(&mut self, limit: Option<u64>) -> Result<ScanEnd, StorageError> {
        let active = Arc::clone(self.active());
        if !self.files.contains(&active.base()) {
            return Ok(ScanEnd::Readable);
        }
        let len = match active.open_log(&self.core.files) {
            Ok(file) => file.len().map_err(|e| active.io("measure", e))?,
            Err(e) if e.is_not_found() => return Ok(ScanEnd::Readable),
            Err(e) => return Err(e),
        };
        let (start, end) = (active.size(), limit.unwrap_or(len).min(len));
        if end <= start {
            return Ok(ScanEnd::Readable);
        }
        active.write_again(&self.core.files, start..end)?;
        let mut headers: Vec<BatchHeader> = Vec::new();
        let span = Span { bytes: start..end, offsets: active.next()..Offset::MAX };
        let walked = active.walk(&self.core.files, span, Depth::Checksums, |step| {
            headers.push(*step.header);
            ControlFlow::Continue(())
        })?;
        self.take(&headers);
        let scanned = match walked {
            WalkEnd::Damaged(damage) if damage.is_unreadable => self.scan_past_unreadable(end)?,
            // The log may end with a torn batch: the caller knows how far it must get.
            WalkEnd::Reached | WalkEnd::Damaged(_) => ScanEnd::Readable,
        };
        if self.mode == FlushMode::Durable && active.size() > start {
            self.unsynced.push(active);
        }
        Ok(scanned)
    }

    /// Takes the intact batches behind a place that the disk cannot read, which begins where the active segment ends so far.
    fn scan_past_unreadable(&mut self, end: u64) -> Result<ScanEnd, StorageError> {
        let active = Arc::clone(self.active());
        let mut found: Vec<(u64, BatchHeader)> = Vec::new();
        let span = Span { bytes: active.size()..end, offsets: active.next()..Offset::MAX };
        let damage = active.walk_past_damage(&self.core.files, span, |step| {
            found.push((step.position, *step.header));
            ControlFlow::Continue(())
        })?;
        for (position, header) in found {
            self.pass_unreadable(position, header.base_offset)?;
            self.take(&[header]);
        }
        let rest = damage.into_iter().find(|damage| damage.bytes.start == active.size() && damage.bytes.end == end);
        Ok(match rest {
            Some(damage) if damage.is_unreadable => {
                let (path, position) = (active.log_slot().path(), damage.bytes.start);
                self.damage.push(format!("{} is damaged at byte {position}: {}", path.display(), damage.what));
                ScanEnd::Unreadable
            }
            _ => ScanEnd::Readable,
        })
    }

    /// Counts what the disk cannot read up to `position` of the active segment as damaged, as far as the file goes; `next` is
    /// the offset behind it.
    fn pass_unreadable(&mut self, position: u64, next: Offset) -> Result<(), StorageError> {
        let active = Arc::clone(self.active());
        let (from, size) = (active.next(), active.size());
        let len = active.open_log(&self.core.files)?.len().map_err(|e| active.io("measure", e))?;
        if position <= size || position > len || next < from {
            return Ok(());
        }
        active.pass_over(position, next, self.core.now_ms());
        self.damage.push(format!(
            "{}: the disk cannot read bytes {size} to {position}; records {from} to {next} are refused until they are restored",
            active.log_slot().path().display()
        ));
        Ok(())
    }

    fn take(&mut self, headers: &[BatchHeader]) {
        let now_ms = self.core.now_ms();
        self.active().publish(headers, now_ms, INDEX_INTERVAL_BYTES);
        for header in headers {
            self.producers.apply(header, now_ms);
            self.epochs.begin(header.leader_epoch, header.base_offset);
        }
    }

    /// Forgets everything behind `point`; the files are cut later.
    pub(super) fn cut_back(&mut self, point: LogPoint) -> Result<(), StorageError> {
        let keep = self.segments.partition_point(|segment| segment.base() < point.segment_base);
        let Some(old) = self.segments.get(keep).cloned() else { return Ok(()) };
        self.segments.truncate(keep);
        self.touched_from = self.touched_from.min(old.base());
        let segment = if old.base() == point.segment_base {
            let end = (point.position.min(old.size()), point.offset.min(old.next()).max(old.base()));
            // How long a lost segment was may not be known, and the journal knows.
            let end = if old.is_lost() { (point.position, point.offset) } else { end };
            old.shortened(&self.dir, &self.core.files, end)?
        } else {
            Segment::existing(&self.dir, SegmentFacts::empty(old.base()))
        };
        // Its bytes may come from the journal a moment ago.
        if !segment.is_lost() {
            segment.note_unsynced();
        }
        segment.rebuild_indexes(&self.core.files, INDEX_INTERVAL_BYTES)?;
        self.segments.push(Arc::new(segment));
        self.epochs.truncate_to(point.offset);
        self.producers = producers_at(self.core, &self.dir, &self.segments, point.offset)?;
        Ok(())
    }

    /// Drops whole segments that the log start or an eviction has passed; not those that the journal has entries for: the
    /// next recovery may need them again.
    pub(super) fn drop_below(&mut self, offset: Offset) {
        let needed_from = self.touched_from;
        let goes = |pair: &&[Arc<Segment>]| pair[1].base() <= offset && pair[0].base() < needed_from;
        let going = self.segments.windows(2).take_while(goes).count();
        self.segments.drain(..going);
    }

    /// Cuts segment files behind their last batch, and retires files that are no part of the log.
    fn cut_files(&mut self) -> Result<(), StorageError> {
        for segment in &self.segments {
            if !self.files.contains(&segment.base()) || segment.base() < self.touched_from {
                continue;
            }
            let file = segment.open_log(&self.core.files)?;
            if file.len().map_err(|e| segment.io("measure", e))? > segment.size() {
                file.set_len(segment.size()).map_err(|e| segment.io("cut", e))?;
            }
        }
        Ok(())
    }

    /// Takes the names of files away that belong to no segment of the log. Where something was lost or damaged, those behind its
    /// end may be all that is left of acknowledged records: they are set aside.
    pub(super) fn retire_strangers(&self, names: &[String]) -> Result<(), StorageError> {
        let bases: BTreeSet<Offset> = self.segments.iter().map(|segment| segment.base()).collect();
        for name in names {
            let Some((offset, kind)) = layout::parse_file_name(name) else { continue };
            if bases.contains(&offset) {
                continue;
            }
            if kind == FileKind::Log && offset >= self.end().offset && self.was_cut && !self.damage.is_empty() {
                self.set_aside(name)?;
                continue;
            }
            let slot = FileSlot::new(&self.dir, name.clone());
            let retired = self.core.files.retire(&slot).map_err(|e| StorageError::io("retire", &slot.path(), e))?;
            if let Some(path) = retired {
                self.core.trash.add(path);
            }
        }
        Ok(())
    }

    fn set_aside(&self, name: &str) -> Result<(), StorageError> {
        let path = self.dir.join(name);
        tracing::error!(file = %path.display(), "records were lost before this segment: it is set aside as .stray");
        let renamed = rename_aside(self.core.disk(), &path, layout::STRAY);
        renamed.map(drop).map_err(|e| StorageError::io("set aside", &path, e))
    }
}
