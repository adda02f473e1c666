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

mod bounded_memory;
mod deletions;
mod formats;
pub(crate) mod memory_log;
mod sessions;
mod storing;

use memory_log::MemoryLog;

fn settings() -> GroupSettings {
    GroupSettings { initial_rebalance_delay_ms: 20, min_session_timeout_ms: 50, ..GroupSettings::default() }
}

fn unbounded() -> GroupMemory {
    GroupMemory::new(usize::MAX)
}

/// A coordinator of a topic with one partition.
fn coordinator(log: &Arc<MemoryLog>) -> Arc<GroupCoordinator> {
    within(log, unbounded())
}

/// The same, with a bound on what its groups may take.
fn within(log: &Arc<MemoryLog>, memory: GroupMemory) -> Arc<GroupCoordinator> {
    let groups = Arc::new(GroupCoordinator::new(settings(), memory, Clock::default()));
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
async fn choosing_among_many_protocols_takes_time_in_proportion() {
    const OFFERED: usize = 100_000;
    let log = Arc::new(MemoryLog::new());
    let settings = GroupSettings { max_protocols: usize::MAX, initial_rebalance_delay_ms: 1_000, ..settings() };
    let groups = GroupCoordinator::new(settings, unbounded(), Clock::default());
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
    let groups = GroupCoordinator::new(settings(), unbounded(), Clock::default());
    assert_eq!(groups.commit(commit(1)).await, Err(GroupError::NotCoordinator));
    groups.set_partition_count(50);
    assert_eq!(groups.commit(commit(1)).await, Err(GroupError::NotCoordinator));
    assert_eq!(groups.list(ListFilter::default()).await, Ok(Vec::new()));
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

#[test]
fn member_ids_begin_with_the_instance_or_the_client() {
    assert!(new_member_id("client", None).starts_with("client-"));
    assert!(new_member_id("client", Some("i1")).starts_with("i1-"));
    assert_ne!(new_member_id("c", None), new_member_id("c", None));
}
