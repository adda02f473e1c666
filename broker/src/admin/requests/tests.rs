//! The bounds of the admin port, over real sockets, with short times.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::{get, post};
use futures::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::admin::connections::{ConnectionLimits, serve};
use crate::admin::{Routes, bounded};
use crate::machine::sockets::bind;

/// Larger than what sockets take by themselves.
const ANSWER_BYTES: usize = 32 << 20;
const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(3600);
const CONNECTIONS: usize = 40;

struct Port {
    address: SocketAddr,
    _stop: DropGuard,
}

impl Port {
    async fn open(connections: ConnectionLimits, requests: RequestLimits) -> Port {
        let listener = bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let vital = Router::new().route("/health", get(|| async { "healthy" }));
        let whole = Router::new().route("/whole", get(|| async { vec![b'a'; ANSWER_BYTES] }));
        let pieces = || stream::iter(0..ANSWER_BYTES >> 16).map(|_| Ok::<_, std::io::Error>(vec![b'p'; 1 << 16]));
        let streaming = Router::new()
            .route("/length", post(|body: Bytes| async move { body.len().to_string() }))
            .route("/pieces", get(move || async move { Body::from_stream(pieces()) }));
        let more = Routes { whole, streaming };
        let routes = bounded(&Places::new(requests), vital, more, &tokio::runtime::Handle::current());
        tokio::spawn(serve(routes, listener, connections, stop.clone()));
        Port { address, _stop: stop.drop_guard() }
    }

    async fn send(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// The answer to a request after which the connection ends.
    async fn ask(&self, request: &str) -> String {
        rest_of(&mut self.send(request).await).await
    }

    async fn is_healthy(&self) -> bool {
        self.ask("GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.ends_with("healthy")
    }
}

/// What comes until the connection ends.
async fn rest_of(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    // A connection that is cut is reset.
    let _ = stream.read_to_end(&mut rest).await;
    String::from_utf8_lossy(&rest).into_owned()
}

fn upload(length: usize, body: &str) -> String {
    format!("POST /length HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn patient() -> (ConnectionLimits, RequestLimits) {
    let connections = ConnectionLimits { count: CONNECTIONS, head: LONG, stall: LONG };
    (connections, RequestLimits { wait: LONG, body: LONG, answer: LONG })
}

#[tokio::test]
async fn a_head_that_is_never_complete_ends_its_connection() {
    let (connections, requests) = patient();
    let port = Port::open(ConnectionLimits { head: SHORT, ..connections }, requests).await;
    for begun in ["", "GET /health HTTP/1.1\r\nho"] {
        assert_eq!(port.ask(begun).await, "", "{begun:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_never_complete_or_too_large_is_refused_as_json() {
    let (connections, requests) = patient();
    let port = Port::open(connections, RequestLimits { body: SHORT, ..requests }).await;
    let late = port.ask(&upload(100_000, "begun")).await;
    assert!(
        late.starts_with("HTTP/1.1 408 ") && late.contains(r#"{"error":"the body was not complete within"#),
        "{late}"
    );
    let announced = port.ask(&upload(MAX_BODY_BYTES + 1, "begun")).await;
    let chunk = format!("{:x}\r\n{}\r\n", MAX_BODY_BYTES + 1, "b".repeat(MAX_BODY_BYTES + 1));
    let chunked = "POST /length HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut sending = port.send(chunked).await;
    // The answer comes before the end.
    let _ = sending.write_all(chunk.as_bytes()).await;
    let mut status = [0; 12];
    sending.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 413");
    assert!(announced.starts_with("HTTP/1.1 413 ") && announced.contains(r#"{"error":"the body of"#), "{announced}");
    let largest = port.ask(&upload(MAX_BODY_BYTES, &"b".repeat(MAX_BODY_BYTES))).await;
    assert!(largest.ends_with(&MAX_BODY_BYTES.to_string()), "{largest}");
}

#[tokio::test]
async fn unfinished_bodies_hold_bounded_memory_and_leave_room_for_small_ones() {
    let (connections, requests) = patient();
    let port = Port::open(connections, RequestLimits { wait: SHORT, ..requests }).await;
    let mut unfinished = Vec::new();
    for _ in 0..BODY_MEMORY_BYTES / MAX_BODY_BYTES {
        unfinished.push(port.send(&upload(MAX_BODY_BYTES, "begun")).await);
    }
    let full = async || port.ask(&upload(MAX_BODY_BYTES, "begun")).await.starts_with("HTTP/1.1 503 ");
    while !full().await {
        tokio::task::yield_now().await;
    }
    assert!(port.ask(&upload(5, "small")).await.ends_with('5'));
    assert!(port.is_healthy().await);
    drop(unfinished);
    let whole = upload(MAX_BODY_BYTES, &"b".repeat(MAX_BODY_BYTES));
    while !port.ask(&whole).await.ends_with(&MAX_BODY_BYTES.to_string()) {
        tokio::time::sleep(SHORT).await;
    }
}

#[tokio::test]
async fn a_connection_beyond_the_bound_takes_the_place_of_the_one_that_was_quiet_for_longest() {
    let (connections, requests) = patient();
    let port = Port::open(connections, requests).await;
    let mut uploading = port.send(&upload(5, "")).await;
    let mut watching = port.send("GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_ne!(watching.read(&mut [0; 1024]).await.unwrap(), 0);
    let mut quiet = Vec::new();
    for _ in 0..CONNECTIONS {
        quiet.push(port.send("GET /hea").await);
        if quiet.len() == CONNECTIONS / 2 {
            watching.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            assert_ne!(watching.read(&mut [0; 1024]).await.unwrap(), 0);
        }
    }
    assert!(port.is_healthy().await);
    assert_eq!(rest_of(&mut quiet[0]).await, "");
    watching.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert_ne!(watching.read(&mut [0; 1024]).await.unwrap(), 0);
    uploading.write_all(b"small").await.unwrap();
    assert!(rest_of(&mut uploading).await.ends_with('5'));
}

#[tokio::test]
async fn an_answer_that_is_made_at_the_clients_pace_waits_for_it() {
    let (connections, requests) = patient();
    let port = Port::open(ConnectionLimits { stall: SHORT, ..connections }, requests).await;
    let mut reading = port.send("GET /pieces HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    tokio::time::sleep(4 * SHORT).await;
    assert!(rest_of(&mut reading).await.len() > ANSWER_BYTES);
}

#[tokio::test]
async fn answers_that_nobody_reads_are_few_and_end() {
    let (connections, requests) = patient();
    let asked = "GET /whole HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    for (stall, answer) in [(SHORT, LONG), (LONG, SHORT)] {
        let wait = RequestLimits { wait: SHORT / 10, answer, ..requests };
        let port = Port::open(ConnectionLimits { stall, ..connections }, wait).await;
        let mut waiting = Vec::new();
        for _ in 0..=MAX_ANSWERS {
            waiting.push(port.send(asked).await);
        }
        tokio::time::sleep(4 * SHORT).await;
        assert!(port.is_healthy().await);
        for mut stream in waiting {
            assert!(rest_of(&mut stream).await.len() < ANSWER_BYTES, "the answer was sent nevertheless");
        }
        assert!(port.ask(asked).await.len() > ANSWER_BYTES);
    }
}
