//! A disk in memory that knows what a power cut would lose.
//!
//! Each file keeps its synced bytes and the writes since, each folder its synced names and the changes since.
//! [`MemoryDisk::power_cut`] answers a disk on which any part of the unsynced may be missing: whole writes, sectors of a
//! write, lengths, names. Changes of one folder are lost from the end, as journaling file systems do; between files and
//! folders there is no order at all.
#![allow(clippy::unwrap_used, reason = "only tests and simulations run on it, with paths and lengths of their own")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::path::{Component, Path};
use std::sync::Arc;

use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;

use super::{DirEntry, Disk, DiskFile, DiskLock, Open};

const SECTOR: usize = 512;
const ROOT: u64 = 0;

/// Clones share the same disk.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone, Default)]
struct State {
    next_id: u64,
    files: BTreeMap<u64, FileState>,
    names: Names,
    synced_names: Names,
    name_changes: Vec<NameChange>,
    locked: bool,
    /// Syncs of files fail as they do on Linux, see [`MemoryDisk::fail_syncs`].
    syncs_fail: bool,
}

type Names = BTreeMap<(u64, String), Node>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    File(u64),
    Dir(u64),
}

#[derive(Debug, Clone)]
struct NameChange {
    dir: u64,
    removed: Option<String>,
    added: Option<(String, Node)>,
}

#[derive(Debug, Clone, Default)]
struct FileState {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    changes: Vec<FileChange>,
}

#[derive(Debug, Clone)]
enum FileChange {
    Write(usize, Vec<u8>),
    Len(usize),
}

impl FileChange {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            FileChange::Write(position, written) => {
                let end = position + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*position..end].copy_from_slice(written);
            }
            FileChange::Len(len) => bytes.resize(*len, 0),
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut Names) {
        if let Some(removed) = &self.removed {
            names.remove(&(self.dir, removed.clone()));
        }
        if let Some((name, node)) = &self.added {
            names.insert((self.dir, name.clone()), *node);
        }
    }
}

impl MemoryDisk {
    /// The disk as it might be after a power cut now. This one stays as it is.
    #[must_use]
    pub fn power_cut(&self, rng: &mut StdRng) -> MemoryDisk {
        let mut state = self.unlocked();
        let mut names = state.synced_names.clone();
        let mut cut_dirs: BTreeMap<u64, bool> = BTreeMap::new();
        let keep_names = rng.random_range(0..=10) as f64 / 10.0;
        for change in &state.name_changes {
            let is_cut = cut_dirs.entry(change.dir).or_default();
            *is_cut = *is_cut || !rng.random_bool(keep_names);
            if !*is_cut {
                change.apply(&mut names);
            }
        }
        let keep = rng.random_range(0..=10) as f64 / 10.0;
        for file in state.files.values_mut() {
            let mut bytes = file.synced.clone();
            for change in &file.changes {
                if let Some(kept) = weather(change, keep, rng) {
                    kept.apply(&mut bytes);
                }
            }
            *file = FileState { bytes: bytes.clone(), synced: bytes, changes: Vec::new() };
        }
        state.names.clone_from(&names);
        state.synced_names = names;
        state.name_changes.clear();
        MemoryDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// The disk as a process finds it that was killed with everything written before: nothing is lost. What is left of the
    /// killed one writes to the disk of before.
    #[must_use]
    pub fn killed(&self) -> MemoryDisk {
        MemoryDisk { state: Arc::new(Mutex::new(self.unlocked())) }
    }

    fn unlocked(&self) -> State {
        let mut state = self.state.lock().clone();
        state.locked = false;
        state.syncs_fail = false;
        state
    }

    /// From now on, or no longer, the device takes no writes: a sync fails, and what it should have written stays in the page
    /// cache and counts as written. Later syncs have nothing to do and succeed; only a power cut shows what is missing.
    #[cfg(test)]
    pub(crate) fn fail_syncs(&self, fail: bool) {
        self.state.lock().syncs_fail = fail;
    }

    /// The disk as it is after a power cut that lost all that was not synced.
    #[cfg(test)]
    pub(crate) fn unsynced_lost(&self) -> MemoryDisk {
        let mut state = self.unlocked();
        state.names = state.synced_names.clone();
        state.name_changes.clear();
        for file in state.files.values_mut() {
            *file = FileState { bytes: file.synced.clone(), synced: file.synced.clone(), changes: Vec::new() };
        }
        MemoryDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// Flips bits of a file, for tests of damage.
    #[cfg(test)]
    pub(crate) fn damage(&self, path: &Path, position: usize, mask: u8) {
        let mut state = self.state.lock();
        let id = state.file(path).unwrap();
        state.files.get_mut(&id).unwrap().bytes[position] ^= mask;
    }

    /// The bytes of a file.
    #[cfg(test)]
    pub(crate) fn bytes(&self, path: &Path) -> Vec<u8> {
        let state = self.state.lock();
        let id = state.file(path).unwrap();
        state.files[&id].bytes.clone()
    }
}

/// What a power cut leaves of one change.
fn weather(change: &FileChange, keep: f64, rng: &mut StdRng) -> Option<FileChange> {
    if rng.random_bool(keep) {
        return Some(change.clone());
    }
    match change {
        FileChange::Write(position, written) if rng.random_bool(0.5) => {
            // Some sectors got there.
            let sectors = written.len().div_ceil(SECTOR);
            let from = rng.random_range(0..=sectors) * SECTOR;
            let to = rng.random_range(0..=sectors) * SECTOR;
            let (from, to) = (from.min(written.len()), to.min(written.len()));
            (from < to).then(|| FileChange::Write(position + from, written[from..to].to_vec()))
        }
        _ => None,
    }
}

impl State {
    fn resolve(&self, path: &Path) -> io::Result<Node> {
        let mut node = Node::Dir(ROOT);
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let Node::Dir(dir) = node else { return Err(ErrorKind::NotADirectory.into()) };
            let key = (dir, name.to_str().unwrap().to_owned());
            node = *self.names.get(&key).ok_or(ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    fn dir(&self, path: &Path) -> io::Result<u64> {
        match self.resolve(path)? {
            Node::Dir(id) => Ok(id),
            Node::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn file(&self, path: &Path) -> io::Result<u64> {
        match self.resolve(path)? {
            Node::File(id) => Ok(id),
            Node::Dir(_) => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn parent(&self, path: &Path) -> io::Result<(u64, String)> {
        let dir = self.dir(path.parent().ok_or(ErrorKind::InvalidInput)?)?;
        Ok((dir, path.file_name().ok_or(ErrorKind::InvalidInput)?.to_str().unwrap().to_owned()))
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

impl Disk for MemoryDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let mut dir = ROOT;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let name = name.to_str().unwrap().to_owned();
            dir = match state.names.get(&(dir, name.clone())) {
                Some(Node::Dir(id)) => *id,
                Some(Node::File(_)) => return Err(ErrorKind::AlreadyExists.into()),
                None => {
                    let id = state.fresh_id();
                    state.change(NameChange { dir, removed: None, added: Some((name, Node::Dir(id))) });
                    id
                }
            };
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.state.lock();
        let dir = state.dir(path)?;
        let inside = state.names.range((dir, String::new())..(dir + 1, String::new()));
        Ok(inside
            .map(|((_, name), node)| DirEntry { name: name.clone(), is_dir: matches!(node, Node::Dir(_)) })
            .collect())
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        let id = match state.file(path) {
            Err(e) if e.kind() == ErrorKind::NotFound && how == Open::Create => {
                let (dir, name) = state.parent(path)?;
                let id = state.fresh_id();
                state.files.insert(id, FileState::default());
                state.change(NameChange { dir, removed: None, added: Some((name, Node::File(id))) });
                id
            }
            found => found?,
        };
        Ok(Arc::new(MemoryFile { state: Arc::clone(&self.state), id }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let node = state.resolve(from)?;
        if let (Node::Dir(_), Ok(Node::Dir(there))) = (node, state.resolve(to))
            && state.names.range((there, String::new())..(there + 1, String::new())).next().is_some()
        {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        let ((dir, old), (to_dir, new)) = (state.parent(from)?, state.parent(to)?);
        assert_eq!(dir, to_dir, "only renames within a folder are used");
        state.change(NameChange { dir, removed: Some(old), added: Some((new, node)) });
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.file(path)?;
        let (dir, name) = state.parent(path)?;
        state.change(NameChange { dir, removed: Some(name), added: None });
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        if !self.list(path)?.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        let mut state = self.state.lock();
        let (dir, name) = state.parent(path)?;
        state.change(NameChange { dir, removed: Some(name), added: None });
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let dir = state.dir(path)?;
        let (synced, rest): (Vec<_>, Vec<_>) = state.name_changes.drain(..).partition(|change| change.dir == dir);
        synced.iter().for_each(|change| change.apply(&mut state.synced_names));
        state.name_changes = rest;
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.open(path, Open::Create)?;
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.locked, true) {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemoryLock(Arc::clone(&self.state))))
    }
}

#[derive(Debug)]
struct MemoryLock(Arc<Mutex<State>>);

impl DiskLock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.0.lock().locked = false;
    }
}

#[derive(Debug)]
struct MemoryFile {
    state: Arc<Mutex<State>>,
    id: u64,
}

impl MemoryFile {
    fn with<T>(&self, work: impl FnOnce(&mut FileState) -> T) -> T {
        work(self.state.lock().files.get_mut(&self.id).unwrap())
    }

    fn change(&self, change: FileChange) {
        self.with(|file| {
            change.apply(&mut file.bytes);
            file.changes.push(change);
        });
    }
}

impl DiskFile for MemoryFile {
    fn read_into(&self, buffer: &mut Vec<u8>, len: usize, position: u64) -> io::Result<usize> {
        self.with(|file| {
            let start = usize::try_from(position).unwrap().min(file.bytes.len());
            let end = start.saturating_add(len).min(file.bytes.len());
            buffer.extend_from_slice(&file.bytes[start..end]);
            Ok(end - start)
        })
    }

    fn write_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.change(FileChange::Write(usize::try_from(position).unwrap(), bytes));
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(FileChange::Len(usize::try_from(len).unwrap()));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|file| file.bytes.len() as u64))
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.state.lock().syncs_fail {
            let had_changes = self.with(|file| !std::mem::take(&mut file.changes).is_empty());
            return if had_changes { Err(io::Error::other("the device does not write")) } else { Ok(()) };
        }
        self.with(|file| {
            for change in std::mem::take(&mut file.changes) {
                change.apply(&mut file.synced);
            }
        });
        Ok(())
    }

    fn std_file(&self) -> io::Result<Arc<File>> {
        let bytes = self.with(|file| file.bytes.clone());
        let mut copy = File::from(rustix::fs::memfd_create("segment", rustix::fs::MemfdFlags::CLOEXEC)?);
        copy.write_all(&bytes)?;
        Ok(Arc::new(copy))
    }
}
