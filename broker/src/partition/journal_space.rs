//! Waiting while the local journal is full, which is how a disk that is behind slows producers down.

use std::time::Duration;

use tokio::time::Instant;

/// Longest time that an append is held back while the journal is full; then it is refused.
const JOURNAL_WAIT: Duration = Duration::from_secs(20);
/// Time between two questions whether the journal is still full.
const ASK_INTERVAL: Duration = Duration::from_millis(5);

/// Waits until the journal takes batches, or for [`JOURNAL_WAIT`]: the append is refused then. To be called before an append,
/// without any lock: no thread and no role of a partition waits for the disk.
pub(crate) async fn journal_space(has_space: impl Fn() -> bool) {
    if has_space() {
        return;
    }
    let deadline = Instant::now() + JOURNAL_WAIT;
    while !has_space() && Instant::now() < deadline {
        tokio::time::sleep(ASK_INTERVAL).await;
    }
}
