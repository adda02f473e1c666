//! Leaders change.

use super::*;

#[tokio::test]
async fn a_waiting_acknowledgement_ends_with_the_term() {
    let leader = replica(1, 1).await;
    leader.follow(1, 5, &[1, 2]);
    let Accepted { appended, term } = leader.append(1);
    let end = appended.last_offset + 1;
    let waiting = {
        let partition = Arc::clone(&leader.partition);
        tokio::spawn(async move { partition.committed(end, term, far()).await })
    };
    tokio::task::yield_now().await;
    leader.follow(2, 6, &[2]);
    assert_eq!(waiting.await.unwrap(), Err(NotCommitted::NotLeader));
    assert_eq!(leader.partition.flushed(end, term, far()).await, Err(NotCommitted::NotLeader));
    // Led again, by whatever way: the old promise stays void.
    leader.follow(1, 7, &[1]);
    assert_eq!(leader.partition.committed(end, term, far()).await, Err(NotCommitted::NotLeader));
}

#[tokio::test]
async fn nothing_is_appended_by_a_follower_or_in_another_term() {
    let leader = replica(1, 1).await;
    leader.follow(1, 5, &[1, 2]);
    let in_term = |term| leader.partition.append_in(term, vec![batch(1)], AppendTime::from(0));
    assert!(in_term(5).is_ok());
    leader.follow(2, 6, &[1, 2]);
    assert!(matches!(in_term(5), Err(NotAccepted::NotLeader)));
    assert!(matches!(leader.partition.append(vec![batch(1)], AppendTime::from(0)), Err(NotAccepted::NotLeader)));
    leader.follow(1, 7, &[1, 2]);
    assert!(matches!(in_term(5), Err(NotAccepted::NotLeader)), "what was decided in epoch 5 is out of date");
    assert!(in_term(7).is_ok());
    assert_eq!(leader.partition.log.log_end(), 2);
}

#[tokio::test]
async fn a_follower_that_is_followed_keeps_its_guard_from_a_change_of_leader() {
    let follower = replica(2, 1).await;
    follower.follow(1, 5, &[1, 2]);
    assert!(follower.partition.following(4).is_none());
    let guard = follower.partition.following(5).unwrap();
    follower.partition.learn_high_watermark(&guard, 7);
    assert_eq!(follower.partition.high_watermark(), 0, "what it does not have is not committed as far as it knows");
    drop(guard);
    follower.follow(2, 6, &[1, 2]);
    assert!(follower.partition.following(5).is_none());
    assert!(follower.partition.following(6).is_none(), "it leads");
}

#[tokio::test]
async fn a_new_leader_settles_in_when_its_followers_have_what_the_epoch_began_with() {
    let (old, new) = pair_with(4).await;
    // The follower does not know yet what is committed.
    assert_eq!((old.partition.high_watermark(), new.partition.high_watermark()), (4, 0));
    old.follow(2, 6, &[1, 2]);
    new.follow(2, 6, &[1, 2]);
    assert!(new.partition.is_settling_in());
    assert_eq!(new.partition.high_watermark(), 0);
    old.fetch_from(&new).unwrap();
    assert!(!new.partition.is_settling_in());
    assert_eq!(new.partition.high_watermark(), 4);
}

#[tokio::test]
async fn a_former_leader_learns_where_its_log_diverges() {
    let (old, new) = pair().await;
    old.append(4);
    new.copy_from(&old).unwrap();
    old.append(3);
    old.flushed();
    new.follow(2, 6, &[2]);
    new.append(1);
    new.flushed();
    old.follow(2, 6, &[2]);
    assert_eq!(old.fetch_from(&new), Err(NotAdmitted::Diverging { epoch: 5, end: 4 }));
    old.partition.log.truncate_to(4).unwrap();
    old.copy_from(&new).unwrap();
    assert_eq!(old.partition.log.log_end(), new.partition.log.log_end());
    // A consumer that has read what was given up learns of it, too.
    assert_eq!(new.partition.divergence(5, 5), Some((5, 4)));
    assert_eq!(new.partition.divergence(4, 5), None);
}

#[tokio::test]
async fn after_a_restart_only_a_replica_alone_in_sync_takes_its_log_for_committed() {
    let replica = replica(1, 1).await;
    replica.follow(1, 5, &[1]);
    replica.append(4);
    replica.flushed();
    let opened_anew = |isr: &[NodeId], min_insync_replicas: u32| {
        let Partition { log, cold, .. } = &*replica.partition;
        let bell = Arc::new(Notify::new());
        let partition = Partition::new(Arc::clone(log), 1, cold.clone(), Duration::from_secs(1), bell);
        let (replicas, isr) = (vec![1, 2, 3], isr.to_vec());
        let (leader, leader_epoch, partition_epoch, log_start) = (2, 6, 9, 0);
        let leadership =
            Leadership { leader, leader_epoch, partition_epoch, replicas, isr, min_insync_replicas, log_start };
        partition.follow(leadership);
        partition.high_watermark()
    };
    assert_eq!(opened_anew(&[1], 1), 4);
    assert_eq!(opened_anew(&[1, 2], 1), 0);
    assert_eq!(
        opened_anew(&[1], 2),
        0,
        "it takes two to commit: the others may be asked to lead without these records"
    );
}

#[tokio::test]
async fn a_replica_taken_away_sends_everybody_elsewhere() {
    let leader = replica(1, 1).await;
    leader.follow(1, 5, &[1, 2]);
    let Accepted { term, .. } = leader.append(1);
    leader.partition.close(State::Moved);
    assert_eq!(leader.partition.committed(1, term, far()).await, Err(NotCommitted::NotLeader));
    leader.partition.follow(Leadership::unknown());
    assert_eq!(leader.partition.term(), None);
}

#[tokio::test]
async fn a_new_leader_begins_where_readers_were_shown_that_the_log_begins() {
    let (old, new) = pair().await;
    old.append(10);
    new.copy_from(&old).unwrap();
    // The leader before has shown 6 and was lost before this follower heard of it.
    new.follow_from(6, 1, 5, &[1, 2]);
    assert_eq!(new.partition.log_start(), 0, "as long as it follows, its leader tells it");
    new.follow_from(6, 2, 6, &[1, 2]);
    assert_eq!(new.partition.log_start(), 6);
    new.follow_from(6, 1, 7, &[1, 2]);
    new.follow_from(6, 2, 8, &[1, 2]);
    assert_eq!((new.partition.log_start(), new.partition.log.log_end()), (6, 10));
}

#[tokio::test]
async fn a_leader_that_lost_its_records_goes_on_behind_the_log_start() {
    let replica = replica(1, 1).await;
    replica.follow_from(6, 1, 5, &[1]);
    assert_eq!(replica.append(1).appended.base_offset, 6, "below, nobody would ever see it");
    assert_eq!(replica.partition.log_start(), 6);
}

#[tokio::test]
async fn a_leader_that_lost_its_records_still_shows_what_the_archive_has() {
    let replica = replica(1, 1).await;
    let pointer = ManifestPointer {
        object: "manifest".to_owned(),
        version: 1,
        leader_epoch: 4,
        log_start: 5,
        archived_end: 100,
        bytes: 1,
        record_bytes: 1,
        objects: 1,
        max_timestamp: -1,
    };
    replica.partition.follow_ledger(Some(&Arc::new(pointer)));
    replica.follow_from(20, 1, 5, &[1]);
    let Partition { log, .. } = &*replica.partition;
    assert_eq!((replica.partition.log_start(), log.local_start(), log.log_end()), (20, 100, 100));
    assert!(replica.partition.is_cold(20));
    assert_eq!(replica.append(1).appended.base_offset, 100);
}

/// A producer has three requests on their way to a leader that is cut off. The first is with the new leader, the third comes
/// there before the second does.
#[tokio::test]
async fn missing_requests_of_a_producer_may_still_come_after_a_change_of_leader() {
    let (old, new) = (replica(1, 1).await, replica(2, 1).await);
    old.follow(1, 0, &[1, 2]);
    new.follow(1, 0, &[1, 2]);
    let send = |to: &Replica, sequence: i32| {
        let facts = BatchFacts { producer_id: 9, producer_epoch: 0, base_sequence: sequence, ..BatchFacts::default() };
        to.partition.append(vec![batch_of(facts, 1)], AppendTime::from(0))
    };
    assert!(send(&old, 0).is_ok());
    let gap = send(&old, 2).unwrap_err();
    assert!(matches!(gap, NotAccepted::Log(_)), "nobody has led before, and nothing was refused: {gap}");
    new.copy_from(&old).unwrap();
    assert!(send(&old, 1).is_ok(), "which the new leader does not have");

    new.follow(2, 1, &[2]);
    let early = send(&new, 2).unwrap_err();
    assert!(matches!(early, NotAccepted::TooEarly(_)), "{early}");
    assert_eq!(crate::handlers::errors::not_accepted(&early), ErrorCode::NotLeaderOrFollower);
    assert!(send(&new, 0).unwrap().appended.duplicate);
    assert!(send(&new, 1).is_ok() && send(&new, 2).is_ok());
    assert_eq!(new.partition.log.log_end(), 3);
}

#[tokio::test]
async fn missing_requests_of_a_producer_may_still_come_after_a_refusal() {
    let leader = replica(1, 2).await;
    leader.follow(1, 0, &[1, 2]);
    let send = |sequence: i32| {
        let facts = BatchFacts { producer_id: 9, producer_epoch: 0, base_sequence: sequence, ..BatchFacts::default() };
        leader.partition.append(vec![batch_of(facts, 1)], AppendTime::from(0))
    };
    assert!(send(0).is_ok());
    assert!(matches!(send(2), Err(NotAccepted::Log(_))));
    leader.follow(1, 0, &[1]);
    assert!(matches!(leader.partition.check_in_sync(), Err(NotAccepted::NotEnoughReplicas { .. })));
    leader.follow(1, 0, &[1, 2]);
    assert!(matches!(send(2), Err(NotAccepted::TooEarly(_))));
    assert!(send(1).is_ok() && send(2).is_ok());
}
