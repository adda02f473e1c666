//! Puts views in the place of their names, and bounds what a statement becomes by that.
//!
//! A view means what it means by itself, whatever the query that names it calls its own parts: it sees topics and the views before
//! it, and none of the query's `WITH`. So the topics that it names are written with their schema, and the parts of its own
//! `WITH` get names that no other part has. A part of a `WITH` means the topic or view of its name until it is defined.
//!
//! The engine plans a part of a `WITH` again wherever it is named, as it does a view. Twenty parts that name each other twice
//! would be a million: the tables and expressions of a statement are counted as often as they are planned.

use std::collections::HashMap;
use std::ops::{AddAssign, ControlFlow};

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, Query, TableAlias, TableFactor, VisitMut, VisitorMut, With,
};

use super::error::SqlError;
use super::rewrite::{ast_of, query_of};
use super::statement::{MAX_TABLES, parse, too_large};
use super::tables::SCHEMA;
use super::view::{View, folded};

/// Expressions of a query.
const MAX_EXPRESSIONS: usize = 200_000;

/// Puts `views`, each after those that it names itself, in the place of their names. `is_topic` knows the topics.
///
/// # Errors
/// When the text of a view is no query, or the statement becomes too large.
pub(super) fn expand(
    statement: &mut Statement,
    views: &[View],
    is_topic: &dyn Fn(&str) -> bool,
) -> Result<(), SqlError> {
    let mut known = HashMap::new();
    for view in views {
        let mut query = query_of_view(view)?;
        let size = Expander::new(&known, Some(&view.name), is_topic).run(&mut query)?;
        known.insert(view.name.as_str(), Part { query, size });
    }
    match ast_of(statement) {
        Some(ast) => Expander::new(&known, None, is_topic).run(ast).map(drop),
        None => Ok(()),
    }
}

fn query_of_view(view: &View) -> Result<Query, SqlError> {
    let wrong = |what: String| SqlError::Invalid { message: format!("the view {:?}{what}", view.name), at: None };
    let mut statement = parse(&view.sql).map_err(|error| wrong(format!(": {error}")))?;
    let query = ast_of(&mut statement).and_then(query_of);
    query.cloned().ok_or_else(|| wrong(" is no query".to_owned()))
}

/// How much there is to plan.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    tables: usize,
    expressions: usize,
}

impl AddAssign for Size {
    fn add_assign(&mut self, other: Size) {
        self.tables = self.tables.saturating_add(other.tables);
        self.expressions = self.expressions.saturating_add(other.expressions);
    }
}

impl Size {
    fn check(self) -> Result<(), SqlError> {
        let counted = "in views and WITH counted as often as they are named";
        match self {
            Size { tables, .. } if tables > MAX_TABLES => {
                Err(too_large(&format!("tables, those {counted}"), tables, MAX_TABLES))
            }
            Size { expressions, .. } if expressions > MAX_EXPRESSIONS => {
                Err(too_large(&format!("expressions, those {counted}"), expressions, MAX_EXPRESSIONS))
            }
            _ => Ok(()),
        }
    }
}

/// A view that is expanded itself.
#[derive(Debug)]
struct Part {
    query: Query,
    size: Size,
}

/// A part of a `WITH`.
#[derive(Debug, Clone)]
struct Defined {
    /// The name that the engine knows it by.
    name: String,
    size: Size,
}

/// Walks through a query.
struct Expander<'a> {
    views: &'a HashMap<&'a str, Part>,
    /// The view whose text this is.
    view: Option<&'a str>,
    is_topic: &'a dyn Fn(&str) -> bool,
    /// The parts of each query around the present place, by name.
    scopes: Vec<HashMap<String, Defined>>,
    /// The `WITH` of each of these queries, once its own parts are done.
    withs: Vec<Option<With>>,
    size: Size,
}

impl<'a> Expander<'a> {
    fn new(views: &'a HashMap<&'a str, Part>, view: Option<&'a str>, is_topic: &'a dyn Fn(&str) -> bool) -> Self {
        Expander { views, view, is_topic, scopes: Vec::new(), withs: Vec::new(), size: Size::default() }
    }

    fn run(mut self, tree: &mut impl VisitMut) -> Result<Size, SqlError> {
        match tree.visit(&mut self) {
            ControlFlow::Break(error) => Err(error),
            ControlFlow::Continue(()) => self.size.check().map(|()| self.size),
        }
    }

    /// Defines the parts of a `WITH`, one after the other.
    fn define(&mut self, with: &mut With) -> ControlFlow<SqlError> {
        for cte in &mut with.cte_tables {
            let name = folded(cte.alias.name.value.clone(), cte.alias.name.quote_style);
            let own = self.own_name(&name);
            if own != name {
                cte.alias.name = Ident::with_quote('"', own.clone());
            }
            if with.recursive {
                self.know(name.clone(), Defined { name: own.clone(), size: Size::default() });
            }
            let outer = std::mem::take(&mut self.size);
            cte.query.visit(self)?;
            let mut size = std::mem::replace(&mut self.size, outer);
            size.tables = size.tables.max(1);
            if let Err(error) = size.check() {
                return ControlFlow::Break(error);
            }
            self.know(name, Defined { name: own, size });
        }
        ControlFlow::Continue(())
    }

    /// A name that no other part has which the engine sees at the same place. A part that is defined twice keeps its name, so that
    /// the engine says so.
    fn own_name(&self, name: &str) -> String {
        let outer = &self.scopes[..self.scopes.len().saturating_sub(1)];
        let hidden = outer.iter().filter(|scope| scope.contains_key(name)).count();
        match (self.view, hidden) {
            (None, 0) => name.to_owned(),
            (None, hidden) => format!("{name} ({})", hidden + 1),
            (Some(view), 0) => format!("{name} of {view}"),
            (Some(view), hidden) => format!("{name} ({}) of {view}", hidden + 1),
        }
    }

    fn know(&mut self, name: String, defined: Defined) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name, defined);
        }
    }

    /// What a table of one name without arguments becomes.
    fn resolve(&mut self, factor: &mut TableFactor) {
        self.size += Size { tables: 1, expressions: 0 };
        let TableFactor::Table { name, alias, args: None, sample: None, .. } = factor else { return };
        let [part] = name.0.as_slice() else { return };
        let Some(ident) = part.as_ident() else { return };
        let wanted = folded(ident.value.clone(), ident.quote_style);
        let as_wanted = |alias: &mut Option<TableAlias>| {
            alias.get_or_insert_with(|| TableAlias {
                explicit: true,
                name: Ident::with_quote('"', wanted.clone()),
                columns: Vec::new(),
                at: None,
            });
        };
        if let Some(defined) = self.scopes.iter().rev().find_map(|scope| scope.get(&wanted)) {
            self.size += defined.size;
            if defined.name != wanted {
                as_wanted(alias);
                *name = ObjectName::from(Ident::with_quote('"', defined.name.clone()));
            }
        } else if let Some(view) = self.views.get(wanted.as_str()) {
            self.size += view.size;
            as_wanted(alias);
            let alias = alias.take();
            let subquery = Box::new(view.query.clone());
            *factor = TableFactor::Derived { lateral: false, subquery, alias, sample: None };
        } else if self.view.is_some() && (self.is_topic)(&wanted) {
            let span = ident.span;
            let [mut schema, mut topic] = [SCHEMA, &wanted].map(|part| Ident::with_quote('"', part));
            (schema.span, topic.span) = (span, span);
            *name = ObjectName::from(vec![schema, topic]);
        }
    }
}

impl VisitorMut for Expander<'_> {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        self.scopes.push(HashMap::new());
        let mut with = query.with.take();
        if let Some(with) = &mut with {
            self.define(with)?;
        }
        self.withs.push(with);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        query.with = self.withs.pop().flatten();
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<SqlError> {
        self.resolve(factor);
        match self.size.check() {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn pre_visit_expr(&mut self, _: &mut Expr) -> ControlFlow<SqlError> {
        self.size += Size { tables: 0, expressions: 1 };
        ControlFlow::Continue(())
    }
}
