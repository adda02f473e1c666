//! Where rows go: to standard output, or on a terminal through the program that `FIRN_PAGER` names.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::ops::ControlFlow;
use std::process::{Child, Command, Stdio};

use analytics::sql::output::Format;

use crate::output::tell;

const VARIABLE: &str = "FIRN_PAGER";

/// Takes the bytes of one answer.
pub(super) enum Output {
    /// Standard output.
    Plain,
    /// A pager, which shows them.
    Pager(Pager),
}

/// A pager at work. Dropping it waits until the reader leaves it: it has the terminal until then.
pub(super) struct Pager(Child);

/// The output for an answer in this format.
pub(super) fn output(format: Format) -> Output {
    let named = std::env::var(VARIABLE).ok().filter(|command| !command.trim().is_empty());
    let Some(command) = named.filter(|_| format.is_text() && io::stdout().is_terminal()) else {
        return Output::Plain;
    };
    match Command::new("sh").args(["-c", &command]).stdin(Stdio::piped()).spawn() {
        Ok(child) => Output::Pager(Pager(child)),
        Err(error) => {
            tell(format_args!("{VARIABLE} cannot be started: {error}"));
            Output::Plain
        }
    }
}

impl Output {
    /// Shows some bytes; a break where the reader has left the pager.
    pub(super) fn show(&mut self, bytes: &[u8]) -> io::Result<ControlFlow<()>> {
        let Output::Pager(Pager(child)) = self else {
            let mut out = io::stdout().lock();
            out.write_all(bytes)?;
            return out.flush().map(ControlFlow::Continue);
        };
        let Some(stdin) = &mut child.stdin else { return Ok(ControlFlow::Break(())) };
        // The reader scrolls when it likes to: until then the pipe is full.
        match tokio::task::block_in_place(|| stdin.write_all(bytes)) {
            Ok(()) => Ok(ControlFlow::Continue(())),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        if let Err(error) = tokio::task::block_in_place(|| self.0.wait()) {
            tell(format_args!("cannot wait for the program that {VARIABLE} names: {error}"));
        }
    }
}
