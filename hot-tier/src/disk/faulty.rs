//! A disk that fails when told to, around one that works.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::io::Errno;

use super::{DirEntry, Disk, DiskFile, DiskLock, Open, UNREADABLE_STEP};

/// Steers a [`FaultyDisk`] and all its files.
#[derive(Debug)]
pub(crate) struct Faults {
    changes: AtomicU64,
    /// From this change on, everything fails: the machine is off.
    off_at: AtomicU64,
    /// No file grows any more; writes get half way.
    full: AtomicBool,
    /// Syncs fail.
    no_sync: AtomicBool,
    /// Writes fail for good.
    no_write: AtomicBool,
    /// Files that are open, and how many may be.
    open: AtomicU64,
    descriptors: AtomicU64,
    /// How often there was no descriptor.
    refused: AtomicU64,
    /// Bytes that cannot be read until they are written; of a folder, its names.
    unreadable: Mutex<Vec<(PathBuf, Range<u64>)>>,
}

impl Default for Faults {
    fn default() -> Self {
        Faults {
            changes: AtomicU64::new(0),
            off_at: AtomicU64::new(u64::MAX),
            full: AtomicBool::new(false),
            no_sync: AtomicBool::new(false),
            no_write: AtomicBool::new(false),
            open: AtomicU64::new(0),
            descriptors: AtomicU64::new(u64::MAX),
            refused: AtomicU64::new(0),
            unreadable: Mutex::default(),
        }
    }
}

impl Faults {
    /// How many changing operations there were.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    pub(crate) fn turn_off_at(&self, change: u64) {
        self.off_at.store(change, Ordering::SeqCst);
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    pub(crate) fn fail_syncs(&self) {
        self.no_sync.store(true, Ordering::SeqCst);
    }

    pub(crate) fn fail_writes(&self) {
        self.no_write.store(true, Ordering::SeqCst);
    }

    /// So many files may be open from now on; those that are stay open.
    pub(crate) fn set_descriptors(&self, descriptors: u64) {
        self.descriptors.store(descriptors, Ordering::SeqCst);
    }

    fn descriptor(&self) -> io::Result<()> {
        let has_one = self.open.load(Ordering::SeqCst) < self.descriptors.load(Ordering::SeqCst);
        if has_one {
            return Ok(());
        }
        self.refused.fetch_add(1, Ordering::SeqCst);
        Err(Errno::MFILE.into())
    }

    /// How often there was no descriptor.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::SeqCst)
    }

    /// Reading any of these bytes fails until they are written again. Of a folder: its names.
    pub(crate) fn make_unreadable(&self, path: &Path, bytes: Range<u64>) {
        self.unreadable.lock().push((path.to_owned(), bytes));
    }

    fn read(&self, path: &Path, bytes: Range<u64>) -> io::Result<()> {
        let meets = |(at, bad): &(PathBuf, Range<u64>)| at == path && bad.start < bytes.end && bytes.start < bad.end;
        if self.unreadable.lock().iter().any(meets) { Err(Errno::IO.into()) } else { Ok(()) }
    }

    /// A write of a part of a page reads the rest of it first, if the file has any there.
    fn write(&self, path: &Path, bytes: &Range<u64>, file_len: u64) -> io::Result<()> {
        let page = UNREADABLE_STEP as u64;
        let before = bytes.start - bytes.start % page..bytes.start;
        let behind = bytes.end..bytes.end.next_multiple_of(page).min(file_len).max(bytes.end);
        [before, behind].into_iter().filter(|rest| !rest.is_empty()).try_for_each(|rest| self.read(path, rest))?;
        let mut unreadable = self.unreadable.lock();
        let (here, mut others): (Vec<_>, Vec<_>) = unreadable.drain(..).partition(|(at, _)| at == path);
        for (at, bad) in here {
            let left = [bad.start..bad.end.min(bytes.start), bad.start.max(bytes.end)..bad.end];
            others.extend(left.into_iter().filter(|left| !left.is_empty()).map(|left| (at.clone(), left)));
        }
        *unreadable = others;
        Ok(())
    }

    fn renamed(&self, from: &Path, to: &Path) {
        let mut unreadable = self.unreadable.lock();
        unreadable.retain(|(at, _)| at != to);
        unreadable.iter_mut().filter(|(at, _)| at == from).for_each(|(at, _)| *at = to.to_owned());
    }

    fn count(&self) -> io::Result<()> {
        if self.changes.fetch_add(1, Ordering::SeqCst) >= self.off_at.load(Ordering::SeqCst) {
            return Err(io::Error::other("the machine is off"));
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.count()?;
        if self.no_sync.load(Ordering::SeqCst) { Err(io::Error::other("the disk cannot sync")) } else { Ok(()) }
    }
}

/// A disk with faults.
#[derive(Debug)]
pub(crate) struct FaultyDisk {
    inner: Arc<dyn Disk>,
    faults: Arc<Faults>,
}

#[derive(Debug)]
struct FaultyFile {
    inner: Arc<dyn DiskFile>,
    path: PathBuf,
    faults: Arc<Faults>,
}

impl FaultyDisk {
    pub(crate) fn new(inner: Arc<dyn Disk>) -> (Self, Arc<Faults>) {
        let faults = Arc::new(Faults::default());
        (FaultyDisk { inner, faults: Arc::clone(&faults) }, faults)
    }
}

impl Disk for FaultyDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.faults.count()?;
        self.inner.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.faults.descriptor()?;
        self.faults.read(path, 0..1)?;
        self.inner.list(path)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        self.faults.descriptor()?;
        if how == Open::Create {
            self.faults.count()?;
        }
        let inner = self.inner.open(path, how)?;
        self.faults.open.fetch_add(1, Ordering::SeqCst);
        Ok(Arc::new(FaultyFile { inner, path: path.to_owned(), faults: Arc::clone(&self.faults) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.count()?;
        self.inner.rename(from, to)?;
        self.faults.renamed(from, to);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.faults.count()?;
        self.inner.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.faults.count()?;
        self.inner.remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.faults.descriptor()?;
        self.faults.sync()?;
        self.inner.sync_dir(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.inner.lock(path)
    }
}

impl Drop for FaultyFile {
    fn drop(&mut self) {
        self.faults.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl DiskFile for FaultyFile {
    fn read_into(&self, buffer: &mut Vec<u8>, len: usize, position: u64) -> io::Result<usize> {
        self.faults.read(&self.path, position..position + len as u64)?;
        self.inner.read_into(buffer, len, position)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        let grows = position + len as u64 > self.inner.len()?;
        let is_full = grows && self.faults.full.load(Ordering::SeqCst);
        let counted = self.faults.count();
        if is_full || counted.is_err() {
            // Half of it got there.
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).take(len / 2).collect();
            self.inner.write_at(&[IoSlice::new(&bytes)], position)?;
            return Err(counted.err().unwrap_or_else(|| ErrorKind::StorageFull.into()));
        }
        if self.faults.no_write.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk cannot write"));
        }
        self.faults.write(&self.path, &(position..position + len as u64), self.inner.len()?)?;
        self.inner.write_at(slices, position)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.faults.count()?;
        if self.faults.full.load(Ordering::SeqCst) {
            return Err(ErrorKind::StorageFull.into());
        }
        self.inner.allocate(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.count()?;
        self.inner.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.sync()?;
        self.inner.sync_data()
    }

    fn std_file(&self) -> io::Result<Arc<File>> {
        self.inner.std_file()
    }
}
