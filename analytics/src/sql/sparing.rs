//! Plans that need less memory, for a query that has run out of it before its first row.
//!
//! The usual plan is the faster one where its tables, and the rows that a `LIMIT` leaves, fit into memory; what they take is not
//! known before they are read. A sparing plan sorts instead, which spills: joins on equality merge sorted sides, and
//! `ORDER BY … LIMIT n` sorts all rows before it takes `n` of them. It runs on one thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::compute::SortOptions;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{HashJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::sorts::sort::SortExec;

/// Whether the plans of a session are sparing.
#[derive(Debug, Clone, Default)]
pub(super) struct Sparing(Arc<AtomicBool>);

impl Sparing {
    /// Makes the plans to come sparing.
    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// True when a sparing plan is another one.
pub(super) fn would_change(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let is_greedy = |node: &Arc<dyn ExecutionPlan>| {
        let top = node.downcast_ref::<SortExec>().is_some_and(|sort| sort.fetch().is_some());
        top || node.downcast_ref::<HashJoinExec>().is_some_and(|join| !join.null_aware)
    };
    plan.exists(|node| Ok(is_greedy(node))).unwrap_or(false)
}

/// Joins on equality as merges of sorted sides, in sparing plans. Comes before the rules that distribute and sort rows.
#[derive(Debug)]
pub(super) struct MergeSorted(pub(super) Sparing);

impl PhysicalOptimizerRule for MergeSorted {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if !self.0.is_on() {
            return Ok(plan);
        }
        let rewritten = plan.transform_up(|node| match node.downcast_ref::<HashJoinExec>() {
            // `NOT IN` compares with NULL in its own way.
            Some(join) if !join.null_aware && !join.contains_projection() => Ok(Transformed::yes(merge(join)?)),
            _ => Ok(Transformed::no(node)),
        });
        Ok(rewritten?.data)
    }

    fn name(&self) -> &'static str {
        "MergeSorted"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn merge(join: &HashJoinExec) -> Result<Arc<dyn ExecutionPlan>> {
    let on = join.on().to_vec();
    let order = vec![SortOptions::default(); on.len()];
    let (left, right) = (Arc::clone(join.left()), Arc::clone(join.right()));
    let filter = join.filter().cloned();
    let merge = SortMergeJoinExec::try_new(left, right, on, filter, *join.join_type(), order, join.null_equality())?;
    Ok(Arc::new(merge))
}

/// The plan with sorts that take all rows, and limits above them: a sort of the first rows alone keeps them in memory.
pub(super) fn without_top_rows(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let rewritten = plan.transform_up(|node| {
        let top = node.downcast_ref::<SortExec>().and_then(|sort| Some((sort, sort.fetch()?)));
        let Some((sort, rows)) = top else { return Ok(Transformed::no(node)) };
        let all = Arc::new(sort.with_fetch(None)) as Arc<dyn ExecutionPlan>;
        let limited: Arc<dyn ExecutionPlan> = match sort.preserve_partitioning() {
            true => Arc::new(LocalLimitExec::new(all, rows)),
            false => Arc::new(GlobalLimitExec::new(all, 0, Some(rows))),
        };
        Ok(Transformed::yes(limited))
    });
    Ok(rewritten?.data)
}
