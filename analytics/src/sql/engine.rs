//! The face of SQL: an engine over a source, and an answer that is read as it comes.
//!
//! Queries run on threads of the engine's own, at a lower priority than the rest of the process, under one memory limit
//! for all of them; what does not fit spills into a folder. Whoever drops an answer ends its query.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::error::SqlError;
use super::objects::Objects;
use super::query::{Item, Query};
use super::session;
use super::source::Source;

/// Batches that a query may be ahead of its reader.
const BATCHES_AHEAD: usize = 2;
/// Largest queries that an error about memory names.
const NAMED_CONSUMERS: usize = 3;
/// How much less of the processor the engine's threads get than others, in steps of `nice`.
const NICE: i32 = 10;

/// What queries may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Memory of all queries together, in bytes; a sixteenth more is used for footers of objects.
    pub memory_bytes: usize,
    /// Folder for what does not fit into memory; made when it is missing.
    pub spill_dir: PathBuf,
    /// Bytes that all queries together may spill.
    pub spill_bytes: u64,
    /// Threads that queries run on.
    pub threads: usize,
    /// Queries that run at a time.
    pub concurrency: usize,
    /// How long a query waits for others to end before it is refused.
    pub queue: Duration,
    /// How long a query may take, the reading of its answer included, unless the caller says otherwise.
    pub timeout: Duration,
}

impl Limits {
    /// The defaults, spilling into `spill_dir`.
    #[must_use]
    pub fn new(spill_dir: PathBuf) -> Self {
        Limits {
            memory_bytes: 256 << 20,
            spill_dir,
            spill_bytes: 10 << 30,
            threads: 2,
            concurrency: 4,
            queue: Duration::from_secs(10),
            timeout: Duration::from_secs(300),
        }
    }
}

/// SQL over the topics of a source. Share it by an `Arc`; dropping it ends what runs.
pub struct Engine {
    source: Arc<dyn Source>,
    limits: Limits,
    objects: Objects,
    memory: Arc<RuntimeEnv>,
    running: Arc<Semaphore>,
    runtime: Option<Runtime>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("source", &self.source).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The rows of a query. Dropping it cancels the query.
pub struct Answer {
    /// The columns.
    pub schema: SchemaRef,
    /// What the reader must know of what is not seen.
    pub notice: Option<String>,
    /// The rows. An error is the last item; without one the rows are complete.
    pub batches: BoxStream<'static, Result<RecordBatch, SqlError>>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("schema", &self.schema).field("notice", &self.notice).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine over `source`. What an earlier process has spilled into the folder and left there is removed.
    ///
    /// # Errors
    /// When the threads or the folder cannot be made.
    pub fn new(source: Arc<dyn Source>, limits: Limits) -> Result<Engine, SqlError> {
        let ended = |what: &str, cause: &dyn fmt::Display| SqlError::Ended { message: format!("{what}: {cause}") };
        let folder = limits.spill_dir.display().to_string();
        prepare(&limits.spill_dir).map_err(|e| ended(&format!("cannot use {folder} for spilled data"), &e))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(limits.threads.max(1))
            .thread_name("sql")
            .on_thread_start(be_nice)
            .enable_all()
            .build()
            .map_err(|e| ended("cannot start threads for queries", &e))?;
        let pool = TrackConsumersPool::new(
            FairSpillPool::new(limits.memory_bytes),
            std::num::NonZeroUsize::new(NAMED_CONSUMERS).unwrap_or(std::num::NonZeroUsize::MIN),
        );
        let spill = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![limits.spill_dir.clone()]))
            .with_max_temp_directory_size(limits.spill_bytes);
        let memory = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).with_disk_manager_builder(spill);
        let memory = memory.build_arc()?;
        session::register_store(&memory);
        let objects = Objects::new(source.cold(), limits.memory_bytes / 16);
        let running = Arc::new(Semaphore::new(limits.concurrency.max(1)));
        Ok(Engine { source, limits, objects, memory, running, runtime: Some(runtime) })
    }

    /// Plans `sql`, one statement that reads, and starts it; the answer comes as soon as its columns are known.
    ///
    /// # Errors
    /// [`SqlError`]. What fails after the first row is the last item of the answer's batches.
    pub async fn query(&self, sql: &str, timeout: Option<Duration>) -> Result<Answer, SqlError> {
        let limit = timeout.unwrap_or(self.limits.timeout);
        let permit = self.admit(limit).await?;
        let Some(runtime) = &self.runtime else {
            return Err(SqlError::Ended { message: "the engine is shutting down".into() });
        };
        let (head, columns) = oneshot::channel();
        let (rows, received) = mpsc::channel(BATCHES_AHEAD);
        let query = Query {
            sql: sql.to_owned(),
            source: Arc::clone(&self.source),
            objects: self.objects.for_query(),
            memory: Arc::clone(&self.memory),
            threads: self.limits.threads.max(1),
            memory_bytes: self.limits.memory_bytes,
            limit,
        };
        let deadline = Instant::now() + limit;
        let task = runtime.spawn(run(query, permit, head, rows));
        let guard = AbortOnDrop(task.abort_handle());
        // The query looks at its deadline too, but only where it waits for something.
        let planned = tokio::time::timeout_at(deadline, columns).await;
        let schema = planned.map_err(|_| SqlError::TimedOut { limit })?.unwrap_or_else(|_| Err(ended()))?;
        let receiving = Receiving { received, deadline, limit, _guard: guard };
        let batches = futures::stream::unfold(Some(receiving), next_batch).boxed();
        Ok(Answer { schema, notice: self.source.notice(), batches })
    }

    async fn admit(&self, limit: Duration) -> Result<OwnedSemaphorePermit, SqlError> {
        let wait = self.limits.queue.min(limit);
        match tokio::time::timeout(wait, Arc::clone(&self.running).acquire_owned()).await {
            Ok(permit) => permit.map_err(|_| ended()),
            Err(_) => {
                metrics::counter!("firn_sql_queries_total", "outcome" => "busy").increment(1);
                Err(SqlError::Busy { running: self.limits.concurrency, waited: wait })
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // An engine may be dropped where blocking is not allowed.
            runtime.shutdown_background();
        }
    }
}

async fn run(
    query: Query,
    permit: OwnedSemaphorePermit,
    head: oneshot::Sender<Result<SchemaRef, SqlError>>,
    rows: mpsc::Sender<Item>,
) {
    query.run(head, rows).await;
    drop(permit);
}

/// An answer being read.
struct Receiving {
    received: mpsc::Receiver<Item>,
    deadline: Instant,
    limit: Duration,
    _guard: AbortOnDrop,
}

async fn next_batch(state: Option<Receiving>) -> Option<(Result<RecordBatch, SqlError>, Option<Receiving>)> {
    let mut state = state?;
    match tokio::time::timeout_at(state.deadline, state.received.recv()).await {
        Ok(Some(Item::Batch(batch))) => Some((Ok(batch), Some(state))),
        Ok(Some(Item::Error(error))) => Some((Err(error), None)),
        Ok(Some(Item::End)) => None,
        // Without the mark of the end the rows are not all there.
        Ok(None) => Some((Err(ended()), None)),
        Err(_) => Some((Err(SqlError::TimedOut { limit: state.limit }), None)),
    }
}

fn ended() -> SqlError {
    SqlError::Ended { message: "the engine is shutting down, or the query has met a fault of the engine".into() }
}

/// Stops a query that nobody waits for.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Makes the folder, and removes what a process that was killed has left in it.
fn prepare(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let is_spill = entry.file_name().to_string_lossy().starts_with(SPILL_PREFIX);
        if is_spill && entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// How the names of DataFusion's folders begin.
const SPILL_PREFIX: &str = "datafusion-";

fn be_nice() {
    // On Linux the calling thread alone. Where it is refused, queries run like everything else.
    let _ = rustix::process::setpriority_process(None, NICE);
}
