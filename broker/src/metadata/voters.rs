//! Who votes on the metadata log: changes of that, and the quorum as its leader sees it. Asked on any node; the leader
//! answers.
//!
//! A node first follows the log (it joined), then gets a vote. One that loses its vote goes on following, so that its image
//! stays true for as long as it runs; it is left out of the log for good when its broker is unregistered.

use std::collections::BTreeSet;
use std::time::Duration;

use model::NodeId;
use openraft::{BasicNode, ChangeMembers, RaftMetrics};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::quorum::Quorum;
use super::{Metadata, node_id, raft_id, rpc};

/// A change of the membership as openraft knows it.
pub(super) type Members = ChangeMembers<u64, BasicNode>;

/// How long the leader may take to say how the quorum stands.
const QUORUM_WITHIN: Duration = Duration::from_secs(2);
/// How long a change may take.
pub(super) const CHANGE_WITHIN: Duration = Duration::from_secs(10);
/// A node that is further behind, in entries, gets no vote: a majority that waits for it would commit nothing.
const NEARLY_CAUGHT_UP: u64 = 1_000;

/// A change of the log's membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VoterChange {
    /// A node that follows gets a vote.
    Add(NodeId),
    /// A voter loses its vote, and follows.
    Remove(NodeId),
    /// A node that follows is left out.
    Forget(NodeId),
}

/// Why the membership stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum VoterError {
    /// It has a vote.
    #[error("node {0} votes already")]
    VotesAlready(NodeId),
    /// It has none.
    #[error("node {0} has no vote")]
    NoVoter(NodeId),
    /// It is not part of the log.
    #[error("node {0} does not follow the metadata log: start it with --join, then give it a vote")]
    Unknown(NodeId),
    /// It must catch up first.
    #[error("node {node} has not caught up with the metadata log yet ({behind} entries to go): try again in a moment")]
    Behind {
        /// Which node.
        node: NodeId,
        /// How far it is behind; everything, where nothing is known of it.
        behind: u64,
    },
    /// Nobody would be left.
    #[error("node {0} is the only voter: give another node a vote first")]
    OnlyVoter(NodeId),
    /// It may work another time.
    #[error("{0}")]
    Later(String),
}

/// A change on its way to the leader.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct AskedChange {
    pub(super) change: VoterChange,
}

/// Asks the leader how the quorum stands.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct AskedQuorum {}

impl Metadata {
    /// The quorum as its leader sees it; as this node does, where the leader does not answer.
    pub async fn quorum_of_leader(&self) -> Quorum {
        match self.controller().filter(|leader| *leader != self.node_id()) {
            None => self.quorum(),
            Some(leader) => {
                let asking = self.inner.peers.call(leader, rpc::QUORUM, &AskedQuorum {}, QUORUM_WITHIN);
                asking.await.unwrap_or_else(|error| {
                    tracing::debug!(leader, %error, "the leader of the metadata log does not say how the quorum stands");
                    self.quorum()
                })
            }
        }
    }

    /// Changes who votes.
    ///
    /// # Errors
    /// [`VoterError`]; after [`VoterError::Later`] the change may have happened all the same.
    pub async fn change_voters(&self, change: VoterChange) -> Result<(), VoterError> {
        match self.controller() {
            None => Err(VoterError::Later("the metadata log has no leader: most voters do not answer".to_owned())),
            Some(leader) if leader == self.node_id() => self.change_voters_here(change).await,
            Some(leader) => {
                let asked = AskedChange { change };
                let asking = self.inner.peers.call(leader, rpc::VOTERS, &asked, CHANGE_WITHIN);
                let later =
                    |error| VoterError::Later(format!("the leader of the metadata log, node {leader}: {error}"));
                asking.await.map_err(later)?
            }
        }
    }

    /// The same on the node that leads.
    pub(super) async fn change_voters_here(&self, change: VoterChange) -> Result<(), VoterError> {
        let metrics = self.inner.raft.metrics().borrow().clone();
        let members = allowed(&metrics, change)?;
        // One that loses its vote goes on following.
        self.change_members(members, true).await.map_err(VoterError::Later)
    }

    /// Changes the membership of the log, as its leader. `keeps_removed`: voters that lose their vote go on following.
    ///
    /// # Errors
    /// Why it has not happened, or not yet.
    pub(super) async fn change_members(&self, change: Members, keeps_removed: bool) -> Result<(), String> {
        let changing = Box::pin(self.inner.raft.change_membership(change, keeps_removed));
        match timeout(CHANGE_WITHIN, changing).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("most voters do not answer: the change waits for them".to_owned()),
        }
    }
}

/// The change as openraft knows it, if it makes sense.
fn allowed(metrics: &RaftMetrics<u64, BasicNode>, change: VoterChange) -> Result<Members, VoterError> {
    let membership = metrics.membership_config.membership();
    let voters: BTreeSet<NodeId> = membership.voter_ids().map(node_id).collect();
    let follows = |node: NodeId| membership.get_node(&raft_id(node)).is_some();
    match change {
        VoterChange::Add(node) if voters.contains(&node) => Err(VoterError::VotesAlready(node)),
        VoterChange::Add(node) if !follows(node) => Err(VoterError::Unknown(node)),
        VoterChange::Add(node) => {
            let end = |index: Option<u64>| index.map_or(0, |index| index + 1);
            let matched = metrics.replication.as_ref().and_then(|all| all.get(&raft_id(node)).copied().flatten());
            let behind = end(metrics.last_log_index).saturating_sub(end(matched.map(|id| id.index)));
            if behind > NEARLY_CAUGHT_UP || matched.is_none() {
                return Err(VoterError::Behind { node, behind });
            }
            Ok(ChangeMembers::AddVoterIds(BTreeSet::from([raft_id(node)])))
        }
        VoterChange::Remove(node) if !voters.contains(&node) => Err(VoterError::NoVoter(node)),
        VoterChange::Remove(node) if voters.len() == 1 => Err(VoterError::OnlyVoter(node)),
        VoterChange::Remove(node) => Ok(ChangeMembers::RemoveVoters(BTreeSet::from([raft_id(node)]))),
        VoterChange::Forget(node) if voters.contains(&node) => Err(VoterError::VotesAlready(node)),
        VoterChange::Forget(node) if !follows(node) => Err(VoterError::Unknown(node)),
        VoterChange::Forget(node) => Ok(ChangeMembers::RemoveNodes(BTreeSet::from([raft_id(node)]))),
    }
}
