//! Cuts the byte stream of a client into requests, each with a claim on the memory for requests.
//!
//! A connection without a request under way holds no buffer. A client may take its time as long as nobody needs the
//! memory; when somebody waits for it, a large request must go on coming: at least one part of [`STALL_PARTS`] of it in
//! every [`STALL_WINDOW`], or its connection is closed.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use protocol::frame::{FrameError, FrameSplitter};
use tokio::time::Instant;

use crate::machine::sockets::{self, OwnedReadHalf};
use crate::memory::{Claim, Claims, RequestShares, SMALL_BYTES, Sender};
use crate::replication::is_follower;

const LENGTH_BYTES: usize = 4;
/// How often a large request's progress is looked at.
const STALL_WINDOW: Duration = Duration::from_secs(3);
/// While memory is short, each window must bring one part of so many of a large request.
const STALL_PARTS: usize = 48;

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
    /// A request came too slowly while others waited for its memory.
    #[error("{got} of {needed} bytes of a request came, the rest too slowly while others wait for the memory")]
    Stalled {
        /// Bytes that came.
        got: usize,
        /// Bytes that were announced.
        needed: usize,
    },
    /// The socket failed.
    #[error("cannot read: {0}")]
    Io(#[from] std::io::Error),
}

impl ReadError {
    /// True when the client sent what no client should.
    pub(super) fn is_clients_fault(&self) -> bool {
        matches!(self, ReadError::Frame(_) | ReadError::Cut { .. } | ReadError::Stalled { .. })
    }
}

/// One request as it came, without its length.
#[derive(Debug)]
pub(super) struct RequestFrame {
    pub(super) frame: Bytes,
    pub(super) claims: Claims,
}

/// Reads requests one after the other.
#[derive(Debug)]
pub(super) struct RequestReader {
    stream: OwnedReadHalf,
    buffer: BytesMut,
    memory: RequestShares,
    splitter: FrameSplitter,
    max_idle: Duration,
    silent_since: Instant,
}

impl RequestReader {
    pub(super) fn new(stream: OwnedReadHalf, memory: RequestShares, max_bytes: usize, max_idle: Duration) -> Self {
        let (buffer, splitter) = (BytesMut::new(), FrameSplitter::new(max_bytes));
        RequestReader { stream, buffer, memory, splitter, max_idle, silent_since: Instant::now() }
    }

    /// The next request, or `None` when the client closed the connection between two requests.
    ///
    /// Safe to drop at any await: bytes that were read stay in the buffer.
    pub(super) async fn next(&mut self) -> Result<Option<RequestFrame>, ReadError> {
        self.silent_since = Instant::now();
        while self.buffer.len() < LENGTH_BYTES {
            if !self.fill(SMALL_BYTES).await? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(self.cut(LENGTH_BYTES)) };
            }
        }
        let needed = LENGTH_BYTES + self.splitter.announced(&self.buffer)?.unwrap_or(0);
        if needed > SMALL_BYTES {
            let claims = self.receive_large(needed).await?;
            let frame = self.splitter.next_frame(&mut self.buffer)?;
            return Ok(frame.map(|frame| RequestFrame { frame, claims }));
        }
        while self.buffer.len() < needed {
            if !self.fill(SMALL_BYTES).await? {
                return Err(self.cut(needed));
            }
        }
        let sender = sender(&self.buffer[LENGTH_BYTES..needed]);
        let claim = self.memory.of(sender).claim_small(needed).await;
        // A copy, so that a request that is parked does not keep the whole buffer.
        let frame = Bytes::copy_from_slice(&self.buffer[LENGTH_BYTES..needed]);
        self.buffer.advance(needed);
        Ok(Some(RequestFrame { frame, claims: Claims::new(sender, claim) }))
    }

    /// Receives the rest of a large request; the claim grows ahead of what has come.
    async fn receive_large(&mut self, needed: usize) -> Result<Claims, ReadError> {
        let (mut claim, mut from) = (Claim::default(), Sender::Client);
        let mut window = Window { ends: Instant::now() + STALL_WINDOW, from: self.buffer.len() };
        while self.buffer.len() < needed {
            let came = self.buffer.len();
            if came >= claim.bytes().max(SMALL_BYTES) {
                // The name of a client lies at the beginning, which has come.
                from = sender(&self.buffer[LENGTH_BYTES..]);
                self.memory.of(from).extend(&mut claim, came, needed).await;
                // The wait was ours, not the client's.
                self.silent_since = Instant::now();
                window = Window { ends: Instant::now() + STALL_WINDOW, from: came };
            }
            let room = claim.bytes().max(SMALL_BYTES);
            let filled = tokio::time::timeout_at(window.ends, self.fill(room)).await;
            // A window that ends without a byte is looked at below.
            let is_open = filled.unwrap_or(Ok(true))?;
            if !is_open {
                return Err(self.cut(needed));
            }
            if Instant::now() >= window.ends {
                self.check_progress(&window, (&claim, from), needed)?;
                window = Window { ends: Instant::now() + STALL_WINDOW, from: self.buffer.len() };
            }
        }
        Ok(Claims::new(from, claim))
    }

    fn check_progress(&self, window: &Window, held: (&Claim, Sender), needed: usize) -> Result<(), ReadError> {
        let is_slow = self.buffer.len() - window.from < needed / STALL_PARTS;
        if is_slow && held.0.bytes() > 0 && self.memory.of(held.1).is_short() {
            return Err(ReadError::Stalled { got: self.buffer.len(), needed });
        }
        Ok(())
    }

    fn cut(&self, needed: usize) -> ReadError {
        ReadError::Cut { got: self.buffer.len(), needed }
    }

    /// Reads some bytes, up to `room` in the buffer; `false` at the end of the stream.
    async fn fill(&mut self, room: usize) -> Result<bool, ReadError> {
        if self.buffer.is_empty() {
            // A silent connection holds no memory.
            self.buffer = BytesMut::new();
        }
        loop {
            let something = sockets::readable(&mut self.stream);
            match tokio::time::timeout_at(self.silent_since + self.max_idle, something).await {
                Ok(ready) => ready?,
                Err(_) => return Err(ReadError::Idle(self.max_idle)),
            }
            self.make_room(room);
            if let Some(count) = sockets::try_read(&mut self.stream, &mut self.buffer)? {
                self.silent_since = Instant::now();
                return Ok(count > 0);
            }
        }
    }

    /// Makes the buffer exactly `room` bytes large, and never leaves it full.
    fn make_room(&mut self, room: usize) {
        let room = room.max(self.buffer.len() + 1);
        if self.buffer.capacity() < room {
            let mut larger = BytesMut::with_capacity(room);
            larger.extend_from_slice(&self.buffer);
            self.buffer = larger;
        }
    }
}

/// Who sends the request that begins so: API, version and correlation id (8 bytes), then the name of the client.
///
/// A client may call itself as followers do, as it may fetch in the name of one.
fn sender(request: &[u8]) -> Sender {
    let name = request.get(8..).and_then(|rest| {
        let (len, rest) = rest.split_first_chunk::<2>()?;
        rest.get(..usize::try_from(i16::from_be_bytes(*len)).ok()?)
    });
    let is_followers = name.and_then(|name| std::str::from_utf8(name).ok()).is_some_and(is_follower);
    if is_followers { Sender::Follower } else { Sender::Client }
}

/// A time in which a large request must progress.
struct Window {
    ends: Instant,
    from: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::follower_name;

    #[test]
    fn a_follower_is_known_by_its_name() {
        let request = |name: &str| {
            let len = i16::try_from(name.len()).unwrap().to_be_bytes();
            [&[0, 1, 0, 17, 0, 0, 0, 9][..], &len, name.as_bytes(), b"the rest"].concat()
        };
        assert_eq!(sender(&request(&follower_name(3, 12))), Sender::Follower);
        for name in ["", "consumer-1", "broker-3", "broker-x-fetcher-1", "broker-1-fetcher-", "broker-1-mending"] {
            assert_eq!(sender(&request(name)), Sender::Client, "{name}");
        }
        let whole = request(&follower_name(3, 12));
        for cut in 0..whole.len() - 8 {
            assert_eq!(sender(&whole[..cut]), Sender::Client, "cut at {cut}");
        }
        assert_eq!(sender(&[0, 1, 0, 17, 0, 0, 0, 9, 0xff, 0xff, 0, 0]), Sender::Client, "no name");
    }
}
