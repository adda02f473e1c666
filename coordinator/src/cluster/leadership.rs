//! Who leads which partition, and who is in sync (D4). Unclean election does not exist: a partition whose in-sync
//! replicas are all gone waits for one of them.

use model::{LeaderEpoch, NodeId, TopicPartition};

use super::draft::Draft;
use super::{AlteredPartition, Cluster, ClusterError, IsrChange, NO_LEADER, Partition, Record};

/// A new process of a broker: it leaves the ISRs that have other members, and leads nothing under an old epoch.
pub(super) fn restart(draft: &mut Draft, broker: NodeId) {
    change_where(draft, broker, |state, old| {
        let isr = without(&old.isr, broker);
        let leader =
            if old.leader == broker || !old.has_leader() { elect(state, &old.replicas, &isr) } else { old.leader };
        let is_new_term = leader != old.leader || old.leader == broker;
        (isr, leader, is_new_term)
    });
}

/// A broker is lost: others take over what it led, where others are in sync.
pub(super) fn leave(draft: &mut Draft, broker: NodeId) {
    change_where(draft, broker, |state, old| {
        let isr = without(&old.isr, broker);
        let leader = if old.leader == broker { elect(state, &old.replicas, &isr) } else { old.leader };
        (isr, leader, leader != old.leader)
    });
}

/// A broker is ready: it leads what has no leader and counts it as in sync.
pub(super) fn take_orphans(draft: &mut Draft, broker: NodeId) {
    change_where(draft, broker, |state, old| {
        let leader = if old.has_leader() { old.leader } else { elect(state, &old.replicas, &old.isr) };
        (old.isr.clone(), leader, leader != old.leader)
    });
}

/// A leader changes the ISR of one partition (KIP-497).
pub(super) fn alter(
    draft: &mut Draft,
    broker_id: NodeId,
    change: &IsrChange,
) -> Result<AlteredPartition, ClusterError> {
    let id = change.partition;
    if draft.state.topic_by_id(id.topic_id).is_none() {
        return Err(ClusterError::UnknownTopicId { id: id.topic_id });
    }
    let old = draft.state.partition(id).ok_or(ClusterError::UnknownPartition { partition: id })?;
    check_term(id, old, broker_id, change.leader_epoch)?;
    if change.partition_epoch != old.partition_epoch {
        let (given, current) = (change.partition_epoch, old.partition_epoch);
        return Err(ClusterError::InvalidUpdateVersion { partition: id, given, current });
    }
    check_isr(&draft.state, id, old, &change.isr)?;
    let old_epoch = old.partition_epoch;
    let mut partition = old.clone();
    if change.isr != old.isr {
        partition.isr.clone_from(&change.isr);
        partition.partition_epoch = old_epoch.saturating_add(1);
        draft.push(Record::PartitionSet { id, partition: partition.clone() });
    }
    Ok(AlteredPartition { id, partition })
}

/// The first replica, in order of preference, that is in sync and alive.
pub(super) fn elect(state: &Cluster, replicas: &[NodeId], isr: &[NodeId]) -> NodeId {
    replicas.iter().copied().find(|id| isr.contains(id) && state.is_alive(*id)).unwrap_or(NO_LEADER)
}

/// Applies `change`: state, old partition → (ISR, leader, is it a new term?) to the partitions that `broker` is in sync with.
fn change_where(
    draft: &mut Draft,
    broker: NodeId,
    change: impl Fn(&Cluster, &Partition) -> (Vec<NodeId>, NodeId, bool),
) {
    let mut changed: Vec<(TopicPartition, Partition)> = Vec::new();
    for (id, old) in draft.state.partitions().filter(|(_, old)| old.isr.contains(&broker)) {
        let (isr, leader, is_new_term) = change(&draft.state, old);
        if isr != old.isr || leader != old.leader || is_new_term {
            let leader_epoch = old.leader_epoch.saturating_add(i32::from(is_new_term));
            let partition_epoch = old.partition_epoch.saturating_add(1);
            changed
                .push((id, Partition { replicas: old.replicas.clone(), isr, leader, leader_epoch, partition_epoch }));
        }
    }
    for (id, partition) in changed {
        draft.push(Record::PartitionSet { id, partition });
    }
}

/// The ISR after `broker` left it; its last member stays.
fn without(isr: &[NodeId], broker: NodeId) -> Vec<NodeId> {
    if isr.len() == 1 { isr.to_vec() } else { isr.iter().copied().filter(|id| *id != broker).collect() }
}

fn check_term(id: TopicPartition, old: &Partition, broker_id: NodeId, given: LeaderEpoch) -> Result<(), ClusterError> {
    let current = old.leader_epoch;
    if given < current {
        return Err(ClusterError::FencedLeaderEpoch { partition: id, given, current });
    }
    if given > current {
        return Err(ClusterError::UnknownLeaderEpoch { partition: id, given, current });
    }
    if broker_id != old.leader {
        return Err(ClusterError::NotLeader { partition: id, broker_id, leader: old.leader });
    }
    Ok(())
}

fn check_isr(state: &Cluster, id: TopicPartition, old: &Partition, isr: &[NodeId]) -> Result<(), ClusterError> {
    if !isr.contains(&old.leader) {
        return Err(ClusterError::InvalidRequest {
            reason: format!("the ISR {isr:?} of {id} lacks the leader {}", old.leader),
        });
    }
    for (i, &broker_id) in isr.iter().enumerate() {
        let ineligible =
            |reason: &str| Err(ClusterError::IneligibleReplica { partition: id, broker_id, reason: reason.to_owned() });
        if isr[..i].contains(&broker_id) {
            return Err(ClusterError::InvalidRequest {
                reason: format!("the ISR {isr:?} of {id} names {broker_id} twice"),
            });
        }
        if !old.replicas.contains(&broker_id) {
            return ineligible("it is not a replica");
        }
        if !state.is_alive(broker_id) {
            return ineligible("it is fenced or not registered");
        }
    }
    Ok(())
}
