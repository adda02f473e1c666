//! Work that may block for disk, away from the threads of the runtime.

use tokio::task::JoinError;

/// Runs `work` on a thread that may block. Its panic goes on here.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    unwound(tokio::task::spawn_blocking(work).await)
}

/// The result of a task that nobody aborts; its panic goes on here.
pub(crate) fn unwound<T>(done: Result<T, JoinError>) -> T {
    match done {
        Ok(value) => value,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}
