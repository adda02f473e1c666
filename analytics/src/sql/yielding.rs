//! Letting go of the thread: joins may work for long without giving a row, and a task that is not polled again can neither
//! be cancelled nor make way for another query.
//!
//! DataFusion makes sources give up their turn now and then. Joins multiply what sources give, so their inputs and their
//! outputs do the same here, and what a nested loop compares at a time is kept small.
//!
//! A nested loop does not spill. DataFusion 54 runs its left side a second time for that, which panics where the left side hands out
//! its rows once, and an outer join over several partitions then gives unmatched rows once for each. One that needs more memory
//! than there is fails as that.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Statistics;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{RecordBatchStream, TaskContext};
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, SendableRecordBatchStream,
};
use futures::{Stream, StreamExt};

/// How long a stream may keep its thread.
const TURN: Duration = Duration::from_millis(10);
/// Rows that a nested loop is given at a time, each of which it compares with all rows of the other side.
const LOOP_ROWS: usize = 128;

/// The plan, with joins that let go of their threads; it runs in `runtime`.
pub(super) fn yielding(plan: Arc<dyn ExecutionPlan>, runtime: &Arc<RuntimeEnv>) -> Result<Arc<dyn ExecutionPlan>> {
    let no_disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled).build()?;
    let without_disk = Arc::new(RuntimeEnv { disk_manager: Arc::new(no_disk), ..RuntimeEnv::clone(runtime) });
    let wrapped = plan.transform_up(|node| {
        let is_loop = node.is::<NestedLoopJoinExec>() || node.is::<CrossJoinExec>();
        let multiplies =
            is_loop || node.is::<HashJoinExec>() || node.is::<SortMergeJoinExec>() || node.is::<UnnestExec>();
        if !multiplies {
            return Ok(Transformed::no(node));
        }
        let rows = if is_loop { LOOP_ROWS } else { usize::MAX };
        let wrap = |input: &Arc<dyn ExecutionPlan>| YieldExec::wrap(Arc::clone(input), rows, runtime);
        let inputs = node.children().into_iter().map(wrap).collect();
        let own = if is_loop { &without_disk } else { runtime };
        Ok(Transformed::yes(YieldExec::wrap(node.with_new_children(inputs)?, usize::MAX, own)))
    });
    Ok(wrapped?.data)
}

/// Hands on what its input gives, in pieces of at most `rows` rows, and lets go of the thread now and then.
#[derive(Debug)]
struct YieldExec {
    input: Arc<dyn ExecutionPlan>,
    rows: usize,
    /// What the input runs in.
    runtime: Arc<RuntimeEnv>,
}

impl YieldExec {
    fn wrap(input: Arc<dyn ExecutionPlan>, rows: usize, runtime: &Arc<RuntimeEnv>) -> Arc<dyn ExecutionPlan> {
        Arc::new(YieldExec { input, rows, runtime: Arc::clone(runtime) })
    }
}

impl DisplayAs for YieldExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YieldExec")
    }
}

impl ExecutionPlan for YieldExec {
    fn name(&self) -> &'static str {
        "YieldExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(YieldExec::wrap(input, self.rows, &self.runtime))
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, in_runtime(&context, &self.runtime))?;
        Ok(Box::pin(Turns { input, rows: self.rows, rest: None, since: Instant::now() }))
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        self.input.partition_statistics(partition)
    }
}

/// The context with another environment.
fn in_runtime(context: &Arc<TaskContext>, runtime: &Arc<RuntimeEnv>) -> Arc<TaskContext> {
    if Arc::ptr_eq(&context.runtime_env(), runtime) {
        return Arc::clone(context);
    }
    Arc::new(TaskContext::new(
        context.task_id(),
        context.session_id(),
        context.session_config().clone(),
        context.scalar_functions().clone(),
        context.higher_order_functions().clone(),
        context.aggregate_functions().clone(),
        context.window_functions().clone(),
        Arc::clone(runtime),
    ))
}

/// A stream that ends its turn after [`TURN`].
struct Turns {
    input: SendableRecordBatchStream,
    rows: usize,
    /// What is left of a batch that was larger than a piece.
    rest: Option<RecordBatch>,
    since: Instant,
}

impl Turns {
    /// The first piece of the batch; the rest waits.
    fn piece(&mut self, batch: RecordBatch) -> RecordBatch {
        if batch.num_rows() <= self.rows {
            return batch;
        }
        self.rest = Some(batch.slice(self.rows, batch.num_rows() - self.rows));
        batch.slice(0, self.rows)
    }
}

impl Stream for Turns {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.since.elapsed() > TURN {
            self.since = Instant::now();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(rest) = self.rest.take() {
            return Poll::Ready(Some(Ok(self.piece(rest))));
        }
        match self.input.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(batch))) => Poll::Ready(Some(Ok(self.piece(batch)))),
            Poll::Pending => {
                // Waiting is letting go.
                self.since = Instant::now();
                Poll::Pending
            }
            done => done,
        }
    }
}

impl RecordBatchStream for Turns {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}
