//! What becomes of a partition when its members change: who leads, who is in sync, who stays eligible (KIP-966).
//!
//! A member of the ISR has on its disk everything that was acknowledged. So has a member of the ELR: it left the ISR when
//! that became smaller than `min.insync.replicas`, and from then on no leader moves the high watermark.
//! `docs/decisions/0007-who-may-lead-after-everybody-was-lost.md` has the reasons.

use model::{NodeId, TopicPartition};

use super::draft::Draft;
use super::{Cluster, NO_LEADER, Partition};

/// A change of a partition in the making.
pub(super) struct Revision {
    /// The partition with its new replicas, ISR and leader; its ELR and epochs follow.
    pub(super) next: Partition,
    /// A broker that may have lost what was acknowledged: it does not stay eligible.
    pub(super) forfeits: Option<NodeId>,
    /// A new leader epoch begins even if the leader stays.
    pub(super) is_new_term: bool,
}

impl Revision {
    /// A change after which everybody who leaves has what they had.
    pub(super) fn of(next: Partition) -> Self {
        Revision { next, forfeits: None, is_new_term: false }
    }
}

/// Gives a partition the leader that it can have without loss: the first replica, in order of preference, that can lead
/// and is in sync, else one that is eligible, which then is the ISR; else none.
pub(super) fn elect(state: &Cluster, next: &mut Partition) {
    let first = |members: &[NodeId]| first_active(state, &next.replicas, members);
    if let Some(leader) = first(&next.isr) {
        next.leader = leader;
    } else if let Some(leader) = first(&next.elr) {
        next.isr = vec![leader];
        next.leader = leader;
    } else {
        next.leader = NO_LEADER;
    }
}

/// The first replica, in order of preference, that is one of `members` and can lead.
pub(super) fn first_active(state: &Cluster, replicas: &[NodeId], members: &[NodeId]) -> Option<NodeId> {
    replicas.iter().copied().find(|id| members.contains(id) && state.is_active(*id))
}

/// The partition after a change, with its ELR and its epochs; none when nothing changes.
pub(super) fn revise(state: &Cluster, id: TopicPartition, old: &Partition, revision: Revision) -> Option<Partition> {
    let Revision { mut next, forfeits, is_new_term } = revision;
    next.elr = eligible(state, id, old, &next, forfeits);
    let is_new_term = is_new_term || next.leader != old.leader;
    next.leader_epoch = old.leader_epoch.saturating_add(i32::from(is_new_term));
    next.partition_epoch = old.partition_epoch;
    if next == *old {
        return None;
    }
    next.partition_epoch = old.partition_epoch.saturating_add(1);
    Some(next)
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

/// The ELR: while the ISR is too small for the high watermark to move, whoever left it has all that was acknowledged.
/// Without a leader the high watermark does not move either.
fn eligible(
    state: &Cluster,
    id: TopicPartition,
    old: &Partition,
    next: &Partition,
    forfeits: Option<NodeId>,
) -> Vec<NodeId> {
    if next.has_leader() && next.isr.len() >= state.min_insync(id.topic_id, &next.replicas) {
        return Vec::new();
    }
    let was_eligible = |id: &NodeId| old.isr.contains(id) || old.elr.contains(id);
    let stays = |id: &NodeId| was_eligible(id) && !next.isr.contains(id) && forfeits != Some(*id);
    next.replicas.iter().copied().filter(stays).collect()
}
