//! The Kafka listener: accepts connections, cuts them into requests, and writes the replies in the requests' order.
//!
//! A connection is two halves. The *reader* takes one request after the other and starts it; what must happen in order,
//! such as the append of a produce request, has happened when the start returns. The *writer* awaits the replies in the
//! same order, so that several produce requests share one flush although their replies never overtake each other.
//!
//! Bounds: connections (`max.connections`), request size (`socket.request.max.bytes`), memory of all requests in work
//! (`firn.request.memory.bytes`), requests in flight on one connection ([`MAX_IN_FLIGHT`]) and the bytes of their finished replies, idle time
//! (`connections.max.idle.ms`), and the time in which a client must take some of a reply (`firn.connection.stall.ms`). A
//! client whose machine is gone is found by TCP within twice that time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

use crate::broker::Broker;
use crate::descriptors::ADVICE;
use crate::machine::sockets::{ACCEPT_PAUSE, TcpListener, TcpStream, tune};

mod connection;
mod reader;
mod writer;

/// Requests of one connection that may be started before the first is answered.
const MAX_IN_FLIGHT: usize = 64;
/// A warning about the listener is logged at most this often.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// Accepts connections until `stop` is cancelled, then waits until every connection has written what it owes.
pub(crate) async fn serve(broker: Arc<Broker>, listener: TcpListener, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(broker.config.settings.broker.max_connections));
    let limit = broker.config.settings.broker.max_connections;
    let (mut full, mut failing) = (RareWarning::default(), RareWarning::default());
    loop {
        // As in Apache Kafka, connections over the limit wait in the listener's queue until others end.
        let slot = match Arc::clone(&slots).try_acquire_owned() {
            Ok(slot) => slot,
            Err(_) => {
                if let Some(before) = full.may_log() {
                    warn!(
                        limit,
                        times = before,
                        "the limit of connections (max.connections) is reached, further ones wait"
                    );
                }
                tokio::select! {
                    () = stop.cancelled() => break,
                    slot = Arc::clone(&slots).acquire_owned() => match slot {
                        Ok(slot) => slot,
                        Err(_) => break,
                    },
                }
            }
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(before) = failing.may_log() {
                    warn!(%error, times = before, "cannot accept a connection, clients wait; of too many open files: {ADVICE}");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = tune(&stream, broker.config.settings.broker.connection_stall) {
            debug!(%peer, %error, "the connection was gone at once");
            continue;
        }
        let (broker, stop) = (Arc::clone(&broker), stop.clone());
        connections.spawn(async move {
            run_one(broker, stream, peer, stop).await;
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    info!(connections = connections.len(), "no more connections are accepted, finishing the open ones");
    connections.wait().await;
}

async fn run_one(broker: Arc<Broker>, stream: TcpStream, peer: SocketAddr, stop: CancellationToken) {
    metrics::gauge!("firn_connections").increment(1.0);
    match connection::run(broker, stream, peer, stop).await {
        Ok(()) => debug!(%peer, "connection closed"),
        Err(error) if error.is_ours() => error!(%peer, %error, "closing the connection"),
        Err(error) if error.is_clients_fault() => warn!(%peer, %error, "closing the connection"),
        Err(error) => debug!(%peer, %error, "connection lost"),
    }
    metrics::gauge!("firn_connections").decrement(1.0);
}

/// Lets one warning through per [`WARN_EVERY`], and counts the others.
#[derive(Debug, Default)]
struct RareWarning {
    last: Option<Instant>,
    since: u64,
}

impl RareWarning {
    /// How often it happened, this time included, when it is time to say so again.
    fn may_log(&mut self) -> Option<u64> {
        self.since += 1;
        if self.last.is_some_and(|last| last.elapsed() < WARN_EVERY) {
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.since))
    }
}
