//! Writing a checkpoint: segments first, then the journal, then the file that says so, then the journal's head is free.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Shared;
use crate::checkpoint::{self, FILE_NAME};
use crate::disk::{Durability, replace_file};
use crate::error::StorageError;
use crate::partition::{Captured, PartitionLog};
use crate::recovery::topics_dir;

impl Shared {
    /// Writes a checkpoint of now.
    ///
    /// # Errors
    /// A failed sync fails the tier. A full disk does not, nor do too many open files: the old checkpoint stays in force.
    pub(super) fn checkpoint(&self) -> Result<(), StorageError> {
        self.write_checkpoint(false)
    }

    /// The last checkpoint, with a note that the tier was closed in order.
    pub(super) fn close_checkpoint(&self) -> Result<(), StorageError> {
        self.write_checkpoint(true)
    }

    fn write_checkpoint(&self, clean: bool) -> Result<(), StorageError> {
        let core = &self.core;
        let _one = self.checkpointing.lock();
        core.check()?;
        core.begin_checkpoint();
        // Everything below is part of what is captured next, for every partition that exists by now.
        let lsn = core.journal.end_lsn();
        let partitions: Vec<Arc<PartitionLog>> = self.partitions.read().values().cloned().collect();
        let captured: Vec<Option<Captured>> = partitions.iter().map(|log| log.capture()).collect();
        // The folder of a removed partition is still there: only the journal's entry tells that it must go.
        let removals = partitions.iter().filter_map(|log| log.removal());
        let lsn = removals.map(|removal| removal.replay_from).fold(lsn, u64::min);
        let replay_from = self.held_journal().map_or(lsn, |held| held.min(lsn));
        let changed = || partitions.iter().zip(&captured).filter_map(|(log, one)| Some((log, one.as_ref()?)));
        let synced = changed().try_for_each(|(log, captured)| log.sync_captured(captured));
        let written = synced
            .and_then(|()| self.sync_folders())
            // No state may speak of journal entries that a power cut takes back.
            .and_then(|()| core.journal.sync().map(drop))
            .inspect_err(|e| core.judge_sync(e))
            .and_then(|()| self.write(replay_from, clean, &partitions, &captured));
        match &written {
            Ok(()) => {
                changed().for_each(|(log, captured)| log.keep(captured));
                core.end_checkpoint(lsn, replay_from);
            }
            Err(_) => {
                changed().for_each(|(log, _)| log.give_back());
                self.folders_changed.store(true, Ordering::Release);
                // The callers that wait for one still need it.
                core.ask_for_checkpoint();
            }
        }
        written
    }

    /// From where the journal is kept for partitions that could not be opened: until others need more than half of it.
    fn held_journal(&self) -> Option<u64> {
        let held = self.unopened.read().values().filter_map(|unopened| unopened.replay_from).min()?;
        if self.core.journal.wants_checkpoint() && self.holds_journal.swap(false, Ordering::AcqRel) {
            let partitions = self.unopened.read().len();
            tracing::error!(
                partitions,
                "the journal needs its space: the last records of partitions that are out of service are given up here"
            );
        }
        self.holds_journal.load(Ordering::Acquire).then_some(held)
    }

    fn sync_folders(&self) -> Result<(), StorageError> {
        if self.folders_changed.swap(false, Ordering::AcqRel) {
            let dir = topics_dir(&self.core.config.data_dir);
            self.core.disk().sync_dir(&dir).map_err(|e| StorageError::io("flush", &dir, e))?;
        }
        Ok(())
    }

    fn write(
        &self,
        lsn: u64,
        clean: bool,
        partitions: &[Arc<PartitionLog>],
        captured: &[Option<Captured>],
    ) -> Result<(), StorageError> {
        let state = |log: &PartitionLog, captured: &Option<Captured>| {
            captured.as_ref().map_or_else(|| log.checkpointed(), |one| one.state.clone())
        };
        let open = partitions.iter().zip(captured).filter(|(log, _)| !log.is_removed());
        let mut states: BTreeMap<_, _> = open.map(|(log, captured)| (log.id(), state(log, captured))).collect();
        states.extend(self.unopened.read().values().filter_map(|one| Some((one.id, one.checkpointed.clone()?))));
        let states: Vec<_> = states.into_values().collect();
        let bytes = checkpoint::encode(lsn, clean, &states);
        let core = &self.core;
        let path = core.config.data_dir.join(FILE_NAME);
        replace_file(core.disk(), &path, &bytes, Durability::Synced)
            .and_then(|()| core.disk().sync_dir(&core.config.data_dir))
            .map_err(|e| core.judge(StorageError::io("write", &path, e)))
    }
}
