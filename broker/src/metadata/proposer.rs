//! The queue of commands, and the task that has them decided and put into the log.
//!
//! While one batch is under way, the next one gathers: the busier the log, the more commands share a flush. Only one batch is
//! under way, so that each is decided on what the one before it led to.
//!
//! The node that leads the log decides (`settling`); another one hands its commands over to it, as they are and under the
//! same numbers (`forwarding`), and answers once its own image shows the effect. A batch is tried again while an election is
//! under way, when its entry turns out void, and when the answer of the leader got lost: command ids keep it from being
//! applied twice.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::time::Duration;

use coordinator::cluster::{ClusterError, Command, CommandId, Reply, Submission};
use futures::future::join_all;
use model::NodeId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::SubmitError;
use super::entry::encoded_len;
use super::settling::{Log, MAX_COMMAND_BYTES, too_large};
use crate::supervision;
use crate::sync::point;

/// Most commands that wait for the log.
const MAX_QUEUED: usize = 1024;
/// Most bytes of commands that wait for the log, in units of [`UNIT_BYTES`].
const MAX_QUEUED_UNITS: usize = 64 << 10;
/// The memory of waiting commands is counted in that many bytes.
const UNIT_BYTES: usize = 1 << 10;
/// Most commands of one batch: fewer than the cluster remembers answers of one broker.
const MAX_BATCH: usize = 64;
/// Records after which a snapshot is asked for, however few entries hold them: they stand in memory until then.
const SNAPSHOT_AFTER_RECORDS: usize = 100_000;
/// The same for their bytes.
const SNAPSHOT_AFTER_BYTES: usize = 64 << 20;
/// How long a batch is tried again.
const TRY_FOR: Duration = Duration::from_secs(10);
/// Pause before a batch is tried again.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// The queue's near end.
#[derive(Debug, Clone)]
pub(super) struct Proposer {
    queue: mpsc::Sender<Queued>,
    memory: Arc<Semaphore>,
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
    asked: Asked,
    bytes: usize,
    memory: OwnedSemaphorePermit,
    stage: Arc<Stage>,
    reply: Waiting,
}

/// Where a command comes from.
#[derive(Debug)]
enum Asked {
    /// From this broker; it gets its number when its turn comes.
    Here(Command),
    /// From another one, which has numbered it.
    Elsewhere(Submission),
}

/// A command whose turn has come.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) submission: Submission,
    /// Size of the command.
    pub(super) bytes: usize,
    /// Until it is answered.
    _memory: OwnedSemaphorePermit,
    pub(super) is_from_here: bool,
    pub(super) waiting: Waiting,
}

pub(super) type Outcome = Result<Reply, SubmitError>;
pub(super) type Waiting = oneshot::Sender<Outcome>;

/// What became of a try.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tried {
    /// Some commands are answered.
    Settled(Written),
    /// The log certainly knows nothing of them.
    NotTaken,
    /// The log may know of them.
    Unknown(String),
    /// It makes no sense to try again.
    Failed(String),
}

/// What commands that were decided here led to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) records: usize,
    /// Size of the records.
    pub(super) bytes: usize,
}

impl Written {
    fn add(&mut self, more: Written) {
        self.records += more.records;
        self.bytes = self.bytes.saturating_add(more.bytes);
    }
}

/// Whether the log may know of a command. Its two sides race to move it on from `QUEUED`; one wins.
#[derive(Debug, Default)]
struct Stage(AtomicU8);

const QUEUED: u8 = 0;
const PROPOSED: u8 = 1;
const WITHDRAWN: u8 = 2;

impl Stage {
    fn moves_to(&self, next: u8) -> bool {
        point();
        self.0.compare_exchange(QUEUED, next, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Identity {
    /// The broker is registered under this epoch from now on.
    pub(super) fn set_broker_epoch(&self, broker_epoch: i64) {
        self.broker_epoch.store(broker_epoch, Ordering::Release);
    }

    fn command_id(&self, sequence: u64) -> Option<CommandId> {
        let broker_epoch = self.broker_epoch.load(Ordering::Acquire);
        (broker_epoch >= 0).then_some(CommandId { node_id: self.node_id, broker_epoch, sequence })
    }
}

impl Proposer {
    /// Starts the task. It ends when all copies are gone.
    pub(super) fn start(log: Log, identity: Arc<Identity>) -> Proposer {
        let (queue, commands) = mpsc::channel(MAX_QUEUED);
        tokio::spawn(supervision::without_panic("metadata-proposer", run(commands, log, identity)));
        Proposer { queue, memory: Arc::new(Semaphore::new(MAX_QUEUED_UNITS)) }
    }

    /// Returns the reply of the cluster, refusals as errors.
    pub(super) async fn submit(&self, command: Command, patience: Duration) -> Outcome {
        self.ask(Asked::Here(command), patience).await
    }

    /// The same for commands of another broker; answers in their order.
    pub(super) async fn submit_for_another(&self, submissions: Vec<Submission>, patience: Duration) -> Vec<Outcome> {
        join_all(submissions.into_iter().map(|submission| self.ask(Asked::Elsewhere(submission), patience))).await
    }

    async fn ask(&self, asked: Asked, patience: Duration) -> Outcome {
        let deadline = Instant::now() + patience;
        let bytes = asked.bytes();
        if bytes > MAX_COMMAND_BYTES {
            return Err(SubmitError::Refused(too_large(bytes)));
        }
        let entering = async { (self.claim(bytes).await, self.queue.reserve().await) };
        let (memory, slot) = match timeout(patience, entering).await {
            Err(_) => return not_applied("the queue of the metadata log stayed full until the deadline"),
            Ok((Some(memory), Ok(slot))) => (memory, slot),
            Ok(_) => return not_applied("the metadata log is closed"),
        };
        let stage = Arc::new(Stage::default());
        let (reply, answer) = oneshot::channel();
        slot.send(Queued { asked, bytes, memory, stage: stage.clone(), reply });
        match timeout_at(deadline, answer).await {
            Ok(Ok(outcome)) => outcome,
            _ if stage.moves_to(WITHDRAWN) => not_applied("it was still waiting for the metadata log"),
            Ok(Err(_)) => uncertain("the metadata log was closed meanwhile"),
            Err(_) => uncertain("the metadata log did not answer until the deadline"),
        }
    }

    /// Waits for memory for a command of that size.
    async fn claim(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = bytes.div_ceil(UNIT_BYTES).min(MAX_QUEUED_UNITS);
        self.memory.clone().acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX)).await.ok()
    }
}

impl Asked {
    fn bytes(&self) -> usize {
        match self {
            Asked::Here(command) => encoded_len(command),
            Asked::Elsewhere(submission) => encoded_len(submission),
        }
    }
}

impl Queued {
    /// The command whose turn has come, unless the one who asked has withdrawn it. One from here gets the next number.
    fn take_turn(self, identity: &Identity, sequence: &mut u64) -> Option<Pending> {
        if !self.stage.moves_to(PROPOSED) {
            return None;
        }
        let (submission, is_from_here) = match self.asked {
            Asked::Here(command) => {
                *sequence += 1;
                (Submission { id: identity.command_id(*sequence), command }, true)
            }
            Asked::Elsewhere(submission) => (submission, false),
        };
        Some(Pending { submission, bytes: self.bytes, _memory: self.memory, is_from_here, waiting: self.reply })
    }
}

async fn run(mut commands: mpsc::Receiver<Queued>, log: Log, identity: Arc<Identity>) {
    let mut taken = Vec::with_capacity(MAX_BATCH);
    // Numbers are given in the order of the log: the cluster remembers only the answers to the last ones.
    let mut sequence = 0_u64;
    let mut unsaved = Written::default();
    while commands.recv_many(&mut taken, MAX_BATCH).await > 0 {
        let mut batch = VecDeque::with_capacity(taken.len());
        batch.extend(taken.drain(..).filter_map(|queued| queued.take_turn(&identity, &mut sequence)));
        unsaved.add(finish(&log, batch).await);
        if unsaved.records >= SNAPSHOT_AFTER_RECORDS || unsaved.bytes >= SNAPSHOT_AFTER_BYTES {
            unsaved = Written::default();
            // It fails only when the log has stopped, which the next command learns.
            let _ = log.raft.trigger().snapshot().await;
        }
    }
}

/// Tries until every command of the batch is answered. Returns the records that they led to.
async fn finish(log: &Log, mut batch: VecDeque<Pending>) -> Written {
    let (mut started, mut written) = (Instant::now(), Written::default());
    let mut doubt = None;
    while !batch.is_empty() {
        let tried =
            if log.leads() { log.settle(&mut batch).await } else { log.forward(&mut batch, doubt.as_deref()).await };
        match tried {
            Tried::Settled(more) => {
                written.add(more);
                (started, doubt) = (Instant::now(), None);
                continue;
            }
            Tried::NotTaken => {}
            Tried::Unknown(reason) => doubt = Some(reason),
            Tried::Failed(reason) => {
                tracing::error!(reason, "the metadata log did not take a batch of commands");
                answer_all(batch.drain(..), &uncertain(&reason));
                break;
            }
        }
        if started.elapsed() >= TRY_FOR {
            let outcome = match &doubt {
                Some(reason) => uncertain(reason),
                None => not_applied("the metadata log has no leader"),
            };
            tracing::warn!(commands = batch.len(), ?outcome, "commands for the cluster are given up");
            answer_all(batch.drain(..), &outcome);
        }
        sleep(TRY_AGAIN_AFTER).await;
    }
    written
}

pub(super) fn answer_all(pending: impl Iterator<Item = Pending>, outcome: &Outcome) {
    for one in pending {
        // Those who wait may have given up: nobody minds.
        let _ = one.waiting.send(outcome.clone());
    }
}

/// What the one who asked learns from the cluster's reply.
pub(super) fn as_outcome(reply: Reply) -> Outcome {
    match reply {
        // Proposed twice, and the first answer is no longer known.
        Reply::Refused(error @ ClusterError::Forgotten { .. }) => uncertain(&error.to_string()),
        Reply::Refused(error) => Err(SubmitError::Refused(error)),
        reply => Ok(reply),
    }
}

pub(super) fn uncertain(reason: &str) -> Outcome {
    Err(SubmitError::Uncertain { reason: reason.to_owned() })
}

pub(super) fn not_applied(reason: &str) -> Outcome {
    Err(SubmitError::NotApplied { reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use coordinator::cluster::TopicRef;
    use interleavings::check;
    use parking_lot::Mutex;

    use super::*;

    const SCHEDULES: usize = 1000;
    const CALLERS: usize = 3;
    const PATIENCE: Duration = Duration::from_secs(1);

    fn name_of(command: &Command) -> String {
        match command {
            Command::DeleteTopics { topics } => format!("{topics:?}"),
            other => panic!("not of this test: {other:?}"),
        }
    }

    /// Takes commands in turn as the task does, and answers each. Returns those that it took.
    fn take_and_answer(mut commands: mpsc::Receiver<Queued>, all_asked: &AtomicUsize) -> Vec<String> {
        let identity = Identity { node_id: 1, broker_epoch: AtomicI64::new(0) };
        let (mut sequence, mut taken) = (0, Vec::new());
        while all_asked.load(Ordering::Relaxed) < CALLERS || !commands.is_empty() {
            point();
            let Ok(queued) = commands.try_recv() else { continue };
            let Some(pending) = queued.take_turn(&identity, &mut sequence) else { continue };
            taken.push(name_of(&pending.submission.command));
            point();
            answer_all(std::iter::once(pending), &Ok(Reply::TopicsDeleted(Vec::new())));
        }
        taken
    }

    #[test]
    fn what_is_reported_as_not_applied_never_reaches_the_log() {
        let met = Arc::new(Mutex::new([0_usize; 3]));
        let seen = Arc::clone(&met);
        check(1, SCHEDULES, move || {
            let clock = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let _timers = clock.enter();
            let (queue, commands) = mpsc::channel(MAX_QUEUED);
            let proposer = Proposer { queue, memory: Arc::new(Semaphore::new(MAX_QUEUED_UNITS)) };
            let ended = Arc::new(AtomicUsize::new(0));
            let callers: Vec<_> = (0..CALLERS)
                .map(|caller| {
                    let (proposer, ended) = (proposer.clone(), Arc::clone(&ended));
                    let command = Command::DeleteTopics { topics: vec![TopicRef::Name(caller.to_string())] };
                    shuttle::thread::spawn(move || {
                        let name = name_of(&command);
                        let outcome = shuttle::future::block_on(proposer.submit(command, PATIENCE));
                        ended.fetch_add(1, Ordering::Relaxed);
                        (name, outcome)
                    })
                })
                .collect();
            let log = shuttle::thread::spawn(move || take_and_answer(commands, &ended));
            point();
            clock.block_on(tokio::time::advance(PATIENCE));
            let outcomes: Vec<_> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
            let taken = log.join().unwrap();
            for (name, outcome) in outcomes {
                let (kind, reached) = match &outcome {
                    Ok(_) => (0, true),
                    Err(SubmitError::Uncertain { .. }) => (1, true),
                    Err(SubmitError::NotApplied { .. }) => (2, false),
                    Err(other) => panic!("{other}"),
                };
                assert_eq!(taken.contains(&name), reached, "{name}: {outcome:?}, taken: {taken:?}");
                met.lock()[kind] += 1;
            }
        });
        assert!(seen.lock().iter().all(|count| *count > 0), "each outcome is met: {:?}", seen.lock());
    }
}
