//! Partitions that wait for replicas, as there were too few brokers when they were made.

use super::*;

/// A cluster of one, with a topic of four partitions that shall have three replicas each.
fn young() -> Scene {
    let mut scene = Scene::with_brokers(1);
    scene.create(NewTopic { wanted_replicas: Some(3), ..placed("a", 4, 1) }).unwrap();
    scene
}

fn grow(scene: &mut Scene, to: NodeId) {
    for id in 2..=to {
        scene.register(id, 1);
    }
}

fn add(scene: &mut Scene, at_most: usize) -> usize {
    match scene.run(Command::AddWantedReplicas { at_most }) {
        Reply::ReplicasAdded { partitions } => partitions,
        other => panic!("{other:?}"),
    }
}

fn ready(scene: &Scene) -> usize {
    scene.state.ready_for_replicas().count()
}

fn reassign(scene: &mut Scene, partition: i32, replicas: Option<Vec<NodeId>>) {
    let change = Reassignment { partition: scene.id("a", partition), replicas };
    let command = Command::AlterReassignments { changes: vec![change], keep_replication_factor: false };
    assert_eq!(scene.run(command), Reply::ReassignmentsAltered(vec![Ok(())]));
}

/// All replicas of the partition are in sync.
fn catch_up(scene: &mut Scene, partition: i32) {
    let Partition { leader, leader_epoch, partition_epoch, replicas, .. } = scene.partition("a", partition).clone();
    let (broker, isr) = (scene.broker(leader), scene.members(&replicas));
    let change = IsrChange { partition: scene.id("a", partition), leader_epoch, partition_epoch, isr };
    scene.alter(broker, change).unwrap();
}

#[test]
fn nothing_moves_before_there_are_enough_brokers() {
    let mut scene = young();
    grow(&mut scene, 2);
    assert_eq!((ready(&scene), add(&mut scene, 10)), (0, 0));
    scene.register(3, 1);
    scene.fence(3);
    assert_eq!((ready(&scene), add(&mut scene, 10)), (0, 0), "a broker that is down can keep nothing");
    scene.unfence(3);
    assert_eq!(ready(&scene), 4);
}

#[test]
fn replicas_are_added_a_few_partitions_at_a_time_and_the_leaders_spread() {
    let mut scene = young();
    grow(&mut scene, 3);
    assert_eq!(add(&mut scene, 3), 3);
    assert_eq!(add(&mut scene, 3), 0, "three move already");
    assert_eq!((scene.state.reassignments().count(), ready(&scene)), (3, 1));
    for partition in 0..3 {
        assert_eq!(scene.partition("a", partition).adding.len(), 2);
        catch_up(&mut scene, partition);
    }
    assert_eq!((add(&mut scene, 3), ready(&scene)), (1, 0));
    catch_up(&mut scene, 3);
    let partitions: Vec<Partition> = (0..4).map(|index| scene.partition("a", index).clone()).collect();
    for partition in &partitions {
        let mut replicas = partition.replicas.clone();
        replicas.sort_unstable();
        assert_eq!((replicas, partition.isr.len(), partition.wanted_replicas), (vec![1, 2, 3], 3, None));
    }
    let preferred: std::collections::BTreeSet<NodeId> = partitions.iter().map(Partition::preferred_leader).collect();
    assert_eq!(preferred.len(), 3, "the leaders spread over all brokers");
    assert_eq!((add(&mut scene, 3), scene.state.reassignments().count()), (0, 0));
}

#[test]
fn a_larger_cluster_keeps_the_copies_that_are_there() {
    let mut scene = young();
    grow(&mut scene, 6);
    assert_eq!(add(&mut scene, 10), 4);
    for index in 0..4 {
        let partition = scene.partition("a", index);
        assert_eq!((partition.replicas.len(), partition.adding.len(), partition.removing.len()), (3, 2, 0));
        assert!(partition.replicas.contains(&1) && partition.leader == 1, "{partition:?}");
    }
}

#[test]
fn what_is_taken_back_or_decided_by_hand_is_not_undone() {
    let mut scene = young();
    grow(&mut scene, 3);
    reassign(&mut scene, 0, Some(vec![1, 2]));
    catch_up(&mut scene, 0);
    assert_eq!(add(&mut scene, 1), 1);
    assert!(scene.partition("a", 1).is_reassigning(), "partition 0 was decided on");
    reassign(&mut scene, 1, None);
    assert_eq!(scene.partition("a", 1).replicas, [1]);
    assert_eq!(add(&mut scene, 10), 2, "partitions 2 and 3");
    for partition in 2..4 {
        catch_up(&mut scene, partition);
        reassign(&mut scene, partition, Some(vec![1]));
    }
    assert_eq!((ready(&scene), add(&mut scene, 10)), (0, 0));
    let replicas: Vec<usize> = (0..4).map(|index| scene.partition("a", index).replicas.len()).collect();
    assert_eq!(replicas, [2, 1, 1, 1]);
}

#[test]
fn a_partition_that_moves_goes_on_waiting() {
    let mut scene = young();
    grow(&mut scene, 2);
    reassign(&mut scene, 0, Some(vec![2]));
    assert_eq!(scene.partition("a", 0).wanted_replicas, Some(3));
    scene.register(3, 1);
    assert_eq!(ready(&scene), 3, "not while it moves");
    catch_up(&mut scene, 0);
    assert_eq!(ready(&scene), 4);
}

#[test]
fn partitions_that_have_enough_or_come_too_early_wait_for_nothing() {
    let mut scene = Scene::with_brokers(3);
    scene.create(NewTopic { wanted_replicas: Some(3), ..placed("full", 1, 3) }).unwrap();
    scene.create(placed("plain", 1, 1)).unwrap();
    assert_eq!((ready(&scene), scene.partition("full", 0).wanted_replicas), (0, None));
    let down = Command::SetMetadataVersion { version: 1, change: VersionChange::SafeDowngrade, validate_only: false };
    assert_eq!(scene.run(down), Reply::Done);
    scene.create(NewTopic { wanted_replicas: Some(3), ..placed("old", 1, 1) }).unwrap();
    assert_eq!(scene.partition("old", 0).wanted_replicas, None, "version 1 does not know of it");
}

#[test]
fn partitions_that_are_added_wait_like_the_others() {
    let mut scene = young();
    let more = MorePartitions { name: "a".to_owned(), total: 5, assignment: None };
    let command = Command::CreatePartitions { topics: vec![more], validate_only: false };
    assert_eq!(scene.run(command), Reply::PartitionsCreated(vec![Ok(())]));
    assert_eq!(scene.partition("a", 4).wanted_replicas, Some(3));
}
