//! Reading the journal at start.
//!
//! Entries are read from the checkpoint's position on. Where the next one is not intact there are four cases:
//! 1. Another file begins behind this very position, with an intact entry: the chain continues there.
//! 2. One bit of it has changed: that is put right ([`mend`](super::mend)) and reported.
//! 3. A later entry says that this position was durable when it was written: the entry is *damaged* (a disk that lies, a
//!    flipped bit, a place that cannot be read). It is skipped and reported; the entries behind it still count.
//! 4. Otherwise this is the torn tail of a power cut, and everything from here on is void.
//!
//! What counts is written again where it lies. The page cache may hold bytes that the disk never took: after a failed flush
//! Linux keeps them and calls them clean, so that a later flush would succeed without writing them.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::path::Path;

use super::FoundSlots;
use super::entry::{ENTRY_HEADER_LEN, Entry, decode};
use super::mend::{flip_in_entry, is_near};
use super::slot::{SLOT_HEADER_LEN, Slot, parse_slot_name};
use crate::disk::{Disk, UNREADABLE_STEP, is_unreadable, read_around};
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
    /// Position behind the last entry of each that was replayed; 0 when none was.
    replayed_to: Vec<u64>,
    free: Vec<Slot>,
    /// What was wrong, for the recovery report.
    pub(crate) damage: Vec<String>,
    /// Changed bits that were put right.
    pub(crate) mended: Vec<String>,
    end_lsn: u64,
}

/// One file in memory.
struct Loaded {
    slot: usize,
    start_lsn: u64,
    bytes: Vec<u8>,
    /// The disk could not read all of it.
    is_unreadable: bool,
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
        let (mut slots, mut free, mut mended) = (Vec::new(), Vec::new(), Vec::new());
        for index in entries.iter().filter_map(|entry| parse_slot_name(&entry.name)) {
            let (slot, is_used, is_mended) = Slot::open(disk, dir, index)?;
            if is_mended {
                mended.push(format!("the header of {} had changed and was put right", slot.path.display()));
            }
            if is_used && slot.bytes <= SLOT_BYTES_MAX { slots.push(slot) } else { free.push(slot) }
        }
        slots.sort_by_key(|slot| slot.start_lsn);
        Ok(Tail { replayed_to: vec![0; slots.len()], slots, free, damage: Vec::new(), mended, end_lsn: 0 })
    }

    /// Shows `visit` every entry from `from` on, in order; without `from`, those of the newest unbroken chain. Writes the
    /// files with these entries again. Answers the position at which it began.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub(crate) fn replay(
        &mut self,
        from: Option<u64>,
        mut visit: impl FnMut(Entry, Place),
    ) -> Result<u64, StorageError> {
        let from = match from {
            Some(lsn) => lsn,
            None => self.newest_chain()?,
        };
        let mut lsn = from;
        let mut current = self.containing(lsn)?;
        loop {
            let file = current.as_ref();
            if let Some((file, (entry, position))) = file.and_then(|file| Some((file, file.entry(lsn)?))) {
                lsn += entry.len as u64;
                self.replayed_to[file.slot] = position + entry.len as u64;
                let position = position + entry.batches_at as u64;
                let place = Place { slot: file.slot, position, len: entry.batches_len };
                visit(entry, place);
                continue;
            }
            let next = self.behind(file, lsn)?;
            self.write_again(file)?;
            let Some((at, file)) = next else { break };
            (lsn, current) = (at, Some(file));
        }
        self.end_lsn = lsn;
        Ok(from)
    }

    /// Where the entries continue when `file` has none at `lsn`, and in which file. `None` at the journal's end.
    fn behind(&mut self, file: Option<&Loaded>, lsn: u64) -> Result<Option<(u64, Loaded)>, StorageError> {
        if let Some(next) = self.following(lsn)? {
            return Ok(Some((next.start_lsn, next)));
        }
        if let Some((file, at)) = self.mend(lsn)? {
            self.mended.push(format!("one bit of the journal at position {at} had changed and was put right"));
            return Ok(Some((at, file)));
        }
        let Some((resume, slot)) = self.end_of_damage(file, lsn)? else { return Ok(None) };
        self.damage.push(format!("the journal is damaged from position {lsn} to {resume}"));
        Ok(Some((resume, self.load(slot)?)))
    }

    /// Writes the part of a file that was replayed again: [`Tail::sync`] must find it unwritten.
    fn write_again(&self, file: Option<&Loaded>) -> Result<(), StorageError> {
        let Some(file) = file else { return Ok(()) };
        let slot = &self.slots[file.slot];
        let replayed = usize::try_from(self.replayed_to[file.slot]).unwrap_or(usize::MAX);
        if replayed == 0 {
            return Ok(());
        }
        // Whole pages, all of them where the disk cannot read some: what is written can be read.
        let end = if file.is_unreadable { usize::MAX } else { replayed.next_multiple_of(UNREADABLE_STEP) };
        let end = end.min(file.bytes.len());
        let written = slot.file.write_at(&[IoSlice::new(&file.bytes[..end])], 0);
        written.map_err(|e| StorageError::io("write again", &slot.path, e))
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
        for (slot, _) in self.slots.iter().zip(&self.replayed_to).filter(|(_, to)| **to > 0) {
            slot.file.sync_data().map_err(|e| StorageError::io("flush", &slot.path, e))?;
        }
        Ok(())
    }

    /// The files, for the journal to continue with. `past` is a position that a checkpoint has seen.
    pub(crate) fn found(&self, past: u64) -> FoundSlots {
        let mut found = FoundSlots {
            used: VecDeque::new(),
            free: self.free.clone(),
            chain_end_lsn: self.end_lsn,
            past_lsn: self.end_lsn.max(past),
        };
        for (slot, replayed_to) in self.slots.iter().zip(&self.replayed_to) {
            found.past_lsn = found.past_lsn.max(slot.start_lsn.saturating_add(slot.bytes));
            if *replayed_to > 0 {
                found.used.push_back(slot.clone());
            } else {
                found.free.push(slot.clone());
            }
        }
        found
    }

    /// The file with the entry that continues at `lsn`, and its position, once a changed bit of it was put right.
    fn mend(&self, lsn: u64) -> Result<Option<(Loaded, u64)>, StorageError> {
        for (index, slot) in self.slots.iter().enumerate() {
            let at = match (slot.after_lsn == lsn && slot.start_lsn >= lsn, covers(slot, lsn)) {
                (true, _) => slot.start_lsn,
                (false, true) => lsn,
                (false, false) => continue,
            };
            let position = SLOT_HEADER_LEN + (at - slot.start_lsn);
            let mut head = Vec::new();
            let read = slot.file.read_into(&mut head, ENTRY_HEADER_LEN, position);
            match read {
                Err(e) if is_unreadable(&e) => continue,
                read => read.map_err(|e| StorageError::io("read", &slot.path, e))?,
            };
            if !is_near(&head, at) {
                continue;
            }
            let mut loaded = self.load(index)?;
            let start = usize::try_from(position).unwrap_or(usize::MAX);
            let Some(flip) = loaded.bytes.get(start..).and_then(|bytes| flip_in_entry(bytes, at)) else { continue };
            let byte = &mut loaded.bytes[start + flip.byte];
            *byte ^= flip.mask;
            let put = slot.file.write_at(&[IoSlice::new(&[*byte])], position + flip.byte as u64);
            put.map_err(|e| StorageError::io("mend", &slot.path, e))?;
            return Ok(Some((loaded, at)));
        }
        Ok(None)
    }

    fn load(&self, index: usize) -> Result<Loaded, StorageError> {
        let slot = &self.slots[index];
        let len = usize::try_from(slot.bytes).unwrap_or(usize::MAX);
        let mut bytes = Vec::with_capacity(len);
        // A place that the disk cannot read holds no intact entry: damage, or the end.
        let read = read_around(&*slot.file, &mut bytes, len, 0).map_err(|e| StorageError::io("read", &slot.path, e))?;
        Ok(Loaded { slot: index, start_lsn: slot.start_lsn, bytes, is_unreadable: read.1 })
    }

    /// The file in which an entry at `lsn` would lie.
    fn covering(&self, lsn: u64) -> Option<usize> {
        self.slots.iter().position(|slot| covers(slot, lsn))
    }

    /// The file that has an intact entry at `lsn`.
    fn containing(&self, lsn: u64) -> Result<Option<Loaded>, StorageError> {
        self.first_intact(|slot| covers(slot, lsn), |_| lsn)
    }

    /// The file that continues where the entries before `lsn` end. Several may say so: one that was begun right before a
    /// power cut took its first entry, and the one that was begun after it.
    fn following(&self, lsn: u64) -> Result<Option<Loaded>, StorageError> {
        self.first_intact(|slot| slot.after_lsn == lsn && slot.start_lsn >= lsn, |slot| slot.start_lsn)
    }

    fn first_intact(
        &self,
        wanted: impl Fn(&Slot) -> bool,
        lsn: impl Fn(&Slot) -> u64,
    ) -> Result<Option<Loaded>, StorageError> {
        for (index, slot) in self.slots.iter().enumerate().filter(|(_, slot)| wanted(slot)) {
            let loaded = self.load(index)?;
            if loaded.entry(lsn(slot)).is_some() {
                return Ok(Some(loaded));
            }
        }
        Ok(None)
    }

    /// Where the first intact entry behind `bad` is and in which file, when any entry behind knows that `bad` was
    /// durable.
    fn end_of_damage(&self, current: Option<&Loaded>, bad: u64) -> Result<Option<(u64, usize)>, StorageError> {
        let mut resume = None;
        // Without an intact entry there is no current file; one may cover the place all the same.
        let covering = match current {
            Some(_) => None,
            None => self.covering(bad).map(|index| self.load(index)).transpose()?,
        };
        if let Some(file) = current.or(covering.as_ref())
            && self.is_known_durable(file, bad + 8, bad, &mut resume)
        {
            return Ok(resume);
        }
        for index in 0..self.slots.len() {
            let start_lsn = self.slots[index].start_lsn;
            if start_lsn > bad && self.is_known_durable(&self.load(index)?, start_lsn, bad, &mut resume) {
                return Ok(resume);
            }
        }
        Ok(None)
    }

    /// True when an entry of the file, from `lsn` on, knows that `bad` was durable. Notes the first intact entry.
    fn is_known_durable(&self, file: &Loaded, mut lsn: u64, bad: u64, resume: &mut Option<(u64, usize)>) -> bool {
        while lsn < file.end_lsn() {
            let Some((entry, _)) = file.entry(lsn) else {
                lsn += 8;
                continue;
            };
            resume.get_or_insert((lsn, file.slot));
            if entry.stamp.durable_lsn > bad {
                return true;
            }
            lsn += entry.len as u64;
        }
        false
    }

    /// First position of the newest files that follow each other without a break.
    fn newest_chain(&self) -> Result<u64, StorageError> {
        let mut start = 0;
        let mut end = None;
        for index in 0..self.slots.len() {
            let loaded = self.load(index)?;
            if loaded.entry(loaded.start_lsn).is_none() {
                continue;
            }
            if end != Some(self.slots[index].after_lsn) {
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

fn covers(slot: &Slot, lsn: u64) -> bool {
    (slot.start_lsn..slot.start_lsn.saturating_add(slot.capacity())).contains(&lsn)
}
