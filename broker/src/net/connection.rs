//! One client connection, from its first byte to its last.

use std::net::SocketAddr;
use std::sync::Arc;

use protocol::ApiKey;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::MAX_IN_FLIGHT;
use super::memory::RequestMemory;
use super::reader::{ReadError, RequestReader};
use super::writer::{self, Owed};
use crate::broker::Broker;
use crate::handlers::{self, BadRequest, Connection};

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
    Write(#[source] std::io::Error),
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
}

/// Serves one connection until it ends, or until `stop` is cancelled and every reply is written.
pub(super) async fn run(
    broker: Arc<Broker>,
    stream: TcpStream,
    peer: SocketAddr,
    memory: RequestMemory,
    stop: CancellationToken,
) -> Result<(), ConnectionError> {
    let connection = Arc::new(Connection { peer });
    let (read_half, write_half) = stream.into_split();
    let settings = &broker.config.settings.broker;
    let reader = RequestReader::new(read_half, memory, settings.request_max_bytes, settings.connections_max_idle);
    let (owed, replies) = mpsc::channel(MAX_IN_FLIGHT);
    let reading = read_requests(Arc::clone(&broker), connection, reader, owed, stop);
    let writing = writer::write_replies(write_half, replies, settings.connection_stall);
    tokio::pin!(reading, writing);
    tokio::select! {
        // The reader dropped its end of the queue: what it has started is still answered.
        read = &mut reading => {
            writing.await.map_err(ConnectionError::Write)?;
            read
        }
        written = &mut writing => written.map_err(ConnectionError::Write),
    }
}

async fn read_requests(
    broker: Arc<Broker>,
    connection: Arc<Connection>,
    mut reader: RequestReader,
    owed: mpsc::Sender<Owed>,
    stop: CancellationToken,
) -> Result<(), ConnectionError> {
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
        let started = Box::pin(handlers::start(&broker, &connection, request.frame)).await?;
        record_request(started.api_key, bytes_in);
        slot.send(Owed { api_key: started.api_key, reply: started.reply, received, memory: request.memory });
    }
}

fn record_request(api: ApiKey, bytes: usize) {
    metrics::counter!("firn_requests_total", "api" => api.name()).increment(1);
    metrics::counter!("firn_request_bytes_total", "api" => api.name()).increment(bytes as u64);
}
