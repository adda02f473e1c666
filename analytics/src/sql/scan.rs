//! The scan of one topic as `EXPLAIN` shows it: what was ruled out, and by what.

use std::fmt;
use std::sync::Arc;

use datafusion::common::Statistics;
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::filter_pushdown::{FilterDescription, FilterPushdownPhase};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, SendableRecordBatchStream,
};

/// What a scan leaves out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// The topic.
    pub(super) topic: String,
    /// Objects that the pinned manifests name.
    pub(super) objects: u64,
    /// Objects that no record of the answer is in, by the column that told so.
    pub(super) by_partition: u64,
    pub(super) by_offset: u64,
    pub(super) by_timestamp: u64,
    /// Objects whose records were counted without reading one.
    pub(super) counted: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { topic, objects, by_partition, by_offset, by_timestamp, counted } = self;
        let left = objects.saturating_sub(by_partition + by_offset + by_timestamp);
        write!(f, "topic={topic}, objects: {left} of {objects}")?;
        write!(f, " (partition {by_partition}, offset {by_offset}, timestamp {by_timestamp})")?;
        if *counted > 0 { write!(f, ", {counted} by their metadata alone") } else { Ok(()) }
    }
}

/// Hands on what its one input gives.
#[derive(Debug)]
pub(super) struct TopicScanExec {
    input: Arc<dyn ExecutionPlan>,
    /// An input of fewer rows with the same smallest and largest offsets in each partition.
    edges: Option<Arc<dyn ExecutionPlan>>,
    report: Arc<Report>,
}

impl TopicScanExec {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, edges: Option<Arc<dyn ExecutionPlan>>, report: Report) -> Self {
        TopicScanExec { input, edges, report: Arc::new(report) }
    }

    /// The scan for those who want the smallest and the largest offsets alone.
    pub(super) fn by_edges(&self) -> Option<Arc<dyn ExecutionPlan>> {
        let input = Arc::clone(self.edges.as_ref()?);
        Some(Arc::new(TopicScanExec { input, edges: None, report: Arc::clone(&self.report) }))
    }
}

impl DisplayAs for TopicScanExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicScanExec: {}", self.report)
    }
}

impl ExecutionPlan for TopicScanExec {
    fn name(&self) -> &'static str {
        "TopicScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Arc::new(TopicScanExec { input, edges: None, report: Arc::clone(&self.report) }))
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        self.input.partition_statistics(partition)
    }

    fn gather_filters_for_pushdown(
        &self,
        _phase: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _config: &ConfigOptions,
    ) -> Result<FilterDescription> {
        FilterDescription::from_children(parent_filters, &self.children())
    }
}
