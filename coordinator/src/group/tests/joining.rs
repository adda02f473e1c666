//! Who gets in, and when the first generation begins.

use super::harness::*;
use crate::group::*;

#[test]
fn a_newcomer_is_given_a_member_id_and_joins_with_it() {
    let mut shard = Shard::new();
    let asked = shard.join(newcomer("m1"));
    let refused = JoinRefused { member_id: "m1".into(), error: GroupError::MemberIdRequired };
    assert_eq!(shard.answered[&asked], Reply::Join(Err(refused)));
    let token = shard.join(known("m1"));
    assert!(shard.is_parked(token));
    shard.wait(100);
    let joined = shard.joined(token);
    assert_eq!((joined.generation, joined.leader.as_ref(), joined.member_id.as_ref()), (1, "m1", "m1"));
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(joined.members.len(), 1);
}

#[test]
fn an_old_client_joins_without_asking_for_an_id() {
    let mut shard = Shard::new();
    let abilities = JoinAbilities { member_id_required: false, skip_assignment: false };
    let token = shard.join(JoinGroup { abilities, ..newcomer("m1") });
    shard.wait(100);
    assert_eq!(shard.joined(token).member_id.as_ref(), "m1");
}

#[test]
fn an_id_that_was_never_joined_with_lapses_and_leaves_no_trace() {
    let mut shard = Shard::new();
    shard.join(newcomer("m1"));
    assert_eq!(shard.state(), GroupState::Empty);
    shard.wait(10_001);
    assert_eq!(shard.state(), GroupState::Dead);
    let late = shard.join(known("m1"));
    assert_eq!(shard.join_error(late), GroupError::UnknownMemberId);
    assert!(shard.log.is_empty());
}

#[test]
fn the_first_rebalance_waits_as_long_as_newcomers_keep_coming_but_not_for_ever() {
    let mut shard = Shard::new();
    let quick = |id: &str| JoinGroup { rebalance_timeout_ms: 250, ..known(id) };
    let mut tokens = Vec::new();
    for id in ["a", "b", "c", "d"] {
        shard.join(newcomer(id));
        tokens.push(shard.join(quick(id)));
        shard.wait(70);
    }
    let answered = tokens.iter().filter(|token| !shard.is_parked(**token)).count();
    assert_eq!(answered, 4, "delay 100 ms, put off at most to the rebalance timeout of 250 ms");
    assert!(tokens.iter().all(|token| shard.joined(*token).generation == 1));
    assert_eq!(shard.joined(tokens[0]).members.len(), 4, "the first to join leads");
    assert!(shard.joined(tokens[3]).members.is_empty(), "only the leader learns of the members");
}

#[test]
fn requests_outside_the_bounds_are_refused() {
    let refused = [
        (JoinGroup { group: "".into(), ..newcomer("m") }, GroupError::InvalidGroupId),
        (JoinGroup { session_timeout_ms: 5_999, ..newcomer("m") }, GroupError::InvalidSessionTimeout),
        (JoinGroup { session_timeout_ms: 1_800_001, ..newcomer("m") }, GroupError::InvalidSessionTimeout),
        (known("stranger"), GroupError::UnknownMemberId),
        (JoinGroup { protocol_type: "".into(), ..newcomer("m") }, GroupError::InconsistentGroupProtocol),
        (JoinGroup { protocols: protocols(&[]), ..newcomer("m") }, GroupError::InconsistentGroupProtocol),
    ];
    for (join, error) in refused {
        let mut shard = Shard::new();
        let token = shard.join(join);
        assert_eq!(shard.join_error(token), error);
        assert_eq!(shard.state(), GroupState::Dead, "a refused join makes no group");
    }
}

#[test]
fn a_member_that_shares_no_protocol_with_the_others_is_refused() {
    let mut shard = Shard::new();
    shard.stabilise(&["a"]);
    for join in [
        JoinGroup { protocols: protocols(&["sticky"]), ..newcomer("b") },
        JoinGroup { protocol_type: "connect".into(), ..newcomer("b") },
    ] {
        let token = shard.join(join);
        assert_eq!(shard.join_error(token), GroupError::InconsistentGroupProtocol);
    }
}

#[test]
fn the_protocol_that_most_members_prefer_and_all_offer_is_chosen() {
    let mut shard = Shard::new();
    let offers = [("a", ["x", "y", "z"]), ("b", ["w", "z", "y"]), ("c", ["z", "y", "x"])];
    let mut tokens = Vec::new();
    for (id, names) in offers {
        shard.join(JoinGroup { protocols: protocols(&names), ..newcomer(id) });
        tokens.push(shard.join(JoinGroup { protocols: protocols(&names), ..known(id) }));
    }
    shard.wait(1_000);
    assert_eq!(shard.joined(tokens[1]).protocol_name.as_deref(), Some("z"));
}

#[test]
fn a_full_group_takes_nobody_else() {
    let mut shard = Shard::with(GroupSettings { max_size: 2, ..settings() });
    shard.stabilise(&["a", "b"]);
    let token = shard.join(newcomer("c"));
    assert_eq!(shard.join_error(token), GroupError::GroupMaxSizeReached);
    assert_eq!(shard.state(), GroupState::Stable);
}

#[test]
fn member_ids_handed_out_are_bounded() {
    let mut shard = Shard::with(GroupSettings { max_pending_members: 2, ..settings() });
    let errors = ["a", "b", "c"].map(|id| {
        let token = shard.join(newcomer(id));
        shard.join_error(token)
    });
    assert_eq!(errors[1..], [GroupError::MemberIdRequired, GroupError::GroupMaxSizeReached]);
}

#[test]
fn groups_of_a_shard_are_bounded() {
    let mut shard = Shard::with(GroupSettings { max_groups: 1, ..settings() });
    shard.commit(commit_of("", -1, 1)).unwrap();
    let token = shard.join(JoinGroup { group: "other".into(), ..newcomer("m") });
    assert_eq!(shard.join_error(token), GroupError::GroupMaxSizeReached);
    let other = CommitOffsets { group: "other".into(), ..commit_of("", -1, 1) };
    assert_eq!(shard.commit(other), Err(GroupError::CoordinatorNotAvailable));
}

#[test]
fn a_newcomer_may_join_while_the_last_member_of_a_rebalance_has_left() {
    let mut shard = Shard::new();
    shard.arrive("a");
    shard.leave(vec![identity("a")]);
    let b = shard.join(JoinGroup { protocols: protocols(&["sticky"]), ..newcomer("b") });
    assert_eq!(shard.join_error(b), GroupError::MemberIdRequired);
}

#[test]
fn a_join_copies_no_more_of_a_large_group_than_it_changes() {
    let mut shard = Shard::with(GroupSettings { max_size: usize::MAX, ..settings() });
    let join = |shard: &mut Shard, id: &str| {
        shard.join(newcomer(id));
        shard.join(known(id));
    };
    for n in 0..1_000 {
        join(&mut shard, &format!("m{n:04}"));
    }
    let before = shard.groups.membership(GROUP).unwrap().clone();
    join(&mut shard, "m0500-late");
    let after = shard.groups.membership(GROUP).unwrap();
    assert_eq!((before.members.len(), after.members.len()), (1_000, 1_001));
    let (shared, chunks) = before.members.shared_chunks(&after.members);
    assert!(chunks > 10 && shared >= chunks - 2, "{shared} of {chunks} chunks are shared");
}

#[test]
fn a_tick_at_which_no_session_has_ended_copies_no_member() {
    let mut shard = Shard::with(GroupSettings { max_size: usize::MAX, ..settings() });
    let ids: Vec<String> = (0..200).map(|n| format!("m{n:04}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let generation = shard.stabilise(&ids);
    shard.wait(5_000);
    for id in &ids {
        shard.heartbeat(id, generation).unwrap();
    }
    let (before, early) = (shard.groups.membership(GROUP).unwrap().clone(), shard.groups.next_deadline());
    shard.wait(7_000);
    assert_ne!(shard.groups.next_deadline(), early, "a tick came and put the deadline right");
    let (shared, chunks) = before.members.shared_chunks(&shard.groups.membership(GROUP).unwrap().members);
    assert!(chunks > 2 && shared == chunks, "{shared} of {chunks} chunks are shared");
}
