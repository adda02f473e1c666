//! Committed offsets: who may commit, what is kept, when it goes.

use super::harness::*;
use crate::group::*;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

fn delete(partitions: &[(&str, i32)]) -> Command {
    let partitions = partitions.iter().map(|(topic, index)| ((*topic).into(), *index)).collect();
    Command::DeleteOffsets(DeleteOffsets { group: GROUP.into(), partitions })
}

#[test]
fn a_commit_keeps_its_metadata_and_leader_epoch_also_after_a_reload() {
    let mut shard = Shard::new();
    assert_eq!(shard.commit(commit_of("", -1, 42)), Ok(vec![Ok(())]));
    for shard in [&shard, &shard.reloaded()] {
        let committed = shard.groups.offset(GROUP, "t", 0).unwrap();
        assert_eq!((committed.offset, committed.leader_epoch, committed.metadata.as_ref()), (42, 3, "where I was"));
    }
}

#[test]
fn only_a_member_of_the_current_generation_commits_to_a_group_with_members() {
    let mut shard = Shard::new();
    let generation = shard.stabilise(&["a"]);
    assert_eq!(shard.commit(commit_of("a", generation, 1)), Ok(vec![Ok(())]));
    assert_eq!(shard.commit(commit_of("a", generation + 1, 2)), Err(GroupError::IllegalGeneration));
    assert_eq!(shard.commit(commit_of("b", generation, 2)), Err(GroupError::UnknownMemberId));
    assert_eq!(shard.commit(commit_of("", -1, 2)), Err(GroupError::UnknownMemberId));
    let fenced = MemberIdentity { member_id: "a".into(), instance_id: Some("i".into()) };
    let commit = CommitOffsets { member: fenced, ..commit_of("a", generation, 2) };
    assert_eq!(shard.commit(commit), Err(GroupError::UnknownMemberId));
    assert_eq!(shard.groups.offset(GROUP, "t", 0).unwrap().offset, 1);
    shard.leave(vec![identity("a")]);
    assert_eq!(shard.commit(commit_of("", -1, 3)), Ok(vec![Ok(())]));
    let unknown = CommitOffsets { group: "other".into(), ..commit_of("a", 1, 1) };
    assert_eq!(shard.commit(unknown), Err(GroupError::GroupIdNotFound));
}

#[test]
fn a_commit_during_a_rebalance_is_taken_until_the_next_generation_begins() {
    let mut shard = Shard::new();
    shard.stabilise(&["a"]);
    let b = shard.arrive("b");
    assert_eq!(shard.commit(commit_of("a", 1, 5)), Ok(vec![Ok(())]), "a cooperative member still owns its partitions");
    shard.join(known("a"));
    assert_eq!(shard.joined(b).generation, 2);
    assert_eq!(shard.commit(commit_of("a", 1, 6)), Err(GroupError::IllegalGeneration));
    assert_eq!(shard.commit(commit_of("a", 2, 6)), Err(GroupError::RebalanceInProgress));
}

#[test]
fn a_commit_counts_as_a_sign_of_life() {
    let mut shard = Shard::new();
    shard.stabilise(&["a"]);
    for _ in 0..5 {
        shard.wait(9_000);
        assert_eq!(shard.commit(commit_of("a", 1, 1)), Ok(vec![Ok(())]));
    }
    assert_eq!(shard.state(), GroupState::Stable);
}

#[test]
fn metadata_over_the_bound_is_refused_for_its_partition_only() {
    let mut shard = Shard::with(GroupSettings { offset_metadata_max_bytes: 11, ..settings() });
    let mut commit = commit_of("", -1, 7);
    let mut large = commit.offsets[0].clone();
    large.partition = 1;
    large.metadata = "where I was!".into();
    commit.offsets.insert(0, large);
    assert_eq!(shard.commit(commit), Ok(vec![Err(GroupError::OffsetMetadataTooLarge), Ok(())]));
    assert_eq!(shard.groups.offsets(GROUP)["t"].keys().copied().collect::<Vec<_>>(), [0]);
}

#[test]
fn offsets_of_consumed_topics_are_not_deleted() {
    let mut shard = Shard::new();
    shard.stabilise(&["a"]);
    let mut commit = commit_of("a", 1, 7);
    commit.offsets.push(OffsetToCommit { topic: "former".into(), ..commit.offsets[0].clone() });
    shard.commit(commit).unwrap();
    let token = shard.send(delete(&[("t", 0), ("former", 0), ("never", 9)]));
    let results = vec![Err(GroupError::GroupSubscribedToTopic), Ok(()), Ok(())];
    assert_eq!(shard.answered[&token], Reply::DeleteOffsets(Ok(results)));
    assert_eq!(shard.groups.offsets(GROUP).keys().map(AsRef::as_ref).collect::<Vec<&str>>(), ["t"]);
}

#[test]
fn a_group_is_deleted_with_its_offsets_once_it_is_empty() {
    let mut shard = Shard::new();
    shard.stabilise(&["a"]);
    shard.commit(commit_of("a", 1, 7)).unwrap();
    let token = shard.send(Command::DeleteGroup(GROUP.into()));
    assert_eq!(shard.answered[&token], Reply::DeleteGroup(Err(GroupError::NonEmptyGroup)));
    shard.leave(vec![identity("a")]);
    let token = shard.send(Command::DeleteGroup(GROUP.into()));
    assert_eq!(shard.answered[&token], Reply::DeleteGroup(Ok(())));
    assert_eq!(shard.state(), GroupState::Dead);
    assert!(shard.reloaded().groups.persisted().is_empty());
    let token = shard.send(Command::DeleteGroup(GROUP.into()));
    assert_eq!(shard.answered[&token], Reply::DeleteGroup(Err(GroupError::GroupIdNotFound)));
}

#[test]
fn offsets_lapse_only_after_the_group_has_been_empty_for_the_retention() {
    let mut shard = Shard::new();
    shard.stabilise(&["a"]);
    shard.commit(commit_of("a", 1, 7)).unwrap();
    for _ in 0..(8 * DAY_MS / 9_000) {
        shard.wait(9_000);
        assert_eq!(shard.heartbeat("a", 1), Ok(()));
    }
    assert!(shard.groups.offset(GROUP, "t", 0).is_some(), "a live group keeps the offsets of what it consumes");
    shard.leave(vec![identity("a")]);
    shard.wait(7 * DAY_MS - 1);
    assert!(shard.groups.offset(GROUP, "t", 0).is_some());
    shard.wait(600_001);
    assert_eq!(shard.state(), GroupState::Dead, "and the empty group goes with its last offset");
    assert!(shard.reloaded().groups.persisted().is_empty());
}

#[test]
fn a_simple_consumer_s_offset_lapses_after_its_last_commit_or_its_own_retention() {
    let mut shard = Shard::new();
    shard.commit(commit_of("", -1, 7)).unwrap();
    let mut short = commit_of("", -1, 8);
    short.retention_ms = Some(DAY_MS);
    short.offsets[0].partition = 1;
    shard.commit(short).unwrap();
    shard.wait(DAY_MS + 600_001);
    assert_eq!(shard.groups.offsets(GROUP)["t"].keys().copied().collect::<Vec<_>>(), [0]);
    shard.wait(6 * DAY_MS);
    assert_eq!(shard.state(), GroupState::Dead);
}

#[test]
fn a_sweep_is_bounded_and_goes_on_at_once() {
    let mut shard = Shard::with(GroupSettings { max_expired_per_sweep: 2, ..settings() });
    let mut commit = commit_of("", -1, 7);
    for partition in 1..5 {
        commit.offsets.push(OffsetToCommit { partition, ..commit.offsets[0].clone() });
    }
    shard.commit(commit).unwrap();
    shard.wait(7 * DAY_MS + 600_010);
    assert_eq!(shard.state(), GroupState::Dead);
}

fn topic_id(number: u128) -> model::TopicId {
    model::TopicId(uuid::Uuid::from_u128(number))
}

fn deleted(topics: &[(&str, u128, Option<i64>)]) -> DeletedTopics {
    let mut deleted = DeletedTopics::default();
    for (name, id, at) in topics {
        deleted.insert(name, topic_id(*id), *at);
    }
    deleted
}

fn commit_for(id: u128, partition: i32) -> CommitOffsets {
    let mut commit = commit_of("", -1, 7);
    commit.offsets[0].topic_id = topic_id(id);
    commit.offsets[0].partition = partition;
    commit
}

#[test]
fn a_deleted_topic_takes_its_own_offsets_along_and_none_of_its_successor() {
    let mut shard = Shard::new();
    shard.commit(commit_for(1, 0)).unwrap();
    shard.commit(commit_for(1, 1)).unwrap();
    // The topic is deleted and made again; the client commits before the coordinator has cleaned up.
    shard.commit(commit_for(2, 0)).unwrap();
    let decision = shard.groups.forget_topics(&deleted(&[("t", 1, Some(9_999))]));
    assert_eq!(decision.records.len(), 1, "the offset of partition 1, which has none for the new topic");
    shard.store(decision);
    assert_eq!(shard.groups.offset(GROUP, "t", 0).map(|it| it.topic_id), Some(topic_id(2)));
    assert!(shard.groups.offset(GROUP, "t", 1).is_none());
    assert!(shard.groups.forget_topics(&deleted(&[("t", 1, Some(9_999))])).records.is_empty());
}

#[test]
fn an_offset_without_a_topic_id_goes_only_if_it_is_older_than_the_deletion() {
    let mut shard = Shard::new();
    shard.now = 5_000;
    shard.commit(commit_for(0, 0)).unwrap();
    for (deleted_ms, expected) in [(None, 0), (Some(4_999), 0), (Some(5_000), 1)] {
        let decision = shard.groups.forget_topics(&deleted(&[("t", 1, deleted_ms), ("other", 2, Some(9_999))]));
        assert_eq!(decision.records.len(), expected, "{deleted_ms:?}");
    }
}

#[test]
fn a_clean_up_writes_bounded_decisions() {
    let mut shard = Shard::with(GroupSettings { max_cleanup_bytes: 1_000, ..settings() });
    for partition in 0..10 {
        shard.commit(commit_for(1, partition)).unwrap();
    }
    let mut decisions = 0;
    loop {
        let decision = shard.groups.forget_topics(&deleted(&[("t", 1, None)]));
        if decision.records.is_empty() {
            break;
        }
        assert!(decision.records.len() <= 3, "{} tombstones", decision.records.len());
        decisions += 1;
        shard.store(decision);
    }
    assert_eq!((decisions, shard.groups.offsets(GROUP).len()), (4, 0));
}

#[test]
fn listings_are_filtered_by_state_and_type() {
    let mut shard = Shard::new();
    shard.stabilise(&["a"]);
    shard.commit(CommitOffsets { group: "simple".into(), ..commit_of("", -1, 7) }).unwrap();
    let list = |states: &[&str], types: &[&str]| {
        let filter = ListFilter::new(states, types);
        shard.groups.list(&filter).iter().map(|it| it.group.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(list(&[], &[]), ["g", "simple"]);
    assert_eq!(list(&["stable"], &[]), ["g"]);
    assert_eq!(list(&["Empty"], &["Classic"]), ["simple"]);
    assert!(list(&[], &["consumer"]).is_empty());
}

#[test]
fn offsets_of_a_group_without_a_name_can_be_committed_but_not_deleted() {
    let mut shard = Shard::new();
    let commit = CommitOffsets { group: "".into(), ..commit_of("", -1, 7) };
    assert_eq!(shard.commit(commit), Ok(vec![Ok(())]), "as in Kafka, for old clients");
    let token = shard.send(Command::DeleteOffsets(DeleteOffsets { group: "".into(), partitions: Vec::new() }));
    assert_eq!(shard.answered[&token], Reply::DeleteOffsets(Err(GroupError::InvalidGroupId)));
}

#[test]
fn a_group_whose_last_offset_was_removed_stays_until_the_next_sweep() {
    let mut shard = Shard::new();
    shard.commit(commit_of("", -1, 5)).unwrap();
    shard.send(Command::DeleteOffsets(DeleteOffsets { group: GROUP.into(), partitions: vec![("t".into(), 0)] }));
    assert_eq!(shard.state(), GroupState::Empty);
    shard.wait(settings().offsets_retention_check_interval_ms);
    assert_eq!(shard.state(), GroupState::Dead);
    assert_eq!(shard.groups.bytes(), 0);
}
