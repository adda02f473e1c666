//! Tasks that a node cannot do without: when one ends before it was told to, by a panic or by a bug, the process ends.
//!
//! Half a broker is worse than none: a node that no longer follows, keeps ISRs or archives still looks alive to the cluster.
//! Another process recovers what was acknowledged, and others lead meanwhile. A panic while a client's request is handled
//! costs that connection only.
//!
//! A debug build that is started with `FIRN_TEST_PANIC_IN=TASK` panics in that task after a second.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;
use std::time::Duration;

use futures::FutureExt;
use tokio_util::sync::CancellationToken;

/// Exit status of a process of which a task has ended too early.
static STATUS: OnceLock<i32> = OnceLock::new();

/// How long a task runs before the panic that a test wants.
const PANIC_AFTER: Duration = Duration::from_secs(1);

/// From now on this process ends with `status` when a task ends too early. Without it that is only logged.
pub fn exit_when_a_task_is_lost(status: i32) {
    // The first one counts.
    let _ = STATUS.set(status);
}

/// A task that must run until `stop` is cancelled.
pub(crate) async fn until<F: Future<Output = ()>>(stop: CancellationToken, name: &'static str, task: F) {
    let how = how_it_ended(name, task).await;
    match how {
        None if stop.is_cancelled() => {}
        how => lose(name, how.as_deref().unwrap_or("it has returned")),
    }
}

/// A task that may end at any time, but not by a panic.
pub(crate) async fn without_panic<F: Future<Output = ()>>(name: &'static str, task: F) {
    if let Some(how) = how_it_ended(name, task).await {
        lose(name, &how);
    }
}

/// The node cannot go on without that task or thread.
pub(crate) fn lose(name: &'static str, how: &str) {
    tracing::error!(task = name, how, "a task of the broker has ended: the process must be started again");
    if let Some(status) = STATUS.get() {
        std::process::exit(*status);
    }
}

/// The message of a panic; `None` when the task has returned.
async fn how_it_ended<F: Future<Output = ()>>(name: &'static str, task: F) -> Option<String> {
    let ended = AssertUnwindSafe(async {
        tokio::select! {
            () = task => {}
            () = injected_panic(name) => {}
        }
    });
    ended.catch_unwind().await.err().map(|panic| format!("it has panicked: {}", message(&*panic)))
}

async fn injected_panic(name: &'static str) {
    if !is_panic_wanted(name).await {
        return std::future::pending().await;
    }
    panic!("a test wants {name} to panic");
}

/// True, after a while, when a test wants that task to panic.
pub(crate) async fn is_panic_wanted(name: &'static str) -> bool {
    let is_wanted = cfg!(debug_assertions) && std::env::var("FIRN_TEST_PANIC_IN").is_ok_and(|wanted| wanted == name);
    if is_wanted {
        tokio::time::sleep(PANIC_AFTER).await;
    }
    is_wanted
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_noticed_and_does_not_spread() {
        let how = how_it_ended("test", async { panic!("broken {}", 7) }).await;
        assert_eq!(how.as_deref(), Some("it has panicked: broken 7"));
        assert_eq!(how_it_ended("test", async {}).await, None);
        // Without a status to exit with, the caller goes on.
        until(CancellationToken::new(), "test", async { panic!("broken") }).await;
        without_panic("test", async {}).await;
    }
}
