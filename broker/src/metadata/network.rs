//! The way to other nodes of the metadata log: with a quorum of one there are none.
//!
//! openraft's own traits are the seam: a cluster of several nodes brings another implementation of them, over the
//! node-to-node RPC (D11), and nothing else here changes.

use openraft::error::{InstallSnapshotError, RPCError, RaftError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use openraft::{AnyError, BasicNode};

use super::entry::TypeConfig;

/// Reaches nobody.
#[derive(Debug, Clone, Copy)]
pub(super) struct NoPeers;

/// A node that cannot be reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct NoPeer(u64);

type Failure<E> = RPCError<u64, BasicNode, E>;

impl NoPeer {
    fn unreachable<E: std::error::Error>(self) -> Failure<E> {
        let text = format!("this build keeps the metadata on one node and cannot reach node {}", self.0);
        RPCError::Unreachable(Unreachable::new(&AnyError::error(text)))
    }
}

impl RaftNetworkFactory<TypeConfig> for NoPeers {
    type Network = NoPeer;

    async fn new_client(&mut self, target: u64, _node: &BasicNode) -> NoPeer {
        NoPeer(target)
    }
}

impl RaftNetwork<TypeConfig> for NoPeer {
    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failure<RaftError<u64>>> {
        Err(self.unreachable())
    }

    async fn install_snapshot(
        &mut self,
        _rpc: InstallSnapshotRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, Failure<RaftError<u64, InstallSnapshotError>>> {
        Err(self.unreachable())
    }

    async fn vote(
        &mut self,
        _rpc: VoteRequest<u64>,
        _option: RPCOption,
    ) -> Result<VoteResponse<u64>, Failure<RaftError<u64>>> {
        Err(self.unreachable())
    }
}
