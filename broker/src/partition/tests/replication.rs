//! A leader and its followers in one epoch.

use super::*;

#[tokio::test]
async fn an_acknowledgement_of_all_waits_for_the_followers_flush() {
    let (leader, follower) = pair().await;
    let Accepted { appended, term } = leader.append(3);
    let end = appended.last_offset + 1;
    assert_eq!(term, 5);
    leader.partition.flushed(end, term, far()).await.unwrap();
    assert_eq!(leader.partition.committed(end, term, soon()).await, Err(NotCommitted::TimedOut));
    follower.copy_from(&leader).unwrap();
    leader.partition.committed(end, term, far()).await.unwrap();
    assert_eq!(leader.partition.high_watermark(), 3);
}

#[tokio::test]
async fn a_follower_reads_what_is_not_committed_and_a_consumer_does_not() {
    let leader = replica(1, 1).await;
    leader.follow(1, 5, &[1, 2]);
    leader.append(3);
    let request = ReadRequest { from: 0, max_bytes: 1 << 20, min_one: true, deadline: far() };
    assert_eq!(leader.partition.read_for_follower(&request).await.unwrap().records.len(), 1);
    assert!(leader.partition.read(request).await.unwrap().records.is_empty());
}

#[tokio::test]
async fn a_follower_never_calls_out_of_range_what_its_leader_may_have() {
    let replica = replica(2, 1).await;
    let read = |from| {
        let request = ReadRequest { from, max_bytes: 1 << 20, min_one: true, deadline: far() };
        replica.partition.read(request)
    };
    replica.follow(1, 5, &[1, 2]);
    assert!(matches!(read(996).await, Err(ReadFailure::Behind { from: 996, log_end: 0 })));
    assert!(matches!(read(-1).await, Err(ReadFailure::OutOfRange { .. })));
    replica.follow(2, 6, &[2]);
    assert!(matches!(read(996).await, Err(ReadFailure::OutOfRange { from: 996, log_start: 0, log_end: 0 })));
}

#[tokio::test]
async fn too_few_in_sync_replicas_are_told_before_the_append_and_commit_nothing() {
    let leader = replica(1, 2).await;
    leader.follow(1, 5, &[1]);
    assert!(matches!(leader.partition.check_in_sync(), Err(NotAccepted::NotEnoughReplicas { in_sync: 1, wanted: 2 })));
    let Accepted { appended, term } = leader.append(1);
    leader.partition.flushed(appended.last_offset + 1, term, far()).await.unwrap();
    assert_eq!(leader.partition.high_watermark(), 0);
    assert!(leader.partition.lacks_replicas());
    leader.follow(1, 5, &[1, 2]);
    leader.partition.check_in_sync().unwrap();
}

#[tokio::test]
async fn waiting_followers_are_woken_by_an_append_and_consumers_are_not() {
    let leader = replica(1, 1).await;
    leader.follow(1, 5, &[1, 2]);
    let (mut ends, mut progress) = (leader.partition.watch_ends(), leader.partition.watch());
    progress.borrow_and_update();
    leader.append(2);
    tokio::time::timeout(Duration::from_secs(20), ends.wait_for(|e| e.log_end == 2)).await.unwrap().unwrap();
    leader.flushed();
    assert!(!progress.has_changed().unwrap());
}

#[tokio::test]
async fn a_fetch_that_does_not_fit_is_refused_with_kafkas_codes() {
    let leader = replica(1, 1).await;
    leader.follow(1, 5, &[1, 2]);
    leader.append(10);
    let admit = |node_id, offset, believed, last| {
        leader.partition.admit(FollowerFetch { node_id, broker_epoch: 1, offset, log_start: 0 }, believed, last)
    };
    let code = |code| Err(NotAdmitted::Refused(code));
    assert_eq!(admit(2, 0, 4, -1), code(ErrorCode::FencedLeaderEpoch));
    assert_eq!(admit(2, 0, 6, -1), code(ErrorCode::UnknownLeaderEpoch));
    assert_eq!(admit(4, 0, 5, -1), code(ErrorCode::UnknownLeaderEpoch), "not a replica here, it knows better");
    assert_eq!(admit(4, 0, -1, -1), code(ErrorCode::NotLeaderOrFollower));
    assert_eq!(admit(2, 11, 5, -1), code(ErrorCode::OffsetOutOfRange));
    assert_eq!(admit(2, 11, 5, 5), Err(NotAdmitted::Diverging { epoch: 5, end: 10 }));
    assert_eq!(admit(2, 10, 5, 5), Ok(()));
    leader.partition.log.advance_log_start(4).unwrap();
    assert_eq!(admit(2, 3, 5, -1), code(ErrorCode::OffsetOutOfRange));
    let unled = replica(3, 1).await;
    unled.follow(1, 5, &[1, 2]);
    let fetch = FollowerFetch { node_id: 2, broker_epoch: 1, offset: 0, log_start: 0 };
    assert_eq!(unled.partition.admit(fetch, 5, -1), code(ErrorCode::NotLeaderOrFollower));
}

#[tokio::test]
async fn a_refused_fetch_says_nothing_of_how_far_the_follower_is() {
    let leader = replica(1, 1).await;
    leader.follow(1, 5, &[1, 2]);
    leader.append(10);
    leader.flushed();
    let fetch = FollowerFetch { node_id: 2, broker_epoch: 1, offset: 10, log_start: 0 };
    assert!(leader.partition.admit(fetch, 5, 6).is_err(), "its last record is of an epoch that this leader never saw");
    assert_eq!(leader.partition.high_watermark(), 0);
}

#[tokio::test]
async fn the_isr_bell_rings_when_a_follower_has_caught_up() {
    let (leader, follower) = (replica(1, 1).await, replica(3, 1).await);
    leader.follow(1, 5, &[1, 2]);
    follower.follow(1, 5, &[1, 2]);
    follower.copy_from(&leader).unwrap();
    tokio::time::timeout(Duration::from_secs(20), leader.partition.isr_bell.notified()).await.unwrap();
}

#[tokio::test]
async fn records_are_gone_when_every_in_sync_replica_has_dropped_them() {
    let (leader, follower) = pair().await;
    leader.append(10);
    follower.copy_from(&leader).unwrap();
    leader.partition.log.advance_log_start(6).unwrap();
    assert_eq!(leader.partition.gone_everywhere(6, soon()).await, Err(NotCommitted::TimedOut));
    follower.partition.log.advance_log_start(6).unwrap();
    follower.fetch_from(&leader).unwrap();
    leader.partition.gone_everywhere(6, far()).await.unwrap();
    leader.append(1);
    leader.partition.log.advance_log_start(8).unwrap();
    leader.follow(1, 5, &[1]);
    leader.partition.gone_everywhere(8, far()).await.unwrap();
}

#[tokio::test]
async fn an_empty_follower_takes_the_batch_in_whose_middle_the_log_starts() {
    let (leader, follower) = (replica(1, 1).await, replica(2, 1).await);
    leader.follow(1, 5, &[1]);
    follower.follow(1, 5, &[1]);
    leader.append(10);
    leader.append(3);
    leader.flushed();
    leader.partition.log.advance_log_start(7).unwrap();
    let state = leader.partition.leader_state().unwrap();
    {
        let same = follower.partition.following(5).unwrap();
        assert_eq!(follower.partition.align(&same, &state).unwrap(), Aligned::BeganAnew);
    }
    follower.copy_from(&leader).unwrap();
    let log = &follower.partition.log;
    assert_eq!((log.log_start(), log.log_end()), (7, 13));
    let restarted = follower.restarted().await;
    let log = &restarted.partition.log;
    assert_eq!((log.log_start(), log.log_end()), (7, 13));
}

/// A follower is asked into the ISR when it has what was committed by then. So what commits without it must be seen first.
#[tokio::test]
async fn what_is_committed_is_published_before_the_members_can_change() {
    let leader = replica(1, 1).await;
    leader.follow(1, 5, &[1]);
    leader.append(1);
    leader.flushed();
    // A publisher now waits for this reader.
    let reader = leader.partition.progress.borrow();
    let publisher = {
        let partition = Arc::clone(&leader.partition);
        std::thread::spawn(move || partition.advance())
    };
    let is_locked = || match &*leader.partition.role.read() {
        Role::Leader(leading) => leading.try_lock().is_none(),
        Role::Follower => false,
    };
    let mut locked_ms = 0;
    for _ in 0..5_000 {
        locked_ms = if is_locked() { locked_ms + 1 } else { 0 };
        if locked_ms == 100 {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(reader);
    publisher.join().unwrap();
    assert_eq!(locked_ms, 100, "members may change between counting them and publishing the high watermark");
}

/// The archive ends inside of a segment when another replica cut its segments elsewhere.
#[tokio::test]
async fn an_archived_part_of_a_segment_does_not_count_as_unarchived() {
    let leader = replica(1, 1).await;
    leader.follow(1, 5, &[1]);
    for _ in 0..10 {
        leader.append(1);
    }
    leader.partition.log.roll().unwrap();
    for _ in 0..4 {
        leader.append(1);
    }
    let bytes = |archived_end| leader.partition.unarchived_bytes(archived_end).unwrap();
    let one = bytes(13);
    assert_eq!([bytes(14), bytes(10), bytes(6), bytes(0)], [0, 4 * one, 8 * one, 14 * one]);
}

#[tokio::test]
async fn a_follower_closes_the_segment_that_local_retention_wants_gone_once_it_is_archived() {
    let (_leader, follower) = pair_with(5).await;
    let log = &follower.partition.log;
    log.update_settings(Arc::new(TopicSettings { local_retention_ms: Some(100), ..(*settings()).clone() })).unwrap();
    for (version, archived_end, open_from) in [(1, 3, 0), (2, 5, 5)] {
        follower.partition.follow_ledger(Some(&Arc::new(archived(version, archived_end))));
        follower.partition.keep_as_follower(1000).unwrap();
        assert_eq!(log.active_segment_base(), open_from, "archived up to {archived_end}");
    }
}
