//! A table's files in the object store, and how the newest metadata are found.
//!
//! The hint is read first and may lag behind: every version that follows it without a gap counts as well. When the hint is
//! missing, or names what is not there, the folder is listed. A file that does not continue the versions counts for nothing.

use std::cmp::Reverse;

use bytes::Bytes;
use cold_tier::{ColdTier, StoreError, StoreErrorKind, TABLE_FOLDERS, TableFile, table_file};
use futures::{FutureExt, StreamExt, TryStreamExt};
use iceberg::spec::TableMetadata;
use model::{TopicId, TopicName};
use object_store::PutPayload;

use crate::iceberg::{File, Table};

/// Largest file of a table that is read, in bytes.
const MAX_FILE_BYTES: u64 = 256 << 20;
const MAX_HINT_BYTES: u64 = 64;
/// How many versions after the hint are looked for one by one before the folder is listed.
const MAX_STEPS: u64 = 64;
/// How many ranges of versions are looked at.
const MAX_ENDS: usize = 16;
/// Files that are read or written at the same time.
const CONCURRENCY: usize = 8;

/// A table's newest metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newest {
    /// Number of the commit that made them.
    pub version: u64,
    /// Whether the hint names them.
    pub is_hinted: bool,
}

/// The files of one table.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) cold: ColdTier,
    pub(crate) table: Table,
}

impl Files {
    pub(crate) fn new(cold: &ColdTier, topic: &TopicName, topic_id: TopicId) -> Files {
        let (root, folder) = (cold.root_url(), cold.topic_folder(topic, topic_id));
        Files { cold: cold.clone(), table: Table { topic: topic.clone(), topic_id, root, folder } }
    }

    /// An object's name from its URL; `None` for a URL that is not below the store's root.
    pub(crate) fn key<'a>(&self, url: &'a str) -> Option<&'a str> {
        url.strip_prefix(&self.table.root)?.strip_prefix('/')
    }

    fn metadata_key(&self, version: u64) -> String {
        format!("{}/iceberg/metadata/v{version}.metadata.json", self.table.folder)
    }

    fn hint_key(&self) -> String {
        format!("{}/iceberg/metadata/version-hint.text", self.table.folder)
    }

    /// The bytes of metadata `version`.
    pub(crate) async fn metadata(&self, version: u64) -> Result<Bytes, StoreError> {
        self.cold.store().get(&self.metadata_key(version), MAX_FILE_BYTES).await
    }

    /// The bytes behind a URL.
    pub(crate) async fn get(&self, url: &str) -> Result<Bytes, StoreError> {
        let Some(key) = self.key(url) else {
            let detail = format!("it is not below {}", self.table.root);
            return Err(StoreError {
                operation: "get",
                object: url.to_owned(),
                kind: StoreErrorKind::NotFound,
                detail,
            });
        };
        self.cold.store().get(key, MAX_FILE_BYTES).await
    }

    /// The bytes behind several URLs, in their order.
    pub(crate) async fn get_all(&self, urls: Vec<String>) -> Result<Vec<(String, Bytes)>, StoreError> {
        let read = |url: String| async move { self.get(&url).await.map(|bytes| (url, bytes)) };
        let reads: Vec<_> = urls.into_iter().map(|url| read(url).boxed()).collect();
        futures::stream::iter(reads).buffered(CONCURRENCY).try_collect().await
    }

    /// Creates a file, which must not be there with other bytes.
    pub(super) async fn create(&self, file: &File) -> Result<(), StoreError> {
        let key = self.key(&file.url).unwrap_or(&file.url);
        self.cold.store().put_new(key, PutPayload::from(file.bytes.clone())).await.map(drop)
    }

    /// Creates files in any order.
    pub(super) async fn create_all(&self, files: &[File]) -> Result<(), StoreError> {
        let puts: Vec<_> = files.iter().map(|file| self.create(file).boxed()).collect();
        futures::stream::iter(puts).buffer_unordered(CONCURRENCY).try_collect().await
    }

    pub(super) async fn set_hint(&self, version: u64) -> Result<(), StoreError> {
        self.cold.store().replace(&self.hint_key(), PutPayload::from(version.to_string())).await
    }

    /// What the hint says; `None` when there is no sensible hint.
    async fn hint(&self) -> Result<Option<u64>, StoreError> {
        let read = absent(self.cold.store().get(&self.hint_key(), MAX_HINT_BYTES).await)?;
        Ok(read.and_then(|bytes| str::from_utf8(&bytes).ok()?.trim().parse().ok()).filter(|version| *version > 0))
    }

    /// Whether metadata `version` are there.
    pub(super) async fn has(&self, version: u64) -> Result<bool, StoreError> {
        Ok(absent(self.cold.store().head(&self.metadata_key(version)).await)?.is_some())
    }

    /// All files in the table's folders, with when they were written, in ms.
    pub(super) async fn list(&self) -> Result<Vec<(TableFile, String, i64)>, StoreError> {
        let mut found = Vec::new();
        for folder in TABLE_FOLDERS {
            self.list_below(folder, &mut found).await?;
        }
        Ok(found)
    }

    async fn list_below(&self, folder: &str, found: &mut Vec<(TableFile, String, i64)>) -> Result<(), StoreError> {
        let folder = format!("{}/{folder}", self.table.folder);
        let mut listing = self.cold.store().list(&folder);
        while let Some(object) = listing.next().await {
            let object = object?;
            let name = object.location.to_string();
            if let Some(file) = table_file(&self.table.folder, &name) {
                found.push((file, name, object.last_modified.timestamp_millis()));
            }
        }
        Ok(())
    }

    async fn list_metadata(&self) -> Result<Vec<u64>, StoreError> {
        let mut found = Vec::new();
        self.list_below("iceberg/metadata", &mut found).await?;
        let version = |(file, ..): (TableFile, String, i64)| {
            if let TableFile::Metadata(Reverse(version)) = file { Some(version) } else { None }
        };
        Ok(found.into_iter().filter_map(version).collect())
    }
}

/// The newest of the versions that a listing shows. The table's own follow one another without a gap; where there is one,
/// there is a foreign file among them, and what the ends of the ranges say decides.
async fn newest_of(files: &Files, mut versions: Vec<u64>) -> Result<Option<u64>, StoreError> {
    versions.sort_unstable();
    let ends: Vec<u64> =
        versions.chunk_by(|a, b| *b == a.saturating_add(1)).filter_map(|run| run.last().copied()).collect();
    if ends.len() < 2 {
        return Ok(ends.last().copied());
    }
    let mut newest = None;
    for version in ends.iter().rev().take(MAX_ENDS).copied() {
        let Some(bytes) = absent(files.metadata(version).await)? else { continue };
        let Ok(metadata) = serde_json::from_slice::<TableMetadata>(&bytes) else { continue };
        if metadata.location() == files.table.location() {
            // A copy is no newer than what it is a copy of.
            newest = newest.max(Some((metadata.last_updated_ms(), Reverse(version))));
        }
    }
    Ok(newest.map(|(_, Reverse(version))| version).or(ends.last().copied()))
}

/// The newest metadata; `None` for a table that does not exist.
pub(crate) async fn newest(files: &Files) -> Result<Option<Newest>, StoreError> {
    let hint = files.hint().await?;
    if let Some(hint) = hint
        && files.has(hint).await?
    {
        for version in hint..hint.saturating_add(MAX_STEPS) {
            if !files.has(version + 1).await? {
                return Ok(Some(Newest { version, is_hinted: version == hint }));
            }
        }
    }
    let version = newest_of(files, files.list_metadata().await?).await?;
    Ok(version.map(|version| Newest { version, is_hinted: hint == Some(version) }))
}

/// What is not there is no error.
pub(crate) fn absent<T>(result: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
