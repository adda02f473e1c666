//! What other nodes ask of the metadata here: the routes of the internal listener.
//!
//! A node without a log of its own answers none of Raft's questions before it is admitted (see `formation`): one that lost
//! its disk must not vote as if it had never promised anything.

use std::future::Future;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Json;
use axum::routing::post;
use axum::{Router, http::StatusCode};
use coordinator::cluster::{MetadataVersions, Reply, Submission};
use model::NodeId;
use openraft::error::{Fatal, RaftError};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::storage::Snapshot;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, oneshot};

use super::entry::{Raft, TypeConfig};
use super::network::SnapshotHead;
use super::processes::AskedProcess;
use super::quorum::Quorum;
use super::sessions::beats;
use super::up_to_date::AskedVersion;
use super::voters::{AskedChange, AskedQuorum, VoterError};
use super::{Metadata, SubmitError};
use crate::internal::{self, Internal, Refusal};
use crate::supervision;

pub(super) const HELLO: &str = "/v1/hello";
pub(super) const BOOTSTRAP: &str = "/v1/bootstrap";
pub(super) const JOIN: &str = "/v1/join";
pub(super) const APPEND: &str = "/v1/raft/append";
pub(super) const VOTE: &str = "/v1/raft/vote";
pub(super) const SNAPSHOT: &str = "/v1/raft/snapshot";
pub(super) const SESSION: &str = "/v1/session";
pub(super) const PROCESS: &str = "/v1/process";
pub(super) const RESIGN: &str = "/v1/resign";
pub(super) const SUBMIT: &str = "/v1/submit";
pub(super) const SEEN: &str = "/v1/seen";
pub(super) const VERSION: &str = "/v1/version";
pub(super) const QUORUM: &str = "/v1/quorum";
pub(super) const VOTERS: &str = "/v1/voters";

/// How long commands of another node may wait here; it asks again then.
pub(super) const FORWARDED_FOR: Duration = Duration::from_secs(4);

/// What other nodes asked of Raft and the disk has not taken yet. They ask again when they are refused.
#[derive(Debug)]
pub(super) struct Slots {
    appends: Arc<Semaphore>,
    snapshots: Arc<Semaphore>,
}

/// Appends at a time. There is more than one after the leader has given up waiting, or has changed.
const MAX_APPENDS: usize = 16;
/// Snapshots at a time.
const MAX_SNAPSHOTS: usize = 1;

impl Slots {
    pub(super) fn new() -> Self {
        Slots { appends: Arc::new(Semaphore::new(MAX_APPENDS)), snapshots: Arc::new(Semaphore::new(MAX_SNAPSHOTS)) }
    }
}

/// Asked of anybody.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Hello {}

/// Who is there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Present {
    pub(super) node_id: NodeId,
    /// Empty before there is one.
    pub(super) cluster_id: String,
    /// It has no log and belongs to no cluster.
    pub(super) is_new: bool,
}

/// The first voters of a new cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Bootstrap {
    pub(super) voters: Vec<NodeId>,
}

/// A node without a log asks to belong to the cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Join {
    pub(super) node_id: NodeId,
    /// Its internal listener.
    pub(super) address: String,
    /// It is one of the first voters, by its configuration.
    pub(super) wants_vote: bool,
    /// It was handed on once already.
    pub(super) is_relayed: bool,
    /// What its build knows.
    #[serde(default)]
    pub(super) metadata_versions: MetadataVersions,
}

/// The node may take part, without a vote.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Joined {
    pub(super) cluster_id: String,
    /// It votes as soon as it has caught up.
    pub(super) gets_vote: bool,
}

/// The leader of the log is about to stop.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Resignation {
    pub(super) node_id: NodeId,
    /// Number of its leadership.
    pub(super) term: u64,
}

/// Commands for the leader of the log.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Forwarded {
    pub(super) submissions: Vec<Submission>,
}

/// Their outcomes, in their order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Outcomes {
    pub(super) outcomes: Vec<Result<Reply, SubmitError>>,
    /// An image of this version shows the effects.
    pub(super) version: u64,
}

/// What a node has seen of the metadata log.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Seen {
    /// Version of its image.
    pub(super) version: u64,
}

type Shared = State<Arc<Internal>>;
type Answer<A> = Result<Json<A>, Refusal>;

/// The routes.
pub(crate) fn routes() -> Router<Arc<Internal>> {
    Router::new()
        .route(HELLO, post(hello))
        .route(BOOTSTRAP, post(bootstrap))
        .route(JOIN, post(join))
        .route(APPEND, post(append))
        .route(VOTE, post(vote))
        .route(SNAPSHOT, post(snapshot))
        .route(SUBMIT, post(submit))
        .route(SESSION, post(session))
        .route(PROCESS, post(process))
        .route(RESIGN, post(resign))
        .route(SEEN, post(seen))
        .route(VERSION, post(version))
        .route(QUORUM, post(quorum))
        .route(VOTERS, post(voters))
}

async fn hello(State(internal): Shared) -> Answer<Present> {
    Ok(Json(internal.metadata()?.present().await))
}

async fn bootstrap(State(internal): Shared, Json(asked): Json<Bootstrap>) -> Answer<()> {
    internal.metadata()?.take_part_in(&asked).await.map(Json)
}

async fn join(State(internal): Shared, Json(asked): Json<Join>) -> Answer<Joined> {
    Box::pin(internal.metadata()?.admit(asked)).await.map(Json)
}

async fn append(
    State(internal): Shared,
    Json(asked): Json<AppendEntriesRequest<TypeConfig>>,
) -> Answer<Result<AppendEntriesResponse<u64>, RaftError<u64>>> {
    let raft = admitted(&internal)?.clone();
    let slots = &internal.metadata()?.inner.slots.appends;
    in_slot(slots, async move { raft.append_entries(asked).await }).await
}

/// Does the work while it holds one of the slots, also when the one who asked has given up: Raft keeps what it was asked until
/// the disk has taken it. Refuses when there is no slot.
async fn in_slot<A: Send + 'static>(
    slots: &Arc<Semaphore>,
    work: impl Future<Output = A> + Send + 'static,
) -> Answer<A> {
    let busy = || Refusal::later("the disk has not taken yet what was asked before");
    let slot = slots.clone().try_acquire_owned().map_err(|_| busy())?;
    let (report, reported) = oneshot::channel();
    // When it panics, Raft's state is in doubt, and the one who asked may not be there to tell.
    tokio::spawn(supervision::without_panic("raft-request", async move {
        let _slot = slot;
        // The one who asked may have given up.
        let _ = report.send(work.await);
    }));
    reported.await.map(Json).map_err(|error| Refusal::later(error.to_string()))
}

async fn vote(
    State(internal): Shared,
    Json(asked): Json<VoteRequest<u64>>,
) -> Answer<Result<VoteResponse<u64>, RaftError<u64>>> {
    Ok(Json(admitted(&internal)?.vote(asked).await))
}

async fn snapshot(State(internal): Shared, body: Bytes) -> Answer<Result<SnapshotResponse<u64>, Fatal<u64>>> {
    let raft = admitted(&internal)?.clone();
    let unreadable = |reason: &str| Refusal(StatusCode::BAD_REQUEST, format!("the snapshot cannot be read: {reason}"));
    let end = body.iter().position(|byte| *byte == b'\n').ok_or_else(|| unreadable("it has no first line"))?;
    let head: SnapshotHead = serde_json::from_slice(&body[..end]).map_err(|error| unreadable(&error.to_string()))?;
    let data = Box::new(Cursor::new(body[end + 1..].to_vec()));
    let received = Snapshot { meta: head.meta, snapshot: data };
    let slots = &internal.metadata()?.inner.slots.snapshots;
    in_slot(slots, async move { raft.install_full_snapshot(head.vote, received).await }).await
}

async fn submit(State(internal): Shared, Json(asked): Json<Forwarded>) -> Answer<Outcomes> {
    internal.metadata()?.settle_for_another(asked.submissions).await.map(Json)
}

async fn session(State(internal): Shared) -> Result<([(&'static str, String); 1], Body), Refusal> {
    let metadata = internal.metadata()?;
    metadata.health().map_err(|error| Refusal::later(error.to_string()))?;
    let process = metadata.inner.processes.own.to_string();
    Ok(([(internal::PROCESS, process)], beats(metadata.clone(), internal.stopped())))
}

async fn process(State(internal): Shared, Json(asked): Json<AskedProcess>) -> Answer<bool> {
    Ok(Json(internal.metadata()?.inner.processes.hears_other(asked.node_id, asked.process)))
}

async fn resign(State(internal): Shared, Json(asked): Json<Resignation>) -> Answer<()> {
    internal.metadata()?.inner.sessions.resigns(asked.node_id, asked.term);
    Ok(Json(()))
}

async fn seen(State(internal): Shared) -> Answer<Seen> {
    Ok(Json(Seen { version: internal.metadata()?.image().version() }))
}

async fn version(State(internal): Shared, Json(AskedVersion {}): Json<AskedVersion>) -> Answer<Option<u64>> {
    Ok(Json(internal.metadata()?.confirmed_version().await))
}

async fn quorum(State(internal): Shared, Json(AskedQuorum {}): Json<AskedQuorum>) -> Answer<Quorum> {
    Ok(Json(internal.metadata()?.quorum()))
}

async fn voters(State(internal): Shared, Json(asked): Json<AskedChange>) -> Answer<Result<(), VoterError>> {
    Ok(Json(internal.metadata()?.change_voters_here(asked.change).await))
}

fn admitted(internal: &Internal) -> Result<&Raft, Refusal> {
    let metadata: &Metadata = internal.metadata()?;
    if metadata.is_admitted() {
        return Ok(&metadata.inner.raft);
    }
    Err(Refusal::later("this node has no log and is not admitted to a cluster yet"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_keeps_its_slot_until_it_is_done() {
        let slots = Arc::new(Semaphore::new(1));
        let (finish, finished) = oneshot::channel::<()>();
        let asked = in_slot(&slots, async move { finished.await.is_ok() });
        assert!(tokio::time::timeout(Duration::from_millis(10), asked).await.is_err());
        let refused = in_slot(&slots, async {}).await;
        assert!(matches!(refused, Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, _))), "{refused:?}");
        finish.send(()).unwrap();
        let slot = tokio::time::timeout(Duration::from_secs(10), slots.acquire()).await;
        drop(slot.expect("the slot never became free"));
        assert!(in_slot(&slots, async {}).await.is_ok());
    }
}
