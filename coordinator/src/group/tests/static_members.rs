//! Static members (KIP-345, KIP-814).

use super::harness::*;
use crate::group::*;

fn static_identity(instance: &str, id: &str) -> MemberIdentity {
    MemberIdentity { member_id: id.into(), instance_id: Some(instance.into()) }
}

/// A stable group of the static members i1 (id `a`, the leader) and i2 (id `b`).
fn stable_pair() -> Shard {
    let mut shard = Shard::new();
    let a = shard.join(static_newcomer("i1", "a"));
    shard.join(static_newcomer("i2", "b"));
    shard.wait(1_000);
    assert_eq!(shard.joined(a).generation, 1, "a static member needs no id first");
    shard.assign(&["a", "b"], 1);
    shard
}

#[test]
fn a_static_member_that_returns_keeps_its_assignment_without_a_rebalance() {
    let mut shard = stable_pair();
    let token = shard.join(static_newcomer("i2", "b2"));
    let joined = shard.joined(token);
    assert_eq!((joined.generation, joined.member_id.as_ref(), joined.leader.as_ref()), (1, "b2", "a"));
    assert!(!joined.skip_assignment && joined.members.is_empty());
    assert_eq!(shard.state(), GroupState::Stable);
    let sync = shard.sync("b2", 1, &[]);
    assert_eq!(shard.synced(sync), Ok("b".into()));
    assert_eq!(shard.heartbeat("b", 1), Err(GroupError::UnknownMemberId));
    let fenced = Heartbeat { group: GROUP.into(), member: static_identity("i2", "b"), generation: 1 };
    let token = shard.send(Command::Heartbeat(fenced));
    assert_eq!(shard.answered[&token], Reply::Heartbeat(Err(GroupError::FencedInstanceId)));
    assert_eq!(shard.reloaded().groups.describe(GROUP), shard.groups.describe(GROUP), "the new id is persisted");
}

#[test]
fn a_returning_static_leader_is_told_to_skip_the_assignment_if_it_can() {
    let mut shard = stable_pair();
    let token = shard.join(static_newcomer("i1", "a2"));
    let joined = shard.joined(token);
    assert!(joined.skip_assignment);
    assert_eq!((joined.leader.as_ref(), joined.members.len()), ("a2", 2));
    let abilities = JoinAbilities { member_id_required: true, skip_assignment: false };
    let token = shard.join(JoinGroup { abilities, ..static_newcomer("i1", "a3") });
    let joined = shard.joined(token);
    assert!(!joined.skip_assignment && joined.members.is_empty());
    assert_eq!(joined.leader.as_ref(), "a2", "an old client must not take itself for the leader");
}

#[test]
fn a_static_member_that_returns_with_other_protocols_starts_a_rebalance() {
    let mut shard = Shard::new();
    let both = || protocols(&["range", "sticky"]);
    let token = shard.join(JoinGroup { protocols: both(), ..static_newcomer("i1", "a") });
    shard.wait(1_000);
    assert_eq!(shard.joined(token).protocol_name.as_deref(), Some("range"));
    shard.assign(&["a"], 1);
    let token = shard.join(JoinGroup { protocols: protocols(&["sticky"]), ..static_newcomer("i1", "a2") });
    let joined = shard.joined(token);
    assert_eq!((joined.generation, joined.protocol_name.as_deref()), (2, Some("sticky")));
}

#[test]
fn the_former_holder_of_an_instance_id_is_fenced_while_it_waits() {
    let mut shard = stable_pair();
    let again = JoinGroup { instance_id: Some("i1".into()), ..known("a") };
    let waiting = shard.join(again.clone());
    assert!(shard.is_parked(waiting), "the leader forces a rebalance");
    shard.join(static_newcomer("i1", "a2"));
    assert_eq!(shard.join_error(waiting), GroupError::FencedInstanceId);
    let late = shard.join(again);
    assert_eq!(shard.join_error(late), GroupError::FencedInstanceId);
}

#[test]
fn a_static_member_that_returns_before_the_assignment_starts_a_rebalance() {
    let mut shard = Shard::new();
    shard.join(static_newcomer("i1", "a"));
    shard.join(static_newcomer("i2", "b"));
    shard.wait(1_000);
    let b = shard.sync("b", 1, &[]);
    let back = shard.join(static_newcomer("i1", "a2"));
    assert_eq!(shard.synced(b), Err(GroupError::RebalanceInProgress));
    shard.join(JoinGroup { instance_id: Some("i2".into()), ..known("b") });
    assert_eq!(shard.joined(back).generation, 2);
}

#[test]
fn an_absent_static_member_survives_a_rebalance_until_its_session_ends() {
    let mut shard = Shard::new();
    let long = |join: JoinGroup| JoinGroup { session_timeout_ms: 100_000, rebalance_timeout_ms: 20_000, ..join };
    shard.join(long(static_newcomer("i1", "a")));
    shard.join(long(static_newcomer("i2", "b")));
    shard.wait(1_000);
    shard.assign(&["a", "b"], 1);
    let a = shard.join(long(JoinGroup { instance_id: Some("i1".into()), ..known("a") }));
    shard.wait(20_000);
    assert_eq!(shard.joined(a).members.len(), 2);
}

#[test]
fn an_administrator_removes_a_static_member_by_its_instance_id() {
    let mut shard = stable_pair();
    let results = shard.leave(vec![
        static_identity("i2", ""),
        static_identity("nobody", ""),
        static_identity("i1", "wrong"),
        identity(""),
    ]);
    let unknown = Err(GroupError::UnknownMemberId);
    assert_eq!(results, [Ok(()), unknown, Err(GroupError::FencedInstanceId), unknown]);
    assert_eq!(shard.groups.describe(GROUP).unwrap().members.len(), 1);
}

#[test]
fn a_static_member_that_returns_does_not_inherit_an_answer_that_waits_for_the_log() {
    let mut shard = Shard::new();
    shard.join(static_newcomer("i", "s1"));
    shard.hold();
    let identity = MemberIdentity { member_id: "s1".into(), instance_id: Some("i".into()) };
    shard.commit(CommitOffsets { member: identity, ..commit_of("s1", 0, 7) }).unwrap();
    shard.join(static_newcomer("i", "s2"));
    shard.release();
    shard.wait(100_000);
    assert_eq!(shard.state(), GroupState::Empty, "its session ends like any other");
}
