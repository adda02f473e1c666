//! Log starts: what readers were shown as gone stays gone, whoever leads.

use super::*;

fn scene() -> Scene {
    let mut scene = Scene::with_brokers(3);
    scene.create(assigned("t", &[&[1, 2, 3]])).unwrap();
    scene
}

fn advance(scene: &mut Scene, leader: NodeId, leader_epoch: i32, log_start: i64) -> Result<Partition, ClusterError> {
    let moves = vec![LogStartMove { partition: scene.id("t", 0), leader_epoch, log_start }];
    let broker = scene.broker(leader);
    match scene.run(Command::MoveLogStarts { broker, moves }) {
        Reply::PartitionsAltered(mut outcomes) => outcomes.remove(0).map(|altered| altered.partition),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_log_start_only_goes_forward_and_stays_over_failovers() {
    let mut scene = scene();
    let before = scene.partition("t", 0).clone();
    let moved = advance(&mut scene, 1, before.leader_epoch, 10).unwrap();
    assert_eq!((moved.log_start, moved.partition_epoch), (10, before.partition_epoch + 1));
    assert_eq!(advance(&mut scene, 1, before.leader_epoch, 4).unwrap(), moved);
    scene.fence(1);
    let after = scene.partition("t", 0);
    assert_eq!((after.leader, after.log_start), (2, 10));
}

#[test]
fn who_does_not_lead_any_more_moves_nothing() {
    let mut scene = scene();
    let old = scene.partition("t", 0).leader_epoch;
    assert!(matches!(advance(&mut scene, 2, old, 10), Err(ClusterError::NotLeader { .. })));
    scene.fence(1);
    scene.unfence(1);
    assert!(matches!(advance(&mut scene, 1, old, 10), Err(ClusterError::FencedLeaderEpoch { .. })));
    assert!(matches!(advance(&mut scene, 2, old + 2, 10), Err(ClusterError::UnknownLeaderEpoch { .. })));
    assert_eq!(scene.partition("t", 0).log_start, 0);
    let stale = BrokerRef { broker_epoch: scene.broker(2).broker_epoch - 1, ..scene.broker(2) };
    let moves = vec![LogStartMove { partition: scene.id("t", 0), leader_epoch: old + 1, log_start: 10 }];
    let refused = scene.run(Command::MoveLogStarts { broker: stale, moves });
    assert!(matches!(refused, Reply::Refused(ClusterError::StaleBrokerEpoch { .. })), "{refused:?}");
}

#[test]
fn older_rules_keep_no_log_starts() {
    let mut scene = scene();
    let term = scene.partition("t", 0).leader_epoch;
    advance(&mut scene, 1, term, 10).unwrap();
    let down = Command::SetMetadataVersion { version: 2, change: VersionChange::SafeDowngrade, validate_only: false };
    assert_eq!(scene.run(down), Reply::Done);
    assert!(!serde_json::to_string(scene.partition("t", 0)).unwrap().contains("log_start"));
    let before = scene.partition("t", 0).clone();
    assert_eq!(advance(&mut scene, 1, term, 20).unwrap(), before);
}
