//! The quorum of the metadata log, as one of its nodes sees it: who leads, who votes, and how far each has got.

use std::collections::BTreeMap;
use std::time::Duration;

use model::NodeId;
use openraft::{BasicNode, LogId, RaftMetrics};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Metadata, node_id};

/// A majority that last answered its leader longer ago than this is lost. Heartbeats come three times a second.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(2);

/// The quorum at one time. Positions are indexes of the metadata log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quorum {
    /// The node that leads the log, as far as the node that was asked knows; none while that one does not reach a majority of
    /// the voters.
    pub leader: Option<NodeId>,
    /// Number of the leadership: Raft's term.
    pub epoch: u64,
    /// Index of the last entry that a majority holds, as far as the node that was asked has applied it.
    pub committed: Option<u64>,
    /// The nodes whose votes count, by id.
    pub voters: Vec<QuorumMember>,
    /// The nodes that only follow the log, by id.
    pub learners: Vec<QuorumMember>,
}

/// A node of the quorum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumMember {
    /// Its id.
    pub node_id: NodeId,
    /// Its internal listener, as `HOST:PORT`; empty when it has none.
    pub address: String,
    /// Index of the last entry that it is known to hold. Only the leader knows this of others.
    pub log_end: Option<u64>,
}

impl Metadata {
    /// The quorum as this node sees it. Positions of other nodes are there when this node leads.
    #[must_use]
    pub fn quorum(&self) -> Quorum {
        let metrics = self.inner.raft.metrics().borrow().clone();
        let quorum = Quorum::seen_in(&metrics);
        if self.has_quorum() { quorum } else { Quorum { leader: None, ..quorum } }
    }

    /// True when this node reaches a majority of the voters, and the leader that they have: only then what it knows of the cluster
    /// is true now, and changes are possible.
    #[must_use]
    pub fn has_quorum(&self) -> bool {
        let (leader, is_alone, acknowledged) = {
            let metrics = self.inner.raft.metrics();
            let metrics = metrics.borrow();
            let is_alone = metrics.membership_config.membership().voter_ids().eq([self.inner.raft_id]);
            (metrics.current_leader.map(node_id), is_alone, metrics.millis_since_quorum_ack)
        };
        match leader {
            None => false,
            Some(leader) if leader == self.node_id() => {
                let is_acknowledged = acknowledged.is_some_and(|ms| Duration::from_millis(ms) < ACKNOWLEDGED_WITHIN);
                is_alone || (is_acknowledged && self.hears_most_voters())
            }
            Some(leader) => self.hears(leader) && self.hears_most_voters(),
        }
    }

    /// True of this node, and of those whose heartbeats it hears.
    pub(crate) fn is_heard(&self, node: NodeId) -> bool {
        node == self.node_id() || self.hears(node)
    }

    /// For how long this node has had no quorum; none while it has one, or before it had the first.
    #[must_use]
    pub fn without_quorum_for(&self) -> Option<Duration> {
        let mut last = self.inner.had_quorum.lock();
        if self.has_quorum() {
            *last = Some(Instant::now());
            return None;
        }
        last.map(|last| last.elapsed())
    }

    /// The node that leads the metadata log, if this node knows one.
    #[must_use]
    pub fn controller(&self) -> Option<NodeId> {
        self.inner.raft.metrics().borrow().current_leader.map(node_id)
    }
}

impl Quorum {
    fn seen_in(metrics: &RaftMetrics<u64, BasicNode>) -> Self {
        let membership = metrics.membership_config.membership();
        let matched = metrics.replication.clone().unwrap_or_default();
        let member = |id: u64, node: &BasicNode| QuorumMember {
            node_id: node_id(id),
            address: node.addr.clone(),
            log_end: if id == metrics.id { metrics.last_log_index } else { known_end(&matched, id) },
        };
        let (mut voters, mut learners) = (Vec::new(), Vec::new());
        for (id, node) in membership.nodes() {
            let list = if membership.voter_ids().any(|voter| voter == *id) { &mut voters } else { &mut learners };
            list.push(member(*id, node));
        }
        Quorum {
            leader: metrics.current_leader.map(node_id),
            epoch: metrics.current_term,
            committed: metrics.last_applied.map(|id| id.index),
            voters,
            learners,
        }
    }
}

fn known_end(matched: &BTreeMap<u64, Option<LogId<u64>>>, id: u64) -> Option<u64> {
    matched.get(&id).copied().flatten().map(|id| id.index)
}
