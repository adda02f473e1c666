//! What the shell offers when Tab is pressed, and when Enter ends a query.

use rustyline::completion::{Completer, Pair};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper, Highlighter, Hinter};

use super::statements;

/// What a query is mostly made of.
const KEYWORDS: &[&str] = &[
    "AND",
    "ANALYZE",
    "AS",
    "ASC",
    "AVG",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "CREATE",
    "COUNT",
    "CROSS",
    "DATE_TRUNC",
    "DESC",
    "DISTINCT",
    "ELSE",
    "END",
    "EXISTS",
    "EXPLAIN",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "ILIKE",
    "IN",
    "INNER",
    "INTERVAL",
    "IS",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "MAX",
    "MIN",
    "NOT",
    "NULL",
    "NULLS",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OVER",
    "PARTITION",
    "SELECT",
    "SHOW",
    "SUM",
    "TABLES",
    "THEN",
    "TIMESTAMP",
    "UNION",
    "USING",
    "VALUES",
    "VIEW",
    "WHEN",
    "WHERE",
    "WITH",
];
/// What the shell itself understands.
pub(super) const COMMANDS: &[&str] = &["\\?", "\\d", "\\q", "\\timing", "\\x"];

/// Completes topics, columns, keywords and commands, and holds a query back until its semicolon.
#[derive(Debug, Default, Helper, Highlighter, Hinter)]
pub(super) struct Words {
    /// Names of topics.
    pub(super) topics: Vec<String>,
    /// Names of columns.
    pub(super) columns: Vec<String>,
}

impl Words {
    /// Where the word before `position` begins, and what it may become.
    fn complete_word(&self, line: &str, position: usize) -> (usize, Vec<String>) {
        let before = &line[..position];
        let start = before.rfind(|c: char| !is_in_word(c)).map_or(0, |at| {
            let len = before[at..].chars().next().map_or(1, char::len_utf8);
            at + len
        });
        let word = &before[start..];
        if word.starts_with('\\') {
            return (start, COMMANDS.iter().filter(|c| c.starts_with(word)).map(|c| (*c).to_owned()).collect());
        }
        let bare = word.trim_start_matches('"');
        if bare.is_empty() && !word.starts_with('"') && !is_after_from(before) {
            return (start, Vec::new());
        }
        let topics = self.topics.iter().filter(|name| name.starts_with(bare)).map(|name| quoted(name));
        if word.starts_with('"') || bare.is_empty() {
            return (start, topics.collect());
        }
        let columns = self.columns.iter().filter(|name| name.starts_with(bare)).cloned();
        let is_lower = bare.chars().all(|c| !c.is_ascii_uppercase());
        let upper = bare.to_ascii_uppercase();
        let keywords = KEYWORDS
            .iter()
            .filter(|keyword| keyword.starts_with(&upper))
            .map(|keyword| if is_lower { keyword.to_ascii_lowercase() } else { (*keyword).to_owned() });
        let mut all: Vec<String> = topics.chain(columns).chain(keywords).collect();
        let mut seen = std::collections::HashSet::new();
        all.retain(|word| seen.insert(word.clone()));
        (start, all)
    }
}

fn is_in_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '"' | '\\' | '?')
}

fn is_after_from(before: &str) -> bool {
    let last = before.split_whitespace().last().unwrap_or_default();
    ["from", "join", "\\d"].iter().any(|word| last.eq_ignore_ascii_case(word))
}

/// The name as SQL must have it.
pub(super) fn quoted(name: &str) -> String {
    let starts_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let is_keyword = KEYWORDS.contains(&name.to_ascii_uppercase().as_str());
    if starts_plain && name.chars().all(is_plain) && !is_keyword { name.to_owned() } else { format!("\"{name}\"") }
}

impl Completer for Words {
    type Candidate = Pair;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, words) = self.complete_word(line, position);
        let pair = |word: String| Pair { display: word.clone(), replacement: word };
        Ok((start, words.into_iter().map(pair).collect()))
    }
}

impl Validator for Words {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input().trim();
        let is_done = text.is_empty() || text.starts_with('\\') || statements::is_complete(text);
        Ok(if is_done { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_columns_keywords_and_commands_are_offered() {
        let words = Words {
            topics: vec!["departures".into(), "Dead-letters".into()],
            columns: vec!["offset".into(), "partition".into()],
        };
        let complete = |line: &str| words.complete_word(line, line.len());
        assert_eq!(complete("select * from dep"), (14, vec!["departures".to_owned()]));
        assert_eq!(complete("select * from \"De"), (14, vec!["\"Dead-letters\"".to_owned()]));
        assert_eq!(complete("select * from ").1.len(), 2);
        assert_eq!(complete("select par"), (7, vec!["partition".to_owned()]));
        assert_eq!(complete("SEL"), (0, vec!["SELECT".to_owned()]));
        assert_eq!(complete("select off").1, ["offset"]);
        assert_eq!(complete("\\ti"), (0, vec!["\\timing".to_owned()]));
        assert_eq!(complete("select é, sel"), (11, vec!["select".to_owned()]));
        assert!(complete("").1.is_empty());
    }
}
