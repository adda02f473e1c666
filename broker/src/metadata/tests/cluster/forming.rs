//! How a cluster comes about, and nodes come back to it.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn three_new_nodes_form_one_cluster_that_all_of_them_know() {
    let scene = Scene::new().await;
    let nodes = scene.cluster().await;
    let ids: BTreeSet<String> = nodes.iter().map(|node| node.metadata.image().cluster_id().to_owned()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    for node in &nodes {
        until("all brokers are known", || node.metadata.image().brokers().count() == 3).await;
        for broker in node.metadata.image().brokers() {
            assert_eq!(broker.internal, scene.peers.get(broker.id).unwrap().to_string());
        }
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_waits_for_all_its_peers_before_it_makes_a_cluster() {
    let scene = Scene::new().await;
    let first = scene.start(1).await;
    let second = scene.start(2).await;
    let waiting = tokio::time::timeout(Duration::from_millis(800), async {
        tokio::join!(first.metadata.enter(), second.metadata.enter())
    });
    assert!(waiting.await.is_err(), "two of three made a cluster");
    assert_eq!(first.metadata.image().cluster_id(), "");
    let third = scene.start(3).await;
    tokio::join!(first.enter(), second.enter(), third.enter());
    for node in [first, second, third] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_restart_and_find_what_they_had() {
    let scene = Scene::new().await;
    let nodes = scene.cluster().await;
    create(&nodes[1].metadata, "orders").await;
    let cluster_id = nodes[0].metadata.image().cluster_id().to_owned();
    for node in nodes {
        node.stop().await;
    }
    let nodes = scene.cluster().await;
    for node in &nodes {
        until("the topic is there", || node.metadata.image().topic("orders").is_some()).await;
        assert_eq!(node.metadata.image().cluster_id(), cluster_id);
    }
    create(&nodes[2].metadata, "more").await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_for_long_gets_a_snapshot() {
    let scene = Scene { snapshot_every: 20, ..Scene::new().await };
    let mut nodes = scene.cluster().await;
    nodes.remove(2).stop().await;
    for i in 0..100 {
        create(&nodes[i % 2].metadata, &format!("topic-{i}")).await;
    }
    let purged = |node: &Node| node.metadata.inner.raft.metrics().borrow().purged.is_some_and(|id| id.index > 40);
    until("the log behind is gone", || nodes.iter().all(purged)).await;
    let third = scene.enter(3).await;
    assert_eq!(third.metadata.image().topic_count(), 100);
    assert!(third.metadata.inner.raft.metrics().borrow().snapshot.is_some());
    third.stop().await;
    let third = scene.enter(3).await;
    assert_eq!(third.metadata.image().topic_count(), 100);
    nodes.push(third);
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_whose_disk_was_lost_does_not_vote_before_it_has_caught_up() {
    let scene = Scene::new().await;
    let mut nodes = scene.cluster().await;
    create(&nodes[0].metadata, "orders").await;
    nodes.remove(2).stop().await;
    std::fs::remove_dir_all(scene.data_dir(3)).unwrap();
    // Alone, it must not make a cluster of its own, nor vote.
    for node in nodes.drain(..) {
        node.stop().await;
    }
    let third = scene.start(3).await;
    let alone = tokio::time::timeout(Duration::from_millis(800), third.metadata.enter()).await;
    assert!(alone.is_err() && !third.metadata.is_admitted());
    let first = scene.start(1).await;
    let both = tokio::time::timeout(Duration::from_millis(1_500), async {
        tokio::join!(first.metadata.enter(), third.metadata.enter())
    });
    assert!(both.await.is_err(), "a node with a log and one without made a majority");
    let second = scene.start(2).await;
    tokio::join!(first.enter(), second.enter(), third.enter());
    assert!(third.metadata.image().topic("orders").is_some());
    let votes = || third.metadata.quorum().voters.iter().any(|voter| voter.node_id == 3);
    until("it has its vote again", votes).await;
    for node in [first, second, third] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_cannot_take_an_id_that_is_taken() {
    let scene = Scene::new().await;
    let nodes = scene.cluster().await;
    let elsewhere = TempDir::new().unwrap();
    let address = free_address().await;
    let place = Place {
        internal: address.to_string(),
        peers: MemberList::default(),
        join: Some(scene.peers.get(1).unwrap().clone()),
    };
    let twin = MetadataConfig { data_dir: elsewhere.path().to_owned(), place, ..scene.config(3) };
    let twin = start(twin).await;
    let refused = tokio::time::timeout(Duration::from_secs(20), twin.metadata.enter()).await.unwrap();
    assert!(matches!(refused, Err(MetadataError::NotAdmitted(_))), "{refused:?}");
    twin.stop().await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_log_lost_its_tail_does_not_vote_and_gets_the_log_from_the_others() {
    let scene = Scene::new().await;
    let nodes = scene.cluster().await;
    for i in 0..20 {
        create(&nodes[0].metadata, &format!("topic-{i}")).await;
    }
    for node in nodes {
        node.stop().await;
    }
    cut_tail(&scene.data_dir(2));
    let refused = Metadata::start(scene.config(2), now()).await;
    assert!(matches!(refused, Err(MetadataError::Damaged { .. })), "{refused:?}");
    std::fs::remove_file(scene.data_dir(2).join("metadata/raft.redb")).unwrap();
    let nodes = scene.cluster().await;
    for node in &nodes {
        until("all topics are there", || node.metadata.image().topic_count() == 20).await;
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_grows_to_three_and_loses_nothing() {
    let scene = Scene::new().await;
    let alone = Place { peers: MemberList::default(), ..scene.config(1).place };
    let first = start(MetadataConfig { place: alone, ..scene.config(1) }).await;
    first.enter().await;
    create(&first.metadata, "orders").await;
    let join = |id| {
        let place = Place { peers: MemberList::default(), join: scene.peers.get(1).cloned(), ..scene.config(id).place };
        MetadataConfig { place, ..scene.config(id) }
    };
    let second = start(join(2)).await;
    second.enter().await;
    assert!(second.metadata.image().topic("orders").is_some());
    assert_eq!(first.metadata.quorum().learners.len(), 1);
    create(&second.metadata, "from-a-learner").await;
    // One that its peers name as a voter becomes one.
    let third = scene.enter(3).await;
    until("it votes", || first.metadata.quorum().voters.len() == 2).await;
    create(&third.metadata, "from-the-third").await;
    first.stop().await;
    let first = start(MetadataConfig {
        place: Place { internal: scene.config(1).place.internal, ..Place::default() },
        ..scene.config(1)
    })
    .await;
    first.enter().await;
    assert_eq!(first.metadata.image().topic_count(), 3);
    for node in [first, second, third] {
        node.stop().await;
    }
}

/// Takes the last entries out of a node's log, as a disk does that did not keep what it acknowledged.
fn cut_tail(data_dir: &Path) {
    let (file, contents) = RaftFile::open(&data_dir.join("metadata"), 2).unwrap();
    let last = *contents.entries.last_key_value().unwrap().0;
    file.commit([disk::Change::TruncateFrom(last - 4)].iter()).unwrap();
    drop(file);
}
