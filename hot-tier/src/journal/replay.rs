//! Reading the journal at start.
//!
//! Entries are read from the checkpoint's position on. Where the next one is not intact there are three cases:
//! 1. Another file begins at this very position: the chain goes on there.
//! 2. A later entry says that this position was durable when it was written: the entry is *damaged* (a disk that lies, a
//!    flipped bit). It is skipped and reported; the entries behind it still count.
//! 3. Otherwise this is the torn tail of a power cut, and everything from here on is void.

use std::collections::VecDeque;
use std::path::Path;

use super::FoundSlots;
use super::entry::{Entry, decode};
use super::slot::{SLOT_HEADER_LEN, Slot, parse_slot_name};
use crate::disk::Disk;
use crate::error::StorageError;

/// Largest file of the journal that is read: a larger one is not ours.
const SLOT_BYTES_MAX: u64 = 8 << 30;

/// Where the batches of an entry lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    slot: usize,
    position: u64,
    pub(crate) len: usize,
}

/// The journal's files, before anything is written.
#[derive(Debug)]
pub(crate) struct Tail {
    /// Files with an intact header, by their first position.
    slots: Vec<Slot>,
    free: Vec<Slot>,
    /// What was wrong, for the recovery report.
    pub(crate) damage: Vec<String>,
    end_lsn: u64,
    from_lsn: u64,
}

/// One file in memory.
struct Loaded {
    slot: usize,
    start_lsn: u64,
    bytes: Vec<u8>,
}

impl Loaded {
    /// The intact entry at `lsn`, with its position in the file.
    fn entry(&self, lsn: u64) -> Option<(Entry, u64)> {
        let position = SLOT_HEADER_LEN.checked_add(lsn.checked_sub(self.start_lsn)?)?;
        let bytes = self.bytes.get(usize::try_from(position).ok()?..)?;
        Some((decode(bytes, lsn)?, position))
    }

    /// Position behind the last byte that can hold an entry.
    fn end_lsn(&self) -> u64 {
        self.start_lsn + (self.bytes.len() as u64).saturating_sub(SLOT_HEADER_LEN)
    }
}

impl Tail {
    /// Opens the journal's files.
    ///
    /// # Errors
    /// Those of the disk; files that are not intact are free, no error.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path) -> Result<Self, StorageError> {
        let entries = disk.list(dir).map_err(|e| StorageError::io("list", dir, e))?;
        let (mut slots, mut free) = (Vec::new(), Vec::new());
        for index in entries.iter().filter_map(|entry| parse_slot_name(&entry.name)) {
            let (slot, start_lsn) = Slot::open(disk, dir, index)?;
            if start_lsn.is_some() && slot.bytes <= SLOT_BYTES_MAX { slots.push(slot) } else { free.push(slot) }
        }
        slots.sort_by_key(|slot| slot.start_lsn);
        Ok(Tail { slots, free, damage: Vec::new(), end_lsn: 0, from_lsn: 0 })
    }

    /// Shows `visit` every entry from `from` on, in order; without `from`, those of the newest unbroken chain.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn replay(
        &mut self,
        from: Option<u64>,
        mut visit: impl FnMut(Entry, Place),
    ) -> Result<(), StorageError> {
        let from = match from {
            Some(lsn) => lsn,
            None => self.newest_chain()?,
        };
        self.from_lsn = from;
        let mut lsn = from;
        let mut current = self.find(lsn)?;
        while let Some(file) = &current {
            if let Some((entry, position)) = file.entry(lsn) {
                lsn += entry.len as u64;
                let position = position + entry.batches_at as u64;
                let place = Place { slot: file.slot, position, len: entry.batches_len };
                visit(entry, place);
            } else if let Some(next) = self.find(lsn)? {
                current = Some(next);
            } else {
                let Some(resume) = self.end_of_damage(file, lsn)? else { break };
                self.damage.push(format!("the journal is damaged from position {lsn} to {resume}"));
                lsn = resume;
                current = self.find(lsn)?;
            }
        }
        self.end_lsn = lsn;
        Ok(())
    }

    /// The bytes of an append's batches.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn batches(&self, place: Place) -> Result<Vec<u8>, StorageError> {
        let slot = &self.slots[place.slot];
        let mut bytes = Vec::with_capacity(place.len);
        let read = slot.file.read_into(&mut bytes, place.len, place.position);
        read.map_err(|e| StorageError::io("read", &slot.path, e))?;
        Ok(bytes)
    }

    /// Makes what was replayed durable: it may have survived in the page cache alone, and is about to be served.
    ///
    /// # Errors
    /// Those of the sync.
    pub(crate) fn sync(&self) -> Result<(), StorageError> {
        for slot in self.slots.iter().filter(|slot| self.is_used(slot)) {
            slot.file.sync_data().map_err(|e| StorageError::io("flush", &slot.path, e))?;
        }
        Ok(())
    }

    /// The files, for the journal to go on with. `past` is a position below which nothing may be written again.
    pub(crate) fn found(&self, past: u64) -> FoundSlots {
        let (used, spent): (Vec<&Slot>, Vec<&Slot>) = self.slots.iter().partition(|slot| self.is_used(slot));
        FoundSlots {
            used: used.into_iter().cloned().collect::<VecDeque<_>>(),
            free: spent.into_iter().chain(&self.free).cloned().collect(),
            end_lsn: self.end_lsn.max(past),
        }
    }

    /// Position behind the last entry that counts.
    pub(crate) fn end_lsn(&self) -> u64 {
        self.end_lsn
    }

    fn is_used(&self, slot: &Slot) -> bool {
        slot.start_lsn < self.end_lsn && slot.start_lsn.saturating_add(slot.capacity()) > self.from_lsn
    }

    fn load(&self, index: usize) -> Result<Loaded, StorageError> {
        let slot = &self.slots[index];
        let len = usize::try_from(slot.bytes).unwrap_or(usize::MAX);
        let mut bytes = Vec::with_capacity(len);
        slot.file.read_into(&mut bytes, len, 0).map_err(|e| StorageError::io("read", &slot.path, e))?;
        Ok(Loaded { slot: index, start_lsn: slot.start_lsn, bytes })
    }

    /// The file that has an intact entry at `lsn`. Several files may claim the position: one that was begun right before
    /// a power cut took its first entry has the same start as the one that was begun after it.
    fn find(&self, lsn: u64) -> Result<Option<Loaded>, StorageError> {
        let covers = |slot: &Slot| (slot.start_lsn..slot.start_lsn.saturating_add(slot.capacity())).contains(&lsn);
        for index in (0..self.slots.len()).rev().filter(|index| covers(&self.slots[*index])) {
            let loaded = self.load(index)?;
            if loaded.entry(lsn).is_some() {
                return Ok(Some(loaded));
            }
        }
        Ok(None)
    }

    /// Where the first intact entry behind `bad` is, when any entry behind it knows that `bad` was durable.
    fn end_of_damage(&self, current: &Loaded, bad: u64) -> Result<Option<u64>, StorageError> {
        let mut resume = None;
        let mut lsn = bad + 8;
        let mut loaded = None;
        let mut later = self.slots.iter().enumerate().skip(current.slot + 1);
        loop {
            let file = loaded.as_ref().unwrap_or(current);
            while lsn < file.end_lsn() {
                let Some((entry, _)) = file.entry(lsn) else {
                    lsn += 8;
                    continue;
                };
                resume = resume.or(Some(lsn));
                if entry.stamp.durable_lsn > bad {
                    return Ok(resume);
                }
                lsn += entry.len as u64;
            }
            let Some((index, slot)) = later.next() else { return Ok(None) };
            if slot.start_lsn > bad {
                lsn = slot.start_lsn;
                loaded = Some(self.load(index)?);
            }
        }
    }

    /// First position of the newest files that follow each other without a break.
    fn newest_chain(&self) -> Result<u64, StorageError> {
        let mut start = 0;
        let mut end = None;
        for index in 0..self.slots.len() {
            let loaded = self.load(index)?;
            if end != Some(loaded.start_lsn) {
                start = loaded.start_lsn;
            }
            let mut lsn = loaded.start_lsn;
            while let Some((entry, _)) = loaded.entry(lsn) {
                lsn += entry.len as u64;
            }
            end = Some(lsn);
        }
        Ok(start)
    }
}
