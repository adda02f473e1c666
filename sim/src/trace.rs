//! The log of a run: what the nodes log and what clients saw, with the simulated time. The same seed gives the same.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Write};
use std::path::Path;

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::pinned;

/// Lines that are kept to be shown when a promise was broken.
const KEPT_LINES: usize = 60;

thread_local! {
    static LOG: RefCell<Log> = RefCell::new(Log::default());
}

#[derive(Default)]
struct Log {
    digest: DefaultHasher,
    last: VecDeque<String>,
    prints: bool,
    /// The run's folder: another one each time.
    folder: String,
}

impl Log {
    fn take(&mut self, line: &str) {
        let line = &*line.replace(&self.folder, "");
        self.digest.write(line.as_bytes());
        if self.prints {
            let _ = io::stderr().write_all(line.as_bytes());
        }
        if self.last.len() == KEPT_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
    }
}

/// From now on this thread's log is this run's; it is printed as it comes, in detail, when `prints`.
pub(crate) fn begin(prints: bool, folder: &Path) -> DefaultGuard {
    LOG.set(Log { prints, folder: folder.display().to_string(), ..Log::default() });
    let level = if prints { "debug" } else { "info" };
    let ours = format!(
        "off,turmoil=info,broker={level},coordinator={level},cold_tier={level},hot_tier={level},firn_sim={level}"
    );
    let log = tracing_subscriber::fmt().with_ansi(false).with_env_filter(ours).with_timer(Simulated);
    tracing::subscriber::set_default(log.with_writer(|| Lines).finish())
}

/// Adds a line.
pub(crate) fn note(what: &str) {
    let line = format!("{:>9.3} {what}\n", pinned::elapsed().as_secs_f64());
    LOG.with_borrow_mut(|log| log.take(&line));
}

/// What stands for the whole log, and its last lines.
pub(crate) fn end() -> (u64, Vec<String>) {
    LOG.with_borrow(|log| (log.digest.finish(), log.last.iter().cloned().collect()))
}

struct Simulated;

impl FormatTime for Simulated {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        write!(out, "{:>9.3}", pinned::elapsed().as_secs_f64())
    }
}

/// Takes formatted events.
struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| log.take(&String::from_utf8_lossy(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
