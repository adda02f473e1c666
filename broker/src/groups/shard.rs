//! One partition of `__consumer_offsets`: a task that owns the machine of its groups.
//!
//! The task takes what has queued up, decides each command on the state that the one before left, and appends all
//! records in one go; replies leave when the append is committed. So the state runs ahead of the log by one append at
//! most, and nobody outside sees that. If an append fails, the state is thrown away, everyone is sent away, and the
//! shard loads again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coordinator::group::{Command, Decision, GroupError, GroupSettings, Groups, Now, Reply, RequestToken};
use model::batch::Batches;
use model::{PartitionIndex, TimestampMs};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, warn};

use super::log::{LogFailure, OffsetsLog};
use super::records::{self, KeyValue};
use crate::supervision;
use crate::timing::Clock;

/// Commands that may wait for a shard; more are refused as "not available".
pub(super) const QUEUE_COMMANDS: usize = 4_096;
/// Commands decided before their records are appended.
pub(super) const BATCH_COMMANDS: usize = 512;
/// Pause after a failed load or append, and after an empty read.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// The clock is looked at again at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Handle of a shard; the task ends when the last one is gone.
#[derive(Debug, Clone)]
pub(super) struct Shard {
    queue: mpsc::Sender<Work>,
    loading: Arc<AtomicBool>,
}

/// Sends the answer to a query, once it may leave.
type Answer = Box<dyn FnOnce() + Send>;

enum Work {
    Command { command: Command, reply: oneshot::Sender<Reply> },
    Query(Box<dyn FnOnce(&Groups) -> Answer + Send>),
    ForgetTopics(Arc<BTreeSet<Arc<str>>>),
}

impl Shard {
    pub(super) fn start(partition: PartitionIndex, log: OffsetsLog, settings: GroupSettings, clock: Clock) -> Self {
        let (queue, work) = mpsc::channel(QUEUE_COMMANDS);
        let loading = Arc::new(AtomicBool::new(true));
        let task = ShardTask { partition, log, settings, clock, work, loading: loading.clone(), next_token: 0 };
        tokio::spawn(supervision::without_panic("group-shard", task.run()));
        Self { queue, loading }
    }

    pub(super) fn is_loading(&self) -> bool {
        self.loading.load(Ordering::Acquire)
    }

    /// The partition was closed under it.
    pub(super) fn has_ended(&self) -> bool {
        self.queue.is_closed()
    }

    pub(super) async fn execute(self, command: Command) -> Result<Reply, GroupError> {
        let (reply, answer) = oneshot::channel();
        self.submit(Work::Command { command, reply })?;
        // Only the queue itself keeps the shard: a parked member must not hold up its end.
        drop(self);
        answer.await.map_err(|_| GroupError::NotCoordinator)
    }

    pub(super) async fn query<T, F>(self, ask: F) -> Result<T, GroupError>
    where
        T: Send + 'static,
        F: FnOnce(&Groups) -> T + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let work = |groups: &Groups| -> Answer {
            let found = ask(groups);
            Box::new(move || drop(reply.send(found)))
        };
        self.submit(Work::Query(Box::new(work)))?;
        drop(self);
        answer.await.map_err(|_| GroupError::NotCoordinator)
    }

    /// Best effort: offsets of a topic that is gone do no harm but take room.
    pub(super) fn forget_topics(&self, topics: &Arc<BTreeSet<Arc<str>>>) {
        if self.submit(Work::ForgetTopics(topics.clone())).is_err() {
            warn!("a shard is too busy to forget the offsets of deleted topics; they stay until they expire");
        }
    }

    fn submit(&self, work: Work) -> Result<(), GroupError> {
        if self.is_loading() {
            return Err(GroupError::CoordinatorLoadInProgress);
        }
        self.queue.try_send(work).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => GroupError::CoordinatorNotAvailable,
            mpsc::error::TrySendError::Closed(_) => GroupError::NotCoordinator,
        })
    }
}

struct ShardTask {
    partition: PartitionIndex,
    log: OffsetsLog,
    settings: GroupSettings,
    clock: Clock,
    work: mpsc::Receiver<Work>,
    loading: Arc<AtomicBool>,
    next_token: u64,
}

/// Why serving ended.
enum End {
    Resigned,
    Failed(LogFailure),
}

impl ShardTask {
    async fn run(mut self) {
        let partition = self.partition;
        loop {
            let failure = match self.load_or_resign().await {
                None => return,
                Some(Err(failure)) => failure,
                Some(Ok(groups)) => {
                    self.loading.store(false, Ordering::Release);
                    let end = self.serve(groups).await;
                    self.loading.store(true, Ordering::Release);
                    match end {
                        End::Resigned => return,
                        End::Failed(failure) => failure,
                    }
                }
            };
            match failure {
                // From here on the closed queue speaks for the shard: "not the coordinator".
                LogFailure::Lost => {
                    self.loading.store(false, Ordering::Release);
                    debug!(partition, "the groups of a partition of __consumer_offsets have another coordinator");
                    return;
                }
                LogFailure::Closed(reason) => {
                    self.loading.store(false, Ordering::Release);
                    error!(partition, reason, "giving up the groups of a partition of __consumer_offsets");
                    return;
                }
                LogFailure::Failed(reason) => {
                    error!(
                        partition,
                        reason, "cannot serve the groups of a partition of __consumer_offsets, loading again"
                    );
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// `None` if the shard is given up meanwhile. What was queued when serving ended is refused on the way.
    async fn load_or_resign(&mut self) -> Option<Result<Groups, LogFailure>> {
        let load = load(self.partition, self.log.clone(), self.settings.clone(), self.clock.clone());
        let mut load = std::pin::pin!(load);
        loop {
            tokio::select! {
                loaded = &mut load => return Some(loaded),
                // Dropping a piece of work answers it with "not the coordinator".
                work = self.work.recv() => drop(work?),
            }
        }
    }

    /// Serves until the last handle is gone or the log fails.
    async fn serve(&mut self, mut groups: Groups) -> End {
        let mut waiting = BTreeMap::new();
        let end = loop {
            let pause = groups.next_deadline().map_or(LONGEST_SLEEP, |at| self.until(at));
            let first = tokio::select! {
                biased;
                work = self.work.recv() => match work {
                    Some(work) => Some(work),
                    None => break End::Resigned,
                },
                () = tokio::time::sleep(pause) => None,
            };
            let round = self.decide_all(&mut groups, &mut waiting, first);
            if let Err(failure) = self.store(&round.records).await {
                break End::Failed(failure);
            }
            round.release(&mut waiting);
        };
        for (token, reply) in groups.unload() {
            answer(&mut waiting, token, reply);
        }
        end
    }

    fn until(&self, at: TimestampMs) -> Duration {
        let left_ms = at.saturating_sub(self.clock.steady_ms());
        Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)).min(LONGEST_SLEEP)
    }

    /// Decides what is queued, and what is due. The state is ahead of the log when this returns.
    fn decide_all(
        &mut self,
        groups: &mut Groups,
        waiting: &mut BTreeMap<RequestToken, oneshot::Sender<Reply>>,
        first: Option<Work>,
    ) -> Round {
        let mut round = Round::default();
        let mut next = first;
        for _ in 0..BATCH_COMMANDS {
            let Some(work) = next.take().or_else(|| self.work.try_recv().ok()) else { break };
            let now = Now { steady_ms: self.clock.steady_ms(), calendar_ms: self.clock.now_ms() };
            match work {
                Work::Command { command, reply } => {
                    self.next_token += 1;
                    let token = RequestToken(self.next_token);
                    waiting.insert(token, reply);
                    let decision = groups.decide(token, &command, now);
                    if let Err(error) = round.take(groups, decision) {
                        warn!(partition = self.partition, group = &**command.group(), %error, "refusing a request");
                        round.replies.push((token, command.refused(GroupError::CoordinatorNotAvailable)));
                    }
                }
                Work::Query(ask) => round.answers.push(ask(groups)),
                Work::ForgetTopics(topics) => {
                    let decision = groups.forget_topics(&topics);
                    round.take_or_warn(groups, decision, self.partition);
                }
            }
        }
        // Time takes offsets away, so it must be a time that can be believed.
        let now = Now { steady_ms: self.clock.steady_ms(), calendar_ms: self.clock.settled_ms() };
        if groups.next_deadline().is_some_and(|at| at <= now.steady_ms) {
            let decision = groups.tick(now);
            round.take_or_warn(groups, decision, self.partition);
        }
        round
    }

    async fn store(&self, encoded: &[KeyValue]) -> Result<(), LogFailure> {
        let now = self.clock.append_time();
        for batch in records::pack(encoded, now.stamp_ms).map_err(|error| LogFailure::Failed(error.to_string()))? {
            self.log.append(batch, now).await?;
        }
        Ok(())
    }
}

/// What one append carries, and what may leave after it.
#[derive(Default)]
struct Round {
    records: Vec<KeyValue>,
    replies: Vec<(RequestToken, Reply)>,
    answers: Vec<Answer>,
}

impl Round {
    /// Takes a decision over, all of it or, if its records have no byte form, nothing.
    fn take(&mut self, groups: &mut Groups, decision: Decision) -> Result<(), protocol::EncodeError> {
        let encoded = decision.records.iter().map(records::encode).collect::<Result<Vec<_>, _>>()?;
        self.records.extend(encoded);
        for record in &decision.records {
            groups.apply(record);
        }
        for change in decision.changes {
            groups.adopt(change);
        }
        self.replies.extend(decision.replies);
        Ok(())
    }

    fn take_or_warn(&mut self, groups: &mut Groups, decision: Decision, partition: PartitionIndex) {
        if let Err(error) = self.take(groups, decision) {
            error!(partition, %error, "cannot write down what time did to the groups");
        }
    }

    fn release(self, waiting: &mut BTreeMap<RequestToken, oneshot::Sender<Reply>>) {
        for (token, reply) in self.replies {
            answer(waiting, token, reply);
        }
        for answer in self.answers {
            answer();
        }
    }
}

fn answer(waiting: &mut BTreeMap<RequestToken, oneshot::Sender<Reply>>, token: RequestToken, reply: Reply) {
    if let Some(waiter) = waiting.remove(&token) {
        // The client may have hung up.
        drop(waiter.send(reply));
    }
}

/// Reads the whole partition back.
async fn load(
    partition: PartitionIndex,
    log: OffsetsLog,
    settings: GroupSettings,
    clock: Clock,
) -> Result<Groups, LogFailure> {
    let started = clock.steady_ms();
    let (mut from, end) = log.bounds().await?;
    let mut groups = Groups::new(settings);
    let mut count = 0_u64;
    while from < end {
        let chunks = log.read(from).await?;
        if chunks.is_empty() {
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        for chunk in chunks {
            for batch in Batches::new(&chunk) {
                let damaged = |e| LogFailure::Failed(format!("damaged batch at or after offset {from}: {e}"));
                let batch = batch.map_err(damaged)?;
                for record in records::unpack(&batch).map_err(damaged)? {
                    groups.apply(&record);
                    count += 1;
                }
                from = from.max(batch.header.next_offset());
            }
            tokio::task::yield_now().await;
        }
    }
    let now = Now { steady_ms: clock.steady_ms(), calendar_ms: clock.now_ms() };
    groups.activate(now);
    debug!(
        partition,
        records = count,
        ms = now.steady_ms - started,
        "loaded the groups of a partition of __consumer_offsets"
    );
    Ok(groups)
}
