//! Writes replies in the order of their requests; records go out from where they lie, without a copy.
//!
//! A client may be slow, but not dead: in every stall timeout (`firn.connection.stall.ms`) it must take [`STALL_BYTES`] of a
//! reply or the rest of it, or the connection is closed and the memory of its replies is free.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use protocol::{ApiKey, Frame};
use tokio::io::AsyncWriteExt;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout_at;

use super::connection::ConnectionError;
use crate::handlers::Reply;
use crate::machine::sockets::OwnedWriteHalf;
use crate::memory::Holds;

/// What a client must take of a reply in one stall timeout.
const STALL_BYTES: usize = 64 << 10;
/// Segments that one system call is given.
const MAX_SLICES: usize = 64;

/// A reply that a connection owes, with what its request holds until it is written.
#[derive(Debug)]
pub(super) struct Owed {
    pub(super) api_key: ApiKey,
    pub(super) reply: Reply,
    pub(super) received: Instant,
    pub(super) holds: Holds,
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// Awaits and writes every reply of the queue, until the queue is closed and empty.
pub(super) async fn write_replies(
    mut stream: OwnedWriteHalf,
    mut replies: mpsc::Receiver<Owed>,
    stall: Duration,
) -> Result<(), ConnectionError> {
    while let Some(owed) = replies.recv().await {
        let (frame, held) = match owed.reply {
            Reply::Now(frame) => (frame, None),
            Reply::Held(frame, held) => (frame, Some(held)),
            Reply::Later(pending) => (pending.await?, None),
            Reply::Nothing => (Frame::default(), None),
        };
        let bytes = frame.len;
        if bytes > 0 {
            write_all(&mut stream, frame.segments, stall).await?;
        }
        drop((owed.holds, owed.room, held));
        metrics::counter!("firn_response_bytes_total", "api" => owed.api_key.name()).increment(bytes as u64);
        metrics::histogram!("firn_request_seconds", "api" => owed.api_key.name()).record(owed.received.elapsed());
    }
    Ok(stream.shutdown().await?)
}

async fn write_all(stream: &mut OwnedWriteHalf, segments: Vec<Bytes>, stall: Duration) -> std::io::Result<()> {
    let mut left: VecDeque<Bytes> = segments.into();
    let mut window = tokio::time::Instant::now() + stall;
    let mut taken = 0;
    while !left.is_empty() {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = left.len().min(MAX_SLICES);
        for (slot, segment) in slices.iter_mut().zip(&left) {
            *slot = IoSlice::new(segment);
        }
        let wrote = timeout_at(window, stream.write_vectored(&slices[..count])).await;
        let mut written =
            wrote.map_err(|_| std::io::Error::new(std::io::ErrorKind::TimedOut, "the client does not read"))??;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        taken += written;
        if taken >= STALL_BYTES {
            window = tokio::time::Instant::now() + stall;
            taken = 0;
        }
        while let Some(first) = left.front_mut() {
            if written < first.len() {
                first.advance(written);
                break;
            }
            written -= first.len();
            left.pop_front();
        }
    }
    Ok(())
}
