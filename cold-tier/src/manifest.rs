//! The manifest: an immutable object that lists what a partition's archive holds.
//!
//! One line of text, then JSON:
//!
//! ```text
//! firn-manifest 1 <length of the JSON in bytes> <CRC-32C of the JSON, 8 hex digits>\n
//! { … }
//! ```
//!
//! Every commit writes a new manifest under a new name; the coordinator's ledger says which one counts. Old entries spill
//! into child manifests (`firn-manifest-node`), which later manifests keep naming, so that a commit stays small however
//! long the history is ([`tree`]). A crash leaves manifests that no pointer names: the sweep takes them.

pub(crate) mod cache;
pub(crate) mod tree;

use std::sync::Arc;

use model::archive::ManifestPointer;
use model::segment::EpochStart;
use model::{LeaderEpoch, NO_TIMESTAMP, Offset, TimestampMs, TopicName, TopicPartition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::checksum::crc32c;

/// Version of the manifest format.
pub const MANIFEST_VERSION: u32 = 1;
/// Largest manifest object that is read, in bytes.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 64 << 20;

const MANIFEST_MAGIC: &str = "firn-manifest";
const NODE_MAGIC: &str = "firn-manifest-node";

/// One archived object and what it covers: made by [`crate::ColdTier::archive`], kept in manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchivedSegment {
    /// The object's name, relative to the store's root.
    pub object: String,
    /// First offset covered; a record need not exist there.
    pub base_offset: Offset,
    /// First offset after the range covered.
    pub next_offset: Offset,
    /// Leader epoch of the broker that archived it.
    pub leader_epoch: LeaderEpoch,
    /// Bytes of the object.
    pub bytes: u64,
    /// Bytes that its batches took on local disk: what size retention counts.
    pub record_bytes: u64,
    /// Records in the object.
    pub records: u64,
    /// Smallest record timestamp in ms, or −1.
    pub min_timestamp: TimestampMs,
    /// Largest record timestamp in ms, or −1.
    pub max_timestamp: TimestampMs,
    /// When the object was archived, in ms: its age where no record carries a timestamp.
    pub archived_at: TimestampMs,
    /// Leader epochs that occur in the range; the first may begin below it.
    pub epochs: Vec<EpochStart>,
    /// Bytes at the object's end that hold page indexes and Parquet metadata.
    pub footer_bytes: u64,
    /// CRC-32C of those bytes.
    pub footer_crc32c: u32,
    /// Chunks in the object.
    pub chunks: u32,
    /// Where the object holds the producer state at `next_offset`.
    pub producers: Attachment,
    /// The store's ETag, where it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// Bytes inside an object that are no rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// Where they begin.
    pub offset: u64,
    /// How many there are.
    pub length: u64,
    /// Their CRC-32C.
    pub crc32c: u32,
}

/// Sums over archived segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Data objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of their batches on local disk.
    pub record_bytes: u64,
    /// Their records.
    pub records: u64,
    /// Their largest record timestamp in ms, or −1.
    pub max_timestamp: TimestampMs,
}

impl Default for Totals {
    fn default() -> Self {
        Totals { objects: 0, bytes: 0, record_bytes: 0, records: 0, max_timestamp: NO_TIMESTAMP }
    }
}

impl Totals {
    fn plus(self, other: Totals) -> Totals {
        Totals {
            objects: self.objects.saturating_add(other.objects),
            bytes: self.bytes.saturating_add(other.bytes),
            record_bytes: self.record_bytes.saturating_add(other.record_bytes),
            records: self.records.saturating_add(other.records),
            max_timestamp: self.max_timestamp.max(other.max_timestamp),
        }
    }
}

impl From<&ArchivedSegment> for Totals {
    fn from(segment: &ArchivedSegment) -> Self {
        Totals {
            objects: 1,
            bytes: segment.bytes,
            record_bytes: segment.record_bytes,
            records: segment.records,
            max_timestamp: segment.max_timestamp,
        }
    }
}

/// A child manifest, as its parent names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Child {
    /// The child's name, relative to the store's root.
    pub object: String,
    /// 1 for a child that holds segments, one more than its children's otherwise.
    pub level: u32,
    /// First offset covered.
    pub base_offset: Offset,
    /// First offset after the range covered.
    pub next_offset: Offset,
    /// Sums over what it covers.
    pub totals: Totals,
}

/// Part of the list of a partition's archived segments, oldest first: the children, then the segments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Older parts of the list.
    pub children: Vec<Child>,
    /// Segments, adjacent and in order.
    pub segments: Vec<ArchivedSegment>,
}

impl Node {
    /// Sums over everything below.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let children = self.children.iter().map(|child| child.totals);
        children.chain(self.segments.iter().map(Totals::from)).fold(Totals::default(), Totals::plus)
    }

    /// First offset covered, when anything is.
    #[must_use]
    pub fn base_offset(&self) -> Option<Offset> {
        let child = self.children.first().map(|child| child.base_offset);
        child.or_else(|| self.segments.first().map(|segment| segment.base_offset))
    }

    /// First offset after the range covered, when anything is.
    #[must_use]
    pub fn next_offset(&self) -> Option<Offset> {
        let segment = self.segments.last().map(|segment| segment.next_offset);
        segment.or_else(|| self.children.last().map(|child| child.next_offset))
    }

    /// True when nothing is covered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.children.is_empty() && self.segments.is_empty()
    }

    /// Adjacent, in order, with plausible numbers.
    fn check(&self) -> Result<(), String> {
        let children = self.children.iter().map(|c| (&c.object, c.base_offset, c.next_offset));
        let segments = self.segments.iter().map(|s| (&s.object, s.base_offset, s.next_offset));
        let mut end = None;
        for (object, base, next) in children.chain(segments) {
            if base < 0 || next <= base || end.is_some_and(|end| end != base) {
                return Err(format!("{object} covers [{base}, {next}), which does not continue the list"));
            }
            end = Some(next);
        }
        for segment in &self.segments {
            if segment.footer_bytes > segment.bytes {
                return Err(format!("{} has a footer longer than itself", segment.object));
            }
        }
        Ok(())
    }
}

/// A manifest as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The cluster that wrote it.
    pub cluster_id: String,
    /// The topic's name, for people.
    pub topic: TopicName,
    /// Whose archive it describes.
    pub partition: TopicPartition,
    /// Number of commits so far, this one included.
    pub version: u64,
    /// The manifest that this one replaces.
    pub previous: Option<String>,
    /// Leader epoch of the broker that wrote it.
    pub leader_epoch: LeaderEpoch,
    /// First offset that readers may see.
    pub log_start: Offset,
    /// First offset that is not archived.
    pub archived_end: Offset,
    /// Sums over all segments.
    pub totals: Totals,
    /// The segments.
    pub list: Arc<Node>,
}

impl Manifest {
    /// The manifest as it is stored.
    ///
    /// # Errors
    /// Only if serialization fails, which the types do not let happen.
    pub fn encode(&self) -> Result<Vec<u8>, String> {
        frame(MANIFEST_MAGIC, self)
    }

    /// Reads a stored manifest.
    ///
    /// # Errors
    /// What is wrong with the bytes, for a person. Never panics.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, String> {
        let manifest: Manifest = unframe(MANIFEST_MAGIC, bytes)?;
        manifest.list.check()?;
        let end = manifest.list.next_offset().unwrap_or(manifest.archived_end);
        if manifest.log_start > manifest.archived_end || end > manifest.archived_end {
            return Err(format!(
                "its offsets are out of order: log start {}, last segment ends at {end}, archived end {}",
                manifest.log_start, manifest.archived_end
            ));
        }
        Ok(manifest)
    }

    /// The ledger's entry for this manifest, stored under `object`.
    #[must_use]
    pub fn pointer(&self, object: String) -> ManifestPointer {
        ManifestPointer {
            object,
            version: self.version,
            leader_epoch: self.leader_epoch,
            log_start: self.log_start,
            archived_end: self.archived_end,
            bytes: self.totals.bytes,
            record_bytes: self.totals.record_bytes,
            objects: self.totals.objects,
            max_timestamp: self.totals.max_timestamp,
        }
    }
}

impl Node {
    /// The child manifest as it is stored.
    ///
    /// # Errors
    /// As [`Manifest::encode`].
    pub fn encode(&self) -> Result<Vec<u8>, String> {
        frame(NODE_MAGIC, self)
    }

    /// Reads a stored child manifest.
    ///
    /// # Errors
    /// As [`Manifest::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Node, String> {
        let node: Node = unframe(NODE_MAGIC, bytes)?;
        node.check()?;
        if node.is_empty() { Err("it lists nothing".into()) } else { Ok(node) }
    }
}

/// A value as JSON behind a line with its length and checksum, as manifests are stored.
///
/// # Errors
/// Only if serialization fails.
pub fn frame(magic: &str, value: &impl Serialize) -> Result<Vec<u8>, String> {
    let json = serde_json::to_vec(value).map_err(|e| e.to_string())?;
    let mut bytes = format!("{magic} {MANIFEST_VERSION} {} {:08x}\n", json.len(), crc32c(&json)).into_bytes();
    bytes.extend_from_slice(&json);
    Ok(bytes)
}

/// Reads what [`frame`] has made.
///
/// # Errors
/// What is wrong with the bytes, for a person.
pub fn unframe<T: DeserializeOwned>(magic: &str, bytes: &[u8]) -> Result<T, String> {
    let head_len = bytes.iter().take(96).position(|&b| b == b'\n').ok_or("it has no first line")?;
    let (head, json) = (&bytes[..head_len], &bytes[head_len + 1..]);
    let head = std::str::from_utf8(head).map_err(|_| "its first line is no text")?;
    let [found, version, len, crc] = head.split(' ').collect::<Vec<_>>()[..] else {
        return Err(format!("its first line {head:?} is not a manifest's"));
    };
    if found != magic {
        return Err(format!("it begins with {found:?} instead of {magic:?}"));
    }
    if version != MANIFEST_VERSION.to_string() {
        return Err(format!("its version {version} is not supported, only {MANIFEST_VERSION} is"));
    }
    if len.parse() != Ok(json.len()) {
        return Err(format!("it has {} bytes of JSON, its first line says {len}", json.len()));
    }
    if u32::from_str_radix(crc, 16) != Ok(crc32c(json)) {
        return Err("its checksum does not match".into());
    }
    serde_json::from_slice(json).map_err(|e| format!("its JSON is malformed: {e}"))
}

#[cfg(test)]
mod tests;
