//! The seam between the log and the disk: the few file operations that the hot tier needs.
//!
//! [`LocalDisk`] is the real form. The tests have a memory form that knows which bytes a power cut would lose, and a
//! wrapper that fails at a chosen operation; one conformance suite runs on every form.
//!
//! What an implementation promises:
//! - `write_at` returns only when all bytes are visible to `read_at`; after an error any part of them may be.
//! - Bytes survive a power cut once `sync_data` has returned after they were written; a file's name, a rename or a
//!   removal once `sync_dir` of its folder has returned. Nothing else is promised, in any order.
//! - A file that was opened stays readable when its name is gone.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use crate::layout;

mod local;

#[cfg(test)]
mod conformance;
#[cfg(test)]
pub(crate) mod faulty;
#[cfg(test)]
pub(crate) mod hooked;
#[cfg(any(test, feature = "simulation"))]
pub(crate) mod memory;

pub(crate) use local::LocalDisk;

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Open {
    /// It must exist.
    Existing,
    /// It is made, empty, when it does not exist.
    Create,
}

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DirEntry {
    /// The last part of its path; names that are not UTF-8 are not listed.
    pub(crate) name: String,
    /// True for a folder.
    pub(crate) is_dir: bool,
}

/// Held while the data folder is ours; dropping it lets another process in.
pub(crate) trait DiskLock: Send + Sync + Debug {}

/// A file system, as far as the hot tier uses one.
pub(crate) trait Disk: Send + Sync + Debug {
    /// Makes the folder and those above it; fine when it exists.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// What the folder holds, in no particular order.
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>>;
    /// Moves a file or folder within its folder, replacing a file of that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder that is empty.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Takes the lock file at `path`, at once or not at all (`WouldBlock`).
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;
}

/// An open file.
pub(crate) trait DiskFile: Send + Sync + Debug {
    /// Appends up to `len` bytes from `position` on to `buffer`; fewer only at the file's end. Answers how many.
    fn read_into(&self, buffer: &mut Vec<u8>, len: usize, position: u64) -> io::Result<usize>;
    /// Writes all slices back to back from `position` on.
    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()>;
    /// Reserves blocks for `len` bytes and extends the file to them, with zeros, without writing them.
    ///
    /// # Errors
    /// `Unsupported` where the file system cannot; nothing has changed then.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Makes the file's bytes and length durable. After an error nothing is known about them.
    fn sync_data(&self) -> io::Result<()>;
    /// A handle of the operating system on the same bytes, for other packages to read from.
    fn std_file(&self) -> io::Result<Arc<File>>;
}

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// `NotFound`, or `InvalidData` when the file is longer than `limit`.
pub(crate) fn read_file(disk: &dyn Disk, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Open::Existing)?;
    let len = file.len()?;
    if len > limit {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("it has {len} bytes, at most {limit} are sane")));
    }
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(len);
    file.read_into(&mut bytes, len, 0)?;
    Ok(bytes)
}

/// True for the error of a disk that cannot give back what was written.
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::IO)
}

/// Bytes that are given up around a place that the disk cannot read.
pub(crate) const UNREADABLE_STEP: usize = 4096;

/// As [`DiskFile::read_into`], with zeros for what the disk cannot read; true when there is any. For bytes with checksums.
///
/// # Errors
/// Those of reading, other than EIO.
pub(crate) fn read_around(
    file: &dyn DiskFile,
    buffer: &mut Vec<u8>,
    len: usize,
    position: u64,
) -> io::Result<(usize, bool)> {
    let before = buffer.len();
    match file.read_into(buffer, len, position) {
        Err(e) if is_unreadable(&e) => buffer.truncate(before),
        read => return read.map(|read| (read, false)),
    }
    let end = position.saturating_add(len as u64).min(file.len()?);
    let mut at = position;
    while at < end {
        // Up to the next boundary: a place that cannot be read begins and ends at one.
        let step = UNREADABLE_STEP as u64 - at % UNREADABLE_STEP as u64;
        let step = usize::try_from(step.min(end - at)).unwrap_or(UNREADABLE_STEP);
        let held = buffer.len();
        match file.read_into(buffer, step, at) {
            Err(e) if is_unreadable(&e) => buffer.resize(held + step, 0),
            read => drop(read?),
        }
        at += step as u64;
    }
    Ok((buffer.len() - before, true))
}

/// Renames a folder to `<name>.<number><suffix>`, with the first number that is free: a folder cannot take the name of one
/// that holds files. Answers the new path.
///
/// # Errors
/// Those of renaming.
pub(crate) fn rename_aside(disk: &dyn Disk, path: &Path, suffix: &str) -> io::Result<PathBuf> {
    let mut number = 0;
    loop {
        let aside = layout::aside(path, number, suffix);
        match disk.rename(path, &aside) {
            Err(e) if matches!(e.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => number += 1,
            renamed => return renamed.map(|()| aside),
        }
    }
}

/// Replaces a file as a whole: after a power cut the old or the new bytes are there. Durable once the caller has synced
/// the folder.
pub(crate) fn replace_file(disk: &dyn Disk, path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    prepare_file(disk, path, bytes, durability)?;
    take_name(disk, path)
}

/// The first half of [`replace_file`], which needs the space: the bytes are there, beside the file that they will replace.
pub(crate) fn prepare_file(disk: &dyn Disk, path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let file = disk.open(&temporary(path), Open::Create)?;
    // A leftover is cut; cutting a fresh file would make ext4 write it out at once.
    if file.len()? > 0 {
        file.set_len(0)?;
    }
    file.write_at(&[IoSlice::new(bytes)], 0)?;
    if durability == Durability::Synced {
        file.sync_data()?;
    }
    Ok(())
}

/// The second half of [`replace_file`]: the bytes that were prepared take the file's name.
pub(crate) fn take_name(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    disk.rename(&temporary(path), path)
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

/// Whether [`replace_file`] syncs the new bytes before they take the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The bytes are on stable storage first.
    Synced,
    /// The file can be rebuilt: a power cut may leave it empty or torn.
    Rebuildable,
}
