//! Gives partitions the replicas that they wait for (`coordinator::cluster::Partition::wanted_replicas`): those of the internal
//! topics of a node that was alone when they were made, and has company now.

use std::sync::Arc;
use std::time::Duration;

use coordinator::cluster::{Command, Reply};
use tokio_util::sync::CancellationToken;

use super::{ClusterImage, Metadata};

/// Partitions of the cluster that may be reassigned at a time; while there are as many, none is added.
const WIDENED_AT_ONCE: usize = 10;
/// Pause between two looks: brokers and changes of ISRs come in crowds.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Metadata {
    /// While this node leads the log, begins to add replicas to partitions that wait for them, as soon as there are enough
    /// brokers, a few partitions at a time. The reassignments are ordinary ones: throttles hold them back, and they can be
    /// taken back.
    pub async fn keep_widening(self, stop: CancellationToken) {
        let mut looked_at: Option<Arc<ClusterImage>> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.inner.closing.cancelled() => return,
                () = tokio::time::sleep(LOOK_AGAIN_AFTER) => {}
            }
            let image = self.image();
            let is_known = looked_at.as_ref().is_some_and(|known| image.shares_layout_with(known));
            if is_known || !self.leads() {
                continue;
            }
            let is_settled = image.ready_for_replicas().next().is_none() || self.widen().await;
            looked_at = is_settled.then_some(image);
        }
    }

    /// False when it must be tried again.
    async fn widen(&self) -> bool {
        match self.submit(Command::AddWantedReplicas { at_most: WIDENED_AT_ONCE }).await {
            Ok(Reply::ReplicasAdded { partitions }) => {
                if partitions > 0 {
                    tracing::info!(
                        partitions,
                        "there are enough brokers: partitions get the replicas that they waited for"
                    );
                }
                true
            }
            Ok(_) => true,
            Err(error) => {
                tracing::debug!(%error, "replicas that are waited for are not added yet");
                false
            }
        }
    }
}
