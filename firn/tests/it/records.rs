//! Records in and out: text, keys, JSON, headers, codecs, times.

use serde_json::{Value, json};

use crate::process::{Server, failed, run_with};

#[test]
fn lines_come_back_as_they_went_in() {
    let server = Server::start();
    let input: String = (0..500).map(|n| format!("line {n} æ\n")).collect();
    let summary = server.produce(&["lines"], input.as_bytes());
    assert!(summary.contains("500 records to topic lines"), "{summary}");
    assert!(summary.contains("partition 0: 500 records, offsets 0 to 499"), "{summary}");
    assert_eq!(server.text(&["consume", "lines"]), input);
    assert_eq!(server.text(&["consume", "lines", "--from", "498"]), "line 498 æ\nline 499 æ\n");
    assert_eq!(server.text(&["consume", "lines", "--max", "1"]), "line 0 æ\n");
    assert_eq!(server.text(&["consume", "lines", "--from", "end"]), "");
}

#[test]
fn keys_decide_the_partition_as_in_kafkas_java_client() {
    let server = Server::start();
    server.text(&["topic", "create", "keys", "--partitions", "3"]);
    server.produce(&["keys", "--key-separator", "::"], b"foobar::1\nabc::2\nfoobar::3\n");
    // murmur2("foobar") = -790332482, murmur2("abc") = 479470107; their lower 31 bits modulo 3.
    let of = |hash: i32| ((hash & i32::MAX) % 3).to_string();
    let read = |partition: &str| server.text(&["consume", "keys", "--partition", partition, "--key-separator", "="]);
    let (foobar, abc) = (of(-790_332_482), of(479_470_107));
    assert!(read(&foobar).starts_with("foobar=1\n") && read(&foobar).contains("foobar=3\n"));
    assert!(read(&abc).contains("abc=2\n"));
}

#[test]
fn json_lines_survive_a_round_trip_through_every_codec() {
    let server = Server::start();
    let records = [
        json!({"key": "k", "value": "v", "timestamp": 1_700_000_000_000_i64, "headers": [{"key": "h", "value": "x"}, {"key": "h", "value": null}]}),
        json!({"key": null, "value": null, "timestamp": 1_700_000_000_001_i64, "headers": []}),
        json!({"key_base64": "/wA=", "value_base64": "gIE=", "timestamp": 1_700_000_000_002_i64, "headers": [{"key": "b", "value_base64": "/w=="}]}),
        json!({"key": "", "value": "line\nbreak \"quoted\" ❄", "timestamp": 1_700_000_000_003_i64, "headers": []}),
    ];
    let input: String = records.iter().map(|record| format!("{record}\n")).collect();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let summary = server.produce(&[codec, "--json", "--compression", codec], input.as_bytes());
        let summary: Value = serde_json::from_str(&summary).unwrap();
        assert_eq!(summary["records"], 4);
        assert_eq!(summary["partitions"]["0"], json!({"records": 4, "first_offset": 0, "last_offset": 3}));
        let read = server.json_lines(&["consume", codec, "--json"]);
        assert_eq!(read.len(), records.len());
        for (offset, (wanted, found)) in records.iter().zip(&read).enumerate() {
            let mut wanted = wanted.clone();
            wanted["topic"] = json!(codec);
            wanted["partition"] = json!(0);
            wanted["offset"] = json!(offset);
            assert_eq!(found, &wanted, "{codec}");
        }
    }
}

#[test]
fn headers_of_the_command_line_go_to_every_record() {
    let server = Server::start();
    server.produce(&["h", "--header", "a=1", "--header", "b=x=y"], b"one\ntwo\n");
    for record in server.json_lines(&["consume", "h", "--json"]) {
        assert_eq!(record["headers"], json!([{"key": "a", "value": "1"}, {"key": "b", "value": "x=y"}]));
    }
}

#[test]
fn a_reader_can_begin_at_a_time() {
    let server = Server::start();
    let line = |n: i64| format!("{{\"value\":\"{n}\",\"timestamp\":{}}}\n", 1_700_000_000_000 + n * 1000);
    server.produce(&["times", "--json"], (0..10).map(line).collect::<String>().as_bytes());
    assert_eq!(server.text(&["consume", "times", "--from-time", "1700000007500"]), "8\n9\n");
    assert_eq!(server.text(&["consume", "times", "--from-time", "2023-11-14T22:13:29Z"]), "9\n");
    assert_eq!(server.text(&["consume", "times", "--from-time", "2100-01-01T00:00:00+02:00"]), "");
}

#[test]
fn a_follower_sees_what_comes_later() {
    let server = Server::start();
    server.produce(&["live"], b"before\n");
    let mut command = server.command(&["consume", "live", "--follow", "--max", "2"]);
    let follower = std::thread::spawn(move || run_with_null(&mut command));
    server.produce(&["live"], b"after\n");
    assert_eq!(follower.join().unwrap(), "before\nafter\n");
}

fn run_with_null(command: &mut std::process::Command) -> String {
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    crate::process::succeeded(output)
}

#[test]
fn a_line_that_cannot_be_read_ends_the_run_after_those_before_it() {
    let server = Server::start();
    let output = run_with(server.command(&["produce", "bad", "--json"]), b"{\"value\":\"ok\"}\n{\"vlaue\":1}\n");
    assert!(failed(&output, 1).contains("line 2 of the input: unknown field `vlaue`"));
    assert_eq!(server.text(&["consume", "bad"]), "ok\n");
    let output = run_with(server.command(&["produce", "bad", "--partition", "7"]), b"x\n");
    assert!(failed(&output, 1).contains("there is no partition 7: the topic has partitions 0 to 0"));
}

#[test]
fn what_is_not_there_is_named() {
    let server = Server::start();
    server.produce(&["orders"], b"x\n");
    let reason = |arguments: &[&str]| failed(&server.output(arguments), 1);
    assert!(reason(&["consume", "ordres"]).contains("did you mean \"orders\"?"));
    assert!(reason(&["consume", "orders", "--from", "5"]).contains("partition 0 of orders, which has 0 to 1"));
    assert!(reason(&["consume", "orders", "--partition", "3"]).contains("there is no partition 3"));
    let output = run_with(crate::process::firn(&["topic", "list", "--bootstrap", "127.0.0.1:1"]), b"");
    assert!(failed(&output, 1).contains("is the server running?"));
}
