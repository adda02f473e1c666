//! The file below redb: a full disk makes a commit wait instead of ending the metadata log.
//!
//! redb gives up for good after any failed write, which is right for a disk that fails: nobody knows what it holds. A disk
//! that is full has refused the bytes and nothing else, so the same write is tried again until there is room or the node
//! stops. Commands that wait for it run into their deadline meanwhile, as they would on a slow disk. A failed *sync* is
//! never repeated, whatever its reason: the kernel may have dropped the bytes and would report success.
//!
//! [`RESERVED_BYTES`] beyond the end of the file are allocated to it in advance. A log that has filled the disk must not keep
//! the node from learning that another one leads instead of it. The space belongs to the file, so nothing else can take it;
//! a file system without `fallocate` gives none, and the writes wait.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};
use rustix::fs::{FallocateFlags, fallocate};

use crate::machine;

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// Space beyond the end of the file that is allocated in advance.
const RESERVED_BYTES: u64 = 8 << 20;

/// Whether a write waits for room, and whether one does. Copies share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Patience {
    waits: Arc<AtomicBool>,
    is_full: Arc<AtomicBool>,
}

impl Patience {
    /// From now on writes wait, or do not: a node that starts or stops has nobody to wait for.
    pub(super) fn set(&self, waits: bool) {
        self.waits.store(waits, Ordering::Release);
    }

    fn waits(&self) -> bool {
        self.waits.load(Ordering::Acquire)
    }

    /// True while a write waits for space.
    pub(super) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Acquire)
    }
}

/// A file that waits for room on its disk.
#[derive(Debug)]
pub(super) struct PatientFile {
    file: Box<dyn StorageBackend>,
    /// The same file, to reserve space for it.
    blocks: File,
    path: PathBuf,
    patience: Patience,
    /// The last attempt to reserve space found none.
    lacks_reserve: AtomicBool,
}

impl PatientFile {
    /// Opens a file that exists.
    pub(super) fn open(path: &Path, patience: Patience) -> Result<Self, DatabaseError> {
        Self::on(OpenOptions::new().read(true).write(true).open(path)?, path, patience)
    }

    /// Makes an empty file.
    pub(super) fn create(path: &Path, patience: Patience) -> Result<Self, DatabaseError> {
        Self::on(OpenOptions::new().read(true).write(true).create_new(true).open(path)?, path, patience)
    }

    fn on(file: File, path: &Path, patience: Patience) -> Result<Self, DatabaseError> {
        let blocks = file.try_clone()?;
        let file = Box::new(machine::raft_file(FileBackend::new(file)?, path));
        let file = PatientFile { file, blocks, path: path.to_owned(), patience, lacks_reserve: AtomicBool::new(false) };
        file.reserve();
        Ok(file)
    }

    /// Allocates what the file has and [`RESERVED_BYTES`] more, as far as there is space.
    fn reserve(&self) {
        let Ok(len) = self.file.len() else { return };
        let reserved = fallocate(&self.blocks, FallocateFlags::KEEP_SIZE, 0, len + RESERVED_BYTES);
        self.lacks_reserve.store(reserved.is_err_and(|error| is_full(&error.into())), Ordering::Relaxed);
    }

    fn with_room(&self, write: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let mut full_since = None;
        loop {
            let outcome = write();
            let is_full = matches!(&outcome, Err(e) if is_full(e));
            self.patience.is_full.store(is_full && self.patience.waits(), Ordering::Release);
            if !is_full || !self.patience.waits() {
                if let (Some(since), Ok(())) = (full_since, &outcome) {
                    let waited = Instant::now().saturating_duration_since(since);
                    tracing::info!(file = %self.path.display(), ?waited, "there is room again: the metadata log goes on");
                }
                return outcome;
            }
            if full_since.is_none() {
                full_since = Some(Instant::now());
                tracing::error!(
                    file = %self.path.display(),
                    "the disk is full: changes of the cluster's metadata wait until there is room"
                );
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

impl StorageBackend for PatientFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with_room(|| self.file.set_len(len))?;
        self.reserve();
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.lacks_reserve.load(Ordering::Relaxed) {
            self.reserve();
        }
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with_room(|| self.file.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn file(waits: bool) -> (tempfile::TempDir, PatientFile) {
        let folder = tempfile::tempdir().unwrap();
        let patience = Patience::default();
        patience.set(waits);
        let file = PatientFile::create(&folder.path().join("file"), patience).unwrap();
        (folder, file)
    }

    fn refused(kind: ErrorKind, times: usize) -> impl Fn() -> io::Result<()> {
        let tries = AtomicUsize::new(0);
        move || if tries.fetch_add(1, Ordering::Relaxed) < times { Err(kind.into()) } else { Ok(()) }
    }

    #[test]
    fn a_full_disk_is_waited_for() {
        let (_folder, file) = file(true);
        file.with_room(refused(ErrorKind::StorageFull, 2)).unwrap();
    }

    #[test]
    fn nothing_else_is_tried_again() {
        let (_folder, file) = file(true);
        let error = file.with_room(refused(ErrorKind::Other, 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Other);
    }

    #[test]
    fn space_is_reserved_beyond_the_end_and_kept_when_the_file_grows() {
        let (folder, file) = file(true);
        let allocated = || std::fs::metadata(folder.path().join("file")).unwrap().blocks() * 512;
        if allocated() == 0 {
            // The file system of this test has no fallocate.
            return;
        }
        for len in [0, 1 << 20, 12 << 20, 4 << 20] {
            file.set_len(len).unwrap();
            assert_eq!(file.len().unwrap(), len);
            assert!(allocated() >= len + RESERVED_BYTES, "{} of {len}", allocated());
        }
    }

    #[test]
    fn a_node_that_starts_or_stops_does_not_wait() {
        let (_folder, file) = file(false);
        let error = file.with_room(refused(ErrorKind::StorageFull, 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }
}
