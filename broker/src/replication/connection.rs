//! A connection to the leader's Kafka listener: a request, then its answer, never two at a time.
//!
//! Brokers of one cluster speak the same versions: there is no negotiation. After any error the stream's state is unknown,
//! and whoever drops a call midway has to drop the connection too.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use protocol::frame::{self, FrameError, FrameSplitter};
use protocol::{ApiKey, DecodeError, EncodeError, Message, Request, Str};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::HostPort;

/// How long one address may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// No connection came about, or it broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Nothing came in time.
    #[error("no answer to {api} within {waited:?}")]
    TimedOut {
        /// To which request.
        api: ApiKey,
        /// How long it had.
        waited: Duration,
    },
    /// Not Kafka's protocol, or more than we take.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// An answer that cannot be read.
    #[error("an answer that cannot be read: {0}")]
    Decode(#[from] DecodeError),
    /// A request that cannot be written.
    #[error("a request that cannot be written: {0}")]
    Encode(#[from] EncodeError),
    /// The answer belongs to another request.
    #[error("an answer to request {answered} where {asked} was asked")]
    OutOfStep {
        /// What we sent.
        asked: i32,
        /// What came.
        answered: i32,
    },
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
    splitter: FrameSplitter,
    client_id: Str,
    correlation_id: i32,
}

impl Connection {
    /// Connects; answers of more than `max_frame_bytes` break the connection.
    ///
    /// # Errors
    /// Those of connecting.
    pub(super) async fn open(address: &HostPort, client_id: Str, max_frame_bytes: usize) -> Result<Self, CallError> {
        let connecting = TcpStream::connect((address.host.as_str(), address.port));
        let slow = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
        let stream = timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| slow())??;
        stream.set_nodelay(true)?;
        let splitter = FrameSplitter::new(max_frame_bytes);
        Ok(Connection { stream, buffer: BytesMut::new(), splitter, client_id, correlation_id: 0 })
    }

    /// Sends a request and reads its answer, within `patience`.
    ///
    /// # Errors
    /// [`CallError`]: drop the connection then.
    pub(super) async fn call<R: Request>(
        &mut self,
        request: &R,
        version: i16,
        patience: Duration,
    ) -> Result<R::Response, CallError> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let (asked, client_id) = (self.correlation_id, Some(self.client_id.clone()));
        let outgoing = frame::request(request, version, asked, client_id)?;
        let exchange = async {
            for segment in &outgoing.segments {
                self.stream.write_all(segment).await?;
            }
            self.receive().await
        };
        let received = timeout(patience, exchange).await;
        let answer = received.map_err(|_| CallError::TimedOut { api: R::KEY, waited: patience })??;
        let (answered, mut body) = frame::open_response(R::KEY, version, answer)?;
        if answered != asked {
            return Err(CallError::OutOfStep { asked, answered });
        }
        Ok(R::Response::decode(&mut body, version)?)
    }

    async fn receive(&mut self) -> Result<Bytes, CallError> {
        loop {
            if let Some(frame) = self.splitter.next_frame(&mut self.buffer)? {
                return Ok(frame);
            }
            let missing = self.splitter.missing_bytes(&self.buffer)?;
            self.buffer.reserve(missing.max(8 << 10));
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the leader closed the connection").into());
            }
        }
    }
}
