//! Why a query has no answer, in words for the person who asked.

use std::any::Any;
use std::fmt;
use std::time::Duration;

use datafusion::arrow::error::ArrowError;
use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;

use super::source::SourceError;
use super::wording::{memory, sentence};

/// A place in the text of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// From 1.
    pub line: u64,
    /// In characters, from 1.
    pub column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Why a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    /// The text is not SQL.
    #[error("syntax error{}: {message}", place(at))]
    Syntax {
        /// What is wrong.
        message: String,
        /// Where, when the parser says so.
        at: Option<Position>,
    },
    /// No topic has that name.
    #[error("there is no topic {name:?}{}{}", place(at), hint(nearest.as_ref()))]
    UnknownTable {
        /// The name as it was asked for.
        name: String,
        /// The name that is closest to it, as it must be written.
        nearest: Option<String>,
        /// The place of the name.
        at: Option<Position>,
    },
    /// No column in reach has that name.
    #[error("there is no column {name:?}{}{}", place(at), hint(nearest.as_ref()))]
    UnknownColumn {
        /// The name as it was asked for.
        name: String,
        /// The name that is closest to it, as it must be written.
        nearest: Option<String>,
        /// The place of the name.
        at: Option<Position>,
    },
    /// The statement would change something.
    #[error("{what} is refused: SQL here only reads. A topic is its log; a Kafka producer writes to it")]
    ReadOnly {
        /// The kind of statement.
        what: String,
    },
    /// The query is SQL, but has no meaning: types that do not fit, an unknown function.
    #[error("{message}{}", place(at))]
    Invalid {
        /// What is wrong.
        message: String,
        /// Where, when the planner says so.
        at: Option<Position>,
    },
    /// Too many queries run already.
    #[error("{running} queries are running, which is the limit, and none ended within {waited:?}: try again later")]
    Busy {
        /// How many run.
        running: usize,
        /// How long this one has waited.
        waited: Duration,
    },
    /// The deadline passed.
    #[error("the query did not end within its limit of {limit:?}")]
    TimedOut {
        /// The limit.
        limit: Duration,
    },
    /// The memory for queries is used up, and what the query does cannot spill to disk.
    #[error("the query needs more memory than there is for queries: {message}")]
    Memory {
        /// Who asked for how much.
        message: String,
    },
    /// Records could not be read.
    #[error("{message}")]
    Unreadable {
        /// What of where; the object's name where it is about one.
        message: String,
    },
    /// A value does not suit an operation: a division by zero, a text that is no number.
    #[error("{message}")]
    Failed {
        /// What did not work.
        message: String,
    },
    /// The engine has a fault. Other queries, and the next one, are not affected.
    #[error(
        "the SQL engine has a fault that this query meets, others are not affected; write it in another way. {message}"
    )]
    Fault {
        /// Where the fault is.
        message: String,
    },
    /// The query was given up without a reason that belongs to it: the engine is shutting down.
    #[error("the query ended early: {message}")]
    Ended {
        /// What is known.
        message: String,
    },
}

fn place(at: &Option<Position>) -> String {
    at.map_or_else(String::new, |at| format!(" at {at}"))
}

fn hint(nearest: Option<&String>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; did you mean {nearest}?"))
}

impl SqlError {
    /// The outcome as metrics name it.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            SqlError::Syntax { .. }
            | SqlError::UnknownTable { .. }
            | SqlError::UnknownColumn { .. }
            | SqlError::ReadOnly { .. }
            | SqlError::Invalid { .. } => "invalid",
            SqlError::Busy { .. } => "busy",
            SqlError::TimedOut { .. } => "timed_out",
            SqlError::Memory { .. } => "memory",
            SqlError::Unreadable { .. } => "unreadable",
            SqlError::Failed { .. } | SqlError::Ended { .. } => "failed",
            SqlError::Fault { .. } => "fault",
        }
    }

    /// What a thread of the query said when it panicked.
    pub(super) fn panicked(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words");
        SqlError::Fault { message: format!("The engine said: {text}") }
    }

    /// What was to be read, and why it could not be.
    pub(super) fn unreadable(cause: impl fmt::Display) -> Self {
        SqlError::Unreadable { message: cause.to_string() }
    }
}

impl From<SourceError> for SqlError {
    fn from(error: SourceError) -> Self {
        SqlError::Unreadable { message: error.0 }
    }
}

impl From<SqlError> for DataFusionError {
    fn from(error: SqlError) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> Self {
        translate(&error, None)
    }
}

/// Looks through what wraps an error, and remembers the place that a wrapper knows.
fn translate(error: &DataFusionError, at: Option<Position>) -> SqlError {
    match error {
        DataFusionError::Context(_, inner) => translate(inner, at),
        DataFusionError::Shared(inner) => translate(inner, at),
        DataFusionError::Diagnostic(diagnostic, inner) => {
            let start = diagnostic.span.map(|span| Position { line: span.start.line, column: span.start.column });
            translate(inner, at.or(start))
        }
        DataFusionError::Collection(errors) if !errors.is_empty() => translate(&errors[0], at),
        DataFusionError::External(inner) => from_any(inner.as_ref()).unwrap_or_else(|| failed(error)),
        DataFusionError::ArrowError(inner, _) => from_any(inner.as_ref()).unwrap_or_else(|| failed(error)),
        DataFusionError::ParquetError(inner) => from_any(inner.as_ref()).unwrap_or_else(|| damaged(inner)),
        DataFusionError::SQL(inner, _) => {
            let (message, at) = split_position(&inner.to_string());
            SqlError::Syntax { message, at }
        }
        DataFusionError::SchemaError(inner, _) => from_schema(inner, at),
        DataFusionError::Plan(message) | DataFusionError::NotImplemented(message) => {
            SqlError::Invalid { message: sentence(message), at }
        }
        DataFusionError::ResourcesExhausted(message) => SqlError::Memory { message: memory(message) },
        DataFusionError::ExecutionJoin(inner) if inner.is_panic() => SqlError::Fault { message: inner.to_string() },
        DataFusionError::ExecutionJoin(inner) => SqlError::Ended { message: inner.to_string() },
        DataFusionError::Internal(message) => SqlError::Fault { message: sentence(message) },
        _ => failed(error),
    }
}

fn failed(error: &DataFusionError) -> SqlError {
    SqlError::Failed { message: sentence(&error.strip_backtrace()) }
}

/// How errors of a decoder begin, which does not know whose bytes it is given.
pub(super) const UNDECODABLE: &str = "archived records cannot be decoded";

fn damaged(error: &dyn fmt::Display) -> SqlError {
    SqlError::unreadable(format!("{UNDECODABLE}: {error}"))
}

/// Errors of ours come back wrapped in those of the libraries they passed through.
fn from_any(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<SqlError> {
    if let Some(own) = error.downcast_ref::<SqlError>() {
        return Some(own.clone());
    }
    if let Some(source) = error.downcast_ref::<SourceError>() {
        return Some(source.clone().into());
    }
    if let Some(inner) = error.downcast_ref::<DataFusionError>() {
        return Some(translate(inner, None));
    }
    match error.downcast_ref::<ArrowError>() {
        Some(ArrowError::ExternalError(inner)) => return from_any(inner.as_ref()),
        Some(error @ ArrowError::ParquetError(_)) => return Some(damaged(error)),
        Some(_) => return None,
        None => {}
    }
    match error.downcast_ref::<ParquetError>() {
        Some(ParquetError::External(inner)) => from_any(inner.as_ref()),
        _ => None,
    }
}

fn from_schema(error: &SchemaError, at: Option<Position>) -> SqlError {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let own = field.spans().first().map(|span| Position { line: span.start.line, column: span.start.column });
            let names = valid_fields.iter().map(Column::name);
            let nearest = nearest(field.name(), names).map(|name| quoted(&name));
            SqlError::UnknownColumn { name: field.name().to_owned(), nearest, at: at.or(own) }
        }
        other => SqlError::Invalid { message: sentence(&other.to_string()), at },
    }
}

/// The name that is closest to `name`, if one is close.
pub(super) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let closeness = |other: &str| strsim::jaro_winkler(&name.to_lowercase(), &other.to_lowercase());
    let best = names.map(|other| (closeness(other), other)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= 0.75).then(|| best.1.to_owned())
}

/// A name as it must be written in SQL: in quotes where it is not all lower case letters, digits and underscores.
pub(super) fn quoted(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let starts_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    if starts_plain && name.chars().all(is_plain) { name.to_owned() } else { format!("\"{name}\"") }
}

/// Takes the parser's ` at Line: 1, Column: 8` from the end of its words.
fn split_position(text: &str) -> (String, Option<Position>) {
    let text = text.strip_prefix("sql parser error: ").unwrap_or(text);
    let found = text.rsplit_once(" at Line: ").and_then(|(message, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        let column: String = column.chars().take_while(char::is_ascii_digit).collect();
        Some((message, Position { line: line.parse().ok()?, column: column.parse().ok()? }))
    });
    match found {
        Some((message, at)) => (message.to_owned(), Some(at)),
        None => (text.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parsers_position_is_taken_out_of_its_words() {
        let (message, at) =
            split_position("sql parser error: Expected: an expression, found: FROM at Line: 1, Column: 8");
        assert_eq!(message, "Expected: an expression, found: FROM");
        assert_eq!(at, Some(Position { line: 1, column: 8 }));
        assert_eq!(split_position("no place"), ("no place".to_owned(), None));
    }

    #[test]
    fn a_near_name_is_offered_as_it_must_be_written() {
        let names = ["Orders.eu", "clicks"];
        assert_eq!(nearest("orders.ue", names.into_iter()).map(|name| quoted(&name)), Some("\"Orders.eu\"".to_owned()));
        assert_eq!(nearest("click", names.into_iter()), Some("clicks".to_owned()));
        assert_eq!(nearest("zzzz", names.into_iter()), None);
    }
}
