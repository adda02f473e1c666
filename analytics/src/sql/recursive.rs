//! Recursive queries keep the columns that their own terms need.
//!
//! DataFusion 54 leaves out columns of a recursive query that the query around it does not want, also those that the recursive
//! term compares: rows are missing then, or a plan fails (apache/datafusion issue 22249). Here the rule sees a recursive query
//! as a leaf, and each of its terms as a plan of its own.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::common::DFSchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::logical_plan::RecursiveQuery;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::optimizer::{ApplyOrder, Optimizer, OptimizerConfig, OptimizerRule};

/// Name of the rule that leaves out columns.
const RULE: &str = "optimize_projections";

/// DataFusion's rules, with recursive queries kept from the one that leaves out columns.
pub(super) fn rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let keep = |rule: Arc<dyn OptimizerRule + Send + Sync>| match rule.name() {
        RULE => Arc::new(KeepRecursive { rule }) as Arc<dyn OptimizerRule + Send + Sync>,
        _ => rule,
    };
    Optimizer::new().rules.into_iter().map(keep).collect()
}

#[derive(Debug)]
struct KeepRecursive {
    rule: Arc<dyn OptimizerRule + Send + Sync>,
}

impl OptimizerRule for KeepRecursive {
    fn name(&self) -> &str {
        RULE
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.rule.apply_order()
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let hidden = plan.transform_down_with_subqueries(|plan| match plan {
            LogicalPlan::RecursiveQuery(query) => {
                let node = Arc::new(Leaf { query });
                let leaf = LogicalPlan::Extension(Extension { node });
                Ok(Transformed::new(leaf, true, TreeNodeRecursion::Jump))
            }
            plan => Ok(Transformed::no(plan)),
        })?;
        let rewritten = self.rule.rewrite(hidden.data, config)?;
        let is_changed = rewritten.transformed;
        let mut is_term_changed = false;
        let shown = rewritten.data.transform_down_with_subqueries(|plan| {
            let LogicalPlan::Extension(Extension { node }) = &plan else { return Ok(Transformed::no(plan)) };
            let Some(leaf) = node.as_any().downcast_ref::<Leaf>() else { return Ok(Transformed::no(plan)) };
            let (query, changed) = self.terms(leaf.query.clone(), config)?;
            is_term_changed |= changed;
            Ok(Transformed::new(LogicalPlan::RecursiveQuery(query), true, TreeNodeRecursion::Jump))
        })?;
        Ok(Transformed::new(shown.data, is_changed || is_term_changed, TreeNodeRecursion::Continue))
    }
}

impl KeepRecursive {
    /// The query with the rule applied to its terms, and whether that changed them.
    fn terms(&self, mut query: RecursiveQuery, config: &dyn OptimizerConfig) -> Result<(RecursiveQuery, bool)> {
        let fixed = self.rewrite(Arc::unwrap_or_clone(query.static_term), config)?;
        let repeated = self.rewrite(Arc::unwrap_or_clone(query.recursive_term), config)?;
        let is_changed = fixed.transformed || repeated.transformed;
        query.static_term = Arc::new(fixed.data);
        query.recursive_term = Arc::new(repeated.data);
        Ok((query, is_changed))
    }
}

/// A recursive query without inputs.
#[derive(Debug, Clone)]
struct Leaf {
    query: RecursiveQuery,
}

impl UserDefinedLogicalNodeCore for Leaf {
    fn name(&self) -> &str {
        "RecursiveQuery"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        Vec::new()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.query.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecursiveQuery: {}", self.query.name)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, _: Vec<LogicalPlan>) -> Result<Self> {
        Ok(self.clone())
    }
}

impl PartialEq for Leaf {
    fn eq(&self, other: &Self) -> bool {
        self.query == other.query
    }
}

impl Eq for Leaf {}

impl Hash for Leaf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.query.hash(state);
    }
}

impl PartialOrd for Leaf {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.query.partial_cmp(&other.query)
    }
}
