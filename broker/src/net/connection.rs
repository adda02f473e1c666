//! One client connection, from its first byte to its last.

use std::net::SocketAddr;
use std::sync::Arc;

use protocol::ApiKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::MAX_IN_FLIGHT;
use super::reader::{ReadError, RequestReader};
use super::writer::{self, Owed};
use crate::broker::Broker;
use crate::handlers::{self, BadRequest, Connection, Reply, Started};
use crate::machine::sockets::TcpStream;

/// Bytes of finished replies that one connection may owe before its further requests wait.
const OWED_BYTES: usize = 1 << 20;

/// Why a connection ended other than by the client closing it between two requests.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    /// The bytes are no requests.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// A request that cannot be answered.
    #[error("{0}")]
    Request(#[from] BadRequest),
    /// A reply could not be written.
    #[error("cannot write a reply: {0}")]
    Write(#[from] std::io::Error),
}

impl ConnectionError {
    /// True when the log should name the client: it sent what no client should.
    pub(super) fn is_clients_fault(&self) -> bool {
        match self {
            ConnectionError::Read(error) => error.is_clients_fault(),
            ConnectionError::Request(_) => true,
            ConnectionError::Write(_) => false,
        }
    }

    /// True when the broker is at fault.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self, ConnectionError::Request(error) if error.is_ours())
    }
}

/// Serves one connection until it ends, or until `stop` is cancelled and every reply is written.
pub(super) async fn run(
    broker: Arc<Broker>,
    stream: TcpStream,
    peer: SocketAddr,
    stop: CancellationToken,
) -> Result<(), ConnectionError> {
    let connection = Arc::new(Connection { peer });
    let (read_half, write_half) = stream.into_split();
    let settings = &broker.config.settings.broker;
    let memory = broker.memory.requests.clone();
    let reader = RequestReader::new(read_half, memory, settings.request_max_bytes, settings.connections_max_idle);
    let (owed, replies) = mpsc::channel(MAX_IN_FLIGHT);
    let reading = read_requests(Arc::clone(&broker), connection, reader, owed, stop);
    let writing = writer::write_replies(write_half, replies, settings.connection_stall);
    tokio::pin!(reading, writing);
    tokio::select! {
        // The reader dropped its end of the queue: what it has started is still answered.
        read = &mut reading => {
            writing.await?;
            read
        }
        written = &mut writing => written,
    }
}

async fn read_requests(
    broker: Arc<Broker>,
    connection: Arc<Connection>,
    mut reader: RequestReader,
    owed: mpsc::Sender<Owed>,
    stop: CancellationToken,
) -> Result<(), ConnectionError> {
    let room = Arc::new(Semaphore::new(OWED_BYTES));
    loop {
        // Capacity first: a client that does not read its replies is not read from either.
        let Ok(slot) = owed.reserve().await else { return Ok(()) };
        let request = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            request = reader.next() => request?,
        };
        let Some(request) = request else { return Ok(()) };
        let received = std::time::Instant::now();
        let bytes_in = request.frame.len();
        // In a box: a connection without a request must not pay for the largest handler.
        let started = Box::pin(handlers::start(&broker, &connection, request.frame, request.claims)).await?;
        record_request(started.api_key, bytes_in);
        let room = make_room(&room, owed_bytes(&started)).await;
        let Started { api_key, reply, holds } = started;
        slot.send(Owed { api_key, reply, received, holds, room });
    }
}

/// Bytes that a reply will wait with. Replies of fetches are not counted, they have a bound over all connections; nor are
/// those that come later, which are small.
fn owed_bytes(started: &Started) -> usize {
    if let Reply::Now(frame) = &started.reply { frame.len } else { 0 }
}

/// Waits until what is owed and these bytes are little, or until nothing else is owed.
async fn make_room(room: &Arc<Semaphore>, bytes: usize) -> Option<OwnedSemaphorePermit> {
    let bytes = u32::try_from(bytes.min(OWED_BYTES)).unwrap_or(0);
    Arc::clone(room).acquire_many_owned(bytes).await.ok()
}

fn record_request(api: ApiKey, bytes: usize) {
    metrics::counter!("firn_requests_total", "api" => api.name()).increment(1);
    metrics::counter!("firn_request_bytes_total", "api" => api.name()).increment(bytes as u64);
}
