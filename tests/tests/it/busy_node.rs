//! A node all of whose worker threads are busy for longer than a session: it stays in the cluster, and answers for its health.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use broker::{Config, Overrides, Server};
use protocol::messages::DescribeClusterRequest;

use crate::node::Client;

/// Threads of each node for everything but its liveness.
const WORKERS: usize = 2;
const SESSION_MS: u64 = 2_500;
/// How long the workers of a node are busy.
const BUSY: Duration = Duration::from_millis(2 * SESSION_MS);
/// How long `/health` may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

struct Member {
    runtime: tokio::runtime::Runtime,
    server: Option<Server>,
    _folder: tempfile::TempDir,
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop());
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn member(id: i32, peers: &str, store: &Path) -> Member {
    let folder = tempfile::tempdir().unwrap();
    let mut overrides = Overrides {
        node_id: Some(id),
        data_dir: Some(folder.path().join("data")),
        listen: Some("127.0.0.1:0".parse().unwrap()),
        admin: Some("127.0.0.1:0".parse().unwrap()),
        peers: Some(peers.parse().unwrap()),
        object_store: Some(format!("file://{}", store.display())),
        ..Overrides::default()
    };
    overrides.internal = peers.split(',').find_map(|peer| peer.strip_prefix(&format!("{id}@"))?.parse().ok());
    overrides.set(&format!("broker.session.timeout.ms={SESSION_MS}")).unwrap();
    let config = Config::compose([overrides]).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().unwrap();
    let server = runtime.block_on(Box::pin(Server::start(config))).unwrap();
    Member { runtime, server: Some(server), _folder: folder }
}

fn cluster(store: &Path) -> Vec<Member> {
    let peers: Vec<String> = (1..=3).map(|id| format!("{id}@127.0.0.1:{}", free_port())).collect();
    let peers = peers.join(",");
    std::thread::scope(|scope| {
        let start = |id| {
            let peers = &peers;
            scope.spawn(move || member(id, peers, store))
        };
        let starting: Vec<_> = (1..=3).map(start).collect();
        starting.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// The first line of what `/health` answers, in time.
fn health(admin: SocketAddr) -> String {
    let asked = Instant::now();
    let mut stream = TcpStream::connect_timeout(&admin, ANSWER_WITHIN).unwrap();
    stream.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in time");
    assert!(asked.elapsed() < ANSWER_WITHIN, "it took {:?}", asked.elapsed());
    answer.lines().next().unwrap_or_default().to_owned()
}

/// The brokers that the node counts as lost.
fn fenced(node: &Server) -> Vec<i32> {
    let request = DescribeClusterRequest { include_fenced_brokers: true, ..DescribeClusterRequest::default() };
    let mut brokers = Client::to(node.listen_address()).ask(&request, 2).brokers;
    brokers.retain(|broker| broker.is_fenced);
    brokers.iter().map(|broker| broker.broker_id).collect()
}

#[test]
fn a_node_whose_workers_are_all_busy_keeps_its_session_and_answers_for_its_health() {
    let store = tempfile::tempdir().unwrap();
    let members = cluster(store.path());
    let server = |index: usize| members[index].server.as_ref().unwrap();
    let (busy, watching) = (2, 0);
    let admin = server(busy).admin_address();
    assert!(health(admin).contains("200"));
    let all_busy = Arc::new(Barrier::new(WORKERS + 1));
    for _ in 0..WORKERS {
        let all_busy = Arc::clone(&all_busy);
        members[busy].runtime.spawn(async move {
            all_busy.wait();
            std::thread::sleep(BUSY);
        });
    }
    all_busy.wait();
    let began = Instant::now();
    while began.elapsed() < BUSY {
        assert!(health(admin).contains("200"));
        assert_eq!(fenced(server(watching)), [0; 0], "after {:?}", began.elapsed());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(fenced(server(watching)), [0; 0]);
}
