//! A topic with its ledger and an archive in memory, and its table as an outside reader sees it.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use cold_tier::{ArchiveOptions, ArchivedSegment, ColdTier, Config, ManifestChange};
use iceberg::spec::{FormatVersion, ManifestList, TableMetadata};
use model::archive::{ManifestPointer, PartitionArchive, TopicArchive};
use model::batch::{BatchBuilder, BatchFacts, Compression, NewRecord};
use model::segment::{EpochStart, SealedSegment};
use model::{Offset, TimestampMs, TopicId, TopicName, TopicPartition};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use uuid::Uuid;

use crate::iceberg::{Rewrite, Standing};
use crate::lake::files::{Files, newest};
use crate::lake::topic_table::Pass;
use crate::lake::{LakeError, Outcome, TopicTable};

pub(crate) const NOW: TimestampMs = 1_700_000_000_000;
/// Later than anything that the store has written by its own clock.
pub(crate) const LATER: TimestampMs = 1 << 42;

/// One topic, its ledger and the store.
#[derive(Clone)]
pub(crate) struct Archive {
    pub(crate) cold: ColdTier,
    pub(crate) log_starts: Vec<Offset>,
    pub(crate) expire_before: TimestampMs,
    store: Arc<InMemory>,
    pointers: Vec<Option<ManifestPointer>>,
    ends: Vec<Offset>,
}

impl Archive {
    pub(crate) fn new(partitions: usize) -> Archive {
        let store = Arc::new(InMemory::new());
        let config = Config { cluster_id: "test".into(), archive_threads: 0, decode_threads: 0, ..Config::default() };
        let cold = ColdTier::with_store(config, store.clone()).unwrap();
        let (log_starts, ends) = (vec![0; partitions], vec![0; partitions]);
        Archive { cold, log_starts, expire_before: 0, store, pointers: vec![None; partitions], ends }
    }

    pub(crate) fn topic(&self) -> TopicArchive {
        let partition = |(pointer, log_start): (&Option<ManifestPointer>, &Offset)| PartitionArchive {
            leader: Some(1),
            log_start: *log_start,
            pointer: pointer.clone().map(Arc::new),
        };
        TopicArchive {
            name: name(),
            id: topic_id(),
            settings: Arc::default(),
            partitions: self.pointers.iter().zip(&self.log_starts).map(partition).collect(),
        }
    }

    pub(crate) fn table(&self) -> TopicTable {
        TopicTable::new(&self.cold, &self.topic())
    }

    /// Archives `records` more of them, one for each offset.
    pub(crate) async fn append(&mut self, partition: usize, records: i64) {
        let base = self.ends[partition];
        let segment = segment(i32::try_from(partition).unwrap(), base, records);
        let options =
            ArchiveOptions { codec: Compression::None, attempt: Uuid::new_v4(), leader_epoch: 1, now: NOW, from: None };
        let archived = self.cold.archive(&[segment], options).await.unwrap();
        self.write_manifest(partition, vec![archived], None).await;
        self.ends[partition] = base + records;
    }

    /// Moves the log start, and lets go of the objects below it.
    pub(crate) async fn move_log_start(&mut self, partition: usize, log_start: Offset) {
        self.log_starts[partition] = log_start;
        self.write_manifest(partition, Vec::new(), Some(log_start)).await;
    }

    async fn write_manifest(&mut self, partition: usize, append: Vec<ArchivedSegment>, log_start: Option<Offset>) {
        let change = ManifestChange { append, log_start, leader_epoch: 1, attempt: Uuid::new_v4() };
        let id = TopicPartition { topic_id: topic_id(), partition: i32::try_from(partition).unwrap() };
        let previous = self.pointers[partition].clone();
        let pointer = self.cold.write_manifest(&id, &name(), previous.as_ref(), change).await.unwrap();
        self.pointers[partition] = Some(pointer);
    }

    pub(crate) async fn commit(&self, table: &mut TopicTable) -> Result<Outcome, LakeError> {
        self.commit_as(table, &self.topic(), NOW, &|| true).await
    }

    pub(crate) async fn commit_as(
        &self,
        table: &mut TopicTable,
        topic: &TopicArchive,
        now: TimestampMs,
        may_commit: &(dyn Fn() -> bool + Send + Sync),
    ) -> Result<Outcome, LakeError> {
        let pass = Pass { now, expire_before: self.expire_before, may_commit, step: |_| () };
        table.bring_up(topic, &pass).await
    }

    fn table_files(&self) -> Files {
        Files::new(&self.cold, &name(), topic_id())
    }

    /// The newest version; 0 when there is no table.
    pub(crate) async fn newest(&self) -> u64 {
        newest(&self.table_files()).await.unwrap().map_or(0, |found| found.version)
    }

    pub(crate) async fn standing(&self) -> Standing {
        let files = self.table_files();
        let version = self.newest().await;
        let metadata = files.metadata(version).await.unwrap();
        let parsed: TableMetadata = serde_json::from_slice(&metadata).unwrap();
        let list = files.get(parsed.current_snapshot().unwrap().manifest_list()).await.unwrap();
        Standing::parse(version, &metadata, &list).unwrap()
    }

    /// The objects that the table names and how many rows of each it hides: exactly what the ledger says.
    pub(crate) async fn expect_shown(&self) -> BTreeMap<String, u64> {
        let files = self.table_files();
        let standing = self.standing().await;
        let mut shown = BTreeMap::new();
        for manifest in standing.data_manifests() {
            for file in living(&files, &manifest.manifest_path).await {
                let key = files.key(file.file_path()).unwrap().to_owned();
                assert!(shown.insert(key, 0).is_none(), "{} is named twice", file.file_path());
            }
        }
        if let Some(manifest) = standing.delete_manifest() {
            for file in living(&files, &manifest.manifest_path).await {
                files.get(file.file_path()).await.unwrap();
                let object = file.referenced_data_file().unwrap();
                let rows = shown.get_mut(files.key(&object).unwrap()).expect("deletes are of objects that are named");
                assert_eq!(*rows, 0, "{object} is cut twice");
                *rows = file.record_count();
            }
        }
        let total = &standing.metadata.current_snapshot().unwrap().summary().additional_properties["total-data-files"];
        assert_eq!(*total, shown.len().to_string());
        assert_eq!(shown, self.expected().await);
        shown
    }

    async fn expected(&self) -> BTreeMap<String, u64> {
        let mut expected = BTreeMap::new();
        for (pointer, log_start) in self.pointers.iter().zip(&self.log_starts) {
            let Some(pointer) = pointer else { continue };
            for entry in self.cold.entries(pointer).await.unwrap() {
                if entry.next_offset > *log_start {
                    // One record for each offset.
                    expected.insert(entry.object, u64::try_from((log_start - entry.base_offset).max(0)).unwrap());
                }
            }
        }
        expected
    }

    pub(crate) fn folder(&self) -> String {
        self.table_files().table.folder
    }

    /// The table's files, sorted by name.
    pub(crate) async fn files(&self) -> Vec<String> {
        let mut names: Vec<_> = self.table_files().list().await.unwrap().into_iter().map(|(_, name, _)| name).collect();
        names.sort();
        names
    }

    /// As Trino does, whatever `gc.enabled` says: what the metadata do not lead to goes from the table's location.
    pub(crate) async fn remove_orphan_files(&self) {
        let (files, standing) = (self.table_files(), self.standing().await);
        let mut named = vec![files.table.metadata_url(standing.version), files.table.hint_url()];
        named.extend(standing.metadata.metadata_log().iter().map(|log| log.metadata_file.clone()));
        for snapshot in standing.metadata.snapshots() {
            let list = snapshot.manifest_list().to_owned();
            let parsed = files.get(&list).await.unwrap();
            let parsed = ManifestList::parse_with_version(&parsed, FormatVersion::V2).unwrap();
            for manifest in parsed.entries() {
                let alive = living(&files, &manifest.manifest_path).await;
                named.extend(alive.iter().map(|file| file.file_path().to_owned()));
                named.push(manifest.manifest_path.clone());
            }
            named.push(list);
        }
        let location = format!("{}/iceberg/", self.folder());
        let named: Vec<_> = named.iter().filter_map(|url| files.key(url)).collect();
        for name in self.files().await {
            if name.starts_with(&location) && !named.contains(&name.as_str()) {
                self.remove(&name).await;
            }
        }
    }

    /// Whether an object of this name lies in the topic's folder.
    pub(crate) async fn has(&self, name: &str) -> bool {
        self.store.head(&format!("{}/{name}", self.folder()).into()).await.is_ok()
    }

    /// Puts a file into the table's location, or beside it.
    pub(crate) async fn put(&self, name: &str, content: &'static str) {
        let name = match name.strip_prefix("../") {
            Some(beside) => format!("{}/{beside}", self.folder()),
            None => format!("{}/iceberg/{name}", self.folder()),
        };
        self.store.put(&name.into(), content.into()).await.unwrap();
    }

    pub(crate) async fn remove(&self, name: &str) {
        self.store.delete(&name.into()).await.unwrap();
    }

    pub(crate) async fn damage(&self, name: &str) {
        let bytes = self.store.get(&name.into()).await.unwrap().bytes().await.unwrap();
        self.store.put(&name.into(), bytes.slice(..bytes.len() / 2).into()).await.unwrap();
    }

    /// Copies a file in the table's folder.
    pub(crate) async fn copy(&self, from: &str, to: &str) {
        let path = |name| format!("{}/iceberg/{name}", self.folder()).into();
        let bytes = self.store.get(&path(from)).await.unwrap().bytes().await.unwrap();
        self.store.put(&path(to), bytes.into()).await.unwrap();
    }

    pub(crate) async fn set_hint(&self, hint: Option<&'static str>) {
        match hint {
            Some(hint) => self.put("metadata/version-hint.text", hint).await,
            None => self.remove(&format!("{}/iceberg/metadata/version-hint.text", self.folder())).await,
        }
    }

    pub(crate) async fn hint(&self) -> String {
        let name = format!("{}/iceberg/metadata/version-hint.text", self.folder());
        let bytes = self.store.get(&name.into()).await.unwrap().bytes().await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }
}

async fn living(files: &Files, url: &str) -> Vec<iceberg::spec::DataFile> {
    let manifest = Rewrite::parse(url.to_owned(), &files.get(url).await.unwrap()).unwrap();
    let alive = manifest.entries.iter().filter(|entry| entry.is_alive());
    alive.map(|entry| entry.data_file().clone()).collect()
}

fn name() -> TopicName {
    TopicName::new("orders").unwrap()
}

fn topic_id() -> TopicId {
    TopicId(Uuid::from_u128(0xfeed))
}

fn segment(partition: i32, base_offset: Offset, records: i64) -> SealedSegment {
    let mut batch = BatchBuilder::new(BatchFacts { leader_epoch: 1, ..BatchFacts::default() });
    for offset in base_offset..base_offset + records {
        batch.append(&NewRecord { offset, timestamp: NOW + offset, key: None, value: Some(b"value"), headers: &[] });
    }
    let bytes = batch.finish().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    SealedSegment {
        topic: name(),
        partition: TopicPartition { topic_id: topic_id(), partition },
        base_offset,
        next_offset: base_offset + records,
        size_bytes: bytes.len() as u64,
        max_timestamp: NOW + base_offset + records - 1,
        leader_epoch: 1,
        epochs: vec![EpochStart { leader_epoch: 1, start_offset: 0 }],
        aborted: Vec::new(),
        producers: Bytes::new(),
        file: Arc::new(file),
    }
}
