//! A few threads for work that keeps a core busy, away from the async runtime and behind everything else.
//!
//! The queue is bounded; whoever submits waits for room. A job that panics (bytes from a store must not be able to, but
//! a decoder is a lot of code) fails alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

/// Jobs that may wait per thread.
const QUEUE_PER_THREAD: usize = 16;
/// Steps by which the threads stand back behind those of produce and hot reads.
const NICE: i32 = 10;

type Job = Box<dyn FnOnce() + Send>;

/// Why a job has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JobError {
    /// It panicked, with these words.
    Panicked(String),
    /// The threads are gone.
    Closed,
}

/// The threads; they end when the last clone is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Workers {
    /// None: jobs are done where they are asked for.
    jobs: Option<mpsc::Sender<Job>>,
}

impl Workers {
    /// Starts `threads` threads called `name`; with none, jobs are done by whoever asks for them.
    pub(crate) fn start(name: &str, threads: usize) -> std::io::Result<Self> {
        if threads == 0 {
            return Ok(Workers { jobs: None });
        }
        let (jobs, queue) = mpsc::channel::<Job>(threads * QUEUE_PER_THREAD);
        let queue = Arc::new(Mutex::new(queue));
        for i in 0..threads {
            let queue = Arc::clone(&queue);
            thread::Builder::new().name(format!("{name}-{i}")).spawn(move || serve(&queue))?;
        }
        Ok(Workers { jobs: Some(jobs) })
    }

    /// Runs `job` on one of the threads.
    pub(crate) async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, JobError> {
        let job = || catch_unwind(AssertUnwindSafe(job)).map_err(|panic| JobError::Panicked(words(&*panic)));
        let Some(jobs) = &self.jobs else { return job() };
        let (answer, result) = oneshot::channel();
        let job = Box::new(move || {
            // Nobody may be waiting any more.
            let _ = answer.send(job());
        });
        jobs.send(job).await.map_err(|_| JobError::Closed)?;
        result.await.unwrap_or(Err(JobError::Closed))
    }
}

fn serve(queue: &Mutex<mpsc::Receiver<Job>>) {
    // On Linux the call changes only the calling thread. Without the right to do so the threads run as all others.
    let _ = rustix::process::nice(NICE);
    loop {
        let job = queue.lock().blocking_recv();
        match job {
            Some(job) => job(),
            None => return,
        }
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".into())
}
