//! Writes replies in the order of their requests; records go out from where they lie, without a copy.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use protocol::{ApiKey, Frame};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::handlers::Reply;

/// Segments that one system call is given.
const MAX_SLICES: usize = 64;

/// A reply that a connection owes, with what its request holds until it is written.
#[derive(Debug)]
pub(super) struct Owed {
    pub(super) api_key: ApiKey,
    pub(super) reply: Reply,
    pub(super) received: Instant,
    pub(super) memory: OwnedSemaphorePermit,
}

/// Awaits and writes every reply of the queue, until the queue is closed and empty.
pub(super) async fn write_replies(
    mut stream: OwnedWriteHalf,
    mut replies: mpsc::Receiver<Owed>,
    timeout: Duration,
) -> std::io::Result<()> {
    while let Some(owed) = replies.recv().await {
        let frame = match owed.reply {
            Reply::Now(frame) => frame,
            Reply::Later(pending) => pending.await,
            Reply::Nothing => Frame::default(),
        };
        let bytes = frame.len;
        if bytes > 0 {
            let written = tokio::time::timeout(timeout, write_all(&mut stream, frame.segments)).await;
            written.map_err(|_| std::io::Error::new(std::io::ErrorKind::TimedOut, "the client does not read"))??;
        }
        drop(owed.memory);
        metrics::counter!("firn_response_bytes_total", "api" => owed.api_key.name()).increment(bytes as u64);
        metrics::histogram!("firn_request_seconds", "api" => owed.api_key.name()).record(owed.received.elapsed());
    }
    stream.shutdown().await
}

async fn write_all(stream: &mut OwnedWriteHalf, segments: Vec<Bytes>) -> std::io::Result<()> {
    let mut left: VecDeque<Bytes> = segments.into();
    while !left.is_empty() {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = left.len().min(MAX_SLICES);
        for (slot, segment) in slices.iter_mut().zip(&left) {
            *slot = IoSlice::new(segment);
        }
        let mut written = stream.write_vectored(&slices[..count]).await?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
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
