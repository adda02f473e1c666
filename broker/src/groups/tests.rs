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
    groups.lead(0, 0, OffsetsLog::Memory(log.clone()));
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
    // Polled second: it queues up behind the commit.
    let mut reading = Box::pin(groups.offsets("g"));
    let both = async { tokio::join!(&mut committing, &mut reading) };
    assert!(tokio::time::timeout(Duration::from_millis(100), both).await.is_err(), "neither may be answered");
    log.hold(false);
    assert_eq!(committing.await, Ok(vec![Ok(())]));
    assert_eq!(reading.await.unwrap()["t"][&0].offset, 7);
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

#[tokio::test]
async fn offsets_of_deleted_topics_are_forgotten() {
    let log = Arc::new(MemoryLog::new());
    let groups = loaded(&log).await;
    groups.commit(commit(7)).await.unwrap();
    groups.forget_topics(["t".into()]);
    assert!(groups.offsets("g").await.unwrap().is_empty());
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
    let batches = records::pack(&encoded, 77).unwrap();
    assert_eq!(batches.len(), 1);
    assert_eq!(records::unpack(&BatchView::parse(&batches[0]).unwrap()).unwrap(), all);
}

#[test]
fn many_records_make_several_bounded_batches() {
    let encoded: Vec<_> = (0..50_000).map(|_| records::encode(&group_record()).unwrap()).collect();
    let batches = records::pack(&encoded, 77).unwrap();
    assert!(batches.len() > 5);
    assert!(batches.iter().all(|batch| batch.len() < records::BATCH_TARGET_BYTES + 4_096));
    let read: usize = batches.iter().map(|b| records::unpack(&BatchView::parse(b).unwrap()).unwrap().len()).sum();
    assert_eq!(read, 50_000);
    assert!(records::pack(&[], 77).unwrap().is_empty());
}

#[test]
fn records_of_newer_kinds_and_damaged_ones_are_skipped() {
    let strange = (Bytes::from_static(b"\0\x03\0\x01g"), Some(Bytes::from_static(b"\0\0")));
    let cut = (Bytes::from_static(b"\0\x02\0\x01g"), Some(Bytes::from_static(b"\0\x03\0\x08con")));
    let good = records::encode(&offset_record(None)).unwrap();
    let batches = records::pack(&[strange, cut, good], 77).unwrap();
    let read = records::unpack(&BatchView::parse(&batches[0]).unwrap()).unwrap();
    assert_eq!(read, [offset_record(None)]);
}

#[test]
fn a_damaged_batch_is_an_error() {
    let batches = records::pack(&[records::encode(&offset_record(None)).unwrap()], 77).unwrap();
    let mut bytes = batches[0].to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    assert!(records::unpack(&BatchView::parse(&bytes).unwrap()).is_err());
}

#[test]
fn member_ids_begin_with_the_instance_or_the_client() {
    assert!(new_member_id("client", None).starts_with("client-"));
    assert!(new_member_id("client", Some("i1")).starts_with("i1-"));
    assert_ne!(new_member_id("c", None), new_member_id("c", None));
}
