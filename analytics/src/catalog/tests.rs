//! Answers of the catalog over a topic with a table, as the specification wants them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use model::TopicName;
use model::archive::TopicArchive;
use serde_json::{Value, json};
use tower_service::Service;

use super::*;
use crate::lake::tests::archive::Archive;

/// A node with the topic `orders`, whose table is there, and others of these names without.
fn node(archive: &Archive, others: &[&str]) -> Node {
    let first = archive.topic();
    let named = |name: &&str| (TopicName::new(name).unwrap(), first.clone());
    let named = others.iter().map(named).map(|(name, topic)| TopicArchive { name, ..topic });
    let topics: BTreeMap<_, _> = named.chain([first.clone()]).map(|topic| (topic.name.to_string(), topic)).collect();
    let (all, cold) = (topics.clone(), archive.cold.clone());
    Node {
        topics: Arc::new(move || Some(all.values().cloned().collect())),
        topic: Arc::new(move |name| Some(topics.get(name).cloned())),
        cold: Arc::new(move || Some(cold.clone())),
    }
}

async fn ask(node: &Node, method: &str, path: &str) -> (StatusCode, Value) {
    let request = Request::builder().method(method).uri(format!("/iceberg{path}")).body(Body::empty()).unwrap();
    let answer = router(node.clone()).call(request).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() })
}

async fn archive() -> Archive {
    let mut archive = Archive::new(1);
    archive.append(0, 10).await;
    archive.commit(&mut archive.table()).await.unwrap();
    archive
}

#[tokio::test]
async fn a_table_is_loaded_with_its_newest_metadata() {
    let mut archive = archive().await;
    let node = node(&archive, &[]);
    archive.append(0, 10).await;
    archive.commit(&mut archive.table()).await.unwrap();
    let (status, loaded) = ask(&node, "GET", "/v1/namespaces/topics/tables/orders").await;
    assert_eq!(status, StatusCode::OK);
    assert!(loaded["metadata-location"].as_str().unwrap().ends_with("/iceberg/metadata/v2.metadata.json"));
    assert_eq!(loaded["metadata"]["last-sequence-number"], 2);
    assert_eq!(loaded["config"], json!({}));
    assert_eq!(ask(&node, "HEAD", "/v1/namespaces/topics/tables/orders").await.0, StatusCode::NO_CONTENT);
    assert_eq!(ask(&node, "POST", "/v1/namespaces/topics/tables/orders/metrics").await.0, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn there_is_one_namespace_for_each_form_of_names() {
    let node = node(&archive().await, &[]);
    assert_eq!(ask(&node, "GET", "/v1/namespaces").await.1["namespaces"], json!([["topics"], ["topics_escaped"]]));
    assert_eq!(ask(&node, "GET", "/v1/namespaces?parent=topics").await.1["namespaces"], json!([]));
    assert_eq!(ask(&node, "GET", "/v1/namespaces/topics").await.1["namespace"], json!(["topics"]));
    assert_eq!(ask(&node, "HEAD", "/v1/namespaces/topics").await.0, StatusCode::NO_CONTENT);
    assert_eq!(ask(&node, "HEAD", "/v1/namespaces/other").await.0, StatusCode::NOT_FOUND);
    for path in ["/v1/namespaces/other", "/v1/namespaces/topics%1Fdeeper/tables", "/v1/namespaces?parent=other"] {
        let (status, refusal) = ask(&node, "GET", path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(refusal["error"]["type"], "NoSuchNamespaceException", "{path}");
        assert_eq!(refusal["error"]["code"], 404, "{path}");
    }
}

#[tokio::test]
async fn tables_are_listed_in_pages() {
    let node = node(&archive().await, &["a", "b.c", "b-c", "z", "__consumer_offsets"]);
    let names = |answer: &Value| -> Vec<String> {
        let identifiers = answer["identifiers"].as_array().unwrap().iter();
        identifiers.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    let (_, all) = ask(&node, "GET", "/v1/namespaces/topics/tables").await;
    assert_eq!(names(&all), ["a", "b-c", "b.c", "orders", "z"]);
    assert_eq!(all["next-page-token"], Value::Null);
    let (mut listed, mut token) = (Vec::new(), String::new());
    loop {
        let (_, page) = ask(&node, "GET", &format!("/v1/namespaces/topics/tables?pageSize=2&pageToken={token}")).await;
        listed.extend(names(&page));
        assert!(names(&page).len() <= 2);
        match page["next-page-token"].as_str() {
            Some(next) => next.clone_into(&mut token),
            None => break,
        }
    }
    assert_eq!(listed, names(&all));
}

#[tokio::test]
async fn the_second_form_of_a_name_means_one_topic_whichever_topics_there_are() {
    let archive = archive().await;
    let location = async |node: &Node, table: &str| {
        let (status, loaded) = ask(node, "GET", &format!("/v1/namespaces/{table}")).await;
        (status, loaded["metadata"]["location"].as_str().map(|place| place.contains("/orders-")))
    };
    let alone = node(&archive, &[]);
    assert_eq!(location(&alone, "topics_escaped/tables/orders").await, (StatusCode::OK, Some(true)));
    for others in [&["ord.X"][..], &["ord.X", "ord_dX"], &["ord_dX"]] {
        let node = node(&archive, others);
        for (table, topic) in [
            ("topics/tables/ord_dX", "ord_dX"),
            ("topics_escaped/tables/ord_dX", "ord.X"),
            ("topics_escaped/tables/ord__dX", "ord_dX"),
        ] {
            let (_, refusal) = ask(&node, "GET", &format!("/v1/namespaces/{table}")).await;
            let message = refusal["error"]["message"].as_str().unwrap();
            // The others have no metadata, so the message names the topic that was found.
            let is_found = message.contains(&format!("the table of topic {topic} is not there yet"));
            assert_eq!(is_found, others.contains(&topic), "{table} of {others:?}: {message}");
        }
    }
    let (_, listed) = ask(&node(&archive, &["a", "a.b"]), "GET", "/v1/namespaces/topics_escaped/tables").await;
    assert_eq!(listed["identifiers"], json!([{ "namespace": ["topics_escaped"], "name": "a_db" }]));
}

#[tokio::test]
async fn a_table_that_is_not_there_is_named_with_the_reason() {
    let archive = archive().await;
    let mut node = node(&archive, &["orders.eu-west"]);
    // Its folder is that of the same id, so it has the same table under both of its names.
    let missing = [
        ("topics/tables/nothing", "nothing"),
        ("topics/tables/orders.eu-west", "orders.eu-west"),
        ("topics_escaped/tables/orders_deu_hwest", "orders.eu-west"),
    ];
    for (table, topic) in missing {
        let (status, refusal) = ask(&node, "GET", &format!("/v1/namespaces/{table}")).await;
        assert_eq!((status, &refusal["error"]["type"]), (StatusCode::NOT_FOUND, &json!("NoSuchTableException")));
        assert!(refusal["error"]["message"].as_str().unwrap().contains(topic), "{refusal}");
    }
    node.topic = Arc::new(|_| None);
    let (status, refusal) = ask(&node, "GET", "/v1/namespaces/topics/tables/orders").await;
    assert_eq!((status, &refusal["error"]["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!(503)));
}

#[tokio::test]
async fn whatever_would_change_something_is_refused() {
    let node = node(&archive().await, &[]);
    let changes = [
        ("POST", "/v1/namespaces"),
        ("DELETE", "/v1/namespaces/topics"),
        ("POST", "/v1/namespaces/topics/properties"),
        ("POST", "/v1/namespaces/topics/tables"),
        ("POST", "/v1/namespaces/topics/register"),
        ("POST", "/v1/namespaces/topics/tables/orders"),
        ("DELETE", "/v1/namespaces/topics/tables/orders"),
        ("POST", "/v1/tables/rename"),
        ("POST", "/v1/transactions/commit"),
    ];
    for (method, path) in changes {
        let (status, refusal) = ask(&node, method, path).await;
        assert_eq!(status, StatusCode::NOT_ACCEPTABLE, "{method} {path}");
        assert_eq!(refusal["error"]["type"], "UnsupportedOperationException", "{method} {path}");
        assert!(refusal["error"]["message"].as_str().unwrap().contains("only producers"), "{refusal}");
    }
}

#[tokio::test]
async fn errors_are_those_that_the_specification_has_for_the_route() {
    let node = node(&archive().await, &[]);
    let (table, namespace) = ("NoSuchTableException", "NoSuchNamespaceException");
    let missing = [
        ("GET", "/v1/namespaces/topics%1Forders/tables/snapshots", 404, table),
        ("GET", "/v1/namespaces/other/tables/orders", 404, table),
        ("POST", "/v1/namespaces/other/tables/orders/metrics", 404, table),
        ("GET", "/v1/namespaces/other/tables", 404, namespace),
        ("GET", "/v1/namespaces/other/views", 404, namespace),
        ("GET", "/v1/namespaces/topics/views/orders", 404, "NoSuchViewException"),
        ("GET", "/v1/namespaces/topics/functions", 404, "NotFoundException"),
        ("GET", "/v1/namespaces/topics/tables?pageSize=many", 400, "BadRequestException"),
        ("GET", "/v1/namespaces/topics/tables/%FF", 400, "BadRequestException"),
    ];
    for (method, path, status, kind) in missing {
        let (answered, refusal) = ask(&node, method, path).await;
        let error = &refusal["error"];
        assert_eq!(
            (answered.as_u16(), &error["type"], &error["code"]),
            (status, &json!(kind), &json!(status)),
            "{path}"
        );
    }
    assert_eq!(ask(&node, "HEAD", "/v1/namespaces/other/tables/orders").await.0, StatusCode::NOT_FOUND);
    assert_eq!(ask(&node, "GET", "/v1/namespaces/topics/views").await.1["identifiers"], json!([]));
    let (status, refusal) = ask(&node, "POST", "/v1/oauth/tokens").await;
    assert_eq!((status, &refusal["error"]), (StatusCode::BAD_REQUEST, &json!("unsupported_grant_type")));
}
