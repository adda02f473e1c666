//! Nodes of older and newer builds in one cluster (KIP-584).

use coordinator::cluster::{ClusterError, VersionChange};

use super::*;

/// A build that knows these versions.
fn build(scene: &Scene, id: NodeId, max: u16) -> MetadataConfig {
    MetadataConfig { metadata_versions: MetadataVersions { min: 1, max }, ..scene.config(id) }
}

async fn enter(config: MetadataConfig) -> Node {
    let node = start(config).await;
    node.enter().await;
    node
}

/// Its end, when the cluster does not want it.
async fn refused(config: MetadataConfig) -> String {
    let node = start(config).await;
    let entered = tokio::time::timeout(Duration::from_secs(30), node.metadata.enter()).await.expect("no answer");
    node.stop().await;
    entered.unwrap_err().to_string()
}

async fn raise(node: &Node) -> Result<Reply, SubmitError> {
    let change = VersionChange::Upgrade;
    node.metadata.submit(Command::SetMetadataVersion { version: 2, change, validate_only: false }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_replaced_one_by_one_before_the_version_is_raised_and_old_ones_are_refused_then() {
    let scene = Scene::new().await;
    let mut nodes = futures::future::join_all((1..=3).map(|id| enter(build(&scene, id, 1)))).await;
    assert_eq!(nodes[0].metadata.image().metadata_version(), 1);
    for id in 1..=3 {
        match raise(&nodes[1]).await {
            Err(SubmitError::Refused(ClusterError::MetadataVersionRefused { reason })) => {
                assert_eq!(reason, format!("metadata version 2 is not possible: broker {id} knows 1 to 1"));
            }
            other => panic!("{other:?}"),
        }
        nodes.remove(0).stop().await;
        nodes.push(enter(build(&scene, id, 2)).await);
        create(&nodes[0].metadata, &format!("with-{id}")).await;
        assert_eq!(nodes[2].metadata.image().metadata_version(), 1, "a newer build raises nothing by itself");
    }
    assert_eq!(raise(&nodes[1]).await, Ok(Reply::Done));
    for node in &nodes {
        until("the version is known", || node.metadata.image().metadata_version() == 2).await;
    }
    nodes.remove(0).stop().await;
    let reason = refused(build(&scene, 1, 1)).await;
    assert!(reason.contains("the cluster is at metadata version 2, the build of this node knows 1 to 1"), "{reason}");
    // A new node is refused before anything is sent to it.
    let place = Place {
        internal: free_address().await.to_string(),
        peers: MemberList::default(),
        join: scene.peers.get(2).cloned(),
    };
    let stranger = MetadataConfig { node_id: 4, data_dir: scene.data_dir(4), place, ..build(&scene, 1, 1) };
    let reason = refused(stranger).await;
    assert!(reason.contains("the cluster is at metadata version 2"), "{reason}");
    let learners = nodes[0].metadata.quorum().learners;
    assert_eq!(learners, [], "it follows nothing");
    nodes.push(enter(build(&scene, 1, 2)).await);
    create(&nodes[2].metadata, "all-are-back").await;
    for node in nodes {
        node.stop().await;
    }
}
