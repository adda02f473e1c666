//! What a start finds.

use std::time::Instant;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_commands_are_there_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let metadata = open(&folder).await;
    assert!(metadata.image().cluster_id().parse::<TopicId>().is_ok());
    create(&metadata, "orders").await;
    let before = metadata.image();
    metadata.close().await;
    let metadata = open(&folder).await;
    let after = metadata.image();
    assert_eq!(after.cluster_id(), before.cluster_id());
    assert_eq!(after.topic("orders"), before.topic("orders"));
    metadata.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_cluster_takes_the_id_that_it_is_given_and_keeps_it() {
    let folder = TempDir::new().unwrap();
    let with_id = |id: &str| MetadataConfig { cluster_id_if_new: Some(id.to_owned()), ..config(&folder) };
    let metadata = open_with(with_id("Q2x1c3RlcklkRm9yVGVzdA")).await;
    metadata.close().await;
    let metadata = open_with(with_id("another")).await;
    assert_eq!(metadata.image().cluster_id(), "Q2x1c3RlcklkRm9yVGVzdA");
    metadata.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_start_has_a_newer_broker_epoch_and_leads_under_a_newer_leader_epoch() {
    let folder = TempDir::new().unwrap();
    let mut last = -1;
    for start in 0..4 {
        let metadata = open(&folder).await;
        assert!(metadata.broker().broker_epoch > last);
        last = metadata.broker().broker_epoch;
        if start == 0 {
            create(&metadata, "orders").await;
        }
        let image = metadata.image();
        let (_, partition) = image.partitions().next().unwrap();
        assert_eq!((partition.leader, partition.leader_epoch), (NODE, start));
        metadata.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_address_is_announced_without_a_new_epoch() {
    let folder = TempDir::new().unwrap();
    let metadata = open(&folder).await;
    let broker = metadata.broker();
    let moved = Listener { name: "PLAINTEXT".to_owned(), host: "example.org".to_owned(), port: 1 };
    metadata.register(vec![moved.clone()]).await.unwrap();
    assert_eq!(metadata.broker(), broker);
    assert_eq!(metadata.image().broker(NODE).unwrap().listeners, [moved]);
    metadata.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_bound_the_log_and_carry_the_state_over_a_restart() {
    let folder = TempDir::new().unwrap();
    let bounded = || MetadataConfig { snapshot_every: 20, ..config(&folder) };
    let metadata = open_with(bounded()).await;
    for i in 0..300 {
        create(&metadata, &format!("topic-{i}")).await;
    }
    // A snapshot is made in the background: give the last one its time.
    let wait = metadata.inner.raft.wait(Some(Duration::from_secs(10)));
    wait.metrics(|metrics| metrics.purged.is_some(), "purged").await.unwrap();
    metadata.close().await;
    let (file, contents) = RaftFile::open(&folder.path().join("metadata"), NODE).unwrap();
    assert!(contents.entries.len() < 200, "{} entries", contents.entries.len());
    assert!(contents.snapshot.is_some() && contents.purged.is_some());
    drop(file);
    let metadata = open_with(bounded()).await;
    assert_eq!(metadata.image().topic_count(), 300);
    create(&metadata, "one-more").await;
    metadata.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_dropped_without_closing_lose_nothing() {
    let folder = TempDir::new().unwrap();
    for start in 0..8 {
        let metadata = open_with(MetadataConfig { snapshot_every: 7, ..config(&folder) }).await;
        assert_eq!(metadata.image().topic_count(), start * 5);
        for i in 0..5 {
            create(&metadata, &format!("topic-{start}-{i}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_partitions_open_fast_and_take_commits_fast() {
    let folder = TempDir::new().unwrap();
    let metadata = open(&folder).await;
    let layout = Layout::Placed { partitions: 5_000, replication_factor: 1 };
    for name in ["a", "b"] {
        let topic = NewTopic {
            id: new_topic_id(),
            name: name.to_owned(),
            layout: layout.clone(),
            configs: Vec::new(),
            wanted_replicas: None,
        };
        metadata.submit(Command::CreateTopics { topics: vec![topic], validate_only: false }).await.unwrap();
    }
    let started = Instant::now();
    let holders: Vec<_> = (0..200).map(|_| metadata.image()).collect();
    for _ in 0..200 {
        allocate(&metadata).await;
    }
    let per_command = started.elapsed() / 200;
    drop(holders);
    metadata.close().await;
    let started = Instant::now();
    let metadata = open(&folder).await;
    println!("10,000 partitions: {per_command:?} per command, {:?} to open", started.elapsed());
    assert_eq!(metadata.image().partition_count(), 10_000);
    assert!(per_command < Duration::from_millis(100) && started.elapsed() < Duration::from_secs(20));
    metadata.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_takes_a_moment() {
    let folder = TempDir::new().unwrap();
    let mut spent = Vec::new();
    for _ in 0..3 {
        let started = Instant::now();
        let metadata = open(&folder).await;
        spent.push(started.elapsed());
        metadata.close().await;
    }
    println!("first start {:?}, later {:?}", spent[0], &spent[1..]);
    // 300 ms on a machine that has nothing else to do.
    assert!(spent.iter().all(|spent| *spent < Duration::from_secs(5)), "{spent:?}");
}
