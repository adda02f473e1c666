//! The sparse indexes beside a segment, in Apache Kafka's own layouts.
//!
//! `.index`: 4 bytes relative offset of a batch's last record, 4 bytes position of that batch.
//! `.timeindex`: 8 bytes largest timestamp so far, 4 bytes relative offset of the batch that first reached it.
//! All big-endian, entries strictly ascending in both columns (timestamps: in the first).
//!
//! Entries of the growing segment collect in memory and are written in runs; nothing is synced. An index is a hint: it is
//! checked when its file is first used and again where it points, and rebuilt from the segment when it is wrong.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::disk::{DiskFile, Open, is_unreadable};
use crate::open_files::{FileSlot, OpenFiles};
use crate::sync::Mutex;

/// Entries that collect in memory before they are written.
const TAIL_ENTRIES_MAX: usize = 1024;

/// One line of an index.
pub(crate) trait Entry: Copy + Send + Sync + std::fmt::Debug {
    /// Bytes of an entry.
    const LEN: usize;
    /// What entries are found by.
    fn key(&self) -> i64;
    fn write(&self, out: &mut Vec<u8>);
    /// Reads exactly [`Entry::LEN`] bytes.
    fn read(bytes: &[u8]) -> Option<Self>;
    /// True when `self` may stand right before `next`.
    fn precedes(&self, next: &Self) -> bool;
    /// True when the entry can be one of a segment of `size_bytes`.
    fn is_within(&self, size_bytes: u64) -> bool;
}

/// An entry of `.index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    /// Last offset of the batch at `position`, relative to the segment's base.
    pub(crate) relative_offset: u32,
    pub(crate) position: u32,
}

/// An entry of `.timeindex`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    /// Largest timestamp of the segment up to and including the batch of `relative_offset`, in ms.
    pub(crate) timestamp: i64,
    /// Last offset of the batch that first has `timestamp`, relative to the segment's base.
    pub(crate) relative_offset: u32,
}

impl Entry for OffsetEntry {
    const LEN: usize = 8;

    fn key(&self) -> i64 {
        i64::from(self.relative_offset)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.relative_offset.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (offset, rest) = bytes.split_first_chunk()?;
        let position = rest.first_chunk()?;
        Some(OffsetEntry { relative_offset: u32::from_be_bytes(*offset), position: u32::from_be_bytes(*position) })
    }

    fn precedes(&self, next: &Self) -> bool {
        self.relative_offset < next.relative_offset && self.position < next.position
    }

    fn is_within(&self, size_bytes: u64) -> bool {
        u64::from(self.position) < size_bytes
    }
}

impl Entry for TimeEntry {
    const LEN: usize = 12;

    fn key(&self) -> i64 {
        self.timestamp
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.relative_offset.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (timestamp, rest) = bytes.split_first_chunk()?;
        let offset = rest.first_chunk()?;
        Some(TimeEntry { timestamp: i64::from_be_bytes(*timestamp), relative_offset: u32::from_be_bytes(*offset) })
    }

    fn precedes(&self, next: &Self) -> bool {
        self.timestamp < next.timestamp && self.relative_offset < next.relative_offset
    }

    fn is_within(&self, _size_bytes: u64) -> bool {
        true
    }
}

/// What an index found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found<E> {
    /// The last entry whose key is at most the one asked for.
    Entry(E),
    /// All entries come later: start at the segment's beginning.
    Nothing,
    /// The file is missing or not an index: rebuild it.
    Damaged,
}

/// One index file with the entries that are not in it yet.
///
/// Invariant: the file's first `stored` entries, then `tail`, ascend.
#[derive(Debug)]
pub(crate) struct SideIndex<E> {
    slot: Arc<FileSlot>,
    stored: AtomicU64,
    checked: AtomicBool,
    tail: Mutex<Vec<E>>,
    last: Mutex<Option<E>>,
    /// Held while the file is written or given up.
    storing: Mutex<()>,
}

impl<E: Entry> SideIndex<E> {
    /// The index of a segment that is just being made: no file yet.
    pub(crate) fn empty(slot: Arc<FileSlot>) -> Self {
        SideIndex {
            slot,
            stored: AtomicU64::new(0),
            checked: AtomicBool::new(true),
            tail: Mutex::new(Vec::new()),
            last: Mutex::new(None),
            storing: Mutex::new(()),
        }
    }

    /// The index of a segment that was there before: its file is looked at when it is needed.
    pub(crate) fn stored(slot: Arc<FileSlot>) -> Self {
        let index = Self::empty(slot);
        index.checked.store(false, Ordering::Relaxed);
        index
    }

    pub(crate) fn slot(&self) -> &Arc<FileSlot> {
        &self.slot
    }

    /// Adds an entry, unless it does not ascend (several batches may share a timestamp).
    pub(crate) fn push(&self, entry: E) {
        let mut last = self.last.lock();
        if last.is_none_or(|last| last.precedes(&entry)) {
            *last = Some(entry);
            self.tail.lock().push(entry);
        }
    }

    /// True when the entries in memory should be written.
    pub(crate) fn is_tail_full(&self) -> bool {
        self.tail.lock().len() >= TAIL_ENTRIES_MAX
    }

    /// Writes the entries in memory behind those in the file, and cuts off what lies behind them.
    ///
    /// Answers false, having done nothing, when the file from before is not an index of a segment of `size_bytes`: then
    /// the index must be rebuilt.
    ///
    /// # Errors
    /// Those of the file; the entries stay in memory.
    pub(crate) fn store(&self, files: &OpenFiles, size_bytes: u64) -> io::Result<bool> {
        let _storing = self.storing.lock();
        if !self.checked.load(Ordering::Acquire) && !self.check(files, size_bytes)? {
            return Ok(false);
        }
        let tail = self.tail.lock().clone();
        if tail.is_empty() {
            return Ok(true);
        }
        let stored = self.stored.load(Ordering::Acquire);
        let mut bytes = Vec::with_capacity(tail.len() * E::LEN);
        tail.iter().for_each(|entry| entry.write(&mut bytes));
        let file = files.open(&self.slot, Open::Create)?;
        let position = stored * E::LEN as u64;
        file.write_at(&[IoSlice::new(&bytes)], position)?;
        if stored == 0 {
            // A file of this name may be left over from before a truncation or a crash.
            file.set_len(position + bytes.len() as u64)?;
        }
        // The tail goes only when the file has it: a reader between the two finds the entries twice, which is harmless.
        self.stored.store(stored + tail.len() as u64, Ordering::Release);
        self.tail.lock().drain(..tail.len());
        Ok(true)
    }

    /// Restarts with `entries`, in memory.
    pub(crate) fn replace(&self, entries: Vec<E>) {
        let _storing = self.storing.lock();
        self.checked.store(true, Ordering::Release);
        self.stored.store(0, Ordering::Release);
        *self.last.lock() = entries.last().copied();
        *self.tail.lock() = entries;
    }

    /// The last entry whose key is at most `key`, in a segment of `size_bytes`.
    ///
    /// # Errors
    /// Those of reading the file, other than that it is not there.
    pub(crate) fn find(&self, files: &OpenFiles, key: i64, size_bytes: u64) -> io::Result<Found<E>> {
        {
            let tail = self.tail.lock();
            if tail.first().is_some_and(|first| first.key() <= key) {
                let after = tail.partition_point(|entry| entry.key() <= key);
                return Ok(Found::Entry(tail[after - 1]));
            }
        }
        if !self.checked.load(Ordering::Acquire) && !self.check(files, size_bytes)? {
            return Ok(Found::Damaged);
        }
        let stored = self.stored.load(Ordering::Acquire);
        if stored == 0 {
            return Ok(Found::Nothing);
        }
        let file = match files.open(&self.slot, Open::Existing) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Damaged),
            Err(e) => return Err(e),
        };
        let (mut low, mut high) = (0, stored);
        let mut best = Found::Nothing;
        let mut bytes = Vec::with_capacity(E::LEN);
        while low < high {
            let middle = low + (high - low) / 2;
            bytes.clear();
            match file.read_into(&mut bytes, E::LEN, middle * E::LEN as u64) {
                Err(e) if is_unreadable(&e) => return Ok(Found::Damaged),
                read => drop(read?),
            }
            let Some(entry) = E::read(&bytes) else { return Ok(Found::Damaged) };
            if entry.key() <= key {
                best = Found::Entry(entry);
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(best)
    }

    /// Looks at a file from before: whole entries, ascending, within the segment. True when it can be used.
    fn check(&self, files: &OpenFiles, size_bytes: u64) -> io::Result<bool> {
        let file = match files.open(&self.slot, Open::Existing) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        let intact = self.intact(&*file, size_bytes)?;
        if !intact {
            tracing::warn!(index = %self.slot.path().display(), "an index is damaged or torn");
        }
        Ok(intact)
    }

    fn intact(&self, file: &dyn DiskFile, size_bytes: u64) -> io::Result<bool> {
        let len = file.len()?;
        // A segment has at most one entry for each batch, and batches are longer than entries.
        if len > size_bytes || !len.is_multiple_of(E::LEN as u64) || len == 0 {
            return Ok(false);
        }
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(len);
        match file.read_into(&mut bytes, len, 0) {
            Err(e) if is_unreadable(&e) => return Ok(false),
            read => drop(read?),
        }
        let entries: Option<Vec<E>> = bytes.chunks_exact(E::LEN).map(E::read).collect();
        let Some(entries) = entries else { return Ok(false) };
        let ascends = entries.windows(2).all(|pair| pair[0].precedes(&pair[1]));
        if !ascends || !entries.iter().all(|entry| entry.is_within(size_bytes)) {
            return Ok(false);
        }
        // The file may have become shorter since its length was asked for.
        let Some(&stored_last) = entries.last() else { return Ok(false) };
        // Recovery may have added entries to memory that the file has already.
        self.tail.lock().retain(|entry| stored_last.precedes(entry));
        self.last.lock().get_or_insert(stored_last);
        self.stored.store(entries.len() as u64, Ordering::Release);
        self.checked.store(true, Ordering::Release);
        Ok(true)
    }
}
