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
use futures::stream;
use model::NodeId;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Metadata;
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
        let start = Session { heard: Instant::now(), was_there: false, broken: None, gone: None, resigned: None };
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
        loop {
            match timeout(STALE_AFTER, beats.next()).await {
                Ok(Ok(Some(_))) => self.hear(node),
                Ok(Ok(None)) => return CallError::Broken("it was closed".to_owned()),
                Ok(Err(error)) => return error,
                Err(_) => return CallError::TimedOut,
            }
        }
    }

    /// There was a beat of the node.
    pub(super) fn hear(&self, node: NodeId) {
        if let Some(session) = self.nodes.lock().get_mut(&node) {
            let resigned = session.resigned;
            *session = Session { heard: Instant::now(), was_there: true, broken: None, gone: None, resigned };
        }
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

/// The beats of this node, until it stops or can follow the metadata log no longer: then others must take over.
pub(super) fn beats(metadata: Metadata, stop: CancellationToken) -> Body {
    let beats = stream::unfold((metadata, stop, true), |(metadata, stop, is_first)| async move {
        let pause = if is_first { Duration::ZERO } else { BEAT };
        tokio::select! {
            () = stop.cancelled() => return None,
            () = sleep(pause) => {}
        }
        metadata.health().ok()?;
        Some((Ok::<_, Infallible>(Bytes::from_static(b"\n")), (metadata, stop, false)))
    });
    Body::from_stream(beats)
}
