//! What groups weigh: it follows every change, is the same after loading, and unused member ids are bounded over all groups.

use super::harness::*;
use crate::group::*;

fn elsewhere(group: &str, id: &str) -> JoinGroup {
    JoinGroup { group: group.into(), ..newcomer(id) }
}

#[test]
fn what_was_written_weighs_no_more_after_it_is_loaded() {
    let mut shard = Shard::new();
    shard.stabilise(&["a", "b"]);
    shard.commit(commit_of("a", 1, 5)).unwrap();
    let before = shard.groups.bytes();
    assert!(before > 1_000);
    let mut loaded = Groups::new(settings());
    shard.log.iter().for_each(|record| loaded.apply(record));
    loaded.activate(shard.now);
    assert_eq!(loaded.bytes(), loaded.weigh_all());
    assert!(loaded.bytes() <= before, "{} after loading, {before} before", loaded.bytes());
}

#[test]
fn completing_a_rebalance_takes_nothing_that_its_requests_did_not_ask_for() {
    let mut shard = Shard::new();
    shard.arrive("a");
    let joining = shard.groups.bytes();
    shard.wait(1_000);
    assert_eq!(shard.groups.bytes(), joining);
    shard.assign(&["a"], 1);
    assert_eq!(shard.groups.bytes(), joining + "a".len(), "the assignment alone");
}

#[test]
fn nothing_is_left_of_groups_that_are_gone() {
    let mut shard = Shard::new();
    shard.stabilise(&["a"]);
    shard.leave(vec![identity("a")]);
    shard.send(Command::DeleteGroup(GROUP.into()));
    assert_eq!(shard.groups.bytes(), 0);
}

#[test]
fn the_oldest_unused_ids_of_all_groups_go_first() {
    let mut shard = Shard::with(GroupSettings { max_pending_bytes: 20_000, ..settings() });
    for n in 0..5_000 {
        let asked = shard.join(elsewhere(&format!("g{}", n % 50), &format!("m{n}")));
        assert_eq!(shard.join_error(asked), GroupError::MemberIdRequired);
    }
    assert!(shard.groups.bytes() < 200_000, "{} bytes", shard.groups.bytes());
    let again = |n: usize| JoinGroup { member_id: format!("m{n}").into(), ..elsewhere(&format!("g{}", n % 50), "") };
    let oldest = shard.join(again(7));
    assert_eq!(shard.join_error(oldest), GroupError::UnknownMemberId, "its client asks for another one");
    let newest = shard.join(again(4_999));
    assert!(shard.is_parked(newest), "waits for the rebalance");
}

#[test]
fn a_join_phase_that_waited_for_a_forgotten_id_ends() {
    let mut shard = Shard::with(GroupSettings { max_pending_bytes: 1_000, ..settings() });
    shard.stabilise(&["a"]);
    shard.join(newcomer("unused"));
    let rejoined = shard.join(JoinGroup { protocols: protocols(&["range", "sticky"]), ..known("a") });
    assert!(shard.is_parked(rejoined), "a member is about to join");
    for n in 0..20 {
        shard.join(elsewhere("other", &format!("m{n}")));
    }
    shard.wait(1);
    assert_eq!(shard.joined(rejoined).generation, 2);
}
