//! The metadata log's way to the other nodes: openraft's network over the internal listener.
//!
//! A node that does not answer is asked again after a pause that openraft takes from here. Snapshots go as a whole, with
//! what they are in the first line and their data behind it. Appends with entries may take longer than a heartbeat: see
//! `bulk`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::NodeId;
use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, RemoteError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::storage::Snapshot;
use openraft::{AnyError, BasicNode, OptionalSend};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::bulk::{self, Bulk};
use super::entry::{SnapshotMeta, TypeConfig, Vote};
use super::peers::Peers;
use super::{node_id, rpc};
use crate::internal::client::CallError;

/// Pause before a node that did not answer is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Reaches the other nodes.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) peers: Arc<Peers>,
}

/// The way to one node.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) asking: Asking,
    /// The append with entries that is under way.
    pub(super) bulk: Option<Bulk>,
}

/// Asks one node. Copies share the connections.
#[derive(Debug, Clone)]
pub(super) struct Asking {
    peers: Arc<Peers>,
    target: u64,
}

/// First line of a snapshot on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SnapshotHead {
    pub(super) vote: Vote,
    pub(super) meta: SnapshotMeta,
}

pub(super) type AppendOutcome = Result<AppendEntriesResponse<u64>, Failure<RaftError<u64>>>;
type Failure<E> = RPCError<u64, BasicNode, E>;
type Answer<A> = Result<A, RaftError<u64>>;

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Connection {
        self.peers.learn(node_id(target), &node.addr);
        Connection { asking: Asking { peers: self.peers.clone(), target }, bulk: None }
    }
}

impl Asking {
    pub(super) async fn append(&self, request: &AppendEntriesRequest<TypeConfig>, within: Duration) -> AppendOutcome {
        self.ask(rpc::APPEND, request, within).await
    }

    async fn ask<A: DeserializeOwned>(
        &self,
        path: &str,
        question: &(impl Serialize + Sync),
        within: Duration,
    ) -> Result<A, Failure<RaftError<u64>>> {
        let answer: Result<Answer<A>, CallError> = self.peers.call(self.node(), path, question, within).await;
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(RPCError::RemoteError(RemoteError::new(self.target, error))),
            Err(CallError::TimedOut) => Err(RPCError::Network(NetworkError::new(&CallError::TimedOut))),
            Err(error) => Err(RPCError::Unreachable(Unreachable::new(&error))),
        }
    }

    fn node(&self) -> NodeId {
        node_id(self.target)
    }
}

impl RaftNetwork<TypeConfig> for Connection {
    async fn append_entries(&mut self, rpc: AppendEntriesRequest<TypeConfig>, option: RPCOption) -> AppendOutcome {
        if rpc.entries.is_empty() {
            return self.asking.append(&rpc, option.hard_ttl()).await;
        }
        self.append_in_bulk(rpc, option.hard_ttl()).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, Failure<RaftError<u64>>> {
        self.asking.ask(rpc::VOTE, &rpc, option.hard_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
        let head = SnapshotHead { vote, meta: snapshot.meta };
        let body = framed(&head, &snapshot.snapshot.into_inner())
            .map_err(|error| StreamingError::Network(NetworkError::new(&error)))?;
        let within = option.hard_ttl().max(bulk::time_for(body.len()));
        let Asking { peers, target } = &self.asking;
        let sending =
            peers.send::<Result<SnapshotResponse<u64>, Fatal<u64>>>(self.asking.node(), rpc::SNAPSHOT, body, within);
        let answer = tokio::select! {
            closed = cancel => return Err(StreamingError::Closed(closed)),
            answer = sending => answer,
        };
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(fatal)) => Err(StreamingError::RemoteError(RemoteError::new(*target, fatal))),
            Err(error) => Err(StreamingError::Unreachable(Unreachable::new(&error))),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(ASK_AGAIN_AFTER))
    }
}

fn framed(head: &SnapshotHead, data: &[u8]) -> Result<Bytes, AnyError> {
    let mut body = serde_json::to_vec(head).map_err(|error| AnyError::new(&error))?;
    body.reserve(data.len() + 1);
    body.push(b'\n');
    body.extend_from_slice(data);
    Ok(body.into())
}
