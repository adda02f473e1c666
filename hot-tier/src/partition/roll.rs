//! Closing the active segment and beginning the next.
//!
//! A segment closes when the next append would exceed `segment.bytes` (or it does already, because the setting was lowered),
//! when its first append is `segment.ms` ago by the broker's clock, when retention wants all of it gone, or when an offset or
//! position would no longer fit the index. The records' own timestamps do not
//! count: at an hour per segment, an import of a year would fall into thousands of slivers.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::{Offset, TimestampMs};

use super::{PartitionLog, Writer};
use crate::disk::{Durability, replace_file};
use crate::error::StorageError;
use crate::journal::entry::Event;
use crate::layout::{FileKind, file_name};
use crate::segment::Segment;

/// Largest position in a segment: Kafka's tools read it as a signed number of four bytes.
const POSITION_MAX: u64 = i32::MAX as u64;

impl PartitionLog {
    /// Closes the active segment when its first append is `segment.ms` (less the topic's jitter) ago or it is larger than
    /// `segment.bytes`, forgets silent producers, and drops segments below the log start that had to wait for a checkpoint.
    /// True when it closed. Call it now and then: an idle partition closes its segment by nothing else.
    ///
    /// # Errors
    /// Those of the journal; the segment stays open then.
    pub fn roll_if_due(&self, now_ms: TimestampMs) -> Result<bool, StorageError> {
        self.core.note_now(now_ms);
        let mut writer = self.lock_writer()?;
        writer.producers.expire(now_ms, self.core.config.producer_id_expiration_ms);
        self.drop_waiting()?;
        let active = self.active();
        if !self.is_due(&active, now_ms) {
            return Ok(false);
        }
        self.roll_at(&mut writer, self.log_end()).map(|()| true)
    }

    /// Closes the active segment unless it is empty. True when it closed.
    ///
    /// # Errors
    /// As [`PartitionLog::roll_if_due`].
    pub fn roll(&self) -> Result<bool, StorageError> {
        let mut writer = self.lock_writer()?;
        if self.active().size() == 0 {
            return Ok(false);
        }
        self.roll_at(&mut writer, self.log_end()).map(|()| true)
    }

    fn is_due(&self, active: &Segment, now_ms: TimestampMs) -> bool {
        if active.size() == 0 {
            return false;
        }
        let settings = self.settings.load();
        if active.size() > settings.segment_bytes {
            return true;
        }
        // By its amount: a clock that was set back must not keep a segment open for as long as it was ahead.
        let age_ms = now_ms.saturating_sub(active.facts().first_append_ms).unsigned_abs();
        let limit_ms = settings.segment_ms.saturating_sub(self.jitter_ms(active, settings.segment_jitter_ms));
        age_ms > limit_ms
    }

    /// Between 0 and `max_ms`, the same for the same segment: segments that began together do not close together.
    fn jitter_ms(&self, active: &Segment, max_ms: u64) -> u64 {
        if max_ms == 0 {
            return 0;
        }
        let seed = self.id.topic_id.0.as_u64_pair().0 ^ u64::from(self.id.partition.unsigned_abs());
        let mixed = (seed ^ active.base().unsigned_abs()).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
        mixed % max_ms
    }

    /// Begins a new segment when the active one cannot or should not take `offsets` in `len` bytes.
    pub(super) fn roll_for(
        &self,
        writer: &mut Writer,
        offsets: Range<Offset>,
        len: u64,
        now_ms: TimestampMs,
    ) -> Result<(), StorageError> {
        let active = self.active();
        let size = active.size();
        let fits_index = offsets.end - active.base() <= i64::from(i32::MAX) && size + len <= POSITION_MAX;
        let is_full = size > 0 && size + len > self.settings.load().segment_bytes;
        if is_full || self.is_due(&active, now_ms) || (!fits_index && (size > 0 || offsets.start > active.base())) {
            self.roll_at(writer, offsets.start.max(self.log_end()))?;
        }
        Ok(())
    }

    /// Begins a new segment at `base`, which is the log end unless a leader left a gap there.
    pub(super) fn roll_at(&self, writer: &mut Writer, base: Offset) -> Result<(), StorageError> {
        let lsn = self.core.journal(self.id, &Event::Roll(base), &[])?;
        self.core.flush.request(lsn);
        let closed = self.active();
        closed.close_at(lsn, base);
        closed.finish_indexes(&self.core.files);
        self.store_snapshot(writer, base);
        let mut segments = self.segments.load().as_ref().clone();
        segments.push(Arc::new(Segment::new(&self.dir, base)));
        self.segments.store(Arc::new(segments));
        self.log_end.store(base, Ordering::Release);
        self.mark_dirty();
        Ok(())
    }

    /// Stores the producers' state at `base`. Without it, it is found by reading the segment before.
    fn store_snapshot(&self, writer: &mut Writer, base: Offset) {
        writer.producers.expire(self.core.now_ms(), self.core.config.producer_id_expiration_ms);
        let path = self.dir.join(file_name(base, FileKind::Snapshot));
        let bytes = writer.producers.encode();
        if let Err(e) = replace_file(self.core.disk(), &path, &bytes, Durability::Rebuildable) {
            tracing::warn!(file = %path.display(), error = %e, "cannot store a snapshot of producer state");
        }
    }
}
