//! Producer state at an earlier offset: from a snapshot and the batches behind it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::Offset;

use super::PartitionLog;
use crate::core::Core;
use crate::disk::{Durability, prepare_file, read_file, take_name};
use crate::error::{StorageError, lacks_descriptor};
use crate::layout::{FileKind, file_name};
use crate::producer_state::ProducerStates;
use crate::segment::Segment;

/// Largest snapshot that is read: some four million producers.
const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;

impl PartitionLog {
    /// The producers' state right before `offset`.
    pub(super) fn producers_at(&self, offset: Offset) -> Result<ProducerStates, StorageError> {
        producers_at(&self.core, &self.dir, &self.segments.load(), offset)
    }
}

/// Where the snapshot of producer state right before `offset` lies.
fn snapshot_path(dir: &Path, offset: Offset) -> PathBuf {
    dir.join(file_name(offset, FileKind::Snapshot))
}

/// Writes down producer state that no batch of the log tells of, without giving it its name yet. Nothing has happened when
/// there is no space for it.
pub(crate) fn prepare_snapshot(core: &Core, dir: &Path, offset: Offset, state: &[u8]) -> Result<(), StorageError> {
    let path = snapshot_path(dir, offset);
    let stored = prepare_file(core.disk(), &path, state, Durability::Synced);
    stored.map_err(|e| StorageError::io("store", &path, e))
}

/// Stores producer state that no batch of the log tells of, under its name. That becomes durable with the next checkpoint,
/// until which the journal has it too.
pub(crate) fn keep_snapshot(core: &Core, dir: &Path, offset: Offset, state: &[u8]) -> Result<(), StorageError> {
    prepare_snapshot(core, dir, offset, state)?;
    name_snapshot(core, dir, offset)
}

/// Gives a prepared snapshot its name.
pub(crate) fn name_snapshot(core: &Core, dir: &Path, offset: Offset) -> Result<(), StorageError> {
    let path = snapshot_path(dir, offset);
    take_name(core.disk(), &path).map_err(|e| StorageError::io("store", &path, e))
}

/// The snapshot of producer state right before `offset`, when there is an intact one.
///
/// # Errors
/// [`StorageError::NoDescriptor`]: nobody knows whether there is one.
pub(crate) fn stored_snapshot(core: &Core, dir: &Path, offset: Offset) -> Result<Option<ProducerStates>, StorageError> {
    let path = snapshot_path(dir, offset);
    let bytes = match read_file(core.disk(), &path, SNAPSHOT_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(e) if lacks_descriptor(&e) => return Err(StorageError::io("open", &path, e)),
        Err(_) => return Ok(None),
    };
    let states = ProducerStates::decode(&bytes);
    if states.is_none() {
        tracing::warn!(file = %path.display(), "a snapshot of producer state is damaged: reading the log instead");
    }
    Ok(states)
}

/// The producers' state right before `offset`, in a log of `segments`: the newest intact snapshot at or below it, then
/// every intact batch from there on. Without any snapshot it is what the local log shows.
pub(crate) fn producers_at(
    core: &Core,
    dir: &Path,
    segments: &[Arc<Segment>],
    offset: Offset,
) -> Result<ProducerStates, StorageError> {
    let below = segments.partition_point(|segment| segment.base() <= offset);
    let mut states = ProducerStates::default();
    let mut from = 0;
    for (i, segment) in segments[..below].iter().enumerate().rev() {
        if let Some(stored) = stored_snapshot(core, dir, segment.base())? {
            (states, from) = (stored, i);
            break;
        }
    }
    let now_ms = core.now_ms();
    for segment in &segments[from..below] {
        let passed = segment.walk_past_damage(&core.files, segment.span(), |step| {
            if step.header.base_offset >= offset {
                return ControlFlow::Break(());
            }
            states.apply(step.header, now_ms);
            ControlFlow::Continue(())
        })?;
        for damage in passed {
            let (segment, position, what) = (segment.log_slot().path(), damage.bytes.start, damage.what);
            tracing::error!(
                segment = %segment.display(), position, what,
                "a damaged batch does not count for the state of idempotent producers"
            );
        }
    }
    Ok(states)
}
