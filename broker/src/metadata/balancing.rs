//! Returns leaderships to preferred leaders: after a broker was away, others lead what it should.

use std::time::Duration;

use coordinator::cluster::{Command, Reply};
use tokio_util::sync::CancellationToken;

use super::Metadata;

/// Leaderships that one command moves.
const MOVED_AT_ONCE: usize = 1000;

impl Metadata {
    /// While this node leads the log, has every leadership moved to its preferred leader that can, each `interval`.
    pub async fn keep_balanced(self, interval: Duration, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.inner.closing.cancelled() => return,
                () = tokio::time::sleep(interval) => {}
            }
            while self.leads() && self.balance().await {}
        }
    }

    /// True when more is to be moved.
    async fn balance(&self) -> bool {
        match self.submit(Command::BalanceLeaders { at_most: MOVED_AT_ONCE }).await {
            Ok(Reply::LeadersBalanced { moved, is_more_left }) => {
                if moved > 0 {
                    tracing::info!(partitions = moved, "returned leaderships to their preferred leaders");
                }
                is_more_left
            }
            Ok(_) => false,
            Err(error) => {
                tracing::debug!(%error, "leaderships are not balanced yet");
                false
            }
        }
    }
}
