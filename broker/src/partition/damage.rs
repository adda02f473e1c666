//! Local bytes that are not what was written any more: the disk changed or lost them.
//!
//! Where the archive holds the same records, it answers in the damaged segment's place, and local disk lets go of
//! everything up to that segment's end: the archive was compared with the segment, record by record, before it was
//! committed. Where it does not, the records are refused and never archived until another replica has put them right
//! (`replication::mending`); a person is told what can be done.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hot_tier::{SegmentInfo, StorageError};
use model::Offset;
use tracing::{error, info, warn};

use super::Partition;
use crate::machine::blocking;

/// What a person can do about a damaged segment that is nowhere else.
pub(super) const ADVICE: &str = "stop the broker and restore the file from a backup, or give up the segment's records by \
                                 DeleteRecords up to the segment's end";

/// Pause after the first attempt to restore damaged records that failed; it doubles with each further one.
const MEND_PAUSE: Duration = Duration::from_secs(10);
/// How often it doubles.
const MEND_DOUBLINGS_MAX: u32 = 6;

/// Damage that another replica may put right.
#[derive(Debug, Clone, Copy)]
pub(super) struct ToMend {
    /// Where to begin: nothing below was found damaged.
    from: Offset,
    /// When to try.
    due: Instant,
    /// Attempts that failed.
    failures: u32,
}

impl Partition {
    /// Takes note of damage that a reader of `offset` met. True when the archive has that offset.
    pub(super) fn meet_damage(self: &Arc<Self>, offset: Offset, damage: &StorageError) -> bool {
        let segment = self.damaged_segment(damage);
        let archived_end = self.ledger().map_or(Offset::MIN, |pointer| pointer.archived_end);
        let is_archived = offset < archived_end;
        let segment_end = segment.map_or(offset, |segment| segment.next_offset);
        // Readers ask again and again: each segment is told of once, and once more when its records turn out to be safe.
        if self.damaged.lock().insert((segment.map_or(offset, |segment| segment.base_offset), is_archived)) {
            let (topic, partition) = (&self.topic, self.id.partition);
            if is_archived {
                error!(
                    %topic, partition, offset, segment_end, %damage,
                    "a local segment is damaged; the archive has its records, they are read from there and the local copy goes"
                );
            } else {
                error!(
                    %topic, partition, offset, segment_end, %damage,
                    "a local segment is damaged and not archived; its records are refused until another replica restores \
                     them; where there is none: {ADVICE}"
                );
            }
        }
        if !is_archived {
            self.want_mending(segment.map_or(offset, |segment| segment.base_offset));
        }
        if is_archived && segment.is_some_and(|segment| segment.closed) && segment_end <= archived_end {
            self.damaged_end.fetch_max(segment_end, Ordering::AcqRel);
            self.drop_damaged();
        }
        is_archived
    }

    /// As [`Partition::meet_damage`], met by a search for which any of the segment's records may count.
    pub(super) fn meet_damage_anywhere(self: &Arc<Self>, damage: &StorageError) -> bool {
        let last = self.damaged_segment(damage).map_or(Offset::MAX, |segment| segment.next_offset - 1);
        self.meet_damage(last, damage)
    }

    /// Asks for damage at or above `from` to be put right. One segment at a time: what is left is met again.
    pub(super) fn want_mending(&self, from: Offset) {
        self.to_mend.lock().get_or_insert_with(|| ToMend { from, due: Instant::now(), failures: 0 });
    }

    /// Local records whose file is gone, where the archive does not have them instead. A replica with such a hole follows no
    /// leader until it is restored: it must not count as in sync.
    pub(crate) fn lost(&self) -> Option<Range<Offset>> {
        self.log.lost(self.ledger().map_or(Offset::MIN, |pointer| pointer.archived_end))
    }

    /// Takes what is missing at the head of a log that was never archived for lost: it was not evicted.
    pub(super) fn note_missing_head(&self, kept_log_start: Offset) {
        let start = self.log_start().max(kept_log_start);
        let (end, topic, partition) = (self.log.local_start(), &self.topic, self.id.partition);
        if start >= end || self.is_tiered() || self.ledger().is_some() {
            return;
        }
        error!(%topic, partition, start, end, "the first segments of the local log are missing: their records are refused until they are restored");
        if let Err(error) = self.log.note_missing_from(start) {
            warn!(%topic, partition, %error, "cannot take note of the missing segments");
        }
    }

    /// Where damage begins that should be put right now.
    pub(crate) fn damage_to_mend(&self, now: Instant) -> Option<Offset> {
        if let Some(lost) = self.lost() {
            self.want_mending(lost.start);
        }
        let to_mend = (*self.to_mend.lock())?;
        (to_mend.due <= now && self.leadership().replicas.len() > 1).then_some(to_mend.from)
    }

    /// True while records are refused because the disk has changed or lost them.
    pub(crate) fn is_damaged(&self) -> bool {
        self.lost().is_some() || self.hole().is_some() || self.has_damage_to_mend()
    }

    fn has_damage_to_mend(&self) -> bool {
        self.to_mend.lock().is_some_and(|to_mend| to_mend.from >= self.log.local_start())
    }

    /// What became of putting right the segment that contains `from`.
    pub(crate) fn note_mended(&self, from: Offset, is_intact: bool, now: Instant) {
        let mut to_mend = self.to_mend.lock();
        if is_intact {
            *to_mend = None;
            self.damaged.lock().retain(|(base, _)| *base != from);
        } else if let Some(to_mend) = &mut *to_mend {
            to_mend.due = now + MEND_PAUSE * (1 << to_mend.failures.min(MEND_DOUBLINGS_MAX));
            to_mend.failures += 1;
        }
    }

    /// First offset that local disk must keep although the segments before it are damaged.
    pub(super) fn damaged_end(&self) -> Offset {
        self.damaged_end.load(Ordering::Acquire)
    }

    /// Lets go of the damaged front as far as this node has seen the archive of it; the rest goes with the next eviction.
    fn drop_damaged(self: &Arc<Self>) {
        let partition = Arc::clone(self);
        blocking::spawn(move || {
            let (topic, index) = (&partition.topic, partition.id.partition);
            let seen = partition.seen_end().max(partition.log_start());
            match partition.log.evict_below(partition.damaged_end().min(seen)) {
                Ok(evicted) if evicted.segments > 0 => {
                    info!(%topic, partition = index, local_start = evicted.local_start, "dropped damaged local segments");
                }
                Ok(_) => {}
                Err(error) => warn!(%topic, partition = index, %error, "cannot drop damaged local segments yet"),
            }
        });
    }

    fn damaged_segment(&self, damage: &StorageError) -> Option<SegmentInfo> {
        let StorageError::Damaged { path, .. } = damage else { return None };
        let base = base_of(path)?;
        self.log.segments().into_iter().find(|segment| segment.base_offset == base)
    }
}

/// The base offset in a segment file's name.
fn base_of(path: &Path) -> Option<Offset> {
    path.file_stem()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segments_name_says_where_it_begins() {
        assert_eq!(base_of(Path::new("/data/topics/a-0.x/00000000000000000120.log")), Some(120));
        assert_eq!(base_of(Path::new("/data/journal/slot-0000")), None);
    }
}
