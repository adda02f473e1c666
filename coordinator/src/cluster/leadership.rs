//! What becomes of leaders and ISRs when brokers come, go and restart (D4).
//!
//! A member leaves an ISR for another to go on without it. Where none can, it stays: so members that are lost together
//! stay together, and whichever of them is back first leads.

use model::{NodeId, TopicPartition};

use super::draft::Draft;
use super::election::{Eligible, Revision, change_where, elect, first_active};
use super::{Cluster, Partition};

/// What a new process of a broker found on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disk {
    /// What the last process had flushed.
    Kept,
    /// Nothing: it was lost.
    Lost,
}

/// A new process of a broker. What the old one led begins a new term; where its disk may lack what was acknowledged, it
/// leaves the ISR and is no longer eligible. `before` is the state in which the old process ran.
///
/// A member that keeps its place is fenced until it is ready. The leader takes it out when it does not want to wait. This
/// is left to the leader because it may be dead without the cluster knowing: after everybody was killed, the members
/// register one by one, and none of them must lose its place to one that does not come back.
pub(super) fn restart(draft: &mut Draft, before: &Cluster, broker: NodeId, disk: Disk) {
    change_where(draft, |state, id, old| {
        let is_member = old.isr.contains(&broker) || old.elr.contains(&broker);
        let may_lead = !old.has_leader() && old.replicas.contains(&broker);
        if !is_member && !may_lead {
            return None;
        }
        let mut revision = Revision::of(old.clone());
        let next = &mut revision.next;
        if !has_everything(before, id, old, (broker, disk)) {
            next.isr.retain(|member| *member != broker);
            next.elr.retain(|member| *member != broker);
            revision.eligible = Eligible::AllBut(broker);
        }
        if old.leader == broker {
            revision.is_new_term = true;
            revision = elect(state, id, revision);
        } else if !old.has_leader() {
            revision = elect_orphan(state, id, revision);
        }
        Some(revision)
    });
}

/// A broker is lost: others take over what it led, where others have all that was acknowledged.
pub(super) fn leave(draft: &mut Draft, broker: NodeId) {
    change_where(draft, |state, id, old| {
        if !old.isr.contains(&broker) {
            return None;
        }
        let mut revision = Revision::of(old.clone());
        revision.next.isr.retain(|member| *member != broker);
        if old.leader == broker {
            revision = elect(state, id, revision);
        }
        if !revision.next.has_leader() {
            revision.next.isr.clone_from(&old.isr);
        }
        Some(revision)
    });
}

/// A broker is about to stop: it leaves the ISRs in which another can lead, and leads only where none can.
pub(super) fn hand_over(draft: &mut Draft, broker: NodeId) {
    change_where(draft, |state, _, old| {
        if !old.isr.contains(&broker) || !old.has_leader() {
            return None;
        }
        let mut next = old.clone();
        next.isr.retain(|member| *member != broker);
        let leader = first_active(state, &next.replicas, &next.isr)?;
        if old.leader == broker {
            next.leader = leader;
        }
        Some(Revision::of(next))
    });
}

/// A broker is ready: it leads what has no leader and counts it as in sync or eligible.
pub(super) fn take_orphans(draft: &mut Draft, broker: NodeId) {
    change_where(draft, |state, id, old| {
        let is_orphan = !old.has_leader() && old.replicas.contains(&broker);
        is_orphan.then(|| elect_orphan(state, id, Revision::of(old.clone())))
    });
}

/// Settings changed: an ISR may have become large enough, an unclean election may be allowed.
pub(super) fn review(draft: &mut Draft) {
    change_where(draft, |state, id, old| {
        if !old.has_leader() {
            return Some(elect_orphan(state, id, Revision::of(old.clone())));
        }
        (!old.elr.is_empty()).then(|| Revision::of(old.clone()))
    });
}

/// Elects a leader for a partition without one. Members that are not back yet do not hold it up.
fn elect_orphan(state: &Cluster, id: TopicPartition, revision: Revision) -> Revision {
    let mut revision = elect(state, id, revision);
    if revision.next.has_leader() {
        revision.next.isr.retain(|member| state.is_alive(*member));
    }
    revision
}

/// True when the disk of a restarted member has all that was acknowledged: it flushed before anything was acknowledged, or
/// no other replica has it either. A partition of a single replica continues in any case: its archive has all that was archived.
fn has_everything(before: &Cluster, id: TopicPartition, old: &Partition, member: (NodeId, Disk)) -> bool {
    let (broker, disk) = member;
    if old.replicas.len() == 1 {
        return true;
    }
    let is_last = || old.isr.iter().chain(&old.elr).all(|other| *other == broker);
    disk == Disk::Kept && (before.is_durable(id.topic_id, broker) || is_last())
}
