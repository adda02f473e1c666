//! What requests to the admin port may take, whatever clients do: places, memory and time.
//!
//! ```text
//!   /metrics, /health, /ready   answers that wait for slow readers: few; another one cuts off the oldest
//!   everything else             a place among the open requests, from the head to the end of the answer
//!                               memory for the body, claimed before it is read and kept until it is let go of
//!                               a time for the body
//!   … whose answer is whole     a place among few, from the call to the end of the answer, which has a time
//! ```
//!
//! The bytes of an answer carry its place: they are let go of when they have been sent.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::connections::{Connection, MAX_CONNECTIONS};

/// Requests besides those for health and metrics that are open at once.
const MAX_OPEN: usize = MAX_CONNECTIONS / 2;
/// Largest body, in bytes.
const MAX_BODY_BYTES: usize = 2 << 20;
/// A body up to so many bytes needs no other place than its request's.
const SMALL_BODY_BYTES: usize = 16 << 10;
/// Larger bodies that are held at once, in bytes.
const BODY_MEMORY_BYTES: usize = 32 << 20;
/// Whole answers that are made or sent at once.
const MAX_ANSWERS: usize = 16;
/// Answers about health and metrics that are made or sent at once.
const MAX_VITAL: usize = 16;

/// The times of requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestLimits {
    /// For memory or a place that others have.
    pub(super) wait: Duration,
    /// Until a body is complete.
    pub(super) body: Duration,
    /// Until a client has taken a whole answer.
    pub(super) answer: Duration,
}

impl Default for RequestLimits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        RequestLimits { wait: seconds(10), body: seconds(20), answer: seconds(120) }
    }
}

/// The places and the memory that there are.
#[derive(Debug)]
pub(super) struct Places {
    limits: RequestLimits,
    open: Arc<Semaphore>,
    /// In units of [`SMALL_BODY_BYTES`].
    bodies: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    /// Oldest first.
    vital: Mutex<VecDeque<Weak<Vital>>>,
}

impl Places {
    pub(super) fn new(limits: RequestLimits) -> Arc<Self> {
        Arc::new(Places {
            limits,
            open: Arc::new(Semaphore::new(MAX_OPEN)),
            bodies: Arc::new(Semaphore::new(BODY_MEMORY_BYTES / SMALL_BODY_BYTES)),
            answers: Arc::new(Semaphore::new(MAX_ANSWERS)),
            vital: Mutex::default(),
        })
    }
}

/// Middleware: the request has a place among the open ones until its answer has been sent, and comes with its body read.
pub(super) async fn admitted(State(places): State<Arc<Places>>, request: Request, next: Next) -> Response {
    let uri = request.uri().clone();
    let Ok(place) = Arc::clone(&places.open).try_acquire_owned() else {
        return refused(
            &uri,
            StatusCode::SERVICE_UNAVAILABLE,
            "too many requests are open on this port: try again later",
        );
    };
    let open = connection_of(&request).map(Connection::open);
    match places.received(request).await {
        Ok(request) => keeping(next.run(request).await, (place, open)).await,
        Err((status, reason)) => refused(&uri, status, reason),
    }
}

/// Middleware for answers that are whole before they are sent: few at once.
pub(super) async fn one_of_few(State(places): State<Arc<Places>>, request: Request, next: Next) -> Response {
    let connection = connection_of(&request);
    let Ok(Ok(place)) = timeout(places.limits.wait, Arc::clone(&places.answers).acquire_owned()).await else {
        let reason = "too many answers wait for slow readers: try again later";
        return refused(request.uri(), StatusCode::SERVICE_UNAVAILABLE, reason);
    };
    let response = next.run(request).await;
    let within = places.limits.answer;
    let deadline = connection.map(|connection| {
        AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::time::sleep(within).await;
            connection.cut();
        }))
    });
    keeping(response, (place, deadline)).await
}

/// Middleware for answers that are made as clients read them, within bounds of their own.
pub(super) async fn at_the_clients_pace(request: Request, next: Next) -> Response {
    let unhurried = connection_of(&request).map(Connection::unhurried);
    keeping(next.run(request).await, unhurried).await
}

/// Middleware for what watchers ask: always answered, at the cost of the oldest such answer that waits for its reader.
pub(super) async fn vital(State(places): State<Arc<Places>>, request: Request, next: Next) -> Response {
    let Some(connection) = connection_of(&request) else { return next.run(request).await };
    let vital = Arc::new(Vital(connection));
    places.make_room(&vital);
    keeping(next.run(request).await, vital).await
}

/// An answer about health or metrics, on its way to this connection.
#[derive(Debug)]
struct Vital(Arc<Connection>);

impl Places {
    fn make_room(&self, another: &Arc<Vital>) {
        let mut all = self.vital.lock();
        all.push_back(Arc::downgrade(another));
        all.retain(|vital| vital.strong_count() > 0);
        if all.len() > MAX_VITAL
            && let Some(oldest) = all.pop_front().and_then(|oldest| oldest.upgrade())
        {
            oldest.0.cut();
        }
    }

    /// The request with its body in memory that was claimed before.
    async fn received(&self, request: Request) -> Result<Request, (StatusCode, String)> {
        if request.body().is_end_stream() {
            return Ok(request);
        }
        let too_large = || {
            let reason = format!("the body of a request has at most {MAX_BODY_BYTES} bytes");
            (StatusCode::PAYLOAD_TOO_LARGE, reason)
        };
        let (head, mut body) = request.into_parts();
        let announced = body.size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        let most = announced.unwrap_or(MAX_BODY_BYTES);
        if most > MAX_BODY_BYTES {
            return Err(too_large());
        }
        let memory = if most <= SMALL_BODY_BYTES {
            None
        } else {
            let units = u32::try_from(most.div_ceil(SMALL_BODY_BYTES)).unwrap_or(u32::MAX);
            let claimed = timeout(self.limits.wait, Arc::clone(&self.bodies).acquire_many_owned(units)).await;
            let Ok(Ok(memory)) = claimed else {
                let reason = "too many bodies of requests are being received on this port: try again later";
                return Err((StatusCode::SERVICE_UNAVAILABLE, reason.to_owned()));
            };
            Some(memory)
        };
        let within = self.limits.body;
        let read = async {
            // Copied, as a frame may keep a buffer that is much larger than itself.
            let mut bytes = Vec::with_capacity(announced.unwrap_or(0));
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| (StatusCode::BAD_REQUEST, format!("the body broke off: {error}")))?;
                let data = frame.into_data().unwrap_or_default();
                if bytes.len() + data.len() > MAX_BODY_BYTES {
                    return Err(too_large());
                }
                bytes.extend_from_slice(&data);
            }
            Ok(bytes)
        };
        let late = |_| (StatusCode::REQUEST_TIMEOUT, format!("the body was not complete within {within:?}"));
        let bytes = timeout(within, read).await.map_err(late)??;
        Ok(Request::from_parts(head, Body::from(Bytes::from_owner(Holding { bytes, _held: memory }))))
    }
}

/// Bytes that hold something until the last reference to them is dropped.
struct Holding<B, T> {
    bytes: B,
    _held: T,
}

impl<B: AsRef<[u8]>, T> AsRef<[u8]> for Holding<B, T> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

fn connection_of(request: &Request) -> Option<Arc<Connection>> {
    request.extensions().get().cloned()
}

/// The response, whose body holds something until it has been sent.
async fn keeping<T: Send + Sync + 'static>(response: Response, held: T) -> Response {
    let (head, body) = response.into_parts();
    let is_whole = body.size_hint().exact().is_some();
    let body = if !is_whole {
        Body::from_stream(body.into_data_stream().map(move |frame| {
            let _ = &held;
            frame
        }))
    } else if body.is_end_stream() {
        body
    } else {
        match body.collect().await {
            Ok(whole) => Body::from(Bytes::from_owner(Holding { bytes: whole.to_bytes(), _held: held })),
            Err(error) => {
                tracing::error!(%error, "an answer of the admin port is not whole");
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            }
        }
    };
    Response::from_parts(head, body)
}

/// In the form that clients of the route read. The connection ends: what else comes on it is not read.
fn refused(uri: &Uri, status: StatusCode, reason: impl Into<String>) -> Response {
    let reason = reason.into();
    let content = if uri.path().starts_with("/iceberg") {
        json!({ "error": { "message": reason, "type": "BoundReached", "code": status.as_u16() } })
    } else {
        json!({ "error": reason })
    };
    let mut response = (status, Json(content)).into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
#[cfg(not(feature = "simulation"))]
mod tests;
