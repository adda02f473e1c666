//! The face of SQL: an engine over a source, and an answer that is read as it comes.
//!
//! Each query runs on threads of its own ([`super::threads`]), at a lower priority than the rest of the process, under one
//! memory limit for all queries; what does not fit spills into a folder. What a query reads is read on the runtime that made
//! the engine ([`super::reading`]), so that no query waits for the threads of another one. Dropping an answer ends its query.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::error::SqlError;
use super::objects::Objects;
use super::output::Format;
use super::query::{Form, Item, Query};
use super::reading::ReadAside;
use super::session;
use super::source::Source;
use super::text::Text;
use super::threads::{self, CancelOnDrop, Place, Running, Shape};

/// Batches, or pieces of an answer, that a query may be ahead of its reader.
const BATCHES_AHEAD: usize = 2;
/// Largest queries that an error about memory names.
const NAMED_CONSUMERS: usize = 3;

/// What queries may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Memory of all queries together, in bytes; a sixteenth more is used for footers of objects.
    pub memory_bytes: usize,
    /// Folder for what does not fit into memory; made when it is missing.
    pub spill_dir: PathBuf,
    /// Bytes that all queries together may spill.
    pub spill_bytes: u64,
    /// Threads that each query runs on.
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

/// SQL over the topics of a source. Share it by an `Arc`.
pub struct Engine {
    source: Arc<dyn Source>,
    limits: Limits,
    objects: Objects,
    memory: Arc<RuntimeEnv>,
    places: Arc<Semaphore>,
    running: Arc<Running>,
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

/// The rows of a query as bytes of a format. Dropping it cancels the query.
pub struct Written {
    /// What the reader must know of what is not seen.
    pub notice: Option<String>,
    /// The bytes. An error is the last item; without one the bytes are complete.
    pub pieces: BoxStream<'static, Result<Bytes, SqlError>>,
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Written").field("notice", &self.notice).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine over `source`, which reads on the present runtime. What an earlier process has spilled into the folder and
    /// left there is removed.
    ///
    /// # Errors
    /// When the folder cannot be made.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn new(source: Arc<dyn Source>, limits: Limits) -> Result<Engine, SqlError> {
        let ended = |what: &str, cause: &dyn fmt::Display| SqlError::Ended { message: format!("{what}: {cause}") };
        let folder = limits.spill_dir.display().to_string();
        prepare(&limits.spill_dir).map_err(|e| ended(&format!("cannot use {folder} for spilled data"), &e))?;
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
        let reading = Handle::current();
        let objects = Objects::new(source.cold(), limits.memory_bytes / 16, reading.clone());
        let source = Arc::new(ReadAside::new(source, reading));
        let places = Arc::new(Semaphore::new(limits.concurrency.max(1)));
        Ok(Engine { source, limits, objects, memory, places, running: Arc::default() })
    }

    /// Plans `sql`, one statement that reads, and starts it; the answer comes as soon as its columns are known.
    ///
    /// # Errors
    /// [`SqlError`]. What fails after the first row is the last item of the answer's batches.
    pub async fn query(&self, sql: &str, timeout: Option<Duration>) -> Result<Answer, SqlError> {
        let (schema, items) = self.start(Text::from(sql), timeout, Form::Batches).await?;
        let batch = |item: Result<Item, SqlError>| match item {
            Ok(Item::Batch(batch)) => Some(Ok(batch)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        };
        let batches = items.filter_map(move |item| futures::future::ready(batch(item))).boxed();
        Ok(Answer { schema, notice: self.source.notice(), batches })
    }

    /// As [`Self::query`], with the rows written as `format` by the threads of the query.
    ///
    /// # Errors
    /// [`SqlError`]. What fails after the first row is the last item of the answer's pieces.
    pub async fn query_as(
        &self,
        text: impl Into<Text>,
        timeout: Option<Duration>,
        format: Format,
    ) -> Result<Written, SqlError> {
        let (_, items) = self.start(text.into(), timeout, Form::Written(format)).await?;
        let piece = |item: Result<Item, SqlError>| match item {
            Ok(Item::Piece(piece)) => Some(Ok(piece)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        };
        let pieces = items.filter_map(move |item| futures::future::ready(piece(item))).boxed();
        Ok(Written { notice: self.source.notice(), pieces })
    }

    /// How many queries have threads.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.count()
    }

    /// For how long a query has computed that should have ended, by its deadline or because its answer was dropped; zero
    /// when there is none. Nothing but the end of the process stops such a query.
    #[must_use]
    pub fn overrun(&self) -> Duration {
        self.running.overrun(std::time::Instant::now())
    }

    async fn start(
        &self,
        text: Text,
        timeout: Option<Duration>,
        form: Form,
    ) -> Result<(SchemaRef, BoxStream<'static, Result<Item, SqlError>>), SqlError> {
        let limit = timeout.unwrap_or(self.limits.timeout);
        let deadline = Instant::now() + limit;
        let bounded = text.narrowed().and_then(|text| Ok((text.operators()?, text)));
        let (operators, text) = bounded.inspect_err(|error| count(error.outcome()))?;
        let permit = self.admit(limit).await?;
        let (head, columns) = oneshot::channel();
        let (rows, received) = mpsc::channel(BATCHES_AHEAD);
        let query = Query {
            text,
            form,
            source: Arc::clone(&self.source),
            objects: self.objects.for_query(),
            memory: Arc::clone(&self.memory),
            threads: self.limits.threads.max(1),
            memory_bytes: self.limits.memory_bytes,
            limit,
            deadline,
        };
        let place = Place::take(&self.running, permit, deadline.into_std());
        let shape = Shape { count: self.limits.threads.max(1), operators };
        let started = threads::run(place, shape, move || query.run(head, rows));
        let guard = started
            .map_err(|error| SqlError::Ended { message: format!("cannot start the thread of a query: {error}") })?;
        // The query looks at its deadline too, but only where it waits for something.
        let planned = tokio::time::timeout_at(deadline, columns).await;
        let schema = planned.map_err(|_| SqlError::TimedOut { limit })?.unwrap_or_else(|_| Err(ended()))?;
        let receiving = Receiving { received, deadline, limit, _guard: guard };
        Ok((schema, futures::stream::unfold(Some(receiving), next_item).boxed()))
    }

    async fn admit(&self, limit: Duration) -> Result<OwnedSemaphorePermit, SqlError> {
        let wait = self.limits.queue.min(limit);
        match tokio::time::timeout(wait, Arc::clone(&self.places).acquire_owned()).await {
            Ok(permit) => permit.map_err(|_| ended()),
            Err(_) => {
                count("busy");
                Err(SqlError::Busy { running: self.limits.concurrency, waited: wait })
            }
        }
    }
}

/// An answer being read.
struct Receiving {
    received: mpsc::Receiver<Item>,
    deadline: Instant,
    limit: Duration,
    _guard: CancelOnDrop,
}

async fn next_item(state: Option<Receiving>) -> Option<(Result<Item, SqlError>, Option<Receiving>)> {
    let mut state = state?;
    match tokio::time::timeout_at(state.deadline, state.received.recv()).await {
        Ok(Some(Item::Error(error))) => Some((Err(error), None)),
        Ok(Some(Item::End)) => None,
        Ok(Some(item)) => Some((Ok(item), Some(state))),
        // Without the mark of the end the rows are not all there.
        Ok(None) if Instant::now() < state.deadline => Some((Err(ended()), None)),
        Ok(None) | Err(_) => Some((Err(SqlError::TimedOut { limit: state.limit }), None)),
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("firn_sql_queries_total", "outcome" => outcome).increment(1);
}

fn ended() -> SqlError {
    SqlError::Ended { message: "the engine is shutting down".into() }
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
