//! What a partition's rebuilding starts from: the checkpoint's state, a reset, or nothing but files.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use model::settings::FlushMode;
use model::{Offset, TimestampMs};

use super::plan::{Plan, Reset, Step};
use super::rebuild::Rebuild;
use super::{Finder, MODE_UNKNOWN, log_bases};
use crate::bootstrap::Bootstrap;
use crate::checkpoint::{History, PartitionCheckpoint};
use crate::disk::{is_unreadable, read_file};
use crate::error::StorageError;
use crate::journal::entry::LogPoint;
use crate::layout::HISTORY;
use crate::leader_epochs::LeaderEpochs;
use crate::partition::{keep_snapshot, producers_at};
use crate::producer_state::ProducerStates;
use crate::segment::scan::{self, Depth, Span, WalkEnd};
use crate::segment::{Segment, SegmentFacts};

const HISTORY_BYTES_MAX: u64 = 1 << 20;

impl<'a> Finder<'a> {
    /// The state that the plan's steps continue.
    pub(super) fn base(&self, plan: &mut Plan, dir: &Arc<Path>, names: &[String]) -> Result<Rebuild<'a>, StorageError> {
        let files = log_bases(names);
        let mut rebuild = Rebuild {
            core: self.core,
            dir: Arc::clone(dir),
            mode: MODE_UNKNOWN,
            log_start: 0,
            segments: Vec::new(),
            epochs: LeaderEpochs::default(),
            producers: ProducerStates::default(),
            files,
            damage: Vec::new(),
            was_cut: false,
            touched_from: Offset::MAX,
            unsynced: Vec::new(),
        };
        match (&plan.reset, plan.base.take()) {
            (Some(reset), base) => {
                rebuild.mode = base.as_ref().map_or(MODE_UNKNOWN, |base| base.mode);
                plan.base = base;
                rebuild.begin_at(reset.local_start());
                match reset {
                    Reset::Empty(offset) => rebuild.log_start = *offset,
                    Reset::Inherited(state) => rebuild.inherit(state)?,
                }
            }
            (None, Some(base)) => {
                let taken = rebuild.take_checkpoint(&base, plan.base_cut);
                plan.base = Some(base);
                taken?;
            }
            (None, None) => rebuild.take_files(plan)?,
        }
        rebuild.touched_from = rebuild.touched_from.min(rebuild.active().base());
        Ok(rebuild)
    }
}

impl Rebuild<'_> {
    /// An empty log at `offset`.
    fn begin_at(&mut self, offset: Offset) {
        self.segments = vec![Arc::new(Segment::new(&self.dir, offset))];
        // A file of that name is what was there before the reset.
        if self.files.contains(&offset) {
            self.touched_from = offset;
        }
    }

    /// What another replica remembered of the records before.
    fn inherit(&mut self, state: &Bootstrap) -> Result<(), StorageError> {
        self.log_start = state.log_start;
        self.epochs = LeaderEpochs::from_stored(state.epochs.iter().copied());
        match ProducerStates::decode(&state.producers) {
            Some(producers) => self.producers = producers,
            // The entry's checksum held, but it holds no state: no version of ours wrote it.
            None => self.damage.push(format!("{}: the producers that it began with are lost", self.dir.display())),
        }
        // The power may have gone before it was stored.
        keep_snapshot(self.core, &self.dir, state.local_start, &self.producers.encode())
    }

    fn take_checkpoint(&mut self, base: &PartitionCheckpoint, cut: Option<LogPoint>) -> Result<(), StorageError> {
        self.mode = base.mode;
        self.log_start = base.log_start;
        self.epochs = LeaderEpochs::from_stored(base.epochs.iter().copied());
        self.take_segments(base)?;
        let end = self.end();
        let (cut, at_the_end) = match cut {
            Some(cut) if (cut.segment_base, cut.position) < (end.segment_base, end.position) => (Some(cut), None),
            // Epochs without a record went.
            cut => (None, cut),
        };
        if let Some(cut) = cut {
            self.segments.retain(|segment| segment.base() <= cut.segment_base);
        }
        self.note_missing();
        if let Some(at_the_end) = at_the_end {
            self.epochs.truncate_to(at_the_end.offset);
        }
        match cut {
            Some(cut) => self.cut_back(cut)?,
            None => match ProducerStates::decode(&base.producers) {
                Some(producers) => self.producers = producers,
                None => self.producers = producers_at(self.core, &self.dir, &self.segments, base.end)?,
            },
        }
        self.check_active()
    }

    /// Segments whose files are gone. The first of them may have been evicted, and the power cut took the journal's entry of it:
    /// the log begins behind them. All others stay: what they held is refused.
    fn note_missing(&mut self) {
        let is_missing = |segment: &Arc<Segment>| segment.size() > 0 && !self.files.contains(&segment.base());
        let closed = &self.segments[..self.segments.len() - 1];
        let may_be_evicted = |segment: &&Arc<Segment>| is_missing(segment) && !segment.is_lost();
        let evicted = closed.iter().take_while(may_be_evicted).count();
        self.segments.drain(..evicted);
        self.segments.iter().filter(|segment| is_missing(segment)).for_each(|segment| segment.note_lost());
    }

    /// The checkpoint's segments; those of which something was lost are looked at again.
    fn take_segments(&mut self, base: &PartitionCheckpoint) -> Result<(), StorageError> {
        for facts in &base.segments {
            let is_back = facts.is_lost() && facts.next > facts.base && self.files.contains(&facts.base);
            if is_back {
                self.take_file(facts.base, Some(facts.next), facts.last_append_ms)?;
            } else {
                self.segments.push(Arc::new(Segment::existing(&self.dir, *facts)));
            }
        }
        Ok(())
    }

    /// Reads a segment file of which nothing is known but where the next one begins. What is missing between the two is lost.
    fn take_file(&mut self, base: Offset, next: Option<Offset>, now_ms: TimestampMs) -> Result<(), StorageError> {
        let facts = self.scan(base, next)?;
        let segment = Arc::new(Segment::existing(&self.dir, facts));
        segment.note_unsynced();
        self.unsynced.push(Arc::clone(&segment));
        self.segments.push(segment);
        if let Some(next) = next.filter(|next| *next > facts.next) {
            let newest = SegmentFacts { last_append_ms: now_ms, max_timestamp: now_ms, ..SegmentFacts::empty(next) };
            self.segments.push(Arc::new(Segment::lost(&self.dir, facts.next, &newest)));
        }
        Ok(())
    }

    /// Tells of what is still part of the log and lost. What comes next begins a segment of its own.
    pub(super) fn tell_lost(&mut self) {
        if self.active().is_lost() {
            self.begin_segment(self.end().offset);
        }
        // Of files that are too short it was told when they were measured.
        let is_gone = |segment: &&Arc<Segment>| segment.is_lost() && !self.files.contains(&segment.base());
        for segment in self.segments.iter().filter(is_gone) {
            let (path, from, to) = (segment.log_slot().path(), segment.base(), segment.next());
            self.damage.push(format!(
                "{} is missing: records {from} to {to} are refused until they are restored",
                path.display()
            ));
        }
    }

    /// The last segment must be as long as the checkpoint says: it was synced before.
    fn check_active(&mut self) -> Result<(), StorageError> {
        let active = Arc::clone(self.active());
        if active.size() == 0 {
            return Ok(());
        }
        let len = match active.open_log(&self.core.files) {
            Err(e) if e.is_not_found() => 0,
            file => file?.len().map_err(|e| active.io("measure", e))?,
        };
        if len >= active.size() {
            return Ok(());
        }
        active.note_lost();
        let (size, next) = (active.size(), active.next());
        self.damage.push(format!(
            "{} has {len} bytes, {size} were synced: what is missing is refused, and a new segment begins at {next}",
            active.log_slot().path().display()
        ));
        // Offsets that were given out are not given out again, and the segment keeps its size: a reader of what is missing
        // must meet damage, not the next segment.
        active.close_at(0, next);
        self.segments.push(Arc::new(Segment::new(&self.dir, next)));
        self.was_cut = true;
        Ok(())
    }

    /// A log of which only files are left: all of them are read.
    fn take_files(&mut self, plan: &mut Plan) -> Result<(), StorageError> {
        if let Some(history) = self.history()? {
            self.mode = history.mode;
            self.log_start = history.log_start;
            self.epochs = LeaderEpochs::from_stored(history.epochs.iter().copied());
        }
        let first = self.files.first().copied();
        forget_evicted(plan, first);
        let bases: Vec<Offset> = self.files.iter().copied().collect();
        for (i, &base) in bases.iter().enumerate() {
            self.take_file(base, bases.get(i + 1).copied(), self.core.now_ms())?;
        }
        if first.is_none() {
            self.begin_at(self.log_start);
            return Ok(());
        }
        self.touched_from = self.active().base();
        let end = self.end();
        self.producers = producers_at(self.core, &self.dir, &self.segments, end.offset)?;
        self.epochs.truncate_to(end.offset);
        match plan.base_cut.filter(|cut| (cut.segment_base, cut.position) < (end.segment_base, end.position)) {
            Some(cut) => self.cut_back(cut),
            None => Ok(()),
        }
    }

    /// What the file says that is kept for when the checkpoint is lost. Without it the log start is not known: nothing says that
    /// records before the first local one were deleted, the archive may have them. It is taken for 0 here; the metadata and the
    /// archive's ledger know better.
    ///
    /// # Errors
    /// When it cannot be told whether the file says anything.
    fn history(&mut self) -> Result<Option<History>, StorageError> {
        let path = self.dir.join(HISTORY);
        let lost = match read_file(self.core.disk(), &path, HISTORY_BYTES_MAX) {
            Ok(bytes) => match History::decode(&bytes) {
                Some(history) => return Ok(Some(history)),
                None => "is damaged",
            },
            Err(e) if e.kind() == ErrorKind::NotFound => "is missing",
            Err(e) if is_unreadable(&e) => "cannot be read from the disk",
            Err(e) => return Err(StorageError::io("read", &path, e)),
        };
        if !self.files.is_empty() {
            self.damage.push(format!(
                "{} {lost}: the log start is lost, and so are the leader epochs that no local batch tells of",
                path.display()
            ));
        }
        Ok(None)
    }

    /// Reads a segment file of which nothing is known, but where the next one begins. Damaged bytes before an intact batch
    /// are part of the segment; those behind the last one are a torn end, unless a later segment shows that they are not.
    fn scan(&mut self, base: Offset, next: Option<Offset>) -> Result<SegmentFacts, StorageError> {
        let segment = Segment::new(&self.dir, base);
        let len = segment.open_log(&self.core.files)?.len().map_err(|e| segment.io("measure", e))?;
        let mut facts = SegmentFacts::empty(base);
        let (now_ms, mut end) = (self.core.now_ms(), 0);
        let mut epochs = Vec::new();
        let span = Span { bytes: 0..len, offsets: base..next.unwrap_or(Offset::MAX) };
        let visit = |step: scan::Step<'_>| {
            facts.add(step.header, now_ms);
            end = step.position + step.header.size_bytes() as u64;
            epochs.push((step.header.leader_epoch, step.header.base_offset));
            ControlFlow::Continue(())
        };
        let files = &self.core.files;
        let mut damage = if self.mode == FlushMode::Replicated && next.is_none() {
            // Such a log ends with its first torn batch.
            match segment.walk(files, span, Depth::Checksums, visit)? {
                WalkEnd::Damaged(damage) if damage.is_unreadable => {
                    let path = segment.log_slot().path();
                    self.damage.push(format!("{} ends at byte {end}: {}", path.display(), damage.what));
                    Vec::new()
                }
                WalkEnd::Reached | WalkEnd::Damaged(_) => Vec::new(),
            }
        } else {
            segment.walk_past_damage(files, span, visit)?
        };
        facts.size = end;
        match next {
            // The end of the file is what is damaged. Where it was lost, another segment stands for it.
            Some(next) if facts.next < next && !segment.is_torn(files, end..len)? => {
                (facts.size, facts.next) = (len, next);
                // It is there, whatever of it can be read.
                facts.appended_at(now_ms);
            }
            _ => damage.retain(|damage| damage.bytes.start < end),
        }
        for (epoch, start) in epochs {
            self.epochs.begin(epoch, start);
        }
        for damage in damage {
            let (path, position) = (segment.log_slot().path(), damage.bytes.start);
            self.damage.push(format!("{} is damaged at byte {position}: {}", path.display(), damage.what));
        }
        Ok(facts)
    }
}

/// Without a checkpoint the journal may go back to segments that are gone by now.
fn forget_evicted(plan: &mut Plan, first: Option<Offset>) {
    let Some(first) = first else { return };
    plan.steps.retain(|step| match step {
        Step::Append(extent, _) | Step::Bypassed(extent, ..) => extent.segment_base >= first,
        _ => true,
    });
    if plan.base_cut.is_some_and(|cut| cut.segment_base < first) {
        plan.base_cut = plan.steps.iter().find_map(|step| match step {
            Step::Append(extent, _) | Step::Bypassed(extent, ..) => {
                Some(LogPoint { segment_base: extent.segment_base, position: extent.position, offset: extent.first })
            }
            Step::Mode(FlushMode::Replicated, _)
            | Step::Mode(FlushMode::Durable, _)
            | Step::Roll(_)
            | Step::Epoch(..) => None,
        });
    }
}
