//! One process per node id.
//!
//! A second process with the id of a live one, such as one on a copy of its data folder, must neither take its place nor vote
//! in its name. Each process draws a random id at its start and names it on the connections by which others hear its heartbeats.
//! So the other nodes know which process is alive:
//!
//! - before a process stands for election it asks them whether they hear another one under its node id;
//! - the leader of the metadata log registers no process while another one has its place, until the session of that one ends or
//!   its connection breaks: a restart waits for nothing. One that is fenced or hands over because of its disk has its place for
//!   as long as it is heard;
//! - a process whose registration another one has replaced all the same stops: it must not lead under the epochs of that one.
//!
//! The leader of the log also lets no broker lead that it does not hear: it would fence it at once.

use std::sync::Arc;
use std::time::Duration;

use coordinator::cluster::{Broker, Cluster, ClusterError, Command};
use futures::future::join_all;
use model::NodeId;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::sessions::Sessions;
use super::{Metadata, MetadataError, rpc};

/// How long a process waits for its registration while another one has its place: longer than a usual session.
pub(super) const REGISTERED_WITHIN: Duration = Duration::from_secs(60);
/// How long another process under this node id may still be heard, because it is just ending, until this one gives up.
const ENDED_WITHIN: Duration = Duration::from_secs(5);
/// Pause before it is asked for again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(250);
/// How long another node may take to say whom it hears.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// A process whose last heartbeat is older may have ended.
const HEARD_WITHIN: Duration = Duration::from_millis(1_800);

/// Asks whether another process than this one is heard under its node id.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct AskedProcess {
    pub(super) node_id: NodeId,
    pub(super) process: Uuid,
}

/// This process, and the others as far as this node hears them.
#[derive(Debug, Clone)]
pub(super) struct Processes {
    pub(super) node_id: NodeId,
    /// Random id of this process.
    pub(super) own: Uuid,
    pub(super) sessions: Arc<Sessions>,
}

impl Processes {
    /// Why the leader of the log refuses a command that the state alone would allow.
    pub(super) fn refusal(&self, state: &Cluster, command: &Command) -> Option<ClusterError> {
        match command {
            Command::RegisterBroker(request) => {
                let (broker_id, known) = (request.broker_id, state.broker(request.broker_id)?);
                let has_place = if known.is_active() {
                    self.knows_other(broker_id, request.incarnation)
                } else {
                    // Fenced, or handing over, because of its disk: it lives while it is heard. Only such a process itself asks
                    // for another incarnation that is not fenced.
                    request.is_fenced && self.hears_other(broker_id, request.incarnation)
                };
                if known.incarnation == request.incarnation || !has_place {
                    return None;
                }
                let reason = format!(
                    "another process has this node id, with the internal listener {}: give one of them another id and an \
                     empty data folder, or stop it",
                    known.internal
                );
                Some(ClusterError::BrokerIsAlive { broker_id, reason })
            }
            Command::UnfenceBroker(broker) if !self.hears(broker.broker_id) => {
                let reason = format!(
                    "node {}, the leader of the metadata log, does not hear broker {}: it must reach its internal listener",
                    self.node_id, broker.broker_id
                );
                Some(ClusterError::InvalidRequest { reason })
            }
            _ => None,
        }
    }

    /// A process other than `process` has the node id, and its connection has not broken. It may be silent.
    fn knows_other(&self, node: NodeId, process: Uuid) -> bool {
        let known = if node == self.node_id { Some(self.own) } else { self.sessions.process(node) };
        known.is_some_and(|known| known != process)
    }

    /// The same of one that is not silent.
    pub(super) fn hears_other(&self, node: NodeId, process: Uuid) -> bool {
        self.hears(node) && self.knows_other(node, process)
    }

    fn hears(&self, node: NodeId) -> bool {
        node == self.node_id || self.sessions.is_heard(node)
    }
}

impl Sessions {
    /// The process under the node id; none where it has not said which one it is.
    fn process(&self, node: NodeId) -> Option<Uuid> {
        let process = self.processes.lock().get(&node).copied();
        process.filter(|_| self.is_connected(node))
    }

    /// The connection that was made last leads to this process.
    pub(super) fn meet(&self, node: NodeId, process: Option<Uuid>) {
        let mut processes = self.processes.lock();
        match process {
            Some(process) => processes.insert(node, process),
            None => processes.remove(&node),
        };
    }

    /// There was a heartbeat, and the connection has not broken since. A silent process may only be paused.
    fn is_connected(&self, node: NodeId) -> bool {
        self.of(node).is_some_and(|session| session.was_there && session.broken.is_none() && session.gone.is_none())
    }

    fn is_heard(&self, node: NodeId) -> bool {
        let is_recent = self.of(node).is_some_and(|session| session.heard.elapsed() < HEARD_WITHIN);
        is_recent && self.is_connected(node)
    }
}

impl Metadata {
    /// Waits until no other process is heard under this node id.
    ///
    /// # Errors
    /// [`MetadataError::NodeIdInUse`] when one still is after [`ENDED_WITHIN`].
    pub(super) async fn wait_for_other_process(&self) -> Result<(), MetadataError> {
        let began = Instant::now();
        while let Some(by) = self.heard_other_process().await {
            if began.elapsed() > ENDED_WITHIN {
                return Err(MetadataError::NodeIdInUse { node_id: self.node_id(), by });
            }
            tracing::warn!(heard_by = by, "another process with this node id is alive: waiting for its end");
            sleep(ASK_AGAIN_AFTER).await;
        }
        Ok(())
    }

    /// The first node that hears another process under this node id.
    async fn heard_other_process(&self) -> Option<NodeId> {
        let asked = AskedProcess { node_id: self.node_id(), process: self.inner.processes.own };
        let ask = async |node: NodeId| {
            let asking = self.inner.peers.call::<bool>(node, rpc::PROCESS, &asked, ANSWER_WITHIN);
            // One that does not answer, or is of a build that does not know, hears nobody.
            asking.await.unwrap_or(false).then_some(node)
        };
        join_all(self.other_nodes().into_iter().map(ask)).await.into_iter().flatten().next()
    }

    /// Returns when another process was registered in this one's place; never otherwise.
    pub async fn replaced(&self) {
        let mut images = self.watch();
        while !self.is_replaced() {
            // The images end with the metadata: then there is nothing left to replace.
            if images.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// True when another process was registered in this one's place: this one leads nothing any more.
    pub(crate) fn is_replaced(&self) -> bool {
        let (own, image) = (self.broker(), self.image());
        let is_newer =
            |known: &Broker| known.epoch > own.broker_epoch && known.incarnation != *self.inner.incarnation.lock();
        own.broker_epoch >= 0 && image.broker(own.broker_id).is_some_and(is_newer)
    }
}
