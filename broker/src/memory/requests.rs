//! The memory that requests may take while they are received or handled, over all connections.
//!
//! What is claimed follows what has come, not what was announced: an announcement alone holds nothing. These rules keep a
//! few from starving everybody, and all from waiting for each other:
//!
//! - A *small* request (up to [`SMALL_BYTES`]) is read into its connection's own buffer and claims memory when it is
//!   complete. A share of the memory is kept for small ones: heartbeats and fetches pass however many large requests wait.
//! - A *medium* one (up to [`MEDIUM_BYTES`], what producers send by their defaults) claims all it needs once its beginning
//!   fills the connection's buffer. It has a share of its own, too, and never waits while it holds some.
//! - A *large* one claims in steps, each in proportion to what has come, small ones while memory is short. It may have to
//!   wait while it holds its earlier steps.
//! - So that not all wait like this, one request at a time may *exceed* the memory: it never waits again, and so it ends.
//!   The bound is therefore the memory for requests and one request (`socket.request.max.bytes`).
//!
//! While a request waits, a client that does not send on loses its claim: see `net/reader.rs`.
//!
//! A complete request that decodes into more than its frame asks once for all it will need ([`RequestMemory::cover`]), by
//! the same rules for what it is then; a small frame counts with its connection while it waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Largest request that is read before it claims anything: also the largest buffer of a connection without a claim.
pub(crate) const SMALL_BYTES: usize = 16 << 10;
/// Largest request that claims all it needs at once.
const MEDIUM_BYTES: usize = 2 << 20;
/// One part of so many is kept for small requests, and another one for medium ones.
const KEPT_PARTS: usize = 8;
/// Step of a claim while at least half of the memory is free: most requests take one step.
const AMPLE_STEP_BYTES: usize = 1 << 20;
/// A step makes a claim at most so many times as large as what has come, while memory is ample.
const STEP_FACTOR: usize = 4;
/// Least step of a claim while memory is short.
const SHORT_STEP_BYTES: usize = 256 << 10;
/// While memory is short, a step is one part of so many of what has come: a claim that nobody fills is lost to others.
const SHORT_STEP_PARTS: usize = 4;
const UNIT_BYTES: usize = 1 << 10;

/// Memory for requests of all connections.
#[derive(Debug, Clone)]
pub(crate) struct RequestMemory {
    shared: Arc<Semaphore>,
    shared_units: usize,
    small: Kept,
    medium: Kept,
    exceeding: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// A share that is kept for requests of a size.
#[derive(Debug, Clone)]
struct Kept {
    most_bytes: usize,
    units: Arc<Semaphore>,
}

/// A request's claim; dropping it gives the memory back.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    bytes: usize,
    permit: Option<OwnedSemaphorePermit>,
    /// What the decoded request takes; it may come from another share.
    decoded: Option<OwnedSemaphorePermit>,
    exceeding: Option<OwnedSemaphorePermit>,
}

impl Claim {
    /// Bytes that may be held under it.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back all but `bytes`.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        if bytes >= self.bytes {
            return;
        }
        self.bytes = bytes;
        let mut needed = units(bytes) as usize;
        for permit in [&mut self.permit, &mut self.decoded] {
            let Some(held) = permit else { continue };
            let kept = held.num_permits().min(needed);
            drop(held.split(held.num_permits() - kept));
            needed -= kept;
        }
        if needed == 0 || bytes <= SMALL_BYTES {
            self.exceeding = None;
        }
    }

    /// As [`Claim::shrink`] for a request that is done and waits for its answer, which may take long: it exceeds no more.
    pub(crate) fn settle(&mut self, bytes: usize) {
        self.shrink(bytes);
        self.exceeding = None;
    }
}

impl RequestMemory {
    /// At most `bytes` of requests at a time, and one request.
    pub(crate) fn new(bytes: usize) -> Self {
        let units = (bytes / UNIT_BYTES).clamp(2, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let kept_units = (units / KEPT_PARTS).max(1);
        let shared_units = units.saturating_sub(2 * kept_units).max(1);
        let kept = |most_bytes: usize| Kept {
            most_bytes: most_bytes.min(kept_units * UNIT_BYTES / 2),
            units: Arc::new(Semaphore::new(kept_units)),
        };
        RequestMemory {
            shared: Arc::new(Semaphore::new(shared_units)),
            shared_units,
            small: kept(SMALL_BYTES),
            medium: kept(MEDIUM_BYTES),
            exceeding: Arc::new(Semaphore::new(1)),
            waiting: Arc::default(),
        }
    }

    /// True while a request waits for memory.
    pub(crate) fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Waits until there is room for a complete request of at most [`SMALL_BYTES`].
    pub(crate) async fn claim_small(&self, bytes: usize) -> Claim {
        self.claim_whole(&self.small, bytes).await
    }

    /// Lets `claim` grow for a request of which `come` of `needed` bytes are there, and have filled what it holds.
    pub(crate) async fn extend(&self, claim: &mut Claim, come: usize, needed: usize) {
        if needed <= self.medium.most_bytes {
            *claim = self.claim_whole(&self.medium, needed).await;
        } else {
            self.grow(claim, self.next_step(come, needed)).await;
        }
    }

    async fn claim_whole(&self, kept: &Kept, bytes: usize) -> Claim {
        let units = units(bytes);
        if let Ok(permit) = Arc::clone(&kept.units).try_acquire_many_owned(units) {
            return Claim { bytes, permit: Some(permit), ..Claim::default() };
        }
        let _waiting = Waiting::begin(&self.waiting);
        let permit = tokio::select! {
            permit = Arc::clone(&kept.units).acquire_many_owned(units) => permit.ok(),
            permit = Arc::clone(&self.shared).acquire_many_owned(units) => permit.ok(),
        };
        Claim { bytes, permit, ..Claim::default() }
    }

    /// Makes the claim of a complete request `bytes` large, if that needs no waiting.
    pub(crate) fn try_cover(&self, claim: &mut Claim, bytes: usize) -> bool {
        if bytes > claim.bytes && claim.exceeding.is_none() {
            let more = units(bytes - claim.bytes);
            let kept = self.kept_for(bytes).and_then(|kept| Arc::clone(&kept.units).try_acquire_many_owned(more).ok());
            let permit = kept.or_else(|| Arc::clone(&self.shared).try_acquire_many_owned(more).ok());
            let Some(permit) = permit else { return false };
            claim.decoded = Some(permit);
        }
        claim.bytes = claim.bytes.max(bytes);
        true
    }

    /// Waits until the claim of a complete request may be `bytes` large. One at a time may exceed the memory, so that not
    /// all wait for each other.
    pub(crate) async fn cover(&self, claim: &mut Claim, bytes: usize) {
        if claim.decoded.take().is_some() {
            claim.bytes = claim.permit.as_ref().map_or(0, |permit| permit.num_permits() * UNIT_BYTES);
        }
        if self.try_cover(claim, bytes) {
            return;
        }
        if claim.bytes <= SMALL_BYTES {
            *claim = Claim::default();
        }
        let _waiting = Waiting::begin(&self.waiting);
        let more = units(bytes - claim.bytes);
        let can_fit = (more as usize) < self.shared_units;
        let kept = self.kept_for(bytes).map(|kept| Arc::clone(&kept.units));
        let has_kept = kept.is_some();
        let from_kept = kept.unwrap_or_else(|| Arc::clone(&self.shared)).acquire_many_owned(more);
        tokio::select! {
            biased;
            Ok(permit) = from_kept, if has_kept => claim.decoded = Some(permit),
            Ok(permit) = Arc::clone(&self.shared).acquire_many_owned(more), if can_fit => claim.decoded = Some(permit),
            Ok(permit) = Arc::clone(&self.exceeding).acquire_owned() => claim.exceeding = Some(permit),
            // The semaphores are never closed.
            else => {}
        }
        claim.bytes = bytes;
    }

    /// The share that is kept for requests of that size.
    fn kept_for(&self, bytes: usize) -> Option<&Kept> {
        [&self.small, &self.medium].into_iter().find(|kept| bytes <= kept.most_bytes)
    }

    /// Up to where a claim should grow when `come` of `needed` bytes are there.
    fn next_step(&self, come: usize, needed: usize) -> usize {
        let is_ample = self.shared.available_permits() > self.shared_units / 2;
        let step = if is_ample {
            come.saturating_mul(STEP_FACTOR).max(AMPLE_STEP_BYTES)
        } else {
            come.saturating_add((come / SHORT_STEP_PARTS).max(SHORT_STEP_BYTES))
        };
        step.min(needed)
    }

    /// Waits until `claim` may hold `to_bytes`. What it holds already stays claimed meanwhile.
    async fn grow(&self, claim: &mut Claim, to_bytes: usize) {
        let more = units(to_bytes.saturating_sub(claim.bytes));
        if claim.exceeding.is_none() && to_bytes > claim.bytes {
            if let Ok(permit) = Arc::clone(&self.shared).try_acquire_many_owned(more) {
                claim.merge(permit);
            } else {
                self.wait_to_grow(claim, to_bytes, more).await;
            }
        }
        claim.bytes = claim.bytes.max(to_bytes);
    }

    async fn wait_to_grow(&self, claim: &mut Claim, to_bytes: usize, more: u32) {
        let _waiting = Waiting::begin(&self.waiting);
        // What can never fit must not stand at the head of the queue.
        let can_fit = to_bytes / UNIT_BYTES < self.shared_units;
        tokio::select! {
            biased;
            Ok(permit) = Arc::clone(&self.shared).acquire_many_owned(more), if can_fit => claim.merge(permit),
            Ok(permit) = Arc::clone(&self.exceeding).acquire_owned() => claim.exceeding = Some(permit),
            // The semaphores are never closed.
            else => {}
        }
    }
}

impl Claim {
    fn merge(&mut self, more: OwnedSemaphorePermit) {
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

/// Counts one who waits, until dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
