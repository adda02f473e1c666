//! The device as a mounted file system: requests of the kernel on one side, [`Tree`] and [`Faults`] on the other.
//!
//! Files are opened for direct I/O and names are not cached by the kernel, so each call of the process arrives here. A call
//! that comes late waits in a thread of its own; the state is never locked meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::faults::{Call, Effect, Faults};
use crate::pages::PAGE;
use crate::tree::{Ino, Node, Tree};

/// The kernel may keep no answer.
const TTL: Duration = Duration::ZERO;
/// Longest name, in bytes.
const NAME_MAX: u32 = 255;

/// The device. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    state: Arc<Mutex<State>>,
}

/// What a device is made of.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) tree: Tree,
    pub(crate) faults: Faults,
    /// How often each file is open.
    open: BTreeMap<Ino, u32>,
    /// The power is off: every call fails.
    is_off: bool,
    /// Power cuts so far: what began before one does not end behind it.
    cuts: u64,
}

impl State {
    /// The power goes. A seed lets a random part of the unsynced bytes become durable first.
    pub(crate) fn cut_power(&mut self, seed: Option<u64>) {
        self.is_off = true;
        self.cuts += 1;
        self.open.clear();
        self.tree.cut_power(seed.map(SmallRng::seed_from_u64).as_mut());
    }

    /// The power is back.
    pub(crate) fn restore_power(&mut self) {
        self.is_off = false;
    }

    /// The file or folder of a path.
    pub(crate) fn find(&self, path: &str) -> Result<Ino, Errno> {
        let names = path.split('/').filter(|name| !name.is_empty());
        names.into_iter().try_fold(crate::tree::ROOT, |folder, name| self.tree.lookup(folder, OsStr::new(name)))
    }

    fn is_on(&self) -> Result<(), Errno> {
        if self.is_off { Err(Errno::EIO) } else { Ok(()) }
    }

    /// How the rules treat a call for a path; an error when it fails at once.
    fn judge(&mut self, call: Call, path: impl FnOnce(&Tree) -> String) -> Result<Duration, Errno> {
        self.is_on()?;
        if !self.faults.concern(call) {
            return Ok(Duration::ZERO);
        }
        match self.faults.effect(call, &path(&self.tree)) {
            None => Ok(Duration::ZERO),
            Some(Effect::Delay(delay)) => Ok(delay),
            Some(Effect::Fail) => Err(Errno::EIO),
        }
    }

    fn attr(&self, ino: Ino) -> Result<FileAttr, Errno> {
        let (size, blocks, kind, perm) = match self.tree.node(ino)? {
            Node::File(pages) => (pages.size(), pages.allocated() / 512, FileType::RegularFile, 0o644),
            Node::Folder { .. } => (PAGE, PAGE / 512, FileType::Directory, 0o755),
        };
        let time = UNIX_EPOCH;
        let nlink = if kind == FileType::Directory { 2 } else { self.tree.links(ino) };
        Ok(FileAttr {
            ino: INodeNo(ino),
            size,
            blocks,
            atime: time,
            mtime: SystemTime::now(),
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn forget_unnamed(&mut self) {
        let open: BTreeSet<Ino> = self.open.keys().copied().collect();
        self.tree.forget_unnamed(&open);
    }
}

fn child(tree: &Tree, folder: Ino, name: &OsStr) -> String {
    format!("{}/{}", tree.path(folder), name.to_string_lossy())
}

/// Runs `answer` now, or later in a thread of its own.
fn after(delay: Duration, answer: impl FnOnce() + Send + 'static) {
    if delay.is_zero() {
        answer();
    } else {
        std::thread::spawn(move || {
            std::thread::sleep(delay);
            answer();
        });
    }
}

fn done(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Device {
    /// An empty device.
    pub(crate) fn new(capacity: u64) -> Self {
        let state = State {
            tree: Tree::new(capacity),
            faults: Faults::default(),
            open: BTreeMap::new(),
            is_off: false,
            cuts: 0,
        };
        Device { state: Arc::new(Mutex::new(state)) }
    }

    /// Looks at the device, or changes it, between two calls.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock())
    }

    /// Does what changes names; `reply` when it is done.
    fn change(
        &self,
        path: impl FnOnce(&Tree) -> String,
        change: impl FnOnce(&mut State) -> Result<(), Errno> + Send + 'static,
        reply: impl FnOnce(Result<(), Errno>) + Send + 'static,
    ) {
        match self.with(|state| state.judge(Call::Change, path)) {
            Err(error) => reply(Err(error)),
            Ok(delay) => {
                let device = self.clone();
                after(delay, move || {
                    reply(device.with(|state| state.is_on().and_then(|()| change(state))));
                });
            }
        }
    }

    fn create_node(&self, place: (Ino, &OsStr), is_folder: bool, reply: ReplyEntry) {
        let (folder, name) = (place.0, place.1.to_owned());
        let device = self.clone();
        let path = |tree: &Tree| child(tree, place.0, place.1);
        let kept = name.clone();
        self.change(
            path,
            move |state| state.tree.create(folder, &name, is_folder).map(drop),
            move |made| match made.and_then(|()| device.with(|state| state.attr(state.tree.lookup(folder, &kept)?))) {
                Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
                Err(error) => reply.error(error),
            },
        );
    }

    fn sync_file(&self, ino: Ino, reply: ReplyEmpty) {
        let begun = self.with(|state| {
            let verdict = state.judge(Call::Sync, |tree| tree.path(ino));
            // Also a sync that fails has looked at all pages: they count as clean afterwards.
            let unsynced = state.tree.file(ino)?.begin_sync();
            Ok((verdict?, unsynced, state.cuts))
        });
        match begun {
            Err(error) => reply.error(error),
            Ok((delay, unsynced, cuts)) => {
                let device = self.clone();
                after(delay, move || {
                    let ended = device.with(|state| {
                        if state.cuts != cuts {
                            return Err(Errno::EIO);
                        }
                        state.tree.file(ino)?.end_sync(unsynced);
                        Ok(())
                    });
                    done(reply, ended);
                });
            }
        }
    }

    fn resize(&self, ino: Ino, size: u64) -> Result<(), Errno> {
        self.with(|state| {
            // A delay of writes is not for this rare call.
            state.judge(Call::Write, |tree| tree.path(ino))?;
            state.tree.file(ino)?.set_size(size);
            Ok(())
        })
    }
}

impl Filesystem for Device {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.with(|state| {
            state.is_on()?;
            state.attr(state.tree.lookup(parent.0, name)?)
        });
        match found {
            Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.with(|state| state.is_on().and_then(|()| state.attr(ino.0))) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let resized = size.map_or(Ok(()), |size| self.resize(ino.0, size));
        match resized.and_then(|()| self.with(|state| state.attr(ino.0))) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        self.create_node((parent.0, name), true, reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let owned = name.to_owned();
        let unlink = move |state: &mut State| {
            state.tree.unlink(parent.0, &owned)?;
            state.forget_unnamed();
            Ok(())
        };
        self.change(|tree| child(tree, parent.0, name), unlink, |result| done(reply, result));
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.unlink(request, parent, name, reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if flags.intersects(RenameFlags::RENAME_EXCHANGE | RenameFlags::RENAME_WHITEOUT) {
            reply.error(Errno::EINVAL);
            return;
        }
        let replace = !flags.contains(RenameFlags::RENAME_NOREPLACE);
        let (from, to) = (name.to_owned(), newname.to_owned());
        let rename = move |state: &mut State| {
            state.tree.rename((parent.0, &from), (newparent.0, &to), replace)?;
            state.forget_unnamed();
            Ok(())
        };
        self.change(|tree| child(tree, newparent.0, newname), rename, |result| done(reply, result));
    }

    fn link(&self, _: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let name = newname.to_owned();
        let device = self.clone();
        let link = move |state: &mut State| state.tree.link(ino.0, newparent.0, &name);
        self.change(
            |tree| child(tree, newparent.0, newname),
            link,
            move |linked| match linked.and_then(|()| device.with(|state| state.attr(ino.0))) {
                Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
                Err(error) => reply.error(error),
            },
        );
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let opened = self.with(|state| {
            state.is_on()?;
            state.tree.file(ino.0)?;
            *state.open.entry(ino.0).or_default() += 1;
            Ok(())
        });
        match opened {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(error),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let (device, owned) = (self.clone(), name.to_owned());
        let kept = owned.clone();
        let create = move |state: &mut State| {
            let ino = state.tree.create(parent.0, &owned, false)?;
            *state.open.entry(ino).or_default() += 1;
            Ok(())
        };
        self.change(
            |tree| child(tree, parent.0, name),
            create,
            move |made| match made.and_then(|()| device.with(|state| state.attr(state.tree.lookup(parent.0, &kept)?))) {
                Ok(attr) => reply.created(&TTL, &attr, Generation(0), FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
                Err(error) => reply.error(error),
            },
        );
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.with(|state| {
            let delay = state.judge(Call::Read, |tree| tree.path(ino.0))?;
            Ok((delay, state.tree.file(ino.0)?.read(offset, u64::from(size))))
        });
        match read {
            Ok((delay, bytes)) => after(delay, move || reply.data(&bytes)),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.with(|state| {
            let delay = state.judge(Call::Write, |tree| tree.path(ino.0))?;
            state.tree.write(ino.0, offset, data)?;
            Ok((delay, u32::try_from(data.len()).map_err(|_| Errno::EFBIG)?))
        });
        match written {
            Ok((delay, len)) => after(delay, move || reply.written(len)),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.with(|state| {
            if let Some(count) = state.open.get_mut(&ino.0) {
                *count -= 1;
                if *count == 0 {
                    state.open.remove(&ino.0);
                    state.forget_unnamed();
                }
            }
        });
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.sync_file(ino.0, reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        match self.with(|state| Ok((state.judge(Call::SyncFolder, |tree| tree.path(ino.0))?, state.cuts))) {
            Err(error) => reply.error(error),
            Ok((delay, cuts)) => {
                let device = self.clone();
                after(delay, move || {
                    let synced = device.with(|state| {
                        if state.cuts != cuts {
                            return Err(Errno::EIO);
                        }
                        state.tree.sync_folder(ino.0);
                        Ok(())
                    });
                    done(reply, synced);
                });
            }
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.with(|state| {
            state.is_on()?;
            let Node::Folder { parent } = state.tree.node(ino.0)? else { return Err(Errno::ENOTDIR) };
            let mut entries =
                vec![(ino.0, FileType::Directory, ".".into()), (*parent, FileType::Directory, "..".into())];
            for (name, named) in state.tree.names(ino.0)? {
                let is_folder = matches!(state.tree.node(*named), Ok(Node::Folder { .. }));
                let kind = if is_folder { FileType::Directory } else { FileType::RegularFile };
                entries.push((*named, kind, name.clone()));
            }
            Ok(entries)
        });
        match listed {
            Err(error) => reply.error(error),
            Ok(entries) => {
                let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
                for (at, (ino, kind, name)) in entries.into_iter().enumerate().skip(skipped) {
                    if reply.add(INodeNo(ino), at as u64 + 1, kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        // FALLOC_FL_KEEP_SIZE; holes and ranges of zeros are not supported.
        let grow = mode & 1 == 0;
        if mode & !1 != 0 {
            reply.error(Errno::EOPNOTSUPP);
            return;
        }
        let allocated = self.with(|state| {
            state.judge(Call::Write, |tree| tree.path(ino.0))?;
            state.tree.allocate(ino.0, offset, length, grow)
        });
        done(reply, allocated);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (capacity, used) = self.with(|state| state.tree.room());
        let free = capacity.saturating_sub(used) / PAGE;
        reply.statfs(capacity / PAGE, free, free, 1 << 20, 1 << 20, 4096, NAME_MAX, 4096);
    }
}
