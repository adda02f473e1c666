//! Putting right bytes that the disk has changed, with what another replica holds in their place.
//!
//! Replicas of a partition hold the same bytes at the same offsets, so what was there can be written again, in place. It is
//! taken only when it certainly is that: intact batches of the missing offsets, of the leader epochs that the log knows, and
//! exactly as long as the damage. Where the file was lost or cut off, the batches must follow each other without a gap. A crash in between leaves damage, which readers still meet.

use std::io::IoSlice;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use model::Offset;
use model::batch::{BatchView, Batches};

use super::PartitionLog;
use crate::error::{ReadError, StorageError};
use crate::segment::Segment;
use crate::segment::scan::Damage;

/// Local bytes that are not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DamagedRange {
    /// First offset that they may hold.
    pub from: Offset,
    /// First offset that they cannot hold.
    pub to: Offset,
    /// How many bytes they are.
    pub bytes: u64,
    /// The file ends before them: how many bytes they were may not be known, and they can be restored in pieces.
    pub is_cut_off: bool,
}

impl PartitionLog {
    /// The first damage at or above `offset` in the segment of that offset, which is read as a whole. `None` when there is
    /// none, or when the offset is not on local disk.
    ///
    /// # Errors
    /// Those of reading.
    pub fn damaged_range(&self, offset: Offset) -> Result<Option<DamagedRange>, ReadError> {
        self.undisturbed(|| {
            let found = self.find_damage(offset)?;
            let range = |(segment, damage): (Arc<Segment>, Damage)| {
                let is_cut_off = segment.is_cut_off(&self.core.files, &damage)?;
                let (from, to) = (damage.offsets.start, damage.offsets.end);
                Ok::<_, StorageError>(DamagedRange {
                    from,
                    to,
                    bytes: damage.bytes.end - damage.bytes.start,
                    is_cut_off,
                })
            };
            Ok(found.map(range).transpose()?)
        })
    }

    /// Writes the batches of `records` in place of the damage, durably; as many as there are where the file was cut off. False,
    /// having done nothing, when they are not what was there, or when files of the log changed meanwhile. Reads the segment without keeping appends from the log.
    ///
    /// # Errors
    /// Those of the disk; a failed sync fails the tier.
    pub fn mend(&self, damaged: DamagedRange, records: &Bytes) -> Result<bool, StorageError> {
        let generation = self.generation.load(Ordering::Acquire);
        let is_same = || generation.is_multiple_of(2) && self.generation.load(Ordering::Acquire) == generation;
        let found = self.find_damage(damaged.from).and_then(|found| {
            let files = &self.core.files;
            let open = |(segment, damage): (Arc<Segment>, Damage)| {
                let is_cut_off = segment.is_cut_off(files, &damage)?;
                let file = if is_cut_off { segment.create_log(files)? } else { segment.open_log(files)? };
                Ok((file, segment, damage, is_cut_off))
            };
            found.map(open).transpose()
        });
        let found = match found {
            // The file went away.
            Err(_) if !is_same() => return Ok(false),
            found => found?,
        };
        let Some((file, segment, damage, is_cut_off)) = found else { return Ok(false) };
        let fitting = if is_cut_off { self.continuing(&damage, records) } else { self.fitting(&damage, records) };
        let Some((fitting, next)) = fitting else { return Ok(false) };
        {
            let _writer = self.lock_writer()?;
            // Whatever cuts, drops or mends segments counts it; appends only add behind what was read.
            if !is_same() {
                return Ok(false);
            }
            let _disturbing = self.disturb();
            let written = file.write_at(&[IoSlice::new(fitting)], damage.bytes.start);
            written.map_err(|e| segment.io("mend", e))?;
            if is_cut_off {
                self.restored(&segment, damage.bytes.start + fitting.len() as u64, next)?;
            }
        }
        // The operating system reports a failed write to one of two syncs only.
        let _one_at_a_time = segment.lock_sync();
        self.core.check()?;
        let synced = file.sync_data().map_err(|e| segment.io("flush", e));
        let named = synced.and_then(|()| {
            // The file may be new.
            let sync = || self.core.disk().sync_dir(&self.dir).map_err(|e| StorageError::io("flush", &self.dir, e));
            if is_cut_off { sync() } else { Ok(()) }
        });
        named.inspect_err(|e| self.core.judge_sync(e))?;
        Ok(true)
    }

    /// Takes what was restored of a segment's lost end into account.
    fn restored(&self, segment: &Segment, end: u64, next: Offset) -> Result<(), StorageError> {
        let is_whole = segment.restore(end, next);
        self.mark_dirty();
        if is_whole {
            segment.rebuild_indexes(&self.core.files, self.settings.load().index_interval_bytes)?;
            segment.store_indexes(&self.core.files);
        }
        Ok(())
    }

    /// The batches of `records` that continue a segment whose end was lost, and the offset behind them: each begins where the
    /// one before ends.
    fn continuing<'a>(&self, damage: &Damage, records: &'a [u8]) -> Option<(&'a [u8], Offset)> {
        let epochs = self.epochs.read();
        let (mut skipped, mut fitting, mut next) = (0, 0, damage.offsets.start);
        for batch in Batches::new(records) {
            let Ok(batch) = batch else { break };
            let header = batch.header;
            if header.next_offset() <= damage.offsets.start {
                skipped += header.size_bytes();
                continue;
            }
            let is_ours = epochs.agree_with(&header);
            let continues = header.base_offset == next && header.next_offset() <= damage.offsets.end;
            if !is_ours || !continues || batch.verify_crc().is_err() {
                break;
            }
            next = header.next_offset();
            fitting += header.size_bytes();
        }
        (fitting > 0).then(|| (&records[skipped..skipped + fitting], next))
    }

    fn find_damage(&self, offset: Offset) -> Result<Option<(Arc<Segment>, Damage)>, StorageError> {
        let segments = self.segments.load();
        let below = segments.partition_point(|segment| segment.base() <= offset);
        let Some(segment) = below.checked_sub(1).map(|last| &segments[last]) else { return Ok(None) };
        let (epochs, end) = (self.epochs.read().clone(), self.log_end());
        let mut found = Vec::new();
        let passed = segment.walk_past_damage(&self.core.files, segment.span(), |step| {
            let header = step.header;
            // No checksum covers a batch's leader epoch.
            if header.base_offset < end && !epochs.agree_with(header) {
                let bytes = step.position..step.position + header.size_bytes() as u64;
                let known = epochs.at(header.base_offset);
                let what = format!("its leader epoch is {}, not {known}", header.leader_epoch);
                found.push(Damage {
                    bytes,
                    offsets: header.base_offset..header.next_offset(),
                    what,
                    is_unreadable: false,
                });
            }
            ControlFlow::Continue(())
        })?;
        found.extend(passed);
        let first = found.into_iter().filter(|d| d.offsets.end > offset).min_by_key(|d| d.bytes.start);
        Ok(first.map(|damage| (Arc::clone(segment), damage)))
    }

    /// The part of `records` that was in the place of the damage.
    fn fitting<'a>(&self, damage: &Damage, records: &'a [u8]) -> Option<(&'a [u8], Offset)> {
        let len = usize::try_from(damage.bytes.end - damage.bytes.start).ok()?;
        let (epochs, mut lowest) = (self.epochs.read(), damage.offsets.start);
        let mut skipped = 0;
        let mut fitting = 0;
        for batch in Batches::new(records) {
            let batch: BatchView<'_> = batch.ok()?;
            let header = batch.header;
            if header.next_offset() <= damage.offsets.start {
                skipped += header.size_bytes();
                continue;
            }
            let is_ours = epochs.agree_with(&header);
            let is_in_place = header.base_offset >= lowest && header.next_offset() <= damage.offsets.end;
            if !is_ours || !is_in_place || batch.verify_crc().is_err() {
                return None;
            }
            lowest = header.next_offset();
            fitting += header.size_bytes();
            if fitting >= len {
                break;
            }
        }
        (fitting == len).then(|| (&records[skipped..skipped + len], lowest))
    }
}
