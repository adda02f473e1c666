//! Elections on request (KIP-460): back to the preferred leader, or an unclean one where nobody can lead without loss.

use model::TopicPartition;

use super::draft::Draft;
use super::election::{Revision, elect_unclean, revise};
use super::{Cluster, ClusterError, ElectionKind, Partition, Reply};

/// Elects leaders of the given partitions, or of all that need one.
pub(super) fn elect_leaders(
    draft: &mut Draft,
    kind: ElectionKind,
    partitions: Option<&[TopicPartition]>,
) -> Vec<(TopicPartition, Result<(), ClusterError>)> {
    if let Some(partitions) = partitions {
        return partitions.iter().map(|id| (*id, elect_one(draft, kind, *id))).collect();
    }
    let is_needed = |(id, partition): (TopicPartition, &Partition)| needed(kind, id, partition).is_ok().then_some(id);
    let needy: Vec<TopicPartition> = draft.state.partitions().filter_map(is_needed).collect();
    needy.into_iter().map(|id| (id, elect_one(draft, kind, id))).collect()
}

/// Returns leaderships to preferred leaders, where those can lead.
pub(super) fn balance(draft: &mut Draft, at_most: usize) -> Reply {
    let can_move = |(id, partition): &(TopicPartition, &Partition)| {
        needed(ElectionKind::Preferred, *id, partition).is_ok() && prefer(&draft.state, partition).is_some()
    };
    let found = draft.state.partitions().filter(can_move).map(|(id, _)| id);
    let mut movable: Vec<TopicPartition> = found.take(at_most.saturating_add(1)).collect();
    let is_more_left = movable.len() > at_most;
    movable.truncate(at_most);
    let moved = movable.iter().filter(|id| elect_one(draft, ElectionKind::Preferred, **id).is_ok()).count();
    Reply::LeadersBalanced { moved, is_more_left }
}

fn elect_one(draft: &mut Draft, kind: ElectionKind, id: TopicPartition) -> Result<(), ClusterError> {
    let old = draft.state.partition(id).ok_or(ClusterError::UnknownPartition { partition: id })?;
    needed(kind, id, old)?;
    let revision = match kind {
        ElectionKind::Preferred => prefer(&draft.state, old)
            .ok_or(ClusterError::PreferredLeaderNotAvailable { partition: id, broker_id: old.preferred_leader() })?,
        ElectionKind::Unclean => elect_unclean(&draft.state, Revision::of(old.clone()))
            .ok_or(ClusterError::EligibleLeadersNotAvailable { partition: id })?,
    };
    if let Some(partition) = revise(&draft.state, id, old, revision) {
        draft.put_partition(id, partition);
    }
    Ok(())
}

fn needed(kind: ElectionKind, id: TopicPartition, partition: &Partition) -> Result<(), ClusterError> {
    let is_needed = match kind {
        ElectionKind::Preferred => partition.leader != partition.preferred_leader(),
        ElectionKind::Unclean => !partition.has_leader(),
    };
    if is_needed { Ok(()) } else { Err(ClusterError::ElectionNotNeeded { partition: id, leader: partition.leader }) }
}

/// The partition led by its preferred leader, if that can.
fn prefer(state: &Cluster, old: &Partition) -> Option<Revision> {
    let leader = old.preferred_leader();
    let can_lead = old.isr.contains(&leader) && state.is_active(leader);
    can_lead.then(|| Revision::of(Partition { leader, ..old.clone() }))
}
