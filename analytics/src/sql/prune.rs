//! What manifests and footers know of a run of records, and which runs a filter rules out, or lets through whole.
//!
//! `partition` and `offset` are bounded by the manifest; `timestamp` only where every bound is within the column's range. A run can
//! count as let through whole only if the filter is a plain comparison of columns with values and no column can be null.

use std::sync::Arc;

use cold_tier::timestamp_micros;
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Int32Array, Int64Array, TimestampMicrosecondArray, UInt64Array,
};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, utils::split_conjunction};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::NotExpr;
use datafusion::physical_expr::simplifier::PhysicalExprSimplifier;
use datafusion::physical_optimizer::pruning::PruningPredicate;
use model::{NO_TIMESTAMP, Offset, PartitionIndex, TimestampMs};

/// The columns that a filter can be decided by without reading records.
pub(super) const BOUNDED: [&str; 3] = ["partition", "offset", "timestamp"];

/// What is known of a run of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) partition: PartitionIndex,
    /// First and last.
    pub(super) offsets: (Offset, Offset),
    /// Smallest and largest in microseconds, where known.
    pub(super) timestamps: Option<(i64, i64)>,
    /// Records whose timestamp is null, where known.
    pub(super) nulls: Option<u64>,
    pub(super) rows: u64,
}

impl Bounds {
    /// Bounds with the timestamps that a manifest or a chunk table gives: `nulls` is what is known beside them.
    pub(super) fn with_millis(self, (min, max): (TimestampMs, TimestampMs), nulls: Option<u64>) -> Self {
        if (min, max) == (NO_TIMESTAMP, NO_TIMESTAMP) {
            return Bounds { timestamps: None, nulls: Some(self.rows), ..self };
        }
        // What is outside of the column's range is null there; such bounds say nothing.
        let timestamps = timestamp_micros(min).zip(timestamp_micros(max));
        Bounds { timestamps, nulls: nulls.filter(|_| timestamps.is_some()), ..self }
    }
}

/// How much of the bounds is shown: one column after the other, to tell what ruled a run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Known {
    Partition,
    Offset,
    Timestamp,
}

/// A filter over all columns of a table, as far as bounds can decide it.
#[derive(Debug, Clone)]
pub(super) struct Pruner {
    predicate: Option<Arc<PruningPredicate>>,
    /// The filter's opposite, when what does not meet it meets the filter.
    opposite: Option<Arc<PruningPredicate>>,
    /// Whether the filter looks at timestamps, which may be null.
    by_time: bool,
}

impl Pruner {
    /// `physical` is the conjunction of `filters` over `schema`.
    pub(super) fn new(filters: &[Expr], physical: Option<&Arc<dyn PhysicalExpr>>, schema: &SchemaRef) -> Self {
        let prepare = |expr: Arc<dyn PhysicalExpr>| {
            let predicate = PruningPredicate::try_new(expr, Arc::clone(schema)).ok()?;
            (!predicate.always_true()).then(|| Arc::new(predicate))
        };
        let is_plain = filters.iter().all(is_plain);
        let opposite = physical.filter(|_| is_plain).and_then(|expr| {
            let not = Arc::new(NotExpr::new(Arc::clone(expr))) as Arc<dyn PhysicalExpr>;
            PhysicalExprSimplifier::new(schema).simplify(not).ok()
        });
        Pruner {
            predicate: physical.cloned().and_then(prepare),
            opposite: opposite.and_then(prepare),
            by_time: filters.iter().any(|filter| refers_to(filter, "timestamp")),
        }
    }

    /// For each run whether a record in it may meet the filter.
    pub(super) fn may_match(&self, runs: &[Bounds], known: Known) -> Result<Vec<bool>> {
        match &self.predicate {
            Some(predicate) if !runs.is_empty() => predicate.prune(&Shown { runs, known }),
            _ => Ok(vec![true; runs.len()]),
        }
    }

    /// For each run whether every record in it meets the filter. `unfiltered` says that there is no filter.
    pub(super) fn all_match(&self, runs: &[Bounds], unfiltered: bool) -> Result<Vec<bool>> {
        if unfiltered {
            return Ok(vec![true; runs.len()]);
        }
        let Some(opposite) = self.opposite.as_ref().filter(|_| !runs.is_empty()) else {
            return Ok(vec![false; runs.len()]);
        };
        let may_fail = opposite.prune(&Shown { runs, known: Known::Timestamp })?;
        let has_nulls = |run: &Bounds| self.by_time && run.nulls != Some(0);
        Ok(runs.iter().zip(may_fail).map(|(run, may_fail)| !may_fail && !has_nulls(run)).collect())
    }
}

/// True for a filter that the scan applies: it uses bounded columns only, and gives the same for the same row.
///
/// What is promised for a filter is kept whatever the optimizer makes of it meanwhile: it may lose columns, up to the last one
/// (`offset IN (NULL)` becomes `NULL`), and gains none.
pub(super) fn is_bounded(filter: &Expr) -> bool {
    let is_beyond = |part: &Expr| {
        matches!(
            part,
            Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::ScalarSubquery(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::Placeholder(_)
        )
    };
    let is_inside = filter.column_refs().iter().all(|column| BOUNDED.contains(&column.name()));
    is_inside && !filter.is_volatile() && !filter.exists(|part| Ok(is_beyond(part))).unwrap_or(true)
}

/// The offsets that the filters leave of `[from, to)`: only plain comparisons of `offset` count.
pub(super) fn narrow(filters: &[Expr], (mut from, mut to): (Offset, Offset)) -> (Offset, Offset) {
    for filter in filters.iter().flat_map(split_conjunction) {
        let Some((operator, value)) = offset_comparison(filter) else { continue };
        let next = value.saturating_add(1);
        match operator {
            Operator::Eq => (from, to) = (from.max(value), to.min(next)),
            Operator::Gt => from = from.max(next),
            Operator::GtEq => from = from.max(value),
            Operator::Lt => to = to.min(value),
            Operator::LtEq => to = to.min(next),
            _ => {}
        }
    }
    (from, to)
}

fn offset_comparison(filter: &Expr) -> Option<(Operator, i64)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return None };
    match (left.as_ref(), right.as_ref()) {
        (Expr::Column(column), Expr::Literal(ScalarValue::Int64(Some(value)), _)) if column.name() == "offset" => {
            Some((*op, *value))
        }
        (Expr::Literal(ScalarValue::Int64(Some(value)), _), Expr::Column(column)) if column.name() == "offset" => {
            Some((op.swap()?, *value))
        }
        _ => None,
    }
}

fn refers_to(filter: &Expr, column: &str) -> bool {
    filter.column_refs().iter().any(|found| found.name() == column)
}

/// True when the filter is true or false, and not null, for every row without nulls: comparisons of columns with values,
/// joined by AND and OR.
fn is_plain(filter: &Expr) -> bool {
    let mut plain = true;
    let visited = filter.apply(|part| {
        plain &= match part {
            Expr::BinaryExpr(BinaryExpr { op, .. }) => {
                use Operator::{And, Eq, Gt, GtEq, Lt, LtEq, NotEq, Or};
                matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | And | Or)
            }
            Expr::Literal(value, _) => !value.is_null(),
            Expr::Column(_) | Expr::Between(_) => true,
            _ => false,
        };
        Ok(if plain { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    plain && visited.is_ok()
}

/// Bounds as the pruning of DataFusion sees them.
struct Shown<'a> {
    runs: &'a [Bounds],
    known: Known,
}

impl Shown<'_> {
    fn values(&self, column: &Column, pick: fn((i64, i64)) -> i64) -> Option<ArrayRef> {
        let runs = self.runs.iter();
        match column.name() {
            "partition" => Some(Arc::new(Int32Array::from_iter_values(runs.map(|run| run.partition)))),
            "offset" if self.known >= Known::Offset => {
                Some(Arc::new(Int64Array::from_iter_values(runs.map(|run| pick(run.offsets)))))
            }
            "timestamp" if self.known >= Known::Timestamp => {
                let values: TimestampMicrosecondArray = runs.map(|run| run.timestamps.map(pick)).collect();
                Some(Arc::new(values.with_timezone("UTC")))
            }
            _ => None,
        }
    }
}

impl PruningStatistics for Shown<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |(min, _)| min)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.values(column, |(_, max)| max)
    }

    fn num_containers(&self) -> usize {
        self.runs.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let runs = self.runs.iter();
        match column.name() {
            "partition" | "offset" => Some(Arc::new(UInt64Array::from_iter_values(runs.map(|_| 0)))),
            "timestamp" if self.known >= Known::Timestamp => {
                Some(Arc::new(runs.map(|run| run.nulls).collect::<UInt64Array>()))
            }
            _ => None,
        }
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_iter_values(self.runs.iter().map(|run| run.rows))))
    }

    fn contained(&self, _column: &Column, _values: &std::collections::HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
