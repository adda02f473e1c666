//! The queue of commands, and the task that puts them into the log in batches.
//!
//! While one batch becomes durable, the next one gathers: the busier the log, the more commands share a flush. A batch
//! that Raft turns away (an election is under way) is proposed again; command ids keep it from being applied twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::time::Duration;

use coordinator::cluster::{ClusterError, Command, CommandId, Reply, Submission};
use model::NodeId;
use openraft::error::{ClientWriteError, RaftError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::entry::{Batch, Raft, Replies};
use super::{NowSource, SubmitError};

/// Most commands that wait for the log.
const MAX_QUEUED: usize = 1024;
/// Most commands of one log entry.
const MAX_BATCH: usize = 64;
/// How long a batch is proposed again while there is no leader.
const PROPOSE_FOR: Duration = Duration::from_secs(10);
/// Pause before a batch is proposed again.
const PROPOSE_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// The queue's near end.
#[derive(Debug, Clone)]
pub(super) struct Proposer {
    queue: mpsc::Sender<Queued>,
}

/// Who asks.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) node_id: NodeId,
    /// −1 before the registration: commands then have no ids.
    pub(super) broker_epoch: AtomicI64,
}

/// A command on its way.
#[derive(Debug)]
struct Queued {
    command: Command,
    stage: Arc<Stage>,
    reply: Waiting,
}

type Waiting = oneshot::Sender<Result<Reply, SubmitError>>;

/// Whether the log may know of a command. Its two sides race to move it on from `QUEUED`; one wins.
#[derive(Debug, Default)]
struct Stage(AtomicU8);

const QUEUED: u8 = 0;
const PROPOSED: u8 = 1;
const WITHDRAWN: u8 = 2;

impl Stage {
    fn moves_to(&self, next: u8) -> bool {
        self.0.compare_exchange(QUEUED, next, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Identity {
    fn command_id(&self, sequence: u64) -> Option<CommandId> {
        let broker_epoch = self.broker_epoch.load(Ordering::Acquire);
        (broker_epoch >= 0).then_some(CommandId { node_id: self.node_id, broker_epoch, sequence })
    }
}

impl Proposer {
    /// Starts the task. It ends when all copies are gone.
    pub(super) fn start(raft: Raft, identity: Arc<Identity>, now: NowSource) -> Proposer {
        let (queue, commands) = mpsc::channel(MAX_QUEUED);
        tokio::spawn(run(commands, raft, identity, now));
        Proposer { queue }
    }

    /// Returns the reply of the cluster, refusals as errors.
    pub(super) async fn submit(&self, command: Command, patience: Duration) -> Result<Reply, SubmitError> {
        let deadline = Instant::now() + patience;
        let not_applied = |reason: &str| Err(SubmitError::NotApplied { reason: reason.to_owned() });
        let slot = match timeout(patience, self.queue.reserve()).await {
            Err(_) => return not_applied("the queue of the metadata log stayed full until the deadline"),
            Ok(Err(_)) => return not_applied("the metadata log is closed"),
            Ok(Ok(slot)) => slot,
        };
        let stage = Arc::new(Stage::default());
        let (reply, answer) = oneshot::channel();
        slot.send(Queued { command, stage: stage.clone(), reply });
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(outcome)) => outcome,
            _ if stage.moves_to(WITHDRAWN) => not_applied("it was still waiting for the metadata log"),
            Ok(Err(_)) => uncertain("the metadata log was closed meanwhile"),
            Err(_) => uncertain("the metadata log did not answer until the deadline"),
        }
    }
}

async fn run(mut commands: mpsc::Receiver<Queued>, raft: Raft, identity: Arc<Identity>, now: NowSource) {
    let mut taken = Vec::with_capacity(MAX_BATCH);
    // Numbers are given in the order of the log: the cluster remembers only the answers to the last ones.
    let mut sequence = 0_u64;
    while commands.recv_many(&mut taken, MAX_BATCH).await > 0 {
        let (mut submissions, mut waiting) = (Vec::with_capacity(taken.len()), Vec::with_capacity(taken.len()));
        for queued in taken.drain(..).filter(|queued| queued.stage.moves_to(PROPOSED)) {
            sequence += 1;
            submissions.push(Submission { id: identity.command_id(sequence), command: queued.command });
            waiting.push(queued.reply);
        }
        if !submissions.is_empty() {
            answer(waiting, propose(Arc::new(submissions), &raft, &now).await);
        }
    }
}

async fn propose(submissions: Arc<Vec<Submission>>, raft: &Raft, now: &NowSource) -> Result<Replies, String> {
    let started = Instant::now();
    loop {
        let batch = Batch { now: now(), submissions: submissions.clone() };
        match Box::pin(raft.client_write(batch)).await {
            Ok(written) => return Ok(written.data),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) if started.elapsed() < PROPOSE_FOR => {
                sleep(PROPOSE_AGAIN_AFTER).await;
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Those who wait may have given up: nobody minds.
fn answer(waiting: Vec<Waiting>, outcome: Result<Replies, String>) {
    match outcome {
        Ok(Replies(replies)) => {
            for (reply, waiting) in replies.into_iter().zip(waiting) {
                let _ = waiting.send(as_outcome(reply));
            }
        }
        Err(reason) => {
            tracing::error!(reason, "the metadata log did not take a batch of commands");
            for waiting in waiting {
                let _ = waiting.send(uncertain(&reason));
            }
        }
    }
}

fn as_outcome(reply: Reply) -> Result<Reply, SubmitError> {
    match reply {
        // Proposed twice, and the first answer is no longer known.
        Reply::Refused(error @ ClusterError::Forgotten { .. }) => uncertain(&error.to_string()),
        Reply::Refused(error) => Err(SubmitError::Refused(error)),
        reply => Ok(reply),
    }
}

fn uncertain(reason: &str) -> Result<Reply, SubmitError> {
    Err(SubmitError::Uncertain { reason: reason.to_owned() })
}
