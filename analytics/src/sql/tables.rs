//! The names of tables: the topics of the moment, each pinned at most once in a query.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionState;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{ObjectName, Statement as Ast, visit_relations};
use model::TopicName;
use parking_lot::Mutex;

use super::error::{Position, SqlError, nearest, quoted};
use super::objects::Objects;
use super::scale::Scale;
use super::source::Source;
use super::statement::ast_of;
use super::table::TopicTable;

/// The catalog that names without one are looked up in.
pub(super) const CATALOG: &str = "firn";
/// The schema that topics are in.
pub(super) const SCHEMA: &str = "topics";
/// The schema that describes the others.
const INFORMATION_SCHEMA: &str = "information_schema";

/// The one catalog.
#[derive(Debug)]
pub(super) struct Catalog(pub(super) Arc<Topics>);

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        vec![SCHEMA.to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        (name == SCHEMA).then(|| Arc::clone(&self.0) as Arc<dyn SchemaProvider>)
    }
}

/// All topics as tables. A table is made when it is first named, and is one and the same afterwards.
#[derive(Debug)]
pub(super) struct Topics {
    source: Arc<dyn Source>,
    objects: Objects,
    names: Vec<TopicName>,
    scale: Arc<Scale>,
    tables: Mutex<HashMap<String, Arc<TopicTable>>>,
}

impl Topics {
    /// The topics of this moment.
    ///
    /// Batches of rows are meant to hold at most `batch_bytes` of records.
    pub(super) async fn load(
        source: &Arc<dyn Source>,
        objects: &Objects,
        batch_bytes: usize,
    ) -> Result<Topics, SqlError> {
        let names = source.topics().await?;
        let scale = Arc::new(Scale::new(batch_bytes));
        Ok(Topics { source: Arc::clone(source), objects: objects.clone(), names, scale, tables: Mutex::default() })
    }

    /// Rows that a batch may have, as far as the scans planned so far know.
    pub(super) fn batch_rows(&self) -> usize {
        self.scale.rows()
    }

    /// Prepares for another plan of the same query: topics stay pinned.
    pub(super) fn plan_again(&self) {
        self.scale.plan_again();
    }

    /// True when there is a topic of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.iter().any(|topic| topic.as_str() == name)
    }

    /// The first name of the statement that is no table, as an error with its place and the nearest name.
    pub(super) fn check_names(&self, statement: &Statement, state: &SessionState) -> Result<(), SqlError> {
        for reference in state.resolve_table_references(statement)? {
            let is_ours = reference.catalog().is_none_or(|catalog| catalog == CATALOG);
            let known = match reference.schema() {
                Some(INFORMATION_SCHEMA) => is_ours,
                schema => is_ours && schema.is_none_or(|schema| schema == SCHEMA) && self.has(reference.table()),
            };
            if !known {
                return Err(self.unknown(&reference, statement));
            }
        }
        Ok(())
    }

    fn unknown(&self, reference: &TableReference, statement: &Statement) -> SqlError {
        // A dot in a name without quotes is taken for the end of a schema.
        let name = match (reference.catalog(), reference.schema()) {
            (Some(catalog), Some(schema)) => format!("{catalog}.{schema}.{}", reference.table()),
            (None, Some(schema)) => format!("{schema}.{}", reference.table()),
            _ => reference.table().to_owned(),
        };
        let near = nearest(&name, self.names.iter().map(TopicName::as_str)).map(|name| quoted(&name));
        let at = ast_of(statement).and_then(|ast| position(ast, reference));
        SqlError::UnknownTable { name, nearest: near, at }
    }
}

#[async_trait]
impl SchemaProvider for Topics {
    fn table_names(&self) -> Vec<String> {
        self.names.iter().map(ToString::to_string).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if !self.has(name) {
            return Ok(None);
        }
        let mut tables = self.tables.lock();
        let make = || Arc::new(TopicTable::new(name, Arc::clone(&self.source), self.objects.clone(), &self.scale));
        let table = tables.entry(name.to_owned()).or_insert_with(make);
        Ok(Some(Arc::clone(table) as Arc<dyn TableProvider>))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.has(name)
    }
}

/// Where the statement names `reference`.
fn position(ast: &Ast, reference: &TableReference) -> Option<Position> {
    let matches = |name: &ObjectName| {
        let last = name.0.last().and_then(|part| part.as_ident());
        last.is_some_and(|ident| ident.value.eq_ignore_ascii_case(reference.table()))
    };
    let found = visit_relations(ast, |name| {
        let first = name.0.first().and_then(|part| part.as_ident());
        match first {
            Some(ident) if matches(name) => ControlFlow::Break(ident.span.start),
            _ => ControlFlow::Continue(()),
        }
    });
    let start = found.break_value()?;
    (start.line > 0).then_some(Position { line: start.line, column: start.column })
}
