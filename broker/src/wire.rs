//! The asking side of a Kafka listener: a request, then its answer, never two at a time. Followers ask their leaders so, and
//! the command line its brokers.
//!
//! Which version both sides speak is the caller's to know. After any error the stream's state is unknown, and whoever drops
//! a call midway has to drop the connection too.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use protocol::frame::{self, FrameError, FrameSplitter};
use protocol::{ApiKey, DecodeError, EncodeError, Message, Reader, Request, Str};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use crate::machine::sockets::TcpStream;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection came about, or it broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Nothing came in time.
    #[error("no answer to {api} in time")]
    TimedOut {
        /// To which request.
        api: ApiKey,
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
    #[error("it belongs to request {answered}, not to {asked}")]
    OutOfStep {
        /// What we sent.
        asked: i32,
        /// What came.
        answered: i32,
    },
}

impl CallError {
    /// True when the answer arrived but is of no use, or never ended: something in it may be at fault. False where the
    /// connection failed.
    pub(crate) fn may_lie_in_one_partition(&self) -> bool {
        matches!(self, CallError::TimedOut { .. } | CallError::Frame(_) | CallError::Decode(_))
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
    splitter: FrameSplitter,
    client_id: Str,
    correlation_id: i32,
}

impl Connection {
    /// Connects, `within` that time; answers of more than `max_frame_bytes` break the connection.
    ///
    /// # Errors
    /// Those of connecting.
    pub async fn open(
        address: (&str, u16),
        within: Duration,
        client_id: Str,
        max_frame_bytes: usize,
    ) -> io::Result<Self> {
        let slow = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
        let stream = timeout(within, TcpStream::connect(address)).await.map_err(|_| slow())??;
        stream.set_nodelay(true)?;
        let splitter = FrameSplitter::new(max_frame_bytes);
        Ok(Connection { stream, buffer: BytesMut::new(), splitter, client_id, correlation_id: 0 })
    }

    /// Sends a request and reads its answer, until `deadline`.
    ///
    /// # Errors
    /// [`CallError`]: drop the connection then.
    pub async fn call<R: Request>(
        &mut self,
        request: &R,
        version: i16,
        deadline: Instant,
    ) -> Result<R::Response, CallError> {
        let mut body = self.exchange(request, version, deadline).await?;
        Ok(R::Response::decode(&mut body, version)?)
    }

    /// As [`Connection::call`], with the answer's body as it came.
    ///
    /// # Errors
    /// As [`Connection::call`].
    pub async fn exchange<R: Request>(
        &mut self,
        request: &R,
        version: i16,
        deadline: Instant,
    ) -> Result<Reader, CallError> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let (asked, client_id) = (self.correlation_id, Some(self.client_id.clone()));
        let outgoing = frame::request(request, version, asked, client_id)?;
        let exchange = async {
            for segment in &outgoing.segments {
                self.stream.write_all(segment).await?;
            }
            self.receive().await
        };
        let answer = timeout_at(deadline, exchange).await.map_err(|_| CallError::TimedOut { api: R::KEY })??;
        let (answered, body) = frame::open_response(R::KEY, version, answer)?;
        if answered == asked { Ok(body) } else { Err(CallError::OutOfStep { asked, answered }) }
    }

    async fn receive(&mut self) -> Result<Bytes, CallError> {
        loop {
            if let Some(frame) = self.splitter.next_frame(&mut self.buffer)? {
                return Ok(frame);
            }
            let missing = self.splitter.missing_bytes(&self.buffer)?;
            self.buffer.reserve(missing.max(8 << 10));
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the broker closed the connection").into());
            }
        }
    }
}
