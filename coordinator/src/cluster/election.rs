//! What becomes of a partition when its members change: who leads, who is in sync, who stays eligible (KIP-966).
//!
//! A member of the ISR has on its disk everything that was acknowledged. So has a member of the ELR: it left the ISR when
//! that became smaller than `min.insync.replicas`, and from then on no leader moves the high watermark.
//! `docs/decisions/0007-who-may-lead-after-everybody-was-lost.md` has the reasons.

use model::{NodeId, TopicPartition};

use super::draft::Draft;
use super::{Cluster, NO_LEADER, Partition};

/// A change of a partition in the making.
#[derive(Debug, Clone)]
pub(super) struct Revision {
    /// The partition with its new replicas, ISR and leader; its ELR and epochs follow.
    pub(super) next: Partition,
    /// Which of those that leave the ISR or were eligible have what was acknowledged.
    pub(super) eligible: Eligible,
    /// A new leader epoch begins even if the leader stays.
    pub(super) is_new_term: bool,
}

/// See [`Revision`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Eligible {
    /// All that were in sync or eligible.
    All,
    /// All but a broker that may have lost something.
    AllBut(NodeId),
    /// A leader was chosen that lacks something: its history counts from here on.
    None,
}

impl Revision {
    /// A change after which everybody who leaves has what they had.
    pub(super) fn of(next: Partition) -> Self {
        Revision { next, eligible: Eligible::All, is_new_term: false }
    }
}

/// Gives a partition the leader that it can have without loss: the first replica, in order of preference, that can lead
/// and is in sync, else one that is eligible, which then is the ISR. Else none, or any replica where the topic allows that.
pub(super) fn elect(state: &Cluster, id: TopicPartition, mut revision: Revision) -> Revision {
    let next = &mut revision.next;
    let first = |members: &[NodeId]| first_active(state, &next.replicas, members);
    if let Some(leader) = first(&next.isr) {
        next.leader = leader;
        return revision;
    }
    if let Some(leader) = first(&next.elr) {
        next.isr = vec![leader];
        next.leader = leader;
        return revision;
    }
    next.leader = NO_LEADER;
    if state.is_unclean_election_enabled(id.topic_id, &next.replicas) {
        elect_unclean(state, revision.clone()).unwrap_or(revision)
    } else {
        revision
    }
}

/// Gives a partition that no replica can lead without loss any leader; none when no replica can lead.
pub(super) fn elect_unclean(state: &Cluster, mut revision: Revision) -> Option<Revision> {
    let next = &mut revision.next;
    next.leader = first_active(state, &next.replicas, &next.replicas)?;
    next.isr = vec![next.leader];
    revision.eligible = Eligible::None;
    Some(revision)
}

/// The first replica, in order of preference, that is one of `members` and can lead.
pub(super) fn first_active(state: &Cluster, replicas: &[NodeId], members: &[NodeId]) -> Option<NodeId> {
    replicas.iter().copied().find(|id| members.contains(id) && state.is_active(*id))
}

/// The partition after a change, with its ELR and its epochs; none when nothing changes. A new term also begins when a
/// replica is taken away: whatever it still does is of an old one.
pub(super) fn revise(state: &Cluster, id: TopicPartition, old: &Partition, revision: Revision) -> Option<Partition> {
    let Revision { mut next, eligible, is_new_term } = revision;
    complete_reassignment(state, &mut next);
    next.elr = eligible_after(state, id, old, (&next, eligible));
    let is_smaller = old.replicas.iter().any(|id| !next.replicas.contains(id));
    let is_new_term = is_new_term || is_smaller || next.leader != old.leader;
    next.leader_epoch = old.leader_epoch.saturating_add(i32::from(is_new_term));
    next.partition_epoch = old.partition_epoch;
    if next == *old {
        return None;
    }
    next.partition_epoch = old.partition_epoch.saturating_add(1);
    Some(next)
}

/// Ends a reassignment once its whole target is in sync; the leader moves if it is not part of that.
fn complete_reassignment(state: &Cluster, next: &mut Partition) {
    let target = next.target_replicas();
    if !next.is_reassigning() || !next.has_leader() || !target.iter().all(|id| next.isr.contains(id)) {
        return;
    }
    if !target.contains(&next.leader) {
        let Some(leader) = first_active(state, &target, &target) else { return };
        next.leader = leader;
    }
    next.isr.retain(|id| target.contains(id));
    next.replicas = target;
    next.adding.clear();
    next.removing.clear();
}

/// Applies `change` to all partitions; it says none where it has nothing to do.
pub(super) fn change_where(
    draft: &mut Draft,
    change: impl Fn(&Cluster, TopicPartition, &Partition) -> Option<Revision>,
) {
    let state = &draft.state;
    let changed: Vec<(TopicPartition, Partition)> = state
        .partitions()
        .filter_map(|(id, old)| Some((id, revise(state, id, old, change(state, id, old)?)?)))
        .collect();
    for (id, partition) in changed {
        draft.put_partition(id, partition);
    }
}

/// The ELR: while the ISR is too small for the high watermark to move, a replica that left it has all that was acknowledged.
/// Without a leader the high watermark does not move either.
fn eligible_after(
    state: &Cluster,
    id: TopicPartition,
    old: &Partition,
    (next, eligible): (&Partition, Eligible),
) -> Vec<NodeId> {
    let is_large_enough = next.has_leader() && next.isr.len() >= state.min_insync(id.topic_id, &next.replicas);
    if is_large_enough || eligible == Eligible::None {
        return Vec::new();
    }
    let was_eligible = |id: &NodeId| old.isr.contains(id) || old.elr.contains(id);
    let stays = |id: &NodeId| was_eligible(id) && !next.isr.contains(id) && eligible != Eligible::AllBut(*id);
    next.replicas.iter().copied().filter(stays).collect()
}
