//! Smallest and largest offsets without reading records: each object's first and last record stand for all of it.
//!
//! An aggregate of nothing but `min` and `max` over `offset` and `partition`, of all rows or by partition, gives the same
//! for a topic's rows as for the first and the last row of each object, which the footers know.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
};
use futures::stream::{self, StreamExt, TryStreamExt};

use super::cold::Candidate;
use super::objects::Objects;
use super::scan::TopicScanExec;

/// Footers that are loaded side by side.
const FOOTERS_AHEAD: usize = 8;

/// Gives the first and the last row of each object; the columns are `partition` and `offset`, in any order.
#[derive(Debug)]
pub(super) struct EdgesExec {
    objects: Objects,
    candidates: Arc<[Candidate]>,
    properties: Arc<PlanProperties>,
}

impl EdgesExec {
    /// The edges of objects of which all records count.
    pub(super) fn new(objects: Objects, candidates: Vec<Candidate>, schema: SchemaRef) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        EdgesExec { objects, candidates: candidates.into(), properties: Arc::new(properties) }
    }
}

impl DisplayAs for EdgesExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EdgesExec: first and last offsets of {} objects by their footers", self.candidates.len())
    }
}

impl ExecutionPlan for EdgesExec {
    fn name(&self) -> &'static str {
        "EdgesExec"
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

    fn execute(&self, _partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (objects, schema) = (self.objects.clone(), self.schema());
        let candidates: Vec<_> = self.candidates.to_vec();
        let edges = stream::iter(candidates)
            .map(move |candidate| edges_of(objects.clone(), candidate))
            .buffered(FOOTERS_AHEAD)
            .and_then(move |(partition, offsets)| futures::future::ready(rows_of(&schema, partition, offsets)));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), edges)))
    }
}

async fn edges_of(objects: Objects, candidate: Candidate) -> Result<(i32, Vec<i64>)> {
    let index = Box::pin(objects.index(&candidate.segment)).await?;
    let first = index.chunks.first().map(|chunk| chunk.first_offset);
    let last = index.chunks.last().map(|chunk| chunk.last_offset);
    Ok((candidate.partition, first.into_iter().chain(last).collect()))
}

fn rows_of(schema: &SchemaRef, partition: i32, offsets: Vec<i64>) -> Result<RecordBatch> {
    let partitions = Arc::new(Int32Array::from_value(partition, offsets.len())) as ArrayRef;
    let offsets = Arc::new(Int64Array::from(offsets)) as ArrayRef;
    let column = |name: &str| Arc::clone(if name == "partition" { &partitions } else { &offsets });
    let columns = schema.fields().iter().map(|field| column(field.name())).collect();
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// Lets aggregates that need no more read the edges of objects.
#[derive(Debug)]
pub(super) struct ReadEdges;

impl PhysicalOptimizerRule for ReadEdges {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let rewritten = plan.transform_up(|node| {
            let edges = node.downcast_ref::<AggregateExec>().filter(|aggregate| needs_edges_only(aggregate));
            let edges = edges.and_then(|aggregate| aggregate.input().downcast_ref::<TopicScanExec>()?.by_edges());
            match edges {
                Some(edges) => Ok(Transformed::yes(node.with_new_children(vec![edges])?)),
                None => Ok(Transformed::no(node)),
            }
        });
        Ok(rewritten?.data)
    }

    fn name(&self) -> &'static str {
        "ReadEdges"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn needs_edges_only(aggregate: &AggregateExec) -> bool {
    let is_column = |expr: &Arc<dyn PhysicalExpr>, names: &[&str]| {
        expr.downcast_ref::<Column>().is_some_and(|column| names.contains(&column.name()))
    };
    let is_extreme = |function: &str| matches!(function, "min" | "max");
    let extremes = aggregate.aggr_expr().iter().all(|call| {
        is_extreme(call.fun().name()) && call.expressions().iter().all(|expr| is_column(expr, &["partition", "offset"]))
    });
    let groups = aggregate.group_expr();
    let by_partition = groups.is_single() && groups.expr().iter().all(|(expr, _)| is_column(expr, &["partition"]));
    let unfiltered = aggregate.filter_expr().iter().all(Option::is_none);
    !aggregate.aggr_expr().is_empty() && extremes && by_partition && unfiltered
}
