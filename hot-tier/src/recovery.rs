//! From what a crash left behind to logs that can be served.
//!
//! 1. The checkpoint is loaded.
//! 2. The journal is read from the checkpoint on, and each partition's [`plan`] made: what still counts.
//! 3. Each partition is [`rebuild`]t: batches that the page cache lost are written again from the journal, large appends
//!    are looked up in their segments, everything behind the last acknowledged batch is cut.
//! 4. What was replayed is synced, since it is about to be served. All of it was written again before: what is read back may
//!    have survived in the page cache alone, which a sync does not bring to the disk when an earlier one failed.
//!
//! A partition with `firn.flush=replicated` has no batches in the journal: its files are read from the checkpoint's end
//! on, up to the first batch that is not intact.
//!
//! Files that a crash left half done are taken as follows. No checkpoint, or a damaged one: all segments are read, the
//! journal is replayed as far back as it goes. A folder that neither knows: nothing in it was ever acknowledged; it is
//! removed when it holds no batches and set aside (`.stray`) when it does. Indexes, snapshots: rebuilt when needed.
//!
//! A place that the disk cannot read is damage of the offsets that lay there, and stays part of the log. A partition that
//! cannot be opened all the same stays unopened; checkpoint and journal keep what they know of it for the next start.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use model::settings::{FlushMode, TopicSettings};
use model::{Offset, TimestampMs, TopicPartition};

use crate::checkpoint::{self, Checkpoint, PartitionCheckpoint};
use crate::config::Config;
use crate::core::{Core, Drive, FlushListener, Parts};
use crate::disk::{Disk, is_unreadable, read_file, rename_aside};
use crate::error::StorageError;
use crate::journal::entry::Event;
use crate::journal::replay::Tail;
use crate::journal::{Journal, journal_dir};
use crate::layout;
use crate::partition::{Origin, PartitionLog};

mod base;
mod identity;
mod plan;
mod rebuild;

pub(crate) use identity::write_identity;

use plan::{Plan, Plans};
use rebuild::Rebuild;

/// Largest checkpoint that is read, in bytes.
const CHECKPOINT_BYTES_MAX: u64 = 16 << 30;

/// What recovery found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The tier was closed in order and nothing had to be done.
    pub clean: bool,
    /// Partitions that were opened.
    pub partitions: usize,
    /// Journal entries that were read.
    pub entries: u64,
    /// Partitions whose log ends before the journal says: their last appends were torn and never acknowledged.
    pub cut: usize,
    /// What was damaged or lost, in words; empty after any crash of a disk that keeps its promises.
    pub damage: Vec<String>,
    /// Single bits of the journal that had changed and were put right, in words. A write that a power cut tore may, rarely,
    /// look the same: it is completed then.
    pub mended: Vec<String>,
}

/// An open tier, before its threads run.
pub(crate) struct Recovered {
    pub(crate) core: Arc<Core>,
    pub(crate) partitions: Vec<Arc<PartitionLog>>,
    pub(crate) unopened: Vec<Unopened>,
    pub(crate) report: RecoveryReport,
    /// There is no checkpoint to build on: one must come before anything is written.
    pub(crate) checkpoint_first: bool,
}

/// A partition that could not be opened. It is out of service until a restart opens it; what checkpoint and journal know of it
/// is kept meanwhile.
#[derive(Debug)]
pub(crate) struct Unopened {
    pub(crate) id: TopicPartition,
    pub(crate) reason: Arc<str>,
    /// Its part of the next checkpoint: that of the last, or its name alone.
    pub(crate) checkpointed: Option<Bytes>,
    /// The journal's entries from here on may be of the partition.
    pub(crate) replay_from: Option<u64>,
}

/// Everything that recovery is given.
pub(crate) struct Setting {
    pub(crate) config: Config,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) on_flush: FlushListener,
    pub(crate) drive: Drive,
    pub(crate) now_ms: TimestampMs,
}

/// The folder of the partitions.
pub(crate) fn topics_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("topics")
}

/// Opens what is in the data folder, or an empty one.
pub(crate) fn recover(setting: Setting) -> Result<Recovered, StorageError> {
    let Setting { config, disk, on_flush, drive, now_ms } = setting;
    let (topics, journal) = (topics_dir(&config.data_dir), journal_dir(&config.data_dir));
    for dir in [&topics, &journal] {
        disk.create_dir_all(dir).map_err(|e| StorageError::io("create", dir, e))?;
    }
    sync_names(&*disk, &config.data_dir)?;
    let mut report = RecoveryReport::default();
    let checkpoint = read_checkpoint(&*disk, &config.data_dir, &mut report)?;
    let was_clean = checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.clean);
    let from = checkpoint.as_ref().map(|checkpoint| checkpoint.lsn);
    let has_checkpoint = checkpoint.is_some();
    let mut plans = Plans::new(checkpoint);
    let mut tail = Tail::open(&*disk, &journal)?;
    let replay_from = tail.replay(from, |entry, place| plans.add(entry, place))?;
    report.damage.append(&mut tail.damage);
    report.mended.append(&mut tail.mended);
    report.entries = plans.entries;
    let found = tail.found(plans.past_lsn);
    let checkpoint_first = !has_checkpoint;
    let journal = Journal::new(Arc::clone(&disk), journal, &config, found);
    let core = Arc::new(Core::new(Parts { config, disk, journal, on_flush, drive }, now_ms));
    core.end_checkpoint(from.unwrap_or(0), from.unwrap_or(0));

    let mut finder =
        Finder { core: &core, topics, tail: &tail, report, has_checkpoint, replay_from, unopened: Vec::new() };
    let partitions = finder.partitions(plans)?;
    tail.sync()?;
    let Finder { mut report, unopened, .. } = finder;
    report.partitions = partitions.len();
    report.clean = was_clean && report.entries == 0 && report.damage.is_empty() && report.mended.is_empty();
    Ok(Recovered { core, partitions, unopened, report, checkpoint_first })
}

/// Makes the folders' own names durable: what is synced in a folder that a power cut takes away is lost all the same.
fn sync_names(disk: &dyn Disk, data_dir: &Path) -> Result<(), StorageError> {
    disk.sync_dir(data_dir).map_err(|e| StorageError::io("flush", data_dir, e))?;
    let absolute = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    for above in absolute.ancestors().skip(1) {
        // Folders of others may refuse; then they were there before us.
        if let Err(e) = disk.sync_dir(above) {
            tracing::debug!(dir = %above.display(), error = %e, "cannot flush a folder above the data folder");
        }
    }
    Ok(())
}

fn read_checkpoint(
    disk: &dyn Disk,
    data_dir: &Path,
    report: &mut RecoveryReport,
) -> Result<Option<Checkpoint>, StorageError> {
    let path = data_dir.join(checkpoint::FILE_NAME);
    let bytes = match read_file(disk, &path, CHECKPOINT_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) if is_unreadable(&e) => Vec::new(),
        Err(e) => return Err(StorageError::io("read", &path, e)),
    };
    let checkpoint = Checkpoint::decode(&bytes);
    if checkpoint.is_none() {
        report.damage.push(format!("{} is damaged: all segments were read instead", path.display()));
    }
    Ok(checkpoint)
}

/// Brings plans and folders together.
struct Finder<'a> {
    core: &'a Arc<Core>,
    topics: PathBuf,
    tail: &'a Tail,
    report: RecoveryReport,
    has_checkpoint: bool,
    /// Position at which the replay of the journal began.
    replay_from: u64,
    unopened: Vec<Unopened>,
}

impl Finder<'_> {
    fn partitions(&mut self, mut plans: Plans) -> Result<Vec<Arc<PartitionLog>>, StorageError> {
        let mut dirs = self.dirs()?;
        let unknown: Vec<TopicPartition> =
            dirs.keys().filter(|id| !plans.partitions.contains_key(id)).copied().collect();
        for id in unknown {
            let Some(dir) = dirs.remove(&id) else { continue };
            if self.has_checkpoint {
                self.set_aside(&dir)?;
            } else {
                plans.partitions.insert(id, Plan::default());
                dirs.insert(id, dir);
            }
        }
        let mut partitions = Vec::with_capacity(plans.partitions.len());
        for (id, mut plan) in plans.partitions {
            let dir = dirs.remove(&id);
            if plan.removed {
                if let Some(dir) = dir {
                    self.retire_dir(&dir)?;
                }
                continue;
            }
            match self.partition(id, &mut plan, dir) {
                Ok(opened) => partitions.extend(opened),
                Err(error) => self.leave_unopened(id, &plan, error)?,
            }
        }
        Ok(partitions)
    }

    /// What keeps one partition from being opened takes no other one out of service.
    ///
    /// # Errors
    /// `error`, when it is not about this partition.
    fn leave_unopened(&mut self, id: TopicPartition, plan: &Plan, error: StorageError) -> Result<(), StorageError> {
        let is_its_own = matches!(error, StorageError::Io { .. } | StorageError::Damaged { .. });
        if !is_its_own || self.core.failure().is_some() {
            return Err(error);
        }
        let topic = plan.topic.as_deref().unwrap_or_default();
        self.report
            .damage
            .push(format!("partition {id} of topic {topic} cannot be opened and is out of service: {error}"));
        // A folder that the next checkpoint does not name would be set aside by the next start.
        let known = plan.base.clone().or_else(|| Some(PartitionCheckpoint::unknown(id, plan.topic.clone()?)));
        self.unopened.push(Unopened {
            id,
            reason: error.to_string().into(),
            checkpointed: known.map(|known| known.encode()),
            replay_from: plan.touched.then_some(self.replay_from),
        });
        Ok(())
    }

    /// The partitions' folders; those that are being deleted go to the trash.
    fn dirs(&mut self) -> Result<BTreeMap<TopicPartition, PathBuf>, StorageError> {
        let mut dirs = BTreeMap::new();
        let entries = self.core.disk().list(&self.topics).map_err(|e| StorageError::io("list", &self.topics, e))?;
        for entry in entries.iter().filter(|entry| entry.is_dir) {
            let path = self.topics.join(&entry.name);
            if entry.name.ends_with(layout::DELETED) {
                self.core.trash.add(path);
            } else if let Some((_, id)) = layout::parse_partition_dir(&entry.name) {
                dirs.insert(id, path);
            } else {
                tracing::warn!(dir = %path.display(), "this folder is no partition's and is left alone");
            }
        }
        Ok(dirs)
    }

    fn retire_dir(&self, dir: &Path) -> Result<(), StorageError> {
        let retired = rename_aside(self.core.disk(), dir, layout::DELETED);
        self.core.trash.add(retired.map_err(|e| StorageError::io("retire", dir, e))?);
        Ok(())
    }

    /// A folder that neither checkpoint nor journal know: the creation or the removal was under way.
    fn set_aside(&mut self, dir: &Path) -> Result<(), StorageError> {
        let names = self.names(dir)?;
        let has_log = names
            .iter()
            .filter_map(|name| layout::parse_file_name(name))
            .any(|(_, kind)| kind == layout::FileKind::Log);
        if !has_log {
            return self.retire_dir(dir);
        }
        tracing::warn!(
            dir = %dir.display(),
            "neither checkpoint nor journal know this partition: its folder is set aside as .stray"
        );
        let renamed = rename_aside(self.core.disk(), dir, layout::STRAY);
        renamed.map(drop).map_err(|e| StorageError::io("set aside", dir, e))
    }

    fn names(&self, dir: &Path) -> Result<Vec<String>, StorageError> {
        let entries = self.core.disk().list(dir).map_err(|e| StorageError::io("list", dir, e))?;
        Ok(entries.into_iter().filter(|entry| !entry.is_dir).map(|entry| entry.name).collect())
    }

    fn partition(
        &mut self,
        id: TopicPartition,
        plan: &mut Plan,
        dir: Option<PathBuf>,
    ) -> Result<Option<Arc<PartitionLog>>, StorageError> {
        let named =
            plan.topic.clone().or_else(|| dir.as_deref().and_then(|dir| identity::read(self.core.disk(), dir, id)));
        let Some(topic) = named else {
            self.report.damage.push(format!("partition {id} has journal entries, but its topic is unknown"));
            return Ok(None);
        };
        plan.topic = Some(topic.clone());
        let dir = match dir {
            Some(dir) => dir,
            None => self.topics.join(layout::partition_dir(&topic, id)),
        };
        self.core.disk().create_dir_all(&dir).map_err(|e| StorageError::io("create", &dir, e))?;
        let names = self.names(&dir)?;
        if !names.iter().any(|name| name == layout::IDENTITY)
            && let Err(error) = write_identity(self.core.disk(), &dir, id, &topic)
        {
            // Checkpoint and journal know the same.
            tracing::warn!(dir = %dir.display(), %error, "cannot write the identity of a partition");
        }
        self.discard_deleted(&dir, &names);
        self.retire_snapshots(plan, &dir, &names)?;
        let dir: Arc<Path> = Arc::from(dir);
        let mut rebuild = self.base(plan, &dir, &names)?;
        rebuild.run(plan, self.tail)?;
        let start = plan.log_start.unwrap_or(0).max(rebuild.log_start);
        rebuild.log_start = start.min(rebuild.end().offset);
        rebuild.epochs.advance_to(rebuild.log_start);
        // What a replicated topic lost in a power cut takes the epochs that began behind it along: the leader has others there.
        rebuild.epochs.truncate_to(rebuild.end().offset.saturating_add(1));
        rebuild.drop_below(plan.local_start.unwrap_or(0).max(rebuild.log_start));
        rebuild.tell_lost();
        rebuild.retire_strangers(&names)?;
        self.finish(id, topic, plan, rebuild).map(Some)
    }

    /// Snapshots of a past that a reset or a truncation took back: their removal may have been lost in a power cut.
    fn retire_snapshots(&self, plan: &Plan, dir: &Path, names: &[String]) -> Result<(), StorageError> {
        let valid_to = match (&plan.reset, plan.base_cut) {
            (Some(_), _) => Offset::MIN,
            (None, Some(cut)) => cut.offset,
            (None, None) => return Ok(()),
        };
        for name in names {
            let stale = layout::parse_file_name(name)
                .is_some_and(|(offset, kind)| kind == layout::FileKind::Snapshot && offset > valid_to);
            if stale {
                let path = dir.join(name);
                let deleted = layout::deleted(&path);
                self.core.disk().rename(&path, &deleted).map_err(|e| StorageError::io("retire", &path, e))?;
                self.core.trash.add(deleted);
            }
        }
        Ok(())
    }

    fn discard_deleted(&self, dir: &Path, names: &[String]) {
        for name in names.iter().filter(|name| name.ends_with(layout::DELETED) || name.ends_with(".tmp")) {
            self.core.trash.add(dir.join(name));
        }
    }

    fn finish(
        &mut self,
        id: TopicPartition,
        topic: model::TopicName,
        plan: &Plan,
        mut rebuild: Rebuild<'_>,
    ) -> Result<Arc<PartitionLog>, StorageError> {
        self.report.damage.append(&mut rebuild.damage);
        for segment in &rebuild.segments[..rebuild.segments.len() - 1] {
            // Those that closed since the checkpoint must stay until the next one: the journal has entries for them.
            let is_covered = segment.base() < rebuild.touched_from;
            segment.close_at(if is_covered { 0 } else { self.core.journal.end_lsn() }, segment.next());
        }
        let is_untouched = !plan.touched && plan.base.is_some() && !rebuild.was_cut;
        let end = rebuild.end();
        let unchanged = |base: &PartitionCheckpoint| {
            base.end == end.offset
                && base.log_start == rebuild.log_start
                && base
                    .segments
                    .iter()
                    .map(|facts| facts.base)
                    .eq(rebuild.segments.iter().map(|segment| segment.base()))
        };
        let checkpointed = plan.base.as_ref().filter(|base| is_untouched && unchanged(base)).map(|base| base.encode());
        let unsynced = std::mem::take(&mut rebuild.unsynced);
        let bases: BTreeSet<Offset> = rebuild.segments.iter().map(|segment| segment.base()).collect();
        let origin = Origin {
            id,
            topic,
            dir: Arc::clone(&rebuild.dir),
            settings: Arc::new(TopicSettings { flush: rebuild.mode, ..TopicSettings::default() }),
            mode: rebuild.mode,
            segments: rebuild.segments,
            epochs: rebuild.epochs,
            producers: rebuild.producers,
            log_start: rebuild.log_start,
            checkpointed,
        };
        let log = Arc::new(PartitionLog::new(Arc::clone(self.core), origin));
        // What the log start has passed, or belonged to no log, has been retired since.
        for segment in unsynced.iter().filter(|segment| bases.contains(&segment.base())) {
            log.sync_segment(segment)?;
        }
        if rebuild.was_cut {
            self.report.cut += 1;
            // The void entries are still in the journal: the next recovery must not take them for real.
            self.core.journal(id, &Event::Truncate(end), &[])?;
        }
        Ok(log)
    }
}

/// The bases of the log files among `names`.
fn log_bases(names: &[String]) -> BTreeSet<Offset> {
    let parsed = names.iter().filter_map(|name| layout::parse_file_name(name));
    parsed.filter(|(_, kind)| *kind == layout::FileKind::Log).map(|(offset, _)| offset).collect()
}

/// The mode of a partition of which none is known: the one that promises more.
const MODE_UNKNOWN: FlushMode = FlushMode::Durable;
