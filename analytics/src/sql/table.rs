//! One topic as a table: pins it, and plans the scan of both halves.
//!
//! Filters that bounds can decide (on partition, offset and timestamp) are applied inside the scan, exactly, so that the
//! columns they name need not be read where they let through whole objects or chunks. All others are applied above it and
//! only help to leave out pages.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DFSchema;
use datafusion::common::config::TableParquetOptions;
use datafusion::error::Result;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::union::UnionExec;
use datafusion::prelude::{col, lit};
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use super::cold::{self, Candidate, Sorted};
use super::counted::CountedExec;
use super::edges::EdgesExec;
use super::error::SqlError;
use super::hot::{HotExec, HotRange};
use super::objects::Objects;
use super::plain::columns;
use super::prune::{Bounds, Known, Pruner, is_bounded, narrow};
use super::scale::Scale;
use super::scan::{Report, TopicScanExec};
use super::source::{PinnedPartition, PinnedTopic, Source};

/// Manifests that are loaded side by side.
const MANIFESTS_AHEAD: usize = 8;
/// Place of the column `partition`.
const PARTITION: usize = 0;
/// Place of the column `offset`.
const OFFSET: usize = 1;
/// Places of the columns `key`, `value` and `headers`, whose values have any size.
const SIZED: [usize; 3] = [3, 4, 5];

/// A topic, pinned when it is first scanned.
pub(super) struct TopicTable {
    name: String,
    source: Arc<dyn Source>,
    objects: Objects,
    scale: Arc<Scale>,
    pinned: OnceCell<Arc<PinnedTopic>>,
}

impl fmt::Debug for TopicTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicTable").field("name", &self.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for TopicTable {
    fn schema(&self) -> SchemaRef {
        columns()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match is_bounded(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let topic = self.pinned().await?;
        let all = || (0..columns().fields().len()).collect();
        let projection = projection.cloned().unwrap_or_else(all);
        let filters: Vec<_> = filters.iter().filter(|filter| is_bounded(filter)).cloned().collect();
        let scan = Scan::new(self, state, (projection, filters))?;
        let mut report = Report { topic: self.name.clone(), ..Report::default() };
        let partitions = scan.partitions(&topic, &mut report)?;
        let candidates = scan.candidates(&partitions, &mut report).await?;
        let hot = scan.hot(&topic, &partitions)?;
        let edges = scan.edges(&candidates, hot.clone())?;
        let mut inputs = scan.cold(candidates, &mut report).await?;
        inputs.extend(hot);
        Ok(Arc::new(TopicScanExec::new(scan.union(inputs)?, edges, report)))
    }
}

impl TopicTable {
    pub(super) fn new(name: &str, source: Arc<dyn Source>, objects: Objects, scale: &Arc<Scale>) -> Self {
        TopicTable { name: name.to_owned(), source, objects, scale: Arc::clone(scale), pinned: OnceCell::new() }
    }

    async fn pinned(&self) -> Result<Arc<PinnedTopic>, SqlError> {
        let pin = || async {
            let gone = || SqlError::unreadable(format!("topic {:?} was deleted while the query began", self.name));
            self.source.pin(&self.name).await?.map(Arc::new).ok_or_else(gone)
        };
        self.pinned.get_or_try_init(pin).await.cloned()
    }
}

/// One scan in the making.
struct Scan<'a> {
    table: &'a TopicTable,
    state: &'a dyn Session,
    /// The columns wanted.
    projection: Vec<usize>,
    /// The columns that are read: those wanted, then those that only the filters need.
    columns: Vec<usize>,
    /// The filters to apply.
    filters: Vec<Expr>,
    pruner: Pruner,
}

impl<'a> Scan<'a> {
    fn new(
        table: &'a TopicTable,
        state: &'a dyn Session,
        (projection, filters): (Vec<usize>, Vec<Expr>),
    ) -> Result<Self> {
        let schema = columns();
        let physical = physical(state, &filters, &schema)?;
        let pruner = Pruner::new(&filters, physical.as_ref(), &schema);
        let mut columns = projection.clone();
        for column in filters.iter().flat_map(Expr::column_refs) {
            let place = schema.index_of(column.name())?;
            if !columns.contains(&place) {
                columns.push(place);
            }
        }
        Ok(Scan { table, state, projection, columns, filters, pruner })
    }

    /// True when columns are read whose values have any size.
    fn reads_sized(&self) -> bool {
        self.columns.iter().any(|column| SIZED.contains(column))
    }

    fn schema(&self) -> Result<SchemaRef> {
        Ok(Arc::new(columns().project(&self.projection)?))
    }

    fn union(&self, mut inputs: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match inputs.len() {
            0 => Ok(Arc::new(EmptyExec::new(self.schema()?))),
            1 => Ok(inputs.remove(0)),
            _ => UnionExec::try_new(inputs),
        }
    }

    /// The scan for those who want the smallest and the largest offsets alone, where footers can tell them.
    fn edges(
        &self,
        candidates: &[Candidate],
        hot: Option<Arc<dyn ExecutionPlan>>,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let is_known = self.filters.is_empty() && self.projection.iter().all(|&column| column <= OFFSET);
        if !is_known || !self.projection.contains(&OFFSET) {
            return Ok(None);
        }
        let (cut, whole): (Vec<_>, Vec<_>) = candidates.iter().cloned().partition(Candidate::is_cut);
        let mut inputs: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        if !whole.is_empty() {
            inputs.push(Arc::new(EdgesExec::new(self.table.objects.clone(), whole, self.schema()?)));
        }
        if !cut.is_empty() {
            inputs.push(self.read_cut(cut)?);
        }
        inputs.extend(hot);
        self.union(inputs).map(Some)
    }

    /// The partitions that may hold records of the answer.
    fn partitions<'t>(&self, topic: &'t PinnedTopic, report: &mut Report) -> Result<Vec<&'t PinnedPartition>> {
        let filled: Vec<_> = topic.partitions.iter().filter(|partition| partition.log_start < partition.end).collect();
        let bounds: Vec<_> = filled.iter().map(|partition| partition_bounds(partition)).collect();
        let by_partition = self.pruner.may_match(&bounds, Known::Partition)?;
        let by_offset = self.pruner.may_match(&bounds, Known::Offset)?;
        let mut left = Vec::new();
        for (i, partition) in filled.into_iter().enumerate() {
            let objects = partition.pointer.as_ref().map_or(0, |pointer| pointer.objects);
            match (by_partition[i], by_offset[i]) {
                (false, _) => report.by_partition += objects,
                (true, false) => report.by_offset += objects,
                (true, true) => {
                    left.push(partition);
                    continue;
                }
            }
            report.objects += objects;
        }
        Ok(left)
    }

    /// The objects that may hold records of the answer.
    async fn candidates(&self, partitions: &[&PinnedPartition], report: &mut Report) -> Result<Vec<Candidate>> {
        let owned: Vec<_> = partitions.iter().map(|partition| (*partition).clone()).collect();
        let listing = |partition| list(self.table.objects.clone(), partition);
        let all = stream::iter(owned).map(listing).buffered(MANIFESTS_AHEAD).try_concat().await?;
        let bounds: Vec<_> = all.iter().map(Candidate::bounds).collect();
        let mut left = vec![true; all.len()];
        let steps = [
            (Known::Partition, &mut report.by_partition),
            (Known::Offset, &mut report.by_offset),
            (Known::Timestamp, &mut report.by_timestamp),
        ];
        for (known, count) in steps {
            for (left, may_match) in left.iter_mut().zip(self.pruner.may_match(&bounds, known)?) {
                *count += u64::from(*left && !may_match);
                *left &= may_match;
            }
        }
        report.objects += all.len() as u64;
        let kept = all.into_iter().zip(left).filter(|(candidate, left)| *left && candidate.segment.records > 0);
        Ok(kept.map(|(candidate, _)| candidate).collect())
    }

    async fn cold(&self, candidates: Vec<Candidate>, report: &mut Report) -> Result<Vec<Arc<dyn ExecutionPlan>>> {
        let is_countable = self.projection.iter().all(|&column| column == PARTITION);
        let sorted = if is_countable {
            cold::count(&self.table.objects, candidates, &self.pruner, self.filters.is_empty()).await?
        } else {
            Sorted { read: candidates, ..Sorted::default() }
        };
        report.counted = sorted.counted;
        let mut inputs: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        if sorted.counts.iter().any(|(_, rows)| *rows > 0) {
            inputs.push(Arc::new(CountedExec::new(sorted.counts, self.schema()?)));
        }
        if self.reads_sized() {
            sorted.read.iter().for_each(|candidate| self.table.scale.note(&candidate.segment));
        }
        let (cut, whole): (Vec<_>, Vec<_>) = sorted.read.into_iter().partition(Candidate::is_cut);
        if !whole.is_empty() {
            inputs.push(self.read(whole, &self.filters, self.columns.clone())?);
        }
        if !cut.is_empty() {
            inputs.push(self.read_cut(cut)?);
        }
        Ok(inputs)
    }

    /// Reads objects that hold records below the log start, and leaves those out.
    fn read_cut(&self, cut: Vec<Candidate>) -> Result<Arc<dyn ExecutionPlan>> {
        // Not more than one of a partition.
        let above = |candidate: &Candidate| {
            let is_above = col("offset").gt_eq(lit(candidate.from));
            if cut.len() == 1 { is_above } else { col("partition").eq(lit(candidate.partition)).and(is_above) }
        };
        let any = cut.iter().map(above).reduce(Expr::or);
        let filters: Vec<_> = self.filters.iter().cloned().chain(any).collect();
        let mut columns = self.columns.clone();
        let needed = if cut.len() == 1 { vec![OFFSET] } else { vec![PARTITION, OFFSET] };
        columns.extend(needed.into_iter().filter(|column| !self.columns.contains(column)));
        self.read(cut, &filters, columns)
    }

    fn read(
        &self,
        candidates: Vec<Candidate>,
        filters: &[Expr],
        columns: Vec<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let global = self.state.config_options().execution.parquet.clone();
        let options = TableParquetOptions { global, ..TableParquetOptions::default() };
        let input = cold::read(&self.table.objects, candidates, columns, options)?;
        self.filtered(input, filters)
    }

    /// Applies `filters`, and leaves the columns wanted.
    fn filtered(&self, input: Arc<dyn ExecutionPlan>, filters: &[Expr]) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(predicate) = physical(self.state, filters, &input.schema())? else { return Ok(input) };
        let wanted = (0..self.projection.len()).collect();
        let filter = FilterExecBuilder::new(predicate, input)
            .apply_projection(Some(wanted))?
            .with_batch_size(self.state.config().batch_size());
        Ok(Arc::new(filter.build()?))
    }

    fn hot(&self, topic: &Arc<PinnedTopic>, partitions: &[&PinnedPartition]) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let range = |partition: &&PinnedPartition| {
            let (from, to) = narrow(&self.filters, (partition.seam(), partition.end));
            (from < to).then_some(HotRange { partition: partition.partition, offsets: from..to })
        };
        let ranges: Vec<_> = partitions.iter().filter_map(range).collect();
        if ranges.is_empty() {
            return Ok(None);
        }
        let threads = self.state.config().target_partitions();
        let source = (Arc::clone(&self.table.source), Arc::clone(topic));
        let exec = HotExec::new(source, ranges, &self.columns, threads)?;
        let exec = if self.reads_sized() { exec.noting(&self.table.scale) } else { exec };
        self.filtered(Arc::new(exec), &self.filters).map(Some)
    }
}

/// A partition's objects at and above its log start.
async fn list(objects: Objects, partition: PinnedPartition) -> Result<Vec<Candidate>> {
    let from = partition.log_start;
    let Some(pointer) = partition.pointer.filter(|pointer| pointer.archived_end > from) else {
        return Ok(Vec::new());
    };
    let entries = objects.entries_from(pointer, from).await?;
    let partition = partition.partition;
    let candidate = |segment| Candidate { partition, from, segment: Arc::new(segment), access: None };
    Ok(entries.into_iter().map(candidate).collect())
}

fn partition_bounds(partition: &PinnedPartition) -> Bounds {
    Bounds {
        partition: partition.partition,
        offsets: (partition.log_start, partition.end - 1),
        timestamps: None,
        nulls: None,
        rows: u64::try_from(partition.end - partition.log_start).unwrap_or(0),
    }
}

/// The conjunction of `filters` over `schema`.
fn physical(state: &dyn Session, filters: &[Expr], schema: &Schema) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(None) };
    let columns = DFSchema::try_from(schema.clone())?;
    state.create_physical_expr(filter, &columns).map(Some)
}
