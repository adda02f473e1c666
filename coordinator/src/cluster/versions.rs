//! Metadata versions: which rules are valid, and which of them each broker knows (as KIP-584 has it for Kafka).
//!
//! The cluster holds one version in its state. Records and fields that came with a version are written only while the cluster
//! is at that version or above: so a build that does not know them never meets them. A broker states the range that its
//! build knows when it registers; the version can be raised to what all of them know, and a broker that does not know
//! the version of the cluster is refused.
//!
//! | Version | What came with it |
//! |---|---|
//! | 1 | all that is not named below |
//! | 2 | [`Partition::wanted_replicas`] |
//! | 3 | [`Partition::log_start`] |
//! | 4 | [`Cluster::store_id`] |

use serde::{Deserialize, Serialize};

use super::draft::Draft;
use super::store_identity;
use super::{Cluster, ClusterError, Partition, Record, Reply};
use model::TopicPartition;

/// Newest rules that this build knows.
pub const METADATA_VERSION: u16 = 4;
/// Partitions keep how many replicas they wait for.
pub(super) const WITH_WANTED_REPLICAS: u16 = 2;
/// Partitions keep their log starts.
pub(super) const WITH_LOG_STARTS: u16 = 3;
/// The cluster keeps the identity of its object store.
pub(super) const WITH_STORE_ID: u16 = 4;

/// The metadata versions that a build knows, from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataVersions {
    /// The lowest.
    pub min: u16,
    /// The highest.
    pub max: u16,
}

/// How the version of a cluster is to change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionChange {
    /// To newer rules.
    #[default]
    Upgrade,
    /// To older rules, if nothing is kept that they do not know.
    SafeDowngrade,
    /// To older rules: what they do not know is forgotten.
    UnsafeDowngrade,
}

impl MetadataVersions {
    /// What this build knows.
    pub const OF_THIS_BUILD: MetadataVersions = MetadataVersions { min: 1, max: METADATA_VERSION };

    /// True when the build knows the version.
    #[must_use]
    pub fn contains(self, version: u16) -> bool {
        (self.min..=self.max).contains(&version)
    }

    /// What is left out of files.
    pub(super) fn is_default(&self) -> bool {
        *self == MetadataVersions::default()
    }
}

impl Default for MetadataVersions {
    /// What builds know that do not say what they know.
    fn default() -> Self {
        MetadataVersions { min: 1, max: 1 }
    }
}

impl Cluster {
    /// The versions that all registered brokers know; none when they have none in common.
    #[must_use]
    pub fn common_metadata_versions(&self) -> Option<MetadataVersions> {
        let known = || self.brokers().map(|broker| broker.metadata_versions);
        let (min, max) = (known().map(|known| known.min).max()?, known().map(|known| known.max).min()?);
        (min <= max).then_some(MetadataVersions { min, max })
    }

    /// Whether a node whose build knows these versions can belong to the cluster.
    ///
    /// # Errors
    /// [`ClusterError::InvalidRequest`], which builds understand that are from before there were versions.
    pub fn check_build(&self, known: MetadataVersions) -> Result<(), ClusterError> {
        let (current, MetadataVersions { min, max }) = (self.metadata_version(), known);
        if known.contains(current) {
            return Ok(());
        }
        let reason = format!(
            "the cluster is at metadata version {current}, the build of this node knows {min} to {max}: start it with a build \
             that knows {current}"
        );
        Err(ClusterError::InvalidRequest { reason })
    }
}

/// The version of a cluster that is being made.
pub(super) fn check_first(asked: u16) -> Result<(), ClusterError> {
    if MetadataVersions::OF_THIS_BUILD.contains(asked) {
        return Ok(());
    }
    Err(ClusterError::InvalidMetadataVersion { asked, current: 0, newest: METADATA_VERSION })
}

/// Makes other rules valid.
pub(super) fn set(draft: &mut Draft, version: u16, change: VersionChange) -> Result<Reply, ClusterError> {
    let current = draft.state.metadata_version();
    check_known(&draft.state, version)?;
    let refused = |reason: String| Err(ClusterError::MetadataVersionRefused { reason });
    if version < current {
        if change == VersionChange::Upgrade {
            return refused(format!(
                "metadata version {version} is older than {current}, where the cluster is: this is a downgrade"
            ));
        }
        forget_newer(draft, version, change)?;
    } else if version > current && change != VersionChange::Upgrade {
        return refused(format!(
            "metadata version {version} is newer than {current}, where the cluster is: this is no downgrade"
        ));
    }
    if version != current {
        draft.push(Record::MetadataVersionSet { version });
    }
    Ok(Reply::Done)
}

/// Every registered broker must know the version, also one that is down: it would not be let in again.
fn check_known(state: &Cluster, version: u16) -> Result<(), ClusterError> {
    let Some(broker) = state.brokers().find(|broker| !broker.metadata_versions.contains(version)) else {
        return if state.brokers().next().is_some() { Ok(()) } else { check_first(version) };
    };
    let (id, MetadataVersions { min, max }) = (broker.id, broker.metadata_versions);
    let reason = format!("metadata version {version} is not possible: broker {id} knows {min} to {max}");
    Err(ClusterError::MetadataVersionRefused { reason })
}

/// What the older rules do not know must not be there any more.
fn forget_newer(draft: &mut Draft, version: u16, change: VersionChange) -> Result<(), ClusterError> {
    if version < WITH_WANTED_REPLICAS {
        forget_wanted_replicas(draft, version, change)?;
    }
    if version < WITH_LOG_STARTS {
        forget_log_starts(draft);
    }
    if version < WITH_STORE_ID {
        store_identity::forget(draft);
    }
    Ok(())
}

fn forget_wanted_replicas(draft: &mut Draft, version: u16, change: VersionChange) -> Result<(), ClusterError> {
    let waiting = draft.state.partitions().filter(|(_, partition)| partition.wanted_replicas.is_some());
    let waiting: Vec<(TopicPartition, Partition)> = waiting.map(|(id, partition)| (id, partition.clone())).collect();
    if waiting.is_empty() {
        return Ok(());
    }
    if change == VersionChange::SafeDowngrade {
        let reason = format!(
            "metadata version {version} cannot keep that {} partitions wait for more replicas: wait until they have them, or \
             let it be forgotten by an unsafe downgrade",
            waiting.len()
        );
        return Err(ClusterError::MetadataVersionRefused { reason });
    }
    for (id, old) in waiting {
        let partition_epoch = old.partition_epoch.saturating_add(1);
        draft.put_partition(id, Partition { wanted_replicas: None, partition_epoch, ..old });
    }
    Ok(())
}

/// Older rules leave them to the replicas, each of which keeps its own: also a safe downgrade forgets them.
fn forget_log_starts(draft: &mut Draft) {
    let moved = draft.state.partitions().filter(|(_, partition)| partition.log_start > 0);
    let moved: Vec<(TopicPartition, Partition)> = moved.map(|(id, partition)| (id, partition.clone())).collect();
    for (id, old) in moved {
        let partition_epoch = old.partition_epoch.saturating_add(1);
        draft.put_partition(id, Partition { log_start: 0, partition_epoch, ..old });
    }
}
