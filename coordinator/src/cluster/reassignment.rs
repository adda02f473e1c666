//! Partitions move to other brokers (KIP-455): new replicas are added, catch up, and then the old ones go.
//!
//! While that lasts, `replicas` is the target followed by those that will go. It ends in `election`, with the change of the
//! ISR that brings the last replica of the target in.

use model::{NodeId, TopicPartition};

use super::draft::Draft;
use super::election::{Revision, elect, revise};
use super::{Cluster, ClusterError, Partition, Reassignment};

/// Starts, replaces or cancels the reassignment of one partition.
pub(super) fn alter(draft: &mut Draft, change: &Reassignment, keep_factor: bool) -> Result<(), ClusterError> {
    let id = change.partition;
    let old = draft.state.partition(id).ok_or(ClusterError::UnknownPartition { partition: id })?;
    let next = match &change.replicas {
        None if !old.is_reassigning() => return Err(ClusterError::NoReassignment { partition: id }),
        None => shaped(old, &original(old)),
        Some(target) => {
            check_target(&draft.state, id, target)?;
            check_factor(id, old, target, keep_factor)?;
            // Who moves a partition leaves it waiting; who says how many replicas it shall have has decided.
            let is_decided = target.len() != old.target_replicas().len();
            let wanted_replicas = old.wanted_replicas.filter(|_| !is_decided);
            Partition { wanted_replicas, ..shaped(old, target) }
        }
    };
    change_to(draft, id, next)
}

/// Begins to add the replicas that a partition waited for. It is not decided on again when this is taken back.
pub(super) fn begin(draft: &mut Draft, id: TopicPartition, target: &[NodeId]) -> Result<(), ClusterError> {
    let old = draft.state.partition(id).ok_or(ClusterError::UnknownPartition { partition: id })?;
    let next = Partition { wanted_replicas: None, ..shaped(old, target) };
    change_to(draft, id, next)
}

fn change_to(draft: &mut Draft, id: TopicPartition, next: Partition) -> Result<(), ClusterError> {
    let old = draft.state.partition(id).ok_or(ClusterError::UnknownPartition { partition: id })?;
    let revision = with_members(&draft.state, id, old, next)?;
    if let Some(partition) = revise(&draft.state, id, old, revision) {
        draft.put_partition(id, partition);
    }
    Ok(())
}

/// The replicas from before the reassignment under way.
fn original(partition: &Partition) -> Vec<NodeId> {
    partition.replicas.iter().copied().filter(|id| !partition.adding.contains(id)).collect()
}

/// The partition on its way to `target`. What another reassignment was adding goes at once, unless it is wanted still.
fn shaped(old: &Partition, target: &[NodeId]) -> Partition {
    let original = original(old);
    let adding = target.iter().copied().filter(|id| !original.contains(id)).collect();
    let removing: Vec<NodeId> = original.into_iter().filter(|id| !target.contains(id)).collect();
    let replicas = target.iter().chain(&removing).copied().collect();
    Partition { replicas, adding, removing, ..old.clone() }
}

/// Takes members and the leader from those that are replicas no longer. Refused where fewer of the others have everything
/// that was acknowledged than `min.insync.replicas` promises, unless there were no more before.
fn with_members(
    state: &Cluster,
    id: TopicPartition,
    old: &Partition,
    mut next: Partition,
) -> Result<Revision, ClusterError> {
    next.isr.retain(|member| next.replicas.contains(member));
    next.elr.retain(|member| next.replicas.contains(member));
    let copies = |partition: &Partition| partition.isr.len() + partition.elr.len();
    let promised = state.min_insync(id.topic_id, &next.replicas);
    if copies(&next) < promised.min(copies(old)) {
        let (members, replicas) = (copies(&next), &next.replicas);
        return Err(ClusterError::InvalidReplicaAssignment {
            reason: format!(
                "{id}: of the replicas {replicas:?} only {members} have all that was acknowledged, min.insync.replicas is \
                 {promised}; in sync are {:?}",
                old.isr
            ),
        });
    }
    let leader = old.leader;
    let revision = if old.has_leader() && !next.isr.contains(&leader) {
        elect(state, id, Revision::of(next))
    } else {
        Revision::of(next)
    };
    if old.has_leader() && !revision.next.has_leader() {
        return Err(ClusterError::InvalidReplicaAssignment {
            reason: format!(
                "{id}: of the replicas {:?} none is in sync and can lead; in sync are {:?}",
                revision.next.replicas, old.isr
            ),
        });
    }
    Ok(revision)
}

fn check_target(state: &Cluster, id: TopicPartition, target: &[NodeId]) -> Result<(), ClusterError> {
    let refused = |reason: String| Err(ClusterError::InvalidReplicaAssignment { reason });
    if target.is_empty() {
        return refused(format!("{id}: the list of replicas is empty"));
    }
    for (i, broker) in target.iter().enumerate() {
        if target[..i].contains(broker) {
            return refused(format!("{id}: the replicas {target:?} name broker {broker} twice"));
        }
        if state.broker(*broker).is_none() {
            return refused(format!("{id}: of the replicas {target:?}, broker {broker} is not registered"));
        }
    }
    Ok(())
}

fn check_factor(id: TopicPartition, old: &Partition, target: &[NodeId], keep: bool) -> Result<(), ClusterError> {
    let current = old.target_replicas().len();
    if !keep || target.len() == current {
        return Ok(());
    }
    Err(ClusterError::InvalidReplicationFactor {
        reason: format!("{id} has {current} replicas, {} were given, and the number shall not change", target.len()),
    })
}
