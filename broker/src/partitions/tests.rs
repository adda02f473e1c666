//! Partitions follow the images of a cluster.

use coordinator::cluster::{Broker, Partition as PartitionState, Record};
use uuid::Uuid;

use super::*;
use crate::partition::NotAccepted;

fn id() -> TopicPartition {
    TopicPartition { topic_id: TopicId(Uuid::from_u128(5)), partition: 0 }
}

/// A topic on brokers 1 and 2, led by 1 and with 1 alone in sync, whose stored settings are `configs`.
fn image(configs: &[(&str, &str)]) -> ClusterImage {
    let mut cluster = Cluster::new();
    for id in [1, 2] {
        let registered = serde_json::json!({ "id": id, "epoch": 1, "incarnation": Uuid::nil(), "listeners": [], "is_fenced": false });
        let broker: Broker = serde_json::from_value(registered).unwrap();
        cluster.apply(Record::BrokerRegistered(broker));
    }
    let name = TopicName::new("t").unwrap();
    let configs = configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let topic = Topic { id: id().topic_id, name, created_ms: 0, partitions: 1, configs };
    cluster.apply(Record::TopicCreated(topic));
    let partition = PartitionState::new(vec![1, 2], vec![1], 1);
    cluster.apply(Record::PartitionSet { id: id(), partition });
    ClusterImage::from_cluster(cluster)
}

#[tokio::test]
async fn a_setting_of_a_later_release_leaves_the_others_of_its_topic() {
    let dir = tempfile::tempdir().unwrap();
    let config = hot_tier::Config { data_dir: dir.path().to_owned(), ..hot_tier::Config::default() };
    let hot = HotTier::open(config, 0, Arc::new(|_, _| {})).unwrap();
    let cold = cold_tier::Config { url: "memory://".to_owned(), cluster_id: "c".to_owned(), ..Default::default() };
    let cold = ColdTier::open(cold).await.unwrap();
    let (settings, isr_bell) = (Settings::default(), Arc::new(Notify::new()));
    let rooms = Rooms { node_id: 1, hot: &hot, cold: &cold, settings: &settings, isr_bell: &isr_bell };
    let partitions = Partitions::new();
    let stored = image(&[("a.later.setting", "on"), ("max.message.bytes", "7"), ("min.insync.replicas", "2")]);
    assert_eq!(stored.min_insync_replicas(id()), 2, "by which the cluster decides who stays eligible");
    partitions.follow(|| Arc::new(stored), &rooms);
    let partition = partitions.leader_by_name("t", 0).unwrap();
    assert_eq!(partition.log.settings().max_message_bytes, 7);
    let refused = partition.check_in_sync();
    assert!(matches!(refused, Err(NotAccepted::NotEnoughReplicas { wanted: 2, .. })), "{refused:?}");
    partitions.follow(|| Arc::new(image(&[("min.insync.replicas", "1,2"), ("max.message.bytes", "9")])), &rooms);
    assert!(partition.check_in_sync().is_ok(), "a value that cannot be read counts as not given");
    assert_eq!(partition.log.settings().max_message_bytes, 9);
}
