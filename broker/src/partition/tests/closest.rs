//! Which replica a consumer of a rack is sent to.

use coordinator::cluster::{Broker, Cluster, Listener, Record};
use model::settings::ThrottledReplicas;

use super::*;

/// Nodes 1 and 2 in rack a, 3 in rack b.
fn cluster(fenced: &[NodeId]) -> Cluster {
    let mut cluster = Cluster::new();
    for (id, rack) in [(1, "a"), (2, "a"), (3, "b")] {
        let broker = Broker {
            id,
            epoch: 1,
            incarnation: Uuid::from_u128(1),
            listeners: Vec::<Listener>::new(),
            rack: Some(rack.to_owned()),
            internal: String::new(),
            log_id: None,
            topic_defaults: Default::default(),
            metadata_versions: Default::default(),
            is_fenced: fenced.contains(&id),
            is_shutting_down: false,
        };
        cluster.apply(Record::BrokerRegistered(broker));
    }
    cluster
}

#[tokio::test]
async fn a_consumer_is_sent_to_the_in_sync_replica_of_its_rack_that_has_what_it_wants() {
    let (leader, other, far) = (replica(1, 1).await, replica(2, 1).await, replica(3, 1).await);
    for node in [&leader, &other, &far] {
        node.follow(1, 0, &[1, 2, 3]);
    }
    leader.append(3);
    leader.flushed();
    let closest = |rack: &str, from, cluster: &Cluster| leader.partition.closest_replica(rack, from, cluster);
    assert_eq!(closest("b", 0, &cluster(&[])), None, "nobody knows what it has");
    far.copy_from(&leader).unwrap();
    assert_eq!(closest("b", 3, &cluster(&[])), Some(3));
    assert_eq!(closest("b", 4, &cluster(&[])), None, "it does not have that yet");
    assert_eq!(closest("a", 0, &cluster(&[])), None, "the leader is near itself");
    assert_eq!(closest("c", 0, &cluster(&[])), None);
    assert_eq!(closest("", 0, &cluster(&[])), None);
    assert_eq!(closest("b", 0, &cluster(&[3])), None, "it is fenced");
    leader.follow(1, 0, &[1, 2]);
    assert_eq!(closest("b", 0, &cluster(&[])), None, "it is not in sync");
    assert_eq!(far.partition.closest_replica("b", 0, &cluster(&[])), None, "it does not lead");
}

#[tokio::test]
async fn only_listed_replicas_that_are_not_in_sync_may_be_held_back() {
    let leader = replica(1, 1).await;
    leader.follow(1, 0, &[1, 2]);
    let listed = ThrottledReplicas::parse("0:2,0:3,1:1").unwrap();
    let throttled = TopicSettings { leader_throttled: listed, ..TopicSettings::default() };
    leader.partition.log.update_settings(Arc::new(throttled)).unwrap();
    assert!(!leader.partition.may_hold_back(2), "it is in sync");
    assert!(leader.partition.may_hold_back(3));
    assert!(!leader.partition.may_hold_back(1));
}
