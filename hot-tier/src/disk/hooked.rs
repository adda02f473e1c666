//! A disk that calls a test at chosen moments, around one that works: to hold an operation, to do something else at that very
//! point, or to count.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{DirEntry, Disk, DiskFile, DiskLock, Open};

/// When the hook is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Bytes of a file are about to be read.
    Read,
    /// So many bytes have been written to a file.
    Written(usize),
    /// A file is about to be synced.
    Sync,
    /// A sync has ended, for better or worse.
    Synced {
        /// Whether it failed.
        failed: bool,
    },
    /// A folder is about to be synced.
    SyncDir,
}

/// Called at each moment with the path of the file or folder, on the thread that does it.
pub(crate) type Hook = Arc<dyn Fn(Moment, &Path) + Send + Sync>;

/// The disk.
pub(crate) struct HookedDisk {
    inner: Arc<dyn Disk>,
    hook: Hook,
}

struct HookedFile {
    inner: Arc<dyn DiskFile>,
    path: PathBuf,
    hook: Hook,
}

impl HookedDisk {
    pub(crate) fn new(inner: Arc<dyn Disk>, hook: Hook) -> Self {
        HookedDisk { inner, hook }
    }
}

impl std::fmt::Debug for HookedDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HookedDisk").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for HookedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HookedFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Disk for HookedDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.list(path)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let inner = self.inner.open(path, how)?;
        Ok(Arc::new(HookedFile { inner, path: path.to_owned(), hook: Arc::clone(&self.hook) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        (self.hook)(Moment::SyncDir, path);
        self.inner.sync_dir(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.inner.lock(path)
    }
}

impl DiskFile for HookedFile {
    fn read_into(&self, buffer: &mut Vec<u8>, len: usize, position: u64) -> io::Result<usize> {
        (self.hook)(Moment::Read, &self.path);
        self.inner.read_into(buffer, len, position)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.inner.write_at(slices, position)?;
        (self.hook)(Moment::Written(slices.iter().map(|slice| slice.len()).sum()), &self.path);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.inner.allocate(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn sync_data(&self) -> io::Result<()> {
        (self.hook)(Moment::Sync, &self.path);
        let synced = self.inner.sync_data();
        (self.hook)(Moment::Synced { failed: synced.is_err() }, &self.path);
        synced
    }

    fn std_file(&self) -> io::Result<Arc<File>> {
        self.inner.std_file()
    }
}
