//! Who leads which partition, and who is in sync (D4). Unclean election does not exist: a partition whose in-sync
//! replicas are all gone waits for one of them.

use model::{LeaderEpoch, NodeId, TopicPartition};

use super::draft::Draft;
use super::{AlteredPartition, BrokerRef, Cluster, ClusterError, IsrChange, NO_LEADER, Partition, Record};

/// A leader's word for the broker epoch of a replica that has not fetched from it yet.
const UNKNOWN_BROKER_EPOCH: i64 = -1;

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

/// A broker is about to stop: it leaves the ISRs in which another can lead, and leads only where none can.
pub(super) fn hand_over(draft: &mut Draft, broker: NodeId) {
    change_where(draft, broker, |state, old| {
        let others = without(&old.isr, broker);
        match elect(state, &old.replicas, &others) {
            NO_LEADER => (old.isr.clone(), old.leader, false),
            _ if old.leader != broker => (others, old.leader, false),
            leader => (others, leader, true),
        }
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
    let isr: Vec<NodeId> = change.isr.iter().map(|member| member.broker_id).collect();
    check_isr(&draft.state, id, old, &change.isr)?;
    let old_epoch = old.partition_epoch;
    let mut partition = old.clone();
    if isr != old.isr {
        partition.isr = isr;
        partition.partition_epoch = old_epoch.saturating_add(1);
        draft.push(Record::PartitionSet { id, partition: partition.clone() });
    }
    Ok(AlteredPartition { id, partition })
}

/// The first replica, in order of preference, that is in sync and can lead.
pub(super) fn elect(state: &Cluster, replicas: &[NodeId], isr: &[NodeId]) -> NodeId {
    replicas.iter().copied().find(|id| isr.contains(id) && state.is_active(*id)).unwrap_or(NO_LEADER)
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

fn check_isr(state: &Cluster, id: TopicPartition, old: &Partition, isr: &[BrokerRef]) -> Result<(), ClusterError> {
    let members: Vec<NodeId> = isr.iter().map(|member| member.broker_id).collect();
    if !members.contains(&old.leader) {
        return Err(ClusterError::InvalidRequest {
            reason: format!("the ISR {members:?} of {id} lacks the leader {}", old.leader),
        });
    }
    for (i, member) in isr.iter().enumerate() {
        if members[..i].contains(&member.broker_id) {
            return Err(ClusterError::InvalidRequest {
                reason: format!("the ISR {members:?} of {id} names {} twice", member.broker_id),
            });
        }
        if let Some(reason) = ineligible(state, old, *member) {
            return Err(ClusterError::IneligibleReplica { partition: id, broker_id: member.broker_id, reason });
        }
    }
    Ok(())
}

/// Why a broker cannot be in the ISR that a leader wants.
fn ineligible(state: &Cluster, old: &Partition, member: BrokerRef) -> Option<String> {
    let BrokerRef { broker_id, broker_epoch } = member;
    if !old.replicas.contains(&broker_id) {
        return Some("it is not a replica".to_owned());
    }
    let Some(broker) = state.broker(broker_id) else { return Some("it is not registered".to_owned()) };
    let is_member = old.isr.contains(&broker_id);
    if broker.is_fenced {
        Some("it is fenced".to_owned())
    } else if broker.is_shutting_down && !is_member {
        Some("it is about to stop".to_owned())
    } else if broker.epoch != broker_epoch && !(is_member && broker_epoch == UNKNOWN_BROKER_EPOCH) {
        Some(format!("its fetches carried broker epoch {broker_epoch}, it registered anew with {}", broker.epoch))
    } else {
        None
    }
}
