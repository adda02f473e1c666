//! The local log of a broker: all partitions, one journal, two threads.
//!
//! The *flusher* turns what was appended since its last round into one `fdatasync` and tells the broker. The *housekeeper*
//! writes checkpoints, prepares journal files, takes away the folders of removed partitions and unlinks what was deleted.
//!
//! Removing a partition has two steps. [`HotTier::remove`] marks its log and writes the journal's entry. The housekeeper waits
//! for that entry's flush, one for all partitions that are marked, and takes their folders away while no checkpoint is being
//! written. Until a folder's name is durably gone, checkpoints leave the entry to be replayed.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use model::settings::{FlushMode, TopicSettings};
use model::{TimestampMs, TopicName, TopicPartition};

use crate::config::Config;
use crate::core::{Core, Drive, FlushListener};
use crate::disk::{Disk, DiskLock, LocalDisk};
use crate::error::{OpenError, StorageError, TierFailure};
use crate::journal::entry::{Event, LogPoint};
use crate::layout;
use crate::leader_epochs::LeaderEpochs;
use crate::partition::{Origin, PartitionLog};
use crate::producer_state::ProducerStates;
use crate::recovery::{self, Recovered, RecoveryReport, Setting, Unopened, topics_dir};
use crate::segment::Segment;
use crate::sync::{Mutex, RwLock};

mod checkpointing;
mod removal;
#[cfg(feature = "simulation")]
mod stepped;
mod threads;

/// The local log of a broker. Clones share it; the last one to go stops its threads, as a crash would: call
/// [`HotTier::close`] for an orderly end.
///
/// A [`FlushListener`] must not hold a clone, or the tier never ends.
#[derive(Debug, Clone)]
pub struct HotTier {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    report: RecoveryReport,
    threads: Mutex<Vec<JoinHandle<()>>>,
    _lock: Box<dyn DiskLock>,
}

/// What the threads work on.
#[derive(Debug)]
struct Shared {
    core: Arc<Core>,
    partitions: RwLock<BTreeMap<TopicPartition, Arc<PartitionLog>>>,
    /// Folders came or went since the last checkpoint.
    folders_changed: AtomicBool,
    /// One checkpoint at a time, and none while folders are taken away.
    checkpointing: Mutex<()>,
    /// Partitions that are out of service until the next start.
    unopened: RwLock<BTreeMap<TopicPartition, Unopened>>,
    /// The journal's entries of [`Shared::unopened`] are kept. It ends when others need the space.
    holds_journal: AtomicBool,
    /// The last checkpoint could not be written, which was logged.
    lacks_checkpoint: AtomicBool,
}

impl HotTier {
    /// Opens the data folder, recovers what is in it, and starts the threads. `now_ms` is the time, in ms since the epoch.
    ///
    /// # Errors
    /// [`OpenError::Locked`] when another process has the folder; settings that cannot work; errors of the disk. Damaged
    /// files are no error: see [`HotTier::recovery_report`].
    pub fn open(config: Config, now_ms: TimestampMs, on_flush: FlushListener) -> Result<HotTier, OpenError> {
        Self::open_on(Setting { config, disk: Arc::new(LocalDisk), on_flush, drive: Drive::Threads, now_ms })
    }

    pub(crate) fn open_on(setting: Setting) -> Result<HotTier, OpenError> {
        setting.config.check()?;
        let drive = setting.drive;
        let lock = lock(&*setting.disk, &setting.config.data_dir)?;
        let Recovered { core, partitions, unopened, report, checkpoint_first } = recovery::recover(setting)?;
        let shared = Arc::new(Shared {
            core,
            partitions: RwLock::new(partitions.into_iter().map(|log| (log.id(), log)).collect()),
            folders_changed: AtomicBool::new(true),
            checkpointing: Mutex::new(()),
            unopened: RwLock::new(unopened.into_iter().map(|one| (one.id, one)).collect()),
            holds_journal: AtomicBool::new(true),
            lacks_checkpoint: AtomicBool::new(false),
        });
        if checkpoint_first {
            shared.checkpoint()?;
        } else if !report.clean {
            shared.core.ask_for_checkpoint();
        }
        for damage in &report.damage {
            tracing::error!(%damage, "recovery found damage");
        }
        for mended in &report.mended {
            tracing::error!(%mended, "recovery put a changed bit right");
        }
        tracing::info!(
            partitions = report.partitions,
            entries = report.entries,
            cut = report.cut,
            clean = report.clean,
            "the local log is open"
        );
        let threads = if drive == Drive::Threads { threads::start(&shared)? } else { Vec::new() };
        Ok(HotTier { handle: Arc::new(Handle { shared, report, threads: Mutex::new(threads), _lock: lock }) })
    }

    /// What recovery found when the tier was opened.
    #[must_use]
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.handle.report
    }

    /// All partitions, by id.
    #[must_use]
    pub fn partitions(&self) -> Vec<Arc<PartitionLog>> {
        self.handle.shared.partitions.read().values().filter(|log| !log.is_removed()).cloned().collect()
    }

    /// One partition.
    #[must_use]
    pub fn partition(&self, partition: TopicPartition) -> Option<Arc<PartitionLog>> {
        self.handle.shared.partitions.read().get(&partition).filter(|log| !log.is_removed()).cloned()
    }

    /// Makes a partition's log, empty at offset 0; when there is one of this id, gives it the settings and returns it. When one of
    /// this id is being removed, blocks until its folder is gone.
    ///
    /// # Errors
    /// Those of the disk, and [`StorageError::Unopened`]; no partition was made then.
    pub fn create(
        &self,
        topic: &TopicName,
        partition: TopicPartition,
        settings: Arc<TopicSettings>,
    ) -> Result<Arc<PartitionLog>, StorageError> {
        let shared = &self.handle.shared;
        if let Some(unopened) = shared.unopened.read().get(&partition) {
            return Err(StorageError::Unopened { partition, reason: Arc::clone(&unopened.reason) });
        }
        let known = self.partition(partition);
        if let Some(log) = known {
            log.update_settings(settings)?;
            return Ok(log);
        }
        shared.finish_removal_of(partition)?;
        let mut partitions = shared.partitions.write();
        if let Some(log) = partitions.get(&partition) {
            return if log.is_removed() { Err(StorageError::Removed(partition)) } else { Ok(Arc::clone(log)) };
        }
        let log = Arc::new(shared.make_log(topic, partition, settings)?);
        partitions.insert(partition, Arc::clone(&log));
        Ok(log)
    }

    /// Removes a partition's log: from now on it cannot be found, read or changed. The rest happens in the background: the
    /// removal becomes durable, then the files go; until then a crash may bring the partition back. Waits for no flush, unless
    /// the partition could not be opened. A partition that is not there is fine.
    ///
    /// # Errors
    /// Those of the journal, when the partition is still there.
    pub fn remove(&self, partition: TopicPartition) -> Result<(), StorageError> {
        if self.handle.shared.unopened.read().contains_key(&partition) {
            return self.handle.shared.remove_unopened(partition);
        }
        let Some(log) = self.partition(partition) else { return Ok(()) };
        match log.mark_removed() {
            // Another call was faster.
            Err(StorageError::Removed(_)) => Ok(()),
            Err(e) => Err(e),
            Ok(()) => {
                self.handle.shared.core.housekeeping.raise();
                Ok(())
            }
        }
    }

    /// The partitions that could not be opened, and why.
    #[must_use]
    pub fn unopened(&self) -> Vec<(TopicPartition, Arc<str>)> {
        let unopened = self.handle.shared.unopened.read();
        unopened.iter().map(|(id, one)| (*id, Arc::clone(&one.reason))).collect()
    }

    /// As [`PartitionLog::has_journal_space`].
    #[must_use]
    pub fn has_journal_space(&self) -> bool {
        self.handle.shared.core.has_journal_space()
    }

    /// Waits until the journal takes batches: call it before [`PartitionLog::append_follower`], without holding a lock.
    ///
    /// # Errors
    /// [`StorageError::JournalFull`] after [`Config::journal_wait`]; the tier's failure.
    pub fn wait_for_journal_space(&self) -> Result<(), StorageError> {
        self.handle.shared.core.wait_for_journal_space()
    }

    /// Waits until everything that was appended before the call, to any partition, is durable: one wait after appends to
    /// many. Each partition's [`PartitionLog::flushed_end`] says so then.
    ///
    /// # Errors
    /// The tier's failure: then it is not known what is durable.
    pub fn wait_flushed(&self) -> Result<(), StorageError> {
        let core = &self.handle.shared.core;
        core.wait_durable(core.journal.end_lsn())
    }

    /// Why nothing is acknowledged any more, when that is so. Only a restart helps.
    #[must_use]
    pub fn failure(&self) -> Option<TierFailure> {
        self.handle.shared.core.failure().cloned()
    }

    /// The thread of the tier that has panicked; its tier has failed. Only a new process helps.
    #[must_use]
    pub fn panicked(&self) -> Option<&'static str> {
        self.handle.shared.core.panicked()
    }

    /// The error of the write that found the disk full, from then on until there is space again.
    #[must_use]
    pub fn full(&self) -> Option<Arc<str>> {
        self.handle.shared.core.disk_state.full()
    }

    /// How long the flush under way has taken by now; `None` while there is none.
    #[must_use]
    pub fn flushing_for(&self) -> Option<Duration> {
        self.handle.shared.core.disk_state.flushing_for()
    }

    /// Flushes everything, writes a checkpoint so that the next start has nothing to do, and stops. What comes after
    /// fails.
    ///
    /// # Errors
    /// Those of the disk: the next start recovers then, as after a crash.
    pub fn close(&self) -> Result<(), StorageError> {
        let shared = &self.handle.shared;
        while shared.core.flush_round()? {}
        if let Err(e) = shared.finish_removals() {
            tracing::warn!(error = %e, "the next start takes away the folders of removed partitions");
        }
        let closed = shared.close_checkpoint();
        shared.core.trash.empty(shared.core.disk());
        shared.core.shut();
        self.handle.stop();
        closed
    }

    /// Writes a checkpoint now: afterwards recovery needs nothing of what was written before.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn checkpoint(&self) -> Result<(), StorageError> {
        self.handle.shared.checkpoint()
    }

    /// One round of the housekeeper.
    #[cfg(test)]
    pub(crate) fn keep_house(&self) {
        self.handle.shared.keep_house_once(Duration::ZERO);
    }

    #[cfg(test)]
    pub(crate) fn finish_removals(&self) -> Result<(), StorageError> {
        self.handle.shared.finish_removals()
    }

    #[cfg(test)]
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.handle.shared.core
    }
}

impl Shared {
    /// Called with the list of partitions locked, so that a checkpoint that covers the entry lists the partition.
    fn make_log(
        &self,
        topic: &TopicName,
        id: TopicPartition,
        settings: Arc<TopicSettings>,
    ) -> Result<PartitionLog, StorageError> {
        let core = &self.core;
        let dir = topics_dir(&core.config.data_dir).join(layout::partition_dir(topic, id));
        let made = core.disk().create_dir_all(&dir).map_err(|e| StorageError::io("create", &dir, e));
        made.and_then(|()| recovery::write_identity(core.disk(), &dir, id, topic)).map_err(|e| core.judge(e))?;
        let mut lsn = core.journal(id, &Event::Create(topic.clone()), &[])?;
        if settings.flush != FlushMode::Durable {
            let start = LogPoint { segment_base: 0, position: 0, offset: 0 };
            lsn = core.journal(id, &Event::Mode(settings.flush, start), &[])?;
        }
        let dir: Arc<Path> = Arc::from(dir);
        let origin = Origin {
            id,
            topic: topic.clone(),
            dir: Arc::clone(&dir),
            mode: settings.flush,
            segments: vec![Arc::new(Segment::new(&dir, 0))],
            epochs: LeaderEpochs::default(),
            producers: ProducerStates::default(),
            log_start: 0,
            checkpointed: None,
            settings,
        };
        // This must not wait: a listener that looks up a partition would wait for us.
        core.flush.request(lsn);
        self.folders_changed.store(true, Ordering::Release);
        Ok(PartitionLog::new(Arc::clone(core), origin))
    }
}

impl Handle {
    fn stop(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // The last clone may go inside of a listener, which the flusher calls.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.core.shut();
        self.stop();
    }
}

fn lock(disk: &dyn Disk, data_dir: &Path) -> Result<Box<dyn DiskLock>, OpenError> {
    disk.create_dir_all(data_dir).map_err(|e| StorageError::io("create", data_dir, e))?;
    let path = data_dir.join("lock");
    disk.lock(&path).map_err(|e| match e.kind() {
        ErrorKind::WouldBlock => OpenError::Locked(data_dir.to_owned()),
        _ => StorageError::io("lock", &path, e).into(),
    })
}
