//! Registration, fencing, leadership, ISRs, producer ids.

use super::*;

type Action = fn(&mut Scene, i32);

#[test]
fn nothing_happens_before_the_cluster_exists_and_it_is_created_once() {
    let mut scene = Scene { state: Cluster::new(), replayed: Cluster::new() };
    let reply = scene.run(Command::RegisterBroker(registration(1, 1)));
    assert_eq!(reply, Reply::Refused(ClusterError::NoCluster));
    let create = |id: &str, metadata_version| Command::CreateCluster { cluster_id: id.to_owned(), metadata_version };
    assert!(matches!(scene.run(create("x", 9)), Reply::Refused(ClusterError::InvalidMetadataVersion { .. })));
    assert!(matches!(scene.run(create("", 1)), Reply::Refused(ClusterError::InvalidRequest { .. })));
    assert_eq!(scene.run(create("x", 1)), Reply::Done);
    let exists = ClusterError::ClusterExists { cluster_id: "x".to_owned() };
    assert_eq!(scene.run(create("y", 1)), Reply::Refused(exists));
}

#[test]
fn a_process_that_registers_again_keeps_its_epoch_and_its_leaderships() {
    let mut scene = Scene::with_brokers(1);
    scene.create(placed("a", 1, 1)).unwrap();
    let epoch = scene.broker(1).broker_epoch;
    assert_eq!(scene.submit(&Command::RegisterBroker(registration(1, 1)).into()).records, []);
    let moved = RegisterBroker { rack: Some("r".to_owned()), ..registration(1, 1) };
    assert_eq!(scene.run(Command::RegisterBroker(moved)), Reply::BrokerRegistered { broker_epoch: epoch });
    assert_eq!(scene.state.broker(1).unwrap().rack.as_deref(), Some("r"));
    assert_eq!(scene.standing("a"), (vec![1], 1, 0));
}

#[test]
fn a_new_process_of_the_only_replica_leads_under_a_new_epoch() {
    let mut scene = Scene::with_brokers(1);
    scene.create(placed("a", 1, 1)).unwrap();
    let stale = scene.broker(1);
    assert!(scene.register(1, 2) > stale.broker_epoch);
    assert_eq!(scene.standing("a"), (vec![1], 1, 1));
    let refused = Reply::Refused(ClusterError::StaleBrokerEpoch { broker_id: 1, given: 0, current: 1 });
    assert_eq!(scene.run(Command::AllocateProducerIds(stale)), refused);
    assert_eq!(scene.run(Command::FenceBroker(stale)), refused);
}

#[test]
fn a_new_process_among_several_replicas_gives_up_its_leaderships_until_it_is_ready() {
    let mut scene = Scene::with_brokers(3);
    scene.create(assigned("a", &[&[1, 2, 3]])).unwrap();
    scene.run(Command::RegisterBroker(RegisterBroker { is_fenced: true, ..registration(1, 2) }));
    assert_eq!(scene.standing("a"), (vec![1, 2, 3], 2, 1));
    scene.unfence(1);
    assert_eq!(scene.standing("a"), (vec![1, 2, 3], 2, 1));
    scene.register(2, 2);
    assert_eq!(scene.standing("a"), (vec![1, 2, 3], 1, 2));
}

#[test]
fn a_lost_leader_is_followed_by_the_first_in_sync_replica_and_never_by_another() {
    let mut scene = Scene::with_brokers(3);
    scene.create(assigned("a", &[&[1, 2, 3]])).unwrap();
    let steps: [(Action, i32, Standing); 6] = [
        (Scene::fence, 3, (vec![1, 2], 1, 0)),
        (Scene::fence, 1, (vec![2], 2, 1)),
        (Scene::unfence, 3, (vec![2], 2, 1)),
        (Scene::fence, 2, (vec![2], NO_LEADER, 2)),
        (Scene::unfence, 1, (vec![2], NO_LEADER, 2)),
        (Scene::unfence, 2, (vec![2], 2, 3)),
    ];
    for (i, (step, broker, expected)) in steps.into_iter().enumerate() {
        step(&mut scene, broker);
        assert_eq!(scene.standing("a"), expected, "after step {i}");
    }
    let broker = scene.broker(2);
    assert_eq!(scene.submit(&Command::UnfenceBroker(broker).into()).records, []);
}

#[test]
fn a_broker_that_starts_fenced_leads_only_once_it_is_ready() {
    let mut scene = Scene::with_brokers(1);
    scene.create(placed("a", 1, 1)).unwrap();
    scene.run(Command::RegisterBroker(RegisterBroker { is_fenced: true, ..registration(1, 2) }));
    assert_eq!(scene.standing("a"), (vec![1], NO_LEADER, 1));
    scene.unfence(1);
    assert_eq!(scene.standing("a"), (vec![1], 1, 2));
}

#[test]
fn an_unregistered_broker_is_gone_and_a_later_one_of_that_id_has_a_newer_epoch() {
    let mut scene = Scene::with_brokers(2);
    scene.create(assigned("a", &[&[1, 2]])).unwrap();
    let old = scene.broker(1).broker_epoch;
    let alive = scene.run(Command::UnregisterBroker { broker_id: 1 });
    assert!(matches!(alive, Reply::Refused(ClusterError::BrokerIsAlive { broker_id: 1, .. })), "{alive:?}");
    scene.run(Command::FenceBroker(scene.broker(1)));
    assert_eq!(scene.run(Command::UnregisterBroker { broker_id: 1 }), Reply::Done);
    assert_eq!(scene.standing("a"), (vec![2], 2, 1));
    let again = scene.run(Command::UnregisterBroker { broker_id: 1 });
    assert_eq!(again, Reply::Refused(ClusterError::UnknownBroker { broker_id: 1 }));
    assert!(scene.register(1, 1) > old);
}

#[test]
fn registrations_without_sense_are_refused() {
    let mut scene = Scene::with_brokers(0);
    let negative = RegisterBroker { broker_id: -1, ..registration(1, 1) };
    let deaf = RegisterBroker { listeners: Vec::new(), ..registration(1, 1) };
    for request in [negative, deaf] {
        let reply = scene.run(Command::RegisterBroker(request));
        assert!(matches!(reply, Reply::Refused(ClusterError::InvalidRequest { .. })));
    }
}

#[test]
fn a_leader_changes_its_isr() {
    let mut scene = Scene::with_brokers(3);
    scene.create(assigned("a", &[&[1, 2, 3]])).unwrap();
    let (leader, id) = (scene.broker(1), scene.id("a", 0));
    let change = |scene: &Scene, partition_epoch, isr: &[NodeId]| IsrChange {
        partition: id,
        leader_epoch: 0,
        partition_epoch,
        isr: scene.members(isr),
    };
    let shrunk = change(&scene, 0, &[1, 3]);
    let altered = scene.alter(leader, shrunk).unwrap();
    assert_eq!((altered.partition.isr.as_slice(), altered.partition.partition_epoch), (&[1, 3][..], 1));
    let grown = change(&scene, 1, &[1, 2, 3]);
    scene.alter(leader, grown).unwrap();
    assert_eq!(scene.standing("a"), (vec![1, 2, 3], 1, 0));
}

#[test]
fn impossible_isrs_are_refused() {
    let mut scene = Scene::with_brokers(4);
    scene.create(assigned("a", &[&[1, 2, 3]])).unwrap();
    scene.fence(3);
    let (leader, follower, id) = (scene.broker(1), scene.broker(2), scene.id("a", 0));
    let good = IsrChange { partition: id, leader_epoch: 0, partition_epoch: 1, isr: scene.members(&[1, 2]) };
    let before = scene.state.clone();
    let mut refused = |broker, change| scene.alter(broker, change).unwrap_err();
    let with_isr = |isr: &[NodeId]| IsrChange { isr: members(&before, isr), ..good.clone() };
    assert!(matches!(refused(leader, with_isr(&[2])), ClusterError::InvalidRequest { .. }));
    assert!(matches!(refused(leader, with_isr(&[])), ClusterError::InvalidRequest { .. }));
    assert!(matches!(refused(leader, with_isr(&[1, 1])), ClusterError::InvalidRequest { .. }));
    assert!(matches!(refused(leader, with_isr(&[1, 4])), ClusterError::IneligibleReplica { broker_id: 4, .. }));
    assert!(matches!(refused(leader, with_isr(&[1, 3])), ClusterError::IneligibleReplica { broker_id: 3, .. }));
    assert!(matches!(refused(follower, good.clone()), ClusterError::NotLeader { leader: 1, .. }));
    let newer = IsrChange { leader_epoch: 1, ..good.clone() };
    assert!(matches!(refused(leader, newer), ClusterError::UnknownLeaderEpoch { .. }));
    let older = IsrChange { leader_epoch: -1, ..good.clone() };
    assert!(matches!(refused(leader, older), ClusterError::FencedLeaderEpoch { .. }));
    let outdated = IsrChange { partition_epoch: 0, ..good.clone() };
    assert!(matches!(refused(leader, outdated), ClusterError::InvalidUpdateVersion { current: 1, .. }));
    let elsewhere = IsrChange { partition: TopicPartition { partition: 9, ..id }, ..good };
    assert!(matches!(refused(leader, elsewhere), ClusterError::UnknownPartition { .. }));
}

#[test]
fn a_replica_that_registered_anew_since_its_last_fetch_cannot_join() {
    let mut scene = Scene::with_brokers(3);
    scene.create(assigned("a", &[&[1, 2, 3]])).unwrap();
    let (leader, id) = (scene.broker(1), scene.id("a", 0));
    let fetched = scene.members(&[1, 2, 3]);
    scene.fence(3);
    scene.register(3, 2);
    let change = |scene: &Scene, isr| {
        let Partition { leader_epoch, partition_epoch, .. } = *scene.partition("a", 0);
        IsrChange { partition: id, leader_epoch, partition_epoch, isr }
    };
    let stale = change(&scene, fetched);
    let refused = scene.alter(leader, stale).unwrap_err();
    assert!(matches!(refused, ClusterError::IneligibleReplica { broker_id: 3, .. }), "{refused}");
    let unknown = |scene: &Scene, id: usize| {
        let mut isr = scene.members(&[1, 2, 3]);
        isr[id].broker_epoch = -1;
        change(scene, isr)
    };
    let newcomer = unknown(&scene, 2);
    assert!(matches!(scene.alter(leader, newcomer), Err(ClusterError::IneligibleReplica { broker_id: 3, .. })));
    let member = unknown(&scene, 1);
    assert_eq!(scene.alter(leader, member).unwrap().partition.isr, [1, 2, 3]);
}

#[test]
fn a_registration_says_how_nodes_reach_it_what_its_disk_holds_and_its_defaults() {
    let mut scene = Scene::with_brokers(0);
    let log_id = Some(Uuid::from_u128(7));
    let topic_defaults = SettingsMap::from([("min.insync.replicas".to_owned(), "2".to_owned())]);
    let internal = "host:9093".to_owned();
    let full = RegisterBroker { internal, log_id, topic_defaults: topic_defaults.clone(), ..registration(1, 1) };
    scene.run(Command::RegisterBroker(full));
    let broker = scene.state.broker(1).unwrap();
    assert_eq!(
        (broker.internal.as_str(), broker.log_id, &broker.topic_defaults),
        ("host:9093", log_id, &topic_defaults)
    );
    scene.register(1, 2);
    let broker = scene.state.broker(1).unwrap();
    assert_eq!((broker.internal.as_str(), broker.log_id), ("", log_id), "a registration without a log id keeps it");
}

#[test]
fn after_a_recovery_no_number_is_given_out_that_the_lost_changes_may_have_given_out() {
    let mut scene = Scene::with_brokers(2);
    scene.create(assigned("a", &[&[1, 2], &[2, 1]])).unwrap();
    let copy = scene.state.clone();
    // What the copy lacks.
    scene.fence(1);
    scene.register(1, 2);
    let broker = scene.broker(1);
    scene.run(Command::AllocateProducerIds(broker));
    let lost = std::mem::replace(&mut scene, Scene { state: copy.clone(), replayed: copy });
    assert_eq!(scene.run(Command::PassOverLostNumbers), Reply::Done);
    for (id, partition) in scene.state.partitions() {
        let old = lost.state.partition(id).unwrap();
        assert!(partition.leader_epoch > old.leader_epoch && partition.partition_epoch > old.partition_epoch);
    }
    assert!(scene.state.next_producer_id() > lost.state.next_producer_id());
    assert!(scene.register(1, 3) > broker.broker_epoch);
    assert!(scene.state.was_recovered() && !lost.state.was_recovered());
}

#[test]
fn producer_ids_are_handed_out_once() {
    let mut scene = Scene::with_brokers(2);
    let (one, two) = (scene.broker(1), scene.broker(2));
    let ids = |first| Reply::ProducerIds { first, count: PRODUCER_ID_BLOCK };
    assert_eq!(scene.run(Command::AllocateProducerIds(one)), ids(0));
    assert_eq!(scene.run(Command::AllocateProducerIds(two)), ids(1000));
    assert_eq!(scene.run(Command::AllocateProducerIds(one)), ids(2000));
}
