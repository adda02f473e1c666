//! Writing a commit's manifests and the list of them.

use std::collections::BTreeSet;

use iceberg::spec::{
    FormatVersion, ManifestContentType, ManifestEntry, ManifestFile, ManifestList, ManifestListWriter, ManifestStatus,
    ManifestWriter, ManifestWriterBuilder, TableMetadata,
};

use super::{Change, File, MAX_MANIFEST_FILES, Rewrite, Stamp, of};
use crate::iceberg::scratch::Scratch;
use crate::iceberg::{Cut, Table, TableError};

/// What a commit writes below its metadata.
pub(super) struct Writer<'a> {
    table: &'a Table,
    metadata: &'a TableMetadata,
    before: &'a [ManifestFile],
    stamp: Stamp,
    scratch: Scratch,
    /// Written so far, in order.
    pub(super) files: Vec<File>,
    /// Those of the new snapshot.
    pub(super) manifests: Vec<ManifestFile>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        table: &'a Table,
        metadata: &'a TableMetadata,
        before: &'a [ManifestFile],
        stamp: Stamp,
    ) -> Result<Self, TableError> {
        let fits = before.iter().all(|manifest| manifest.partition_spec_id == metadata.default_partition_spec_id());
        if !fits {
            return Err(TableError::Inconsistent("a manifest has another partition spec than the table".into()));
        }
        let (scratch, files, manifests) = (Scratch::new(), Vec::new(), Vec::new());
        Ok(Writer { table, metadata, before, stamp, scratch, files, manifests })
    }

    /// Writes everything; the manifest list's URL.
    pub(super) async fn write(&mut self, change: &Change) -> Result<String, TableError> {
        let anew: BTreeSet<_> = change.rewrites.iter().map(|one| one.url.as_str()).collect();
        let kept = of(self.before, ManifestContentType::Data).filter(|one| !anew.contains(one.manifest_path.as_str()));
        self.manifests.extend(kept.cloned());
        self.write_added(change).await?;
        self.write_rewritten(change).await?;
        self.write_cuts(change).await?;
        self.write_list().await
    }

    async fn write_added(&mut self, change: &Change) -> Result<(), TableError> {
        for (place, some) in change.added.chunks(MAX_MANIFEST_FILES).enumerate() {
            let (mut manifest, url) = self.open("added", place, ManifestWriterBuilder::build_v2_data)?;
            for (partition, object) in some {
                let file = object.to_file(self.table, *partition)?;
                manifest
                    .add_file(file, self.metadata.next_sequence_number())
                    .map_err(TableError::making("manifest"))?;
            }
            self.close(manifest, url).await?;
        }
        Ok(())
    }

    /// What is left of the manifests that are written anew, joined.
    async fn write_rewritten(&mut self, change: &Change) -> Result<(), TableError> {
        let mut unseen: BTreeSet<_> = change.dropped.iter().map(|object| self.table.object_url(object)).collect();
        let mut entries = Vec::new();
        for rewrite in &change.rewrites {
            for entry in self.inherited(rewrite)? {
                let status = if unseen.remove(entry.file_path()) { ManifestStatus::Deleted } else { entry.status };
                entries.push(ManifestEntry { status, ..entry });
            }
        }
        if let Some(object) = unseen.first() {
            return Err(TableError::Inconsistent(format!(
                "{object} is dropped, but in no manifest that is written anew"
            )));
        }
        let mut place = 0;
        while !entries.is_empty() {
            let rest = entries.split_off(entries.len().min(MAX_MANIFEST_FILES));
            let (mut manifest, url) = self.open("kept", place, ManifestWriterBuilder::build_v2_data)?;
            entries.into_iter().try_for_each(|entry| add(&mut manifest, entry))?;
            self.close(manifest, url).await?;
            (entries, place) = (rest, place + 1);
        }
        Ok(())
    }

    /// The delete manifest, if a cut has come or gone.
    async fn write_cuts(&mut self, change: &Change) -> Result<(), TableError> {
        let standing = match &change.standing_cuts {
            Some(rewrite) => self.inherited(rewrite)?,
            None if of(self.before, ManifestContentType::Deletes).next().is_none() => Vec::new(),
            None => return Err(TableError::Inconsistent("the standing delete manifest is not given".into())),
        };
        let is = |entry: &ManifestEntry, cut: &Cut| {
            let of = entry.data_file.referenced_data_file();
            of == Some(self.table.object_url(&cut.object)) && entry.record_count() == cut.rows
        };
        let new: Vec<_> = change.cuts.iter().filter(|cut| !standing.iter().any(|entry| is(entry, cut))).collect();
        let marked = standing.iter().map(|entry| {
            let holds = change.cuts.iter().any(|cut| is(entry, cut));
            let status = if holds { ManifestStatus::Existing } else { ManifestStatus::Deleted };
            ManifestEntry { status, ..entry.clone() }
        });
        let marked: Vec<_> = marked.collect();
        if new.is_empty() && marked.iter().all(ManifestEntry::is_alive) {
            self.manifests.extend(of(self.before, ManifestContentType::Deletes).cloned());
            return Ok(());
        }
        let mut files = Vec::new();
        for cut in new {
            let bytes = cut.encode(self.table)?;
            let url = format!("{}/data/{}-{}-cut.parquet", self.table.location(), cut.partition, self.stamp.attempt);
            files.push(cut.to_file(self.table, &url, bytes.len() as u64)?);
            self.files.push(File { url, bytes });
        }
        let (mut manifest, url) = self.open("cuts", 0, ManifestWriterBuilder::build_v2_deletes)?;
        for file in files {
            manifest.add_file(file, self.metadata.next_sequence_number()).map_err(TableError::making("manifest"))?;
        }
        marked.into_iter().try_for_each(|entry| add(&mut manifest, entry))?;
        self.close(manifest, url).await
    }

    async fn write_list(&mut self) -> Result<String, TableError> {
        let (snapshot, attempt) = (self.stamp.snapshot_id(), self.stamp.attempt);
        let url = format!("{}/metadata/snap-{snapshot}-{attempt}.avro", self.table.location());
        let making = TableError::making("manifest list");
        let place = self.scratch.output(&url)?.writer().await.map_err(&making)?;
        let parent = self.metadata.current_snapshot_id();
        let mut list = ManifestListWriter::v2(place, snapshot, parent, self.metadata.next_sequence_number());
        list.add_manifests(self.manifests.drain(..)).map_err(&making)?;
        list.close().await.map_err(&making)?;
        let bytes = self.scratch.take(&url).await?;
        // Read again: with the sequence numbers that the list gave them.
        let read = ManifestList::parse_with_version(&bytes, FormatVersion::V2).map_err(&making)?;
        self.manifests = read.entries().to_vec();
        self.files.push(File { url: url.clone(), bytes });
        Ok(url)
    }

    fn open(
        &self,
        kind: &str,
        place: usize,
        build: fn(ManifestWriterBuilder) -> ManifestWriter,
    ) -> Result<(ManifestWriter, String), TableError> {
        let place = if place == 0 { String::new() } else { format!("-{place}") };
        let url = format!("{}/metadata/{}-{kind}{place}.avro", self.table.location(), self.stamp.attempt);
        let (schema, spec) =
            (self.metadata.current_schema().clone(), (**self.metadata.default_partition_spec()).clone());
        let snapshot = Some(self.stamp.snapshot_id());
        Ok((build(ManifestWriterBuilder::new(self.scratch.output(&url)?, snapshot, schema, spec)), url))
    }

    async fn close(&mut self, manifest: ManifestWriter, url: String) -> Result<(), TableError> {
        self.manifests.push(manifest.write_manifest_file().await.map_err(TableError::making("manifest"))?);
        let bytes = self.scratch.take(&url).await?;
        self.files.push(File { url, bytes });
        Ok(())
    }

    /// The living entries of a standing manifest, as existing ones, with what they inherit from the list.
    fn inherited(&self, rewrite: &Rewrite) -> Result<Vec<ManifestEntry>, TableError> {
        let Some(manifest) = self.before.iter().find(|manifest| manifest.manifest_path == rewrite.url) else {
            return Err(TableError::Inconsistent(format!("{} is not a manifest of the standing table", rewrite.url)));
        };
        let inherit = |entry: &ManifestEntry| ManifestEntry {
            status: ManifestStatus::Existing,
            snapshot_id: entry.snapshot_id.or(Some(manifest.added_snapshot_id)),
            sequence_number: entry.sequence_number.or(Some(manifest.sequence_number)),
            file_sequence_number: entry.file_sequence_number.or(Some(manifest.sequence_number)),
            data_file: entry.data_file.clone(),
        };
        Ok(rewrite.entries.iter().filter(|entry| entry.is_alive()).map(|entry| inherit(entry)).collect())
    }
}

fn add(manifest: &mut ManifestWriter, entry: ManifestEntry) -> Result<(), TableError> {
    let missing = || TableError::Inconsistent(format!("{} has no sequence number", entry.file_path()));
    let sequence = entry.sequence_number.ok_or_else(missing)?;
    let (snapshot, of_file) = (entry.snapshot_id.unwrap_or_default(), entry.file_sequence_number);
    if entry.status == ManifestStatus::Deleted {
        manifest.add_delete_file(entry.data_file, sequence, of_file)
    } else {
        manifest.add_existing_file(entry.data_file, snapshot, sequence, of_file)
    }
    .map_err(TableError::making("manifest"))
}
