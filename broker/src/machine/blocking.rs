//! Work that may block for disk, away from the threads of the runtime.

use tokio::task::{JoinError, JoinHandle};

/// Starts `work` on a thread that may block. It goes on when nobody waits for it.
#[cfg(not(feature = "simulation"))]
pub(crate) fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    tokio::task::spawn_blocking(work)
}

/// The same where nothing may have a thread: after a moment, in a task of its own.
#[cfg(feature = "simulation")]
pub(crate) fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(async move {
        super::simulated::disk_latency().await;
        work()
    })
}

/// Runs `work` as [`spawn`] does, and waits for it. Its panic goes on here.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    unwound(spawn(work).await)
}

/// The result of a task that nobody aborts; its panic goes on here.
pub(crate) fn unwound<T>(done: Result<T, JoinError>) -> T {
    match done {
        Ok(value) => value,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}
