//! One share of the memory for replies, from before they are built until they are written, over all connections.
//!
//! A reply of known size takes all it needs or waits in line ([`ReplyMemory::take_all`]). A fetch asks before it reads
//! ([`ReplyMemory::take`]). While memory is plentiful it gets what the client asked for; the less is left, the
//! smaller the replies become: each may take a part of what is free, so that many slow readers never hold all of it. A
//! batch that is larger than what was granted is only kept when there is room for it; else the fetch waits in line,
//! holding nothing, and reads again. A share is kept for small replies, so that they pass while large batches wait.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// A fetch may take one part of so many of what is free.
const FREE_PARTS: usize = 8;
/// What a fetch is granted at least, if it wants as much.
const LEAST_BYTES: usize = 64 << 10;
/// Replies of up to this size may use the share that is kept for small ones.
const SMALL_BYTES: usize = 1 << 20;
/// One part of so many is kept for small replies.
const SMALL_SHARE: usize = 8;
const UNIT_BYTES: usize = 1 << 10;

/// Memory for replies of all connections.
#[derive(Debug)]
pub(crate) struct ReplyMemory {
    shared: Arc<Semaphore>,
    shared_units: u32,
    small: Arc<Semaphore>,
}

/// What a reply holds; dropping it gives the memory back.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: usize,
    permit: OwnedSemaphorePermit,
}

impl ReplyMemory {
    /// At most `bytes` of replies at a time.
    pub(crate) fn new(bytes: usize) -> Self {
        let small_units = units((bytes / SMALL_SHARE).max(SMALL_BYTES));
        let shared_units = units(bytes).saturating_sub(small_units).max(1);
        ReplyMemory {
            shared: Arc::new(Semaphore::new(shared_units as usize)),
            shared_units,
            small: Arc::new(Semaphore::new(small_units as usize)),
        }
    }

    /// Room for a reply of `wanted` bytes, or for less when memory is short; waits until `deadline` when it is gone.
    pub(crate) async fn take(&self, wanted: usize, deadline: Instant) -> Option<Held> {
        let least = wanted.min(LEAST_BYTES);
        let share = wanted.min(self.shared.available_permits() * UNIT_BYTES / FREE_PARTS);
        if share >= least
            && let Ok(permit) = Arc::clone(&self.shared).try_acquire_many_owned(units(share))
        {
            return Some(Held { bytes: share, permit });
        }
        self.take_all(least, deadline).await
    }

    /// Room for exactly `bytes`; a reply larger than everything takes everything.
    pub(crate) async fn take_all(&self, bytes: usize, deadline: Instant) -> Option<Held> {
        let units = units(bytes).min(self.shared_units);
        let small = Arc::clone(&self.small);
        let waiting = async {
            tokio::select! {
                biased;
                permit = small.acquire_many_owned(units), if bytes <= SMALL_BYTES => permit,
                permit = Arc::clone(&self.shared).acquire_many_owned(units) => permit,
            }
        };
        let permit = timeout_at(deadline, waiting).await.ok()?.ok()?;
        Some(Held { bytes, permit })
    }
}

impl ReplyMemory {
    /// As [`ReplyMemory::take_all`], if that needs no waiting.
    pub(crate) fn try_take_all(&self, bytes: usize) -> Option<Held> {
        let units = units(bytes).min(self.shared_units);
        let small =
            (bytes <= SMALL_BYTES).then(|| Arc::clone(&self.small).try_acquire_many_owned(units).ok()).flatten();
        let permit = small.or_else(|| Arc::clone(&self.shared).try_acquire_many_owned(units).ok())?;
        Some(Held { bytes, permit })
    }
}

impl Held {
    /// Bytes that the reply may have.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back all but `bytes`.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        if bytes < self.bytes {
            self.fit(bytes);
        }
    }

    /// Holds `bytes`, no more and no less. False, and as before, when there is no room for that.
    pub(crate) fn fit(&mut self, bytes: usize) -> bool {
        let (has, wants) = (self.permit.num_permits(), units(bytes) as usize);
        if wants <= has {
            drop(self.permit.split(has - wants));
        } else if bytes > self.bytes {
            let more = u32::try_from(wants - has).unwrap_or(u32::MAX);
            let Ok(more) = Arc::clone(self.permit.semaphore()).try_acquire_many_owned(more) else { return false };
            self.permit.merge(more);
        }
        self.bytes = bytes;
        true
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX >> 4).clamp(1, u32::MAX >> 4)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MIB: usize = 1 << 20;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(50)
    }

    #[tokio::test]
    async fn slow_readers_never_hold_everything() {
        let memory = ReplyMemory::new(256 * MIB);
        let mut held = Vec::new();
        for _ in 0..300 {
            held.push(memory.take(50 * MIB, soon()).await.expect("there is always a little"));
        }
        assert_eq!(held[0].bytes(), 28 * MIB);
        assert!(held.iter().map(Held::bytes).sum::<usize>() <= 256 * MIB);
        assert!(held[299].bytes() >= LEAST_BYTES);
    }

    #[tokio::test]
    async fn a_batch_that_has_no_room_waits_for_it() {
        let memory = ReplyMemory::new(64 * MIB);
        let mut first = memory.take(50 * MIB, soon()).await.expect("free");
        assert!(first.fit(40 * MIB), "there is room");
        let mut second = memory.take(50 * MIB, soon()).await.expect("free");
        assert!(!second.fit(40 * MIB), "there is none");
        drop(second);
        assert!(memory.take_all(40 * MIB, soon()).await.is_none());
        assert!(memory.take_all(MIB, soon()).await.is_some(), "small ones pass");
        drop(first);
        assert!(memory.take_all(40 * MIB, soon()).await.is_some());
    }

    #[tokio::test]
    async fn what_is_not_needed_is_given_back() {
        let memory = ReplyMemory::new(64 * MIB);
        let all = memory.shared.available_permits();
        let mut held = memory.take(50 * MIB, soon()).await.expect("free");
        assert!(held.fit(0));
        assert_eq!(memory.shared.available_permits(), all - 1);
        assert!(held.fit(2 * MIB));
        assert_eq!(memory.shared.available_permits(), all - 2048);
        drop(held);
        assert_eq!(memory.shared.available_permits(), all);
    }

    #[tokio::test]
    async fn a_reply_larger_than_the_memory_takes_all_of_it() {
        let memory = ReplyMemory::new(4 * MIB);
        let mut held = memory.take_all(30 * MIB, soon()).await.expect("free");
        assert!(held.fit(30 * MIB));
        assert_eq!(memory.shared.available_permits(), 0);
    }
}
