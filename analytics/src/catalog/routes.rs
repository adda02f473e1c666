//! The routes of the catalog.

use std::collections::BTreeMap;

use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use cold_tier::{ColdTier, StoreError};
use model::archive::TopicArchive;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::answers::{CatalogConfig, Identifier, Loaded, Namespace, Namespaces, Refusal, Tables};
use super::{Node, names};
use crate::lake::files::{Files, absent, newest};
use crate::lake::has_table;

/// The only namespace.
const NAMESPACE: &str = "topics";
/// Separates the levels of a namespace in a path.
const SEPARATOR: char = '\u{1f}';
/// Names in a page when the client does not say how many, and at most.
const PAGE: usize = 1000;
/// How often metadata are looked for when a commit takes the older ones away meanwhile.
const TRIES: usize = 3;
const ENDPOINTS: &[&str] = &[
    "GET /v1/{prefix}/namespaces",
    "GET /v1/{prefix}/namespaces/{namespace}",
    "HEAD /v1/{prefix}/namespaces/{namespace}",
    "GET /v1/{prefix}/namespaces/{namespace}/tables",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/metrics",
];

/// The catalog, below `/iceberg`.
pub fn router(node: Node) -> Router {
    Router::new()
        .route("/iceberg/v1/config", get(config).fallback(refused))
        .route("/iceberg/v1/namespaces", get(namespaces).fallback(refused))
        .route("/iceberg/v1/namespaces/{namespace}", get(namespace).fallback(refused))
        .route("/iceberg/v1/namespaces/{namespace}/tables", get(tables).fallback(refused))
        .route("/iceberg/v1/namespaces/{namespace}/tables/{table}", get(load).head(exists).fallback(refused))
        .route("/iceberg/v1/namespaces/{namespace}/tables/{table}/metrics", post(take_metrics).fallback(refused))
        .route("/iceberg", get(unknown).fallback(refused))
        .route("/iceberg/{*rest}", get(unknown).fallback(refused))
        .with_state(node)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    page_token: Option<String>,
    page_size: Option<usize>,
    parent: Option<String>,
}

async fn config() -> Json<CatalogConfig> {
    Json(CatalogConfig { defaults: BTreeMap::new(), overrides: BTreeMap::new(), endpoints: ENDPOINTS })
}

async fn namespaces(Query(page): Query<Page>) -> Result<Json<Namespaces>, Refusal> {
    let namespaces = match page.parent.as_deref().filter(|parent| !parent.is_empty()) {
        None => vec![[NAMESPACE]],
        Some(parent) => {
            check_namespace(parent)?;
            Vec::new()
        }
    };
    Ok(Json(Namespaces { namespaces, next_page_token: None }))
}

async fn namespace(Path(name): Path<String>) -> Result<Json<Namespace>, Refusal> {
    check_namespace(&name)?;
    Ok(Json(Namespace { namespace: [NAMESPACE], properties: BTreeMap::new() }))
}

async fn tables(
    State(node): State<Node>,
    Path(namespace): Path<String>,
    Query(page): Query<Page>,
) -> Result<Json<Tables>, Refusal> {
    check_namespace(&namespace)?;
    let topics = (node.topics)().ok_or_else(not_open)?;
    let after = page.page_token.unwrap_or_default();
    // Topics come in the order of their names, and the last name of a page leads to the next.
    let rest = topics.iter().filter(|topic| has_table(topic)).map(|topic| topic.name.as_str());
    let mut rest = rest.filter(|name| *name > after.as_str()).peekable();
    let size = page.page_size.unwrap_or(PAGE).clamp(1, PAGE);
    let identifier = |name: &str| Identifier { namespace: [NAMESPACE], name: name.to_owned() };
    let identifiers: Vec<_> = rest.by_ref().take(size).map(identifier).collect();
    let more = rest.peek().is_some();
    let next_page_token = identifiers.last().filter(|_| more).map(|last| last.name.clone());
    Ok(Json(Tables { identifiers, next_page_token }))
}

async fn exists(
    State(node): State<Node>,
    Path((namespace, table)): Path<(String, String)>,
) -> Result<StatusCode, Refusal> {
    let (files, name) = find(&node, &namespace, &table)?;
    match newest(&files).await.map_err(|error| unreadable(&error))? {
        Some(_) => Ok(StatusCode::NO_CONTENT),
        None => Err(no_metadata(&name)),
    }
}

async fn load(
    State(node): State<Node>,
    Path((namespace, table)): Path<(String, String)>,
) -> Result<Json<Loaded>, Refusal> {
    let (files, name) = find(&node, &namespace, &table)?;
    for _ in 0..TRIES {
        let found = newest(&files).await.map_err(|error| unreadable(&error))?;
        let version = found.ok_or_else(|| no_metadata(&name))?.version;
        let Some(bytes) = absent(files.metadata(version).await).map_err(|error| unreadable(&error))? else { continue };
        let text = String::from_utf8(bytes.to_vec()).ok();
        let metadata = text.and_then(|text| RawValue::from_string(text).ok());
        let damaged = || Refusal::unavailable(format!("v{version}.metadata.json of topic {name} is damaged"));
        return Ok(Json(Loaded {
            metadata_location: files.table.metadata_url(version),
            metadata: metadata.ok_or_else(damaged)?,
            config: files.cold.access().clone(),
        }));
    }
    Err(Refusal::unavailable(format!("the table of topic {name} is being taken away")))
}

async fn take_metrics(
    State(node): State<Node>,
    Path((namespace, table)): Path<(String, String)>,
) -> Result<StatusCode, Refusal> {
    find(&node, &namespace, &table).map(|_| StatusCode::NO_CONTENT)
}

async fn unknown(uri: Uri) -> Refusal {
    let message =
        format!("{} is nothing that this catalog has: it serves the tables of one namespace, for reading", uri.path());
    Refusal::new(StatusCode::NOT_FOUND, "NotFoundException", message)
}

/// What would change something.
async fn refused(method: Method, uri: Uri) -> Response {
    let message = format!(
        "{method} {} is refused: a table is what its topic's log holds, and only producers, retention and DeleteRecords change that",
        uri.path()
    );
    Refusal::new(StatusCode::NOT_ACCEPTABLE, "UnsupportedOperationException", message).into_response()
}

fn check_namespace(name: &str) -> Result<(), Refusal> {
    if name.split(SEPARATOR).eq([NAMESPACE]) { Ok(()) } else { Err(Refusal::no_namespace(name)) }
}

/// The table of that name, which need not have metadata yet, and its topic's name.
fn find(node: &Node, namespace: &str, table: &str) -> Result<(Files, String), Refusal> {
    check_namespace(namespace)?;
    let cold = (node.cold)().ok_or_else(not_open)?;
    let mut topic = (node.topic)(table).ok_or_else(not_open)?;
    if topic.is_none()
        && let Some(name) = names::unescape(table)
    {
        topic = (node.topic)(&name).ok_or_else(not_open)?;
    }
    let Some(topic) = topic else { return Err(Refusal::no_table(format!("there is no topic {table:?}"))) };
    let name = topic.name.to_string();
    if !has_table(&topic) {
        let message = format!("topic {name} has no table: it is not archived, or firn.iceberg.enable is false");
        return Err(Refusal::no_table(message));
    }
    Ok((files_of(&cold, &topic), name))
}

fn files_of(cold: &ColdTier, topic: &TopicArchive) -> Files {
    Files::new(cold, &topic.name, topic.id)
}

fn not_open() -> Refusal {
    Refusal::unavailable("the node is starting")
}

fn no_metadata(topic: &str) -> Refusal {
    Refusal::no_table(format!(
        "the table of topic {topic} is not there yet: it is made within firn.iceberg.commit.interval.ms"
    ))
}

fn unreadable(error: &StoreError) -> Refusal {
    Refusal::unavailable(error.to_string())
}
