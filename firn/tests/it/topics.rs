//! Topics and groups.

use serde_json::{Value, json};

use crate::process::{Server, failed};

#[test]
fn a_topic_is_created_listed_described_altered_and_deleted() {
    let server = Server::start();
    let created =
        server.json(&["topic", "create", "t", "--partitions", "2", "--config", "retention.ms=1000000000", "--json"]);
    assert_eq!(
        (&created["name"], &created["partitions"], &created["replication_factor"]),
        (&json!("t"), &json!(2), &json!(1))
    );
    let listed = server.json(&["topic", "list", "--json"]);
    assert_eq!(listed[0]["name"], "t");
    assert_eq!(listed[0]["id"], created["id"]);
    assert!(server.text(&["topic", "list"]).contains(created["id"].as_str().unwrap()));

    server.text(&[
        "topic",
        "alter",
        "t",
        "--config",
        "segment.bytes=2048",
        "--delete-config",
        "retention.ms",
        "--partitions",
        "3",
    ]);
    let described = &server.json(&["topic", "describe", "t", "--json"])[0];
    assert_eq!(described["partition_list"].as_array().unwrap().len(), 3);
    assert_eq!(described["configs"]["segment.bytes"], json!({"value": "2048", "source": "topic"}));
    assert_eq!(described["configs"]["retention.ms"]["source"], "default");
    assert_eq!(described["partition_list"][0]["in_sync"], json!([1]));
    assert!(server.text(&["topic", "describe"]).contains("segment.bytes = 2048 (topic)"));

    server.text(&["topic", "delete", "t"]);
    assert_eq!(server.json(&["topic", "list", "--json"]), json!([]));
}

#[test]
fn what_a_topic_cannot_be_is_refused_with_the_reason() {
    let server = Server::start();
    let reason = |arguments: &[&str]| failed(&server.output(arguments), 1);
    server.text(&["topic", "create", "t"]);
    assert!(reason(&["topic", "create", "t"]).contains("TOPIC_ALREADY_EXISTS"));
    assert!(reason(&["topic", "create", "a/b"]).contains("INVALID_TOPIC"));
    assert!(reason(&["topic", "create", "u", "--config", "segment.byte=1"]).contains("segment.bytes"));
    assert!(reason(&["topic", "alter", "t", "--config", "segment.bytes=1"]).contains("1024"));
    assert!(reason(&["topic", "alter", "t"]).contains("nothing to change"));
    assert!(reason(&["topic", "delete", "u"]).contains("UNKNOWN_TOPIC_OR_PARTITION"));
    assert!(reason(&["topic", "describe", "u"]).contains("there is no such topic"));
}

#[test]
fn a_group_that_is_not_there_is_said_to_be_missing() {
    let server = Server::start();
    assert_eq!(server.json(&["group", "list", "--json"]), Value::Array(Vec::new()));
    assert!(failed(&server.output(&["group", "describe", "g"]), 1).contains("group \"g\""));
}
