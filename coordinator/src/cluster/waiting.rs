//! Partitions that were made while there were too few brokers get their other replicas when there are enough.
//!
//! A partition says how many replicas it waits for ([`Partition::wanted_replicas`]). That is forgotten when the reassignment begins that
//! adds them, and when a reassignment by hand decides otherwise: it is never undone.

use std::collections::BTreeMap;

use model::{NodeId, TopicId, TopicPartition};

use super::draft::Draft;
use super::placement::{Wish, place};
use super::{Cluster, Partition, Reply, reassignment};

impl Cluster {
    /// The partitions that wait for replicas which they can have now.
    pub fn ready_for_replicas(&self) -> impl Iterator<Item = (TopicPartition, &Partition)> {
        let active = self.brokers().filter(|broker| broker.is_active()).count();
        let is_ready = move |partition: &Partition| {
            let is_possible = partition.wanted_replicas.is_some_and(|wanted| wanted <= active);
            is_possible && partition.has_leader() && !partition.is_reassigning()
        };
        self.partitions().filter(move |(_, partition)| is_ready(partition))
    }
}

/// Starts to add replicas, as long as no more than `at_most` partitions of the cluster are being reassigned.
pub(super) fn add_replicas(draft: &mut Draft, at_most: usize) -> Reply {
    let room = at_most.saturating_sub(draft.state.reassignments().count());
    let ready: Vec<(TopicPartition, usize)> = draft
        .state
        .ready_for_replicas()
        .filter_map(|(id, partition)| Some((id, partition.wanted_replicas?)))
        .take(room)
        .collect();
    let mut placed: BTreeMap<(TopicId, usize), Vec<Vec<NodeId>>> = BTreeMap::new();
    let mut partitions = 0;
    for (id, wanted) in ready {
        let places = placed.entry((id.topic_id, wanted)).or_insert_with(|| places(&draft.state, id.topic_id, wanted));
        let place = usize::try_from(id.partition).ok().and_then(|index| places.get(index));
        let Some((place, old)) = place.zip(draft.state.partition(id)) else { continue };
        let target = with_present(place, &old.target_replicas());
        partitions += usize::from(reassignment::begin(draft, id, &target).is_ok());
    }
    Reply::ReplicasAdded { partitions }
}

/// Where the topic's partitions would be if it were made now.
fn places(state: &Cluster, topic_id: TopicId, wanted: usize) -> Vec<Vec<NodeId>> {
    let partitions = state.topic_by_id(topic_id).map_or(0, |topic| topic.partitions);
    let replication_factor = i16::try_from(wanted).unwrap_or(i16::MAX);
    place(state, &Wish { partitions, replication_factor, first: 0, seed: topic_id.0.as_u128() }).unwrap_or_default()
}

/// The place with all present replicas in it, instead of the last of the new ones.
fn with_present(place: &[NodeId], present: &[NodeId]) -> Vec<NodeId> {
    let missing: Vec<NodeId> = present.iter().copied().filter(|id| !place.contains(id)).collect();
    let new = place.iter().rev().filter(|id| !present.contains(id));
    let left_out: Vec<NodeId> = new.take(missing.len()).copied().collect();
    place.iter().copied().filter(|id| !left_out.contains(id)).chain(missing).collect()
}
