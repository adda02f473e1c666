//! Brokers that are about to stop.

use super::*;

fn shut_down(scene: &mut Scene, id: NodeId) -> usize {
    let broker = scene.broker(id);
    match scene.run(Command::ShutDownBroker(broker)) {
        Reply::BrokerShutsDown { led_partitions } => led_partitions,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_broker_about_to_stop_hands_over_what_others_can_lead_and_stays_registered() {
    let mut scene = Scene::with_brokers(3);
    scene.create(assigned("led", &[&[1, 2, 3]])).unwrap();
    scene.create(assigned("followed", &[&[2, 1]])).unwrap();
    scene.create(assigned("alone", &[&[1]])).unwrap();
    assert_eq!(shut_down(&mut scene, 1), 1);
    assert_eq!(scene.standing("led"), (vec![2, 3], 2, 1));
    assert_eq!(scene.standing("followed"), (vec![2], 2, 0));
    assert_eq!(scene.standing("alone"), (vec![1], 1, 0));
    let broker = scene.state.broker(1).unwrap();
    assert!(broker.is_shutting_down && !broker.is_fenced);
    assert!(scene.state.is_alive(1) && !scene.state.is_active(1));
}

#[test]
fn asked_again_it_hands_over_what_has_become_possible() {
    let mut scene = Scene::with_brokers(2);
    scene.create(assigned("a", &[&[1, 2]])).unwrap();
    let leader = scene.broker(1);
    scene.fence(2);
    assert_eq!(shut_down(&mut scene, 1), 1);
    scene.unfence(2);
    assert_eq!(shut_down(&mut scene, 1), 1, "broker 2 is not in sync yet");
    let isr = scene.members(&[1, 2]);
    let partition_epoch = scene.partition("a", 0).partition_epoch;
    let change = IsrChange { partition: scene.id("a", 0), leader_epoch: 0, partition_epoch, isr };
    scene.alter(leader, change).unwrap();
    assert_eq!(shut_down(&mut scene, 1), 0);
    assert_eq!(scene.standing("a"), (vec![2], 2, 1));
    assert_eq!(scene.submit(&Command::ShutDownBroker(leader).into()).records, []);
}

#[test]
fn it_gets_nothing_new_until_it_registers_again() {
    let mut scene = Scene::with_brokers(3);
    scene.create(assigned("a", &[&[1, 2, 3]])).unwrap();
    shut_down(&mut scene, 1);
    let partition_epoch = scene.partition("a", 0).partition_epoch;
    let isr = scene.members(&[1, 2, 3]);
    let change = IsrChange { partition: scene.id("a", 0), leader_epoch: 1, partition_epoch, isr };
    let leader = scene.broker(2);
    let refused = scene.alter(leader, change.clone()).unwrap_err();
    assert!(matches!(refused, ClusterError::IneligibleReplica { broker_id: 1, .. }), "{refused}");
    scene.create(placed("b", 6, 2)).unwrap();
    assert!(scene.state.partitions_of(topic_id("b")).all(|(_, partition)| !partition.replicas.contains(&1)));
    scene.create(assigned("c", &[&[1, 2]])).unwrap();
    assert_eq!(scene.standing("c"), (vec![2], 2, 0));
    assert!(matches!(scene.create(assigned("d", &[&[1]])), Err(ClusterError::InvalidReplicaAssignment { .. })));
    scene.fence(1);
    scene.unfence(1);
    assert!(!scene.state.is_active(1));
    scene.register(1, 2);
    assert!(scene.state.is_active(1));
    let isr = scene.members(&[1, 2, 3]);
    scene.alter(leader, IsrChange { isr, ..change }).unwrap();
}

#[test]
fn the_same_process_that_registers_again_still_stops() {
    let mut scene = Scene::with_brokers(2);
    shut_down(&mut scene, 1);
    scene.register(1, 1);
    assert!(!scene.state.is_active(1));
}

#[test]
fn a_replaced_process_cannot_shut_its_successor_down() {
    let mut scene = Scene::with_brokers(2);
    let stale = scene.broker(1);
    scene.register(1, 2);
    let reply = scene.run(Command::ShutDownBroker(stale));
    assert!(matches!(reply, Reply::Refused(ClusterError::StaleBrokerEpoch { .. })));
}
