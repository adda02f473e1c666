//! Whether there is a majority behind what a node tells.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_its_majority_no_longer_counts_as_one() {
    let scene = Scene { session_timeout: Duration::from_secs(60), ..Scene::new().await };
    let mut nodes = scene.cluster().await;
    for node in &nodes {
        until("it has a quorum", || node.metadata.has_quorum() && node.metadata.quorum().leader.is_some()).await;
        assert_eq!(node.metadata.without_quorum_for(), None);
    }
    let survivor = nodes.remove(leader_of(&nodes).await);
    for node in nodes {
        node.stop().await;
    }
    until("it has no quorum", || !survivor.metadata.has_quorum()).await;
    assert_eq!(survivor.metadata.quorum().leader, None);
    assert_eq!(survivor.metadata.quorum_of_leader().await.leader, None);
    assert!(survivor.metadata.without_quorum_for().is_some());
    let other = scene.start(if survivor.id() == 1 { 2 } else { 1 }).await;
    other.enter().await;
    until("it has a quorum again", || survivor.metadata.has_quorum() && survivor.metadata.quorum().leader.is_some())
        .await;
    other.stop().await;
    survivor.stop().await;
}
