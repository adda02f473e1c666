//! How a node comes into a cluster.
//!
//! A node with a log belongs to a cluster already. One without asks its peers:
//!
//! ```text
//! somebody belongs to a cluster ─▶ join it, without a vote; a voter that lost its disk gets its vote back afterwards
//! all of them are as new as we  ─▶ the one with the lowest id asks each to take part, then makes the log with all as voters
//! somebody does not answer      ─▶ wait: it may know a cluster that we must not replace by a new one
//! ```
//!
//! Before it is admitted by one of these ways a node without a log answers none of Raft's questions: it does not know what
//! it promised before its disk was lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::StatusCode;
use futures::future::join_all;
use model::NodeId;
use openraft::{BasicNode, ChangeMembers};
use tokio::time::{Instant, sleep};

use super::rpc::{self, Bootstrap, Hello, Join, Joined, Present};
use super::voters::{CHANGE_WITHIN, VoterChange, VoterError};
use super::{Metadata, MetadataError, node_id, raft_id};
use crate::config::HostPort;
use crate::internal::Refusal;
use crate::internal::client::CallError;
use crate::supervision;

/// How long another node may take to say who it is.
const HELLO_WITHIN: Duration = Duration::from_secs(1);
/// Pause between two looks at the other nodes.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How often the log says what is waited for.
pub(super) const TELL_EVERY: Duration = Duration::from_secs(10);

impl Metadata {
    /// Makes a cluster, or finds the one to belong to. Returns when this node's log may begin.
    pub(super) async fn form(&self) -> Result<(), MetadataError> {
        let place = &self.inner.place;
        if let Some(address) = place.join.clone() {
            return self.join(std::slice::from_ref(&address)).await;
        }
        if place.peers.is_empty() {
            return self.initialize(BTreeMap::from([(self.inner.raft_id, place.internal.clone())])).await;
        }
        let others: Vec<(NodeId, HostPort)> =
            place.peers.iter().filter(|(id, _)| *id != self.node_id()).map(|(id, at)| (id, at.clone())).collect();
        let is_first = others.iter().all(|(id, _)| *id > self.node_id());
        let mut told = None;
        while !self.is_admitted() {
            let present = self.look_for(&others).await;
            if present.iter().flatten().any(|one| !one.cluster_id.is_empty()) {
                let addresses: Vec<HostPort> = others.iter().map(|(_, address)| address.clone()).collect();
                return self.join(&addresses).await;
            }
            let all_new = present.iter().all(|one| one.as_ref().is_some_and(|one| one.is_new));
            if is_first && all_new && self.ask_to_take_part().await {
                let voters = place.peers.iter().map(|(id, address)| (raft_id(id), address.to_string()));
                return self.initialize(voters.collect()).await;
            }
            tell(&mut told, || {
                let missing = others.iter().zip(&present).filter(|(_, one)| one.is_none());
                let missing: Vec<String> = missing.map(|((id, address), _)| format!("{id}@{address}")).collect();
                tracing::info!(?missing, "waiting for the peers, to form a cluster with them");
            });
            sleep(LOOK_AGAIN_AFTER).await;
        }
        Ok(())
    }

    /// Who this node is.
    pub(super) async fn present(&self) -> Present {
        let is_new = !self.inner.raft.is_initialized().await.unwrap_or(true);
        Present { node_id: self.node_id(), cluster_id: self.image().cluster_id().to_owned(), is_new }
    }

    /// Another node is about to make a cluster of us: from now on this node answers Raft.
    pub(super) async fn take_part_in(&self, asked: &Bootstrap) -> Result<(), Refusal> {
        let ours: Vec<NodeId> = self.inner.place.peers.iter().map(|(id, _)| id).collect();
        if ours != asked.voters {
            let theirs = &asked.voters;
            return Err(Refusal::never(format!("the peers differ: here {ours:?}, there {theirs:?}")));
        }
        self.inner.is_admitted.store(true, Ordering::Release);
        Ok(())
    }

    /// Asks all peers to take part in a new cluster. False when one of them did not answer or refused.
    pub(super) async fn ask_to_take_part(&self) -> bool {
        let peers = &self.inner.place.peers;
        let asked = Bootstrap { voters: peers.iter().map(|(id, _)| id).collect() };
        let others = peers.iter().filter(|(id, _)| *id != self.node_id());
        let asking = others.map(|(id, _)| self.inner.peers.call::<()>(id, rpc::BOOTSTRAP, &asked, HELLO_WITHIN));
        let answers = join_all(asking).await;
        for refused in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            tracing::debug!(%refused, "a peer does not take part yet");
        }
        answers.iter().all(Result::is_ok)
    }

    async fn look_for(&self, others: &[(NodeId, HostPort)]) -> Vec<Option<Present>> {
        let peers = &self.inner.peers;
        let asking = others.iter().map(|(_, address)| peers.call_address(address, rpc::HELLO, &Hello {}, HELLO_WITHIN));
        join_all(asking).await.into_iter().map(Result::ok).collect()
    }

    async fn initialize(&self, voters: BTreeMap<u64, String>) -> Result<(), MetadataError> {
        let members: BTreeMap<u64, BasicNode> = voters.into_iter().map(|(id, addr)| (id, BasicNode { addr })).collect();
        self.inner.is_admitted.store(true, Ordering::Release);
        let made = Box::pin(self.inner.raft.initialize(members)).await;
        made.map_err(|error| MetadataError::Stopped(error.to_string()))
    }

    /// Asks at the addresses in turn until somebody lets this node in.
    async fn join(&self, addresses: &[HostPort]) -> Result<(), MetadataError> {
        let address = self.inner.place.internal.clone();
        let wants_vote = self.inner.place.peers.get(self.node_id()).is_some();
        let metadata_versions = self.inner.metadata_versions;
        let asked = Join { node_id: self.node_id(), address, wants_vote, is_relayed: false, metadata_versions };
        let mut told = None;
        for at in addresses.iter().cycle() {
            match self.inner.peers.call_address::<Joined>(at, rpc::JOIN, &asked, CHANGE_WITHIN).await {
                Ok(joined) => {
                    tracing::info!(cluster_id = joined.cluster_id, gets_vote = joined.gets_vote, "joined the cluster");
                    self.inner.is_admitted.store(true, Ordering::Release);
                    return Ok(());
                }
                Err(CallError::Refused { status: StatusCode::CONFLICT, reason }) => {
                    return Err(MetadataError::NotAdmitted(reason));
                }
                Err(error) => tell(&mut told, || {
                    tracing::info!(%at, %error, "waiting for the cluster, to join it");
                }),
            }
            sleep(LOOK_AGAIN_AFTER).await;
        }
        Ok(())
    }

    /// Lets a node without a log in, as the leader of the log.
    pub(super) async fn admit(&self, asked: Join) -> Result<Joined, Refusal> {
        let cluster_id = self.image().cluster_id().to_owned();
        let metrics = self.inner.raft.metrics().borrow().clone();
        match metrics.current_leader {
            Some(leader) if leader == self.inner.raft_id && !cluster_id.is_empty() => {}
            Some(leader) if leader != self.inner.raft_id && !asked.is_relayed => {
                return self.relay(node_id(leader), Join { is_relayed: true, ..asked }).await;
            }
            _ => return Err(Refusal::later("the metadata log has no leader")),
        }
        // It would not be registered, and follow the log for nothing.
        self.image().check_build(asked.metadata_versions).map_err(|error| Refusal::never(error.to_string()))?;
        self.check_place_is_free(&asked).await?;
        let id = raft_id(asked.node_id);
        let membership = metrics.membership_config.membership();
        let had_vote = membership.voter_ids().any(|voter| voter == id);
        if had_vote {
            // What it promised is lost with its disk: it must not count until it has caught up.
            self.change_members(ChangeMembers::RemoveVoters(BTreeSet::from([id])), false)
                .await
                .map_err(Refusal::later)?;
        } else if membership.get_node(&id).is_some() {
            self.change_members(ChangeMembers::RemoveNodes(BTreeSet::from([id])), false)
                .await
                .map_err(Refusal::later)?;
        }
        self.inner.peers.learn(asked.node_id, &asked.address);
        let follows = BTreeMap::from([(id, BasicNode { addr: asked.address })]);
        self.change_members(ChangeMembers::AddNodes(follows), false).await.map_err(Refusal::later)?;
        let gets_vote = had_vote || asked.wants_vote;
        if gets_vote {
            tokio::spawn(supervision::without_panic("vote-giving", self.clone().give_vote(asked.node_id)));
        }
        Ok(Joined { cluster_id, gets_vote })
    }

    /// Gives the node a vote as soon as it has caught up with the log. Ends without, when this node no longer leads.
    async fn give_vote(self, node: NodeId) {
        while self.leads() && !self.inner.closing.is_cancelled() {
            match self.change_voters_here(VoterChange::Add(node)).await {
                Ok(()) => {
                    tracing::info!(node, "a node has caught up with the metadata log and votes");
                    return;
                }
                Err(VoterError::VotesAlready(_) | VoterError::Unknown(_)) => return,
                Err(_) => sleep(LOOK_AGAIN_AFTER).await,
            }
        }
    }

    async fn relay(&self, leader: NodeId, asked: Join) -> Result<Joined, Refusal> {
        self.inner.peers.call(leader, rpc::JOIN, &asked, CHANGE_WITHIN).await.map_err(|error| match error {
            CallError::Refused { status, reason } => Refusal(status, reason),
            error => Refusal::later(format!("the leader of the metadata log, node {leader}: {error}")),
        })
    }

    /// A second node must not take the id of one that is there.
    async fn check_place_is_free(&self, asked: &Join) -> Result<(), Refusal> {
        let taken = |at: &str| {
            let id = asked.node_id;
            Err(Refusal::never(format!("the node id {id} is taken by the node at {at}: give this one another id")))
        };
        if asked.node_id == self.node_id() {
            return taken(&self.inner.place.internal);
        }
        let Some(known) = self.inner.peers.address(asked.node_id).filter(|known| known.to_string() != asked.address)
        else {
            return Ok(());
        };
        match self.inner.peers.call_address::<Present>(&known, rpc::HELLO, &Hello {}, HELLO_WITHIN).await {
            Ok(there) if there.node_id == asked.node_id && !there.is_new => taken(&known.to_string()),
            _ => Ok(()),
        }
    }
}

/// Says something at once, and then now and again.
pub(super) fn tell(told: &mut Option<Instant>, say: impl FnOnce()) {
    if told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
        *told = Some(Instant::now());
        say();
    }
}
