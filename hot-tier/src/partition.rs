//! One partition's log on local disk.
//!
//! ```text
//!    log start      local start                     flushed end     log end
//!  ──────┼───────────────┼──────────────────────────────┼──────────────┼──▶ offset
//!        │ (archive only)│ closed segments │  active    │  not durable │
//! ```
//!
//! Invariants:
//! - Segments cover `[first base, log end)` without a hole: each begins where the one before ends.
//! - Who changes the log holds `writer`; the journal's entries of a partition are in the order of these changes.
//! - Readers hold no lock. `generation` changes around everything that takes bytes or files away, so that a reader
//!   notices and looks again.
//! - Nothing that destroys bytes (truncation, log start, removal) touches a file before its journal entry is durable.
//! - A log that is marked removed never changes again. Its folder goes later, when no flush or checkpoint needs it.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use bytes::Bytes;
use model::segment::EpochStart;
use model::settings::{FlushMode, TopicSettings};
use model::{LeaderEpoch, Offset, TimestampMs, TopicName, TopicPartition};

use crate::core::Core;
use crate::error::{ReadError, StorageError};
use crate::journal::entry::{Event, LogPoint};
use crate::leader_epochs::LeaderEpochs;
use crate::producer_state::{ActiveProducer, ProducerStates};
use crate::segment::Segment;
use crate::sync::{Mutex, MutexGuard, RwLock};

mod append;
mod bootstrap;
mod capture;
mod mend;
mod producers;
mod read;
mod retention;
mod roll;
mod seal;
mod timestamps;
mod truncate;

pub use append::{AppendTime, Appended};
pub(crate) use capture::Captured;
pub use mend::DamagedRange;
pub(crate) use producers::{keep_snapshot, producers_at};
pub use read::{LogRead, ReadLimits};
pub use retention::{AgeOf, EvictReport, RetentionLimits};
pub use seal::SealError;
pub use timestamps::TimestampedOffset;

/// One partition's log.
#[derive(Debug)]
pub struct PartitionLog {
    core: Arc<Core>,
    id: TopicPartition,
    topic: TopicName,
    dir: Arc<Path>,
    settings: ArcSwap<TopicSettings>,
    writer: Mutex<Writer>,
    /// By base offset; never empty; the last one is active.
    segments: ArcSwap<Vec<Arc<Segment>>>,
    epochs: RwLock<LeaderEpochs>,
    log_start: AtomicI64,
    log_end: AtomicI64,
    flushed_end: AtomicI64,
    generation: AtomicU64,
    /// Journal position that a checkpoint must cover before more can be evicted; the largest number when nothing waits.
    eviction_waits_for: AtomicU64,
    /// Something changed since the last checkpoint.
    dirty: AtomicBool,
    removal: OnceLock<Removal>,
    /// Names of files went since the last checkpoint. They must not come back: a snapshot would tell of another past.
    names_changed: AtomicBool,
    /// The folder's name is known to be durable.
    named: AtomicBool,
    /// The partition's part of the last checkpoint.
    checkpointed: Mutex<Bytes>,
}

/// What only the holder of the partition's lock may touch.
#[derive(Debug)]
struct Writer {
    producers: ProducerStates,
    mode: FlushMode,
    /// The history file does not show the log start and epochs of now.
    history_stale: bool,
}

/// Where the journal says that a partition is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Removal {
    /// An entry's position, at or before the entry.
    pub(crate) replay_from: u64,
    /// Position behind the entry.
    pub(crate) lsn: u64,
}

/// What a partition's log is made from.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) id: TopicPartition,
    pub(crate) topic: TopicName,
    pub(crate) dir: Arc<Path>,
    pub(crate) settings: Arc<TopicSettings>,
    pub(crate) mode: FlushMode,
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) epochs: LeaderEpochs,
    pub(crate) producers: ProducerStates,
    pub(crate) log_start: Offset,
    /// The partition's part of the checkpoint, when nothing changed since.
    pub(crate) checkpointed: Option<Bytes>,
}

/// A segment, for `DescribeLogDirs`, metrics and people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// First offset that it covers.
    pub base_offset: Offset,
    /// First offset after it.
    pub next_offset: Offset,
    /// Bytes of record batches.
    pub size_bytes: u64,
    /// Largest record timestamp in ms, or −1.
    pub max_timestamp: TimestampMs,
    /// True when nothing is appended to it any more.
    pub closed: bool,
}

impl PartitionLog {
    /// A log of at least one segment.
    pub(crate) fn new(core: Arc<Core>, origin: Origin) -> Self {
        let end = origin.segments.last().map_or(origin.log_start, |active| active.next());
        PartitionLog {
            core,
            id: origin.id,
            topic: origin.topic,
            dir: origin.dir,
            settings: ArcSwap::new(origin.settings),
            writer: Mutex::new(Writer { producers: origin.producers, mode: origin.mode, history_stale: true }),
            segments: ArcSwap::from_pointee(origin.segments),
            epochs: RwLock::new(origin.epochs),
            log_start: AtomicI64::new(origin.log_start),
            log_end: AtomicI64::new(end),
            flushed_end: AtomicI64::new(end),
            generation: AtomicU64::new(0),
            eviction_waits_for: AtomicU64::new(u64::MAX),
            dirty: AtomicBool::new(origin.checkpointed.is_none()),
            removal: OnceLock::new(),
            names_changed: AtomicBool::new(true),
            named: AtomicBool::new(false),
            checkpointed: Mutex::new(origin.checkpointed.unwrap_or_default()),
        }
    }

    /// Which partition.
    #[must_use]
    pub fn id(&self) -> TopicPartition {
        self.id
    }

    /// Its topic's name.
    #[must_use]
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The topic's settings as last told.
    #[must_use]
    pub fn settings(&self) -> Arc<TopicSettings> {
        self.settings.load_full()
    }

    /// Takes new settings. A change of the flush mode takes effect with the next append.
    ///
    /// # Errors
    /// A change from replicated to durable syncs the segments first, which may fail.
    pub fn update_settings(&self, settings: Arc<TopicSettings>) -> Result<(), StorageError> {
        let mut writer = self.lock_writer()?;
        if writer.mode != settings.flush {
            if settings.flush == FlushMode::Durable {
                self.sync_dirty_segments()?;
            }
            let lsn = self.core.journal(self.id, &Event::Mode(settings.flush, self.end_point()), &[])?;
            // Until the entry is durable, recovery would treat what follows by the old mode.
            self.core.wait_durable(lsn)?;
            writer.mode = settings.flush;
            writer.history_stale = true;
            self.flushed_end.store(self.log_end(), Ordering::Release);
            self.mark_dirty();
        }
        self.settings.store(settings);
        Ok(())
    }

    /// First offset that readers may ask for, in either tier, as far as this broker knows.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        self.log_start.load(Ordering::Acquire)
    }

    /// First offset on local disk that readers may ask for.
    #[must_use]
    pub fn local_start(&self) -> Offset {
        self.segments.load().first().map_or(0, |first| first.base()).max(self.log_start())
    }

    /// First offset that is not written yet.
    #[must_use]
    pub fn log_end(&self) -> Offset {
        self.log_end.load(Ordering::Acquire)
    }

    /// First offset that a power cut may still take; the log end with `firn.flush=replicated`.
    #[must_use]
    pub fn flushed_end(&self) -> Offset {
        self.flushed_end.load(Ordering::Acquire)
    }

    /// First offset of the segment that is being written: everything below is in closed segments.
    #[must_use]
    pub fn active_segment_base(&self) -> Offset {
        self.active().base()
    }

    /// Bytes of record batches on local disk.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.segments.load().iter().map(|segment| segment.size()).sum()
    }

    /// Bytes of record batches on local disk from the batch of `offset` on; none of those before it count.
    ///
    /// # Errors
    /// Those of reading, when a segment has to be looked into.
    pub fn size_bytes_from(&self, offset: Offset) -> Result<u64, ReadError> {
        self.undisturbed(|| {
            let segments = self.segments.load();
            let mut bytes = 0;
            for segment in segments.iter().filter(|segment| segment.next() > offset) {
                let before = if segment.base() < offset { segment.cut_point(&self.core.files, offset)?.0 } else { 0 };
                bytes += segment.size().saturating_sub(before);
            }
            Ok(bytes)
        })
    }

    /// The segments, oldest first; the last one is open.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let segments = self.segments.load();
        let last = segments.len() - 1;
        let info = |(i, segment): (usize, &Arc<Segment>)| SegmentInfo {
            base_offset: segment.base(),
            next_offset: segment.next(),
            size_bytes: segment.size(),
            max_timestamp: segment.max_timestamp(),
            closed: i < last,
        };
        segments.iter().enumerate().map(info).collect()
    }

    /// The first segment with offsets at or above `from` that the log needs and of which the file is gone, or ends too early:
    /// what it held is refused until it is restored.
    #[must_use]
    pub fn lost(&self, from: Offset) -> Option<Range<Offset>> {
        let (segments, start) = (self.segments.load(), self.log_start().max(from));
        let lost = segments.iter().find(|segment| segment.is_lost() && segment.next() > start);
        lost.map(|segment| segment.base()..segment.next())
    }

    /// The offsets from `start` up to the first local one are missing: they count as lost. Nothing happens when none are.
    ///
    /// # Errors
    /// When the log takes no changes.
    pub fn note_missing_from(&self, start: Offset) -> Result<(), StorageError> {
        let _writer = self.lock_writer()?;
        let (segments, from) = (self.segments.load_full(), start.max(self.log_start()));
        if from >= segments[0].base() {
            return Ok(());
        }
        let lost = Arc::new(Segment::lost(&self.dir, from, &segments[0].facts()));
        let _disturbing = self.disturb();
        self.segments.store(Arc::new(std::iter::once(lost).chain(segments.iter().cloned()).collect()));
        self.mark_dirty();
        Ok(())
    }

    /// The idempotent producers that the partition remembers, by id.
    #[must_use]
    pub fn producers(&self) -> Vec<ActiveProducer> {
        self.writer.lock().producers.active()
    }

    /// The largest epoch that is at most `epoch` and its end offset, or `(-1, -1)` when the log knows none (KIP-101,
    /// KIP-279).
    #[must_use]
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        self.epochs.read().end_of(epoch, self.log_end()).unwrap_or((-1, -1))
    }

    /// The newest leader epoch of the log, or −1.
    #[must_use]
    pub fn latest_epoch(&self) -> LeaderEpoch {
        self.epochs.read().latest()
    }

    /// The leader epoch of the record at `offset`, or that of the end of the log; −1 where it is not known.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        self.epochs.read().at(offset)
    }

    /// Where each epoch begins, oldest first.
    #[must_use]
    pub fn epochs(&self) -> Vec<EpochStart> {
        self.epochs.read().all().to_vec()
    }

    /// Notes that this broker leads from the log end on. An epoch that is not newer than the latest changes nothing.
    ///
    /// # Errors
    /// Those of the journal; the epoch is not begun then.
    pub fn begin_epoch(&self, epoch: LeaderEpoch) -> Result<(), StorageError> {
        let mut writer = self.lock_writer()?;
        if !self.epochs.read().is_new(epoch) {
            return Ok(());
        }
        let start = self.log_end();
        let lsn = self.core.journal(self.id, &Event::Epoch(epoch, start), &[])?;
        self.core.flush.request(lsn);
        self.epochs.write().begin(epoch, start);
        writer.history_stale = true;
        self.mark_dirty();
        Ok(())
    }

    fn active(&self) -> Arc<Segment> {
        let segments = self.segments.load();
        // The list is never empty, by construction and by every change to it.
        Arc::clone(&segments[segments.len() - 1])
    }

    fn end_point(&self) -> LogPoint {
        let active = self.active();
        LogPoint { segment_base: active.base(), position: active.size(), offset: self.log_end() }
    }

    fn lock_writer(&self) -> Result<MutexGuard<'_, Writer>, StorageError> {
        self.core.check()?;
        let writer = self.writer.lock();
        if self.is_removed() {
            return Err(StorageError::Removed(self.id));
        }
        Ok(writer)
    }

    /// Waits until no change is under way; from then on every change fails. Asks for a flush of the journal's entry.
    pub(crate) fn mark_removed(&self) -> Result<(), StorageError> {
        let _writer = self.lock_writer()?;
        let replay_from = self.core.journal.end_lsn();
        let lsn = self.core.journal(self.id, &Event::Remove, &[])?;
        // Never set before: the lock is held, and it is refused once this is set.
        let _ = self.removal.set(Removal { replay_from, lsn });
        self.core.flush.request(lsn);
        Ok(())
    }

    pub(crate) fn removal(&self) -> Option<Removal> {
        self.removal.get().copied()
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.removal.get().is_some()
    }

    /// A file that is missing because the partition was removed meanwhile is no failure of the disk.
    fn unless_removed(&self, error: StorageError) -> StorageError {
        let is_missing = error.is_not_found() || matches!(error, StorageError::Damaged { .. });
        if is_missing && self.is_removed() { StorageError::Removed(self.id) } else { error }
    }

    pub(crate) fn close_files(&self) {
        for segment in self.segments.load().iter() {
            segment.slots().iter().for_each(|slot| slot.close());
        }
    }

    fn mark_dirty(&self) {
        self.dirty.store(true, Ordering::Release);
    }

    /// A flush round has covered the log up to `end`.
    pub(crate) fn note_flushed(&self, end: Offset) {
        self.flushed_end.fetch_max(end, Ordering::AcqRel);
    }

    /// Makes durable what was written to a segment before the call, and its name when that is new. Several threads call it;
    /// each returns only when a sync that began after its own call has ended.
    ///
    /// # Errors
    /// A failed sync has failed the tier: threads that wait for their own sync of the file fail too.
    pub(crate) fn sync_segment(&self, segment: &Segment) -> Result<(), StorageError> {
        let size = segment.size();
        if size == 0 {
            // Its file may not even exist yet.
            return Ok(());
        }
        let _one_at_a_time = segment.lock_sync();
        // The operating system reports a failed write once: the thread that got the error has failed the tier by now.
        self.core.check()?;
        if segment.is_synced_to(size) {
            return Ok(());
        }
        let synced = self.sync_file(segment);
        match synced {
            Ok(()) => segment.note_synced(size),
            // Evicted, truncated or removed meanwhile: its bytes are not needed any more.
            Err(e) if e.is_not_found() && (segment.is_retired() || self.is_removed()) => {}
            Err(e) => {
                self.core.judge_sync(&e);
                return Err(e);
            }
        }
        Ok(())
    }

    fn sync_file(&self, segment: &Segment) -> Result<(), StorageError> {
        let file = segment.open_log(&self.core.files)?;
        let was_named = segment.is_named();
        file.sync_data().map_err(|e| segment.io("flush", e))?;
        if was_named {
            return Ok(());
        }
        self.core.disk().sync_dir(&self.dir).map_err(|e| StorageError::io("flush", &self.dir, e))?;
        self.sync_name()
    }

    /// Makes the name of the partition's folder durable, once: a synced file in a folder that is lost is lost too.
    fn sync_name(&self) -> Result<(), StorageError> {
        if !self.named.load(Ordering::Acquire)
            && let Some(above) = self.dir.parent()
        {
            self.core.disk().sync_dir(above).map_err(|e| StorageError::io("flush", above, e))?;
            self.named.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn sync_dirty_segments(&self) -> Result<(), StorageError> {
        for segment in self.segments.load().iter().filter(|segment| segment.is_dirty()) {
            self.sync_segment(segment)?;
        }
        Ok(())
    }
}
