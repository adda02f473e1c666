//! Partitions that move (KIP-455).

use super::*;

/// Replicas, adding, removing, ISR, leader.
type Shape = (Vec<NodeId>, Vec<NodeId>, Vec<NodeId>, Vec<NodeId>, NodeId);

fn shape(scene: &Scene) -> Shape {
    let p = scene.partition("a", 0).clone();
    (p.replicas, p.adding, p.removing, p.isr, p.leader)
}

fn scene(replicas: &[NodeId]) -> Scene {
    let mut scene = Scene::with_brokers(5);
    scene.create(assigned("a", &[replicas])).unwrap();
    scene
}

fn reassign(scene: &mut Scene, replicas: Option<&[NodeId]>) -> Result<(), ClusterError> {
    let change = Reassignment { partition: scene.id("a", 0), replicas: replicas.map(<[NodeId]>::to_vec) };
    let command = Command::AlterReassignments { changes: vec![change], keep_replication_factor: false };
    match scene.run(command) {
        Reply::ReassignmentsAltered(mut outcomes) => outcomes.remove(0),
        other => panic!("{other:?}"),
    }
}

fn set_isr(scene: &mut Scene, isr: &[NodeId]) -> Partition {
    let Partition { leader, leader_epoch, partition_epoch, .. } = *scene.partition("a", 0);
    let (broker, isr) = (scene.broker(leader), scene.members(isr));
    let change = IsrChange { partition: scene.id("a", 0), leader_epoch, partition_epoch, isr };
    scene.alter(broker, change).unwrap().partition
}

#[test]
fn a_partition_moves_when_its_whole_target_is_in_sync_and_its_leader_with_it() {
    let mut scene = scene(&[1, 2, 3]);
    reassign(&mut scene, Some(&[4, 5, 3])).unwrap();
    let moving = (vec![4, 5, 3, 1, 2], vec![4, 5], vec![1, 2], vec![1, 2, 3], 1);
    assert_eq!(shape(&scene), moving);
    assert_eq!(scene.state.reassignments().count(), 1);
    set_isr(&mut scene, &[1, 2, 3, 4]);
    assert_eq!(shape(&scene).0, [4, 5, 3, 1, 2]);
    let answer = set_isr(&mut scene, &[1, 2, 3, 4, 5]);
    assert_eq!(shape(&scene), (vec![4, 5, 3], vec![], vec![], vec![3, 4, 5], 4));
    assert_eq!(&answer, scene.partition("a", 0), "the old leader learns from the reply that it leads no more");
    assert_eq!((answer.leader_epoch, scene.state.reassignments().count()), (1, 0));
}

#[test]
fn the_leader_stays_where_it_is_part_of_the_target() {
    let mut scene = scene(&[1, 2]);
    reassign(&mut scene, Some(&[3, 1])).unwrap();
    set_isr(&mut scene, &[1, 2, 3]);
    assert_eq!(shape(&scene), (vec![3, 1], vec![], vec![], vec![1, 3], 1));
    assert_eq!(scene.partition("a", 0).leader_epoch, 1, "what broker 2 still does is of an old term");
}

#[test]
fn the_number_of_replicas_may_change_unless_it_must_not() {
    let mut scene = scene(&[1]);
    reassign(&mut scene, Some(&[1, 2, 3])).unwrap();
    assert_eq!(shape(&scene), (vec![1, 2, 3], vec![2, 3], vec![], vec![1], 1));
    set_isr(&mut scene, &[1, 2, 3]);
    reassign(&mut scene, Some(&[2])).unwrap();
    assert_eq!(shape(&scene), (vec![2], vec![], vec![], vec![2], 2), "those that stay are in sync: it is done at once");
    let change = Reassignment { partition: scene.id("a", 0), replicas: Some(vec![2, 3]) };
    let kept = Command::AlterReassignments { changes: vec![change], keep_replication_factor: true };
    let Reply::ReassignmentsAltered(outcomes) = scene.run(kept) else { panic!("not a reply to AlterReassignments") };
    assert!(matches!(outcomes[0], Err(ClusterError::InvalidReplicationFactor { .. })));
}

#[test]
fn a_replica_goes_only_when_those_that_stay_are_in_sync() {
    let mut scene = scene(&[1, 2, 3]);
    scene.fence(2);
    scene.unfence(2);
    reassign(&mut scene, Some(&[2, 3])).unwrap();
    assert_eq!(shape(&scene), (vec![2, 3, 1], vec![], vec![1], vec![1, 3], 1));
    set_isr(&mut scene, &[1, 3, 2]);
    assert_eq!(shape(&scene), (vec![2, 3], vec![], vec![], vec![3, 2], 2));
}

#[test]
fn another_order_is_another_preferred_leader_and_moves_nothing() {
    let mut scene = scene(&[1, 2, 3]);
    reassign(&mut scene, Some(&[3, 1, 2])).unwrap();
    assert_eq!(shape(&scene), (vec![3, 1, 2], vec![], vec![], vec![1, 2, 3], 1));
    assert_eq!(scene.partition("a", 0).leader_epoch, 0);
}

#[test]
fn a_reassignment_is_cancelled() {
    let mut scene = scene(&[1, 2]);
    assert_eq!(reassign(&mut scene, None), Err(ClusterError::NoReassignment { partition: scene.id("a", 0) }));
    reassign(&mut scene, Some(&[3, 4])).unwrap();
    set_isr(&mut scene, &[1, 2, 3]);
    reassign(&mut scene, None).unwrap();
    assert_eq!(shape(&scene), (vec![1, 2], vec![], vec![], vec![1, 2], 1));
}

#[test]
fn cancelling_moves_the_leader_off_an_added_replica() {
    let mut scene = scene(&[1, 2]);
    reassign(&mut scene, Some(&[3, 4])).unwrap();
    set_isr(&mut scene, &[1, 2, 3]);
    scene.fence(1);
    assert_eq!(shape(&scene).4, 3, "the target comes first");
    reassign(&mut scene, None).unwrap();
    assert_eq!(shape(&scene), (vec![1, 2], vec![], vec![], vec![2], 2));
}

#[test]
fn what_only_added_replicas_have_is_not_thrown_away() {
    let mut scene = scene(&[1]);
    reassign(&mut scene, Some(&[2, 3])).unwrap();
    set_isr(&mut scene, &[1, 2]);
    scene.fence(1);
    let before = shape(&scene);
    assert_eq!(before, (vec![2, 3, 1], vec![2, 3], vec![1], vec![2], 2));
    for replicas in [None, Some(&[3][..])] {
        let refused = reassign(&mut scene, replicas);
        assert!(matches!(refused, Err(ClusterError::InvalidReplicaAssignment { .. })), "{refused:?}");
        assert_eq!(shape(&scene), before);
    }
    reassign(&mut scene, Some(&[2])).unwrap();
    assert_eq!(shape(&scene), (vec![2], vec![], vec![], vec![2], 2));
}

#[test]
fn as_many_copies_stay_as_acknowledgements_were_promised() {
    let mut scene = Scene::with_brokers(5);
    let configs = vec![("min.insync.replicas".to_owned(), Some("2".to_owned()))];
    scene.create(NewTopic { configs, ..assigned("a", &[&[2, 3]]) }).unwrap();
    reassign(&mut scene, Some(&[4, 5])).unwrap();
    set_isr(&mut scene, &[2, 3, 4]);
    scene.fence(3);
    let before = shape(&scene);
    let refused = reassign(&mut scene, None);
    assert!(matches!(refused, Err(ClusterError::InvalidReplicaAssignment { .. })), "{refused:?}");
    assert_eq!(shape(&scene), before);
    scene.unfence(3);
    set_isr(&mut scene, &[2, 3, 4]);
    reassign(&mut scene, None).unwrap();
    assert_eq!(shape(&scene).3, [2, 3]);
}

#[test]
fn a_new_reassignment_replaces_the_one_under_way() {
    let mut scene = scene(&[1, 2]);
    reassign(&mut scene, Some(&[3, 4])).unwrap();
    set_isr(&mut scene, &[1, 2, 3]);
    reassign(&mut scene, Some(&[3, 5])).unwrap();
    assert_eq!(shape(&scene), (vec![3, 5, 1, 2], vec![3, 5], vec![1, 2], vec![1, 2, 3], 1));
    reassign(&mut scene, Some(&[1, 2])).unwrap();
    assert_eq!(shape(&scene), (vec![1, 2], vec![], vec![], vec![1, 2], 1), "back to where it was");
}

#[test]
fn impossible_targets_are_refused() {
    let mut scene = scene(&[1, 2]);
    let impossible: [&[NodeId]; 4] = [&[], &[1, 1], &[1, 9], &[-1]];
    for target in impossible {
        let refused = reassign(&mut scene, Some(target));
        assert!(matches!(refused, Err(ClusterError::InvalidReplicaAssignment { .. })), "{target:?}: {refused:?}");
    }
    let nowhere = TopicPartition { partition: 9, ..scene.id("a", 0) };
    let changes = vec![Reassignment { partition: nowhere, replicas: Some(vec![1]) }];
    let reply = scene.run(Command::AlterReassignments { changes, keep_replication_factor: false });
    let unknown = ClusterError::UnknownPartition { partition: nowhere };
    assert_eq!(reply, Reply::ReassignmentsAltered(vec![Err(unknown)]));
}

#[test]
fn new_partitions_have_as_many_replicas_as_the_target() {
    let mut scene = scene(&[1, 2]);
    reassign(&mut scene, Some(&[3, 4])).unwrap();
    let more = MorePartitions { name: "a".to_owned(), total: 2, assignment: None };
    scene.run(Command::CreatePartitions { topics: vec![more], validate_only: false });
    assert_eq!(scene.partition("a", 1).replicas.len(), 2);
}

#[test]
fn a_leaderless_partition_finishes_its_move_when_it_has_a_leader_again() {
    let mut scene = scene(&[1, 2]);
    scene.fence(2);
    scene.fence(1);
    reassign(&mut scene, Some(&[1])).unwrap();
    assert_eq!(shape(&scene), (vec![1, 2], vec![], vec![2], vec![1], NO_LEADER));
    scene.unfence(1);
    assert_eq!(shape(&scene), (vec![1], vec![], vec![], vec![1], 1));
}
