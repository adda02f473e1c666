//! One commit: from what the table was to what the archive holds now.
//!
//! The work is in proportion to what changes: new objects make one new manifest, manifests that name dropped objects are
//! written anew without them, every other manifest is named again as it is.
//!
//! Snapshots are ordered by their sequence numbers, and their timestamps never go back, whatever the clock does.

mod expiry;
mod manifests;
mod summary;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use iceberg::spec::{
    FormatVersion, Manifest, ManifestContentType, ManifestEntryRef, ManifestFile, ManifestList, Snapshot,
    SnapshotReference, SnapshotRetention, TableMetadata,
};
use model::TimestampMs;
use uuid::Uuid;

use self::manifests::Writer;
use super::{Cut, DataObject, Table, TableError};

pub use self::expiry::{expire, has_expired};

const MAIN: &str = "main";
/// Snapshots that metadata tell at most: each commit writes them all.
pub const MAX_SNAPSHOTS: usize = 100;
/// Data files that one manifest names at most: what a dropped file costs is in proportion to it.
pub const MAX_MANIFEST_FILES: usize = 1000;

/// The table as its newest metadata state it.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Number of the commit that made it.
    pub version: u64,
    /// The metadata.
    pub metadata: TableMetadata,
    /// The manifests of the current snapshot.
    pub manifests: Vec<ManifestFile>,
}

impl Standing {
    /// The table from its stored metadata, and from the manifest list that they name.
    ///
    /// # Errors
    /// When the bytes are not what the specification says.
    pub fn parse(version: u64, metadata: &[u8], list: &[u8]) -> Result<Standing, TableError> {
        let malformed = |error| TableError::Inconsistent(format!("metadata {version} are malformed: {error}"));
        let metadata = serde_json::from_slice(metadata).map_err(malformed)?;
        let list = ManifestList::parse_with_version(list, FormatVersion::V2);
        let manifests = list.map_err(TableError::making("manifest list"))?.entries().to_vec();
        Ok(Standing { version, metadata, manifests })
    }

    /// The manifests that name data files.
    pub fn data_manifests(&self) -> impl Iterator<Item = &ManifestFile> {
        of(&self.manifests, ManifestContentType::Data)
    }

    /// The manifest that names position deletes, if there are any.
    #[must_use]
    pub fn delete_manifest(&self) -> Option<&ManifestFile> {
        of(&self.manifests, ManifestContentType::Deletes).next()
    }
}

/// A manifest of the standing table that is written anew, with what it holds.
#[derive(Debug, Clone)]
pub struct Rewrite {
    /// Its URL.
    pub url: String,
    /// All its entries, as they were read.
    pub entries: Vec<ManifestEntryRef>,
}

impl Rewrite {
    /// A manifest from its stored bytes.
    ///
    /// # Errors
    /// When the bytes are not what the specification says.
    pub fn parse(url: String, bytes: &[u8]) -> Result<Rewrite, TableError> {
        let entries = Manifest::parse_avro(bytes).map_err(TableError::making("manifest"))?.into_parts().0;
        Ok(Rewrite { url, entries })
    }
}

/// What has changed in the archive since the standing table.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// New objects, with their partitions.
    pub added: Vec<(i32, DataObject)>,
    /// Names of objects that the log names no more. Each must be in one of `rewrites`.
    pub dropped: BTreeSet<String>,
    /// The data manifests that name dropped objects, and any that should be joined into one.
    pub rewrites: Vec<Rewrite>,
    /// All cuts that hold now: at most one for each partition.
    pub cuts: Vec<Cut>,
    /// The standing delete manifest; must be given if there is one.
    pub standing_cuts: Option<Rewrite>,
    /// Snapshots made before this are forgotten; the newest never is.
    pub expire_before: TimestampMs,
    /// More that the snapshot's summary says.
    pub properties: BTreeMap<String, String>,
    /// Without a standing table: the number of the last metadata that are there, unreadable or of another place; else 0.
    pub after: u64,
}

/// When a commit is tried, and which try it is.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    /// The time in ms.
    pub now: TimestampMs,
    /// A number that no other try has.
    pub attempt: Uuid,
}

impl Stamp {
    /// The snapshot's id: positive, and as unique as the try.
    fn snapshot_id(self) -> i64 {
        let (high, low) = self.attempt.as_u64_pair();
        ((high ^ low.rotate_left(1)) >> 1).cast_signed().max(1)
    }
}

/// A file to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where.
    pub url: String,
    /// What.
    pub bytes: Bytes,
}

/// A commit that takes place once its last file is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// The files in the order in which they must be stored, all of them new. Whoever creates the last one, the metadata,
    /// has committed.
    pub files: Vec<File>,
    /// The table afterwards.
    pub standing: Standing,
}

/// Makes the commit that follows `standing`; `None` is a table that does not exist yet.
///
/// # Errors
/// [`TableError`]; nothing is stored here, so nothing is left behind.
pub async fn advance(
    table: &Table,
    standing: Option<&Standing>,
    change: &Change,
    stamp: Stamp,
) -> Result<Commit, TableError> {
    let version = standing.map_or(change.after, |standing| standing.version) + 1;
    let metadata = match standing {
        Some(standing) => standing.metadata.clone(),
        None => table.empty(stamp.now)?,
    };
    let before = standing.map_or(&[][..], |standing| &standing.manifests);
    let snapshot_id = stamp.snapshot_id();
    let mut writer = Writer::new(table, &metadata, before, stamp)?;
    let list_url = writer.write(change).await?;
    let Writer { mut files, manifests, .. } = writer;
    let snapshot = Snapshot::builder()
        .with_snapshot_id(snapshot_id)
        .with_parent_snapshot_id(metadata.current_snapshot_id())
        .with_sequence_number(metadata.next_sequence_number())
        .with_timestamp_ms(timestamp(standing, stamp.now))
        .with_manifest_list(list_url)
        .with_summary(summary::summary(before, &manifests, change, snapshot_id))
        .with_schema_id(metadata.current_schema_id())
        .build();
    let expired = expiry::expired(&metadata, change.expire_before, MAX_SNAPSHOTS - 1);
    let main = SnapshotReference::new(snapshot_id, SnapshotRetention::branch(None, None, None));
    let metadata = metadata
        .into_builder(standing.map(|standing| table.metadata_url(standing.version)))
        .add_snapshot(snapshot)
        .and_then(|builder| builder.set_ref(MAIN, main))
        .and_then(|builder| builder.remove_snapshots(&expired).build())
        .map_err(TableError::making("metadata"))?
        .metadata;
    files.push(File { url: table.metadata_url(version), bytes: encode(&metadata)? });
    Ok(Commit { files, standing: Standing { version, metadata, manifests } })
}

/// Later than everything before it, and the clock's time if that is so.
fn timestamp(standing: Option<&Standing>, now: TimestampMs) -> TimestampMs {
    standing.map_or(now, |standing| now.max(standing.metadata.last_updated_ms() + 1))
}

/// The metadata as they are stored. Lists whose order means nothing are sorted, so that a state has one form.
fn encode(metadata: &TableMetadata) -> Result<Bytes, TableError> {
    let failed = |error: serde_json::Error| TableError::Inconsistent(format!("the metadata are no JSON: {error}"));
    let mut json = serde_json::to_value(metadata).map_err(failed)?;
    for (list, key) in [("schemas", "schema-id"), ("snapshots", "sequence-number")] {
        if let Some(items) = json.get_mut(list).and_then(serde_json::Value::as_array_mut) {
            items.sort_by_key(|item| item.get(key).and_then(serde_json::Value::as_i64));
        }
    }
    serde_json::to_vec_pretty(&json).map(Bytes::from).map_err(failed)
}

/// Whether a manifest names anything that a reader sees.
fn is_alive(manifest: &ManifestFile) -> bool {
    manifest.has_added_files() || manifest.has_existing_files()
}

fn of(manifests: &[ManifestFile], content: ManifestContentType) -> impl Iterator<Item = &ManifestFile> {
    manifests.iter().filter(move |manifest| manifest.content == content && is_alive(manifest))
}

#[cfg(test)]
mod tests;
