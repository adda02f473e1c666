//! Rebalances of a group that has members: join, sync, heartbeat, leave, and what time does.

use super::harness::*;
use crate::group::*;

#[test]
fn a_follower_waits_for_its_assignment_until_the_leader_has_sent_it() {
    let mut shard = Shard::new();
    let (a, b) = (shard.arrive("a"), shard.arrive("b"));
    shard.wait(1_000);
    assert_eq!((shard.joined(a).generation, shard.joined(b).leader.as_ref()), (1, "a"));
    let follower = shard.sync("b", 1, &[]);
    assert!(shard.is_parked(follower));
    let leader = shard.sync("a", 1, &[("a", "p0"), ("b", "p1")]);
    assert_eq!((shard.synced(leader), shard.synced(follower)), (Ok("p0".into()), Ok("p1".into())));
    let again = shard.sync("b", 1, &[]);
    assert_eq!(shard.synced(again), Ok("p1".into()), "a stable group repeats the assignment");
}

#[test]
fn a_member_that_the_leader_forgot_is_assigned_nothing() {
    let mut shard = Shard::new();
    shard.arrive("a");
    shard.arrive("b");
    shard.wait(1_000);
    let follower = shard.sync("b", 1, &[]);
    shard.sync("a", 1, &[("a", "p0"), ("stranger", "p1")]);
    assert_eq!(shard.synced(follower), Ok(String::new()));
}

#[test]
fn a_newcomer_makes_all_members_join_again() {
    let mut shard = Shard::new();
    shard.stabilise(&["a", "b"]);
    let c = shard.arrive("c");
    assert_eq!(shard.heartbeat("a", 1), Err(GroupError::RebalanceInProgress));
    let sync = shard.sync("a", 1, &[]);
    assert_eq!(shard.synced(sync), Err(GroupError::RebalanceInProgress));
    let (a, b) = (shard.join(known("a")), shard.join(known("b")));
    for token in [a, b, c] {
        assert_eq!(shard.joined(token).generation, 2);
    }
    assert_eq!(shard.joined(c).leader.as_ref(), "a", "the leader stays");
    shard.assign(&["a", "b", "c"], 2);
}

#[test]
fn members_that_do_not_join_again_within_the_rebalance_timeout_are_out() {
    let mut shard = Shard::new();
    shard.stabilise(&["a", "b"]);
    let b = shard.join(JoinGroup { protocols: protocols(&["range", "more"]), ..known("b") });
    for _ in 0..12 {
        shard.wait(4_999);
        assert_eq!(shard.heartbeat("a", 1), Err(GroupError::RebalanceInProgress));
        assert!(shard.is_parked(b));
    }
    shard.wait(4_999);
    let joined = shard.joined(b);
    assert_eq!((joined.generation, joined.leader.as_ref()), (2, "b"), "leadership passes on");
    assert_eq!(shard.heartbeat("a", 1), Err(GroupError::UnknownMemberId));
}

#[test]
fn a_silent_member_is_out_after_its_session_and_the_rest_rebalances() {
    let mut shard = Shard::new();
    shard.stabilise(&["a", "b"]);
    shard.wait(9_000);
    assert_eq!(shard.heartbeat("a", 1), Ok(()));
    shard.wait(2_000);
    assert_eq!(shard.heartbeat("a", 1), Err(GroupError::RebalanceInProgress));
    let a = shard.join(known("a"));
    assert_eq!(shard.joined(a).members.len(), 1);
}

#[test]
fn a_join_that_waits_counts_as_a_sign_of_life() {
    let mut shard = Shard::new();
    shard.stabilise(&["a", "b"]);
    let waiting = shard.join(known("a"));
    for _ in 0..6 {
        shard.wait(5_000);
        assert_eq!(shard.heartbeat("b", 1), Err(GroupError::RebalanceInProgress));
    }
    assert!(shard.is_parked(waiting), "30 s with a session of 10 s");
    let b = shard.join(known("b"));
    assert_eq!(shard.joined(waiting).generation, shard.joined(b).generation);
}

#[test]
fn members_that_never_fetch_their_assignment_are_out() {
    let mut shard = Shard::new();
    shard.arrive("a");
    shard.arrive("b");
    shard.wait(1_000);
    shard.sync("a", 1, &[("a", "all")]);
    for _ in 0..20 {
        shard.wait(3_000);
        let _ = (shard.heartbeat("a", 1), shard.heartbeat("b", 1));
    }
    assert_eq!(shard.heartbeat("b", 1), Err(GroupError::UnknownMemberId));
    assert_eq!(shard.heartbeat("a", 1), Err(GroupError::RebalanceInProgress));
}

#[test]
fn a_leader_that_dies_before_it_assigned_sends_the_others_to_join_again() {
    let mut shard = Shard::new();
    shard.arrive("a");
    shard.arrive("b");
    shard.wait(1_000);
    let b = shard.sync("b", 1, &[]);
    shard.wait(10_500);
    assert_eq!(shard.synced(b), Err(GroupError::RebalanceInProgress));
    let b = shard.join(known("b"));
    assert_eq!((shard.joined(b).generation, shard.joined(b).leader.as_ref()), (2, "b"));
}

#[test]
fn a_leader_that_joins_a_stable_group_again_forces_a_rebalance_and_a_follower_does_not() {
    let mut shard = Shard::new();
    shard.stabilise(&["a", "b"]);
    let follower = shard.join(known("b"));
    assert_eq!(shard.joined(follower).generation, 1);
    assert_eq!(shard.state(), GroupState::Stable);
    let leader = shard.join(known("a"));
    assert!(shard.is_parked(leader));
    assert_eq!(shard.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_lost_join_reply_is_repeated_while_the_assignment_is_awaited() {
    let mut shard = Shard::new();
    let first = shard.arrive("a");
    shard.wait(100);
    let second = shard.join(known("a"));
    assert_eq!(shard.joined(first), shard.joined(second));
}

#[test]
fn a_duplicate_of_a_waiting_join_takes_its_place() {
    let mut shard = Shard::new();
    shard.stabilise(&["a", "b"]);
    let old = shard.join(known("a"));
    let new = shard.join(known("a"));
    assert_eq!(shard.join_error(old), GroupError::RebalanceInProgress);
    shard.join(known("b"));
    assert_eq!(shard.joined(new).generation, 2);
}

#[test]
fn stale_requests_are_told_why() {
    let mut shard = Shard::new();
    shard.stabilise(&["a"]);
    assert_eq!(shard.heartbeat("a", 0), Err(GroupError::IllegalGeneration));
    assert_eq!(shard.heartbeat("x", 1), Err(GroupError::UnknownMemberId));
    let sync = shard.sync("a", 2, &[]);
    assert_eq!(shard.synced(sync), Err(GroupError::IllegalGeneration));
    let foreign = SyncGroup {
        group: GROUP.into(),
        member: identity("a"),
        generation: 1,
        protocol_type: Some("connect".into()),
        protocol_name: None,
        assignments: Vec::new(),
    };
    let sync = shard.send(Command::Sync(foreign));
    assert_eq!(shard.synced(sync), Err(GroupError::InconsistentGroupProtocol));
}

#[test]
fn leaving_answers_per_member_and_the_last_one_empties_the_group() {
    let mut shard = Shard::new();
    shard.stabilise(&["a", "b"]);
    let results = shard.leave(vec![identity("a"), identity("stranger")]);
    assert_eq!(results, [Ok(()), Err(GroupError::UnknownMemberId)]);
    assert_eq!(shard.heartbeat("b", 1), Err(GroupError::RebalanceInProgress));
    assert_eq!(shard.leave(vec![identity("b")]), [Ok(())]);
    assert_eq!(shard.state(), GroupState::Empty);
    let Some(GroupRecord::Metadata { image: Some(image), .. }) = shard.log.last() else { panic!("no record") };
    assert_eq!((image.generation, image.members.len(), image.leader.clone()), (2, 0, None));
}

#[test]
fn a_member_that_leaves_lets_the_waiting_ones_go_on() {
    let mut shard = Shard::new();
    shard.stabilise(&["a", "b"]);
    let a = shard.join(known("a"));
    assert!(shard.is_parked(a));
    shard.leave(vec![identity("b")]);
    assert_eq!(shard.joined(a).members.len(), 1);
}

#[test]
fn concurrent_rebalances_never_tell_a_live_member_that_it_is_unknown() {
    let mut shard = Shard::new();
    let ids: Vec<String> = (0..8).map(|n| format!("m{n}")).collect();
    let mut waiting: Vec<(String, RequestToken)> = Vec::new();
    for id in &ids {
        // Each newcomer arrives in another phase: before, during, after the sync of those already there.
        waiting.push((id.clone(), shard.arrive(id)));
        shard.wait(35);
        for _ in 0..3 {
            for (member, token) in std::mem::take(&mut waiting) {
                let next = match shard.answered.get(&token) {
                    None => token,
                    Some(Reply::Join(Ok(joined))) => {
                        let assignments: Vec<_> = joined.members.iter().map(|m| m.member_id.to_string()).collect();
                        let pairs: Vec<_> = assignments.iter().map(|id| (id.as_str(), "x")).collect();
                        let generation = joined.generation;
                        shard.sync(&member, generation, &pairs)
                    }
                    Some(Reply::Join(Err(refused))) => panic!("{member}: {refused:?}"),
                    Some(Reply::Sync(Err(error))) => {
                        assert_eq!(*error, GroupError::RebalanceInProgress, "{member}");
                        shard.join(known(&member))
                    }
                    _ => shard.join(known(&member)),
                };
                waiting.push((member, next));
            }
        }
    }
    for _ in 0..4 {
        shard.wait(100);
        for (member, token) in &mut waiting {
            if matches!(shard.answered.get(token), Some(Reply::Sync(_))) {
                *token = shard.join(known(member));
            }
        }
    }
    let unknown = shard.answered.values().any(|reply| {
        matches!(reply, Reply::Join(Err(refused)) if refused.error == GroupError::UnknownMemberId)
            || *reply == Reply::Sync(Err(GroupError::UnknownMemberId))
    });
    assert!(!unknown);
    assert_eq!(shard.groups.describe(GROUP).unwrap().members.len(), 8);
}

#[test]
fn giving_a_shard_up_refuses_all_who_wait() {
    let mut shard = Shard::new();
    let (a, b) = (shard.arrive("a"), shard.arrive("b"));
    let mut refused: Vec<_> = shard.groups.unload().into_iter().map(|(token, _)| token).collect();
    refused.sort();
    assert_eq!(refused, [a, b]);
}

#[test]
fn a_member_id_that_is_never_used_leaves_a_stable_group_alone() {
    let mut shard = Shard::new();
    shard.stabilise(&["a"]);
    shard.join(JoinGroup { session_timeout_ms: 6_000, ..newcomer("stranger") });
    shard.wait(6_500);
    assert_eq!((shard.state(), shard.heartbeat("a", 1)), (GroupState::Stable, Ok(())));
    let late = shard.join(known("stranger"));
    assert_eq!(shard.join_error(late), GroupError::UnknownMemberId, "the id has lapsed");
}

#[test]
fn a_member_id_that_lapses_completes_a_join_phase_that_waits_for_it() {
    let mut shard = Shard::new();
    shard.stabilise(&["a"]);
    shard.join(JoinGroup { session_timeout_ms: 6_000, ..newcomer("stranger") });
    let a = shard.join(known("a"));
    shard.wait(5_999);
    assert!(shard.is_parked(a));
    shard.wait(1);
    assert_eq!(shard.joined(a).generation, 2);
}

#[test]
fn a_member_that_the_departure_of_another_lets_join_stays() {
    let mut shard = Shard::new();
    shard.stabilise(&["a"]);
    // Both are overdue at one look of the clock: `a` has been silent, `b` has waited in its first join for too long.
    let b = shard.arrive("b");
    for _ in 0..60 {
        shard.now += 4_999;
        let _ = shard.heartbeat("a", 1);
    }
    shard.now += 10_000;
    for decision in shard.groups.tick(shard.now) {
        shard.store(decision);
    }
    assert_eq!(shard.joined(b).members.len(), 1);
    assert_eq!(shard.heartbeat("b", 2), Ok(()), "its join was answered, so its session has begun");
}

#[test]
fn a_member_may_offer_a_bounded_number_of_protocols() {
    let mut shard = Shard::new();
    let names: Vec<_> = (0..101).map(|n| n.to_string()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let token = shard.join(JoinGroup { protocols: protocols(&names), ..newcomer("a") });
    assert_eq!(shard.join_error(token), GroupError::InconsistentGroupProtocol);
    let token = shard.join(JoinGroup { protocols: protocols(&names[1..]), ..newcomer("a") });
    assert_eq!(shard.join_error(token), GroupError::MemberIdRequired);
}

#[test]
fn assignments_that_cannot_be_stored_make_the_group_rebalance() {
    let mut shard = Shard::new();
    shard.arrive("a");
    shard.arrive("b");
    shard.wait(1_000);
    let b = shard.sync("b", 1, &[]);
    let sync = SyncGroup {
        group: GROUP.into(),
        member: identity("a"),
        generation: 1,
        protocol_type: None,
        protocol_name: None,
        assignments: Vec::new(),
    };
    let token = RequestToken(1_000);
    let decision = shard.groups.refuse_assignments(token, &sync, GroupError::RecordTooLarge, shard.now);
    assert!(decision.records.is_empty());
    shard.store(decision);
    assert_eq!(
        (shard.synced(token), shard.synced(b)),
        (Err(GroupError::RecordTooLarge), Err(GroupError::RecordTooLarge))
    );
    assert_eq!(shard.heartbeat("b", 1), Err(GroupError::RebalanceInProgress));
}
