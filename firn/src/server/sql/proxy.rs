//! `POST /v1/sql` of the admin port: passes the query to the process of SQL, and its answer back as it comes.
//!
//! The body comes whole, in memory that the admin port has claimed for it. The answer's bytes are neither looked into nor gathered: a client that reads slowly slows the query down. A client that goes
//! away closes the connection to the process, which cancels the query. A query that is open after its limit and
//! [`GRACE`] is cut off, and a process that has not begun to answer by then is ended.

use std::sync::Arc;
use std::time::Duration;

use analytics::sql::output::Format;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{Request, StatusCode};
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use http_body_util::{BodyDataStream, Full};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::process::{End, Exchange, Process};
use super::supervisor::Supervisor;
use crate::sql_process::route::{Asked, NOTICE, Refusal, last_line};

/// Time for a client that reads to get the last line of an answer that breaks off.
const LAST_LINE_PAUSE: Duration = Duration::from_millis(500);

/// How long after its limit a query may still be open: the process ends it before.
const GRACE: Duration = Duration::from_secs(10);

type Pieces = BoxStream<'static, Result<Bytes, BrokenOff>>;

/// The answer is not whole.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
struct BrokenOff;

pub(super) fn router(supervisor: Supervisor) -> Router {
    Router::new().route("/v1/sql", post(query)).with_state(supervisor)
}

async fn query(State(supervisor): State<Supervisor>, body: Bytes) -> Result<Response, Refusal> {
    // Read as JSON, a body takes far more memory than its bytes, and nothing else here needs it.
    let (format, most) = Asked::read(&body).and_then(|asked| Ok((asked.format()?, asked.timeout(Duration::MAX))))?;
    let starting = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the broker is not open yet");
    let bounds = supervisor.bounds().ok_or_else(starting)?;
    let place = supervisor.open().try_acquire_owned().map_err(|_| {
        metrics::counter!("firn_sql_queries_total", "outcome" => "busy").increment(1);
        Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too many queries are open on this broker: try again later")
    })?;
    let limit = most.min(bounds.timeout);
    let ends = Instant::now() + limit + GRACE;
    let (process, exchange) =
        timeout_at(ends, connected(&supervisor, ends, Arc::new(place))).await.map_err(|_| {
            let reason = format!("the SQL process did not start within the query's limit of {limit:?}");
            Refusal::new(StatusCode::GATEWAY_TIMEOUT, reason)
        })??;
    let Exchange { mut sender, connection } = exchange;
    let response = match timeout_at(ends, sender.send_request(request(body)?)).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) if Instant::now() < ends => return Err(ended(process.end().await)),
        Ok(Err(_)) | Err(_) => {
            process.kill();
            return Err(ended(process.end().await));
        }
    };
    let (head, incoming) = response.into_parts();
    let passing = Passing { incoming: BodyDataStream::new(incoming), process, format, _connection: connection };
    let mut response = Response::new(Body::from_stream(passing.pieces()));
    *response.status_mut() = head.status;
    for name in [CONTENT_TYPE, NOTICE] {
        if let Some(value) = head.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    Ok(response)
}

fn request(body: Bytes) -> Result<Request<Full<Bytes>>, Refusal> {
    let request = Request::post("/v1/sql").header(HOST, "sql").body(Full::new(body));
    request.map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))
}

/// A connection to a process. One that has ended unnoticed since the last query is replaced.
async fn connected(
    supervisor: &Supervisor,
    ends: Instant,
    place: Arc<OwnedSemaphorePermit>,
) -> Result<(Arc<Process>, Exchange), Refusal> {
    let unavailable = |error: std::io::Error| {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("the SQL process cannot be started: {error}"))
    };
    let process = supervisor.process().await.map_err(unavailable)?;
    if let Ok(exchange) = process.connect(ends, Arc::clone(&place)).await {
        return Ok((process, exchange));
    }
    process.end().await;
    let process = supervisor.process().await.map_err(unavailable)?;
    let exchange = process.connect(ends, place).await.map_err(unavailable)?;
    Ok((process, exchange))
}

fn ended(end: Option<End>) -> Refusal {
    metrics::counter!("firn_sql_queries_total", "outcome" => "process_ended").increment(1);
    let reason = end.map_or_else(|| "the SQL process does not answer; try again".to_owned(), |end| end.reason);
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason)
}

/// An answer on its way.
struct Passing {
    incoming: BodyDataStream<Incoming>,
    process: Arc<Process>,
    format: Format,
    _connection: tokio_util::task::AbortOnDropHandle<()>,
}

impl Passing {
    fn pieces(self) -> Pieces {
        let step = |state: Option<Passing>| async move {
            let mut passing = state?;
            match passing.incoming.next().await? {
                Ok(piece) => Some((stream::iter([Ok(piece)]).boxed(), Some(passing))),
                Err(_) => Some((passing.broken_off().await, None)),
            }
        };
        stream::unfold(Some(self), step).flatten().boxed()
    }

    /// The end of an answer that is not whole. Where the process lives, it has said why.
    async fn broken_off(self) -> Pieces {
        let end = self.process.end_if_any().await;
        let last = end.and_then(|end| {
            metrics::counter!("firn_sql_queries_total", "outcome" => "process_ended").increment(1);
            last_line(&end.reason, self.format)
        });
        let broken = async {
            // The server drops what it has not sent when a body fails.
            tokio::time::sleep(LAST_LINE_PAUSE).await;
            Err(BrokenOff)
        };
        stream::iter(last.map(Ok)).chain(stream::once(broken)).boxed()
    }
}
