//! What one request holds of the broker's memory, from its decoding until its reply is written.

use parking_lot::Mutex;
use protocol::Frame;
use tokio::time::Instant;

use super::{Claim, Held, MEMORY_WAIT, Memory, ReplyMemory, Sender};

/// A parked request that keeps no more than this counts with its connection.
const PARKED_FREE_BYTES: usize = 16 << 10;

/// The memory for a request or its reply is more than there may be, or none came free in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoMemory {
    /// More than one reply may take.
    #[error("its reply would take about {wanted} bytes of memory, one may take {most} (firn.reply.memory.bytes)")]
    TooLarge {
        /// The estimate.
        wanted: usize,
        /// The bound.
        most: usize,
    },
    /// Others hold it.
    #[error("no memory came free for about {wanted} bytes of its reply within {MEMORY_WAIT:?}")]
    Busy {
        /// The estimate.
        wanted: usize,
    },
}

/// A request's claims. Handlers add to them while they work.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    sender: Sender,
    request: Mutex<Claim>,
    reply: Mutex<Option<Held>>,
    parked: Mutex<Option<Held>>,
}

/// What remains claimed until the reply is written.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    request: Claim,
    reply: Option<Held>,
    parked: Option<Held>,
}

impl Claims {
    /// The claims of a request of `sender` that was received under `request`.
    pub(crate) fn new(sender: Sender, request: Claim) -> Self {
        Claims { sender, request: Mutex::new(request), ..Claims::default() }
    }

    /// Makes the claim of the request `bytes` large when that needs no waiting.
    pub(crate) fn try_cover(&self, memory: &Memory, bytes: usize) -> bool {
        memory.requests.of(self.sender).try_cover(&mut self.request.lock(), bytes)
    }

    /// Makes the claim of the request `bytes` large. Nothing but the frame may be held meanwhile.
    pub(crate) async fn cover(&self, memory: &Memory, bytes: usize) {
        let mut claim = std::mem::take(&mut *self.request.lock());
        memory.requests.of(self.sender).cover(&mut claim, bytes).await;
        *self.request.lock() = claim;
    }

    /// Gives back what the request does not need.
    pub(crate) fn shrink(&self, bytes: usize) {
        self.request.lock().shrink(bytes);
    }

    /// Claims memory for a reply of about `bytes`, in memory and encoded, before it is built.
    ///
    /// # Errors
    /// [`NoMemory`]: the reply must not be built.
    pub(crate) async fn claim_reply(&self, memory: &Memory, bytes: usize) -> Result<(), NoMemory> {
        if bytes > memory.answer_max_bytes {
            return Err(NoMemory::TooLarge { wanted: bytes, most: memory.answer_max_bytes });
        }
        let held = memory.answers.take_all(bytes, Instant::now() + MEMORY_WAIT).await;
        *self.reply.lock() = Some(held.ok_or(NoMemory::Busy { wanted: bytes })?);
        Ok(())
    }

    /// The request is dropped, and waits for something; `bytes` is what it keeps. Without memory for that by `deadline` it
    /// must be refused.
    ///
    /// # Errors
    /// [`NoMemory::Busy`].
    pub(crate) async fn park(&self, memory: &Memory, bytes: usize, deadline: Instant) -> Result<(), NoMemory> {
        self.park_in(&memory.parked, bytes, deadline).await
    }

    /// As [`Claims::park`], for a follower.
    ///
    /// # Errors
    /// [`NoMemory::Busy`].
    pub(crate) async fn park_follower(&self, memory: &Memory, bytes: usize, deadline: Instant) -> Result<(), NoMemory> {
        self.park_in(&memory.parked_followers, bytes, deadline).await
    }

    /// The request is dropped and done, and its answer waits for others; `bytes` is what is kept for it. Never waits: without
    /// memory for what is parked, that much stays claimed of what is for requests.
    pub(crate) fn settle(&self, memory: &Memory, bytes: usize) {
        let mut request = self.request.lock();
        if bytes > PARKED_FREE_BYTES {
            let Some(held) = memory.parked.try_take_all(bytes) else { return request.settle(bytes) };
            *self.parked.lock() = Some(held);
        }
        *request = Claim::default();
    }

    async fn park_in(&self, share: &ReplyMemory, bytes: usize, deadline: Instant) -> Result<(), NoMemory> {
        *self.request.lock() = Claim::default();
        if bytes > PARKED_FREE_BYTES {
            let held = share.take_all(bytes, deadline).await;
            *self.parked.lock() = Some(held.ok_or(NoMemory::Busy { wanted: bytes })?);
        }
        Ok(())
    }

    /// What stays claimed for a finished reply: no more than it takes.
    pub(crate) fn for_reply(&self, frame: &Frame) -> Holds {
        let mut holds = self.all();
        holds.request.shrink(frame.len);
        if let Some(reply) = &mut holds.reply {
            reply.shrink(frame.len);
            return Holds { reply: holds.reply, ..Holds::default() };
        }
        if let Some(parked) = &mut holds.parked {
            parked.shrink(frame.len);
        }
        holds
    }

    /// Everything, for a reply that comes later.
    pub(crate) fn all(&self) -> Holds {
        Holds {
            request: std::mem::take(&mut *self.request.lock()),
            reply: self.reply.lock().take(),
            parked: self.parked.lock().take(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const MIB: usize = 1 << 20;

    fn frame(bytes: usize) -> Frame {
        Frame { segments: vec![Bytes::from(vec![0; bytes])], len: bytes }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_is_claimed_before_it_is_built_and_until_it_is_written() {
        let memory = Memory::new(64 * MIB, 64 * MIB);
        let (first, second) = (Claims::default(), Claims::default());
        let too_large = first.claim_reply(&memory, 129 * MIB).await;
        assert_eq!(too_large, Err(NoMemory::TooLarge { wanted: 129 * MIB, most: 128 * MIB }));
        first.claim_reply(&memory, 100 * MIB).await.unwrap();
        let busy = second.claim_reply(&memory, 5 * MIB).await;
        assert_eq!(busy, Err(NoMemory::Busy { wanted: 5 * MIB }), "one reply may be larger than the share");
        let owed = first.for_reply(&frame(2 * MIB));
        second.claim_reply(&memory, 5 * MIB).await.unwrap();
        drop(owed);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_parked_keeps_nobody_from_being_received() {
        let memory = Memory::new(64 * MIB, 64 * MIB);
        let mut parked = Vec::new();
        for _ in 0..3 {
            let claims = Claims::new(Sender::Client, memory.requests.of(Sender::Client).claim_small(1000).await);
            claims.cover(&memory, 10 * MIB).await;
            claims.park(&memory, 4 * MIB, Instant::now()).await.unwrap();
            parked.push(claims);
        }
        let refused = Claims::default().park(&memory, 4 * MIB, Instant::now()).await;
        assert_eq!(refused, Err(NoMemory::Busy { wanted: 4 * MIB }));
        Claims::default().park(&memory, PARKED_FREE_BYTES, Instant::now()).await.unwrap();
        for _ in 0..4 {
            assert!(Claims::default().try_cover(&memory, 40 * MIB), "what is parked claims nothing of requests");
        }
        parked.clear();
        Claims::default().park(&memory, 4 * MIB, Instant::now()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn followers_are_received_and_decoded_while_clients_hold_everything() {
        let memory = Memory::new(64 * MIB, 64 * MIB);
        let mut held = Vec::new();
        for bytes in [16 << 10, 2 * MIB, 40 * MIB, 400 * MIB] {
            for _ in 0..10_000 {
                let claims = Claims::new(Sender::Client, Claim::default());
                let covered = tokio::time::timeout(MEMORY_WAIT, claims.cover(&memory, bytes)).await;
                if covered.is_err() {
                    break;
                }
                held.push(claims);
            }
        }
        let late = memory.requests.of(Sender::Client).claim_small(1000);
        assert!(tokio::time::timeout(MEMORY_WAIT, late).await.is_err(), "clients have nothing left");
        for bytes in [1000, 100 << 10, 3 * MIB, 20 * MIB] {
            let frame = memory.requests.of(Sender::Follower).claim_small(1000).await;
            let claims = Claims::new(Sender::Follower, frame);
            claims.cover(&memory, bytes).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_done_gives_its_memory_back_while_its_answer_waits() {
        let memory = Memory::new(64 * MIB, 64 * MIB);
        let (mut waiting, mut large) = (Vec::new(), Vec::new());
        for _ in 0..10_000 {
            let claims = Claims::new(Sender::Client, memory.requests.of(Sender::Client).claim_small(16 << 10).await);
            claims.settle(&memory, 500);
            waiting.push(claims);
        }
        // More than there is for what is parked: it stays with the requests, as far as it goes, and lets the others exceed.
        for _ in 0..20 {
            let claims = Claims::new(Sender::Client, Claim::default());
            tokio::time::timeout(MEMORY_WAIT, claims.cover(&memory, 50 * MIB))
                .await
                .expect("no request exceeds its share for long");
            claims.settle(&memory, 3 * MIB);
            large.push(claims);
        }
    }
}
