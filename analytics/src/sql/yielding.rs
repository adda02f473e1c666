//! Letting go of the thread: joins may work for long without giving a row, and a task that is not polled anew can neither
//! be cancelled nor make room for another query.
//!
//! DataFusion makes sources give up their turn now and then. Joins multiply what sources give, so their inputs and their
//! outputs do the same here, and what a nested loop compares at a time is kept small.

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

/// The plan, with joins that let go of their threads.
pub(super) fn yielding(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let wrapped = plan.transform_up(|node| {
        let is_loop = node.is::<NestedLoopJoinExec>() || node.is::<CrossJoinExec>();
        let multiplies =
            is_loop || node.is::<HashJoinExec>() || node.is::<SortMergeJoinExec>() || node.is::<UnnestExec>();
        if !multiplies {
            return Ok(Transformed::no(node));
        }
        let rows = if is_loop { LOOP_ROWS } else { usize::MAX };
        let inputs = node.children().into_iter().map(|input| YieldExec::wrap(Arc::clone(input), rows));
        let inputs = inputs.collect();
        Ok(Transformed::yes(YieldExec::wrap(node.with_new_children(inputs)?, usize::MAX)))
    });
    Ok(wrapped?.data)
}

/// Hands on what its input gives, in pieces of at most `rows` rows, and lets go of the thread now and then.
#[derive(Debug)]
struct YieldExec {
    input: Arc<dyn ExecutionPlan>,
    rows: usize,
}

impl YieldExec {
    fn wrap(input: Arc<dyn ExecutionPlan>, rows: usize) -> Arc<dyn ExecutionPlan> {
        Arc::new(YieldExec { input, rows })
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
        Ok(YieldExec::wrap(input, self.rows))
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        Ok(Box::pin(Turns { input, rows: self.rows, rest: None, since: Instant::now() }))
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        self.input.partition_statistics(partition)
    }
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
