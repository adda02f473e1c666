//! The image of the cluster that everyone in the broker reads.

use std::ops::Deref;
use std::sync::Arc;

use arc_swap::ArcSwap;
use coordinator::cluster::Cluster;
use tokio::sync::watch;

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
}

impl Images {
    pub(super) fn new() -> Self {
        let first = Arc::new(ClusterImage { cluster: Cluster::new(), version: 0 });
        Images { current: ArcSwap::new(first.clone()), changes: watch::Sender::new(first) }
    }

    pub(super) fn current(&self) -> Arc<ClusterImage> {
        self.current.load_full()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.changes.subscribe()
    }

    pub(super) fn publish(&self, cluster: &Cluster, version: u64) {
        let image = Arc::new(ClusterImage { cluster: cluster.clone(), version });
        self.current.store(image.clone());
        self.changes.send_replace(image);
    }
}
