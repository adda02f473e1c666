//! Keeps one process of SQL running for those who ask: started for the first query, and again for the next one after it has
//! ended. Ends that follow one another delay the next start, so that a query that is repeated for ever costs little.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use broker::View;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Bounds;
use super::process::{self, Owned, Process};
use crate::server::logs::LogFormat;

/// Queries that may be open beside those that run: waiting, or being read.
const OPEN_BESIDE: usize = 64;
/// A process that has lived so long has not failed at its start.
const SETTLED: Duration = Duration::from_secs(30);
/// Delay of the start after the second end in a row; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// Pause between two readings of the process's memory, for the metrics.
const MEASURE: Duration = Duration::from_secs(1);

type Waiter = oneshot::Sender<io::Result<Arc<Process>>>;

/// Gives a process to those who ask. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Supervisor {
    view: View,
    shared: Arc<Shared>,
    asking: mpsc::Sender<Waiter>,
}

#[derive(Debug)]
struct Shared {
    running: Mutex<Option<Arc<Process>>>,
    restarts: AtomicU64,
    /// Open queries; sized when the node is open.
    open: Arc<Semaphore>,
    concurrency: std::sync::OnceLock<usize>,
}

impl Shared {
    fn set(&self, process: Option<Arc<Process>>) {
        let limits = if process.is_some() { 1.0 } else { 0.0 };
        metrics::gauge!("firn_sql_process_up").set(limits);
        if process.is_none() {
            metrics::gauge!("firn_sql_process_memory_bytes").set(0.0);
        }
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = process;
    }

    fn running(&self) -> Option<Arc<Process>> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.as_ref().filter(|process| process.is_running()).cloned()
    }
}

impl Supervisor {
    /// The supervisor, and its work.
    pub(super) fn new(view: View, log_format: LogFormat) -> (Self, Supervise) {
        let (asking, asked) = mpsc::channel(OPEN_BESIDE);
        let shared = Arc::new(Shared {
            running: Mutex::default(),
            restarts: AtomicU64::new(0),
            open: Arc::new(Semaphore::new(OPEN_BESIDE)),
            concurrency: std::sync::OnceLock::new(),
        });
        let supervise = Supervise { view: view.clone(), log_format, shared: Arc::clone(&shared), asked, failures: 0 };
        (Supervisor { view, shared, asking }, supervise)
    }

    /// What queries may use; none until the node is open.
    pub(super) fn bounds(&self) -> Option<Bounds> {
        let bounds = Bounds::of(&self.view)?;
        self.shared.concurrency.get_or_init(|| {
            self.shared.open.add_permits(bounds.concurrency);
            bounds.concurrency
        });
        Some(bounds)
    }

    /// The places of open queries.
    pub(super) fn open(&self) -> Arc<Semaphore> {
        Arc::clone(&self.shared.open)
    }

    /// A process that takes queries.
    ///
    /// # Errors
    /// When none can be started.
    pub(super) async fn process(&self) -> io::Result<Arc<Process>> {
        if let Some(process) = self.shared.running() {
            return Ok(process);
        }
        let stopping = || io::Error::other("the broker is starting or stopping");
        let (waiter, process) = oneshot::channel();
        self.asking.send(waiter).await.map_err(|_| stopping())?;
        process.await.map_err(|_| stopping())?
    }

    /// The process in one line.
    pub(super) fn note(&self) -> String {
        let state = if self.shared.running().is_some() { "up" } else { "not started" };
        let restarts = self.shared.restarts.load(Ordering::Relaxed);
        let limit = Bounds::of(&self.view).map_or(0, |bounds| bounds.process_bytes());
        format!("sql process: {state}, restarts: {restarts}, memory limit: {limit} bytes")
    }
}

/// The work of a supervisor.
#[derive(Debug)]
pub(super) struct Supervise {
    view: View,
    log_format: LogFormat,
    shared: Arc<Shared>,
    asked: mpsc::Receiver<Waiter>,
    /// Ends in a row.
    failures: u32,
}

impl Supervise {
    /// Starts processes until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        describe();
        tokio::select! {
            // Dropping the work ends the process.
            () = stop.cancelled() => {}
            () = self.serve() => {}
        }
        self.shared.set(None);
    }

    async fn serve(&mut self) {
        while let Some(waiter) = self.asked.recv().await {
            if waiter.is_closed() {
                continue;
            }
            let started = Instant::now();
            match self.start().await {
                Ok((process, owned)) => {
                    let _ = waiter.send(Ok(Arc::clone(&process)));
                    self.keep(process, owned).await;
                }
                Err(error) => {
                    warn!(%error, "cannot start the SQL process");
                    let _ = waiter.send(Err(error));
                }
            }
            let settled = started.elapsed() > SETTLED;
            self.failures = if settled { 0 } else { self.failures.saturating_add(1) };
            tokio::time::sleep(pause(self.failures)).await;
        }
    }

    async fn start(&self) -> io::Result<(Arc<Process>, Owned)> {
        let not_open = || io::Error::other("the broker is not open yet");
        let bounds = Bounds::of(&self.view).ok_or_else(not_open)?;
        let setup = bounds.setup(&self.view, self.log_format)?;
        let started = Instant::now();
        let (process, owned) = Box::pin(process::start(&setup, self.view.clone())).await?;
        info!(pid = process.pid, memory_limit = setup.process_bytes, took = ?started.elapsed(), "SQL process started");
        metrics::gauge!("firn_sql_process_memory_limit_bytes").set(bounds.process_bytes() as f64);
        self.shared.set(Some(Arc::clone(&process)));
        Ok((process, owned))
    }

    /// Until the process has ended.
    async fn keep(&mut self, process: Arc<Process>, mut owned: Owned) {
        let mut measure = tokio::time::interval(MEASURE);
        let mut ending = std::pin::pin!(owned.wait());
        let end = loop {
            tokio::select! {
                end = &mut ending => break end,
                Some(waiter) = self.asked.recv() => drop(waiter.send(Ok(Arc::clone(&process)))),
                _ = measure.tick() => {
                    let bytes = process.resident_bytes().unwrap_or(0);
                    metrics::gauge!("firn_sql_process_memory_bytes").set(bytes as f64);
                }
            }
        };
        self.shared.set(None);
        self.shared.restarts.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("firn_sql_process_restarts_total", "reason" => end.kind).increment(1);
        warn!(pid = process.pid, reason = end.reason, "SQL process ended; the next query starts another one");
    }
}

/// The delay of the next start, after so many ends in a row.
fn pause(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        more => FIRST_PAUSE.saturating_mul(1 << (more - 2).min(10)).min(MAX_PAUSE),
    }
}

fn describe() {
    use metrics::{Unit, describe_counter as counter, describe_gauge as gauge};
    gauge!("firn_sql_process_up", "1 while the SQL process runs; it is started for the first query.");
    counter!("firn_sql_process_restarts_total", "Ends of the SQL process, by reason.");
    gauge!("firn_sql_process_memory_bytes", Unit::Bytes, "Resident memory of the SQL process.");
    gauge!("firn_sql_process_memory_limit_bytes", Unit::Bytes, "Memory that the SQL process may have.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_after_ends_in_a_row_are_delayed_more_and_more_but_not_for_ever() {
        let pauses: Vec<_> = (0..5).map(|failures| pause(failures).as_millis()).collect();
        assert_eq!(pauses, [0, 0, 100, 200, 400]);
        assert_eq!(pause(u32::MAX), MAX_PAUSE);
    }
}
