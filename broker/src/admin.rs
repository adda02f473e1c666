//! The admin port: metrics for Prometheus, health for supervisors, and the state of the archive as JSON.
//!
//! ```text
//! GET /metrics              Prometheus text
//! GET /health               200 while the process can acknowledge writes, else 503 with the reason: restart it
//! GET /ready                200 once Kafka clients are served and as long as there is a quorum, else 503: send no traffic
//! GET /v1/archive/status    every partition: offsets, bytes per tier, backlog, troubles
//! GET /v1/archive/objects   ?topic=NAME[&partition=N]: the archived objects, oldest first
//! ```
//!
//! What clients may take of the node by this is bounded: connections in `connections`, requests in `requests`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::disk_watch::{self, UnopenedPartition};
use crate::machine::blocking;
use crate::machine::runtimes::elsewhere;
use crate::machine::sockets::TcpListener;
use crate::metadata::Impairment;
use crate::server::Note;
use crate::telemetry::Telemetry;

pub(crate) mod connections;
mod requests;
pub mod status;

use connections::ConnectionLimits;
use requests::{Places, RequestLimits};

/// How long a node stays ready without a quorum: longer than an election takes.
const READY_WITHOUT_QUORUM: Duration = Duration::from_secs(10);

/// What the routes share; the broker is there once it is open. Those whose work depends on clients run on `main`.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) telemetry: Telemetry,
    pub(crate) broker: Arc<OnceCell<Arc<Broker>>>,
    pub(crate) main: Handle,
    /// See [`crate::Extras::notes`].
    pub(crate) notes: Arc<[Note]>,
}

/// Routes of the admin port besides its own.
#[derive(Debug, Default)]
pub struct Routes {
    /// Those whose answers are whole before they are sent.
    pub whole: Router,
    /// Those whose answers are made as clients read them; they bound by themselves how many are open.
    pub streaming: Router,
}

/// Serves the admin port until `stop`, with `more` routes than those above.
pub(crate) async fn serve(admin: Admin, more: Routes, listener: TcpListener, stop: CancellationToken) {
    let places = Places::new(RequestLimits::default());
    let vital = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .with_state(admin.clone());
    let main = admin.main.clone();
    let whole = Router::new()
        .route("/v1/archive/status", get(archive_status))
        .route("/v1/archive/objects", get(archive_objects))
        .with_state(admin)
        .merge(more.whole);
    let routes = bounded(&places, vital, Routes { whole, ..more }, &main);
    connections::serve(routes, listener, ConnectionLimits::default(), stop).await;
}

/// The routes within the bounds. Those whose work depends on clients run on `main`.
fn bounded(places: &Arc<Places>, vital: Router, more: Routes, main: &Handle) -> Router {
    let (places, main) = (Arc::clone(places), main.clone());
    let whole = more
        .whole
        .layer(middleware::from_fn_with_state(main.clone(), elsewhere))
        .layer(middleware::from_fn_with_state(Arc::clone(&places), requests::one_of_few));
    let streaming = more
        .streaming
        .layer(middleware::from_fn_with_state(main, elsewhere))
        .layer(middleware::from_fn(requests::at_the_clients_pace));
    let admitted =
        whole.merge(streaming).layer(middleware::from_fn_with_state(Arc::clone(&places), requests::admitted));
    vital.layer(middleware::from_fn_with_state(places, requests::vital)).merge(admitted)
}

/// All partitions are looked at: not on the thread that answers for the node's health.
async fn metrics_text(State(admin): State<Admin>) -> String {
    blocking::run(move || {
        if let Some(broker) = admin.broker.get() {
            status::record_gauges(broker);
        }
        admin.telemetry.render()
    })
    .await
}

async fn health(State(admin): State<Admin>) -> Response {
    let unhealthy = |reason: String| (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response();
    let Some(broker) = admin.broker.get() else { return "starting\n".into_response() };
    if let Some(failure) = broker.hot.failure() {
        return unhealthy(failure.to_string());
    }
    if let Some(Impairment { fault, reason }) = broker.metadata.impairment() {
        return unhealthy(format!("the local disk is impaired ({fault}): {reason}"));
    }
    match broker.metadata.health() {
        // A restart would not help: the process is healthy, its cluster is not.
        Ok(()) if !broker.metadata.has_quorum() => {
            "healthy, but without a quorum: no majority of the voters of the metadata log is reachable\n"
                .into_response()
        }
        Ok(()) => {
            let notes: String = admin.notes.iter().map(|note| note() + "\n").collect();
            format!("healthy\n{}{notes}", unopened_partitions(broker)).into_response()
        }
        Err(error) => unhealthy(error.to_string()),
    }
}

/// A line for each of the first partitions that cannot be opened: all others are served.
fn unopened_partitions(broker: &Broker) -> String {
    const SHOWN: usize = 10;
    let unopened = disk_watch::unopened(broker);
    let line = |one: &UnopenedPartition| {
        format!("partition {}-{} is out of service: {}\n", one.topic, one.partition, one.reason)
    };
    let more = unopened.len().saturating_sub(SHOWN);
    let rest = if more > 0 { format!("{more} more partitions are out of service\n") } else { String::new() };
    unopened.iter().take(SHOWN).map(line).collect::<String>() + &rest
}

async fn ready(State(admin): State<Admin>) -> Response {
    let not_ready = |reason: &'static str| (StatusCode::SERVICE_UNAVAILABLE, reason).into_response();
    let Some(broker) = admin.broker.get().filter(|broker| broker.is_ready()) else { return not_ready("starting\n") };
    if broker.metadata.without_quorum_for().is_some_and(|time| time > READY_WITHOUT_QUORUM) {
        return not_ready("no majority of the voters of the metadata log is reachable\n");
    }
    "ready\n".into_response()
}

async fn archive_status(State(admin): State<Admin>) -> Response {
    let Some(broker) = admin.broker.get() else { return starting() };
    let now_ms = broker.clock.settled_ms();
    let partitions = status::partitions(broker, now_ms);
    let trouble = status::store_trouble(broker, now_ms);
    let store = broker.cold.url();
    Json(json!({ "object_store": store, "store_trouble": trouble, "now_ms": now_ms, "partitions": partitions }))
        .into_response()
}

/// Which objects to list.
#[derive(Debug, Deserialize)]
struct ObjectsQuery {
    topic: String,
    partition: Option<i32>,
}

/// The objects of one partition.
#[derive(Debug, Serialize)]
struct PartitionObjects {
    topic: String,
    partition: i32,
    objects: Vec<cold_tier::ArchivedSegment>,
}

async fn archive_objects(State(admin): State<Admin>, Query(query): Query<ObjectsQuery>) -> Response {
    let Some(broker) = admin.broker.get() else { return starting() };
    let mut listed = Vec::new();
    let mut partitions = broker.partitions.all();
    partitions.retain(|p| *p.topic == *query.topic && query.partition.is_none_or(|wanted| p.id.partition == wanted));
    partitions.sort_by_key(|p| p.id.partition);
    if partitions.is_empty() {
        let message = format!("there is no such partition of topic {:?} on this broker", query.topic);
        return (StatusCode::NOT_FOUND, Json(json!({ "error": message }))).into_response();
    }
    for partition in partitions {
        let objects = match partition.archived_objects().await {
            Ok(objects) => objects,
            Err(error) => {
                let message = json!({ "error": format!("cannot read the manifest: {error}") });
                return (StatusCode::BAD_GATEWAY, Json(message)).into_response();
            }
        };
        listed.push(PartitionObjects {
            topic: partition.topic.to_string(),
            partition: partition.id.partition,
            objects,
        });
    }
    Json(listed).into_response()
}

fn starting() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": "the broker is starting" }))).into_response()
}
