//! The internal listener: what the nodes of a cluster say to each other, apart from the data itself (D11).
//!
//! HTTP/1.1 with JSON bodies. A request names the node that it is meant for and, once it knows it, the cluster: a node that
//! took over another one's address, or belongs to another cluster, refuses instead of answering wrongly.
//!
//! ```text
//! POST /v1/hello                      who is there: node, cluster, leader of the metadata log
//! POST /v1/bootstrap, /v1/join        a cluster is made of its first voters; a node joins one
//! POST /v1/raft/append, vote, snapshot  the metadata log
//! POST /v1/session                    a beat twice a second, for as long as the node lives
//! POST /v1/process                    whether another process is heard under the asking node's id
//! POST /v1/seen                       how far its image of the metadata is, if it is there
//! POST /v1/submit                     commands for the cluster, to the leader of the metadata log
//! POST /v1/quorum, /v1/voters         how its quorum stands, who gets or loses a vote: to the same
//! POST /v1/replica-state              where a partition's log lies, asked by a follower of its leader
//! ```
//!
//! Rooms: `client` (the asking side) over `connector`. The routes of the metadata log are in `metadata/rpc`, that of the logs in
//! `replication/alignment`.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::CONNECTION;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use model::NodeId;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::machine::runtimes::elsewhere;
use crate::machine::sockets::{HttpListener, TcpListener};
use crate::metadata::{self, Metadata};
use crate::partitions::Partitions;
use crate::replication;

pub(crate) mod client;
mod connector;

/// Header: the node that the request is meant for.
const TO: &str = "firn-to";
/// Header: the cluster that the sender belongs to.
const CLUSTER: &str = "firn-cluster";
/// Header of an answer: the random id of the process that gives it.
pub(crate) const PROCESS: &str = "firn-process";
/// Largest body: a snapshot of a very large cluster's metadata.
const MAX_BODY_BYTES: usize = 1 << 30;

/// What the routes share; metadata and partitions are there a moment after the listener is.
#[derive(Debug)]
pub(crate) struct Internal {
    node_id: NodeId,
    metadata: OnceLock<Metadata>,
    partitions: OnceLock<Arc<Partitions>>,
    /// The runtime for what looks into the logs.
    main: Handle,
    stop: CancellationToken,
}

impl Internal {
    /// For node `node_id`, until `stop`. What looks into the logs runs on the runtime of the caller.
    pub(crate) fn new(node_id: NodeId, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Internal {
            node_id,
            metadata: OnceLock::new(),
            partitions: OnceLock::new(),
            main: Handle::current(),
            stop,
        })
    }

    /// From now on the metadata's routes answer.
    pub(crate) fn set_metadata(&self, metadata: Metadata) {
        // Set once, at start.
        let _ = self.metadata.set(metadata);
    }

    /// Cancelled when the node stops.
    pub(crate) fn stopped(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// The metadata, once they are open.
    pub(crate) fn metadata(&self) -> Result<&Metadata, Refusal> {
        self.metadata.get().ok_or_else(|| Refusal::later("this node is starting"))
    }

    /// From now on the partitions' routes answer.
    pub(crate) fn set_partitions(&self, partitions: Arc<Partitions>) {
        // Set once, at start.
        let _ = self.partitions.set(partitions);
    }

    /// The partitions, once they are open.
    pub(crate) fn partitions(&self) -> Result<&Arc<Partitions>, Refusal> {
        self.partitions.get().ok_or_else(|| Refusal::later("this node is starting"))
    }
}

/// Why a request is not answered.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) StatusCode, pub(crate) String);

impl Refusal {
    /// Another time it may work.
    pub(crate) fn later(reason: impl Into<String>) -> Self {
        Refusal(StatusCode::SERVICE_UNAVAILABLE, reason.into())
    }

    /// It will not work.
    pub(crate) fn never(reason: impl Into<String>) -> Self {
        Refusal(StatusCode::CONFLICT, reason.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

/// Serves the internal listener until the node stops. Connections that stay open after that are told to close.
pub(crate) async fn serve(internal: Arc<Internal>, listener: TcpListener) {
    let stop = internal.stop.clone();
    let routes = Router::new()
        .merge(metadata::rpc::routes())
        .merge(replication::alignment::routes().layer(middleware::from_fn_with_state(internal.main.clone(), elsewhere)))
        .layer(middleware::from_fn_with_state(internal.clone(), check_addressee))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(internal);
    // Not gracefully: the other nodes keep their connections open for ever.
    let serving = axum::serve(HttpListener(listener), routes).into_future();
    tokio::select! {
        () = stop.cancelled() => {}
        served = serving => if let Err(error) = served {
            tracing::error!(%error, "the internal listener failed");
        }
    }
}

async fn check_addressee(State(internal): State<Arc<Internal>>, request: Request, next: Next) -> Response {
    if internal.stop.is_cancelled() {
        return ([(CONNECTION, "close")], Refusal::later("this node stops")).into_response();
    }
    if let Err(refusal) = internal.check(request.headers()) {
        return refusal.into_response();
    }
    next.run(request).await
}

impl Internal {
    fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (to, theirs) = (text(TO), text(CLUSTER));
        if !to.is_empty() && to != self.node_id.to_string() {
            let reason = format!("this is node {}, not node {to}", self.node_id);
            return Err(Refusal(StatusCode::MISDIRECTED_REQUEST, reason));
        }
        let ours = self.metadata.get().map(|metadata| metadata.image().cluster_id().to_owned()).unwrap_or_default();
        if !theirs.is_empty() && !ours.is_empty() && theirs != ours {
            return Err(Refusal::never(format!("this node belongs to the cluster {ours}, not to {theirs}")));
        }
        Ok(())
    }
}
