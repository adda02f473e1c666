//! The queue of commands, and the task that decides them and puts the outcome into the log.
//!
//! While one batch becomes durable, the next one gathers: the busier the log, the more commands share a flush. Only one
//! batch is under way, so that each is decided on what the one before it led to. A batch that Raft turns away (an election is
//! under way), or that turns out void, is decided again; command ids keep it from being applied twice.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::time::Duration;

use coordinator::cluster::{Cluster, ClusterError, Command, CommandId, Reply, Submission};
use model::NodeId;
use openraft::error::{ClientWriteError, RaftError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::entry::{Decided, Effect, Raft};
use super::image::Images;
use super::{NowSource, SubmitError};

/// Most commands that wait for the log.
const MAX_QUEUED: usize = 1024;
/// Most commands of one log entry.
const MAX_BATCH: usize = 64;
/// An entry with that many records takes no further command: one command has about 10,000 of them at most.
const MANY_RECORDS: usize = 1_000;
/// Records after which a snapshot is asked for, however few entries hold them: they stand in memory until then.
const SNAPSHOT_AFTER_RECORDS: usize = 100_000;
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

/// What the task decides on, and writes to.
pub(super) struct Log {
    pub(super) raft: Raft,
    pub(super) images: Arc<Images>,
    pub(super) now: NowSource,
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
    pub(super) fn start(log: Log, identity: Arc<Identity>) -> Proposer {
        let (queue, commands) = mpsc::channel(MAX_QUEUED);
        tokio::spawn(run(commands, log, identity));
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

async fn run(mut commands: mpsc::Receiver<Queued>, log: Log, identity: Arc<Identity>) {
    let mut taken = Vec::with_capacity(MAX_BATCH);
    // Numbers are given in the order of the log: the cluster remembers only the answers to the last ones.
    let mut sequence = 0_u64;
    let mut unsaved_records = 0;
    while commands.recv_many(&mut taken, MAX_BATCH).await > 0 {
        let mut batch = VecDeque::with_capacity(taken.len());
        for queued in taken.drain(..).filter(|queued| queued.stage.moves_to(PROPOSED)) {
            sequence += 1;
            batch.push_back((Submission { id: identity.command_id(sequence), command: queued.command }, queued.reply));
        }
        while !batch.is_empty() {
            unsaved_records += log.settle(&mut batch).await;
        }
        if unsaved_records >= SNAPSHOT_AFTER_RECORDS {
            unsaved_records = 0;
            // It fails only when the log has stopped, which the next command learns.
            let _ = log.raft.trigger().snapshot().await;
        }
    }
}

impl Log {
    /// Takes commands from the front of the batch, as many as fit one entry, and answers them. Returns the number of
    /// records that they led to.
    async fn settle(&self, batch: &mut VecDeque<(Submission, Waiting)>) -> usize {
        let started = Instant::now();
        let mut records = 0;
        let outcome = loop {
            let (decided, replies) = self.decide(batch.iter().map(|(submission, _)| submission));
            records += decided.records.len();
            match Box::pin(self.raft.client_write(decided)).await {
                Ok(written) if written.data == Effect::Applied => break Ok(replies),
                Ok(_) if started.elapsed() < PROPOSE_FOR => {}
                Ok(_) => break Err("other entries of the log kept coming between".to_owned()),
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) if started.elapsed() < PROPOSE_FOR => {
                    sleep(PROPOSE_AGAIN_AFTER).await;
                }
                Err(error) => break Err(error.to_string()),
            }
        };
        // Those who wait may have given up: nobody minds.
        match outcome {
            Ok(replies) => {
                let answered = batch.drain(..replies.len());
                for ((_, waiting), reply) in answered.zip(replies) {
                    let _ = waiting.send(as_outcome(reply));
                }
            }
            Err(reason) => {
                tracing::error!(reason, "the metadata log did not take a batch of commands");
                for (_, waiting) in batch.drain(..) {
                    let _ = waiting.send(uncertain(&reason));
                }
            }
        }
        records
    }

    /// Decides commands, each on what those before it lead to, until the entry is full.
    fn decide<'a>(&self, submissions: impl Iterator<Item = &'a Submission>) -> (Decided, Vec<Reply>) {
        let (image, now) = (self.images.current(), (self.now)());
        let mut state = Cluster::clone(&image);
        let (mut records, mut replies) = (Vec::new(), Vec::new());
        for submission in submissions {
            let decision = state.decide(submission, now);
            for record in &decision.records {
                state.apply(record.clone());
            }
            records.extend(decision.records);
            replies.push(decision.reply);
            if records.len() >= MANY_RECORDS {
                break;
            }
        }
        (Decided { base: image.version(), records: Arc::new(records) }, replies)
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
