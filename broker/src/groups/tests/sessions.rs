//! Sessions of members: what is held against them, and what is not.

use super::*;

#[tokio::test]
async fn a_member_whose_answer_waits_for_the_log_keeps_its_session() {
    let log = Arc::new(MemoryLog::new());
    let groups = loaded(&log).await;
    groups.join(JoinGroup { session_timeout_ms: 60, ..join("", "a") }).await.unwrap();
    log.hold(true);
    let syncing = tokio::spawn({
        let groups = groups.clone();
        async move { sync(&groups, "a", &["a"]).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let described = groups.describe("g").await.unwrap().unwrap();
    assert_eq!((described.state, described.members.len()), (GroupState::Stable, 1));
    // What depends on the record that is outstanding waits for it.
    let mut again = Box::pin(sync(&groups, "a", &[]));
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut again).await.is_err());
    log.hold(false);
    assert_eq!(syncing.await.unwrap().unwrap().assignment, Bytes::from("a"));
    assert_eq!(again.await.unwrap().assignment, Bytes::from("a"));
}

/// A coordinator that has loaded this many stable groups of one member, `m`, with a session of 1.5 s from now on.
async fn with_loaded_groups(count: usize) -> Arc<GroupCoordinator> {
    let GroupRecord::Metadata { image: Some(mut image), .. } = group_record() else { panic!("no image") };
    image.members.values_mut().for_each(|member| member.session_timeout_ms = 1_500);
    let record = |n: usize| GroupRecord::Metadata { group: format!("g{n}").into(), image: Some(image.clone()) };
    let encoded: Vec<_> = (0..count).map(|n| records::encode(&record(n)).unwrap()).collect();
    let log = Arc::new(MemoryLog::new());
    log.append(&records::batch(&encoded, 77).unwrap()).unwrap();
    loaded(&log).await
}

#[tokio::test]
async fn sessions_are_judged_after_the_heartbeats_that_arrived_before_their_end() {
    let groups = with_loaded_groups(900).await;
    let heartbeats: Vec<_> = (0..900)
        .map(|n| {
            let groups = groups.clone();
            let member = MemberIdentity { member_id: "m".into(), instance_id: Some("i".into()) };
            tokio::spawn(async move {
                groups.heartbeat(Heartbeat { group: format!("g{n}").into(), member, generation: 7 }).await
            })
        })
        .collect();
    // Runs after the heartbeats are queued and before the shard: the coordinator is late by more than a session.
    tokio::spawn(async { std::thread::sleep(Duration::from_millis(1_700)) });
    for heartbeat in heartbeats {
        assert_eq!(heartbeat.await.unwrap(), Ok(()), "a member was expelled although its heartbeat was there");
    }
}

#[tokio::test]
async fn time_in_which_the_coordinator_did_not_run_is_not_held_against_members() {
    let groups = with_loaded_groups(1).await;
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(groups.describe("g0").await.unwrap().unwrap().state, GroupState::Stable);
    while groups.describe("g0").await.unwrap().unwrap().state == GroupState::Stable {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn time_alone_expires_a_silent_member_and_writes_it_down() {
    let log = Arc::new(MemoryLog::new());
    let groups = loaded(&log).await;
    let joined = groups.join(JoinGroup { session_timeout_ms: 60, ..join("", "a") }).await.unwrap();
    assert_eq!(joined.generation, 1);
    sync(&groups, "a", &["a"]).await.unwrap();
    let before = log.batches().len();
    while groups.describe("g").await.unwrap().unwrap().state != GroupState::Empty {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(log.batches().len(), before + 1);
}
