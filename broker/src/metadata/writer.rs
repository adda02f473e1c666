//! The one thread that writes the Raft file: async code never waits for the disk.
//!
//! What came in while a commit was under way goes into the next one together: one flush for all. Jobs are done in the
//! order in which they came, as Raft demands. The Raft core waits for each of its own jobs, so that few are ever queued; what other
//! nodes ask of it meanwhile is bounded in `rpc`.

use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use openraft::storage::LogFlushed;
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::backend::Patience;
use super::disk::{Change, RaftFile};
use super::entry::TypeConfig;
#[cfg(not(feature = "simulation"))]
use crate::machine::blocking;
#[cfg(feature = "simulation")]
use crate::machine::simulated;

/// Most jobs of one commit.
const MAX_GROUP: usize = 256;

/// Hands jobs to the thread. Copies share it.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    jobs: UnboundedSender<Job>,
    patience: Patience,
    committing: Committing,
}

/// When the commit under way began. Copies share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Committing(Arc<Mutex<Option<Instant>>>);

enum Job {
    /// Do it, and tell.
    Write(Box<Change>, Done),
    /// Stop after what came before.
    Stop,
}

/// Whom to tell.
enum Done {
    Raft(LogFlushed<TypeConfig>),
    Waiter(oneshot::Sender<io::Result<()>>),
    /// Nobody: it may wait for the next commit, and be lost in a crash.
    Nobody,
}

/// The thread at work.
#[cfg(not(feature = "simulation"))]
pub(super) struct Writing(std::thread::JoinHandle<()>);

#[cfg(not(feature = "simulation"))]
impl Writing {
    fn start(file: Arc<RaftFile>, queue: UnboundedReceiver<Job>) -> io::Result<Self> {
        let thread = std::thread::Builder::new().name("metadata-log".to_owned());
        Ok(Writing(thread.spawn(move || run(&file, queue))?))
    }

    /// Waits for its end.
    pub(super) async fn ended(self) {
        // A panic of the thread was logged when it happened.
        let _ = blocking::run(move || self.0.join()).await;
    }
}

/// A task that takes the thread's place in a simulation.
#[cfg(feature = "simulation")]
pub(super) struct Writing(tokio::task::JoinHandle<()>);

#[cfg(feature = "simulation")]
impl Writing {
    #[expect(clippy::unnecessary_wraps, reason = "a thread may not start")]
    fn start(file: Arc<RaftFile>, mut queue: UnboundedReceiver<Job>) -> io::Result<Self> {
        let work = async move {
            let mut group = Vec::new();
            while let Some(first) = queue.recv().await {
                simulated::disk_latency().await;
                if work_off(&file, Some(first), &mut queue, &mut group) {
                    return;
                }
            }
        };
        Ok(Writing(tokio::spawn(work)))
    }

    /// Waits for its end.
    pub(super) async fn ended(self) {
        let _ = self.0.await;
    }
}

impl Writer {
    /// Starts the thread. It ends with [`Writer::stop`] or when all copies are gone, and closes the file then.
    pub(super) fn start(file: RaftFile) -> io::Result<(Writer, Weak<RaftFile>, Writing)> {
        let file = Arc::new(file);
        let (to_read, patience, committing) = (Arc::downgrade(&file), file.patience.clone(), file.committing.clone());
        let (jobs, queue) = unbounded_channel();
        Ok((Writer { jobs, patience, committing }, to_read, Writing::start(file, queue)?))
    }

    /// Appends to the log; Raft is told when that is durable.
    pub(super) fn append(&self, change: Change, done: LogFlushed<TypeConfig>) {
        if let Err(refused) = self.jobs.send(Job::Write(Box::new(change), Done::Raft(done)))
            && let Job::Write(_, done) = refused.0
        {
            done.tell(Err(stopped()));
        }
    }

    /// Returns when the change is durable.
    pub(super) async fn write(&self, change: Change) -> io::Result<()> {
        let (done, told) = oneshot::channel();
        self.jobs.send(Job::Write(Box::new(change), Done::Waiter(done))).map_err(|_| stopped())?;
        told.await.map_err(|_| stopped())?
    }

    /// Writes the change with the next commit.
    pub(super) fn write_lazily(&self, change: Change) {
        // A stopped thread loses the hint, as a crash would.
        let _ = self.jobs.send(Job::Write(Box::new(change), Done::Nobody));
    }

    /// From now on a full disk is waited for, or is an error.
    pub(super) fn wait_for_room(&self, waits: bool) {
        self.patience.set(waits);
    }

    /// True while the disk has no space for the log.
    pub(super) fn is_full(&self) -> bool {
        self.patience.is_full()
    }

    /// How long the commit under way has taken; `None` while there is none.
    pub(super) fn committing_for(&self) -> Option<Duration> {
        self.committing.0.lock().map(|began| began.elapsed())
    }

    /// Asks the thread to end.
    pub(super) fn stop(&self) {
        // It may have ended already.
        let _ = self.jobs.send(Job::Stop);
    }
}

impl Done {
    fn tell(self, outcome: io::Result<()>) {
        match self {
            Done::Raft(done) => done.log_io_completed(outcome),
            // The waiter may have given up.
            Done::Waiter(done) => drop(done.send(outcome)),
            Done::Nobody => {}
        }
    }
}

#[cfg(not(feature = "simulation"))]
fn run(file: &RaftFile, mut queue: UnboundedReceiver<Job>) {
    let mut group = Vec::new();
    loop {
        let first = queue.blocking_recv();
        if first.is_none() || work_off(file, first, &mut queue, &mut group) {
            return;
        }
    }
}

/// Takes the jobs that are there, and commits them once one of them must be durable. True after the last one.
fn work_off(
    file: &RaftFile,
    first: Option<Job>,
    queue: &mut UnboundedReceiver<Job>,
    group: &mut Vec<(Box<Change>, Done)>,
) -> bool {
    let mut is_last = false;
    let mut next = first;
    while let Some(job) = next {
        match job {
            Job::Stop => {
                is_last = true;
                break;
            }
            Job::Write(change, done) => group.push((change, done)),
        }
        next = if group.len() < MAX_GROUP { queue.try_recv().ok() } else { None };
    }
    let must_write = group.len() >= MAX_GROUP || group.iter().any(|(_, done)| !matches!(done, Done::Nobody));
    if must_write || (is_last && !group.is_empty()) {
        commit(file, group);
    }
    is_last
}

fn commit(file: &RaftFile, group: &mut Vec<(Box<Change>, Done)>) {
    *file.committing.0.lock() = Some(Instant::now());
    let outcome = file.commit(group.iter().map(|(change, _)| change.as_ref()));
    *file.committing.0.lock() = None;
    if let Err(error) = &outcome {
        let file = file.path().display();
        tracing::error!(%error, %file, "the metadata log cannot be written: it changes no more; mend the disk and restart");
    }
    for (_, done) in group.drain(..) {
        done.tell(outcome.as_ref().copied().map_err(|error| io::Error::other(error.to_string())));
    }
}

fn stopped() -> io::Error {
    io::Error::other("the thread that writes the metadata log has ended")
}
