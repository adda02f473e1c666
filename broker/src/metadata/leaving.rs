//! What a node does before it stops: others take over what it leads, first partitions, then the metadata log.

use std::time::Duration;

use coordinator::cluster::{Broker, Command, Reply};
use futures::future::join_all;
use model::NodeId;
use tokio::time::{Instant, sleep, timeout};

use super::rpc::{self, Resignation};
use super::succession::Succession;
use super::{ClusterImage, Metadata, node_id};

/// Pause before partitions are offered again that nobody could take.
const OFFER_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How long one offer may take.
const OFFERED_WITHIN: Duration = Duration::from_secs(2);
/// How long another voter may take to hear of the resignation.
const HEARD_WITHIN: Duration = Duration::from_millis(500);
/// How long a new leader of the log is waited for.
const REPLACED_WITHIN: Duration = Duration::from_secs(2);
/// How long a stop waits for a metadata log that takes no commands.
const WITHOUT_LOG: Duration = Duration::from_secs(3);

impl Metadata {
    /// Hands over the partitions that this broker leads to others that can lead them, for `patience` at most. It gets no new
    /// ones afterwards.
    pub async fn hand_over(&self, patience: Duration) {
        self.stop_serving();
        let (started, mut limit) = (Instant::now(), patience);
        let before = self.image();
        while self.has_takers() {
            let left = match self.submit_within(Command::ShutDownBroker(self.broker()), OFFERED_WITHIN).await {
                Ok(Reply::BrokerShutsDown { led_partitions: 0 }) => 0,
                Ok(_) => movable(&self.image(), self.node_id()),
                Err(error) => {
                    tracing::debug!(%error, "the cluster does not know yet that this broker stops");
                    limit = limit.min(WITHOUT_LOG);
                    usize::MAX
                }
            };
            if left == 0 {
                let succession = Succession::between(&before, &self.image(), self.node_id());
                tracing::info!(took = ?started.elapsed(), "this broker has handed over what it led: {succession}");
                return;
            }
            if started.elapsed() > limit {
                let succession = Succession::between(&before, &self.image(), self.node_id());
                tracing::warn!(waited = ?limit, left, "some partitions of this broker could not be handed over: {succession}");
                return;
            }
            sleep(OFFER_AGAIN_AFTER).await;
        }
    }

    /// Another broker is there that could lead.
    fn has_takers(&self) -> bool {
        let is_there = |id| self.inner.sessions.of(id).is_some_and(|session| session.gone.is_none());
        let image = self.image();
        image.brokers().any(|broker| broker.id != self.node_id() && broker.is_active() && is_there(broker.id))
    }

    /// Gives up the leadership of the log, if this node has it and another voter can take it.
    pub async fn resign(&self) {
        let metrics = self.inner.raft.metrics().borrow().clone();
        let voters = metrics.membership_config.membership().voter_ids();
        let others: Vec<NodeId> = voters.map(node_id).filter(|voter| *voter != self.node_id()).collect();
        if !self.leads() || others.is_empty() {
            return;
        }
        let raft = &self.inner.raft;
        raft.runtime_config().heartbeat(false);
        raft.runtime_config().elect(false);
        let resignation = Resignation { node_id: self.node_id(), term: metrics.current_term };
        let telling =
            others.iter().map(|voter| self.inner.peers.call::<()>(*voter, rpc::RESIGN, &resignation, HEARD_WITHIN));
        if join_all(telling).await.iter().all(Result::is_err) {
            tracing::warn!("no other voter is there to lead the metadata log");
            return;
        }
        let mut metrics = raft.metrics();
        let raft_id = self.inner.raft_id;
        let is_other = |leader: Option<u64>| leader.is_some_and(|leader| leader != raft_id);
        let replaced = timeout(REPLACED_WITHIN, metrics.wait_for(|metrics| is_other(metrics.current_leader))).await;
        match replaced {
            Ok(Ok(metrics)) => tracing::info!(leader = metrics.current_leader, "another node leads the metadata log"),
            _ => tracing::warn!("no other node took over the metadata log yet"),
        }
    }
}

/// Partitions that the node leads and another replica could lead, once it is in sync.
fn movable(image: &ClusterImage, node: NodeId) -> usize {
    let led = image.partitions().filter(|(_, partition)| partition.leader == node);
    let is_taker = |id: NodeId| id != node && image.broker(id).is_some_and(Broker::is_active);
    led.filter(|(_, partition)| partition.replicas.iter().any(|other| is_taker(*other))).count()
}
