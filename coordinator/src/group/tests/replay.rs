//! A shard read back from its log is the shard that wrote it, as far as it is persisted.

use super::harness::*;
use crate::group::*;

#[test]
fn members_of_a_stable_group_go_on_after_a_reload_without_noticing() {
    let mut live = Shard::new();
    live.stabilise(&["a", "b"]);
    live.commit(commit_of("a", 1, 9)).unwrap();
    let mut shard = live.reloaded();
    assert_eq!(shard.groups.persisted(), live.groups.persisted());
    assert_eq!(shard.groups.describe(GROUP), live.groups.describe(GROUP));
    assert_eq!(shard.heartbeat("b", 1), Ok(()));
    assert_eq!(shard.commit(commit_of("a", 1, 10)), Ok(vec![Ok(())]));
    let sync = shard.sync("b", 1, &[]);
    assert_eq!(shard.synced(sync), Ok("b".into()));
    let follower = shard.join(known("b"));
    assert_eq!(shard.joined(follower).generation, 1);
}

#[test]
fn members_that_do_not_come_back_after_a_reload_lose_their_place() {
    let mut live = Shard::new();
    live.stabilise(&["a", "b"]);
    let mut shard = live.reloaded();
    shard.wait(9_000);
    assert_eq!(shard.heartbeat("a", 1), Ok(()));
    shard.wait(1_500);
    assert_eq!(shard.heartbeat("a", 1), Err(GroupError::RebalanceInProgress));
}

#[test]
fn a_rebalance_cut_off_by_a_reload_leaves_the_generation_before() {
    let mut live = Shard::new();
    live.stabilise(&["a"]);
    live.arrive("b");
    live.join(known("a"));
    assert_eq!(live.state(), GroupState::CompletingRebalance);
    let mut shard = live.reloaded();
    assert_eq!(shard.state(), GroupState::Stable);
    assert_eq!(shard.heartbeat("a", 2), Err(GroupError::IllegalGeneration));
    assert_eq!(shard.heartbeat("b", 2), Err(GroupError::UnknownMemberId));
}

#[test]
fn an_empty_group_keeps_its_generation_over_a_reload() {
    let mut live = Shard::new();
    live.stabilise(&["a"]);
    live.leave(vec![identity("a")]);
    let mut shard = live.reloaded();
    assert_eq!(shard.state(), GroupState::Empty);
    let token = shard.arrive("b");
    shard.wait(1_000);
    assert_eq!(shard.joined(token).generation, 3);
}
