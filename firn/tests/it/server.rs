//! Starting, stopping, and what a stop or a kill leaves.

use std::time::Duration;

use crate::process::{Server, wait_for};

#[test]
fn a_server_that_is_asked_to_stop_does_so_within_seconds_and_keeps_its_data() {
    let mut server = Server::start();
    server.produce(&["kept"], b"one\ntwo\n");
    let (status, took) = server.terminate();
    assert_eq!(status, Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
    let server = server.restart();
    assert_eq!(server.text(&["consume", "kept"]), "one\ntwo\n");
    server.produce(&["kept"], b"three\n");
    assert_eq!(server.text(&["consume", "kept"]), "one\ntwo\nthree\n");
}

#[test]
fn a_server_that_is_killed_has_every_acknowledged_record_afterwards() {
    let server = Server::start();
    let input: String = (0..2000).map(|n| format!("record {n}\n")).collect();
    server.produce(&["kept"], input.as_bytes());
    let server = server.kill_and_restart();
    assert_eq!(server.text(&["consume", "kept"]), input);
}

#[test]
fn the_admin_port_tells_health_and_metrics() {
    let server = Server::start();
    server.produce(&["m"], b"x\n");
    assert!(server.get("/health").0.contains("200"));
    assert!(server.get("/ready").0.contains("200"));
    let metrics = wait_for("metrics", || {
        let (_, body) = server.get("/metrics");
        body.contains("firn_requests_total").then_some(body)
    });
    for name in ["firn_request_seconds", "firn_produced_records_total", "firn_log_bytes", "firn_partitions"] {
        assert!(metrics.contains(name), "{name} is missing:\n{metrics}");
    }
}
