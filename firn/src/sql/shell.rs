//! The shell: queries end with a semicolon and may have many lines; Ctrl-C ends a query that runs.

use std::path::PathBuf;
use std::time::Instant;

use analytics::sql::output::Format;
use anyhow::Context;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Config, Editor};
use serde_json::Value;

use super::asking::Asked;
use super::completion::{Words, quoted};
use super::session::Session;
use super::{print, statements};
use crate::output::{print_line, tell};

const PROMPT: &str = "firn> ";
/// Queries that are remembered.
const HISTORY: usize = 1000;
const HISTORY_VARIABLE: &str = "FIRN_SQL_HISTORY";
const HISTORY_FILE: &str = ".firn_sql_history";
const HELP: &str = "\
\\d          list topics
\\d TOPIC    list the columns of a topic
\\x          show each column on a line of its own, or rows in a table again
\\timing     say after each query how long it took, or stop saying so
\\q          leave, as Ctrl-D does
\\?          this help
Queries end with a semicolon. Tab completes. Ctrl-C ends the query that runs, or drops what is typed.";
const TOPICS: &str =
    "SELECT table_name AS topic FROM information_schema.tables WHERE table_schema = 'topics' ORDER BY 1";
const COLUMNS: &str = "SELECT DISTINCT column_name FROM information_schema.columns WHERE table_schema = 'topics'";

/// What a typed line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Topics,
    Columns(&'a str),
    Lines,
    Timing,
    Quit,
    Help,
    Unknown(&'a str),
    Queries(Vec<&'a str>),
}

fn understand(line: &str) -> Line<'_> {
    let line = line.trim();
    if !line.starts_with('\\') {
        return Line::Queries(statements::split(line));
    }
    let line = line.trim_end_matches(';').trim_end();
    let (command, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match (command, argument.trim()) {
        ("\\d", "") => Line::Topics,
        ("\\d", topic) => Line::Columns(topic.trim_matches('"')),
        ("\\x", "") => Line::Lines,
        ("\\timing", "") => Line::Timing,
        ("\\q", "") => Line::Quit,
        ("\\?", "") => Line::Help,
        _ => Line::Unknown(line),
    }
}

/// Reads and answers until the end of the input.
pub(super) async fn run(asked: &Asked, session: Session, format: Format) -> anyhow::Result<()> {
    let config = Config::builder().completion_type(CompletionType::List).auto_add_history(true);
    let config = config.max_history_size(HISTORY).context("cannot set up the history")?.build();
    let mut editor: Editor<Words, DefaultHistory> = Editor::with_config(config).context("cannot use the terminal")?;
    let mut words = Words::default();
    // It must be there before anything is typed, and shows whether there is an answer at all.
    learn(asked, &mut words).await?;
    editor.set_helper(Some(words));
    let history = history();
    // There is none at the first start.
    let _ = history.as_ref().map(|path| editor.load_history(path));
    let format = if format.is_text() { format } else { Format::Table };
    let mut shell = Shell { asked, session, format, timing: false };
    print_line("Queries end with a semicolon; \\? helps, \\q leaves.")?;
    loop {
        let line = match tokio::task::block_in_place(|| editor.readline(PROMPT)) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(error).context("cannot read from the terminal"),
        };
        if let Some(error) = history.as_ref().and_then(|path| editor.append_history(path).err()) {
            tracing::debug!(%error, "the history is not kept");
        }
        if !shell.answer(&line).await? {
            return Ok(());
        }
        if let Some(words) = editor.helper_mut().filter(|_| matches!(understand(&line), Line::Topics)) {
            learn(asked, words).await?;
        }
    }
}

struct Shell<'a> {
    asked: &'a Asked,
    session: Session,
    format: Format,
    timing: bool,
}

impl Shell<'_> {
    /// Does what the line says; false when that is to leave.
    async fn answer(&mut self, line: &str) -> anyhow::Result<bool> {
        match understand(line) {
            Line::Topics => self.show(TOPICS).await,
            Line::Columns(topic) => self.show(&format!("DESCRIBE {}", quoted(topic))).await,
            Line::Lines => {
                self.format = if self.format == Format::Lines { Format::Table } else { Format::Lines };
                print_line(format_args!("rows are shown as {}", self.format))?;
            }
            Line::Timing => {
                self.timing = !self.timing;
                print_line(if self.timing { "timing is on" } else { "timing is off" })?;
            }
            Line::Quit => return Ok(false),
            Line::Help => print_line(HELP)?,
            Line::Unknown(line) => tell(format_args!("there is no {line}; \\? helps")),
            Line::Queries(queries) => {
                for query in queries {
                    match self.session.remember(query) {
                        Ok(true) => {}
                        Ok(false) => self.show(query).await,
                        Err(error) => tell(error),
                    }
                }
            }
        }
        Ok(true)
    }

    /// Prints the answer, or why there is none.
    async fn show(&self, query: &str) {
        let started = Instant::now();
        let result = tokio::select! {
            result = print(self.asked, self.session.text(query), self.format) => result,
            _ = tokio::signal::ctrl_c() => {
                tell("cancelled");
                return;
            }
        };
        match result {
            Err(error) => tell(crate::reason(&error)),
            Ok(()) if self.timing => tell(format_args!("{:.3} s", started.elapsed().as_secs_f64())),
            Ok(()) => {}
        }
    }
}

/// Asks for the names that can be completed.
async fn learn(asked: &Asked, words: &mut Words) -> anyhow::Result<()> {
    words.topics = names(asked.objects(TOPICS).await?, "topic");
    words.columns = names(asked.objects(COLUMNS).await?, "column_name");
    Ok(())
}

fn names(rows: Vec<Value>, column: &str) -> Vec<String> {
    rows.iter().filter_map(|row| row.get(column)?.as_str()).map(str::to_owned).collect()
}

fn history() -> Option<PathBuf> {
    let named = std::env::var_os(HISTORY_VARIABLE).filter(|path| !path.is_empty());
    named.map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(HISTORY_FILE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_command_or_queries() {
        assert_eq!(understand("\\d"), Line::Topics);
        assert_eq!(understand(" \\d \"a-b\";"), Line::Columns("a-b"));
        assert_eq!(understand("\\q "), Line::Quit);
        assert_eq!(understand("\\x y"), Line::Unknown("\\x y"));
        assert_eq!(understand("select 1; select 2;"), Line::Queries(vec!["select 1", "select 2"]));
        assert_eq!(understand(""), Line::Queries(vec![]));
    }
}
