//! Handing closed segments to the archive.

use std::sync::Arc;

use bytes::Bytes;
use model::Offset;
use model::segment::SealedSegment;
use model::settings::FlushMode;

use super::PartitionLog;
use super::producers::stored_snapshot;
use crate::error::StorageError;
use crate::segment::Segment;

/// Segments that one call answers at most; each keeps a file open.
const SEALED_MAX: usize = 16;

/// Why no segments can be handed out.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The archive ends inside of a segment: another replica cut its segments elsewhere.
    #[error("{partition}: offset {from} lies inside segment [{base}, {next}) of this replica, not at its beginning")]
    InsideSegment {
        /// Where.
        partition: model::TopicPartition,
        /// What was asked for.
        from: Offset,
        /// The segment's first offset.
        base: Offset,
        /// The first offset behind it.
        next: Offset,
    },
    /// Records that should still be here are not.
    #[error("{partition}: records from offset {from} are wanted, the local log begins at {start}")]
    Missing {
        /// Where.
        partition: model::TopicPartition,
        /// What was asked for.
        from: Offset,
        /// The first local offset.
        start: Offset,
    },
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl PartitionLog {
    /// Closed segments from `from` on that end at or below `below`, oldest first, at most 16 per call. `from` is the first
    /// offset of a segment, or below the local start when the log start is above it: then the list begins at the first
    /// local segment. Segments are final: everything in them survives a power cut.
    ///
    /// Aborted transactions are not tracked yet: `aborted` is empty.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn sealed_segments(&self, from: Offset, below: Offset) -> Result<Vec<SealedSegment>, SealError> {
        let mode = self.lock_writer()?.mode;
        let settled = self.core.flush.settled();
        let segments = self.segments.load();
        let first = segments.partition_point(|segment| segment.next() <= from && segment.closed_lsn() != u64::MAX);
        let start = segments[0].base();
        if from < start && self.log_start() < start {
            return Err(SealError::Missing { partition: self.id, from, start });
        }
        if let Some(segment) = segments.get(first)
            && segment.base() < from
            && segment.next() > from
            && first + 1 < segments.len()
        {
            let (base, next) = (segment.base(), segment.next());
            return Err(SealError::InsideSegment { partition: self.id, from, base, next });
        }
        let closed = segments[..segments.len() - 1].iter().skip(first);
        let ready = closed.take_while(|segment| segment.next() <= below && segment.closed_lsn() <= settled);
        let sealed = ready.take(SEALED_MAX).map(|segment| self.seal(segment, mode));
        sealed.map(|one| one.map_err(|e| SealError::from(self.unless_removed(e)))).collect()
    }

    fn seal(&self, segment: &Arc<Segment>, mode: FlushMode) -> Result<SealedSegment, StorageError> {
        if mode == FlushMode::Replicated && segment.is_dirty() {
            // What the archive takes must never be missing here after a power cut.
            self.sync_segment(segment)?;
        }
        let file = segment.open_log(&self.core.files)?;
        let next = segment.next();
        let epochs = self.epochs.read();
        let sealed_epochs = epochs.below(next);
        let leader_epoch = epochs.at(next - 1);
        drop(epochs);
        let producers = match stored_snapshot(&self.core, &self.dir, next)? {
            Some(states) => states,
            None => self.producers_at(next)?,
        };
        let facts = segment.facts();
        Ok(SealedSegment {
            topic: self.topic.clone(),
            partition: self.id,
            base_offset: facts.base,
            next_offset: next,
            size_bytes: facts.size,
            max_timestamp: facts.max_timestamp,
            leader_epoch,
            epochs: sealed_epochs,
            aborted: Vec::new(),
            producers: Bytes::from(producers.encode()),
            file: file.std_file().map_err(|e| segment.io("open", e))?,
        })
    }
}
