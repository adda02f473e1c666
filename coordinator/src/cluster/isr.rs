//! A leader changes the ISRs of its partitions (KIP-497), and names the process of each member (KIP-903).

use model::{LeaderEpoch, NodeId, TopicPartition};

use super::draft::Draft;
use super::election::{Revision, revise};
use super::{AlteredPartition, BrokerRef, Cluster, ClusterError, IsrChange, Partition};

/// A leader's word for the broker epoch of a replica that has not fetched from it yet.
const UNKNOWN_BROKER_EPOCH: i64 = -1;

/// A leader changes the ISR of one partition.
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
    let old = old.clone();
    let revision = Revision::of(Partition { isr, ..old.clone() });
    match revise(&draft.state, id, &old, revision) {
        None => Ok(AlteredPartition { id, partition: old }),
        Some(partition) => {
            draft.put_partition(id, partition.clone());
            Ok(AlteredPartition { id, partition })
        }
    }
}

/// Only the leader of the newest term changes its partition.
pub(super) fn check_term(
    id: TopicPartition,
    old: &Partition,
    broker_id: NodeId,
    given: LeaderEpoch,
) -> Result<(), ClusterError> {
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
        Some(format!("its fetches carried broker epoch {broker_epoch}, it registered again with {}", broker.epoch))
    } else {
        None
    }
}
