//! The threads of one query: they begin and end with it, so that a query that computes holds up no other one, and a query
//! has ended only when its last thread has.
//!
//! Rust cannot stop a thread that computes. A query that is cancelled or past its deadline is dropped where its threads
//! next wait for something; until then it keeps its place, and [`Running::overrun`] says for how long it has done so. A
//! process that is there for queries alone ends itself by that.
//!
//! ```text
//!   thread "sql": block_on(query) ── plans, polls the root of the plan, drops it, waits for the others ──▶ gives the place back
//!   threads "sql-part": tasks that operators spawn (repartitioning, hot partitions)
//! ```

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

/// Stack of each thread of a query, in bytes, and what every operator of its statement adds: planning, evaluating and dropping
/// recurse as deep as operators nest. Only what is used of it takes memory, but all of it counts against a limit on the
/// process's data.
const STACK_BYTES: usize = 4 << 20;
const OPERATOR_STACK_BYTES: usize = 16 << 10;
/// Threads that a query may use for work that blocks, such as reading what it has spilled.
const BLOCKING_THREADS: usize = 4;
/// How much less of the processor the threads get than others, in steps of `nice`.
const NICE: i32 = 10;

/// The queries that have threads, by number.
#[derive(Debug, Default)]
pub(super) struct Running {
    queries: Mutex<HashMap<u64, Started>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Started {
    deadline: Instant,
    cancelled: Option<Instant>,
}

impl Running {
    /// How many queries have threads.
    pub(super) fn count(&self) -> usize {
        self.queries.lock().len()
    }

    /// For how long a query has kept a thread that it should have left, by its deadline or because it was cancelled: the
    /// longest such time, zero when there is none.
    pub(super) fn overrun(&self, now: Instant) -> Duration {
        let should_end = |query: &Started| query.cancelled.map_or(query.deadline, |at| at.min(query.deadline));
        let queries = self.queries.lock();
        let longest = queries.values().map(|query| now.saturating_duration_since(should_end(query))).max();
        longest.unwrap_or_default()
    }
}

/// A query's place among those that run, given back when its threads have ended.
#[derive(Debug)]
pub(super) struct Place {
    running: Arc<Running>,
    id: u64,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    pub(super) fn take(running: &Arc<Running>, permit: OwnedSemaphorePermit, deadline: Instant) -> Self {
        let id = running.next.fetch_add(1, Ordering::Relaxed);
        running.queries.lock().insert(id, Started { deadline, cancelled: None });
        Place { running: Arc::clone(running), id, _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.running.queries.lock().remove(&self.id);
    }
}

/// Cancels a query when it is dropped.
#[derive(Debug)]
pub(super) struct CancelOnDrop {
    cancel: CancellationToken,
    running: Arc<Running>,
    id: u64,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(query) = self.running.queries.lock().get_mut(&self.id) {
            query.cancelled = Some(Instant::now());
        }
        self.cancel.cancel();
    }
}

/// The threads of a query.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// How many, beside the first.
    pub(super) count: usize,
    /// Operators of the statement.
    pub(super) operators: usize,
}

impl Shape {
    fn stack_bytes(self) -> usize {
        STACK_BYTES + self.operators * OPERATOR_STACK_BYTES
    }
}

/// Runs `query` on threads of its own until it is done or the result is dropped.
///
/// # Errors
/// When the first thread cannot be made.
pub(super) fn run<Q>(place: Place, shape: Shape, query: impl FnOnce() -> Q + Send + 'static) -> io::Result<CancelOnDrop>
where
    Q: Future<Output = ()>,
{
    let cancel = CancellationToken::new();
    let guard = CancelOnDrop { cancel: cancel.clone(), running: Arc::clone(&place.running), id: place.id };
    let work = move || {
        be_nice();
        match runtime(shape) {
            Ok(runtime) => {
                runtime.block_on(async {
                    tokio::select! {
                        biased;
                        () = cancel.cancelled() => {}
                        () = query() => {}
                    }
                });
                // Waits until the other threads have dropped what they had.
                drop(runtime);
            }
            Err(error) => tracing::error!(%error, "cannot start the threads of a query"),
        }
        drop(place);
    };
    thread::Builder::new().name("sql".to_owned()).stack_size(shape.stack_bytes()).spawn(work)?;
    Ok(guard)
}

fn runtime(shape: Shape) -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(shape.count)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("sql-part")
        .thread_stack_size(shape.stack_bytes())
        .on_thread_start(be_nice)
        .enable_all()
        .build()
}

fn be_nice() {
    // On Linux the calling thread alone. Where it is refused, queries run like everything else.
    let _ = rustix::process::setpriority_process(None, NICE);
}
