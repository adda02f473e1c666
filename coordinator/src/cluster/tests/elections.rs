//! Elections on request, and unclean ones.

use super::*;

type Outcome = (TopicPartition, Result<(), ClusterError>);

fn elect(scene: &mut Scene, kind: ElectionKind, partitions: Option<Vec<TopicPartition>>) -> Vec<Outcome> {
    match scene.run(Command::ElectLeaders { kind, partitions }) {
        Reply::LeadersElected(outcomes) => outcomes,
        other => panic!("{other:?}"),
    }
}

fn join(scene: &mut Scene, topic: &str, isr: &[NodeId]) {
    let Partition { leader, leader_epoch, partition_epoch, .. } = *scene.partition(topic, 0);
    let (broker, isr) = (scene.broker(leader), scene.members(isr));
    scene.alter(broker, IsrChange { partition: scene.id(topic, 0), leader_epoch, partition_epoch, isr }).unwrap();
}

/// Topics whose preferred leader is back in the ISR, is not, and leads.
fn scene() -> Scene {
    let mut scene = Scene::with_brokers(3);
    scene.create(assigned("back", &[&[1, 2]])).unwrap();
    scene.create(assigned("away", &[&[1, 3]])).unwrap();
    scene.create(assigned("leads", &[&[2, 3]])).unwrap();
    scene.fence(1);
    scene.unfence(1);
    join(&mut scene, "back", &[2, 1]);
    scene
}

#[test]
fn a_preferred_leader_that_is_in_sync_leads_again() {
    let mut scene = scene();
    let [back, away, leads] = ["back", "away", "leads"].map(|name| scene.id(name, 0));
    let nowhere = TopicPartition { partition: 9, ..back };
    let outcomes = elect(&mut scene, ElectionKind::Preferred, Some(vec![back, away, leads, nowhere]));
    let expected = [
        (back, Ok(())),
        (away, Err(ClusterError::PreferredLeaderNotAvailable { partition: away, broker_id: 1 })),
        (leads, Err(ClusterError::ElectionNotNeeded { partition: leads, leader: 2 })),
        (nowhere, Err(ClusterError::UnknownPartition { partition: nowhere })),
    ];
    assert_eq!(outcomes, expected);
    assert_eq!(scene.standing("back"), (vec![2, 1], 1, 2));
    assert_eq!(scene.standing("away"), (vec![3], 3, 1));
}

#[test]
fn asked_for_all_the_reply_names_only_those_that_needed_an_election() {
    let mut scene = scene();
    let mut named: Vec<TopicPartition> =
        elect(&mut scene, ElectionKind::Preferred, None).into_iter().map(|(id, _)| id).collect();
    named.sort();
    let mut expected = ["back", "away"].map(|name| scene.id(name, 0));
    expected.sort();
    assert_eq!(named, expected);
    assert_eq!(elect(&mut scene, ElectionKind::Unclean, None), []);
}

#[test]
fn balancing_moves_what_can_move_up_to_the_limit() {
    let mut scene = Scene::with_brokers(2);
    scene.create(assigned("a", &[&[1, 2], &[1, 2], &[1, 2]])).unwrap();
    scene.fence(1);
    scene.unfence(1);
    let balance = |scene: &mut Scene| scene.run(Command::BalanceLeaders { at_most: 2 });
    assert_eq!(balance(&mut scene), Reply::LeadersBalanced { moved: 0, is_more_left: false });
    let (leader, isr) = (scene.broker(2), scene.members(&[2, 1]));
    for partition in 0..3 {
        let Partition { leader_epoch, partition_epoch, .. } = *scene.partition("a", partition);
        let (partition, isr) = (scene.id("a", partition), isr.clone());
        scene.alter(leader, IsrChange { partition, leader_epoch, partition_epoch, isr }).unwrap();
    }
    assert_eq!(balance(&mut scene), Reply::LeadersBalanced { moved: 2, is_more_left: true });
    assert_eq!(balance(&mut scene), Reply::LeadersBalanced { moved: 1, is_more_left: false });
    assert!(scene.state.partitions().all(|(_, partition)| partition.leader == 1));
    assert_eq!(scene.submit(&Command::BalanceLeaders { at_most: 2 }.into()).records, []);
}

#[test]
fn a_broker_about_to_stop_is_not_preferred() {
    let mut scene = scene();
    let broker = scene.broker(1);
    scene.run(Command::ShutDownBroker(broker));
    let back = scene.id("back", 0);
    let outcomes = elect(&mut scene, ElectionKind::Preferred, Some(vec![back]));
    assert!(matches!(outcomes[0].1, Err(ClusterError::PreferredLeaderNotAvailable { .. })));
}

#[test]
fn an_unclean_election_needs_a_partition_without_leader_and_a_replica_that_can_lead() {
    let mut scene = Scene::with_brokers(3);
    scene.create(assigned("a", &[&[1, 2, 3]])).unwrap();
    let id = scene.id("a", 0);
    let unclean = |scene: &mut Scene| elect(scene, ElectionKind::Unclean, Some(vec![id])).remove(0).1;
    assert!(matches!(unclean(&mut scene), Err(ClusterError::ElectionNotNeeded { leader: 1, .. })));
    for broker in [3, 2, 1] {
        scene.fence(broker);
    }
    assert_eq!(unclean(&mut scene), Err(ClusterError::EligibleLeadersNotAvailable { partition: id }));
    scene.unfence(3);
    assert_eq!(scene.standing("a"), (vec![1], NO_LEADER, 1));
    assert_eq!(unclean(&mut scene), Ok(()));
    assert_eq!(scene.standing("a"), (vec![3], 3, 2));
    scene.unfence(1);
    assert_eq!(scene.standing("a"), (vec![3], 3, 2), "what broker 1 has is another history");
}

#[test]
fn after_an_unclean_election_nobody_of_the_old_history_is_eligible() {
    let mut scene = Scene::with_brokers(3);
    let configs = vec![("min.insync.replicas".to_owned(), Some("2".to_owned()))];
    scene.create(NewTopic { configs, ..assigned("a", &[&[1, 2, 3]]) }).unwrap();
    for broker in [3, 2, 1] {
        scene.fence(broker);
    }
    assert_eq!(scene.partition("a", 0).elr, [2]);
    scene.unfence(3);
    elect(&mut scene, ElectionKind::Unclean, None);
    assert_eq!((scene.standing("a").0, scene.partition("a", 0).elr.len()), (vec![3], 0));
}

fn allow_unclean(scene: &mut Scene, resource: ConfigResource) {
    let op = ConfigOp {
        name: "unclean.leader.election.enable".to_owned(),
        kind: ConfigOpKind::Set,
        value: Some("true".to_owned()),
    };
    let change = ConfigChange { resource, edit: ConfigEdit::Incremental(vec![op]) };
    let reply = scene.run(Command::AlterConfigs { changes: vec![change], validate_only: false });
    assert_eq!(reply, Reply::ConfigsAltered(vec![Ok(())]));
}

#[test]
fn a_topic_that_allows_it_never_waits_for_a_replica_while_another_lives() {
    let mut scene = Scene::with_brokers(2);
    let configs = vec![("unclean.leader.election.enable".to_owned(), Some("true".to_owned()))];
    scene.create(NewTopic { configs, ..assigned("a", &[&[1, 2]]) }).unwrap();
    scene.fence(2);
    scene.unfence(2);
    scene.fence(1);
    assert_eq!(scene.standing("a"), (vec![2], 2, 1));
    scene.fence(2);
    assert_eq!(scene.standing("a"), (vec![2], NO_LEADER, 2));
    scene.unfence(1);
    assert_eq!(scene.standing("a"), (vec![1], 1, 3));
}

#[test]
fn a_partition_that_waits_is_led_as_soon_as_its_settings_allow_it() {
    for resource in [ConfigResource::Topic("a".to_owned()), ConfigResource::Cluster] {
        let mut scene = Scene::with_brokers(2);
        scene.create(assigned("a", &[&[1, 2]])).unwrap();
        scene.fence(2);
        scene.fence(1);
        scene.unfence(2);
        assert_eq!(scene.standing("a"), (vec![1], NO_LEADER, 1));
        allow_unclean(&mut scene, resource);
        assert_eq!(scene.standing("a"), (vec![2], 2, 2));
    }
}
