//! The journal: one sequential file for all partitions, so that one `fdatasync` makes everything durable (D3).
//!
//! ```text
//!            freed            head                    durable          end
//!   ──────────┬────────────────┬────────────────────────┬───────────────┬──▶ journal position (LSN)
//!    slots to be used again    │  replayed at recovery  │ being flushed │
//! ```
//!
//! - The journal is a chain of files of fixed size ([`slot`]). An entry that does not fit opens the next file, whose header
//!   names the position where it begins and the one where the file before ended.
//! - Positions count entry bytes and never repeat: each start of the process leaves out as many as the one before could
//!   have used. So what a power cut voided can never be taken for what was written later.
//! - Entries are written under one lock, in order; a write goes to the page cache. [`Journal::sync`] makes all of them
//!   durable. If the tail is torn in a power cut, everything behind the tear is void: none of it was acknowledged.
//! - Several threads call [`Journal::sync`]. It returns only when a sync that began after the caller's writes has ended, no
//!   matter which thread issued it; when that sync failed, it fails for all of them.
//! - A checkpoint that covers everything below a position frees the files below it. When all files are in use, the journal
//!   is full ([`Journal::has_space`]): appends are refused, and are to be tried again. Callers ask before they take a lock, so
//!   what is past the question may open [`OVERSHOOT_SLOTS`] files more than allowed; entries without records are always taken.
//! - A write or sync that failed makes the journal useless until a restart: it is not known what is on the disk.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::TopicPartition;

use crate::config::Config;
use crate::disk::{Disk, DiskFile};
use crate::error::StorageError;
use crate::sync::{Condvar, Mutex};

pub(crate) mod entry;
mod mend;
pub(crate) mod replay;
mod slot;

use entry::{Event, Stamp};
use slot::{SLOT_HEADER_LEN, Slot};

/// Files of the journal, when its size allows: more make freeing finer, fewer make changing files rarer.
const SLOTS: u64 = 8;
const SLOTS_MIN: usize = 3;
/// Files beyond the journal's size that appends may open which found it not full a moment before.
const OVERSHOOT_SLOTS: usize = 1;

/// The journal of all partitions.
#[derive(Debug)]
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    slot_bytes: u64,
    slots_max: usize,
    /// Held while files are synced: taking the list of unsynced files and syncing them is one step.
    syncing: Mutex<()>,
    state: Mutex<State>,
    space: Condvar,
}

#[derive(Debug)]
struct State {
    /// The files with entries, oldest first; the last one is being written. Empty before the first entry.
    used: VecDeque<Slot>,
    free: Vec<Slot>,
    next_index: u32,
    /// Bytes of entries in the last file.
    filled: u64,
    /// Where the entries before the next file end.
    after_lsn: u64,
    end_lsn: u64,
    durable_lsn: u64,
    /// Files with bytes that no sync has covered.
    unsynced: Vec<Arc<dyn DiskFile>>,
    spare_wanted: bool,
    broken: bool,
}

impl State {
    /// The file that is being written is half full, or there is none.
    fn needs_next_soon(&self) -> bool {
        self.used.back().is_none_or(|slot| self.filled > slot.capacity() / 2)
    }
}

impl Journal {
    /// A journal that continues at `end_lsn`; `used` are files whose entries a checkpoint does not cover yet.
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf, config: &Config, found: FoundSlots) -> Self {
        let slot_bytes = slot_bytes(config);
        let slots_max = usize::try_from(config.journal_bytes / slot_bytes).unwrap_or(usize::MAX).max(SLOTS_MIN);
        let next_index = found.used.iter().chain(&found.free).map(|slot| slot.index + 1).max().unwrap_or(0);
        let (free, misfits): (Vec<Slot>, Vec<Slot>) = found.free.into_iter().partition(|slot| slot.bytes == slot_bytes);
        for slot in misfits {
            // The journal's size was changed: files of the old size go as they become free.
            let _ = disk.remove_file(&slot.path);
        }
        let state = State {
            used: found.used,
            free,
            next_index,
            filled: u64::MAX,
            after_lsn: found.chain_end_lsn,
            end_lsn: found.past_lsn + (slots_max as u64 + 2) * slot_bytes,
            durable_lsn: found.chain_end_lsn,
            unsynced: Vec::new(),
            spare_wanted: false,
            broken: false,
        };
        Journal {
            disk,
            dir,
            slot_bytes,
            slots_max,
            syncing: Mutex::new(()),
            state: Mutex::new(state),
            space: Condvar::new(),
        }
    }

    /// Position behind the last entry.
    pub(crate) fn end_lsn(&self) -> u64 {
        self.state.lock().end_lsn
    }

    /// Bytes of the largest body that an entry may have.
    pub(crate) fn body_len_max(&self) -> usize {
        let capacity = usize::try_from(self.slot_bytes - SLOT_HEADER_LEN).unwrap_or(usize::MAX);
        (capacity - entry::padded_len(0)).min(entry::BODY_LEN_MAX)
    }

    /// True when so much of the journal is in use that a checkpoint should free some.
    pub(crate) fn wants_checkpoint(&self) -> bool {
        self.state.lock().used.len() > self.slots_max / 2
    }

    /// True while batches may be appended. Ask before taking a lock; does not wait.
    pub(crate) fn has_space(&self) -> bool {
        self.is_below(&self.state.lock(), self.slots_max)
    }

    /// Waits until [`Journal::has_space`]. Called without any lock.
    ///
    /// # Errors
    /// [`StorageError::JournalFull`] after `patience`.
    pub(crate) fn wait_for_space(&self, patience: Duration) -> Result<(), StorageError> {
        let mut state = self.state.lock();
        let deadline = Instant::now() + patience;
        while !self.is_below(&state, self.slots_max) {
            if self.space.wait_until(&mut state, deadline).timed_out() {
                return Err(StorageError::JournalFull);
            }
        }
        Ok(())
    }

    /// Refuses batches when the journal is full even for those who found it not full a moment ago.
    ///
    /// # Errors
    /// [`StorageError::JournalFull`].
    pub(crate) fn check_space(&self) -> Result<(), StorageError> {
        let has_space = self.is_below(&self.state.lock(), self.slots_max + OVERSHOOT_SLOTS);
        if has_space { Ok(()) } else { Err(StorageError::JournalFull) }
    }

    fn is_below(&self, state: &State, slots: usize) -> bool {
        // The last file has space as long as it is not one beyond the limit. A broken journal refuses by another error.
        state.used.len() <= slots || state.broken
    }

    /// Writes an entry to the page cache; answers the position behind it. Never waits.
    ///
    /// # Errors
    /// [`StorageError::Full`] or [`StorageError::NoDescriptor`] when the next file cannot be made, and nothing has happened;
    /// any other error breaks the journal.
    pub(crate) fn append(
        &self,
        partition: TopicPartition,
        event: &Event,
        batches: &[&[u8]],
    ) -> Result<u64, StorageError> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let batches_len: usize = batches.iter().map(|piece| piece.len()).sum();
        let upper = entry::padded_len(batches_len + event.len_max()) as u64;
        self.ensure_fits(state, upper)?;
        let stamp = Stamp { lsn: state.end_lsn, durable_lsn: state.durable_lsn };
        let head = entry::encode(partition, event, stamp, batches);
        let body_len = head.len() - entry::ENTRY_HEADER_LEN + batches_len;
        let len = entry::padded_len(body_len);
        let padding = [0; 8];
        let pad = &padding[..len - entry::ENTRY_HEADER_LEN - body_len];
        let slices: Vec<IoSlice<'_>> = std::iter::once(&head[..])
            .chain(batches.iter().copied())
            .chain(std::iter::once(pad).filter(|pad| !pad.is_empty()))
            .map(IoSlice::new)
            .collect();
        let write = |state: &State| match state.used.back() {
            Some(slot) => {
                let position = SLOT_HEADER_LEN + state.filled;
                let written = slot.file.write_at(&slices, position);
                written.map_err(|e| {
                    (StorageError::io("write to the journal", &slot.path, e), slot.is_unreadable_at(position))
                })
            }
            None => Err((self.error("write to the journal", "it has no file"), false)),
        };
        let mut written = write(state);
        if let Err((error, true)) = &written {
            tracing::error!(%error, "the disk cannot read a part of the journal: the next entry is written to the next file");
            state.filled = u64::MAX;
            self.ensure_fits(state, upper)?;
            written = write(state);
        }
        if let Err((error, _)) = written {
            // The next entry would overwrite what is there, but it is not known why an existing block cannot be written.
            state.broken = true;
            return Err(error);
        }
        state.filled += len as u64;
        state.end_lsn += len as u64;
        state.after_lsn = state.end_lsn;
        if state.unsynced.is_empty()
            && let Some(slot) = state.used.back()
        {
            state.unsynced.push(Arc::clone(&slot.file));
        }
        Ok(state.end_lsn)
    }

    /// Makes sure that the last file has space for `len` bytes.
    fn ensure_fits(&self, state: &mut State, len: u64) -> Result<(), StorageError> {
        let fits = |slot: &Slot| state.filled.checked_add(len).is_some_and(|end| end <= slot.capacity());
        if state.used.back().is_some_and(fits) {
            return Ok(());
        }
        let mut slot = match state.free.pop() {
            Some(slot) => slot,
            None => {
                // The housekeeper has not prepared one in time. Writing zeros would keep every append waiting.
                let slot = Slot::allocated(&*self.disk, &self.dir, (state.next_index, self.slot_bytes))?;
                state.next_index += 1;
                slot
            }
        };
        if let Err(e) = slot.begin(state.end_lsn, state.after_lsn) {
            state.broken = true;
            return Err(StorageError::io("begin the journal file", &slot.path, e));
        }
        state.unsynced.push(Arc::clone(&slot.file));
        state.used.push_back(slot);
        state.filled = 0;
        state.spare_wanted = true;
        Ok(())
    }

    /// True once after each change of files: a spare one should be prepared.
    pub(crate) fn wants_spare(&self) -> bool {
        std::mem::take(&mut self.state.lock().spare_wanted)
    }

    /// Makes a file ready ahead of time, so that no append has to. Takes its time: the appends of now need the disk.
    ///
    /// # Errors
    /// Those of making it; the journal continues without.
    pub(crate) fn prepare(&self) -> Result<(), StorageError> {
        let index = {
            let mut state = self.state.lock();
            if !state.free.is_empty() || state.used.len() >= self.slots_max || state.broken {
                return Ok(());
            }
            state.next_index += 1;
            state.next_index - 1
        };
        let is_urgent = || self.state.lock().needs_next_soon();
        let slot = Slot::prepared(&*self.disk, &self.dir, (index, self.slot_bytes), &is_urgent)?;
        self.state.lock().free.push(slot);
        Ok(())
    }

    /// Makes everything durable that was written before the call; answers the position up to which.
    ///
    /// # Errors
    /// An error breaks the journal, for every caller whose entries the sync covered.
    pub(crate) fn sync(&self) -> Result<u64, StorageError> {
        // A second caller may find its entries' files taken by the first: it waits here until that sync has ended.
        let _one_at_a_time = self.syncing.lock();
        let (files, end_lsn) = {
            let mut state = self.state.lock();
            if state.broken {
                return Err(self.error("flush the journal in", "it has failed before"));
            }
            (std::mem::take(&mut state.unsynced), state.end_lsn)
        };
        for file in files {
            if let Err(e) = file.sync_data() {
                self.state.lock().broken = true;
                return Err(StorageError::io("flush the journal in", &self.dir, e));
            }
        }
        let mut state = self.state.lock();
        state.durable_lsn = state.durable_lsn.max(end_lsn);
        Ok(end_lsn)
    }

    /// A checkpoint covers everything below `lsn`: files that end there are free.
    pub(crate) fn release(&self, lsn: u64) {
        let mut state = self.state.lock();
        while state.used.len() > 1 && state.used[1].start_lsn <= lsn {
            let Some(slot) = state.used.pop_front() else { break };
            if slot.bytes == self.slot_bytes && state.free.len() + state.used.len() < self.slots_max {
                state.free.push(slot);
            } else {
                let _ = self.disk.remove_file(&slot.path);
            }
        }
        drop(state);
        self.space.notify_all();
    }

    /// Wakes callers that wait for space: the tier has failed.
    pub(crate) fn give_up(&self) {
        self.state.lock().broken = true;
        self.space.notify_all();
    }

    fn error(&self, action: &'static str, what: &'static str) -> StorageError {
        StorageError::io(action, &self.dir, std::io::Error::other(what))
    }
}

/// The journal's files as recovery leaves them.
#[derive(Debug, Default)]
pub(crate) struct FoundSlots {
    /// Files with entries that the checkpoint does not cover, oldest first. The journal continues in another file.
    pub(crate) used: VecDeque<Slot>,
    pub(crate) free: Vec<Slot>,
    /// Behind the last entry that counts.
    pub(crate) chain_end_lsn: u64,
    /// No position from here on was ever written in a file that is known.
    pub(crate) past_lsn: u64,
}

fn slot_bytes(config: &Config) -> u64 {
    let entries_max = config.flush_bypass_bytes + 4096;
    (config.journal_bytes / SLOTS).max(SLOT_HEADER_LEN + entries_max).next_multiple_of(4096)
}

/// The folder of the journal's files.
pub(crate) fn journal_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("journal")
}
