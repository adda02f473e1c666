//! From the text of a query to one statement that reads, of a size that can be planned.
//!
//! Planning, running and dropping a statement recurse as deep as its operators nest. Nesting by parentheses is bounded by the
//! parser; a chain of operators (`1 + 1 + …`, `a OR b OR …`, `… UNION ALL …`) nests as deep as it is long, so that their
//! number is bounded before the parser runs, and the threads of a query have stacks to match ([`super::threads`]).

use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{Statement as Ast, visit_relations};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::error::SqlError;

/// How deep expressions may nest by parentheses, functions and subqueries.
const MAX_DEPTH: usize = 50;
/// Largest text of a query, in bytes.
const MAX_TEXT_BYTES: usize = 1 << 20;
/// Words, signs and values of a query.
const MAX_TOKENS: usize = 100_000;
/// Operators and keywords of a query.
const MAX_OPERATORS: usize = 4_000;
/// Tables that a query names: a list of them is joined one after another.
pub(super) const MAX_TABLES: usize = 500;

/// The one statement of `sql`.
///
/// # Errors
/// When it is not one statement, does not only read, or names too many tables. The caller has checked the size with [`operators`].
pub(super) fn parse(sql: &str) -> Result<Statement, SqlError> {
    let parser = DFParserBuilder::new(sql).with_dialect(&PostgreSqlDialect {}).with_recursion_limit(MAX_DEPTH).build();
    let mut statements = parser.and_then(|mut parser| parser.parse_statements())?;
    match (statements.pop_front(), statements.is_empty()) {
        (Some(statement), true) => {
            check_reads(&statement)?;
            check_tables(&statement)?;
            Ok(statement)
        }
        (None, _) => Err(SqlError::Syntax { message: "there is no statement".into(), at: None }),
        (Some(_), false) => {
            Err(SqlError::Syntax { message: "there are several statements; one is taken at a time".into(), at: None })
        }
    }
}

pub(super) fn too_large(what: &str, has: usize, limit: usize) -> SqlError {
    SqlError::Invalid { message: format!("the query has {has} {what}, more than the limit of {limit}"), at: None }
}

/// How many operators a text has.
///
/// # Errors
/// When it is larger than the bounds.
pub(super) fn operators(sql: &str) -> Result<usize, SqlError> {
    if sql.len() > MAX_TEXT_BYTES {
        return Err(too_large("bytes", sql.len(), MAX_TEXT_BYTES));
    }
    // The parser reports what is not a token, with its place.
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize() else { return Ok(0) };
    let (mut count, mut operators) = (0, 0);
    for token in &tokens {
        count += usize::from(!matches!(token, Token::Whitespace(_)));
        operators += usize::from(deepens(token));
    }
    if count > MAX_TOKENS {
        return Err(too_large("words and signs", count, MAX_TOKENS));
    }
    if operators > MAX_OPERATORS {
        return Err(too_large("operators and keywords", operators, MAX_OPERATORS));
    }
    Ok(operators)
}

/// True for tokens that may make a tree deeper by being repeated. Names, values and lists do not.
fn deepens(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.keyword != Keyword::NoKeyword,
        Token::Whitespace(_) | Token::Comma | Token::LParen | Token::RParen | Token::SemiColon | Token::EOF => false,
        Token::Number(..) => false,
        token => !is_text(token),
    }
}

fn is_text(token: &Token) -> bool {
    matches!(
        token,
        Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
    )
}

fn check_tables(statement: &Statement) -> Result<(), SqlError> {
    let Some(ast) = ast_of(statement) else { return Ok(()) };
    let mut tables = 0;
    let _ = visit_relations(ast, |_| {
        tables += 1;
        ControlFlow::<()>::Continue(())
    });
    if tables > MAX_TABLES { Err(too_large("tables", tables, MAX_TABLES)) } else { Ok(()) }
}

/// The syntax tree, where there is one.
pub(super) fn ast_of(statement: &Statement) -> Option<&Ast> {
    match statement {
        Statement::Statement(ast) => Some(ast),
        Statement::Explain(explain) => ast_of(&explain.statement),
        _ => None,
    }
}

/// Lets through what only reads.
fn check_reads(statement: &Statement) -> Result<(), SqlError> {
    let refuse = |what: String| Err(SqlError::ReadOnly { what });
    match statement {
        Statement::Explain(explain) => check_reads(&explain.statement),
        Statement::Statement(ast) => check_ast(ast),
        Statement::CreateExternalTable(_) => refuse("CREATE EXTERNAL TABLE".into()),
        Statement::CopyTo(_) => refuse("COPY".into()),
        Statement::Reset(_) => refuse("RESET".into()),
    }
}

fn check_ast(ast: &Ast) -> Result<(), SqlError> {
    match ast {
        Ast::Query(_)
        | Ast::ExplainTable { .. }
        | Ast::ShowTables { .. }
        | Ast::ShowColumns { .. }
        | Ast::ShowFunctions { .. }
        | Ast::ShowVariable { .. } => Ok(()),
        Ast::Explain { statement, .. } => check_ast(statement),
        other => {
            let text = other.to_string();
            let words = text.split_whitespace().take_while(|word| word.chars().all(|c| c.is_ascii_uppercase()));
            let what = words.take(2).collect::<Vec<_>>().join(" ");
            Err(SqlError::ReadOnly { what: if what.is_empty() { "the statement".into() } else { what } })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(sql: &str) -> String {
        operators(sql).map(|_| String::new()).unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn a_long_list_is_taken_and_a_long_chain_is_refused() {
        let values = vec!["1"; 30_000].join(", ");
        assert_eq!(refusal(&format!("SELECT 1 WHERE 2 IN ({values})")), "");
        assert_eq!(operators(&format!("VALUES ({})", vec!["1"; 3_000].join("), ("))).unwrap(), 1);
        assert_eq!(operators(&format!("SELECT {}", vec!["1"; 3_900].join("+"))).unwrap(), 3_900);
        for sign in ["+", "||", " OR ", " UNION ALL SELECT ", "::int::", " IS NULL ", "-", " = "] {
            let chain = vec!["1"; 4_100].join(sign);
            assert!(refusal(&format!("SELECT {chain}")).contains("more than the limit of 4000"), "{sign}");
        }
        assert!(refusal(&format!("SELECT {}", vec!["1"; 60_000].join(","))).contains("limit of 100000"));
        assert!(refusal(&format!("SELECT '{}'", "x".repeat(2 << 20))).contains("limit of 1048576"));
        let tables = parse(&format!("SELECT 1 FROM {}", vec!["t"; 600].join(",")));
        assert!(tables.unwrap_err().to_string().contains("600 tables"));
    }
}
