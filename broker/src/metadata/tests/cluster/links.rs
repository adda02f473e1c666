//! Links between nodes that are slow.

use std::sync::Arc;

use coordinator::cluster::{ConfigChange, ConfigEdit, ConfigOp, ConfigOpKind, ConfigResource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use super::*;

/// An entry of a megabyte takes half a second: longer than a heartbeat interval.
const BYTES_PER_SECOND: u32 = 2_000_000;

/// The link to one node: what connections send to it shares one rate.
struct SlowLink {
    free_at: Mutex<Instant>,
}

impl SlowLink {
    /// Connections to `from` lead to `to`.
    async fn open(from: HostPort, to: HostPort) {
        let listener = bind(&from).await;
        let link = Arc::new(SlowLink { free_at: Mutex::new(Instant::now()) });
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(link.clone().carry(client, to.to_string()));
            }
        });
    }

    async fn carry(self: Arc<Self>, client: TcpStream, to: String) {
        // Nobody listens while the node is stopped: the connection ends.
        let Ok(server) = TcpStream::connect(to).await else { return };
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.into_split(), server.into_split());
        let back = async { tokio::io::copy(&mut from_server, &mut to_client).await.map(drop) };
        let forth = async {
            let mut bytes = vec![0; 16 << 10];
            loop {
                let count = from_client.read(&mut bytes).await?;
                if count == 0 {
                    return Ok(());
                }
                self.pass(count).await;
                to_server.write_all(&bytes[..count]).await?;
            }
        };
        // Whichever side ends, ends the connection.
        tokio::select! {
            _ = back => {}
            ended = forth => drop::<std::io::Result<()>>(ended),
        }
    }

    async fn pass(&self, bytes: usize) {
        let until = {
            let mut free_at = self.free_at.lock().await;
            let takes = Duration::from_secs(1) * u32::try_from(bytes).unwrap() / BYTES_PER_SECOND;
            *free_at = (*free_at).max(Instant::now()) + takes;
            *free_at
        };
        sleep_until(until).await;
    }
}

/// One log entry of about a megabyte.
fn large(number: usize) -> Command {
    let value = format!("{number:>30000}");
    let op = |i| ConfigOp { name: format!("setting-{i}"), kind: ConfigOpKind::Set, value: Some(value.clone()) };
    let edit = ConfigEdit::Incremental((0..33).map(op).collect());
    let change = ConfigChange { resource: ConfigResource::Cluster, edit };
    Command::AlterConfigs { changes: vec![change], validate_only: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_far_behind_on_a_slow_link_catches_up_and_its_vote_counts() {
    let scene = Scene { session_timeout: Duration::from_secs(30), ..Scene::new().await };
    let behind_link = free_address().await;
    SlowLink::open(scene.peers.get(3).unwrap().clone(), behind_link.clone()).await;
    let third = || start_at(&behind_link, scene.config(3), scene.session_timeout);
    let (first, second, slow) = tokio::join!(scene.start(1), scene.start(2), third());
    let mut nodes = vec![first, second];
    for node in nodes.iter().chain([&slow]) {
        node.enter().await;
    }
    slow.stop().await;
    for number in 0..8 {
        nodes[0].metadata.submit(large(number)).await.unwrap();
    }
    let slow = third().await;
    nodes.push(slow);
    let leader = leader_of(&nodes).await;
    let term = nodes[leader].metadata.quorum().epoch;
    let end = |id: NodeId| {
        let quorum = nodes[leader].metadata.quorum();
        quorum.voters.iter().find(|voter| voter.node_id == id).and_then(|voter| voter.log_end)
    };
    until("the leader knows that the third voter has everything", || end(3) == end(nodes[leader].id())).await;
    assert_eq!(nodes[leader].metadata.quorum().epoch, term, "the entries on their way held up the heartbeats");

    let gone = nodes.remove(1 - leader);
    gone.stop().await;
    create(&nodes[0].metadata, "orders").await;
    for node in nodes {
        node.stop().await;
    }
}
