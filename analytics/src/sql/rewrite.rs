//! Changes of a statement before it is planned: titles of columns, and `DESCRIBE` in the words of this engine.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    Cte, Expr, Ident, Query, Select, SelectItem, SetExpr, Statement as Ast, VisitMut, VisitorMut,
};

use super::error::SqlError;
use super::statement::parse;
use super::titles::Titles;
use super::view::folded;

/// Longest title that is made of an expression, in characters.
const MAX_TITLE: usize = 60;
/// The query for a topic's columns; its name comes behind it.
const COLUMNS_OF: &str = "\
    SELECT column_name AS \"column\", \
      CASE WHEN data_type LIKE 'Binary%' THEN 'bytes' \
           WHEN data_type LIKE 'List%' THEN 'list of (key, value)' \
           WHEN data_type LIKE 'Timestamp%' THEN 'timestamp' \
           WHEN data_type = 'Int32' THEN 'int' \
           WHEN data_type = 'Int64' THEN 'bigint' \
           ELSE lower(data_type) END AS type, \
      CASE is_nullable WHEN 'YES' THEN 'may be null' ELSE '' END AS \"null\" \
    FROM information_schema.columns WHERE table_schema = 'topics' AND table_name = ";

/// Gives columns without a name the text of their expression as title, where DataFusion would name its plan.
pub(super) fn title(statement: &mut Statement) {
    if let Some(ast) = ast_of(statement) {
        let ControlFlow::Continue(()) = ast.visit(&mut Titled);
    }
}

/// The statement, or for `DESCRIBE` the query for a topic's columns.
pub(super) fn described(statement: Statement) -> Result<Statement, SqlError> {
    let Statement::Statement(ast) = &statement else { return Ok(statement) };
    let Ast::ExplainTable { table_name, .. } = ast.as_ref() else { return Ok(statement) };
    let name = table_name.0.last().and_then(|part| part.as_ident());
    let name = name.map_or_else(String::new, |ident| folded(ident.value.clone(), ident.quote_style));
    parse(&format!("{COLUMNS_OF}'{}'", name.replace('\'', "''")))
}

/// The syntax tree, where there is one.
pub(super) fn ast_of(statement: &mut Statement) -> Option<&mut Ast> {
    match statement {
        Statement::Statement(ast) => Some(ast),
        Statement::Explain(explain) => ast_of(&mut explain.statement),
        _ => None,
    }
}

/// The query of a statement that is or explains one.
pub(super) fn query_of(ast: &mut Ast) -> Option<&mut Query> {
    match ast {
        Ast::Query(query) => Some(query),
        Ast::Explain { statement, .. } => query_of(statement),
        _ => None,
    }
}

struct Titled;

impl VisitorMut for Titled {
    type Break = std::convert::Infallible;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        let recursive = query.with.iter_mut().filter(|with| with.recursive).flat_map(|with| &mut with.cte_tables);
        recursive.for_each(name_first_term);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        title_body(&mut query.body);
        ControlFlow::Continue(())
    }
}

/// Gives the first term of a recursive query the names of its list of columns, by which the other term knows it: DataFusion 54
/// applies the list to the result alone.
fn name_first_term(cte: &mut Cte) {
    let mut body = cte.query.body.as_mut();
    while let SetExpr::SetOperation { left, .. } = body {
        body = left.as_mut();
    }
    let SetExpr::Select(select) = body else { return };
    let is_plain = |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
    if select.projection.len() != cte.alias.columns.len() || !select.projection.iter().all(is_plain) {
        return;
    }
    for (item, column) in select.projection.iter_mut().zip(&cte.alias.columns) {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            let expr = std::mem::replace(expr, Expr::Wildcard(AttachedToken::empty()));
            *item = SelectItem::ExprWithAlias { expr, alias: column.name.clone() };
        }
    }
}

/// The first of several selects names their columns.
fn title_body(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => title_select(select),
        SetExpr::SetOperation { left, .. } => title_body(left),
        _ => {}
    }
}

fn title_select(select: &mut Select) {
    let mut titles = Titles::new(select.projection.iter().filter_map(name_of));
    for item in &mut select.projection {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        if matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
            continue;
        }
        let title = titles.next(&short(&expr.to_string().replace('"', "")));
        let expr = std::mem::replace(expr, Expr::Wildcard(AttachedToken::empty()));
        *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', title) };
    }
}

/// The name that a column has by itself.
fn name_of(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(name.value.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last().map(|name| name.value.clone()),
        _ => None,
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_TITLE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
