//! The real disk, by the operating system's positioned reads and writes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::fs::{FallocateFlags, FlockOperation, fallocate};

use super::{DirEntry, Disk, DiskFile, DiskLock, Open};

/// Slices that one `pwritev` takes (Linux: `UIO_MAXIOV`).
const MAX_SLICES: usize = 1024;

/// The file system of this machine.
#[derive(Debug, Default)]
pub(crate) struct LocalDisk;

#[derive(Debug)]
struct LocalFile(Arc<File>);

/// An advisory lock on an open file: the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
struct LocalLock(#[allow(dead_code, reason = "held, never read")] File);

impl DiskLock for LocalLock {}

impl Disk for LocalDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(DirEntry { name, is_dir: entry.file_type()?.is_dir() });
            }
        }
        Ok(entries)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let create = how == Open::Create;
        let file = OpenOptions::new().read(true).write(true).create(create).mode(0o640).open(path)?;
        Ok(Arc::new(LocalFile(Arc::new(file))))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(LocalLock(file)))
    }
}

impl DiskFile for LocalFile {
    fn read_into(&self, buffer: &mut Vec<u8>, len: usize, position: u64) -> io::Result<usize> {
        buffer.reserve_exact(len);
        let start = buffer.len();
        while buffer.len() - start < len {
            let done = buffer.len() - start;
            // The vector may have more spare room than was asked for: read exactly `len` through a bounded view.
            let wanted = len - done;
            let spare = buffer.capacity() - buffer.len();
            let read = if spare == wanted {
                rustix::io::pread(&self.0, spare_capacity(buffer), position + done as u64)
            } else {
                self.read_bounded(buffer, wanted, position + done as u64)
            };
            match read {
                Ok(0) => break,
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(buffer.len() - start)
    }

    fn write_at(&self, slices: &[IoSlice<'_>], mut position: u64) -> io::Result<()> {
        for group in slices.chunks(MAX_SLICES) {
            let mut group: Vec<IoSlice<'_>> = group.to_vec();
            let mut rest = &mut group[..];
            IoSlice::advance_slices(&mut rest, 0);
            while !rest.is_empty() {
                match rustix::io::pwritev(&self.0, rest, position) {
                    Ok(0) => return Err(io::Error::new(ErrorKind::WriteZero, "the disk took no bytes")),
                    Ok(written) => {
                        position += written as u64;
                        IoSlice::advance_slices(&mut rest, written);
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(e) => return Err(e.into()),
                }
            }
        }
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        Ok(fallocate(&self.0, FallocateFlags::empty(), 0, len)?)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn std_file(&self) -> io::Result<Arc<File>> {
        Ok(Arc::clone(&self.0))
    }
}

impl LocalFile {
    /// Reads into zeroed room when the vector's spare capacity does not fit what is wanted.
    fn read_bounded(&self, buffer: &mut Vec<u8>, wanted: usize, position: u64) -> Result<usize, rustix::io::Errno> {
        let start = buffer.len();
        buffer.resize(start + wanted, 0);
        let read = rustix::io::pread(&self.0, &mut buffer[start..], position);
        buffer.truncate(start + *read.as_ref().unwrap_or(&0));
        read
    }
}
