//! Three nodes in one process, each with its internal listener on the loopback.

use std::collections::BTreeSet;
use std::path::Path;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::internal::{self, Internal};

mod balancing;
mod failures;
mod forming;
mod forwarding;
mod impaired;
mod links;
mod liveness;
mod processes;
mod quorum;
mod recovery;
mod requests;
mod versions;

/// A silent node is fenced after that.
const SESSION_TIMEOUT: Duration = Duration::from_secs(3);

/// One node, and what keeps it reachable.
struct Node {
    metadata: Metadata,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

/// Where the nodes of one test live.
struct Scene {
    folder: TempDir,
    peers: MemberList,
    snapshot_every: u64,
    session_timeout: Duration,
}

impl Scene {
    /// Three nodes on free ports.
    async fn new() -> Scene {
        let mut peers = Vec::new();
        for id in 1..=3 {
            peers.push((id, free_address().await));
        }
        Scene {
            folder: TempDir::new().unwrap(),
            peers: peers.into_iter().collect(),
            snapshot_every: SNAPSHOT_EVERY,
            session_timeout: SESSION_TIMEOUT,
        }
    }

    fn data_dir(&self, id: NodeId) -> PathBuf {
        self.folder.path().join(format!("node-{id}"))
    }

    fn config(&self, id: NodeId) -> MetadataConfig {
        let internal = self.peers.get(id).unwrap().to_string();
        MetadataConfig {
            data_dir: self.data_dir(id),
            node_id: id,
            snapshot_every: self.snapshot_every,
            place: Place { internal, peers: self.peers.clone(), join: None },
            ..config(&self.folder)
        }
    }

    /// Starts a node without waiting for the others.
    async fn start(&self, id: NodeId) -> Node {
        start_with(self.config(id), self.session_timeout).await
    }

    /// Starts a node and waits until it is registered.
    async fn enter(&self, id: NodeId) -> Node {
        let node = self.start(id).await;
        node.enter().await;
        node
    }

    /// Three nodes, all registered.
    async fn cluster(&self) -> Vec<Node> {
        futures::future::join_all((1..=3).map(|id| self.enter(id))).await
    }
}

async fn start(config: MetadataConfig) -> Node {
    start_with(config, SESSION_TIMEOUT).await
}

async fn start_with(config: MetadataConfig, session_timeout: Duration) -> Node {
    let address: HostPort = config.place.internal.parse().unwrap();
    start_at(&address, config, session_timeout).await
}

/// Starts a node whose internal listener is elsewhere than others are told.
async fn start_at(address: &HostPort, config: MetadataConfig, session_timeout: Duration) -> Node {
    let listener = bind(address).await;
    let stop = CancellationToken::new();
    let internal = Internal::new(config.node_id, stop.clone());
    let serving = tokio::spawn(internal::serve(internal.clone(), listener));
    std::fs::create_dir_all(&config.data_dir).unwrap();
    let metadata = Metadata::start(config, now()).await.unwrap();
    internal.set_metadata(metadata.clone());
    tokio::spawn(metadata.clone().watch_over(session_timeout, stop.clone()));
    Node { metadata, stop, serving }
}

impl Node {
    async fn enter(&self) {
        tokio::time::timeout(Duration::from_secs(30), self.metadata.enter()).await.expect("no cluster").unwrap();
        self.metadata.set_serving();
    }

    fn id(&self) -> NodeId {
        self.metadata.node_id()
    }

    /// Nobody can reach it any more, and it writes no more.
    async fn stop(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
        self.metadata.close().await;
    }

    /// The node leads the log.
    fn leads(&self) -> bool {
        self.metadata.leads()
    }
}

async fn bind(address: &HostPort) -> TcpListener {
    for _ in 0..500 {
        match crate::machine::sockets::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("{address} never became free");
}

/// Outside of what the system gives to connections that go out: nobody else takes it until a node listens there again.
async fn free_address() -> HostPort {
    loop {
        let address = HostPort { host: "127.0.0.1".to_owned(), port: rand::random_range(10_000..30_000) };
        if TcpListener::bind(address.to_string()).await.is_ok() {
            return address;
        }
    }
}

/// Waits until the condition holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// Position of the leader of the log among the nodes.
async fn leader_of(nodes: &[Node]) -> usize {
    until("one node leads", || nodes.iter().filter(|node| node.leads()).count() == 1).await;
    nodes.iter().position(Node::leads).unwrap()
}

async fn allocate_in(metadata: &Metadata) -> i64 {
    allocate(metadata).await
}
