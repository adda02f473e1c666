//! The Kafka listener: accepts connections, cuts them into requests, and writes the replies in the requests' order.
//!
//! A connection is two halves. The *reader* takes one request after the other and starts it; what must happen in order,
//! such as the append of a produce request, has happened when the start returns. The *writer* awaits the replies in the
//! same order, so that several produce requests share one flush although their replies never overtake each other.
//!
//! Bounds: connections (`max.connections`), request size (`socket.request.max.bytes`), memory of all requests in work
//! (`firn.request.memory.bytes`), requests in flight on one connection ([`MAX_IN_FLIGHT`]), idle time
//! (`connections.max.idle.ms`), and the time that a reply may take to leave ([`WRITE_TIMEOUT`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::broker::Broker;
use crate::config::HostPort;

mod connection;
mod memory;
mod reader;
mod writer;

use memory::RequestMemory;

/// Requests of one connection that may be started before the first is answered.
const MAX_IN_FLIGHT: usize = 64;
/// How long a client may take to accept a reply.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause after `accept` itself failed, for example because the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Opens the listening socket.
///
/// # Errors
/// The system's error, with the address in front.
pub(crate) async fn bind(address: &HostPort) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind((address.host.as_str(), address.port)).await;
    listener.map_err(|e| std::io::Error::new(e.kind(), format!("cannot listen on {address}: {e}")))
}

/// Accepts connections until `stop` is cancelled, then waits until every connection has written what it owes.
pub(crate) async fn serve(broker: Arc<Broker>, listener: TcpListener, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(broker.config.settings.broker.max_connections));
    let memory = RequestMemory::new(broker.config.settings.broker.request_memory_bytes);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            warn!(%peer, limit = broker.config.settings.broker.max_connections, "too many connections (max.connections), closing");
            continue;
        };
        if let Err(error) = tune(&stream) {
            debug!(%peer, %error, "the connection was gone at once");
            continue;
        }
        let (broker, stop, memory) = (Arc::clone(&broker), stop.clone(), memory.clone());
        connections.spawn(async move {
            run_one(broker, stream, peer, memory, stop).await;
            drop(slot);
        });
    }
    drop(listener);
    connections.close();
    info!(connections = connections.len(), "no more connections are accepted, finishing the open ones");
    connections.wait().await;
}

async fn run_one(
    broker: Arc<Broker>,
    stream: TcpStream,
    peer: SocketAddr,
    memory: RequestMemory,
    stop: CancellationToken,
) {
    metrics::gauge!("firn_connections").increment(1.0);
    match connection::run(broker, stream, peer, memory, stop).await {
        Ok(()) => debug!(%peer, "connection closed"),
        Err(error) if error.is_clients_fault() => warn!(%peer, %error, "closing the connection"),
        Err(error) => debug!(%peer, %error, "connection lost"),
    }
    metrics::gauge!("firn_connections").decrement(1.0);
}

fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_keepalive(true)
}
