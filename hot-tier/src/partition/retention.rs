//! What may go from the front of a log, and letting it go.
//!
//! Deciding is arithmetic over the list of closed segments; the broker compares the answer with what the archive holds.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::{Offset, TimestampMs};

use super::PartitionLog;
use crate::error::{ReadError, StorageError};
use crate::journal::entry::Event;
use crate::segment::{Segment, SegmentFacts};

/// Limits of what is kept; `None` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetentionLimits {
    /// Age of a segment, in ms.
    pub max_age_ms: Option<u64>,
    /// Bytes of the whole local log.
    pub max_bytes: Option<u64>,
    /// What the age is counted from.
    pub age_of: AgeOf,
}

/// What the age of a segment is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AgeOf {
    /// The largest timestamp of its records, or its last append when they carry none: for records that end.
    #[default]
    Records,
    /// The same, but its last append at the latest: for a copy of records that lie elsewhere too. A client whose clock is
    /// ahead does not keep them on the broker's disk.
    Copy,
}

/// What an eviction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EvictReport {
    /// Segments that went.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The local start now.
    pub local_start: Offset,
}

impl PartitionLog {
    /// The offset below which closed segments exceed `limits`: what local or total retention may drop. The log start when
    /// nothing does: what is missing before the first segment was not dropped by anybody. Pure arithmetic; call it with either tier's limits.
    ///
    /// Sizes go by Kafka's rule: a segment goes when the rest is still at least as large as the limit.
    #[must_use]
    pub fn retention_end(&self, limits: RetentionLimits, now_ms: TimestampMs) -> Offset {
        let segments = self.segments.load();
        let closed: Vec<SegmentFacts> = segments[..segments.len() - 1].iter().map(|segment| segment.facts()).collect();
        let start = segments[0].base().min(self.log_start());
        expired_end(&closed, start, segments[segments.len() - 1].size(), limits, now_ms)
    }

    /// Closes the active segment when `limits` want it gone, and all before it: [`PartitionLog::retention_end`] reaches its
    /// end then. True when it closed.
    ///
    /// For a copy ([`AgeOf::Copy`]) the active segment ages by its last append alone: an import of old records would leave a
    /// sliver of a segment behind at every call.
    ///
    /// # Errors
    /// Those of the journal; the segment stays open then.
    pub fn roll_if_expired(&self, limits: RetentionLimits, now_ms: TimestampMs) -> Result<bool, StorageError> {
        let mut writer = self.lock_writer()?;
        let segments = self.segments.load_full();
        let mut facts: Vec<SegmentFacts> = segments.iter().map(|segment| segment.facts()).collect();
        if let (AgeOf::Copy, Some(active)) = (limits.age_of, facts.last_mut()) {
            active.max_timestamp = active.last_append_ms;
        }
        let (start, end) = (segments[0].base(), self.log_end());
        if self.active().size() == 0 || expired_end(&facts, start, 0, limits, now_ms) < end {
            return Ok(false);
        }
        self.roll_at(&mut writer, end).map(|()| true)
    }

    /// Drops closed segments that end at or below `offset` from the local disk: the archive has them. The log start
    /// stays. Does not wait for anything: after a power cut they may be back.
    ///
    /// Segments that closed since the last checkpoint stay until the next one, which is asked for: recovery may still
    /// need them. Call again when [`PartitionLog::can_evict_more`] says so.
    ///
    /// # Errors
    /// Those of the journal or the renames; what went so far is gone.
    pub fn evict_below(&self, offset: Offset) -> Result<EvictReport, StorageError> {
        let _writer = self.lock_writer()?;
        let old = self.segments.load_full();
        let going = self.free_to_go(&old, offset);
        if going > 0 {
            let lsn = self.core.journal(self.id, &Event::LocalStart(old[going].base()), &[])?;
            self.core.flush.request(lsn);
            self.drop_front(&old, going)?;
        }
        let waiting = &old[going..going_below(&old, offset).max(going)];
        let waits_for = waiting.first().map_or(u64::MAX, |segment| segment.closed_lsn());
        self.eviction_waits_for.store(waits_for, Ordering::Release);
        let bytes = old[..going].iter().map(|segment| segment.size()).sum();
        Ok(EvictReport { segments: going, bytes, local_start: self.local_start() })
    }

    /// True when an eviction left segments behind for want of a checkpoint, and there is one now.
    #[must_use]
    pub fn can_evict_more(&self) -> bool {
        self.eviction_waits_for.load(Ordering::Acquire) <= self.core.covered_lsn()
    }

    /// Moves the log start up to `offset`, for `DeleteRecords` and total retention, and drops the segments below. Blocks
    /// until the move is durable; only then is it visible. Lower offsets change nothing.
    ///
    /// # Errors
    /// [`ReadError::OutOfRange`] when `offset` is above the log end; those of the journal, when nothing has moved.
    pub fn advance_log_start(&self, offset: Offset) -> Result<(), ReadError> {
        let mut writer = self.lock_writer()?;
        let (start, end) = (self.log_start(), self.log_end());
        if offset > end {
            return Err(ReadError::OutOfRange { partition: self.id, offset, start, end });
        }
        if offset <= start {
            return Ok(());
        }
        if offset == end && self.active().size() > 0 {
            self.roll_at(&mut writer, end)?;
        }
        let lsn = self.core.journal(self.id, &Event::LogStart(offset), &[])?;
        // The lock is kept: a checkpoint in between would count the entry as part of a state that lacks the move.
        self.core.wait_durable(lsn)?;
        self.log_start.store(offset, Ordering::Release);
        self.epochs.write().advance_to(offset);
        writer.history_stale = true;
        self.mark_dirty();
        let old = self.segments.load_full();
        let going = self.free_to_go(&old, offset);
        self.drop_front(&old, going)?;
        Ok(())
    }

    /// How many segments below `offset` recovery does not need any more; asks for a checkpoint when some must wait.
    fn free_to_go(&self, segments: &[Arc<Segment>], offset: Offset) -> usize {
        let below = going_below(segments, offset);
        let covered = self.core.covered_lsn();
        let free = segments[..below].iter().take_while(|segment| segment.closed_lsn() <= covered).count();
        if free < below {
            self.core.ask_for_checkpoint();
        }
        free
    }

    /// Drops segments below the log start that had to wait for a checkpoint.
    pub(super) fn drop_waiting(&self) -> Result<(), StorageError> {
        let old = self.segments.load_full();
        let start = self.log_start();
        if going_below(&old, start) == 0 {
            return Ok(());
        }
        self.drop_front(&old, self.free_to_go(&old, start))
    }

    /// Takes the first `going` segments out of the list and their names away, oldest first: a crash in between leaves no
    /// hole.
    fn drop_front(&self, old: &[Arc<Segment>], going: usize) -> Result<(), StorageError> {
        if going == 0 {
            return Ok(());
        }
        let _disturbing = self.disturb();
        self.segments.store(Arc::new(old[going..].to_vec()));
        self.mark_dirty();
        old[..going].iter().try_for_each(|segment| self.retire(segment))
    }
}

/// How many closed segments end at or below `offset`.
fn going_below(segments: &[Arc<Segment>], offset: Offset) -> usize {
    segments[..segments.len() - 1].iter().take_while(|segment| segment.next() <= offset).count()
}

/// First offset that stays: of `closed` segments from `start` on, and an open one of `open_bytes`.
fn expired_end(
    closed: &[SegmentFacts],
    start: Offset,
    open_bytes: u64,
    limits: RetentionLimits,
    now_ms: TimestampMs,
) -> Offset {
    let mut left: u64 = open_bytes + closed.iter().map(|segment| segment.size).sum::<u64>();
    let mut end = start;
    for segment in closed {
        let age_ms = u64::try_from(now_ms.saturating_sub(newest(segment, limits.age_of))).unwrap_or(0);
        let too_old = limits.max_age_ms.is_some_and(|max| age_ms > max);
        let too_many = limits.max_bytes.is_some_and(|max| left - segment.size >= max);
        if !too_old && !too_many {
            break;
        }
        left -= segment.size;
        end = segment.next;
    }
    end
}

/// The time from which on a segment ages.
fn newest(segment: &SegmentFacts, age_of: AgeOf) -> TimestampMs {
    let newest = if segment.max_timestamp >= 0 { segment.max_timestamp } else { segment.last_append_ms };
    match age_of {
        AgeOf::Records => newest,
        AgeOf::Copy => newest.min(segment.last_append_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(base: i64, size: u64, max_timestamp: i64) -> SegmentFacts {
        SegmentFacts { next: base + 10, size, max_timestamp, last_append_ms: 500, ..SegmentFacts::empty(base) }
    }

    fn closed() -> [SegmentFacts; 3] {
        [segment(0, 100, 1000), segment(10, 100, 2000), segment(20, 100, 3000)]
    }

    fn end(max_age_ms: Option<u64>, max_bytes: Option<u64>, now_ms: i64) -> i64 {
        expired_end(&closed(), 0, 50, RetentionLimits { max_age_ms, max_bytes, ..RetentionLimits::default() }, now_ms)
    }

    #[test]
    fn without_limits_everything_stays() {
        assert_eq!(end(None, None, i64::MAX), 0);
    }

    #[test]
    fn a_segment_expires_when_its_newest_record_is_too_old() {
        assert_eq!(end(Some(500), None, 1500), 0);
        assert_eq!(end(Some(500), None, 1501), 10);
        assert_eq!(end(Some(500), None, 2501), 20);
        assert_eq!(end(Some(500), None, 99_999), 30);
    }

    #[test]
    fn a_segment_goes_when_the_rest_is_as_large_as_the_limit() {
        assert_eq!(end(None, Some(350), 0), 0);
        assert_eq!(end(None, Some(251), 0), 0);
        assert_eq!(end(None, Some(250), 0), 10);
        assert_eq!(end(None, Some(0), 0), 30);
    }

    #[test]
    fn a_young_segment_protects_what_is_behind_it() {
        let closed = [segment(0, 100, 9000), segment(10, 100, 1000)];
        let limits = RetentionLimits { max_age_ms: Some(500), ..RetentionLimits::default() };
        assert_eq!(expired_end(&closed, 0, 0, limits, 9100), 0);
    }

    #[test]
    fn a_copy_of_records_from_the_future_ages_by_its_append() {
        let closed = [segment(0, 100, 9_000_000)];
        let expired = |age_of, now_ms| {
            let limits = RetentionLimits { max_age_ms: Some(500), max_bytes: None, age_of };
            expired_end(&closed, 0, 0, limits, now_ms)
        };
        assert_eq!(expired(AgeOf::Records, 1001), 0);
        assert_eq!((expired(AgeOf::Copy, 1000), expired(AgeOf::Copy, 1001)), (0, 10));
    }

    #[test]
    fn records_without_timestamps_age_by_their_append() {
        let closed = [segment(0, 100, -1)];
        let limits = RetentionLimits { max_age_ms: Some(500), ..RetentionLimits::default() };
        assert_eq!(expired_end(&closed, 0, 0, limits, 1000), 0);
        assert_eq!(expired_end(&closed, 0, 0, limits, 1001), 10);
    }
}
