//! Where rows go: to standard output, or on a terminal through the program that `FIRN_PAGER` names.

use std::io::{IsTerminal, Write};
use std::process::{Child, Command, Stdio};

use analytics::sql::output::Format;

const VARIABLE: &str = "FIRN_PAGER";

/// Takes the bytes of one answer.
pub(super) enum Output {
    /// Standard output.
    Plain,
    /// A pager, which shows them.
    Pager(Child),
}

/// The output for an answer in this format.
pub(super) fn output(format: Format) -> Output {
    let named = std::env::var(VARIABLE).ok().filter(|command| !command.trim().is_empty());
    let wanted = named.filter(|_| format.is_text() && std::io::stdout().is_terminal());
    let pager = wanted.map(|command| Command::new("sh").args(["-c", &command]).stdin(Stdio::piped()).spawn());
    match pager {
        Some(Ok(child)) => Output::Pager(child),
        Some(Err(error)) => {
            crate::output::tell(format_args!("{VARIABLE} cannot be started: {error}"));
            Output::Plain
        }
        None => Output::Plain,
    }
}

impl Output {
    /// Writes some bytes.
    pub(super) fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Output::Plain => std::io::stdout().lock().write_all(bytes),
            Output::Pager(child) => match child.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(bytes)) {
                // The reader has seen enough.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
                done => done,
            },
        }
    }

    /// Shows what was written.
    pub(super) fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Output::Plain => std::io::stdout().lock().flush(),
            Output::Pager(child) => child.stdin.as_mut().map_or(Ok(()), Write::flush),
        }
    }

    /// Waits until the reader has seen it.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        if let Output::Pager(mut child) = self {
            drop(child.stdin.take());
            child.wait()?;
        }
        Ok(())
    }
}
