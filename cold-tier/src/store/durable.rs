//! A folder as an object store whose writes survive a power cut.
//!
//! `object_store`'s `LocalFileSystem` (0.13.2, read in its source) writes a staged file, links or renames it into place,
//! and syncs neither file nor folder. Here a put answers only after the file's data and every folder from it up to the
//! root are on stable storage. A crash before that leaves either nothing, a complete object that nobody names (the sweep
//! takes it), or a staged file `name#n` that listings hide, which the sweep takes, too ([`super::staged`]). Deletes are not
//! synced: an object that comes back is an orphan, and swept again.

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result, UploadPart,
};

/// `LocalFileSystem`, made durable.
#[derive(Debug)]
pub struct DurableLocal {
    inner: Arc<LocalFileSystem>,
    root: PathBuf,
}

impl DurableLocal {
    /// Objects below the folder `root`, which is created when missing.
    ///
    /// # Errors
    /// When the folder cannot be created or opened.
    pub fn new(root: &FsPath) -> Result<Self> {
        std::fs::create_dir_all(root).map_err(io_error)?;
        let root = root.canonicalize().map_err(io_error)?;
        let inner = LocalFileSystem::new_with_prefix(&root)?.with_automatic_cleanup(true);
        Ok(DurableLocal { inner: Arc::new(inner), root })
    }

    async fn sync(&self, location: &Path) -> Result<()> {
        sync(&self.inner, &self.root, location).await
    }
}

async fn sync(inner: &LocalFileSystem, root: &FsPath, location: &Path) -> Result<()> {
    let file = inner.path_to_filesystem(location)?;
    let root = root.to_owned();
    tokio::task::spawn_blocking(move || sync_up_to(&file, &root)).await?.map_err(io_error)
}

/// Syncs the file, then the folders that lead to it: an entry is only as durable as its folder.
fn sync_up_to(file: &FsPath, root: &FsPath) -> std::io::Result<()> {
    File::open(file)?.sync_all()?;
    for folder in file.ancestors().skip(1) {
        File::open(folder)?.sync_all()?;
        if folder == root {
            break;
        }
    }
    Ok(())
}

fn io_error(error: std::io::Error) -> object_store::Error {
    object_store::Error::Generic { store: "DurableLocal", source: Box::new(error) }
}

impl fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file://{}", self.root.display())
    }
}

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let result = self.inner.put_opts(location, payload, options).await?;
        self.sync(location).await?;
        Ok(result)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.inner.put_multipart_opts(location, options).await?;
        let (inner, root) = (Arc::clone(&self.inner), self.root.clone());
        Ok(Box::new(DurableUpload { upload, inner, root, location: location.clone() }))
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
        self.inner.copy_opts(from, to, options).await?;
        self.sync(to).await
    }
}

#[derive(Debug)]
struct DurableUpload {
    upload: Box<dyn MultipartUpload>,
    inner: Arc<LocalFileSystem>,
    root: PathBuf,
    location: Path,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let result = self.upload.complete().await?;
        sync(&self.inner, &self.root, &self.location).await?;
        Ok(result)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}
