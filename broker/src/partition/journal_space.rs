//! Waiting while the local journal is full, which is how a disk that is behind slows producers down.

use std::time::Duration;

use tokio::time::Instant;

/// Longest time that an append is held back while the journal is full; then it is refused.
const JOURNAL_WAIT: Duration = Duration::from_secs(20);
/// Time between two questions whether the journal is still full.
const ASK_INTERVAL: Duration = Duration::from_millis(20);

/// The time until which a request that comes now waits in [`journal_space`].
pub(crate) fn journal_deadline() -> Instant {
    Instant::now() + JOURNAL_WAIT
}

/// Waits until the journal takes batches, or until the deadline: the append is refused then. To be called before an append,
/// without any lock: no thread and no role of a partition waits for the disk.
pub(crate) async fn journal_space(deadline: Instant, has_space: impl Fn() -> bool) {
    while !has_space() && Instant::now() < deadline {
        tokio::time::sleep(ASK_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_the_journal_without_a_thread() {
        let is_free = Arc::new(AtomicBool::new(false));
        let freeing = Arc::clone(&is_free);
        // The runtime has one thread: this task runs only if the wait leaves it.
        let task = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(3)).await;
            freeing.store(true, Ordering::SeqCst);
        });
        let begun = Instant::now();
        journal_space(journal_deadline(), || is_free.load(Ordering::SeqCst)).await;
        let waited = begun.elapsed();
        assert!(is_free.load(Ordering::SeqCst) && waited < Duration::from_secs(4), "{waited:?}");
        task.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_does_not_wait_for_ever_while_the_journal_stays_full() {
        let begun = Instant::now();
        let deadline = journal_deadline();
        journal_space(deadline, || false).await;
        // A request with several topics waits once.
        journal_space(deadline, || false).await;
        let waited = begun.elapsed();
        assert!((JOURNAL_WAIT..JOURNAL_WAIT * 2).contains(&waited), "{waited:?}");
    }
}
