//! SQL over the topics of the cluster, in a process of its own: the broker starts it for the first query, passes queries on
//! and their answers back, and starts another one when it has ended.
//!
//! ```text
//!   client ─▶ admin port: proxy ── Unix socket ──▶ firn sql-process ─▶ object store, Kafka listeners
//!                supervisor ── starts, ends, restarts ──▶   │
//!                catalogue  ◀── topics, ledger, metrics ────┘
//! ```
//!
//! Nothing of a query runs here: bytes are copied, in bounded buffers. [`process`] is one such process, [`supervisor`] keeps one
//! running, [`proxy`] is the route, [`catalogue`] what the process may ask.

use std::path::PathBuf;
use std::time::Duration;

use broker::{Extras, View};

use super::logs::LogFormat;
use crate::sql_process::setup::{Setup, Socket, Store};

mod catalogue;
mod process;
mod proxy;
mod supervisor;

use supervisor::Supervisor;

/// Folder, in the data folder, of what does not fit into memory.
const SPILL_FOLDER: &str = "sql-spill";
/// Folder, in the data folder, of the socket of the process.
const SOCKET_FOLDER: &str = "sql-process";
/// Memory that the process may have beside twice that of its queries: code, threads and their stacks, buffers of connections.
const BASE_BYTES: u64 = 1 << 30;
/// Memory of the process for manifests and chunks of the archive, in bytes.
const CACHE_BYTES: u64 = 64 << 20;

/// Adds the route, the process's supervision, and a line on `/health`.
pub(super) fn add(extras: &mut Extras, log_format: LogFormat) {
    let (supervisor, supervise) = Supervisor::new(extras.view.clone(), log_format);
    let proxy = proxy::router(supervisor.clone());
    extras.routes.streaming = std::mem::take(&mut extras.routes.streaming).merge(proxy);
    extras.notes.push(std::sync::Arc::new(move || supervisor.note()));
    extras.tasks.push(Box::new(move |stop| Box::pin(supervise.run(stop))));
}

/// What queries may use on this node.
#[derive(Debug, Clone)]
struct Bounds {
    data_dir: PathBuf,
    memory_bytes: usize,
    threads: usize,
    concurrency: usize,
    timeout: Duration,
}

impl Bounds {
    /// Those of the node's settings; none until the node is open.
    fn of(view: &View) -> Option<Self> {
        let (settings, data_dir) = (view.settings()?, view.data_dir()?);
        Some(Bounds {
            data_dir,
            memory_bytes: settings.sql_memory_bytes,
            threads: settings.sql_threads,
            concurrency: settings.sql_concurrency,
            timeout: settings.sql_timeout,
        })
    }

    /// Memory that the process may have, in bytes.
    fn process_bytes(&self) -> u64 {
        BASE_BYTES.saturating_add(2 * self.memory_bytes as u64)
    }

    fn setup(&self, view: &View, log_format: LogFormat) -> std::io::Result<Setup> {
        let store = view.store().ok_or_else(|| std::io::Error::other("the broker is not open yet"))?;
        Ok(Setup {
            socket: Socket::in_folder(self.data_dir.join(SOCKET_FOLDER))?,
            spill_dir: self.data_dir.join(SPILL_FOLDER),
            memory_bytes: self.memory_bytes,
            process_bytes: self.process_bytes(),
            threads: self.threads,
            concurrency: self.concurrency,
            timeout_ms: millis(self.timeout),
            store: Store {
                url: store.url,
                cluster_id: store.cluster_id,
                timeout_ms: millis(store.call_timeout),
                cache_bytes: CACHE_BYTES,
            },
            log_format,
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
