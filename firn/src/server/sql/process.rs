//! One process of SQL: its start, connections to it, and why it has ended.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use broker::View;
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::catalogue;
use crate::sql_process::OVERRUN_STATUS;
use crate::sql_process::setup::{Setup, Socket};

/// How long a start may take.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the reason of an end may take to be known, once a connection has broken off.
const END_KNOWN_WITHIN: Duration = Duration::from_secs(3);
/// Bytes of the end of the process's log that are kept, for the reason of its end.
const TAIL_BYTES: usize = 64 << 10;

/// This very program, also when its file was replaced since it was started.
#[cfg(target_os = "linux")]
fn program() -> io::Result<std::path::PathBuf> {
    Ok("/proc/self/exe".into())
}

/// This program.
#[cfg(not(target_os = "linux"))]
fn program() -> io::Result<std::path::PathBuf> {
    std::env::current_exe()
}

/// How much the allocator reserves at a time. By default that is a gibibyte, which would count against the limit of the process.
const ARENA_VARIABLE: &str = "MIMALLOC_ARENA_RESERVE";
const ARENA_SIZE: &str = "64M";
/// Bytes of the log that are copied at a time.
const PIECE_BYTES: usize = 4 << 10;

/// Why a process has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// One word, for metrics.
    pub(super) kind: &'static str,
    /// For the person whose query was running.
    pub(super) reason: String,
}

/// A process that runs, or has ended. Shared by those who use it.
#[derive(Debug)]
pub(super) struct Process {
    socket: Socket,
    pub(super) pid: Option<u32>,
    end: watch::Receiver<Option<End>>,
    kill: Arc<Notify>,
}

/// The owner's side of a process.
#[derive(Debug)]
pub(super) struct Owned {
    child: Child,
    /// Closing it ends the process.
    _stdin: ChildStdin,
    log: JoinHandle<()>,
    tail: Tail,
    answering: JoinHandle<io::Result<()>>,
    ended: watch::Sender<Option<End>>,
    kill: Arc<Notify>,
    process_bytes: u64,
}

type Tail = Arc<Mutex<VecDeque<u8>>>;

/// Starts a process, and waits until it takes queries.
///
/// # Errors
/// When it cannot be started, or ends before it is ready.
pub(super) async fn start(setup: &Setup, view: View) -> io::Result<(Arc<Process>, Owned)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut child = Command::new(program()?)
        .arg0("firn")
        .arg("sql-process")
        .env(ARENA_VARIABLE, ARENA_SIZE)
        .stdin(Stdio::piped())
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let gone = || io::Error::other("the process has no standard input or error");
    let (mut stdin, stderr) = (child.stdin.take().ok_or_else(gone)?, child.stderr.take().ok_or_else(gone)?);
    let tail = Tail::default();
    let log = tokio::spawn(copy_log(stderr, Arc::clone(&tail)));
    let (ready, is_ready) = oneshot::channel();
    let answering = tokio::spawn(catalogue::answer(tokio::net::UnixStream::from_std(ours)?, view, ready));
    let mut line = serde_json::to_vec(setup)?;
    line.push(b'\n');
    let (ended, end) = watch::channel(None);
    let kill = Arc::new(Notify::new());
    let process = Process { socket: setup.socket.clone(), pid: child.id(), end, kill: Arc::clone(&kill) };
    let begun = async {
        stdin.write_all(&line).await?;
        is_ready.await.map_err(|_| io::Error::other("it ended before it was ready"))
    };
    let begun = timeout(START_TIMEOUT, begun).await;
    let mut owned =
        Owned { child, _stdin: stdin, log, tail, answering, ended, kill, process_bytes: setup.process_bytes };
    match begun {
        Ok(Ok(())) => Ok((Arc::new(process), owned)),
        Ok(Err(error)) => {
            let end = owned.stop("it could not start").await;
            Err(io::Error::other(format!("{error}: {}", end.reason)))
        }
        Err(_) => {
            owned.stop("it did not start in time").await;
            Err(io::Error::other(format!("it was not ready within {START_TIMEOUT:?}")))
        }
    }
}

impl Owned {
    /// Waits until the process ends or is to be killed, and ends it then.
    pub(super) async fn wait(&mut self) -> End {
        let kill = Arc::clone(&self.kill);
        tokio::select! {
            status = self.child.wait() => self.conclude(status, None).await,
            () = kill.notified() => self.stop("a query did not stop at its time limit").await,
        }
    }

    /// Ends the process.
    pub(super) async fn stop(&mut self, reason: &str) -> End {
        // It may have ended by itself.
        let _ = self.child.start_kill();
        let status = self.child.wait().await;
        self.conclude(status, Some(reason)).await
    }

    async fn conclude(&mut self, status: io::Result<ExitStatus>, killed: Option<&str>) -> End {
        self.answering.abort();
        // The last lines of its log say why.
        let _ = timeout(Duration::from_secs(1), &mut self.log).await;
        let tail: Vec<u8> = self.tail.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        let tail = String::from_utf8_lossy(&tail);
        let status = status.ok();
        // A kill that came too late did not end it.
        let killed = killed.filter(|_| status.is_none_or(|status| status.signal() == Some(SIGKILL)));
        let end = match killed {
            Some(reason) => End { kind: "stopped", reason: format!("the SQL process was stopped: {reason}") },
            None => why(status, &tail, self.process_bytes),
        };
        self.ended.send_replace(Some(end.clone()));
        end
    }
}

const SIGKILL: i32 = 9;

/// The reason of an end that was not asked for.
fn why(status: Option<ExitStatus>, log: &str, process_bytes: u64) -> End {
    const AGAIN: &str = "If it was another one's query, repeat yours";
    let says = |words: &[&str]| words.iter().any(|words| log.contains(words));
    let signal = status.and_then(|status| status.signal());
    if status.and_then(|status| status.code()) == Some(OVERRUN_STATUS) {
        let reason = format!("a query did not stop at its time limit and ended the SQL process. {AGAIN}");
        return End { kind: "overrun", reason };
    }
    let out_of_memory = ["memory allocation of", "Cannot allocate memory", "can't spawn worker thread"];
    if says(&out_of_memory) {
        let reason = format!(
            "a query ended the SQL process: it needed more memory than the {process_bytes} bytes that the process may have \
             (they follow from firn.sql.memory.bytes). {AGAIN}"
        );
        return End { kind: "memory", reason };
    }
    if signal == Some(SIGKILL) {
        let reason = format!(
            "the SQL process was killed: by the system, where the machine or the container had no memory left for it, or by \
             hand. {AGAIN}"
        );
        return End { kind: "killed", reason };
    }
    if says(&["has overflowed its stack"]) {
        let reason = format!("a query ended the SQL process: its statement nests too deeply. {AGAIN}");
        return End { kind: "stack", reason };
    }
    let status = status.map_or_else(|| "unknown status".to_owned(), |status| status.to_string());
    End { kind: "failed", reason: format!("the SQL process ended ({status}); the broker's log has more. {AGAIN}") }
}

/// Copies the process's log into that of the broker.
async fn copy_log(mut from: ChildStderr, tail: Tail) {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = match from.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(read) => &piece[..read],
        };
        // A broker whose log is gone goes on.
        let _ = io::stderr().lock().write_all(read);
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend(read);
        let over = tail.len().saturating_sub(TAIL_BYTES);
        tail.drain(..over);
    }
}

/// A connection for one query. Dropping it cancels the query.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) sender: SendRequest<Full<Bytes>>,
    pub(super) connection: AbortOnDropHandle<()>,
}

impl Process {
    /// A connection that is cut at `until`, also while its answer is not read. It keeps `place` as long.
    pub(super) async fn connect(&self, until: Instant, place: Arc<OwnedSemaphorePermit>) -> io::Result<Exchange> {
        let stream = self.socket.connect().await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let driven = tokio::spawn(async move {
            // The reader of the answer sees how it ended.
            let _ = tokio::time::timeout_at(until, connection).await;
            drop(place);
        });
        Ok(Exchange { sender, connection: AbortOnDropHandle::new(driven) })
    }

    /// True until the end is known.
    pub(super) fn is_running(&self) -> bool {
        self.end.borrow().is_none()
    }

    /// Why it has ended, after a connection broke off; none when it runs on.
    pub(super) async fn end(&self) -> Option<End> {
        let mut end = self.end.clone();
        let known = timeout(END_KNOWN_WITHIN, end.wait_for(Option::is_some)).await;
        known.ok()?.ok()?.clone()
    }

    /// Why it has ended, if it has: asks it for a connection, because the end of a process may be noticed late.
    pub(super) async fn end_if_any(&self) -> Option<End> {
        if self.is_running() && self.socket.connect().await.is_ok() {
            return None;
        }
        self.end().await
    }

    /// Ends the process because it does not answer.
    pub(super) fn kill(&self) {
        warn!(pid = self.pid, "the SQL process does not answer in time: ending it");
        self.kill.notify_one();
    }

    /// Memory that the process takes now, in bytes.
    pub(super) fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_explained_by_the_status_and_the_last_lines_of_the_log() {
        let kind = |raw: i32, log: &str| why(Some(ExitStatus::from_raw(raw)), log, 1 << 30).kind;
        assert_eq!(kind(OVERRUN_STATUS << 8, ""), "overrun");
        assert_eq!(kind(6, "memory allocation of 12000000000 bytes failed\n"), "memory");
        assert_eq!(kind(9, ""), "killed");
        assert_eq!(kind(9, "memory allocation of 12000000000 bytes failed\n"), "memory");
        assert_eq!(kind(6, "thread 'sql' has overflowed its stack\nfatal runtime error"), "stack");
        assert_eq!(kind(11, ""), "failed");
        assert!(why(None, "", 1).reason.contains("unknown status"));
    }
}
