//! The archive ledger's entry: the cold tier makes it, the coordinator keeps it, and who reads the archive is given it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::settings::TopicSettings;
use crate::{LeaderEpoch, NO_TIMESTAMP, NodeId, Offset, TimestampMs, TopicId, TopicName};

/// Names the manifest that describes a partition's archive, and what it spans.
///
/// Invariants: `log_start ≤ archived_end`; `version` grows by one with every commit, from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestPointer {
    /// Key of the manifest object, relative to the store's root.
    pub object: String,
    /// Number of commits so far, this one included: 1 is a partition's first manifest.
    pub version: u64,
    /// Leader epoch of the broker that made the commit.
    pub leader_epoch: LeaderEpoch,
    /// First offset that readers may still see.
    pub log_start: Offset,
    /// First offset that is not archived.
    pub archived_end: Offset,
    /// Bytes of the data objects that the manifest names.
    pub bytes: u64,
    /// Bytes that their record batches had on local disk: what size retention counts.
    pub record_bytes: u64,
    /// Number of data objects that the manifest names.
    pub objects: u64,
    /// Largest record timestamp in them, or −1.
    #[serde(default = "no_timestamp")]
    pub max_timestamp: TimestampMs,
}

fn no_timestamp() -> TimestampMs {
    NO_TIMESTAMP
}

/// A topic with its archive ledger, all of one moment.
#[derive(Debug, Clone)]
pub struct TopicArchive {
    /// Its name.
    pub name: TopicName,
    /// Its id.
    pub id: TopicId,
    /// Its settings, defaults included.
    pub settings: Arc<TopicSettings>,
    /// Its partitions, in the order of their indexes.
    pub partitions: Vec<PartitionArchive>,
}

/// A partition with its entry in the archive ledger.
#[derive(Debug, Clone)]
pub struct PartitionArchive {
    /// The node that leads it, when one does.
    pub leader: Option<NodeId>,
    /// First offset that readers see, as far as the cluster's metadata know; the leader may know more.
    pub log_start: Offset,
    /// The manifest that counts; none before the first commit.
    pub pointer: Option<Arc<ManifestPointer>>,
}
