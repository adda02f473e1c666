//! Whether what this node knows is the newest there is: one that is cut off may believe to lead what others lead by now.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{Metadata, rpc};

/// Asks the leader of the metadata log for the version of the newest image.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct AskedVersion {}

impl Metadata {
    /// Waits until the image here holds every decision that was made before this question. False when that is not known
    /// after `within`: the leader of the log, or most of its voters, are not to be reached.
    pub(crate) async fn is_up_to_date(&self, within: Duration) -> bool {
        let known = async {
            let version = self.newest_version(within).await?;
            self.watch().wait_for(|image| image.version() >= version).await.ok().map(drop)
        };
        timeout(within, known).await.ok().flatten().is_some()
    }

    async fn newest_version(&self, within: Duration) -> Option<u64> {
        let leader = self.controller()?;
        if leader == self.node_id() {
            return self.confirmed_version().await;
        }
        let asking = self.inner.peers.call::<Option<u64>>(leader, rpc::VERSION, &AskedVersion {}, within);
        asking.await.ok().flatten()
    }

    /// The version of the image here, if most voters confirm that this node leads the log (Raft §6.4).
    pub(super) async fn confirmed_version(&self) -> Option<u64> {
        Box::pin(self.inner.raft.ensure_linearizable()).await.ok()?;
        Some(self.image().version())
    }
}
