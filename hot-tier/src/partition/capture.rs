//! A partition's part in a checkpoint.
//!
//! [`PartitionLog::capture`] takes the state under the partition's lock, [`PartitionLog::sync_captured`] makes what it
//! names durable without any lock, and [`PartitionLog::keep`] remembers it for the checkpoints in which nothing changed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::PartitionLog;
use crate::checkpoint::{History, PartitionCheckpoint};
use crate::disk::{Durability, replace_file};
use crate::error::StorageError;
use crate::layout::HISTORY;
use crate::segment::Segment;

/// A partition's state at one moment.
#[derive(Debug)]
pub(crate) struct Captured {
    pub(crate) state: Bytes,
    dirty: Vec<Arc<Segment>>,
    history: Option<History>,
    names_changed: bool,
}

impl PartitionLog {
    /// The state now, when anything changed since the last capture.
    pub(crate) fn capture(&self) -> Option<Captured> {
        let mut writer = self.writer.lock();
        if self.is_removed() || !self.dirty.swap(false, Ordering::AcqRel) {
            return None;
        }
        let segments = self.segments.load();
        self.active().store_indexes(&self.core.files);
        let epochs = self.epochs.read().all().to_vec();
        let state = PartitionCheckpoint {
            id: self.id,
            topic: self.topic.clone(),
            // This partition's entries are written under its lock: all so far lie below.
            lsn: self.core.journal.end_lsn(),
            mode: writer.mode,
            log_start: self.log_start(),
            end: self.log_end(),
            epochs: epochs.clone(),
            segments: segments.iter().map(|segment| segment.facts()).collect(),
            producers: Bytes::from(writer.producers.encode()),
        };
        let history = std::mem::take(&mut writer.history_stale).then(|| History {
            mode: writer.mode,
            log_start: self.log_start(),
            epochs,
        });
        let dirty = segments.iter().filter(|segment| segment.is_dirty()).cloned().collect();
        let names_changed = self.names_changed.swap(false, Ordering::AcqRel);
        Some(Captured { state: state.encode(), dirty, history, names_changed })
    }

    /// Makes everything durable that the captured state speaks of. Not while folders of removed partitions are taken away.
    pub(crate) fn sync_captured(&self, captured: &Captured) -> Result<(), StorageError> {
        captured.dirty.iter().try_for_each(|segment| self.sync_segment(segment))?;
        if self.is_removed() {
            return Ok(());
        }
        if captured.names_changed {
            self.core.disk().sync_dir(&self.dir).map_err(|e| StorageError::io("flush", &self.dir, e))?;
        }
        if let Some(history) = &captured.history {
            let path = self.dir.join(HISTORY);
            let written = replace_file(self.core.disk(), &path, &history.encode(), Durability::Rebuildable);
            if let Err(e) = written {
                tracing::warn!(file = %path.display(), error = %e, "cannot store the log start and leader epochs");
            }
        }
        Ok(())
    }

    /// The checkpoint with this state is written.
    pub(crate) fn keep(&self, captured: &Captured) {
        *self.checkpointed.lock() = captured.state.clone();
    }

    /// The checkpoint was not written: the state must be captured again.
    pub(crate) fn give_back(&self) {
        self.writer.lock().history_stale = true;
        self.names_changed.store(true, Ordering::Release);
        self.mark_dirty();
    }

    /// The state in the last checkpoint; empty when there was none.
    pub(crate) fn checkpointed(&self) -> Bytes {
        self.checkpointed.lock().clone()
    }
}
