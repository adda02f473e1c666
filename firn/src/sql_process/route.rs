//! `POST /v1/sql`: a query in, its rows out as they come.
//!
//! An error before the first rows is a status with a JSON object, like every error of the admin port. Later
//! the status is gone: the body breaks off without its end, which no client takes for a whole answer, and where the format
//! allows it the last line is the reason. Closing the connection cancels the query.

use std::sync::Arc;
use std::time::Duration;

use analytics::sql::output::Format;
use analytics::sql::{Engine, Parameters, Position, SqlError, Text, View, Written};
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::warn;

use super::meters::Meters;
use crate::json_object::Object;

/// Tells what an answer does not show.
pub(crate) const NOTICE: HeaderName = HeaderName::from_static("firn-notice");

type Pieces = BoxStream<'static, Result<Bytes, SqlError>>;

/// The engine, and what else a query needs.
#[derive(Debug, Clone)]
pub(super) struct Queries {
    pub(super) engine: Arc<Engine>,
    /// The most that a query may take.
    pub(super) timeout: Duration,
    pub(super) meters: Meters,
}

pub(super) fn router(queries: Queries) -> Router {
    Router::new().route("/v1/sql", post(query)).layer(DefaultBodyLimit::disable()).with_state(queries)
}

/// A request, as clients send it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    query: String,
    format: Option<String>,
    timeout_ms: Option<u64>,
    /// Values of `$1`, … or of `$name`.
    #[serde(default)]
    parameters: Value,
    #[serde(default)]
    views: Vec<Object<AskedView>>,
}

/// A query that the others may name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedView {
    name: String,
    query: String,
}

impl Asked {
    pub(crate) fn read(body: &[u8]) -> Result<Self, Refusal> {
        let asked = serde_json::from_slice(body).map(|Object(asked)| asked);
        asked.map_err(|error| {
            Refusal::bad_request(format!(
                "the body is not a JSON object with query, format, timeout_ms, parameters and views: {error}"
            ))
        })
    }

    pub(crate) fn format(&self) -> Result<Format, Refusal> {
        self.format.as_deref().map_or(Ok(Format::Json), str::parse).map_err(Refusal::bad_request)
    }

    fn into_text(self) -> Result<Text, Refusal> {
        let parameters = Parameters::from_json(self.parameters).map_err(Refusal::bad_request)?;
        let views = self.views.into_iter().map(|Object(view)| View { name: view.name, sql: view.query });
        Ok(Text { sql: self.query, parameters, views: views.collect() })
    }

    pub(crate) fn timeout(&self, most: Duration) -> Duration {
        self.timeout_ms.map_or(most, Duration::from_millis).min(most)
    }
}

async fn query(State(queries): State<Queries>, body: Bytes) -> Result<Response, Refusal> {
    let answer = answer(&queries, &body).await;
    // A client that has its answer finds in the metrics whatever ended before.
    queries.meters.report().await;
    answer
}

async fn answer(queries: &Queries, body: &[u8]) -> Result<Response, Refusal> {
    let asked = Asked::read(body)?;
    let format = asked.format()?;
    let timeout = asked.timeout(queries.timeout);
    let Written { notice, pieces } = queries.engine.query_as(asked.into_text()?, Some(timeout), format).await?;
    let notice = notice.as_deref().and_then(|notice| HeaderValue::from_str(notice).ok());
    let mut pieces = pieces.fuse().boxed();
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
    warn!(%error, "query failed after its first rows");
    let last = last_line(&error.to_string(), format);
    let cut = async {
        // Lets the line go out before the connection is cut.
        tokio::task::yield_now().await;
        Err(error)
    };
    stream::iter(last.map(Ok)).chain(stream::once(cut)).boxed()
}

/// The last line of an answer that is not whole, where the format has lines.
pub(crate) fn last_line(reason: &str, format: Format) -> Option<Bytes> {
    match format {
        Format::Json => Some(format!("{}\n", json!({ "error": reason })).into()),
        Format::Table | Format::Lines => Some(format!("error: {reason}\n").into()),
        Format::Csv | Format::Parquet | Format::Arrow => None,
    }
}

/// A query that is not answered.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    reason: String,
    at: Option<Position>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Refusal { status, reason: reason.into(), at: None }
    }

    fn bad_request(reason: String) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, reason)
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
        SqlError::Fault { .. } => StatusCode::INTERNAL_SERVER_ERROR,
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
