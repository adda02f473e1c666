//! Rows of which only the number matters, and perhaps the partition: no record is read for them.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int32Array, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Statistics;
use datafusion::common::stats::Precision;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
};
use futures::stream;
use model::PartitionIndex;

/// Gives as many rows as were counted; the columns, none or several, are all `partition`.
#[derive(Debug)]
pub(super) struct CountedExec {
    counts: Arc<[(PartitionIndex, u64)]>,
    properties: Arc<PlanProperties>,
}

impl CountedExec {
    /// Rows of partitions, with the columns of `schema`.
    pub(super) fn new(counts: Vec<(PartitionIndex, u64)>, schema: SchemaRef) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        CountedExec { counts: counts.into(), properties: Arc::new(properties) }
    }

    fn rows(&self) -> u64 {
        self.counts.iter().map(|(_, rows)| rows).sum()
    }
}

impl DisplayAs for CountedExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CountedExec: rows={}, read from no object", self.rows())
    }
}

impl ExecutionPlan for CountedExec {
    fn name(&self) -> &'static str {
        "CountedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let size = context.session_config().batch_size() as u64;
        let (schema, counts) = (self.schema(), Arc::clone(&self.counts));
        let next = move |(mut at, mut done): (usize, u64)| {
            while counts.get(at).is_some_and(|(_, rows)| done >= *rows) {
                (at, done) = (at + 1, 0);
            }
            let (partition, rows) = counts.get(at)?;
            let take = size.min(rows - done);
            Some((rows_of(&schema, *partition, usize::try_from(take).unwrap_or(0)), (at, done + take)))
        };
        let mut state = (0, 0);
        let batches = std::iter::from_fn(move || {
            let (batch, after) = next(state)?;
            state = after;
            Some(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream::iter(batches))))
    }

    fn partition_statistics(&self, _partition: Option<usize>) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        statistics.num_rows = Precision::Exact(usize::try_from(self.rows()).unwrap_or(usize::MAX));
        Ok(Arc::new(statistics))
    }
}

fn rows_of(schema: &SchemaRef, partition: PartitionIndex, rows: usize) -> Result<RecordBatch> {
    let column = || Arc::new(Int32Array::from_value(partition, rows)) as ArrayRef;
    let columns = schema.fields().iter().map(|_| column()).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}
