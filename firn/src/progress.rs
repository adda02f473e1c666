//! Progress bars on standard error: only on a terminal, and only when the work takes long enough to wonder about.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work that is done sooner shows no bar.
const SHOWN_AFTER: Duration = Duration::from_secs(1);
const FRAMES_PER_SECOND: u8 = 5;

/// A bar that appears after a second.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    started: Instant,
    is_shown: bool,
    done: u64,
}

impl Progress {
    /// A bar towards `total` records.
    pub(crate) fn towards(total: u64) -> Self {
        let template = "{wide_bar} {human_pos}/{human_len} records, {per_sec}, {eta} left";
        Self::new(ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden()), template)
    }

    /// A bar towards `total` partitions, which are done in steps of very unlike length.
    pub(crate) fn partitions(total: u64) -> Self {
        let template = "{wide_bar} {human_pos}/{human_len} partitions, {elapsed}";
        Self::new(ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden()), template)
    }

    /// A counter of records without a known end.
    pub(crate) fn counter() -> Self {
        let template = "{spinner} {human_pos} records, {per_sec}, {elapsed}";
        Self::new(ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()), template)
    }

    fn new(bar: ProgressBar, template: &str) -> Self {
        // The templates are constants of this file: one that does not parse falls back to the plain style.
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Progress { bar: bar.with_style(style), started: Instant::now(), is_shown: false, done: 0 }
    }

    /// Adds what is done.
    pub(crate) fn add(&mut self, number: u64) {
        self.done = self.done.saturating_add(number);
        if !self.is_shown && self.started.elapsed() >= SHOWN_AFTER {
            self.is_shown = true;
            // Draws nothing when standard error is no terminal.
            self.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(FRAMES_PER_SECOND));
        }
        self.bar.set_position(self.done);
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
}

/// Waits for `work`, with a spinner and the time on standard error when that takes long.
#[cfg(feature = "sql")]
pub(crate) async fn while_waiting<T>(work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    if let Ok(done) = tokio::time::timeout(SHOWN_AFTER, &mut work).await {
        return done;
    }
    let spinner = Spinner(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(FRAMES_PER_SECOND)));
    let style =
        ProgressStyle::with_template("{spinner} {elapsed}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    spinner.0.set_style(style);
    spinner.0.set_elapsed(SHOWN_AFTER);
    spinner.0.enable_steady_tick(Duration::from_secs(1) / u32::from(FRAMES_PER_SECOND));
    work.await
}

/// Goes away also when the wait is given up.
#[cfg(feature = "sql")]
struct Spinner(ProgressBar);

#[cfg(feature = "sql")]
impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
