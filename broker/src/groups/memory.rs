//! The memory that all groups of this broker may keep, over all partitions of `__consumer_offsets`.
//!
//! Each shard holds one [`GroupShare`] with what its groups weigh. A request that would make a group heavier gets its bytes
//! first, or is refused; what comes from the log when a partition is taken over always counts, since it is there. While
//! more is held than there is, nothing grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tracing::warn;

/// One part of so many of the memory is what member ids may take that were handed out and not used.
const PENDING_PARTS: usize = 8;
/// What such ids of one partition of the offsets topic may take at least.
const PENDING_LEAST_BYTES: usize = 64 << 10;

/// See the head of this file. Cheap to share.
#[derive(Debug, Clone)]
pub(crate) struct GroupMemory(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
    has_warned: AtomicBool,
}

/// What one shard holds; dropping it gives the memory back.
#[derive(Debug)]
pub(super) struct GroupShare {
    pool: Arc<Pool>,
    bytes: usize,
}

impl GroupMemory {
    /// At most `limit_bytes`.
    pub(crate) fn new(limit_bytes: usize) -> Self {
        let (used_bytes, has_warned) = (AtomicUsize::new(0), AtomicBool::new(false));
        GroupMemory(Arc::new(Pool { limit_bytes, used_bytes, has_warned }))
    }

    /// What all groups take, in bytes.
    pub(crate) fn used_bytes(&self) -> usize {
        self.0.used_bytes.load(Ordering::Relaxed)
    }

    /// What unused member ids of one of so many partitions may take.
    pub(super) fn pending_bytes(&self, partitions: i32) -> usize {
        let partitions = usize::try_from(partitions).unwrap_or(1).max(1);
        (self.0.limit_bytes / PENDING_PARTS / partitions).max(PENDING_LEAST_BYTES)
    }

    pub(super) fn share(&self) -> GroupShare {
        GroupShare { pool: Arc::clone(&self.0), bytes: 0 }
    }
}

impl GroupShare {
    /// Whether there is room for so many bytes more. They are held until the next [`GroupShare::set`].
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let pool = &self.pool;
        let fits = |used: usize| used.checked_add(bytes).filter(|used| *used <= pool.limit_bytes);
        if bytes == 0 || pool.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok() {
            self.bytes += bytes;
            return true;
        }
        if !pool.has_warned.swap(true, Ordering::Relaxed) {
            warn!(
                used_bytes = pool.used_bytes.load(Ordering::Relaxed),
                "consumer groups have used the memory of firn.group.memory.bytes: requests that need more are refused"
            );
        }
        false
    }

    /// What the shard holds now, whether there is room or not.
    pub(super) fn set(&mut self, bytes: usize) {
        if bytes == self.bytes {
            return;
        }
        let used = &self.pool.used_bytes;
        used.fetch_add(bytes, Ordering::Relaxed);
        let used = used.fetch_sub(self.bytes, Ordering::Relaxed) - self.bytes;
        self.bytes = bytes;
        if used < self.pool.limit_bytes / 4 * 3 {
            self.pool.has_warned.store(false, Ordering::Relaxed);
        }
    }
}

impl Drop for GroupShare {
    fn drop(&mut self) {
        self.set(0);
    }
}
