//! A folder as an object store whose writes survive a power cut.
//!
//! `object_store`'s `LocalFileSystem` (0.13.2, read in its source) syncs neither files nor folders, so writes are made here:
//!
//! ```text
//! staged file NAME#N, new inode ─▶ written ─▶ file synced ─▶ linked or renamed to NAME ─▶ folders synced, up to the root
//! ```
//!
//! - A put succeeds only when syncs that began after its own write have ended with success: of the file and of every folder
//!   above it. After a failed sync Linux marks the pages clean, and a second sync of the same file proves nothing: each try
//!   writes a new file.
//! - Content is synced before it gets its name. An object that can be read may still be missing after a power cut, if the
//!   sync of its folder failed or is under way: its presence proves nothing ([`super::Store`] writes it again).
//! - A write runs to its end on a thread of its own, also when its caller has given up: it then owns its own file and syncs,
//!   and its result is dropped.
//!
//! A crash leaves nothing, a complete object that no manifest names (the sweep removes it), or a staged file that listings
//! hide, which the sweep removes too ([`super::staged`]). Deletes are not synced: an object that comes back is an orphan, and
//! swept again.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

/// Makes a file or a folder durable, as `fsync` does. Gets the open file and its path.
pub type SyncCall = Arc<dyn Fn(&File, &FsPath) -> io::Result<()> + Send + Sync>;

/// A folder whose writes are durable when they return.
#[derive(Debug)]
pub struct DurableLocal {
    inner: Arc<LocalFileSystem>,
    folder: Arc<Folder>,
}

impl DurableLocal {
    /// Objects below the folder `root`, which is created when missing.
    ///
    /// # Errors
    /// When the folder cannot be created or opened.
    pub fn new(root: &FsPath) -> Result<Self> {
        DurableLocal::with_sync(root, Arc::new(|file, _| file.sync_all()))
    }

    /// As [`Self::new`], on a device whose syncs are `sync`: for tests of devices that fail.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_sync(root: &FsPath, sync: SyncCall) -> Result<Self> {
        let present = root.ancestors().find(|folder| folder.exists()).map(FsPath::to_owned);
        fs::create_dir_all(root).map_err(|e| io_error("create", root, e))?;
        let root = root.canonicalize().map_err(|e| io_error("open", root, e))?;
        let inner = LocalFileSystem::new_with_prefix(&root)?.with_automatic_cleanup(true);
        let folder = Folder { root, sync };
        if let Some(present) = present.and_then(|folder| folder.canonicalize().ok()) {
            folder.sync_folders(&folder.root, &present)?;
        }
        Ok(DurableLocal { inner: Arc::new(inner), folder: Arc::new(folder) })
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &FsPath {
        &self.folder.root
    }

    async fn put_result(&self, location: &Path) -> Result<PutResult> {
        let meta = self.inner.head(location).await?;
        Ok(PutResult { e_tag: meta.e_tag, version: None })
    }
}

/// Writes files that survive a power cut. Its calls block.
struct Folder {
    root: PathBuf,
    sync: SyncCall,
}

impl Folder {
    /// Gives a written file its name, durably.
    fn publish(&self, mut staged: Staged, mode: &PutMode) -> Result<()> {
        self.sync(&staged.file, &staged.path)?;
        staged.move_to_target(mode)?;
        self.sync_folders(&staged.target, &self.root)
    }

    /// Syncs the folders above `path` up to `top`: an entry is only as durable as its folder.
    fn sync_folders(&self, path: &FsPath, top: &FsPath) -> Result<()> {
        for folder in path.ancestors().skip(1).take_while(|folder| folder.starts_with(top)) {
            let opened = File::open(folder).map_err(|e| io_error("open", folder, e))?;
            self.sync(&opened, folder)?;
        }
        Ok(())
    }

    fn sync(&self, file: &File, path: &FsPath) -> Result<()> {
        (self.sync)(file, path).map_err(|error| {
            metrics::counter!("firn_object_store_sync_failures_total").increment(1);
            tracing::warn!(path = %path.display(), %error, "sync of the object store's folder failed; the object does not count");
            io_error("sync", path, error)
        })
    }
}

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Folder").field("root", &self.root).finish_non_exhaustive()
    }
}

/// A new file beside its target, under a name that listings hide. It is removed unless it gets its name.
#[derive(Debug)]
struct Staged {
    file: Arc<File>,
    path: PathBuf,
    target: PathBuf,
    /// True once the staged name is gone: another write may use it.
    is_named: bool,
}

impl Staged {
    fn create(target: PathBuf) -> Result<Staged> {
        for number in 1_u64.. {
            let mut path = target.clone().into_os_string();
            path.push(format!("#{number}"));
            let path = PathBuf::from(path);
            match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Staged { file: Arc::new(file), path, target, is_named: false }),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                // The folder is new, or its last object was just deleted: the same number is tried once more.
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    let folder = target.parent().unwrap_or(&target);
                    fs::create_dir_all(folder).map_err(|e| io_error("create", folder, e))?;
                }
                Err(e) => return Err(io_error("create", &path, e)),
            }
        }
        Err(io_error("create", &target, ErrorKind::AlreadyExists.into()))
    }

    fn write(&self, payload: &PutPayload) -> Result<()> {
        let write = |part: &Bytes| (&*self.file).write_all(part);
        payload.iter().try_for_each(write).map_err(|e| io_error("write", &self.path, e))
    }

    fn move_to_target(&mut self, mode: &PutMode) -> Result<()> {
        let is_link = matches!(mode, PutMode::Create);
        let moved =
            if is_link { fs::hard_link(&self.path, &self.target) } else { fs::rename(&self.path, &self.target) };
        match moved {
            Err(source) if is_link && source.kind() == ErrorKind::AlreadyExists => {
                let path = self.target.display().to_string();
                return Err(object_store::Error::AlreadyExists { path, source: Box::new(source) });
            }
            moved => moved.map_err(|e| io_error("name", &self.target, e))?,
        }
        self.is_named = !is_link;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.is_named {
            // What cannot be removed is swept.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn io_error(doing: &str, path: &FsPath, error: io::Error) -> object_store::Error {
    let text = format!("cannot {doing} {}: {error}", path.display());
    object_store::Error::Generic { store: "DurableLocal", source: io::Error::new(error.kind(), text).into() }
}

impl fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file://{}", self.folder.root.display())
    }
}

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if matches!(options.mode, PutMode::Update(_)) || !options.attributes.is_empty() {
            let operation = "an update, or a put with attributes".to_owned();
            return Err(object_store::Error::NotImplemented { operation, implementer: self.to_string() });
        }
        let (target, folder) = (self.inner.path_to_filesystem(location)?, Arc::clone(&self.folder));
        let put = move || {
            let staged = Staged::create(target)?;
            staged.write(&payload)?;
            folder.publish(staged, &options.mode)
        };
        tokio::task::spawn_blocking(put).await??;
        self.put_result(location).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        if !options.attributes.is_empty() {
            let operation = "an upload with attributes".to_owned();
            return Err(object_store::Error::NotImplemented { operation, implementer: self.to_string() });
        }
        let target = self.inner.path_to_filesystem(location)?;
        let staged = tokio::task::spawn_blocking(move || Staged::create(target)).await??;
        let (inner, folder) = (Arc::clone(&self.inner), Arc::clone(&self.folder));
        Ok(Box::new(DurableUpload { inner, folder, staged: Some(staged), location: location.clone(), end: 0 }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let bytes = self.inner.get(from).await?.bytes().await?;
        let mode = match options.mode {
            object_store::CopyMode::Create => PutMode::Create,
            object_store::CopyMode::Overwrite => PutMode::Overwrite,
        };
        self.put_opts(to, bytes.into(), mode.into()).await.map(drop)
    }
}

#[derive(Debug)]
struct DurableUpload {
    inner: Arc<LocalFileSystem>,
    folder: Arc<Folder>,
    /// Taken by the completion or the abort.
    staged: Option<Staged>,
    location: Path,
    /// Bytes of the parts so far.
    end: u64,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let Some(staged) = &self.staged else {
            return futures::future::ready(Err(ended(&self.location))).boxed();
        };
        let (file, path, start) = (Arc::clone(&staged.file), staged.path.clone(), self.end);
        self.end += data.content_length() as u64;
        let write = move || {
            let mut at = start;
            for part in &data {
                file.write_all_at(part, at).map_err(|e| io_error("write", &path, e))?;
                at += part.len() as u64;
            }
            Ok(())
        };
        async move { tokio::task::spawn_blocking(write).await? }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let staged = self.staged.take().ok_or_else(|| ended(&self.location))?;
        let folder = Arc::clone(&self.folder);
        tokio::task::spawn_blocking(move || folder.publish(staged, &PutMode::Overwrite)).await??;
        let meta = self.inner.head(&self.location).await?;
        Ok(PutResult { e_tag: meta.e_tag, version: None })
    }

    async fn abort(&mut self) -> Result<()> {
        let staged = self.staged.take();
        tokio::task::spawn_blocking(move || drop(staged)).await?;
        Ok(())
    }
}

fn ended(location: &Path) -> object_store::Error {
    io_error("continue", FsPath::new(location.as_ref()), io::Error::other("the upload has ended"))
}
