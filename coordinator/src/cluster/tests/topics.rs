//! Topics: creation, placement, growth, deletion.

use std::collections::BTreeMap;

use super::*;

#[test]
fn a_new_topic_leads_to_a_topic_record_and_one_record_per_partition() {
    let mut scene = Scene::with_brokers(1);
    let command = Command::CreateTopics { topics: vec![placed("orders", 2, 1)], validate_only: false };
    let decision = scene.submit(&command.into());
    let id = topic_id("orders");
    let name = TopicName::new("orders").unwrap();
    let partition = Partition::new(vec![1], vec![1], 1);
    let set = |index| Record::PartitionSet {
        id: TopicPartition { topic_id: id, partition: index },
        partition: partition.clone(),
    };
    let topic = Topic { id, name: name.clone(), created_ms: NOW, partitions: 0, configs: SettingsMap::new() };
    assert_eq!(decision.records, [Record::TopicCreated(topic), set(0), set(1)]);
    let created = CreatedTopic { id, name, partitions: 2, replication_factor: 1, configs: SettingsMap::new() };
    assert_eq!(decision.reply, Reply::TopicsCreated(vec![Ok(created)]));
    assert_eq!(scene.state.topic("orders").unwrap().partitions, 2);
    assert_eq!(scene.state.partitions_of(id).count(), 2);
}

#[test]
fn invalid_topics_are_refused_with_the_reason() {
    let mut scene = Scene::with_brokers(2);
    scene.create(placed("a.b", 1, 1)).unwrap();
    let mut refused = |topic: NewTopic| scene.create(topic).unwrap_err();
    assert!(matches!(refused(placed("no/slash", 1, 1)), ClusterError::InvalidTopicName { .. }));
    assert!(matches!(refused(placed("a.b", 1, 1)), ClusterError::TopicExists { .. }));
    assert!(matches!(refused(placed("a_b", 1, 1)), ClusterError::TopicCollision { existing, .. } if existing == "a.b"));
    assert!(matches!(refused(placed("x", 0, 1)), ClusterError::InvalidPartitions { .. }));
    assert!(matches!(refused(placed("x", -1, 1)), ClusterError::InvalidPartitions { .. }));
    assert!(matches!(refused(placed("x", 1, 0)), ClusterError::InvalidReplicationFactor { .. }));
    assert!(matches!(refused(placed("x", 1, -1)), ClusterError::InvalidReplicationFactor { .. }));
    let error = refused(placed("x", 1, 3));
    assert_eq!(error.to_string(), "the replication factor 3 needs 3 brokers, 2 are registered");
    assert!(matches!(refused(assigned("x", &[])), ClusterError::InvalidReplicaAssignment { .. }));
    assert!(matches!(refused(assigned("x", &[&[]])), ClusterError::InvalidReplicaAssignment { .. }));
    assert!(matches!(refused(assigned("x", &[&[1, 1]])), ClusterError::InvalidReplicaAssignment { .. }));
    assert!(matches!(refused(assigned("x", &[&[7]])), ClusterError::InvalidReplicaAssignment { .. }));
    assert!(matches!(refused(assigned("x", &[&[1], &[1, 2]])), ClusterError::InvalidReplicaAssignment { .. }));
    let reused = NewTopic { id: topic_id("a.b"), ..placed("x", 1, 1) };
    assert!(matches!(refused(reused), ClusterError::TopicIdTaken { .. }));
    let zero = NewTopic { id: TopicId::ZERO, ..placed("x", 1, 1) };
    assert!(matches!(refused(zero), ClusterError::TopicIdTaken { .. }));
    let config = |name: &str, value: Option<&str>| NewTopic {
        configs: vec![(name.to_owned(), value.map(str::to_owned))],
        ..placed("x", 1, 1)
    };
    assert!(
        matches!(refused(config("no.such", Some("1"))), ClusterError::InvalidConfig { name, .. } if name == "no.such")
    );
    assert!(matches!(refused(config("retention.ms", Some("soon"))), ClusterError::InvalidConfig { .. }));
    assert!(matches!(refused(config("retention.ms", None)), ClusterError::InvalidConfig { .. }));
    assert_eq!(scene.state.topic_count(), 1);
}

#[test]
fn topics_of_one_request_see_each_other_and_fail_each_for_itself() {
    let mut scene = Scene::with_brokers(1);
    let twin = NewTopic { id: topic_id("other"), ..placed("a", 1, 1) };
    let topics = vec![placed("a", 1, 1), twin, placed("b", 0, 1), placed("c", 1, 1)];
    let Reply::TopicsCreated(outcomes) = scene.run(Command::CreateTopics { topics, validate_only: false }) else {
        panic!("not a reply to CreateTopics");
    };
    assert!(outcomes[0].is_ok());
    assert!(matches!(outcomes[1], Err(ClusterError::TopicExists { .. })));
    assert!(matches!(outcomes[2], Err(ClusterError::InvalidPartitions { .. })));
    assert!(outcomes[3].is_ok());
    assert_eq!(scene.state.topics().map(|topic| topic.name.as_str()).collect::<Vec<_>>(), ["a", "c"]);
}

#[test]
fn validating_only_answers_the_same_and_changes_nothing() {
    let mut scene = Scene::with_brokers(1);
    let command = |validate_only| Command::CreateTopics { topics: vec![placed("a", 3, 1)], validate_only };
    let trial = scene.submit(&command(true).into());
    assert_eq!(trial.records, []);
    assert_eq!(trial.reply, scene.run(command(false)));
    let more = MorePartitions { name: "a".to_owned(), total: 5, assignment: None };
    let trial = scene.submit(&Command::CreatePartitions { topics: vec![more], validate_only: true }.into());
    assert_eq!((trial.records, trial.reply), (vec![], Reply::PartitionsCreated(vec![Ok(())])));
}

#[test]
fn too_many_partitions_at_once_are_refused_as_a_whole() {
    let mut scene = Scene::with_brokers(1);
    let topics = vec![placed("a", 6_000, 1), placed("b", 6_000, 1)];
    let reply = scene.run(Command::CreateTopics { topics, validate_only: false });
    assert!(matches!(reply, Reply::Refused(ClusterError::LimitExceeded { .. })));
    scene.create(placed("a", 10_000, 1)).unwrap();
    assert!(matches!(
        scene.run(Command::CreateTopics { topics: vec![placed("b", i32::MAX, 1)], validate_only: false }),
        Reply::Refused(ClusterError::LimitExceeded { .. })
    ));
}

#[test]
fn leaders_and_replicas_spread_evenly() {
    let mut scene = Scene::with_brokers(5);
    scene.create(placed("a", 20, 3)).unwrap();
    let (mut leaders, mut replicas) = (BTreeMap::new(), BTreeMap::new());
    for (_, partition) in scene.state.partitions() {
        *leaders.entry(partition.leader).or_insert(0) += 1;
        partition.replicas.iter().for_each(|id| *replicas.entry(*id).or_insert(0) += 1);
        assert_eq!(partition.leader, partition.replicas[0]);
    }
    assert_eq!(leaders.into_values().collect::<Vec<_>>(), [4; 5]);
    assert_eq!(replicas.into_values().collect::<Vec<_>>(), [12; 5]);
}

#[test]
fn replicas_of_a_partition_stand_in_different_racks_while_there_are_some() {
    let mut scene = Scene::with_brokers(0);
    for id in 0..6 {
        let rack = Some(["east", "north", "west"][usize::try_from(id % 3).unwrap()].to_owned());
        scene.run(Command::RegisterBroker(RegisterBroker { rack, ..registration(id, 1) }));
    }
    scene.create(placed("a", 12, 3)).unwrap();
    scene.create(placed("b", 2, 5)).unwrap();
    let racks_of = |partition: &Partition| {
        let mut racks: Vec<_> =
            partition.replicas.iter().map(|id| scene.state.broker(*id).unwrap().rack.clone()).collect();
        racks.sort();
        racks.dedup();
        racks.len()
    };
    assert!(scene.state.partitions().all(|(_, partition)| racks_of(partition) == 3));
    assert!(scene.state.partitions_of(topic_id("b")).all(|(_, partition)| partition.replicas.len() == 5));
}

#[test]
fn fenced_brokers_get_replicas_only_when_there_are_no_others() {
    let mut scene = Scene::with_brokers(3);
    scene.fence(2);
    scene.create(placed("a", 6, 2)).unwrap();
    assert!(scene.state.partitions().all(|(_, partition)| !partition.replicas.contains(&2)));
    scene.create(placed("b", 1, 3)).unwrap();
    let partition = scene.partition("b", 0);
    assert_eq!(partition.replicas[2], 2);
    assert!(!partition.isr.contains(&2));
    scene.fence(1);
    scene.fence(3);
    assert!(matches!(scene.create(placed("c", 1, 1)), Err(ClusterError::InvalidReplicationFactor { .. })));
    assert!(matches!(scene.create(assigned("c", &[&[1]])), Err(ClusterError::InvalidReplicaAssignment { .. })));
}

#[test]
fn a_topic_only_grows() {
    let mut scene = Scene::with_brokers(3);
    scene.create(placed("a", 2, 2)).unwrap();
    let mut grow = |name: &str, total: i32, assignment: Option<Vec<Vec<NodeId>>>| {
        let topics = vec![MorePartitions { name: name.to_owned(), total, assignment }];
        match scene.run(Command::CreatePartitions { topics, validate_only: false }) {
            Reply::PartitionsCreated(mut outcomes) => outcomes.remove(0),
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(grow("none", 3, None), Err(ClusterError::UnknownTopic { .. })));
    for total in [i32::MIN, -1, 0, 1, 2] {
        assert!(matches!(grow("a", total, None), Err(ClusterError::InvalidPartitions { .. })), "{total}");
    }
    assert!(matches!(grow("a", 4, Some(vec![vec![1, 2]])), Err(ClusterError::InvalidReplicaAssignment { .. })));
    assert!(matches!(grow("a", 3, Some(vec![vec![1]])), Err(ClusterError::InvalidReplicaAssignment { .. })));
    grow("a", 3, Some(vec![vec![3, 1]])).unwrap();
    grow("a", 5, None).unwrap();
    assert_eq!(scene.state.topic("a").unwrap().partitions, 5);
    assert_eq!(scene.partition("a", 2).replicas, [3, 1]);
    assert!(scene.state.partitions().all(|(_, partition)| partition.replicas.len() == 2));
}

#[test]
fn a_deleted_topic_frees_its_name_and_leaves_a_tombstone() {
    let mut scene = Scene::with_brokers(1);
    let id = scene.create(placed("a.b", 2, 1)).unwrap().id;
    assert!(matches!(scene.delete("none"), Err(ClusterError::UnknownTopic { .. })));
    assert_eq!(scene.delete("a.b").unwrap().id, id);
    assert_eq!((scene.state.topic_count(), scene.state.partition_count()), (0, 0));
    let tombstone = scene.state.deleted_topic(id).unwrap();
    assert_eq!((tombstone.name.as_str(), tombstone.partitions, tombstone.deleted_ms), ("a.b", 2, NOW));
    assert!(matches!(scene.create(placed("a.b", 1, 1)), Err(ClusterError::TopicIdTaken { .. })));
    scene.create(NewTopic { id: topic_id("fresh"), ..placed("a_b", 1, 1) }).unwrap();
    let by_id = Command::DeleteTopics { topics: vec![TopicRef::Id(id), TopicRef::Id(topic_id("fresh"))] };
    let Reply::TopicsDeleted(outcomes) = scene.run(by_id) else { panic!("not a reply to DeleteTopics") };
    assert!(matches!(outcomes[0], Err(ClusterError::UnknownTopicId { .. })));
    assert_eq!(outcomes[1].as_ref().unwrap().name.as_str(), "a_b");
}
