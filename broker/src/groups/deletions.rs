//! Deleted topics that a shard has not cleaned up after yet. They wait here while it loads or cannot write.

use coordinator::group::DeletedTopics;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::warn;

/// Deleted topics that wait for one shard. Offsets of topics beyond that stay until they expire; no reader sees them.
const MAX_WAITING_TOPICS: usize = 100_000;

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Deletions {
    waiting: Mutex<DeletedTopics>,
    bell: Notify,
}

impl Deletions {
    pub(super) fn add(&self, topics: &DeletedTopics) {
        let mut waiting = self.waiting.lock();
        if waiting.len() + topics.len() > MAX_WAITING_TOPICS {
            warn!(
                waiting = waiting.len(),
                topics = topics.len(),
                "offsets of deleted topics are not removed: too many wait"
            );
            return;
        }
        waiting.extend(topics.clone());
        drop(waiting);
        self.bell.notify_one();
    }

    pub(super) fn take(&self) -> DeletedTopics {
        std::mem::take(&mut *self.waiting.lock())
    }

    /// Returns when topics may have been added.
    pub(super) async fn added(&self) {
        self.bell.notified().await;
    }
}
