//! A connection to every other node, kept only to notice when it breaks.
//!
//! The kernel closes the connections of a process that ends, however it ends: a connection that breaks and cannot be made
//! anew because nobody listens there any more tells of a crash within milliseconds. A node that is merely silent (paused,
//! cut off, its machine gone) is told by its beats, which stop.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use bytes::BytesMut;
use futures::stream;
use model::NodeId;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Metadata;
use super::impaired::{DiskFault, Report};
use super::peers::Peers;
use super::rpc;
use crate::internal::client::CallError;

/// Time between two beats.
pub(super) const BEAT: Duration = Duration::from_millis(500);
/// A connection without a beat for that long is made anew: TCP would take minutes to notice that a cut is mended.
const STALE_AFTER: Duration = Duration::from_millis(1_600);
/// Pause before a connection is made anew.
const RECONNECT_AFTER: Duration = Duration::from_millis(30);
/// The same for a node that is known to be gone.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(250);
/// So often nobody must be there, one after the other, before a node counts as gone; at each of its addresses, if it has more.
const MISSES: usize = 2;

/// A longer line of the session stream is not a report.
const MAX_REPORT_BYTES: usize = 16 << 10;

/// What is known of the other nodes. Share it.
#[derive(Debug)]
pub(super) struct Sessions {
    nodes: Mutex<BTreeMap<NodeId, Session>>,
    /// Which process the connections lead to; see `processes`.
    pub(super) processes: Mutex<BTreeMap<NodeId, Uuid>>,
    changes: watch::Sender<()>,
}

/// What is known of one node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Session {
    /// The last beat, else when we began to listen for one.
    pub(super) heard: Instant,
    /// There was a beat.
    pub(super) was_there: bool,
    /// When its connection broke; none while there is one, or while the node is merely silent.
    pub(super) broken: Option<Instant>,
    /// Set when its process ended.
    pub(super) gone: Option<Gone>,
    /// Number of the leadership of the log that it gave up last.
    pub(super) resigned: Option<u64>,
    /// What its last heartbeat reported of its disk.
    pub(super) impaired: Option<Impaired>,
}

/// A fault of a node's disk, and the registration that reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Impaired {
    fault: DiskFault,
    broker_epoch: i64,
}

impl Session {
    /// The fault that the registration `broker_epoch` reports.
    pub(super) fn fault_of(&self, broker_epoch: i64) -> Option<DiskFault> {
        self.impaired.filter(|impaired| impaired.broker_epoch == broker_epoch).map(|impaired| impaired.fault)
    }
}

/// A process that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone {
    /// The registration that the process had at most: a later one is another process.
    pub(super) broker_epoch: Option<i64>,
}

impl Sessions {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Sessions { nodes: Mutex::default(), processes: Mutex::default(), changes: watch::Sender::new(()) })
    }

    /// Tells when a node was found to be gone.
    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Wakes those who watch: this node itself has changed.
    pub(super) fn ring(&self) {
        self.changes.send_replace(());
    }

    /// What is known of a node; nothing before [`Sessions::keep`].
    pub(super) fn of(&self, node: NodeId) -> Option<Session> {
        self.nodes.lock().get(&node).copied()
    }

    /// The nodes whose connection broke within the last `window`.
    pub(super) fn broken_within(&self, window: Duration) -> Vec<NodeId> {
        let is_recent = |session: &Session| session.broken.is_some_and(|at| at.elapsed() < window);
        self.nodes.lock().iter().filter(|(_, session)| is_recent(session)).map(|(node, _)| *node).collect()
    }

    /// This process stood still: what it did not hear in that time says nothing about others.
    pub(super) fn forgive(&self) {
        let now = Instant::now();
        self.nodes.lock().values_mut().for_each(|session| session.heard = now);
    }

    /// The node gives up its leadership of the log, which has that number.
    pub(super) fn resigns(&self, node: NodeId, term: u64) {
        if let Some(session) = self.nodes.lock().get_mut(&node) {
            session.resigned = Some(term);
        }
        self.changes.send_replace(());
    }

    /// Keeps a connection to the node until `stop`.
    pub(super) async fn keep(self: Arc<Self>, node: NodeId, peers: Arc<Peers>, stop: CancellationToken) {
        let start = Session {
            heard: Instant::now(),
            was_there: false,
            broken: None,
            gone: None,
            resigned: None,
            impaired: None,
        };
        self.nodes.lock().insert(node, start);
        let mut misses = 0;
        while !stop.is_cancelled() {
            let ended = tokio::select! {
                () = stop.cancelled() => break,
                ended = self.listen(node, &peers) => ended,
            };
            // Silence is told from a loss: what becomes of the node is decided only when its session ends.
            if !matches!(ended, CallError::TimedOut) {
                self.set_broken(node);
            }
            misses = if matches!(ended, CallError::NobodyThere) { misses + 1 } else { 0 };
            let session = self.of(node);
            // Each miss leads to the next address: one that is out of date must not pass for a crash.
            let enough = MISSES.max(peers.addresses(node).len());
            if misses >= enough && session.is_some_and(|session| session.was_there && session.gone.is_none()) {
                if peers.is_stopping(node) {
                    tracing::info!(node, "the process of this node has ended, as it said");
                } else {
                    tracing::warn!(node, "the process of this node has ended");
                }
                self.set_gone(node, peers.broker_epoch(node));
            }
            let is_gone = session.is_some_and(|session| session.gone.is_some());
            sleep(if is_gone { LOOK_AGAIN_AFTER } else { RECONNECT_AFTER }).await;
        }
        self.nodes.lock().remove(&node);
        self.processes.lock().remove(&node);
    }

    /// Listens until the connection ends.
    async fn listen(&self, node: NodeId, peers: &Peers) -> CallError {
        let mut beats = match peers.listen(node, rpc::SESSION, STALE_AFTER).await {
            Ok(beats) => beats,
            Err(error) => return error,
        };
        self.meet(node, beats.process());
        let mut said = BytesMut::new();
        loop {
            match timeout(STALE_AFTER, beats.next()).await {
                Ok(Ok(Some(bytes))) => {
                    if let Err(error) = self.hear_lines(node, &mut said, &bytes) {
                        return error;
                    }
                }
                Ok(Ok(None)) => return CallError::Broken("it was closed".to_owned()),
                Ok(Err(error)) => return error,
                Err(_) => return CallError::TimedOut,
            }
        }
    }

    /// Takes the heartbeats from what the node has said; the beginning of a further one stays.
    fn hear_lines(&self, node: NodeId, said: &mut BytesMut, bytes: &[u8]) -> Result<(), CallError> {
        said.extend_from_slice(bytes);
        while let Some(end) = said.iter().position(|byte| *byte == b'\n') {
            // A report that a newer build words otherwise is a heartbeat all the same.
            self.note(node, serde_json::from_slice(&said.split_to(end + 1)).ok());
        }
        let is_line = said.len() <= MAX_REPORT_BYTES;
        is_line.then_some(()).ok_or_else(|| CallError::Nonsense("a heartbeat has no end".to_owned()))
    }

    /// There was a heartbeat of the node, with nothing to report.
    #[cfg(test)]
    pub(super) fn hear(&self, node: NodeId) {
        self.note(node, None);
    }

    /// There was a heartbeat of the node, with what it reports.
    fn note(&self, node: NodeId, report: Option<Report>) {
        let impaired = report.as_ref().map(|r| Impaired { fault: r.fault, broker_epoch: r.broker_epoch });
        let before = {
            let mut nodes = self.nodes.lock();
            let Some(session) = nodes.get_mut(&node) else { return };
            let (resigned, before) = (session.resigned, session.impaired);
            let heard = Instant::now();
            *session = Session { heard, was_there: true, broken: None, gone: None, resigned, impaired };
            before
        };
        if before == impaired {
            return;
        }
        match report {
            Some(Report { fault, reason, .. }) => {
                tracing::warn!(node, disk = %fault, reason, "a node reports its disk")
            }
            None => tracing::info!(node, "a node reports that its disk is well again"),
        }
        self.ring();
    }

    /// The connection to the node was found broken.
    pub(super) fn set_broken(&self, node: NodeId) {
        if let Some(session) = self.nodes.lock().get_mut(&node)
            && session.was_there
        {
            session.broken.get_or_insert_with(Instant::now);
        }
    }

    fn set_gone(&self, node: NodeId, broker_epoch: Option<i64>) {
        if let Some(session) = self.nodes.lock().get_mut(&node) {
            session.gone = Some(Gone { broker_epoch });
        }
        self.changes.send_replace(());
    }
}

/// The heartbeats of this node, until it stops or can no longer follow the metadata log: then others must take over. What
/// is wrong with its disk goes out at once.
pub(super) fn beats(metadata: Metadata, stop: CancellationToken) -> Body {
    let beats = stream::unfold(Some((metadata, stop, None::<watch::Receiver<_>>)), |state| async move {
        let (metadata, stop, watching) = state?;
        let mut watching = match watching {
            None => metadata.watch_impairment(),
            Some(mut watching) => {
                tokio::select! {
                    () = stop.cancelled() => return None,
                    _ = watching.changed() => {}
                    () = sleep(BEAT) => {}
                }
                watching
            }
        };
        watching.borrow_and_update();
        let is_last = metadata.health().is_err();
        let mut line = metadata.report().and_then(|report| serde_json::to_vec(&report).ok()).unwrap_or_default();
        line.push(b'\n');
        Some((Ok::<_, Infallible>(Bytes::from(line)), (!is_last).then_some((metadata, stop, Some(watching)))))
    });
    Body::from_stream(beats)
}
