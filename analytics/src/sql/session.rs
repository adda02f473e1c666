//! From the text of a query to a plan: names are resolved against the topics of the moment, and only reading is allowed.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::catalog::{CatalogProviderList, MemoryCatalogProviderList};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::execution::context::{SQLOptions, SessionState};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionStateBuilder, TaskContext};
use datafusion::object_store::memory::InMemory;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::prelude::SessionConfig;

use super::edges::ReadEdges;
use super::error::SqlError;
use super::expand::expand;
use super::functions;
use super::query::Query;
use super::recursive;
use super::rewrite;
use super::sparing::{MergeSorted, Sparing, without_top_rows, would_change};
use super::statement::parse;
use super::tables::{CATALOG, Catalog, SCHEMA, Topics};
use super::text::Text;
use super::yielding::yielding;

/// Bytes of objects below which a scan is not spread over threads.
const MIN_SPREAD_BYTES: usize = 1 << 20;

/// Largest bytes of records that a batch is meant to hold.
const MAX_BATCH_BYTES: usize = 8 << 20;
/// Largest memory that a sort sets aside, in bytes.
const MAX_MERGE_BYTES: usize = 10 << 20;

/// A plan, and what it runs in.
pub(super) type Planned = (Arc<dyn ExecutionPlan>, Arc<TaskContext>);

/// What a query is planned with.
#[derive(Debug)]
pub(super) struct Session {
    state: SessionState,
    topics: Arc<Topics>,
    sparing: Sparing,
}

/// The URL under which plans name the archive. Its objects are read by [`super::objects::Objects`] alone.
pub(super) fn store_url() -> ObjectStoreUrl {
    ObjectStoreUrl::local_filesystem()
}

/// Scans ask the environment for a store before they ask who reads: this one is empty, and also keeps queries away from
/// local files.
pub(super) fn register_store(memory: &RuntimeEnv) {
    memory.register_object_store(store_url().as_ref(), Arc::new(InMemory::new()));
}

impl Session {
    /// A session for one query, with the topics of this moment.
    pub(super) async fn new(query: &Query) -> Result<Session, SqlError> {
        let budget = (query.memory_bytes / 64).min(MAX_BATCH_BYTES);
        let topics = Arc::new(Topics::load(&query.source, &query.objects, budget).await?);
        let sparing = Sparing::default();
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(Catalog(Arc::clone(&topics))));
        let state = SessionStateBuilder::new()
            .with_config(config(query.threads, query.memory_bytes))
            .with_runtime_env(Arc::clone(&query.memory))
            .with_default_features()
            .with_optimizer_rules(recursive::rules())
            .with_physical_optimizer_rules(optimizer_rules(&sparing))
            .with_catalog_list(Arc::new(catalogs));
        let mut state = state.build();
        // The moment that `now()` means in all of the query.
        state.mark_start_execution();
        functions::register(&mut state)?;
        Ok(Session { state, topics, sparing })
    }

    /// Makes the next plan a sparing one, after `plan` has run out of memory. False where it would be the same.
    pub(super) fn spare(&self, (plan, context): &Planned) -> bool {
        let is_other = would_change(plan) || self.topics.batch_rows() < context.session_config().batch_size();
        if self.sparing.is_on() || !is_other {
            return false;
        }
        self.sparing.begin();
        self.topics.plan_again();
        true
    }

    /// The plan of a query, and what it runs in.
    ///
    /// # Errors
    /// When it is not one statement that reads, or has no meaning here.
    pub(super) async fn plan(&self, text: &Text) -> Result<Planned, SqlError> {
        let state = self.state();
        let mut statement = parse(&text.sql)?;
        expand(&mut statement, &text.views, &|name| self.topics.has(name))?;
        self.topics.check_names(&statement, &state)?;
        let mut statement = rewrite::described(statement)?;
        rewrite::title(&mut statement);
        let logical = state.statement_to_plan(statement).await?;
        let logical = logical.with_param_values(text.parameters.values()?)?;
        // What the check of the statement may have missed inside it.
        let reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        reads.verify_plan(&logical).map_err(|_| SqlError::ReadOnly { what: "the statement".into() })?;
        let plan = state.create_physical_plan(&logical).await?;
        let plan = if self.sparing.is_on() { without_top_rows(plan)? } else { plan };
        let plan = yielding(plan, state.runtime_env())?;
        let rows = self.topics.batch_rows();
        if rows >= state.config().batch_size() {
            return Ok((plan, state.task_ctx()));
        }
        // How large the records are is known once the objects are.
        let smaller = state.config().clone().with_batch_size(rows);
        let context = TaskContext::from(state.as_ref()).with_session_config(smaller);
        Ok((with_filter_rows(plan, rows)?, Arc::new(context)))
    }

    /// The state that the next plan is made in. A sparing plan runs on one thread: what each of several sorts keeps adds up.
    fn state(&self) -> Cow<'_, SessionState> {
        if !self.sparing.is_on() {
            return Cow::Borrowed(&self.state);
        }
        let mut state = self.state.clone();
        state.config_mut().options_mut().execution.target_partitions = 1;
        Cow::Owned(state)
    }
}

fn optimizer_rules(sparing: &Sparing) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    rules.insert(0, Arc::new(ReadEdges));
    rules.insert(0, Arc::new(MergeSorted(sparing.clone())));
    rules
}

fn config(threads: usize, memory_bytes: usize) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_information_schema(true)
        .with_create_default_catalog_and_schema(false)
        .with_target_partitions(threads)
        .with_repartition_file_min_size(MIN_SPREAD_BYTES)
        // Each sort sets this much aside for the merge of what it has spilled.
        .with_sort_spill_reservation_bytes((memory_bytes / 4 / threads).min(MAX_MERGE_BYTES))
        // Batches sorted together would each be taken for as large as all of them: their values share buffers.
        .with_sort_in_place_threshold_bytes(0);
    let options = config.options_mut();
    options.sql_parser.collect_spans = true;
    // The archive has none; looking for them costs a pass over the row groups.
    options.execution.parquet.bloom_filter_on_read = false;
    // It would keep a queue of unpacked batches for each thread, in no budget; objects are read in parallel without it.
    options.optimizer.enable_round_robin_repartition = false;
    config
}

/// Filters gather rows, and have their own idea of how many.
fn with_filter_rows(plan: Arc<dyn ExecutionPlan>, rows: usize) -> Result<Arc<dyn ExecutionPlan>, SqlError> {
    let smaller = plan.transform_up(|node| match node.downcast_ref::<FilterExec>() {
        Some(filter) => Ok(Transformed::yes(Arc::new(filter.with_batch_size(rows)?) as Arc<dyn ExecutionPlan>)),
        None => Ok(Transformed::no(node)),
    });
    Ok(smaller?.data)
}
