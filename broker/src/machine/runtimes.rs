//! The runtimes of a node. Handlers, replication and background work share the one that the process starts with. What tells
//! others that the node lives has runtimes of its own, which nothing blocks that clients can make long:
//!
//! - *control*: the metadata log, heartbeats, the internal listener, the watch over the disk;
//! - *admin*: the admin port, for `/health` and metrics.
//!
//! A socket belongs to the runtime on which it was opened: listeners are bound, and connections opened, by a task of the
//! runtime that serves them. Routes whose work depends on clients run on the main runtime ([`elsewhere`]).
//!
//! In a simulation all of them are the one of the simulated host.

use std::future::Future;
use std::io;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::blocking;

/// Threads of the control runtime: while one reads a large piece of the metadata log, the other carries heartbeats.
const CONTROL_THREADS: usize = 2;
/// Threads of the admin runtime.
const ADMIN_THREADS: usize = 1;
/// Frames of an answer that wait for a client.
const FRAMES_AHEAD: usize = 2;

/// The runtimes besides the one of the process.
#[derive(Debug)]
pub(crate) struct Runtimes {
    pub(crate) control: Dedicated,
    pub(crate) admin: Dedicated,
}

impl Runtimes {
    /// Starts them.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub(crate) fn start() -> io::Result<Self> {
        Ok(Runtimes {
            control: Dedicated::start("firn-control", CONTROL_THREADS)?,
            admin: Dedicated::start("firn-admin", ADMIN_THREADS)?,
        })
    }
}

/// A runtime for one purpose. Its tasks are cut off when it is dropped.
#[derive(Debug)]
pub(crate) struct Dedicated {
    handle: Handle,
    #[cfg(not(feature = "simulation"))]
    runtime: Option<tokio::runtime::Runtime>,
}

impl Dedicated {
    #[cfg(not(feature = "simulation"))]
    fn start(name: &str, threads: usize) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name(name)
            .enable_all()
            .build()?;
        Ok(Dedicated { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    #[cfg(feature = "simulation")]
    #[expect(clippy::unnecessary_wraps, reason = "a real runtime may not start")]
    fn start(_: &str, _: usize) -> io::Result<Self> {
        Ok(Dedicated { handle: Handle::current() })
    }

    /// To start tasks there.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs `task` there, and waits for it. Its panic goes on here.
    pub(crate) async fn run<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> T {
        blocking::unwound(self.handle.spawn(task).await)
    }
}

#[cfg(not(feature = "simulation"))]
impl Drop for Dedicated {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A task may drop it, and a task may not wait for the others.
            runtime.shutdown_background();
        }
    }
}

/// Middleware: the request is handled, and its answer made, on the runtime of the handle.
pub(crate) async fn elsewhere(State(main): State<Handle>, request: Request, next: Next) -> Response {
    // A client that goes away cancels its request.
    let handled = AbortOnDropHandle::new(main.spawn(next.run(request))).await;
    match handled {
        Ok(response) => response.map(|body| made_on(&main, body)),
        Err(error) => {
            tracing::error!(%error, "a request to the admin port or the internal listener failed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A frame of an answer, or its end: one that stops without an end is broken.
enum Made {
    Frame(Result<Bytes, axum::Error>),
    End,
}

/// The body with its frames made on the runtime. One that is complete already is passed on as it is.
fn made_on(runtime: &Handle, body: Body) -> Body {
    if body.size_hint().exact().is_some() {
        return body;
    }
    let (made, frames) = mpsc::channel(FRAMES_AHEAD);
    runtime.spawn(async move {
        let mut body = body.into_data_stream();
        while let Some(frame) = body.next().await {
            if made.send(Made::Frame(frame)).await.is_err() {
                return;
            }
        }
        // The client may be gone.
        let _ = made.send(Made::End).await;
    });
    Body::from_stream(stream::unfold(Some(frames), |frames| async {
        let mut frames = frames?;
        match frames.recv().await {
            Some(Made::Frame(frame)) => Some((frame, Some(frames))),
            Some(Made::End) => None,
            None => Some((Err(axum::Error::new(io::Error::other("the answer broke off"))), None)),
        }
    }))
}

#[cfg(all(test, not(feature = "simulation")))]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn body(frames: Vec<&'static str>, panics: bool) -> Body {
        let frames = stream::iter(frames).map(|frame| Ok::<_, io::Error>(Bytes::from_static(frame.as_bytes())));
        let end = stream::poll_fn(move |_| {
            assert!(!panics, "injected");
            std::task::Poll::Ready(None)
        });
        Body::from_stream(frames.chain(end))
    }

    #[tokio::test]
    async fn an_answer_made_elsewhere_arrives_whole_or_as_broken() {
        let whole = made_on(&Handle::current(), body(vec!["one ", "two"], false));
        assert_eq!(whole.collect().await.unwrap().to_bytes(), "one two");
        let broken = made_on(&Handle::current(), body(vec!["one ", "two"], true));
        assert!(broken.collect().await.is_err(), "an answer that broke off must not pass for a whole one");
    }
}
