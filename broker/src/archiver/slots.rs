//! A bound on passes that run side by side, which knows whether more of them wait.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The slots, and how many passes wait for one.
#[derive(Debug)]
pub(super) struct Slots {
    free: Semaphore,
    waiting: AtomicUsize,
}

impl Slots {
    pub(super) fn new(count: usize) -> Self {
        Slots { free: Semaphore::new(count), waiting: AtomicUsize::new(0) }
    }

    /// Waits for a slot. A call that is dropped midway counts as waiting for good: only a shutdown does that.
    pub(super) async fn take(&self) -> Option<SemaphorePermit<'_>> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let slot = self.free.acquire().await.ok();
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        slot
    }

    /// True while another pass waits for a slot.
    pub(super) fn are_awaited(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn slots_that_are_all_taken_are_awaited_only_by_a_pass_that_waits() {
        let slots = Arc::new(Slots::new(1));
        let held = slots.take().await;
        assert!(!slots.are_awaited());
        let waits = Arc::clone(&slots);
        let other = tokio::spawn(async move { waits.take().await.is_some() });
        while !slots.are_awaited() {
            tokio::task::yield_now().await;
        }
        drop(held);
        assert!(other.await.unwrap());
        assert!(!slots.are_awaited());
    }
}
