//! Taking away the folders of partitions that were removed.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::TopicPartition;

use super::Shared;
use crate::disk::rename_aside;
use crate::error::StorageError;
use crate::journal::entry::Event;
use crate::layout;
use crate::partition::{PartitionLog, Removal};
use crate::recovery::topics_dir;

impl Shared {
    /// Takes the folders of all partitions away that are marked removed: one flush for all of them. May be called by several
    /// threads. What fails is tried again by the next call.
    ///
    /// # Errors
    /// Those of the flush, and of the first folder that could not be renamed.
    pub(super) fn finish_removals(&self) -> Result<(), StorageError> {
        let removed: Vec<(Arc<PartitionLog>, Removal)> = {
            let partitions = self.partitions.read();
            partitions.values().filter_map(|log| Some((Arc::clone(log), log.removal()?))).collect()
        };
        let Some(lsn) = removed.iter().map(|(_, removal)| removal.lsn).max() else { return Ok(()) };
        // No append of a removed log is pending after this flush, so the flusher needs none of their files.
        self.core.wait_durable(lsn)?;
        let _no_checkpoint = self.checkpointing.lock();
        let mut outcome = Ok(());
        for (log, _) in &removed {
            outcome = outcome.and(self.retire_folder(log));
        }
        outcome
    }

    /// As [`Shared::finish_removals`], when a partition of this id is marked removed.
    pub(super) fn finish_removal_of(&self, id: TopicPartition) -> Result<(), StorageError> {
        let is_removed = self.partitions.read().get(&id).is_some_and(|log| log.is_removed());
        if is_removed { self.finish_removals() } else { Ok(()) }
    }

    /// Removes a partition that could not be opened: as soon as that is durable, its folder goes.
    ///
    /// # Errors
    /// Those of the journal and of the flush; of the folder, which the next start takes away then.
    pub(super) fn remove_unopened(&self, id: TopicPartition) -> Result<(), StorageError> {
        let lsn = self.core.journal(id, &Event::Remove, &[])?;
        self.core.wait_durable(lsn)?;
        let _no_checkpoint = self.checkpointing.lock();
        if self.unopened.write().remove(&id).is_none() {
            return Ok(());
        }
        self.folders_changed.store(true, Ordering::Release);
        let (disk, topics) = (self.core.disk(), topics_dir(&self.core.config.data_dir));
        let folders = disk.list(&topics).map_err(|e| StorageError::io("list", &topics, e))?;
        let is_its_own = |name: &str| layout::parse_partition_dir(name).is_some_and(|(_, found)| found == id);
        for folder in folders.iter().filter(|entry| is_its_own(&entry.name)) {
            let path = topics.join(&folder.name);
            let deleted =
                rename_aside(disk, &path, layout::DELETED).map_err(|e| StorageError::io("retire", &path, e))?;
            self.core.trash.add(deleted);
        }
        self.core.housekeeping.raise();
        Ok(())
    }

    fn retire_folder(&self, log: &Arc<PartitionLog>) -> Result<(), StorageError> {
        let mut partitions = self.partitions.write();
        // Another thread may have been faster, and the partition may have been made again since.
        if !partitions.get(&log.id()).is_some_and(|there| Arc::ptr_eq(there, log)) {
            return Ok(());
        }
        match rename_aside(self.core.disk(), log.dir(), layout::DELETED) {
            Ok(deleted) => self.core.trash.add(deleted),
            // It was deleted by hand.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(self.core.judge(StorageError::io("retire", log.dir(), e))),
        }
        // Before the log leaves the list: a checkpoint that does not find it there makes the folder's new name durable.
        self.folders_changed.store(true, Ordering::Release);
        log.close_files();
        partitions.remove(&log.id());
        Ok(())
    }
}
