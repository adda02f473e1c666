//! Cuts the byte stream of a client into requests, each with a claim on the memory for requests.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use protocol::frame::{FrameError, FrameSplitter};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::OwnedSemaphorePermit;

use super::memory::RequestMemory;

/// What is read at least at once.
const READ_CHUNK_BYTES: usize = 16 << 10;
const LENGTH_BYTES: usize = 4;

/// Why a connection's bytes cannot be read as requests.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The length in front of a request is impossible.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// The connection ended in the middle of a request.
    #[error("the connection ended after {got} of {needed} bytes of a request")]
    Cut {
        /// Bytes that came.
        got: usize,
        /// Bytes that were announced.
        needed: usize,
    },
    /// Nothing came for `connections.max.idle.ms`.
    #[error("no byte came for {0:?}")]
    Idle(Duration),
    /// The socket failed.
    #[error("cannot read: {0}")]
    Io(#[from] std::io::Error),
    /// The broker is going down.
    #[error("the broker is stopping")]
    Stopping,
}

impl ReadError {
    /// True when the client sent what no client should.
    pub(super) fn is_clients_fault(&self) -> bool {
        matches!(self, ReadError::Frame(_) | ReadError::Cut { .. })
    }
}

/// One request as it came, without its length.
#[derive(Debug)]
pub(super) struct RequestFrame {
    pub(super) frame: Bytes,
    pub(super) memory: OwnedSemaphorePermit,
}

/// Reads requests one after the other.
#[derive(Debug)]
pub(super) struct RequestReader {
    stream: OwnedReadHalf,
    buffer: BytesMut,
    memory: RequestMemory,
    splitter: FrameSplitter,
    max_idle: Duration,
}

impl RequestReader {
    pub(super) fn new(stream: OwnedReadHalf, memory: RequestMemory, max_bytes: usize, max_idle: Duration) -> Self {
        RequestReader { stream, buffer: BytesMut::new(), memory, splitter: FrameSplitter::new(max_bytes), max_idle }
    }

    /// The next request, or `None` when the client closed the connection between two requests.
    ///
    /// Safe to drop at any await: bytes that were read stay in the buffer.
    pub(super) async fn next(&mut self) -> Result<Option<RequestFrame>, ReadError> {
        while self.buffer.len() < LENGTH_BYTES {
            if !self.fill().await? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(self.cut(LENGTH_BYTES)) };
            }
        }
        // The claim on memory comes before the bytes.
        let needed = LENGTH_BYTES + self.splitter.announced(&self.buffer)?.unwrap_or(0);
        let memory = self.memory.reserve(needed).await.ok_or(ReadError::Stopping)?;
        loop {
            if let Some(frame) = self.splitter.next_frame(&mut self.buffer)? {
                return Ok(Some(RequestFrame { frame, memory }));
            }
            if !self.fill().await? {
                return Err(self.cut(needed));
            }
        }
    }

    fn cut(&self, needed: usize) -> ReadError {
        ReadError::Cut { got: self.buffer.len(), needed }
    }

    /// Reads some bytes; `false` at the end of the stream.
    async fn fill(&mut self) -> Result<bool, ReadError> {
        let missing = self.splitter.missing_bytes(&self.buffer)?.max(READ_CHUNK_BYTES);
        self.buffer.reserve(missing);
        match tokio::time::timeout(self.max_idle, self.stream.read_buf(&mut self.buffer)).await {
            Ok(read) => Ok(read? > 0),
            Err(_) => Err(ReadError::Idle(self.max_idle)),
        }
    }
}
