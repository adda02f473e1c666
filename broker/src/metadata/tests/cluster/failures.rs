//! Nodes that go away while commands are under way.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_others_go_on_without_the_leader_and_apply_everything_once() {
    let scene = Scene { snapshot_every: 30, ..Scene::new().await };
    let mut nodes = scene.cluster().await;
    let mut blocks = BTreeSet::new();
    for _ in 0..3 {
        let leader = leader_of(&nodes).await;
        let survivors: Vec<Metadata> =
            nodes.iter().filter(|node| !node.leads()).map(|node| node.metadata.clone()).collect();
        let writers: Vec<_> =
            survivors.into_iter().map(|metadata| tokio::spawn(async move { write(&metadata, 60).await })).collect();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let gone = nodes.remove(leader);
        let id = gone.id();
        gone.stop().await;
        for writer in writers {
            for block in writer.await.unwrap() {
                assert!(blocks.insert(block), "a block was handed out twice");
            }
        }
        nodes.push(scene.enter(id).await);
    }
    for node in nodes {
        node.stop().await;
    }
}

/// Asks for that many blocks of producer ids, each until the answer is certain.
async fn write(metadata: &Metadata, count: usize) -> Vec<i64> {
    let mut blocks = Vec::new();
    while blocks.len() < count {
        match metadata.submit(Command::AllocateProducerIds(metadata.broker())).await {
            Ok(Reply::ProducerIds { first, .. }) => blocks.push(first),
            Ok(other) => panic!("{other:?}"),
            Err(error) => assert!(!matches!(error, SubmitError::Refused(_)), "{error}"),
        }
    }
    blocks
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_commands_wait_and_images_are_still_read() {
    let scene = Scene::new().await;
    let mut nodes = scene.cluster().await;
    create(&nodes[0].metadata, "orders").await;
    for node in &nodes {
        assert!(node.metadata.is_up_to_date(Duration::from_secs(10)).await);
    }
    for node in nodes.drain(1..) {
        node.stop().await;
    }
    assert!(!nodes[0].metadata.is_up_to_date(Duration::from_millis(500)).await);
    let outcome = nodes[0].metadata.submit_within(topic("late"), Duration::from_secs(1)).await;
    assert!(matches!(outcome, Err(SubmitError::NotApplied { .. } | SubmitError::Uncertain { .. })), "{outcome:?}");
    assert!(nodes[0].metadata.image().topic("orders").is_some());
    let second = scene.enter(2).await;
    create(&nodes[0].metadata, "again").await;
    assert!(nodes[0].metadata.image().topic("again").is_some());
    second.stop().await;
    nodes.remove(0).stop().await;
}
