//! Drops entries of the log that a snapshot covers, by their bytes.
//!
//! A node that is a little behind gets the entries that it lacks, one that is far behind gets the snapshot. Which is less
//! to send depends on bytes, which openraft does not count: it keeps everything, and is told here what may go.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use openraft::{BasicNode, RaftMetrics};
use tokio::sync::watch;

use super::Inner;
use super::log::LogStore;

/// The entries behind a snapshot have at most the bytes of the snapshot, divided by this.
const PART_OF_SNAPSHOT: usize = 2;
/// And never more than that.
const MOST_BYTES: usize = 8 << 20;

/// Tells Raft after every snapshot which entries it may drop, until the log ends. `snapshot_bytes`: size of the last one.
pub(super) async fn purge(
    inner: Weak<Inner>,
    mut metrics: watch::Receiver<RaftMetrics<u64, BasicNode>>,
    log: LogStore,
    snapshot_bytes: Arc<AtomicUsize>,
) {
    let mut seen = None;
    loop {
        let covered = metrics.borrow_and_update().snapshot.map(|id| id.index);
        if covered != seen {
            seen = covered;
            let kept = (snapshot_bytes.load(Ordering::Acquire) / PART_OF_SNAPSHOT).min(MOST_BYTES);
            let upto = covered.and_then(|covered| log.droppable(covered, kept));
            let Some(inner) = inner.upgrade() else { return };
            if let Some(upto) = upto
                && inner.raft.trigger().purge_log(upto).await.is_err()
            {
                return;
            }
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}
