//! File handles that are opened when needed, and a bound on how many stay open.
//!
//! Thousands of partitions have more files than a process may hold. Each file has a [`FileSlot`]; the slots with an open
//! handle are in one queue, and the one that was not used since it last came to the front is closed (the *clock*
//! algorithm). A reader that holds the handle at that moment keeps reading: handles are shared.
//!
//! Sockets and the archive need descriptors too. When there is none left, some idle files are closed and the open is tried
//! once more.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};

use crate::disk::{Disk, DiskFile, Open};
use crate::error::lacks_descriptor;
use crate::layout;
use crate::sync::Mutex;

/// Idle files that are closed when there is no descriptor left.
const CLOSED_AT_ONCE: usize = 64;
/// That there is none left is logged at most this often.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// The files that are open, at most `max` of them.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    disk: Arc<dyn Disk>,
    max: usize,
    queue: Mutex<VecDeque<Weak<FileSlot>>>,
    /// When it was last logged that there is no descriptor left.
    told: Mutex<Option<Instant>>,
}

/// One file of a partition, open or not.
#[derive(Debug)]
pub(crate) struct FileSlot {
    dir: Arc<Path>,
    name: Box<str>,
    handle: Mutex<Option<Arc<dyn DiskFile>>>,
    used: AtomicBool,
}

impl FileSlot {
    pub(crate) fn new(dir: &Arc<Path>, name: String) -> Arc<Self> {
        Arc::new(FileSlot {
            dir: Arc::clone(dir),
            name: name.into_boxed_str(),
            handle: Mutex::new(None),
            used: AtomicBool::new(false),
        })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(&*self.name)
    }

    /// Closes the handle here; holders of a copy keep it.
    pub(crate) fn close(&self) {
        self.handle.lock().take();
    }
}

impl OpenFiles {
    pub(crate) fn new(disk: Arc<dyn Disk>, max: usize) -> Self {
        OpenFiles { disk, max, queue: Mutex::new(VecDeque::new()), told: Mutex::new(None) }
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// The file's handle.
    ///
    /// # Errors
    /// Those of opening it; `NotFound` with [`Open::Existing`] when it is gone.
    pub(crate) fn open(&self, slot: &Arc<FileSlot>, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        slot.used.store(true, Ordering::Relaxed);
        match self.try_open(slot, how) {
            Err(e) if lacks_descriptor(&e) => {
                self.relieve();
                self.try_open(slot, how)
            }
            opened => opened,
        }
    }

    fn try_open(&self, slot: &Arc<FileSlot>, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let file = {
            let mut handle = slot.handle.lock();
            if let Some(file) = &*handle {
                return Ok(Arc::clone(file));
            }
            let file = self.disk.open(&slot.path(), how)?;
            *handle = Some(Arc::clone(&file));
            file
        };
        self.make_room(slot);
        Ok(file)
    }

    /// There was no descriptor left: closes some idle files, and logs what to do, now and then.
    pub(crate) fn relieve(&self) {
        let closed = self.close_idle();
        let mut told = self.told.lock();
        if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            *told = Some(Instant::now());
            let limit = getrlimit(Resource::Nofile).current;
            tracing::error!(
                limit,
                closed,
                "too many files are open: what needs one more is refused and may be tried again; raise the limit of open \
                 files (LimitNOFILE= of the service, ulimit -n)"
            );
        }
    }

    /// Closes up to [`CLOSED_AT_ONCE`] files that are not in use, in the order in which they came to the queue.
    fn close_idle(&self) -> usize {
        let mut closed = 0;
        self.queue.lock().retain(|slot| {
            if closed == CLOSED_AT_ONCE {
                return true;
            }
            let Some(slot) = slot.upgrade() else { return false };
            // The holder of this lock is opening the file just now: it is not idle.
            let Some(mut handle) = slot.handle.try_lock() else { return true };
            let is_used = handle.as_ref().is_some_and(|file| Arc::strong_count(file) > 1);
            if !is_used && handle.take().is_some() {
                closed += 1;
            }
            is_used
        });
        closed
    }

    /// Takes a file's name away, so that it is gone for readers that start now; answers the name that is left to unlink.
    ///
    /// # Errors
    /// Those of the rename; a file that is not there is fine and answers `None`.
    pub(crate) fn retire(&self, slot: &FileSlot) -> io::Result<Option<PathBuf>> {
        slot.close();
        let path = slot.path();
        let retired = layout::deleted(&path);
        match self.disk.rename(&path, &retired) {
            Ok(()) => Ok(Some(retired)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn make_room(&self, opened: &Arc<FileSlot>) {
        let mut queue = self.queue.lock();
        queue.push_back(Arc::downgrade(opened));
        // Every slot in the queue gets at most one second chance, so this ends.
        let mut chances = queue.len();
        while queue.len() > self.max {
            let Some(slot) = queue.pop_front().and_then(|slot| slot.upgrade()) else { continue };
            if chances > 0 && slot.used.swap(false, Ordering::Relaxed) {
                chances -= 1;
                queue.push_back(Arc::downgrade(&slot));
            } else {
                slot.close();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::faulty::FaultyDisk;
    use crate::disk::memory::MemoryDisk;

    #[test]
    fn no_more_files_stay_open_than_allowed() {
        let disk = Arc::new(MemoryDisk::default());
        let files = OpenFiles::new(disk, 3);
        let dir: Arc<Path> = Arc::from(Path::new("/"));
        let slots: Vec<_> = (0..10).map(|i| FileSlot::new(&dir, format!("f{i}"))).collect();
        for slot in slots.iter().chain(&slots) {
            files.open(slot, Open::Create).unwrap();
            assert!(slots.iter().filter(|slot| slot.handle.lock().is_some()).count() <= 3);
        }
    }

    #[test]
    fn idle_files_make_way_when_descriptors_run_out() {
        let (disk, faults) = FaultyDisk::new(Arc::new(MemoryDisk::default()));
        let files = OpenFiles::new(Arc::new(disk), 100);
        let dir: Arc<Path> = Arc::from(Path::new("/"));
        let slots: Vec<_> = (0..10).map(|i| FileSlot::new(&dir, format!("f{i}"))).collect();
        faults.set_descriptors(3);
        for slot in slots.iter().chain(&slots) {
            files.open(slot, Open::Create).unwrap();
        }
        let mut used: Vec<_> = slots[..3].iter().map(|slot| files.open(slot, Open::Existing).unwrap()).collect();
        let refused = files.open(&slots[3], Open::Existing).unwrap_err();
        assert!(lacks_descriptor(&refused), "{refused}");
        assert!(slots[..3].iter().all(|slot| slot.handle.lock().is_some()), "what is in use stays open");
        used.pop();
        files.open(&slots[3], Open::Existing).unwrap();
    }

    #[test]
    fn a_retired_file_stays_readable_for_who_has_it() {
        let files = OpenFiles::new(Arc::new(MemoryDisk::default()), 3);
        let slot = FileSlot::new(&Arc::from(Path::new("/")), "f".into());
        let file = files.open(&slot, Open::Create).unwrap();
        file.write_at(&[io::IoSlice::new(b"abc")], 0).unwrap();
        let retired = files.retire(&slot).unwrap().unwrap();
        files.disk().remove_file(&retired).unwrap();
        let mut bytes = Vec::new();
        assert_eq!(file.read_into(&mut bytes, 3, 0).unwrap(), 3);
        assert_eq!(files.open(&slot, Open::Existing).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
