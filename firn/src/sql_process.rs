//! `firn sql-process`: SQL in a process of its own, started and supervised by `firn server`.
//!
//! Whatever a query does, it does to this process alone: its memory is limited, its priority low, and nothing of the broker's
//! log is open here. It reads the archive through the object store, the hot tail as a Kafka client, and asks the broker
//! for topics and their entries in the archive's ledger.
//!
//! ```text
//!   stdin      the setup, one line of JSON; then nothing. Its end is the end of the broker, and of this process
//!   stdout     a socket: requests to the broker ([`catalogue`])
//!   stderr     the log, which the broker copies into its own
//!   the socket that the setup names: POST /v1/sql, as on the admin port of the broker
//! ```
//!
//! A query that still computes after its deadline, or after its client is gone, ends the process ([`OVERRUN_STATUS`]); the broker
//! starts another one.

use std::io::{BufRead, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use analytics::sql::{Engine, Limits};
use anyhow::Context;
use rustix::process::{Resource, Rlimit, Signal, getpid, kill_process, setpriority_process, setrlimit};

use crate::server::logs;

pub(crate) mod catalogue;
mod meters;
pub(crate) mod route;
pub(crate) mod setup;
mod source;

use catalogue::{Ask, Catalogue};
use meters::Meters;
use setup::Setup;
use source::ClusterSource;

/// Status of a process that a query has ended which did not stop at its deadline.
pub(crate) const OVERRUN_STATUS: i32 = 75;
/// How long a query may compute after it should have ended.
const OVERRUN_GRACE: Duration = Duration::from_secs(5);
/// Pause between two checks for such queries.
const OVERRUN_CHECK: Duration = Duration::from_millis(200);
/// How much less of the processor the process gets than others, in steps of `nice`.
const NICE: i32 = 10;
/// Threads that answer and read, beside those of the queries.
const IO_THREADS: usize = 2;
/// Threads for calls that block: files of an archive in a folder, and names of hosts.
const BLOCKING_THREADS: usize = 16;
/// The kernel ends this process before others when the machine is out of memory.
const OOM_SCORE: &str = "1000";

/// Runs the process; ends with the broker.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("cannot read the setup")?;
    let setup: Setup = serde_json::from_str(&line).context("the setup is not one: firn server starts this command")?;
    limit(&setup).context("cannot limit the process")?;
    logs::start(setup.log_format)?;
    thread::Builder::new().name("broker-watch".to_owned()).spawn(end_with_the_broker)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(Box::pin(serve(setup)))
}

fn limit(setup: &Setup) -> std::io::Result<()> {
    // Where one of these is refused, the process runs like others.
    let _ = setpriority_process(None, NICE);
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let none = Rlimit { current: Some(0), maximum: None };
    let _ = setrlimit(Resource::Core, none);
    let bytes = Some(setup.process_bytes);
    Ok(setrlimit(Resource::Data, Rlimit { current: bytes, maximum: bytes })?)
}

/// The broker holds the other end of standard input until it ends, however it ends.
fn end_with_the_broker() {
    let mut rest = [0; 64];
    while matches!(std::io::stdin().lock().read(&mut rest), Ok(read) if read > 0) {}
    // Nothing here must be finished or cleaned up, and nothing may hold this up.
    let _ = kill_process(getpid(), Signal::KILL);
}

async fn serve(setup: Setup) -> anyhow::Result<()> {
    let catalogue = Catalogue::over(broker_socket().context("standard output is not the broker's socket")?);
    let meters = Meters::install(catalogue.clone());
    let cold = setup.store.connect().await.context("cannot open the archive")?;
    let limits = Limits {
        memory_bytes: setup.memory_bytes,
        threads: setup.threads,
        concurrency: setup.concurrency,
        timeout: Duration::from_millis(setup.timeout_ms),
        ..Limits::new(setup.spill_dir.clone())
    };
    let timeout = limits.timeout;
    let source = Arc::new(ClusterSource::new(catalogue.clone(), cold));
    let engine = Arc::new(Engine::new(source, limits)?);
    let watched = Arc::clone(&engine);
    thread::Builder::new().name("overrun-watch".to_owned()).spawn(move || end_on_overrun(&watched))?;
    let listener = setup.socket.listen().context("cannot listen on the socket")?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let routes = route::router(route::Queries { engine, timeout, meters });
    catalogue.ask::<bool>(Ask::Ready).await?;
    Ok(axum::serve(listener, routes).await?)
}

fn broker_socket() -> std::io::Result<tokio::net::UnixStream> {
    let socket: OwnedFd = std::io::stdout().as_fd().try_clone_to_owned()?;
    let socket = UnixStream::from(socket);
    socket.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(socket)
}

fn end_on_overrun(engine: &Engine) {
    loop {
        thread::sleep(OVERRUN_CHECK);
        let overrun = engine.overrun();
        if overrun > OVERRUN_GRACE {
            tracing::error!(
                ?overrun,
                queries = engine.running(),
                "a query computes past its end: ending the SQL process"
            );
            std::process::exit(OVERRUN_STATUS);
        }
    }
}
