//! Folders and files, twice: as the process sees them and as the device holds them.
//!
//! The bytes of a file become durable by a sync of the file ([`Pages`]), its names by a sync of their folder, and never the
//! one by the other: a file that was synced in a folder that was not is gone after a power cut. A rename is one change, also
//! between two folders: the sync of either makes it durable, with the earlier changes of the same names.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use fuser::Errno;
use rand::Rng;

use crate::pages::{PAGE, Pages};

/// Number of a file or folder. It is never used again.
pub(crate) type Ino = u64;
/// The folder that everything lies in.
pub(crate) const ROOT: Ino = 1;

type Names = BTreeMap<OsString, Ino>;

/// A file or a folder.
#[derive(Debug)]
pub(crate) enum Node {
    /// A file.
    File(Pages),
    /// A folder.
    Folder {
        /// The folder that it lies in, as the process sees it.
        parent: Ino,
    },
}

/// A change of names that is not durable.
#[derive(Debug, Clone)]
struct Change {
    /// Each folder and name that it touches, with what is there afterwards.
    sets: Vec<(Ino, OsString, Option<Ino>)>,
}

impl Change {
    fn touches(&self, folder: Ino) -> bool {
        self.sets.iter().any(|(of, ..)| *of == folder)
    }

    fn keys(&self) -> impl Iterator<Item = (Ino, OsString)> {
        self.sets.iter().map(|(folder, name, _)| (*folder, name.clone()))
    }
}

/// All files and folders.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: BTreeMap<Ino, Node>,
    live: BTreeMap<Ino, Names>,
    durable: BTreeMap<Ino, Names>,
    unsynced: Vec<Change>,
    next: Ino,
    /// Bytes of the device.
    capacity: u64,
}

impl Tree {
    /// An empty device of `capacity` bytes.
    pub(crate) fn new(capacity: u64) -> Self {
        Tree {
            nodes: BTreeMap::from([(ROOT, Node::Folder { parent: ROOT })]),
            live: BTreeMap::from([(ROOT, Names::new())]),
            durable: BTreeMap::from([(ROOT, Names::new())]),
            unsynced: Vec::new(),
            next: ROOT + 1,
            capacity,
        }
    }

    /// Bytes of the device, and those that are in use.
    pub(crate) fn room(&self) -> (u64, u64) {
        let used = self.nodes.values().map(|node| match node {
            Node::File(pages) => pages.allocated(),
            Node::Folder { .. } => PAGE,
        });
        (self.capacity, used.sum())
    }

    /// Gives the device another size.
    pub(crate) fn set_capacity(&mut self, bytes: u64) {
        self.capacity = bytes;
    }

    /// A file or folder.
    pub(crate) fn node(&self, ino: Ino) -> Result<&Node, Errno> {
        self.nodes.get(&ino).ok_or(Errno::ENOENT)
    }

    /// A file's bytes.
    pub(crate) fn file(&mut self, ino: Ino) -> Result<&mut Pages, Errno> {
        match self.nodes.get_mut(&ino) {
            Some(Node::File(pages)) => Ok(pages),
            Some(Node::Folder { .. }) => Err(Errno::EISDIR),
            None => Err(Errno::ENOENT),
        }
    }

    /// How many names a file or folder has.
    pub(crate) fn links(&self, ino: Ino) -> u32 {
        let names = self.live.values().flat_map(Names::values).filter(|named| **named == ino).count();
        u32::try_from(names).unwrap_or(u32::MAX)
    }

    /// Writes to a file, when there is room for it.
    pub(crate) fn write(&mut self, ino: Ino, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.make_room(ino, offset, data.len() as u64)?;
        self.file(ino)?.write(offset, data);
        Ok(())
    }

    /// Allocates a part of a file.
    pub(crate) fn allocate(&mut self, ino: Ino, offset: u64, len: u64, grow: bool) -> Result<(), Errno> {
        self.make_room(ino, offset, len)?;
        let file = self.file(ino)?;
        file.allocate(offset, len);
        if grow {
            file.grow(offset.saturating_add(len));
        }
        Ok(())
    }

    fn make_room(&mut self, ino: Ino, offset: u64, len: u64) -> Result<(), Errno> {
        let growth = self.file(ino)?.growth(offset, len);
        let (capacity, used) = self.room();
        if growth > 0 && used + growth > capacity { Err(Errno::ENOSPC) } else { Ok(()) }
    }

    /// What a name in a folder stands for.
    pub(crate) fn lookup(&self, folder: Ino, name: &OsStr) -> Result<Ino, Errno> {
        self.names(folder)?.get(name).copied().ok_or(Errno::ENOENT)
    }

    /// The names in a folder.
    pub(crate) fn names(&self, folder: Ino) -> Result<&Names, Errno> {
        self.live.get(&folder).ok_or(Errno::ENOTDIR)
    }

    /// The path of a file or folder, for the rules of faults; empty when it has no name any more.
    pub(crate) fn path(&self, ino: Ino) -> String {
        let named = |(folder, names): (&Ino, &Names)| {
            let name = names.iter().find(|(_, named)| **named == ino)?.0;
            Some((*folder, name.to_string_lossy().into_owned()))
        };
        match self.live.iter().find_map(named) {
            Some((folder, name)) if folder == ROOT => format!("/{name}"),
            Some((folder, name)) => format!("{}/{name}", self.path(folder)),
            None => String::new(),
        }
    }

    /// Makes an empty file or folder.
    pub(crate) fn create(&mut self, folder: Ino, name: &OsStr, is_folder: bool) -> Result<Ino, Errno> {
        if self.names(folder)?.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let ino = self.next;
        self.next += 1;
        if is_folder {
            self.nodes.insert(ino, Node::Folder { parent: folder });
            self.live.insert(ino, Names::new());
            self.durable.insert(ino, Names::new());
        } else {
            self.nodes.insert(ino, Node::File(Pages::default()));
        }
        self.change(vec![(folder, name.to_owned(), Some(ino))]);
        Ok(ino)
    }

    /// Gives a file a further name.
    pub(crate) fn link(&mut self, ino: Ino, folder: Ino, name: &OsStr) -> Result<(), Errno> {
        self.file(ino)?;
        if self.names(folder)?.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        self.change(vec![(folder, name.to_owned(), Some(ino))]);
        Ok(())
    }

    /// Removes a name; its file stays as long as it is open or named elsewhere.
    pub(crate) fn unlink(&mut self, folder: Ino, name: &OsStr) -> Result<(), Errno> {
        let ino = self.lookup(folder, name)?;
        if self.names(ino).is_ok_and(|names| !names.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        self.change(vec![(folder, name.to_owned(), None)]);
        Ok(())
    }

    /// Moves a name to another, whose file or empty folder it replaces.
    pub(crate) fn rename(&mut self, from: (Ino, &OsStr), to: (Ino, &OsStr), replace: bool) -> Result<(), Errno> {
        let ino = self.lookup(from.0, from.1)?;
        let replaced = self.names(to.0)?.get(to.1).copied();
        if replaced == Some(ino) {
            return Ok(());
        }
        if let Some(replaced) = replaced {
            if !replace {
                return Err(Errno::EEXIST);
            }
            if self.names(replaced).is_ok_and(|names| !names.is_empty()) {
                return Err(Errno::ENOTEMPTY);
            }
        }
        if let Some(Node::Folder { parent }) = self.nodes.get_mut(&ino) {
            *parent = to.0;
        }
        self.change(vec![(from.0, from.1.to_owned(), None), (to.0, to.1.to_owned(), Some(ino))]);
        Ok(())
    }

    fn change(&mut self, sets: Vec<(Ino, OsString, Option<Ino>)>) {
        let change = Change { sets };
        apply(&mut self.live, &change);
        self.unsynced.push(change);
    }

    /// Makes the names in a folder durable, and what they need.
    pub(crate) fn sync_folder(&mut self, folder: Ino) {
        let mut needed: BTreeSet<(Ino, OsString)> = BTreeSet::new();
        let mut chosen = vec![false; self.unsynced.len()];
        for (at, change) in self.unsynced.iter().enumerate().rev() {
            if change.touches(folder) || change.keys().any(|key| needed.contains(&key)) {
                chosen[at] = true;
                needed.extend(change.keys());
            }
        }
        let mut later = Vec::new();
        for (change, is_chosen) in std::mem::take(&mut self.unsynced).into_iter().zip(chosen) {
            if is_chosen {
                apply(&mut self.durable, &change);
            } else {
                later.push(change);
            }
        }
        self.unsynced = later;
    }

    /// The power goes: names and bytes that are not durable are gone. With `torn`, a random part of the bytes is there.
    pub(crate) fn cut_power(&mut self, mut torn: Option<&mut impl Rng>) {
        self.unsynced.clear();
        self.live = self.durable.clone();
        for node in self.nodes.values_mut() {
            if let Node::File(pages) = node {
                pages.cut_power(torn.as_deref_mut());
            }
        }
        let parents: Vec<(Ino, Ino)> =
            self.live.iter().flat_map(|(folder, names)| names.values().map(|ino| (*ino, *folder))).collect();
        for (ino, folder) in parents {
            if let Some(Node::Folder { parent }) = self.nodes.get_mut(&ino) {
                *parent = folder;
            }
        }
        self.forget_unnamed(&BTreeSet::new());
    }

    /// Frees what neither the process nor the device has a name for; `open` files stay.
    pub(crate) fn forget_unnamed(&mut self, open: &BTreeSet<Ino>) {
        let named: BTreeSet<Ino> =
            self.live.values().chain(self.durable.values()).flat_map(Names::values).copied().collect();
        let is_needed = |ino: &Ino| *ino == ROOT || named.contains(ino) || open.contains(ino);
        self.nodes.retain(|ino, _| is_needed(ino));
        self.live.retain(|ino, _| is_needed(ino));
        self.durable.retain(|ino, _| is_needed(ino));
    }
}

fn apply(folders: &mut BTreeMap<Ino, Names>, change: &Change) {
    for (folder, name, ino) in &change.sets {
        let names = folders.entry(*folder).or_default();
        match ino {
            Some(ino) => drop(names.insert(name.clone(), *ino)),
            None => drop(names.remove(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;

    use super::*;

    fn cut(tree: &mut Tree) {
        tree.cut_power(None::<&mut SmallRng>);
    }

    fn synced_file(tree: &mut Tree, folder: Ino, name: &str, data: &[u8]) -> Ino {
        let ino = tree.create(folder, OsStr::new(name), false).unwrap();
        tree.write(ino, 0, data).unwrap();
        let pages = tree.file(ino).unwrap();
        let unsynced = pages.begin_sync();
        pages.end_sync(unsynced);
        ino
    }

    #[test]
    fn a_synced_file_in_an_unsynced_folder_is_lost() {
        let mut tree = Tree::new(1 << 20);
        synced_file(&mut tree, ROOT, "lost", b"x");
        tree.sync_folder(ROOT);
        synced_file(&mut tree, ROOT, "later", b"x");
        cut(&mut tree);
        assert!(tree.lookup(ROOT, OsStr::new("lost")).is_ok());
        assert_eq!(tree.lookup(ROOT, OsStr::new("later")), Err(Errno::ENOENT));
    }

    #[test]
    fn a_rename_between_folders_leaves_one_name_whichever_is_synced() {
        for synced_first in [true, false] {
            let mut tree = Tree::new(1 << 20);
            let (from, to) = (OsStr::new("from"), OsStr::new("to"));
            let [from_folder, to_folder] = [from, to].map(|name| tree.create(ROOT, name, true).unwrap());
            tree.sync_folder(ROOT);
            let file = synced_file(&mut tree, from_folder, "a", b"x");
            tree.rename((from_folder, OsStr::new("a")), (to_folder, OsStr::new("b")), true).unwrap();
            tree.sync_folder(if synced_first { from_folder } else { to_folder });
            cut(&mut tree);
            assert_eq!(tree.lookup(from_folder, OsStr::new("a")), Err(Errno::ENOENT));
            assert_eq!(tree.lookup(to_folder, OsStr::new("b")), Ok(file));
        }
    }

    #[test]
    fn an_unsynced_removal_comes_back() {
        let mut tree = Tree::new(1 << 20);
        let file = synced_file(&mut tree, ROOT, "a", b"x");
        tree.sync_folder(ROOT);
        tree.unlink(ROOT, OsStr::new("a")).unwrap();
        tree.forget_unnamed(&BTreeSet::new());
        cut(&mut tree);
        assert_eq!(tree.lookup(ROOT, OsStr::new("a")), Ok(file));
        assert_eq!(tree.file(file).unwrap().read(0, 1), b"x");
    }

    #[test]
    fn a_full_device_takes_what_needs_no_room() {
        let mut tree = Tree::new(3 * PAGE);
        let ino = tree.create(ROOT, OsStr::new("a"), false).unwrap();
        tree.write(ino, 0, &[1; 2 * 4096]).unwrap();
        assert_eq!(tree.write(ino, 2 * PAGE, b"x"), Err(Errno::ENOSPC));
        tree.write(ino, PAGE, b"again").unwrap();
        tree.set_capacity(4 * PAGE);
        tree.write(ino, 2 * PAGE, b"x").unwrap();
    }
}
