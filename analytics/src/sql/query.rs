//! One query under way: from its text to the last row, under its deadline.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream, execute_stream};
use futures::{FutureExt, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{mpsc, oneshot};

use super::error::SqlError;
use super::objects::Objects;
use super::output::{self, Format};
use super::session::{Planned, Session};
use super::source::Source;
use super::text::Text;

/// How long a query waits for its reader to take the mark of the end.
const END_WITHIN: Duration = Duration::from_secs(1);

/// How long a second plan waits for the tasks of the first to end, and between two looks.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
const LEAVE_STEP: Duration = Duration::from_millis(2);

/// What a query sends to its answer.
#[derive(Debug)]
pub(super) enum Item {
    /// Rows.
    Batch(RecordBatch),
    /// Rows as bytes of a format.
    Piece(Bytes),
    /// The end, with an error.
    Error(SqlError),
    /// The end: the rows are complete.
    End,
}

/// What a query's rows are sent as.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// [`Item::Batch`].
    Batches,
    /// [`Item::Piece`].
    Written(Format),
}

/// A query and what it runs on.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) text: Text,
    pub(super) form: Form,
    pub(super) source: Arc<dyn Source>,
    pub(super) objects: Objects,
    pub(super) memory: Arc<RuntimeEnv>,
    pub(super) threads: usize,
    pub(super) memory_bytes: usize,
    pub(super) limit: Duration,
    pub(super) deadline: tokio::time::Instant,
}

/// Where rows go.
#[derive(Debug)]
pub(super) struct Outlet {
    rows: mpsc::Sender<Item>,
    is_used: AtomicBool,
}

impl Outlet {
    /// Sends, or says that its reader is gone.
    pub(super) async fn send(&self, item: Item) -> Result<(), SendError<Item>> {
        self.is_used.store(true, Ordering::Relaxed);
        self.rows.send(item).await
    }
}

impl Query {
    /// Plans and runs. Sends the columns or an error to `head`, then the rows and an end to `rows`.
    pub(super) async fn run(self, head: oneshot::Sender<Result<SchemaRef, SqlError>>, rows: mpsc::Sender<Item>) {
        let mut meter = Meter { start: Instant::now(), outcome: None, limit: self.limit, plan: None };
        let deadline = self.deadline;
        let timed_out = SqlError::TimedOut { limit: self.limit };
        let planning = tokio::time::timeout_at(deadline, caught(self.plan())).await;
        let (session, planned) = match planning.unwrap_or_else(|_| Err(timed_out.clone())) {
            Ok(planned) => planned,
            Err(error) => {
                meter.outcome = Some(error.outcome());
                let _ = head.send(Err(error));
                return;
            }
        };
        if head.send(Ok(planned.0.schema())).is_err() {
            meter.plan = Some(planned.0);
            return;
        }
        let outlet = Outlet { rows, is_used: AtomicBool::new(false) };
        let sending = caught(self.answer(&session, planned, &outlet, &mut meter));
        let end = match tokio::time::timeout_at(deadline, sending).await.unwrap_or(Err(timed_out)) {
            // The reader has not taken all of it: that is no success.
            Ok(()) if outlet.rows.is_closed() => return,
            Ok(()) => {
                meter.outcome = Some("ok");
                Item::End
            }
            Err(error) => {
                meter.outcome = Some(error.outcome());
                Item::Error(self.objects.name_suspects(error))
            }
        };
        // A reader that does not read must not keep the query's place; it learns from the closed channel and its deadline.
        let _ = tokio::time::timeout(END_WITHIN, outlet.send(end)).await;
    }

    async fn plan(&self) -> Result<(Session, Planned), SqlError> {
        let session = Session::new(self).await?;
        let planned = session.plan(&self.text).await?;
        Ok((session, planned))
    }

    /// Sends all rows. A plan that runs out of memory before the first one gives way to one that needs less.
    async fn answer(
        &self,
        session: &Session,
        planned: Planned,
        outlet: &Outlet,
        meter: &mut Meter,
    ) -> Result<(), SqlError> {
        meter.plan = Some(Arc::clone(&planned.0));
        let sent = self.send_rows(&planned, outlet).await;
        let is_short = matches!(sent, Err(SqlError::Memory { .. })) && !outlet.is_used.load(Ordering::Relaxed);
        if !is_short || !session.spare(&planned) {
            return sent;
        }
        count_spilled(planned.0.as_ref());
        meter.plan = None;
        drop(planned);
        left_by_others().await;
        let sparing = session.plan(&self.text).await?;
        meter.plan = Some(Arc::clone(&sparing.0));
        self.send_rows(&sparing, outlet).await
    }

    async fn send_rows(&self, (plan, context): &Planned, outlet: &Outlet) -> Result<(), SqlError> {
        let memory = Arc::clone(context.memory_pool());
        let stream = execute_stream(Arc::clone(plan), Arc::clone(context))?;
        match self.form {
            Form::Batches => send_batches(stream, outlet).await,
            Form::Written(format) => output::send(stream, format, &memory, outlet).await,
        }
    }
}

/// Waits until the tasks of a plan that was dropped have left its memory; the runtime is the query's own.
async fn left_by_others() {
    let begin = Instant::now();
    while Handle::current().metrics().num_alive_tasks() > 0 && begin.elapsed() < LEAVE_WITHIN {
        tokio::time::sleep(LEAVE_STEP).await;
    }
}

/// The result of `work`, or that it panicked: an operator with a fault ends its query and no other one.
async fn caught<T>(work: impl Future<Output = Result<T, SqlError>>) -> Result<T, SqlError> {
    // All state that the work has changed is the query's own, and is dropped with it.
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.unwrap_or_else(|panic| Err(SqlError::panicked(panic.as_ref())))
}

async fn send_batches(mut stream: SendableRecordBatchStream, rows: &Outlet) -> Result<(), SqlError> {
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        if batch.num_rows() > 0 && rows.send(Item::Batch(batch)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Counts a query when it ends, however it ends.
struct Meter {
    start: Instant,
    outcome: Option<&'static str>,
    limit: Duration,
    plan: Option<Arc<dyn ExecutionPlan>>,
}

impl Drop for Meter {
    fn drop(&mut self) {
        let stopped = if self.start.elapsed() < self.limit { "cancelled" } else { "timed_out" };
        metrics::counter!("firn_sql_queries_total", "outcome" => self.outcome.unwrap_or(stopped)).increment(1);
        metrics::histogram!("firn_sql_seconds").record(self.start.elapsed());
        if let Some(plan) = &self.plan {
            count_spilled(plan.as_ref());
        }
    }
}

fn count_spilled(plan: &dyn ExecutionPlan) {
    metrics::counter!("firn_sql_spilled_bytes_total").increment(spilled_bytes(plan));
}

fn spilled_bytes(plan: &dyn ExecutionPlan) -> u64 {
    let own = plan.metrics().and_then(|metrics| metrics.spilled_bytes()).unwrap_or(0);
    plan.children().into_iter().map(|child| spilled_bytes(child.as_ref())).sum::<u64>() + own as u64
}
