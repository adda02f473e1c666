//! The image of the cluster that everyone in the broker reads.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use coordinator::cluster::Cluster;
use model::NodeId;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

/// The cluster's metadata as of one entry of its log. Never changes; a newer image replaces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterImage {
    cluster: Cluster,
    version: u64,
}

impl ClusterImage {
    /// Index of the last log entry that changed the cluster, plus one; 0 for none. Grows with every image.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    #[cfg(test)]
    pub(crate) fn from_cluster(cluster: Cluster) -> Self {
        ClusterImage { cluster, version: 1 }
    }
}

impl Deref for ClusterImage {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

/// Hands the newest image to readers (without a lock) and to those who wait for changes.
#[derive(Debug)]
pub(super) struct Images {
    current: ArcSwap<ClusterImage>,
    changes: watch::Sender<Arc<ClusterImage>>,
    /// When it was seen that a broker may lead no longer.
    lost: Mutex<BTreeMap<NodeId, Instant>>,
}

impl Images {
    pub(super) fn new() -> Self {
        let first = Arc::new(ClusterImage { cluster: Cluster::new(), version: 0 });
        Images { current: ArcSwap::new(first.clone()), changes: watch::Sender::new(first), lost: Mutex::default() }
    }

    pub(super) fn current(&self) -> Arc<ClusterImage> {
        self.current.load_full()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.changes.subscribe()
    }

    pub(super) fn publish(&self, cluster: &Cluster, version: u64) {
        let image = Arc::new(ClusterImage { cluster: cluster.clone(), version });
        self.note_lost(&image);
        self.current.store(image.clone());
        self.changes.send_replace(image);
    }

    /// The brokers that were fenced within the last `window`, some of them perhaps unfenced since.
    pub(super) fn lost_within(&self, window: Duration) -> BTreeSet<NodeId> {
        self.lost.lock().iter().filter(|(_, at)| at.elapsed() < window).map(|(node, _)| *node).collect()
    }

    fn note_lost(&self, next: &ClusterImage) {
        let before = self.current();
        let now = Instant::now();
        let is_lost = |node: &NodeId| before.is_alive(*node) && !next.is_alive(*node);
        let mut lost = self.lost.lock();
        lost.retain(|node, _| next.broker(*node).is_some());
        lost.extend(next.brokers().map(|broker| broker.id).filter(is_lost).map(|node| (node, now)));
    }
}
