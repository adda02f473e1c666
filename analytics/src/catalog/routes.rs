//! The routes of the catalog.

use std::collections::BTreeMap;

use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use cold_tier::{ColdTier, StoreError};
use model::archive::TopicArchive;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Node;
use super::answers::{CatalogConfig, Identifier, Loaded, Namespace, Namespaces, OAuthError, Refusal, Tables};
use super::names::Naming;
use crate::lake::files::{Files, absent, newest};
use crate::lake::has_table;

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
        .route("/iceberg/v1/namespaces/{namespace}", get(namespace).head(namespace_exists).fallback(refused))
        .route("/iceberg/v1/namespaces/{namespace}/tables", get(tables).fallback(refused))
        .route("/iceberg/v1/namespaces/{namespace}/tables/{table}", get(load).head(exists).fallback(refused))
        .route("/iceberg/v1/namespaces/{namespace}/tables/{table}/metrics", post(take_metrics).fallback(refused))
        .route("/iceberg/v1/namespaces/{namespace}/views", get(views).fallback(refused))
        .route("/iceberg/v1/namespaces/{namespace}/views/{view}", get(view).fallback(refused))
        .route("/iceberg/v1/oauth/tokens", post(tokens).fallback(refused))
        .route("/iceberg", get(unknown).fallback(refused))
        .route("/iceberg/{*rest}", get(unknown).fallback(refused))
        .layer(map_response(readable))
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
        None => Naming::ALL.map(|naming| [naming.namespace()]).to_vec(),
        Some(parent) => naming(parent).map(|_| Vec::new())?,
    };
    Ok(Json(Namespaces { namespaces, next_page_token: None }))
}

async fn namespace(Path(name): Path<String>) -> Result<Json<Namespace>, Refusal> {
    let namespace = [naming(&name)?.namespace()];
    Ok(Json(Namespace { namespace, properties: BTreeMap::new() }))
}

async fn namespace_exists(Path(name): Path<String>) -> Result<StatusCode, Refusal> {
    naming(&name).map(|_| StatusCode::NO_CONTENT)
}

async fn tables(
    State(node): State<Node>,
    Path(namespace): Path<String>,
    Query(page): Query<Page>,
) -> Result<Json<Tables>, Refusal> {
    let naming = naming(&namespace)?;
    let topics = (node.topics)().ok_or_else(not_open)?;
    let after = page.page_token.unwrap_or_default();
    // Topics come in the order of their names, and the last topic of a page leads to the next.
    let rest = topics.iter().filter(|topic| has_table(topic)).map(|topic| topic.name.as_str());
    let mut rest = rest.filter(|name| *name > after.as_str() && naming.lists(name)).peekable();
    let size = page.page_size.unwrap_or(PAGE).clamp(1, PAGE);
    let listed: Vec<_> = rest.by_ref().take(size).collect();
    let next_page_token = listed.last().filter(|_| rest.peek().is_some()).map(|last| (*last).to_owned());
    let identifier = |topic: &&str| Identifier { namespace: [naming.namespace()], name: naming.table(topic) };
    Ok(Json(Tables { identifiers: listed.iter().map(identifier).collect(), next_page_token }))
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

/// There are no views, as far as a client asks without having read what the catalog has.
async fn views(Path(namespace): Path<String>) -> Result<Json<Tables>, Refusal> {
    naming(&namespace)?;
    Ok(Json(Tables { identifiers: Vec::new(), next_page_token: None }))
}

async fn view(Path((namespace, view)): Path<(String, String)>) -> Refusal {
    let levels = namespace.replace(SEPARATOR, ".");
    let message = format!("there is no view {view:?} in {levels:?}: this catalog has none");
    Refusal::new(StatusCode::NOT_FOUND, "NoSuchViewException", message)
}

async fn tokens() -> (StatusCode, Json<OAuthError>) {
    let error_description = "this catalog has no authentication: configure neither a credential nor a token";
    (StatusCode::BAD_REQUEST, Json(OAuthError { error: "unsupported_grant_type", error_description }))
}

/// A request that cannot be parsed is refused in the specification's form, too.
async fn readable(answer: Response) -> Response {
    let is_json = answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if answer.status() != StatusCode::BAD_REQUEST || is_json {
        return answer;
    }
    let message = "the path or the parameters of the request cannot be read";
    Refusal::new(StatusCode::BAD_REQUEST, "BadRequestException", message).into_response()
}

async fn unknown(uri: Uri) -> Refusal {
    let message = format!("{} is nothing that this catalog has: it serves the topics' tables, for reading", uri.path());
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

fn naming(namespace: &str) -> Result<Naming, Refusal> {
    Naming::of(namespace).ok_or_else(|| Refusal::no_namespace(&namespace.replace(SEPARATOR, ".")))
}

/// The table of that name, which need not have metadata yet, and its topic's name.
///
/// For a table in a namespace that does not exist, the specification answers that there is no such table: clients in
/// Java ask for `topics.T` `snapshots` first, and only that makes them look for a metadata table of `T`.
fn find(node: &Node, namespace: &str, table: &str) -> Result<(Files, String), Refusal> {
    let Some(naming) = Naming::of(namespace) else {
        let levels = namespace.replace(SEPARATOR, ".");
        return Err(Refusal::no_table(format!(
            "there is no table {table:?} in {levels:?}: there is no such namespace"
        )));
    };
    let cold = (node.cold)().ok_or_else(not_open)?;
    let none = || Refusal::no_table(format!("there is no topic that is called {table:?} in {namespace:?}"));
    let name = naming.topic(table).ok_or_else(none)?;
    let topic = (node.topic)(&name).ok_or_else(not_open)?.ok_or_else(none)?;
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
