//! Decisions and the log: what is stored as one, what waits for it, what is refused, what a failure changes.

use super::*;

#[tokio::test]
async fn a_reply_waits_until_what_it_promises_is_durable() {
    let log = Arc::new(MemoryLog::new());
    let groups = loaded(&log).await;
    log.hold(true);
    let mut committing = Box::pin(groups.commit(commit(7)));
    let answered = tokio::time::timeout(Duration::from_millis(100), &mut committing).await;
    assert!(answered.is_err(), "the commit may not be answered");
    assert!(groups.offsets("g").await.unwrap().is_empty(), "and its offset not be shown");
    log.hold(false);
    assert_eq!(committing.await, Ok(vec![Ok(())]));
    assert_eq!(groups.offsets("g").await.unwrap()["t"][&0].offset, 7);
}

#[tokio::test]
async fn what_writes_nothing_is_answered_while_an_append_is_outstanding() {
    let log = Arc::new(MemoryLog::new());
    let groups = stable(&log).await;
    groups.commit(CommitOffsets { group: "other".into(), ..commit(7) }).await.unwrap();
    log.hold(true);
    let committing = tokio::spawn({
        let groups = groups.clone();
        async move { groups.commit(CommitOffsets { group: "other".into(), ..commit(8) }).await }
    });
    let reads = async {
        while log.batches().len() < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(heartbeat_of(&groups, "a").await, Ok(()));
        assert_eq!(groups.describe("g").await.unwrap().unwrap().members.len(), 1);
        assert_eq!(groups.list(ListFilter::default()).await.unwrap().len(), 2);
        assert_eq!(groups.offsets("other").await.unwrap()["t"][&0].offset, 7, "what is pending is not shown");
    };
    tokio::time::timeout(Duration::from_secs(20), reads).await.expect("an answer waits for an append of another group");
    assert!(!committing.is_finished());
    log.hold(false);
    assert_eq!(committing.await.unwrap(), Ok(vec![Ok(())]));
    assert_eq!(groups.offsets("other").await.unwrap()["t"][&0].offset, 8);
}

#[tokio::test]
async fn a_commit_that_cannot_be_stored_is_refused_and_nothing_else_happens() {
    let log = Arc::new(MemoryLog::new());
    let groups = stable(&log).await;
    groups.commit(CommitOffsets { group: "other".into(), ..commit(7) }).await.unwrap();
    let parked = tokio::spawn({
        let groups = groups.clone();
        async move { groups.join(JoinGroup { group: "third".into(), ..join("", "x") }).await }
    });
    tokio::task::yield_now().await;
    log.lack_replicas(true);
    for _ in 0..3 {
        let refused = groups.commit(CommitOffsets { group: "other".into(), ..commit(8) }).await;
        assert_eq!(refused, Err(GroupError::CoordinatorNotAvailable));
        assert_eq!(heartbeat_of(&groups, "a").await, Ok(()));
        assert_eq!(groups.offsets("other").await.unwrap()["t"][&0].offset, 7);
        assert_eq!(groups.loading(), 0);
    }
    assert_eq!(parked.await.unwrap().unwrap().generation, 1, "a parked join is kept and answered");
    log.lack_replicas(false);
    assert_eq!(groups.commit(CommitOffsets { group: "other".into(), ..commit(9) }).await, Ok(vec![Ok(())]));
}

#[tokio::test]
async fn a_group_whose_record_would_be_too_large_is_refused_alone() {
    let log = Arc::new(MemoryLog::new());
    log.limit_batches(2_000);
    let groups = loaded(&log).await;
    let metadata = |bytes: usize| Bytes::from(vec![0; bytes]);
    let with = |id: &str, bytes: usize| JoinGroup {
        protocols: [Protocol { name: "range".into(), metadata: metadata(bytes) }].into(),
        ..join("", id)
    };
    let (a, b) = tokio::join!(groups.join(with("a", 3_000)), groups.join(with("b", 10)));
    assert_eq!((a.unwrap().generation, b.unwrap().leader.as_ref()), (1, "a"));
    let follower = tokio::spawn({
        let groups = groups.clone();
        async move { sync(&groups, "b", &[]).await }
    });
    tokio::task::yield_now().await;
    assert_eq!(sync(&groups, "a", &["a", "b"]).await.unwrap_err(), GroupError::RecordTooLarge);
    assert_eq!(follower.await.unwrap().unwrap_err(), GroupError::RecordTooLarge);
    assert_eq!(heartbeat_of(&groups, "a").await, Err(GroupError::RebalanceInProgress), "the group has to rebalance");
    let many = CommitOffsets { group: "large".into(), offsets: vec![commit(1).offsets[0].clone(); 100], ..commit(1) };
    assert_eq!(groups.commit(many).await, Err(GroupError::RecordTooLarge));
    assert_eq!(groups.describe("large").await, Ok(None));
    assert!(log.batches().is_empty());
    // The group that shrinks, and all others, are served.
    assert_eq!(groups.commit(CommitOffsets { group: "other".into(), ..commit(7) }).await, Ok(vec![Ok(())]));
    let again = |id: &str| JoinGroup { member_id: id.into(), ..with(id, 10) };
    let (a, b) = tokio::join!(groups.join(again("a")), groups.join(again("b")));
    assert_eq!((a.unwrap().generation, b.unwrap().generation), (2, 2));
    let assignments = vec![("a".into(), Bytes::from_static(b"a"))];
    let (member, group) = (identity("a"), "g".into());
    let sync = SyncGroup { group, member, generation: 2, protocol_type: None, protocol_name: None, assignments };
    assert_eq!(groups.sync(sync).await.unwrap().assignment, Bytes::from("a"));
}

#[tokio::test]
async fn one_decision_is_one_batch() {
    let log = Arc::new(MemoryLog::new());
    log.limit_batches(4 << 20);
    let groups = loaded(&log).await;
    let offset = commit(7).offsets[0].clone();
    let offsets = (0..20_000).map(|partition| OffsetToCommit { partition, ..offset.clone() }).collect();
    assert_eq!(groups.commit(CommitOffsets { offsets, ..commit(7) }).await.unwrap().len(), 20_000);
    groups.delete_group("g".into()).await.unwrap();
    let records: Vec<_> =
        log.batches().iter().map(|batch| BatchView::parse(batch).unwrap().header.record_count).collect();
    assert_eq!(records, [20_000, 20_001]);
}

#[tokio::test]
async fn a_failed_append_sends_everyone_away_and_changes_nothing() {
    let log = Arc::new(MemoryLog::new());
    let groups = loaded(&log).await;
    groups.commit(commit(7)).await.unwrap();
    log.fail_next(1);
    let parked = tokio::spawn({
        let groups = groups.clone();
        async move { groups.join(JoinGroup { group: "other".into(), ..join("", "x") }).await }
    });
    tokio::task::yield_now().await;
    assert_eq!(groups.commit(commit(8)).await, Err(GroupError::NotCoordinator));
    assert_eq!(parked.await.unwrap().unwrap_err().error, GroupError::NotCoordinator);
    assert_eq!(groups.commit(commit(9)).await, Err(GroupError::CoordinatorLoadInProgress));
    until_loaded(&groups).await;
    assert_eq!(groups.offsets("g").await.unwrap()["t"][&0].offset, 7);
    assert_eq!(groups.commit(commit(10)).await, Ok(vec![Ok(())]));
}

#[tokio::test]
async fn commits_that_queue_up_share_an_append() {
    let log = Arc::new(MemoryLog::new());
    let groups = loaded(&log).await;
    log.hold(true);
    let tasks: Vec<_> = (0..100)
        .map(|offset| {
            let groups = groups.clone();
            tokio::spawn(async move { groups.commit(commit(offset)).await })
        })
        .collect();
    // Every commit is queued, or under way, once each task has had its turn.
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    log.hold(false);
    for task in tasks {
        assert_eq!(task.await.unwrap(), Ok(vec![Ok(())]));
    }
    assert!(log.batches().len() <= 3, "{} appends for 100 commits", log.batches().len());
}
