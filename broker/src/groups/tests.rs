//! The driver against a partition in memory: loading, durability before replies, failure, timers, and the byte formats.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coordinator::group::*;
use model::TopicId;
use model::batch::BatchView;

use super::log::OffsetsLog;
use super::records;
use super::*;

pub(crate) mod memory_log;

use memory_log::MemoryLog;

fn settings() -> GroupSettings {
    GroupSettings { initial_rebalance_delay_ms: 20, min_session_timeout_ms: 50, ..GroupSettings::default() }
}

/// A coordinator of a topic with one partition.
fn coordinator(log: &Arc<MemoryLog>) -> Arc<GroupCoordinator> {
    let groups = Arc::new(GroupCoordinator::new(settings(), Clock::default()));
    groups.set_partition_count(1);
    groups.lead(0, 0, OffsetsLog::Memory(log.clone()), DeletedTopics::default);
    groups
}

async fn loaded(log: &Arc<MemoryLog>) -> Arc<GroupCoordinator> {
    let groups = coordinator(log);
    until_loaded(&groups).await;
    groups
}

async fn until_loaded(groups: &GroupCoordinator) {
    while groups.loading() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn join(member: &str, new_id: &str) -> JoinGroup {
    JoinGroup {
        group: "g".into(),
        member_id: member.into(),
        new_member_id: new_id.into(),
        instance_id: None,
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: [Protocol { name: "range".into(), metadata: Bytes::from_static(b"\0\0\0\0\0\0") }].into(),
        abilities: JoinAbilities { member_id_required: false, skip_assignment: true },
    }
}

fn identity(id: &str) -> MemberIdentity {
    MemberIdentity { member_id: id.into(), instance_id: None }
}

fn commit(offset: i64) -> CommitOffsets {
    let (topic, metadata) = ("t".into(), "note".into());
    let item = OffsetToCommit { topic, topic_id: TopicId::ZERO, partition: 0, offset, leader_epoch: 1, metadata };
    CommitOffsets { group: "g".into(), member: identity(""), generation: -1, retention_ms: None, offsets: vec![item] }
}

async fn sync(groups: &GroupCoordinator, id: &str, all: &[&str]) -> Result<Synced, GroupError> {
    let assignments = all.iter().map(|id| ((*id).into(), Bytes::from(id.to_string()))).collect();
    let (member, group) = (identity(id), "g".into());
    let sync = SyncGroup { group, member, generation: 1, protocol_type: None, protocol_name: None, assignments };
    groups.sync(sync).await
}

#[test]
fn groups_map_to_partitions_as_in_kafka() {
    // Kafka: Utils.abs("…".hashCode()) % 50. The fifth hashes to the smallest integer, the last is outside the basic plane.
    let known =
        [("", 0), ("g", 3), ("my-group", 12), ("test-consumer-group", 31), ("polygenelubricants", 0), ("😀", 49)];
    for (group, partition) in known {
        assert_eq!(group_partition(group, 50), partition, "{group}");
    }
}

#[tokio::test]
async fn two_members_share_a_generation_and_survive_a_change_of_coordinator() {
    let log = Arc::new(MemoryLog::new());
    let groups = loaded(&log).await;
    let (a, b) = tokio::join!(groups.join(join("", "a")), groups.join(join("", "b")));
    assert_eq!((a.unwrap().generation, b.unwrap().leader.as_ref()), (1, "a"));
    let (a, b) = tokio::join!(sync(&groups, "a", &["a", "b"]), sync(&groups, "b", &[]));
    assert_eq!((a.unwrap().assignment, b.unwrap().assignment), (Bytes::from("a"), Bytes::from("b")));
    groups.resign(0);
    let heartbeat = Heartbeat { group: "g".into(), member: identity("b"), generation: 1 };
    assert_eq!(groups.heartbeat(heartbeat.clone()).await, Err(GroupError::NotCoordinator));
    let groups = loaded(&log).await;
    assert_eq!(groups.heartbeat(heartbeat).await, Ok(()));
    assert_eq!(groups.describe("g").await.unwrap().unwrap().members.len(), 2);
    assert_eq!(groups.describe("h").await, Ok(None));
}

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

/// A stable group of one member, `a`.
async fn stable(log: &Arc<MemoryLog>) -> Arc<GroupCoordinator> {
    let groups = loaded(log).await;
    assert_eq!(groups.join(join("", "a")).await.unwrap().generation, 1);
    sync(&groups, "a", &["a"]).await.unwrap();
    groups
}

async fn heartbeat_of(groups: &GroupCoordinator, id: &str) -> Result<(), GroupError> {
    groups.heartbeat(Heartbeat { group: "g".into(), member: identity(id), generation: 1 }).await
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
async fn choosing_among_many_protocols_takes_time_in_proportion() {
    const OFFERED: usize = 100_000;
    let log = Arc::new(MemoryLog::new());
    let settings = GroupSettings { max_protocols: usize::MAX, initial_rebalance_delay_ms: 1_000, ..settings() };
    let groups = GroupCoordinator::new(settings, Clock::default());
    groups.set_partition_count(1);
    groups.lead(0, 0, OffsetsLog::Memory(log), DeletedTopics::default);
    until_loaded(&groups).await;
    let offering = |id: &str, from: usize| {
        let named = |n: usize| Protocol { name: format!("protocol-{n}").into(), metadata: Bytes::new() };
        JoinGroup { protocols: (from..from + OFFERED).map(named).collect(), ..join("", id) }
    };
    let joins = [offering("a", 0), offering("b", OFFERED / 2), offering("c", OFFERED - 1), offering("d", 2 * OFFERED)];
    let started = std::time::Instant::now();
    let [a, b, c, d] = joins.map(|join| groups.join(join));
    let (a, _, _, d) = tokio::join!(a, b, c, d);
    assert_eq!(a.unwrap().protocol_name.as_deref(), Some("protocol-99999"), "the only one that all offer");
    assert_eq!(d.unwrap_err().error, GroupError::InconsistentGroupProtocol);
    // Comparing every pair of names takes minutes, this takes a second or two.
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
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
async fn requests_during_loading_are_told_so_and_heartbeats_are_accepted() {
    let log = Arc::new(MemoryLog::new());
    log.hold(true);
    let groups = coordinator(&log);
    assert_eq!(groups.commit(commit(1)).await, Err(GroupError::CoordinatorLoadInProgress));
    assert_eq!(groups.list(ListFilter::default()).await, Err(GroupError::CoordinatorLoadInProgress));
    let heartbeat = Heartbeat { group: "g".into(), member: identity("a"), generation: 1 };
    assert_eq!(groups.heartbeat(heartbeat).await, Ok(()));
    assert_eq!(groups.join(join("m", "")).await.unwrap_err().member_id.as_ref(), "m");
}

#[tokio::test]
async fn groups_of_a_partition_led_elsewhere_are_refused() {
    let groups = GroupCoordinator::new(settings(), Clock::default());
    assert_eq!(groups.commit(commit(1)).await, Err(GroupError::NotCoordinator));
    groups.set_partition_count(50);
    assert_eq!(groups.commit(commit(1)).await, Err(GroupError::NotCoordinator));
    assert_eq!(groups.list(ListFilter::default()).await, Ok(Vec::new()));
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

fn deleted(number: u128) -> DeletedTopics {
    let mut deleted = DeletedTopics::default();
    deleted.insert("t", TopicId(Uuid::from_u128(number)), None);
    deleted
}

fn commit_for(number: u128, partition: i32) -> CommitOffsets {
    let mut commit = commit(7);
    commit.offsets[0].topic_id = TopicId(Uuid::from_u128(number));
    commit.offsets[0].partition = partition;
    commit
}

#[tokio::test]
async fn a_deletion_removes_offsets_of_that_topic_and_none_of_its_successor() {
    let log = Arc::new(MemoryLog::new());
    let groups = loaded(&log).await;
    for commit in [commit_for(1, 0), commit_for(1, 1), commit_for(2, 0)] {
        groups.commit(commit).await.unwrap();
    }
    groups.forget_topics(&deleted(1));
    while groups.offsets("g").await.unwrap()["t"].contains_key(&1) {
        tokio::task::yield_now().await;
    }
    assert_eq!(groups.offsets("g").await.unwrap()["t"].len(), 1);
    // What is written down says the same.
    assert_eq!(loaded(&log).await.offsets("g").await.unwrap()["t"][&0].topic_id, TopicId(Uuid::from_u128(2)));
}

#[tokio::test]
async fn a_deletion_is_remembered_while_the_coordinator_loads_or_cannot_write() {
    let log = Arc::new(MemoryLog::new());
    loaded(&log).await.commit(commit_for(1, 0)).await.unwrap();
    log.hold(true);
    let groups = coordinator(&log);
    groups.forget_topics(&deleted(1));
    log.lack_replicas(true);
    log.hold(false);
    until_loaded(&groups).await;
    assert!(!groups.offsets("g").await.unwrap().is_empty());
    log.lack_replicas(false);
    while !groups.offsets("g").await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn group_record() -> GroupRecord {
    let member = MemberImage {
        instance_id: Some("i".into()),
        client_id: "c".into(),
        client_host: "/h".into(),
        rebalance_timeout_ms: 5,
        session_timeout_ms: 6,
        subscription: Bytes::from_static(b"sub"),
        assignment: Bytes::from_static(b"asg"),
    };
    let image = GroupImage {
        protocol_type: Some("consumer".into()),
        generation: 7,
        protocol_name: Some("range".into()),
        leader: Some("m".into()),
        state_timestamp: Some(8),
        members: [(MemberId::from("m"), member)].into(),
    };
    GroupRecord::Metadata { group: "g".into(), image: Some(image) }
}

fn offset_record(expire_timestamp: Option<i64>) -> GroupRecord {
    let leader_epoch = if expire_timestamp.is_some() { -1 } else { 9 };
    let committed = CommittedOffset {
        offset: 1,
        leader_epoch,
        metadata: "md".into(),
        commit_timestamp: 2,
        expire_timestamp,
        topic_id: TopicId::ZERO,
    };
    GroupRecord::Offset { group: "g".into(), topic: "t".into(), partition: 3, committed: Some(committed) }
}

fn offset_record_with_topic_id() -> GroupRecord {
    let GroupRecord::Offset { group, topic, partition, committed: Some(committed) } = offset_record(None) else {
        panic!("no offset")
    };
    let topic_id = TopicId(Uuid::from_u128(0x10f7_eb4e_5a05_1b42_e188_f75d_4038_a45b));
    GroupRecord::Offset { group, topic, partition, committed: Some(CommittedOffset { topic_id, ..committed }) }
}

#[test]
fn records_have_the_bytes_that_kafka_writes() {
    let (key, value) = records::encode(&offset_record(None)).unwrap();
    assert_eq!(&key[..], b"\0\x01\0\x01g\0\x01t\0\0\0\x03");
    assert_eq!(&value.unwrap()[..], b"\0\x03\0\0\0\0\0\0\0\x01\0\0\0\x09\0\x02md\0\0\0\0\0\0\0\x02");
    let (_, value) = records::encode(&offset_record_with_topic_id()).unwrap();
    let expected = b"\0\x04\0\0\0\0\0\0\0\x01\0\0\0\x09\x03md\0\0\0\0\0\0\0\x02\
        \x01\0\x10\x10\xf7\xeb\x4e\x5a\x05\x1b\x42\xe1\x88\xf7\x5d\x40\x38\xa4\x5b";
    assert_eq!(&value.unwrap()[..], expected);
    let (_, value) = records::encode(&offset_record(Some(4))).unwrap();
    assert_eq!(&value.unwrap()[..], b"\0\x01\0\0\0\0\0\0\0\x01\0\x02md\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x04");
    let (key, value) = records::encode(&group_record()).unwrap();
    assert_eq!(&key[..], b"\0\x02\0\x01g");
    let expected = b"\0\x03\0\x08consumer\0\0\0\x07\0\x05range\0\x01m\0\0\0\0\0\0\0\x08\0\0\0\x01\
        \0\x01m\0\x01i\0\x01c\0\x02/h\0\0\0\x05\0\0\0\x06\0\0\0\x03sub\0\0\0\x03asg";
    assert_eq!(&value.unwrap()[..], expected);
}

#[test]
fn records_read_back_as_they_were_written() {
    let tombstone = GroupRecord::Metadata { group: "g".into(), image: None };
    let gone = GroupRecord::Offset { group: "g".into(), topic: "t".into(), partition: 0, committed: None };
    let offsets = [offset_record(None), offset_record(Some(5)), offset_record_with_topic_id()];
    let all: Vec<_> = [group_record(), tombstone, gone].into_iter().chain(offsets).collect();
    let encoded: Vec<_> = all.iter().map(|record| records::encode(record).unwrap()).collect();
    let batch = records::batch(&encoded, 77).unwrap();
    assert_eq!(records::unpack(&BatchView::parse(&batch).unwrap()).unwrap(), all);
}

#[test]
fn the_size_of_a_batch_is_known_before_it_is_made() {
    let one = records::encode(&group_record()).unwrap();
    for count in [1, 2, 300, 50_000] {
        let encoded: Vec<_> = (0..count).map(|_| one.clone()).collect();
        let (bytes, bound) = (records::batch(&encoded, 77).unwrap().len(), records::batch_bytes(&encoded));
        assert!(bytes <= bound && bound <= bytes + 31 * count, "{count} records: {bytes} bytes, {bound} expected");
    }
}

#[test]
fn records_of_newer_kinds_and_damaged_ones_are_skipped() {
    let strange = (Bytes::from_static(b"\0\x03\0\x01g"), Some(Bytes::from_static(b"\0\0")));
    let cut = (Bytes::from_static(b"\0\x02\0\x01g"), Some(Bytes::from_static(b"\0\x03\0\x08con")));
    let good = records::encode(&offset_record(None)).unwrap();
    let batch = records::batch(&[strange, cut, good], 77).unwrap();
    let read = records::unpack(&BatchView::parse(&batch).unwrap()).unwrap();
    assert_eq!(read, [offset_record(None)]);
}

#[test]
fn a_damaged_batch_is_an_error() {
    let mut bytes = records::batch(&[records::encode(&offset_record(None)).unwrap()], 77).unwrap().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    assert!(records::unpack(&BatchView::parse(&bytes).unwrap()).is_err());
}

#[test]
fn member_ids_begin_with_the_instance_or_the_client() {
    assert!(new_member_id("client", None).starts_with("client-"));
    assert!(new_member_id("client", Some("i1")).starts_with("i1-"));
    assert_ne!(new_member_id("c", None), new_member_id("c", None));
}
