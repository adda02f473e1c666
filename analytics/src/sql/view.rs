//! Views: queries that others name in `FROM`. A client keeps them, and sends them with what it asks.

use std::collections::HashSet;

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer};

use super::error::SqlError;

/// Views that are taken with a query.
const MAX_VIEWS: usize = 500;

/// A query that others may name in `FROM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Its name.
    pub name: String,
    /// The query.
    pub sql: String,
}

impl View {
    /// The view that a `CREATE VIEW` makes; nothing where the statement is another one.
    ///
    /// # Errors
    /// When it has no name, no query, or a clause that views do not have here.
    pub fn created_by(statement: &str) -> Result<Option<View>, SqlError> {
        let dialect = PostgreSqlDialect {};
        // The parser of queries reports what is not a token, with its place.
        let Ok(tokens) = Tokenizer::new(&dialect, statement).tokenize_with_location() else { return Ok(None) };
        let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
        if !parser.parse_keyword(Keyword::CREATE) {
            return Ok(None);
        }
        // Every view lasts for a session, and replaces the one of its name.
        let _ = parser.parse_keywords(&[Keyword::OR, Keyword::REPLACE]);
        let _ = parser.parse_one_of_keywords(&[Keyword::TEMPORARY, Keyword::TEMP]);
        if !parser.parse_keyword(Keyword::VIEW) {
            return Ok(None);
        }
        let wrong = || SqlError::Syntax { message: "a view is CREATE VIEW name AS SELECT …".into(), at: None };
        let name = parser.parse_identifier().map_err(|_| wrong())?;
        let is_query = parser.parse_keyword(Keyword::AS) && parser.peek_token_ref().token != Token::EOF;
        let begin = parser.peek_token_ref().span.start;
        let sql = from(statement, begin).filter(|_| is_query).ok_or_else(wrong)?;
        Ok(Some(View { name: folded(name.value, name.quote_style), sql: sql.trim_end().to_owned() }))
    }
}

/// Those of `views` that a query names, each after those that it names itself.
///
/// # Errors
/// When there are too many.
pub(super) fn named_in(sql: &str, views: Vec<View>) -> Result<Vec<View>, SqlError> {
    if views.len() > MAX_VIEWS {
        let message = format!("there are {} views, more than the limit of {MAX_VIEWS}", views.len());
        return Err(SqlError::Invalid { message, at: None });
    }
    let mut order = Vec::new();
    collect(sql, &views, &mut HashSet::new(), &mut order);
    Ok(order.into_iter().cloned().collect())
}

/// Recurses at most as deep as there are views.
fn collect<'a>(sql: &str, views: &'a [View], seen: &mut HashSet<&'a str>, order: &mut Vec<&'a View>) {
    let words = words(sql);
    for view in views.iter().filter(|view| words.contains(&view.name)) {
        if seen.insert(&view.name) {
            collect(&view.sql, views, seen, order);
            order.push(view);
        }
    }
}

/// The words that may be names, as the engine understands them.
fn words(sql: &str) -> HashSet<String> {
    // An error of the tokenizer is reported when the query is parsed.
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize().unwrap_or_default();
    let name = |token| match token {
        Token::Word(word) => Some(folded(word.value, word.quote_style)),
        _ => None,
    };
    tokens.into_iter().filter_map(name).collect()
}

/// A name without quotes is lower case.
pub(super) fn folded(name: String, quote: Option<char>) -> String {
    if quote.is_some() { name } else { name.to_ascii_lowercase() }
}

/// The text from a place on, which counts lines and characters from 1.
fn from(text: &str, place: Location) -> Option<&str> {
    let (line, column) = (usize::try_from(place.line).ok()?, usize::try_from(place.column).ok()?);
    let begin: usize = text.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
    let rest = &text[begin..];
    rest.char_indices().nth(column.checked_sub(1)?).map(|(at, _)| &rest[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(name: &str, sql: &str) -> View {
        View { name: name.to_owned(), sql: sql.to_owned() }
    }

    #[test]
    fn a_view_is_created_by_its_statement_however_that_is_written() {
        for (statement, created) in [
            ("CREATE VIEW late AS SELECT 1", view("late", "SELECT 1")),
            ("-- of June\n/* é */ create or replace temp view Late\nas\n  SELECT 'é'\n", view("late", "SELECT 'é'")),
            ("CREATE TEMPORARY VIEW \"Very \"\"late\"\"\"AS(SELECT 1)", view("Very \"late\"", "(SELECT 1)")),
        ] {
            assert_eq!(View::created_by(statement), Ok(Some(created)), "{statement}");
        }
        for other in ["SELECT 1", "CREATE TABLE t (a int)", "", "create", "SELECT 'open"] {
            assert_eq!(View::created_by(other), Ok(None), "{other}");
        }
        for wrong in ["CREATE VIEW", "CREATE VIEW v", "CREATE VIEW v AS", "CREATE VIEW v(a) AS SELECT 1"] {
            assert!(View::created_by(wrong).unwrap_err().to_string().contains("CREATE VIEW name AS"), "{wrong}");
        }
    }

    #[test]
    fn the_views_that_a_query_names_come_after_those_that_they_name() {
        let views = || vec![view("worst", "SELECT * FROM LATE"), view("late", "SELECT * FROM t"), view("Other", "x")];
        let named = |sql: &str| named_in(sql, views()).unwrap().into_iter().map(|view| view.name).collect::<Vec<_>>();
        assert_eq!(named("SELECT * FROM Worst"), ["late", "worst"]);
        assert_eq!(named("SELECT * FROM \"Other\""), ["Other"]);
        assert_eq!(named("SELECT 'worst', other, later, \"LATE\""), Vec::<String>::new());
        assert!(named_in("SELECT 1", vec![view("v", "SELECT 1"); 501]).is_err());
    }

    #[test]
    fn views_that_name_each_other_come_once() {
        let circle = vec![view("a", "SELECT * FROM b"), view("b", "SELECT * FROM a, b")];
        let named: Vec<_> = named_in("SELECT * FROM a", circle).unwrap().into_iter().map(|view| view.name).collect();
        assert_eq!(named, ["b", "a"]);
    }
}
