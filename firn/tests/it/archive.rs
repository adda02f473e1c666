//! The archive and `inspect`: what settles, what it looks like, and what damage is called.

use std::fs;

use crate::process::{Server, failed, wait_for};

/// Produces until every closed segment is archived and has left the local disk; gives what was sent.
fn settled(server: &Server, topic: &str) -> String {
    let input: String = (0..3000).map(|n| format!("record {n} of those that settle into Parquet\n")).collect();
    for part in input.as_bytes().chunks(input.len() / 20 + 1) {
        // Cut at lines, so that several segments close.
        server.produce(&[topic, "--json"], &as_json(part));
    }
    wait_for("eviction", || {
        let status = server.archive_status(topic);
        let number = |name: &str| status[name].as_i64().unwrap_or(0);
        // The first segments may have gone before the next ones are archived.
        let is_all_archived = number("backlog_bytes") == 0;
        (is_all_archived && number("local_start") > 0 && number("local_start") == number("archived_end")).then_some(())
    });
    input
}

/// Bytes as JSON lines whose values, put together, are the bytes again.
fn as_json(part: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(part);
    text.split_inclusive('\n')
        .flat_map(|line| format!("{}\n", serde_json::json!({ "value": line })).into_bytes())
        .collect()
}

#[test]
fn history_settles_into_parquet_and_reads_back_from_offset_0() {
    let server = Server::start();
    let input = settled(&server, "snow");
    let status = server.archive_status("snow");
    let number = |name: &str| status[name].as_i64().unwrap();
    assert!(number("log_start") == 0 && number("archived_end") <= number("last_stable"), "{status}");
    assert!(number("archived_objects") > 1 && number("archived_bytes") > 0, "{status}");
    let values: String = server
        .json_lines(&["consume", "snow", "--json"])
        .iter()
        .map(|record| record["value"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(values, input);

    let listed = server.json(&["archive", "list", "snow", "--json"]);
    let objects = listed[0]["objects"].as_array().unwrap();
    assert_eq!(objects.len(), usize::try_from(number("archived_objects")).unwrap());
    assert_eq!(objects.last().unwrap()["next_offset"], status["archived_end"]);
    let first = objects[0]["object"].as_str().unwrap();
    assert!(server.text(&["archive", "list", "snow", "--partition", "0"]).contains(first));
    assert!(server.text(&["archive", "status"]).contains("snow"));
    assert!(failed(&server.output(&["archive", "list", "nix"]), 1).contains("nix"));
}

#[test]
fn an_object_and_a_manifest_can_be_inspected_offline() {
    let mut server = Server::start();
    settled(&server, "ice");
    let records = server.json_lines(&["consume", "ice", "--json"]);
    assert_eq!(server.terminate().0, Some(0));

    let object = server.files("parquet").remove(0);
    let object = object.to_str().unwrap();
    let facts = server.json(&["inspect", object, "--json"]);
    assert_eq!((&facts["kind"], &facts["entries"]["firn.topic"]), (&"object".into(), &"ice".into()));
    let count = usize::try_from(facts["records"].as_u64().unwrap()).unwrap();
    let shown = server.json_lines(&["inspect", object, "--records", "--json"]);
    assert_eq!(shown, records[..count]);
    let url = format!("file://{object}");
    assert!(server.text(&["inspect", &url]).contains("firn.topic = ice"));
    assert!(server.text(&["inspect", &url, "--records"]).contains("record 0 of those"));

    let manifest = server.files("manifest").pop().unwrap();
    let manifest = manifest.to_str().unwrap();
    let facts = server.json(&["inspect", manifest, "--json"]);
    assert_eq!((&facts["kind"], &facts["topic"]), (&"manifest".into(), &"ice".into()));
    assert!(server.text(&["inspect", manifest]).contains("archived end"));
    assert!(failed(&server.output(&["inspect", manifest, "--records"]), 2).contains("holds no records"));
}

#[test]
fn a_segment_can_be_inspected_and_its_damage_is_named() {
    let mut server = Server::start();
    server.text(&[
        "topic",
        "create",
        "hot",
        "--config",
        "remote.storage.enable=false",
        "--config",
        "segment.bytes=1048576",
    ]);
    for n in 0..40 {
        server.produce(&["hot", "--header", "h=1"], format!("{n} {}\n", "x".repeat(200)).as_bytes());
    }
    let records = server.json_lines(&["consume", "hot", "--json"]);
    assert_eq!(server.terminate().0, Some(0));

    let is_hot = |path: &std::path::PathBuf| path.to_string_lossy().contains("hot-0");
    let segment = server.files("log").into_iter().find(is_hot).unwrap();
    let path = segment.to_str().unwrap();
    let facts = server.json(&["inspect", path, "--json"]);
    assert_eq!(facts["batches"].as_array().unwrap().len(), 40);
    assert_eq!(facts["intact_bytes"], facts["size_bytes"]);
    assert_eq!(server.json_lines(&["inspect", path, "--records", "--json"]), records);
    assert!(server.text(&["inspect", path]).contains("40 batches, 40 records"));
    for extension in ["index", "timeindex"] {
        if let Some(index) = server.files(extension).into_iter().find(is_hot) {
            let facts = server.json(&["inspect", index.to_str().unwrap(), "--json"]);
            assert!(!facts["entries"].as_array().unwrap().is_empty(), "{facts}");
        }
    }

    let second = usize::try_from(facts["batches"][1]["position"].as_u64().unwrap()).unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[second + 80] ^= 1;
    let damaged = server.data_dir().join("damaged.log");
    fs::write(&damaged, &bytes).unwrap();
    let output = server.output(&["inspect", damaged.to_str().unwrap()]);
    assert!(failed(&output, 1).contains(&format!("is damaged at byte {second} (1 places)")));
    assert!(String::from_utf8_lossy(&output.stdout).contains("DAMAGED"));
}
