//! The memory that requests may take while they are received or handled, over all connections.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory for requests of all connections, in units of a KiB.
#[derive(Debug, Clone)]
pub(crate) struct RequestMemory {
    permits: Arc<Semaphore>,
    total_kib: u32,
}

impl RequestMemory {
    /// At most `bytes` of requests at a time.
    pub(super) fn new(bytes: usize) -> Self {
        let total_kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).max(1);
        RequestMemory { permits: Arc::new(Semaphore::new(total_kib as usize)), total_kib }
    }

    /// Waits until there is room for a request of `bytes`; one that is larger than everything takes everything.
    pub(super) async fn reserve(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX).min(self.total_kib);
        Arc::clone(&self.permits).acquire_many_owned(kib).await.ok()
    }
}
