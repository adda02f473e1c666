//! The file `metadata/raft.redb`: vote, log, last purged entry and snapshot, in one redb database.
//!
//! Layout (`docs/formats/metadata.md`): table `meta` (text → bytes) has `format`, `node_id`, `vote`, `committed`, `purged`,
//! `snapshot_meta` and `snapshot`; table `log` has index → entry. Values are JSON behind 8 bytes of FNV-1a checksum, since
//! redb checks its pages only when it repairs; so all pages are checked at each start, too. Every commit is one redb
//! transaction, in two phases, and durable when it returns; a crash leaves the state after some commit. A new file is made
//! under another name and renamed once it is complete.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use model::NodeId;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::MetadataError;
use super::backend::{Patience, PatientFile};
use super::entry::{Entry, LogId, SnapshotMeta, Vote};
use super::writer::Committing;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

const FILE: &str = "raft.redb";
const FORMAT: &str = "firn-metadata-1";
/// Bytes of redb's page cache: everything is read once, at start.
const CACHE_BYTES: usize = 16 << 20;
const CHECKSUM_LEN: usize = 8;

/// The open file. One writer at a time; see `writer`.
#[derive(Debug)]
pub(super) struct RaftFile {
    database: Database,
    path: PathBuf,
    pub(super) patience: Patience,
    pub(super) committing: Committing,
}

/// What the file holds, save for the snapshot's data.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) entries: BTreeMap<u64, Entry>,
    pub(super) snapshot: Option<StoredSnapshot>,
}

/// A snapshot as it stands in the file.
#[derive(Debug, Clone)]
pub(super) struct StoredSnapshot {
    pub(super) meta: SnapshotMeta,
    pub(super) data: Vec<u8>,
}

/// One change of the file.
#[derive(Debug)]
pub(super) enum Change {
    Append(Vec<Entry>),
    Vote(Vote),
    Committed(Option<LogId>),
    /// Drop the entries from this index.
    TruncateFrom(u64),
    /// Drop the entries up to this one.
    PurgeTo(LogId),
    Snapshot(StoredSnapshot),
}

impl RaftFile {
    /// Opens the file in `folder`, or makes it. Blocks.
    pub(super) fn open(folder: &Path, node_id: NodeId) -> Result<(Self, Contents), MetadataError> {
        let path = folder.join(FILE);
        if !path.exists() {
            make(folder, &path, node_id)?;
        }
        // redb asserts where it could refuse: a damaged file must not look like a bug of ours.
        let patience = Patience::default();
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let file = RaftFile {
                database: opened(&path, &patience)?,
                path: path.clone(),
                patience,
                committing: Committing::default(),
            };
            let contents = file.load(node_id)?;
            Ok((file, contents))
        }));
        opened.unwrap_or_else(|_| Err(damaged(&path, "its structure makes no sense")))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the changes durable, all or none of them. Blocks.
    pub(super) fn commit<'a>(&self, changes: impl Iterator<Item = &'a Change>) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        // Otherwise a damaged page of the last commit would look like a commit that a power cut tore, and be taken back.
        transaction.set_two_phase_commit(true);
        for change in changes {
            apply(&transaction, change)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// The stored snapshot. Blocks.
    pub(super) fn snapshot(&self) -> Result<Option<StoredSnapshot>, MetadataError> {
        let transaction = self.database.begin_read().map_err(|error| self.unreadable(error))?;
        let meta = transaction.open_table(META).map_err(|error| self.unreadable(error))?;
        self.snapshot_in(&meta)
    }

    fn load(&self, node_id: NodeId) -> Result<Contents, MetadataError> {
        let transaction = self.database.begin_read().map_err(|error| self.unreadable(error))?;
        let meta = transaction.open_table(META).map_err(|error| self.unreadable(error))?;
        let format: Option<String> = self.value(&meta, "format")?;
        if format.as_deref() != Some(FORMAT) {
            let found = format.unwrap_or_else(|| "none".to_owned());
            return Err(MetadataError::UnknownFormat { path: self.path.clone(), found, known: FORMAT });
        }
        let owner: Option<NodeId> = self.value(&meta, "node_id")?;
        if owner != Some(node_id) {
            let found = owner.map_or_else(|| "nobody".to_owned(), |owner| owner.to_string());
            return Err(MetadataError::OtherNode { path: self.path.clone(), found, asked: node_id });
        }
        let log = transaction.open_table(LOG).map_err(|error| self.unreadable(error))?;
        let contents = Contents {
            vote: self.value(&meta, "vote")?,
            committed: self.value(&meta, "committed")?.flatten(),
            purged: self.value(&meta, "purged")?,
            entries: self.entries(&log)?,
            snapshot: self.snapshot_in(&meta)?,
        };
        self.check_order(&contents)?;
        Ok(contents)
    }

    fn entries(&self, log: &impl ReadableTable<u64, &'static [u8]>) -> Result<BTreeMap<u64, Entry>, MetadataError> {
        let mut entries = BTreeMap::new();
        for row in log.iter().map_err(|error| self.unreadable(error))? {
            let (index, bytes) = row.map_err(|error| self.unreadable(error))?;
            let entry: Entry = self.decoded(bytes.value(), &format!("log entry {}", index.value()))?;
            if entry.log_id.index != index.value() {
                return Err(damaged(&self.path, &format!("log entry {} says {}", index.value(), entry.log_id.index)));
            }
            entries.insert(index.value(), entry);
        }
        Ok(entries)
    }

    fn snapshot_in(
        &self,
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
    ) -> Result<Option<StoredSnapshot>, MetadataError> {
        let Some(snapshot_meta) = self.value(meta, "snapshot_meta")? else { return Ok(None) };
        let found = meta.get("snapshot").map_err(|error| self.unreadable(error))?;
        let bytes = found.ok_or_else(|| damaged(&self.path, "the snapshot is missing"))?;
        let data = unsealed(bytes.value()).ok_or_else(|| damaged(&self.path, "the snapshot has a wrong checksum"))?;
        Ok(Some(StoredSnapshot { meta: snapshot_meta, data: data.to_vec() }))
    }

    fn value<T: DeserializeOwned>(
        &self,
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
        key: &str,
    ) -> Result<Option<T>, MetadataError> {
        let found = meta.get(key).map_err(|error| self.unreadable(error))?;
        found.map(|bytes| self.decoded(bytes.value(), key)).transpose()
    }

    fn decoded<T: DeserializeOwned>(&self, bytes: &[u8], what: &str) -> Result<T, MetadataError> {
        let json = unsealed(bytes).ok_or_else(|| damaged(&self.path, &format!("{what} has a wrong checksum")))?;
        serde_json::from_slice(json).map_err(|error| {
            damaged(&self.path, &format!("{what} cannot be read ({error}); did a newer build write it?"))
        })
    }

    /// The log must start right after what was purged, and a snapshot must cover that.
    fn check_order(&self, contents: &Contents) -> Result<(), MetadataError> {
        let first = contents.purged.map_or(0, |id| id.index + 1);
        if let Some((expected, found)) = (first..).zip(contents.entries.keys()).find(|(a, b)| a != *b) {
            return Err(damaged(&self.path, &format!("log entry {expected} is missing, the next one is {found}")));
        }
        let last = contents.entries.last_key_value().map(|(_, entry)| entry.log_id).max(contents.purged);
        if contents.committed.map(|id| id.index) > last.map(|id| id.index) {
            return Err(damaged(&self.path, "its log ends before entries that were acknowledged"));
        }
        let covered = contents.snapshot.as_ref().and_then(|snapshot| snapshot.meta.last_log_id);
        if contents.purged > covered {
            return Err(damaged(&self.path, "entries were purged that no snapshot covers"));
        }
        Ok(())
    }

    fn unreadable(&self, error: impl Into<redb::Error>) -> MetadataError {
        match error.into() {
            redb::Error::Io(source) => MetadataError::Io { doing: "read", path: self.path.clone(), source },
            error => damaged(&self.path, &error.to_string()),
        }
    }
}

/// Opens the file and reads all of it: redb by itself compares a page's checksum only after a crash.
fn opened(path: &Path, patience: &Patience) -> Result<Database, MetadataError> {
    let backend = PatientFile::open(path, patience.clone()).map_err(|error| open_error(path, error))?;
    if backend.len().is_ok_and(|len| len == 0) {
        // redb would make an empty database of it.
        return Err(damaged(path, "it is empty"));
    }
    let mut database = builder().create_with_backend(backend).map_err(|error| open_error(path, error))?;
    match database.check_integrity() {
        Ok(true) => Ok(database),
        // Only the record of free pages was wrong, which redb has made anew: all else is vouched for by two-phase commits.
        Ok(false) => {
            tracing::warn!(file = %path.display(), "the metadata file's record of free pages was damaged and is mended");
            Ok(database)
        }
        Err(error) => Err(open_error(path, error)),
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Makes a complete file under another name, then gives it its own.
fn make(folder: &Path, path: &Path, node_id: NodeId) -> Result<(), MetadataError> {
    let io = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| MetadataError::Io { doing, path, source }
    };
    fs::create_dir_all(folder).map_err(io("create", folder))?;
    let draft = folder.join("raft.redb.new");
    if draft.exists() {
        fs::remove_file(&draft).map_err(io("remove", &draft))?;
    }
    fill(&draft, node_id)?;
    fs::rename(&draft, path).map_err(io("rename", &draft))?;
    for folder in [Some(folder), folder.parent(), folder.parent().and_then(Path::parent)].into_iter().flatten() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("sync", folder))?;
    }
    Ok(())
}

fn fill(draft: &Path, node_id: NodeId) -> Result<(), MetadataError> {
    let backend = PatientFile::create(draft, Patience::default()).map_err(|error| open_error(draft, error))?;
    let database = builder().create_with_backend(backend).map_err(|error| open_error(draft, error))?;
    let written = || -> Result<(), redb::Error> {
        let mut transaction = database.begin_write()?;
        transaction.set_two_phase_commit(true);
        put(&transaction, "format", &FORMAT)?;
        put(&transaction, "node_id", &node_id)?;
        transaction.open_table(LOG)?;
        transaction.commit()?;
        Ok(())
    };
    written().map_err(|error| MetadataError::Io {
        doing: "write",
        path: draft.to_owned(),
        source: std::io::Error::other(error),
    })
}

fn apply(transaction: &WriteTransaction, change: &Change) -> Result<(), redb::Error> {
    match change {
        Change::Vote(vote) => put(transaction, "vote", vote),
        Change::Committed(committed) => put(transaction, "committed", committed),
        Change::Append(entries) => {
            let mut log = transaction.open_table(LOG)?;
            for entry in entries {
                log.insert(entry.log_id.index, sealed(&encoded(entry)?).as_slice())?;
            }
            Ok(())
        }
        Change::TruncateFrom(index) => {
            transaction.open_table(LOG)?.retain_in::<u64, _>(index.., |_, _| false)?;
            Ok(())
        }
        Change::PurgeTo(id) => {
            transaction.open_table(LOG)?.retain_in::<u64, _>(..=id.index, |_, _| false)?;
            put(transaction, "purged", id)
        }
        Change::Snapshot(snapshot) => {
            if let Some(stored) = stored_snapshot_meta(transaction)?
                && stored.last_log_id > snapshot.meta.last_log_id
            {
                // Another one was received while this one was being made.
                return Ok(());
            }
            put(transaction, "snapshot_meta", &snapshot.meta)?;
            transaction.open_table(META)?.insert("snapshot", sealed(&snapshot.data).as_slice())?;
            Ok(())
        }
    }
}

fn stored_snapshot_meta(transaction: &WriteTransaction) -> Result<Option<SnapshotMeta>, redb::Error> {
    let table = transaction.open_table(META)?;
    let stored = table.get("snapshot_meta")?;
    Ok(stored.and_then(|bytes| serde_json::from_slice(unsealed(bytes.value())?).ok()))
}

fn put(transaction: &WriteTransaction, key: &str, value: &impl Serialize) -> Result<(), redb::Error> {
    transaction.open_table(META)?.insert(key, sealed(&encoded(value)?).as_slice())?;
    Ok(())
}

fn encoded(value: &impl Serialize) -> Result<Vec<u8>, redb::Error> {
    serde_json::to_vec(value).map_err(|error| redb::Error::Io(error.into()))
}

fn sealed(data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CHECKSUM_LEN + data.len());
    bytes.extend_from_slice(&checksum(data).to_le_bytes());
    bytes.extend_from_slice(data);
    bytes
}

fn unsealed(bytes: &[u8]) -> Option<&[u8]> {
    let (sum, data) = bytes.split_first_chunk::<CHECKSUM_LEN>()?;
    (u64::from_le_bytes(*sum) == checksum(data)).then_some(data)
}

/// FNV-1a, 64 bits.
fn checksum(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn open_error(path: &Path, error: DatabaseError) -> MetadataError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => MetadataError::InUse { path: path.to_owned() },
        DatabaseError::Storage(redb::StorageError::Io(source))
            if !matches!(source.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
        {
            MetadataError::Io { doing: "open", path: path.to_owned(), source }
        }
        error => damaged(path, &error.to_string()),
    }
}

fn damaged(path: &Path, detail: &str) -> MetadataError {
    MetadataError::Damaged { path: path.to_owned(), detail: detail.to_owned() }
}
