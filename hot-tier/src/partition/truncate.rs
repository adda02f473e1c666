//! Taking back the end of a log, or all of it, when a leader says so (KIP-101).
//!
//! The journal knows before any byte goes: the entry is durable first. A power cut in between leaves more bytes than the
//! log has, which recovery cuts.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::Offset;
use model::settings::FlushMode;

use super::producers::{name_snapshot, prepare_snapshot};
use super::{PartitionLog, Writer};
use crate::bootstrap::Bootstrap;
use crate::error::StorageError;
use crate::journal::entry::{Event, LogPoint};
use crate::leader_epochs::LeaderEpochs;
use crate::producer_state::ProducerStates;
use crate::segment::Segment;

/// How a log begins anew.
pub(super) enum Beginning {
    /// Empty at this offset; nothing is known of what was before.
    Empty(Offset),
    /// With what another replica remembers of the records before.
    Inherited {
        /// As it is stored.
        state: Bootstrap,
        /// Its epochs.
        epochs: LeaderEpochs,
        /// Its producers.
        producers: ProducerStates,
    },
}

impl PartitionLog {
    /// Removes every record at or above `offset`; a batch that spans it goes as a whole, and so do damaged bytes that may hold
    /// it. Damage below changes nothing. Below the local start it is
    /// [`PartitionLog::reset_to`]. At the log end, only epochs without a record go. Answers the new log end. Blocks for one flush.
    ///
    /// # Errors
    /// Those of the journal, before anything has happened; a failure after that fails the tier.
    pub fn truncate_to(&self, offset: Offset) -> Result<Offset, StorageError> {
        let mut writer = self.lock_writer()?;
        // An epoch that this replica began as a leader without a record goes too: another leader's epochs take its place.
        let begins_behind = self.epochs.read().all().last().is_some_and(|epoch| epoch.start_offset >= offset);
        if offset > self.log_end() || (offset == self.log_end() && !begins_behind) {
            return Ok(self.log_end());
        }
        if offset < self.local_start() {
            self.begin_anew(&mut writer, Beginning::Empty(offset))?;
            return Ok(offset);
        }
        let point = self.cut_point(offset)?;
        let log_start = self.log_start();
        if point.offset < log_start {
            // The batch that spans `offset` begins below the log start: nothing that anyone may see is left.
            self.begin_anew(&mut writer, Beginning::Empty(log_start))?;
            return Ok(log_start);
        }
        let lsn = self.core.journal(self.id, &Event::Truncate(point), &[])?;
        self.core.wait_durable(lsn)?;
        self.cut(&mut writer, point).inspect_err(|e| self.core.fail(e))?;
        Ok(point.offset)
    }

    /// Drops everything and begins anew, empty, at `offset`: log start, local start and log end are there then. Blocks for
    /// one flush.
    ///
    /// # Errors
    /// As [`PartitionLog::truncate_to`].
    pub fn reset_to(&self, offset: Offset) -> Result<(), StorageError> {
        let mut writer = self.lock_writer()?;
        self.begin_anew(&mut writer, Beginning::Empty(offset))
    }

    /// Where the log ends when everything from `offset` on is gone.
    fn cut_point(&self, offset: Offset) -> Result<LogPoint, StorageError> {
        let segments = self.segments.load();
        let index = segments.partition_point(|segment| segment.base() <= offset).saturating_sub(1);
        let segment = &segments[index];
        let (position, offset) = segment.cut_point(&self.core.files, offset)?;
        Ok(LogPoint { segment_base: segment.base(), position, offset })
    }

    fn cut(&self, writer: &mut Writer, point: LogPoint) -> Result<(), StorageError> {
        self.log_end.store(point.offset, Ordering::Release);
        self.flushed_end.fetch_min(point.offset, Ordering::AcqRel);
        let _disturbing = self.disturb();
        let old = self.segments.load_full();
        let keep = old.partition_point(|segment| segment.base() < point.segment_base);
        for segment in &old[keep + 1..] {
            self.core.carry_out(|| self.retire(segment))?;
        }
        let mode = writer.mode;
        let mut segments = old[..keep].to_vec();
        segments.push(Arc::new(self.core.carry_out(|| self.shortened(&old[keep], point, mode))?));
        self.segments.store(Arc::new(segments));
        self.epochs.write().truncate_to(point.offset);
        writer.producers = self.core.carry_out(|| self.producers_at(point.offset))?;
        writer.history_stale = true;
        self.mark_dirty();
        self.sync_retired(mode)
    }

    /// The same segment up to `point`, with its file cut there.
    fn shortened(&self, segment: &Segment, point: LogPoint, mode: FlushMode) -> Result<Segment, StorageError> {
        let files = &self.core.files;
        let shortened = segment.shortened(&self.dir, files, (point.position, point.offset))?;
        let file = match segment.open_log(files) {
            // It was lost, and what it held is damage: nothing is left to be cut.
            Err(e) if e.is_not_found() => None,
            file => Some(file?),
        };
        if let Some(file) = file.filter(|_| segment.size() > 0) {
            self.core.carry_out(|| file.set_len(point.position).map_err(|e| segment.io("cut", e)))?;
            if mode == FlushMode::Replicated {
                // Recovery takes what it finds in the files of such a topic: what is gone must stay gone.
                file.sync_data().map_err(|e| segment.io("flush", e))?;
            }
        }
        segment.slots().iter().for_each(|slot| slot.close());
        shortened.note_unsynced();
        shortened.rebuild_indexes(files, self.settings.load().index_interval_bytes)?;
        Ok(shortened)
    }

    /// Everything goes; the log is what `beginning` says.
    pub(super) fn begin_anew(&self, writer: &mut Writer, beginning: Beginning) -> Result<(), StorageError> {
        if let Beginning::Inherited { state, .. } = &beginning {
            // What needs space comes before there is no way back: a full disk refuses it, and the log stays as it is.
            let prepare = || prepare_snapshot(&self.core, &self.dir, state.local_start, &state.producers);
            self.core.with_descriptors(prepare).map_err(|e| self.core.judge(e))?;
        }
        let lsn = match &beginning {
            Beginning::Empty(offset) => self.core.journal(self.id, &Event::Reset(*offset), &[])?,
            Beginning::Inherited { state, .. } => self.core.journal(self.id, &Event::Bootstrap(state.clone()), &[])?,
        };
        self.core.wait_durable(lsn)?;
        self.restart(writer, beginning).inspect_err(|e| self.core.fail(e))
    }

    fn restart(&self, writer: &mut Writer, beginning: Beginning) -> Result<(), StorageError> {
        let _disturbing = self.disturb();
        let old = self.segments.load_full();
        for segment in old.iter() {
            self.core.carry_out(|| self.retire(segment))?;
        }
        self.sync_retired(writer.mode)?;
        let (log_start, offset) = match beginning {
            Beginning::Empty(offset) => {
                *self.epochs.write() = LeaderEpochs::default();
                writer.producers = ProducerStates::default();
                (offset, offset)
            }
            Beginning::Inherited { state, epochs, producers } => {
                // A later truncation finds the producers here: no batch of the local log tells of them.
                self.core.carry_out(|| name_snapshot(&self.core, &self.dir, state.local_start))?;
                *self.epochs.write() = epochs;
                writer.producers = producers;
                (state.log_start, state.local_start)
            }
        };
        self.segments.store(Arc::new(vec![Arc::new(Segment::new(&self.dir, offset))]));
        self.log_start.store(log_start, Ordering::Release);
        self.log_end.store(offset, Ordering::Release);
        self.flushed_end.store(offset, Ordering::Release);
        writer.history_stale = true;
        self.mark_dirty();
        Ok(())
    }

    /// Recovery takes what it finds in the folder of a replicated topic: names that are gone must stay gone.
    fn sync_retired(&self, mode: FlushMode) -> Result<(), StorageError> {
        if mode == FlushMode::Durable {
            return Ok(());
        }
        let sync = || self.core.disk().sync_dir(&self.dir).map_err(|e| StorageError::io("flush", &self.dir, e));
        self.core.carry_out(sync)
    }

    /// Readers that start or end while the guard lives look again.
    pub(super) fn disturb(&self) -> Disturbing<'_> {
        self.generation.fetch_add(1, Ordering::AcqRel);
        Disturbing(self)
    }

    /// Takes the names of a segment's files and of its snapshot away; they are unlinked in the background.
    pub(super) fn retire(&self, segment: &Segment) -> Result<(), StorageError> {
        self.names_changed.store(true, Ordering::Release);
        segment.note_retired();
        let name = crate::layout::file_name(segment.base(), crate::layout::FileKind::Snapshot);
        let snapshot = crate::open_files::FileSlot::new(&self.dir, name);
        for slot in segment.slots().into_iter().chain([&snapshot]) {
            let retired = self.core.files.retire(slot);
            match retired.map_err(|e| StorageError::io("retire", &slot.path(), e))? {
                Some(path) => self.core.trash.add(path),
                None => continue,
            }
        }
        self.core.housekeeping.raise();
        Ok(())
    }
}

/// While it lives, the generation is odd.
pub(super) struct Disturbing<'a>(&'a PartitionLog);

impl Drop for Disturbing<'_> {
    fn drop(&mut self) {
        self.0.generation.fetch_add(1, Ordering::AcqRel);
    }
}
