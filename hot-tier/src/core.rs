//! What all partitions of a tier share: the disk, the journal, the flush queue, and whether the tier has failed.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use model::{Offset, TimestampMs, TopicPartition};

use crate::config::Config;
use crate::disk::Disk;
use crate::disk_state::DiskState;
use crate::error::{StorageError, TierFailure, lacks_descriptor};
use crate::flush_queue::{FlushQueue, Pending};
use crate::journal::Journal;
use crate::journal::entry::Event;
use crate::open_files::OpenFiles;
use crate::sync::{Condvar, Mutex};

/// Pause before something is tried again for which too many files were open.
pub(crate) const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(100);
/// Pause before a step is tried again for which the disk had no space.
const SPACE_PAUSE: Duration = Duration::from_millis(200);

/// Called with a partition's flushed end by the flusher thread, outside of all locks. Calls for one partition come in order,
/// but the log may have been truncated since: read [`crate::PartitionLog::flushed_end`] for what holds now.
///
/// It must be quick, for all acknowledgements wait for it, and may call nothing of a partition that changes it or takes
/// its lock (`producers`, `sealed_segments`): such a call may be waiting for the flusher. Offsets and reads are free.
pub type FlushListener = Arc<dyn Fn(TopicPartition, Offset) + Send + Sync>;

/// Who runs flushes and checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drive {
    /// Two threads of the tier.
    Threads,
    /// By the call that needs one, at once; other pending work waits for a step: for runs that must repeat exactly.
    #[cfg(any(test, feature = "simulation"))]
    Inline,
}

/// The shared parts of a tier.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) files: OpenFiles,
    pub(crate) journal: Journal,
    pub(crate) flush: FlushQueue,
    pub(crate) trash: Trash,
    pub(crate) housekeeping: Signal,
    pub(crate) on_flush: FlushListener,
    pub(crate) drive: Drive,
    pub(crate) disk_state: DiskState,
    /// Held by a round of group commit from taking what is pending until that is durable.
    flushing: Mutex<()>,
    failure: OnceLock<TierFailure>,
    /// The thread of the tier that ended by a panic.
    panicked: OnceLock<&'static str>,
    /// Bytes that bypassed the journal since the last checkpoint: recovery has to check them.
    bypassed: AtomicU64,
    /// A checkpoint covers all journal entries below.
    covered_lsn: AtomicU64,
    /// Someone waits for a checkpoint.
    checkpoint_wanted: AtomicBool,
    /// The newest time that anyone told us, in ms.
    now_ms: AtomicI64,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("config", &self.config).field("failure", &self.failure).finish_non_exhaustive()
    }
}

/// Parts that a [`Core`] is made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) journal: Journal,
    pub(crate) on_flush: FlushListener,
    pub(crate) drive: Drive,
}

impl Core {
    pub(crate) fn new(parts: Parts, now_ms: TimestampMs) -> Self {
        let settled = parts.journal.end_lsn();
        Core {
            files: OpenFiles::new(parts.disk, parts.config.max_open_files),
            config: parts.config,
            journal: parts.journal,
            flush: FlushQueue::new(settled),
            trash: Trash::default(),
            housekeeping: Signal::default(),
            on_flush: parts.on_flush,
            drive: parts.drive,
            disk_state: DiskState::default(),
            flushing: Mutex::new(()),
            failure: OnceLock::new(),
            panicked: OnceLock::new(),
            bypassed: AtomicU64::new(0),
            covered_lsn: AtomicU64::new(0),
            checkpoint_wanted: AtomicBool::new(false),
            now_ms: AtomicI64::new(now_ms),
        }
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        self.files.disk()
    }

    pub(crate) fn failure(&self) -> Option<&TierFailure> {
        self.failure.get()
    }

    /// # Errors
    /// The tier's failure, when it has failed.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        self.failure.get().map_or(Ok(()), |failure| Err(failure.clone().into()))
    }

    /// Marks the tier failed, unless the error is one that leaves everything as it was.
    pub(crate) fn judge(&self, error: StorageError) -> StorageError {
        self.note_full(&error);
        if !self.lacks_descriptor(&error) && matches!(error, StorageError::Io { .. }) && !error.is_not_found() {
            self.fail(&error);
        }
        error
    }

    /// Takes note of a disk that is full; the housekeeper then looks for space.
    pub(crate) fn note_full(&self, error: &StorageError) {
        if matches!(error, StorageError::Full { .. }) && self.disk_state.note_full(error) {
            self.housekeeping.raise();
        }
    }

    /// Marks the tier failed after a sync that failed, unless its file could not be opened: then none was tried.
    pub(crate) fn judge_sync(&self, error: &StorageError) {
        if !self.lacks_descriptor(error) {
            self.fail(error);
        }
    }

    /// True when the error is that too many files are open, which passes; idle ones are closed then.
    pub(crate) fn lacks_descriptor(&self, error: &StorageError) -> bool {
        let lacks = matches!(error, StorageError::NoDescriptor { .. });
        if lacks {
            self.files.relieve();
        }
        lacks
    }

    /// Carries out a step of what the journal tells of already. There is no way back from it: where too many files are open,
    /// it is tried again until some are closed; where the disk is full, which then refuses even a new name or a shorter file,
    /// until there is space. Only a sync is never repeated.
    ///
    /// # Errors
    /// Those of `step`, other than [`StorageError::NoDescriptor`] and [`StorageError::Full`]; the tier's failure while it is
    /// waited.
    pub(crate) fn carry_out<T>(&self, step: impl Fn() -> Result<T, StorageError>) -> Result<T, StorageError> {
        loop {
            match self.with_descriptors(&step) {
                Err(e) if e.lacks_space() => {
                    self.note_full(&e);
                    std::thread::sleep(SPACE_PAUSE);
                }
                done => return done,
            }
            self.check()?;
        }
    }

    /// Tries a step again while too many files are open.
    ///
    /// # Errors
    /// Those of `step`, other than [`StorageError::NoDescriptor`]; the tier's failure while it is waited.
    pub(crate) fn with_descriptors<T>(&self, step: impl Fn() -> Result<T, StorageError>) -> Result<T, StorageError> {
        loop {
            match step() {
                Err(e) if self.lacks_descriptor(&e) => std::thread::sleep(DESCRIPTOR_PAUSE),
                done => return done,
            }
            self.check()?;
        }
    }

    /// A thread of the tier has panicked: what it was there for is done no more.
    pub(crate) fn lose_thread(&self, name: &'static str) {
        let _ = self.panicked.set(name);
        self.fail(&StorageError::ThreadLost(name));
    }

    /// The thread of the tier that ended by a panic.
    pub(crate) fn panicked(&self) -> Option<&'static str> {
        self.panicked.get().copied()
    }

    /// From now on nothing is acknowledged.
    pub(crate) fn fail(&self, error: &StorageError) {
        if self.failure.set(TierFailure(error.to_string().into())).is_ok() {
            tracing::error!(error = %error, "the local log has failed: nothing is acknowledged until a restart");
        }
        self.give_up();
    }

    /// The tier is closed in order: later calls come too late.
    pub(crate) fn shut(&self) {
        let _ = self.failure.set(TierFailure("it was closed".into()));
        self.give_up();
    }

    fn give_up(&self) {
        self.journal.give_up();
        self.flush.give_up();
        self.housekeeping.stop();
    }

    /// True while the journal takes batches; asks for a checkpoint when it does not.
    pub(crate) fn has_journal_space(&self) -> bool {
        let has_space = self.journal.has_space();
        if !has_space {
            self.housekeeping.raise();
        }
        has_space
    }

    /// Waits until the journal takes batches. Called without any lock.
    pub(crate) fn wait_for_journal_space(&self) -> Result<(), StorageError> {
        self.check()?;
        if !self.has_journal_space() {
            self.journal.wait_for_space(self.config.journal_wait)?;
        }
        self.check()
    }

    /// Journals an event; `batches` only go with an append. Answers the position that must be durable.
    pub(crate) fn journal(
        &self,
        partition: TopicPartition,
        event: &Event,
        batches: &[&[u8]],
    ) -> Result<u64, StorageError> {
        self.check()?;
        let lsn = self.journal.append(partition, event, batches).map_err(|e| self.judge(e))?;
        if self.journal.wants_spare() {
            self.housekeeping.raise();
        }
        if let Event::Bypassed(_, digest) = event {
            self.bypassed.fetch_add(digest.len, Ordering::Relaxed);
        }
        Ok(lsn)
    }

    /// True when recovery would take so long by now that a checkpoint is due.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        self.journal.wants_checkpoint() || self.bypassed.load(Ordering::Relaxed) > self.config.journal_bytes
    }

    /// A checkpoint begins: what was asked for before is covered by it.
    pub(crate) fn begin_checkpoint(&self) {
        self.bypassed.store(0, Ordering::Relaxed);
        self.checkpoint_wanted.store(false, Ordering::Release);
    }

    /// A checkpoint that covers everything below `lsn` is durable; a recovery reads the journal from `replay_from` on. Neither
    /// goes back.
    pub(crate) fn end_checkpoint(&self, lsn: u64, replay_from: u64) {
        self.covered_lsn.store(lsn, Ordering::Release);
        self.journal.release(replay_from);
    }

    /// Recovery needs no journal entry below.
    pub(crate) fn covered_lsn(&self) -> u64 {
        self.covered_lsn.load(Ordering::Acquire)
    }

    /// Asks for a checkpoint soon.
    pub(crate) fn ask_for_checkpoint(&self) {
        if !self.checkpoint_wanted.swap(true, Ordering::AcqRel) {
            self.housekeeping.raise();
        }
    }

    /// True when someone waits for a checkpoint.
    pub(crate) fn is_checkpoint_wanted(&self) -> bool {
        self.checkpoint_wanted.load(Ordering::Acquire)
    }

    /// Asks for a flush up to `lsn` and waits for it.
    ///
    /// # Errors
    /// The tier's failure: then it is not known whether `lsn` is durable.
    pub(crate) fn wait_durable(&self, lsn: u64) -> Result<(), StorageError> {
        match self.drive {
            Drive::Threads => {
                self.flush.request(lsn);
                self.flush.wait(lsn);
                if self.flush.settled() >= lsn { Ok(()) } else { self.check() }
            }
            #[cfg(any(test, feature = "simulation"))]
            Drive::Inline => {
                self.flush.request(lsn);
                self.flush_round()?;
                self.check()
            }
        }
    }

    /// One round of group commit: what is pending becomes durable, then the listener is called. False when nothing was.
    ///
    /// # Errors
    /// A failed sync, which fails the tier: nothing of the round is reported flushed. When too many files are open, the
    /// round may be tried again.
    pub(crate) fn flush_round(&self) -> Result<bool, StorageError> {
        let Some(pending) = self.flush_pending()? else { return Ok(false) };
        let mut told: Vec<TopicPartition> = Vec::with_capacity(pending.len().min(64));
        for one in pending.iter().rev() {
            let id = one.partition.id();
            // A round has few partitions, or many with one entry each; either way the last entry says it all.
            if told.len() < 64 && told.contains(&id) {
                continue;
            }
            told.push(id);
            (self.on_flush)(id, one.partition.flushed_end());
        }
        Ok(true)
    }

    /// The part of a round that makes what is pending durable.
    fn flush_pending(&self) -> Result<Option<Vec<Pending>>, StorageError> {
        // A round that finds nothing pending must not overtake the one that is making it durable.
        let _one_at_a_time = self.flushing.lock();
        self.check()?;
        // Taken before the pending list: of each partition, the appends before its last entry below are in the list by then,
        // because a partition's appends follow each other under its lock.
        let settled = self.journal.end_lsn();
        let Some(pending) = self.flush.take() else { return Ok(None) };
        let timed = self.disk_state.time_flush();
        let synced = self.sync_bypassed(&pending).and_then(|()| self.journal.sync());
        drop(timed);
        if let Err(e) = synced {
            self.judge_sync(&e);
            self.flush.give_back(pending);
            return Err(e);
        }
        for one in &pending {
            one.partition.note_flushed(one.end);
        }
        self.flush.settle(settled);
        Ok(Some(pending))
    }

    fn sync_bypassed(&self, pending: &[Pending]) -> Result<(), StorageError> {
        let mut synced: Vec<*const crate::segment::Segment> = Vec::new();
        for one in pending.iter().rev() {
            let Some(segment) = &one.bypassed else { continue };
            if synced.contains(&Arc::as_ptr(segment)) {
                continue;
            }
            synced.push(Arc::as_ptr(segment));
            one.partition.sync_segment(segment)?;
        }
        Ok(())
    }

    /// The broker's time as last heard.
    pub(crate) fn now_ms(&self) -> TimestampMs {
        self.now_ms.load(Ordering::Relaxed)
    }

    /// The last word counts, also an earlier time: a clock that was ahead and is set back must not age anything.
    pub(crate) fn note_now(&self, now_ms: TimestampMs) {
        self.now_ms.store(now_ms, Ordering::Relaxed);
    }
}

/// Names that are waiting to be unlinked. A crash leaves them behind; the next start finds them by their suffix.
#[derive(Debug, Default)]
pub(crate) struct Trash {
    paths: Mutex<Vec<PathBuf>>,
}

impl Trash {
    /// Adds a file or folder that has been renamed away.
    pub(crate) fn add(&self, path: PathBuf) {
        self.paths.lock().push(path);
    }

    /// Unlinks everything that waits. What cannot be unlinked is left for the next start, or for the next call when too many
    /// files are open.
    pub(crate) fn empty(&self, disk: &dyn Disk) {
        let paths = std::mem::take(&mut *self.paths.lock());
        for path in paths {
            let Err(e) = remove_all(disk, &path) else { continue };
            if lacks_descriptor(&e) {
                self.add(path);
            } else {
                tracing::warn!(path = %path.display(), error = %e, "cannot remove what was deleted");
            }
        }
    }
}

/// Removes a file, or a folder with the files in it.
fn remove_all(disk: &dyn Disk, path: &std::path::Path) -> std::io::Result<()> {
    let entries = match disk.list(path) {
        Ok(entries) => entries,
        // It is not known whether it is a folder.
        Err(e) if lacks_descriptor(&e) => return disk.remove_file(path).map_err(|_| e),
        Err(_) => return disk.remove_file(path),
    };
    for entry in entries.iter().filter(|entry| !entry.is_dir) {
        disk.remove_file(&path.join(&entry.name))?;
    }
    disk.remove_dir(path)
}

/// Wakes a thread.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    state: Mutex<SignalState>,
    raised: Condvar,
}

#[derive(Debug, Default)]
struct SignalState {
    raised: bool,
    stopped: bool,
}

impl Signal {
    pub(crate) fn raise(&self) {
        self.state.lock().raised = true;
        self.raised.notify_one();
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.raised.notify_all();
    }

    /// Lets `pause` pass, whatever signal comes meanwhile: it counts afterwards. Ends early once stopped.
    pub(crate) fn rest(&self, pause: Duration) {
        let end = Instant::now() + pause;
        let mut state = self.state.lock();
        while !state.stopped && !self.raised.wait_until(&mut state, end).timed_out() {}
    }

    /// Waits for the signal, for at most `patience`; false once stopped.
    pub(crate) fn wait(&self, patience: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.raised && !state.stopped {
            self.raised.wait_for(&mut state, patience);
        }
        state.raised = false;
        !state.stopped
    }
}
