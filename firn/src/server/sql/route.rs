//! `POST /v1/sql`: a query in, its rows out as they come.
//!
//! What is wrong before the first rows is told by the status, with a JSON object like every error of the admin port. Later
//! the status is gone: the body breaks off without its end, which no client takes for a whole answer, and where the format
//! allows it the reason stands in a last line. Whoever closes the connection cancels the query.

use std::time::Duration;

use analytics::sql::output::{self, Format};
use analytics::sql::{Position, SqlError};
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use serde::Deserialize;
use serde_json::json;
use tracing::warn;

use super::Queries;

/// Tells what an answer does not show.
const NOTICE: HeaderName = HeaderName::from_static("firn-notice");

type Pieces = BoxStream<'static, Result<Bytes, SqlError>>;

pub(super) fn router(queries: Queries) -> Router {
    Router::new().route("/v1/sql", post(query)).with_state(queries)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    query: String,
    format: Option<String>,
    timeout_ms: Option<u64>,
}

async fn query(State(queries): State<Queries>, body: Bytes) -> Result<Response, Refusal> {
    let asked: Asked = serde_json::from_slice(&body).map_err(|error| {
        Refusal::bad_request(format!("the body is not a JSON object with query, format and timeout_ms: {error}"))
    })?;
    let format = asked.format.as_deref().map_or(Ok(Format::Json), str::parse).map_err(Refusal::bad_request)?;
    let running = queries.running().await?;
    let timeout = asked.timeout_ms.map_or(running.timeout, Duration::from_millis).min(running.timeout);
    let answer = running.engine.query(&asked.query, Some(timeout)).await?;
    let notice = answer.notice.as_deref().and_then(|notice| HeaderValue::from_str(notice).ok());
    let mut pieces = output::stream(answer, format).fuse().boxed();
    // The status waits for the first rows, so that it is the right one.
    let first = pieces.next().await.transpose()?;
    let body = Body::from_stream(rows(first, pieces, format));
    let mut response = ([(CONTENT_TYPE, format.content_type())], body).into_response();
    if let Some(notice) = notice {
        response.headers_mut().insert(NOTICE, notice);
    }
    Ok(response)
}

fn rows(first: Option<Bytes>, pieces: Pieces, format: Format) -> BoxStream<'static, Result<Bytes, SqlError>> {
    let rest = pieces.flat_map(move |piece| match piece {
        Ok(bytes) => stream::once(async { Ok(bytes) }).boxed(),
        Err(error) => broken_off(error, format),
    });
    stream::iter(first.map(Ok)).chain(rest).boxed()
}

/// The end of an answer that is not whole.
fn broken_off(error: SqlError, format: Format) -> Pieces {
    warn!(%error, "a query has failed after its first rows");
    let last = match format {
        Format::Json => Some(format!("{}\n", json!({ "error": error.to_string() }))),
        Format::Table => Some(format!("error: {error}\n")),
        Format::Csv | Format::Parquet | Format::Arrow => None,
    };
    let cut = async {
        // Lets the line go out before the connection is cut.
        tokio::task::yield_now().await;
        Err(error)
    };
    stream::iter(last.map(|line| Ok(Bytes::from(line)))).chain(stream::once(cut)).boxed()
}

/// A query that is not answered.
struct Refusal {
    status: StatusCode,
    reason: String,
    at: Option<Position>,
}

impl Refusal {
    fn bad_request(reason: String) -> Self {
        Refusal { status: StatusCode::BAD_REQUEST, reason, at: None }
    }
}

impl From<SqlError> for Refusal {
    fn from(error: SqlError) -> Self {
        let at = match &error {
            SqlError::Syntax { at, .. }
            | SqlError::UnknownTable { at, .. }
            | SqlError::UnknownColumn { at, .. }
            | SqlError::Invalid { at, .. } => *at,
            _ => None,
        };
        Refusal { status: status(&error), reason: error.to_string(), at }
    }
}

fn status(error: &SqlError) -> StatusCode {
    match error {
        SqlError::Syntax { .. }
        | SqlError::UnknownTable { .. }
        | SqlError::UnknownColumn { .. }
        | SqlError::ReadOnly { .. }
        | SqlError::Invalid { .. }
        | SqlError::Failed { .. } => StatusCode::BAD_REQUEST,
        SqlError::Busy { .. } => StatusCode::TOO_MANY_REQUESTS,
        SqlError::Memory { .. } | SqlError::Ended { .. } => StatusCode::SERVICE_UNAVAILABLE,
        SqlError::Unreadable { .. } => StatusCode::BAD_GATEWAY,
        SqlError::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let at = self.at.map(|at| json!({ "line": at.line, "column": at.column }));
        let body = match at {
            Some(at) => json!({ "error": self.reason, "at": at }),
            None => json!({ "error": self.reason }),
        };
        (self.status, Json(body)).into_response()
    }
}
