//! One partition of `__consumer_offsets`: a task that owns the machine of its groups.
//!
//! The task loads the partition, then takes what has queued up, round by round; [`super::serving`] decides, stores and
//! answers. If the log fails in a way that leaves open what it holds, the state is thrown away, all who wait are refused,
//! and the shard loads again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coordinator::group::{Command, DeletedTopics, GroupError, GroupSettings, Groups, Now, Reply};
use model::batch::Batches;
use model::{Offset, PartitionIndex, TimestampMs};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error};

use super::deletions::Deletions;
use super::log::{LogFailure, OffsetsLog};
use super::memory::{GroupMemory, GroupShare};
use super::records;
use super::serving::Serving;
use crate::supervision;
use crate::timing::Clock;

/// Commands that may wait for a shard; more are refused as "not available".
pub(super) const QUEUE_COMMANDS: usize = 4_096;
/// Commands decided in one round, before their records are appended.
pub(super) const BATCH_COMMANDS: usize = 512;
/// Pause after a failed load or append, and after an empty read.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Handle of a shard; the task ends when the last one is gone.
#[derive(Debug, Clone)]
pub(super) struct Shard {
    queue: mpsc::Sender<Work>,
    loading: Arc<AtomicBool>,
    deletions: Arc<Deletions>,
    clock: Clock,
}

struct Work {
    /// By the clock's steady time.
    arrived_ms: TimestampMs,
    job: Job,
}

enum Job {
    Command { command: Command, reply: oneshot::Sender<Reply> },
    Query(Box<dyn FnOnce(&Groups) + Send>),
}

impl Shard {
    pub(super) fn start(setup: ShardSetup, clock: &Clock) -> Self {
        let (queue, work) = mpsc::channel(QUEUE_COMMANDS);
        let (loading, deletions) = (Arc::new(AtomicBool::new(true)), Arc::<Deletions>::default());
        let task =
            ShardTask { setup, clock: clock.clone(), work, loading: loading.clone(), deletions: deletions.clone() };
        tokio::spawn(supervision::without_panic("group-shard", task.run()));
        Self { queue, loading, deletions, clock: clock.clone() }
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
        self.submit(Job::Command { command, reply })?;
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
        self.submit(Job::Query(Box::new(move |groups: &Groups| drop(reply.send(ask(groups))))))?;
        drop(self);
        answer.await.map_err(|_| GroupError::NotCoordinator)
    }

    /// Topics were deleted: removes the offsets that were committed for them, also if the shard is still loading.
    pub(super) fn forget_topics(&self, topics: &DeletedTopics) {
        self.deletions.add(topics);
    }

    fn submit(&self, job: Job) -> Result<(), GroupError> {
        if self.is_loading() {
            return Err(GroupError::CoordinatorLoadInProgress);
        }
        let work = Work { arrived_ms: self.clock.steady_ms(), job };
        self.queue.try_send(work).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => GroupError::CoordinatorNotAvailable,
            mpsc::error::TrySendError::Closed(_) => GroupError::NotCoordinator,
        })
    }
}

/// Which partition a shard serves, and within what bounds.
#[derive(Debug, Clone)]
pub(super) struct ShardSetup {
    pub(super) partition: PartitionIndex,
    pub(super) log: OffsetsLog,
    pub(super) settings: GroupSettings,
    pub(super) memory: GroupMemory,
}

struct ShardTask {
    setup: ShardSetup,
    clock: Clock,
    work: mpsc::Receiver<Work>,
    loading: Arc<AtomicBool>,
    deletions: Arc<Deletions>,
}

/// Why serving ended.
enum End {
    Resigned,
    Failed(LogFailure),
}

impl ShardTask {
    async fn run(mut self) {
        let partition = self.setup.partition;
        loop {
            let failure = match self.load_or_resign().await {
                None => return,
                Some(Err(failure)) => failure,
                Some(Ok((groups, share))) => {
                    self.loading.store(false, Ordering::Release);
                    let end = self.serve(groups, share).await;
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
                LogFailure::Failed(reason) | LogFailure::Refused(reason) => {
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
    async fn load_or_resign(&mut self) -> Option<Result<(Groups, GroupShare), LogFailure>> {
        let load = load(self.setup.clone(), self.clock.clone());
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
    async fn serve(&mut self, groups: Groups, share: GroupShare) -> End {
        let mut serving = Serving::new(&self.setup, self.clock.clone(), groups, share);
        let mut next = None;
        let end = loop {
            let pause = if next.is_some() { Duration::ZERO } else { serving.pause() };
            tokio::select! {
                biased;
                committed = committed(&self.setup.log, serving.oldest_outstanding()) => if let Err(failure) = committed {
                    break End::Failed(failure);
                },
                work = self.work.recv(), if next.is_none() => match work {
                    Some(work) => next = Some(work),
                    None => break End::Resigned,
                },
                () = self.deletions.added() => {}
                () = tokio::time::sleep(pause) => {}
            }
            if let Err(failure) = self.round(&mut serving, &mut next) {
                break End::Failed(failure);
            }
        };
        // What is not cleaned up yet is for the next load.
        self.deletions.add(&serving.unload());
        end
    }

    /// Settles what is committed, decides what is queued, then what is due.
    fn round(&mut self, serving: &mut Serving, next: &mut Option<Work>) -> Result<(), LogFailure> {
        serving.settle()?;
        for _ in 0..BATCH_COMMANDS {
            let Some(work) = next.take().or_else(|| self.work.try_recv().ok()) else { break };
            match work.job {
                Job::Command { command, reply } => serving.execute(command, reply)?,
                Job::Query(answer) => answer(serving.groups()),
            }
        }
        *next = self.work.try_recv().ok();
        serving.tick(next.as_ref().map(|work| work.arrived_ms))?;
        serving.forget(self.deletions.take())?;
        serving.append()
    }
}

/// Waits until the log is committed up to `end`; for ever without an end.
async fn committed(log: &OffsetsLog, end: Option<Offset>) -> Result<(), LogFailure> {
    match end {
        Some(end) => log.committed(end).await,
        None => std::future::pending().await,
    }
}

/// Reads the whole partition back.
async fn load(setup: ShardSetup, clock: Clock) -> Result<(Groups, GroupShare), LogFailure> {
    let ShardSetup { partition, log, settings, memory } = setup;
    let mut share = memory.share();
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
            share.set(groups.bytes());
            tokio::task::yield_now().await;
        }
    }
    let now = Now { steady_ms: clock.steady_ms(), calendar_ms: clock.now_ms() };
    groups.activate(now);
    share.set(groups.bytes());
    debug!(
        partition,
        records = count,
        ms = now.steady_ms - started,
        "loaded the groups of a partition of __consumer_offsets"
    );
    Ok((groups, share))
}
