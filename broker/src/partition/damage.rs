//! Local bytes that are not what was written any more: the disk changed them.
//!
//! Where the archive holds the same records, it answers in the damaged segment's place, and local disk lets go of
//! everything up to that segment's end: the archive was compared with the segment, record by record, before it was
//! committed. Where it does not, the records are refused, never archived, and a person is told what can be done.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hot_tier::{SegmentInfo, StorageError};
use model::Offset;
use tracing::{error, info, warn};

use super::Partition;
use crate::machine::blocking;

/// What a person can do about a damaged segment that is nowhere else.
pub(super) const ADVICE: &str = "stop the broker and restore the file from a backup, or give up the segment's records by \
                                 DeleteRecords up to the segment's end";

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
                    "a local segment is damaged and not archived; its records are refused: {ADVICE}"
                );
            }
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

    /// First offset that local disk must keep although the segments before it are damaged.
    pub(super) fn damaged_end(&self) -> Offset {
        self.damaged_end.load(Ordering::Acquire)
    }

    /// Lets go of the damaged front; what has to wait for a checkpoint goes with the next pass of retention.
    fn drop_damaged(self: &Arc<Self>) {
        let partition = Arc::clone(self);
        blocking::spawn(move || {
            let (topic, index) = (&partition.topic, partition.id.partition);
            match partition.log.evict_below(partition.damaged_end()) {
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
