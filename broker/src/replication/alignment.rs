//! Where to go on, when the leader has nothing at the offset that a follower needs: the leader is asked for its whole state,
//! over the internal listener.
//!
//! That is so for a replica that lost its disk or was away for longer than the leader keeps records locally (it begins at the
//! leader's local start, with the leader's epochs and producers; the archive has the rest), and for one that has records
//! which the leader lacks.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::Json;
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hot_tier::Bootstrap;
use model::segment::EpochStart;
use model::{LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId, TopicPartition};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::apply::Trouble;
use crate::config::HostPort;
use crate::internal::client::Addressee;
use crate::internal::{Internal, Refusal};
use crate::machine::blocking;
use crate::partition::{Aligned, LeaderState, Partition};

/// Where the leader answers.
pub(super) const PATH: &str = "/v1/replica-state";
/// How long an answer may take: the leader may have to read a segment for it.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What a follower asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Question {
    topic_id: TopicId,
    partition: PartitionIndex,
    leader_epoch: LeaderEpoch,
}

impl Question {
    pub(super) fn id(&self) -> TopicPartition {
        TopicPartition { topic_id: self.topic_id, partition: self.partition }
    }
}

/// Where the leader's log lies.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Answer {
    log_start: Offset,
    local_start: Offset,
    log_end: Offset,
    epochs: Vec<EpochStart>,
    /// Producer state at the local start, in base64.
    producers: String,
}

/// Whom to ask.
#[derive(Debug, Clone)]
pub(super) struct Leader {
    pub(super) node_id: NodeId,
    pub(super) internal: Option<HostPort>,
}

/// Makes the partition's log one that the leader's continues.
pub(super) async fn align(
    shared: &Shared,
    leader: Leader,
    partition: Arc<Partition>,
    leader_epoch: LeaderEpoch,
) -> Result<(), Trouble> {
    let Some(internal) = &leader.internal else { return Err(Trouble::waiting()) };
    let to = Addressee { address: internal, node: Some(leader.node_id), cluster: &shared.cluster_id };
    let question = Question { topic_id: partition.id.topic_id, partition: partition.id.partition, leader_epoch };
    let answer: Answer = shared
        .internal
        .call(to, PATH, &question, ANSWER_WITHIN)
        .await
        .map_err(|error| Trouble::asking(format!("the leader does not tell its state: {error}")))?;
    let state = answer.state().ok_or_else(|| Trouble::broken("the leader's state cannot be read"))?;
    let aligning = move || {
        let Some(same) = partition.following(leader_epoch) else { return Err(Trouble::waiting()) };
        partition.align(&same, &state).map_err(Trouble::broken)
    };
    match blocking::run(aligning).await? {
        Aligned::Truncated | Aligned::BeganAnew => Ok(()),
        // By now the leader has it; should it say again that it has not, this must not go round in circles.
        Aligned::Fits => Err(Trouble::waiting()),
    }
}

/// What a leader answers on the internal listener.
pub(crate) fn routes() -> Router<Arc<Internal>> {
    Router::new().route(PATH, post(answer))
}

async fn answer(
    State(internal): State<Arc<Internal>>,
    Json(question): Json<Question>,
) -> Result<Json<Answer>, Refusal> {
    let partitions = internal.partitions()?;
    let TopicPartition { topic_id, partition } = question.id();
    let leader_epoch = question.leader_epoch;
    let led = partitions.leader_by_id(topic_id, partition).map_err(|code| Refusal::later(code.to_string()))?;
    if led.term() != Some(leader_epoch) {
        return Err(Refusal::later(format!("this node does not lead in epoch {leader_epoch}")));
    }
    let read = blocking::run(move || led.leader_state()).await;
    read.map(|state| Json(Answer::from(state))).map_err(|error| Refusal::later(error.to_string()))
}

impl From<LeaderState> for Answer {
    fn from(state: LeaderState) -> Self {
        let LeaderState { log_end, epochs, bootstrap } = state;
        let Bootstrap { log_start, local_start, producers, .. } = bootstrap;
        Answer { log_start, local_start, log_end, epochs, producers: STANDARD.encode(producers) }
    }
}

impl Answer {
    fn state(self) -> Option<LeaderState> {
        let Answer { log_start, local_start, log_end, epochs, producers } = self;
        let producers = STANDARD.decode(producers).ok()?.into();
        let before = epochs.iter().filter(|epoch| epoch.start_offset < local_start).copied().collect();
        let bootstrap = Bootstrap { log_start, local_start, epochs: before, producers };
        Some(LeaderState { log_end, epochs, bootstrap })
    }
}
