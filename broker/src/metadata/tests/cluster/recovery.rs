//! Most voters are lost for good.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn one_copy_of_the_metadata_becomes_the_cluster_when_the_others_are_lost() {
    let scene = Scene { snapshot_every: 10, ..Scene::new().await };
    let nodes = scene.cluster().await;
    for i in 0..30 {
        create(&nodes[0].metadata, &format!("topic-{i}")).await;
    }
    let cluster_id = nodes[0].metadata.image().cluster_id().to_owned();
    until("node 2 has all", || nodes[1].metadata.image().topic_count() == 30).await;
    let before = nodes[1].metadata.image();
    let in_use = examine(&scene.data_dir(2), 2);
    assert!(matches!(in_use, Err(MetadataError::InUse { .. })), "{in_use:?}");
    for node in nodes {
        node.stop().await;
    }
    for lost in [1, 3] {
        std::fs::remove_dir_all(scene.data_dir(lost)).unwrap();
    }
    let found = examine(&scene.data_dir(2), 2).unwrap();
    assert_eq!((found.voters.as_slice(), found.is_done), (&[1, 2, 3][..], false));
    assert!(recover(&scene.data_dir(2), 2).unwrap().is_done);
    let second = scene.enter(2).await;
    assert_eq!(second.metadata.image().cluster_id(), cluster_id);
    assert_eq!(second.metadata.image().topic_count(), 30);
    let after = second.metadata.image();
    // What the lost nodes may have given out since is not given out again.
    for (id, partition) in after.partitions() {
        assert!(partition.leader_epoch > before.partition(id).unwrap().leader_epoch + 1000, "{id}");
    }
    assert!(second.metadata.broker().broker_epoch > before.brokers().map(|broker| broker.epoch).max().unwrap() + 1000);
    assert!(after.next_producer_id() > before.next_producer_id() + 1000);
    second.stop().await;
    let second = scene.enter(2).await;
    assert_eq!(second.metadata.image().next_producer_id(), after.next_producer_id(), "once is enough");
    create(&second.metadata, "more").await;
    // The others come back empty and follow.
    let third = scene.enter(3).await;
    assert_eq!(third.metadata.image().topic_count(), 31);
    for node in [second, third] {
        node.stop().await;
    }
}

#[test]
fn a_folder_without_metadata_cannot_be_recovered() {
    let folder = TempDir::new().unwrap();
    assert!(matches!(recover(folder.path(), 1), Err(MetadataError::Invalid(_))));
}
