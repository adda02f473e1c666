//! Chooses brokers for new partitions: even in leaders, even in replicas, spread over racks.
//!
//! The active brokers are laid in a row that alternates between racks. Partition `p` starts at place `start + p`: that is its
//! leader. Its other replicas are the next in the row, from a distance that grows with every round, so that the followers
//! of one leader spread over all others; brokers of racks that the partition has not used yet come first.
//! Brokers that are fenced or about to stop are taken last, and never as leaders.

use std::collections::BTreeMap;

use model::NodeId;

use super::{Cluster, ClusterError};

/// Where to place, and what.
pub(super) struct Wish {
    /// Number of partitions.
    pub(super) partitions: i32,
    /// Replicas of each.
    pub(super) replication_factor: i16,
    /// Index of the first of them within its topic.
    pub(super) first: i32,
    /// Any number: topics with different ones start at different brokers.
    pub(super) seed: u128,
}

/// Replicas for each wished partition, the preferred leader first.
pub(super) fn place(state: &Cluster, wish: &Wish) -> Result<Vec<Vec<NodeId>>, ClusterError> {
    let active = row(state, true);
    let spare = row(state, false);
    let refused = |reason: String| Err(ClusterError::InvalidReplicationFactor { reason });
    let Ok(wanted) = usize::try_from(wish.replication_factor) else {
        return refused(format!("the replication factor must be at least 1, not {}", wish.replication_factor));
    };
    let registered = active.len() + spare.len();
    if wanted == 0 {
        return refused("the replication factor must be at least 1, not 0".to_owned());
    }
    if wanted > registered {
        return refused(format!("the replication factor {wanted} needs {wanted} brokers, {registered} are registered"));
    }
    if active.is_empty() {
        return refused("all brokers are fenced or about to stop: none could lead".to_owned());
    }
    let start = usize::try_from(wish.seed % active.len() as u128).unwrap_or(0);
    let places =
        (0..wish.partitions).map(|p| start.saturating_add(usize::try_from(wish.first.saturating_add(p)).unwrap_or(0)));
    Ok(places.map(|place| replicas_at(place, wanted, &active, &spare)).collect())
}

/// A broker and its rack; brokers without one share the empty rack.
type Seat<'a> = (NodeId, &'a str);

/// The brokers in turns from every rack, the racks in order.
fn row(state: &Cluster, is_active: bool) -> Vec<Seat<'_>> {
    let mut racks: BTreeMap<&str, Vec<NodeId>> = BTreeMap::new();
    for broker in state.brokers().filter(|broker| broker.is_active() == is_active) {
        racks.entry(broker.rack.as_deref().unwrap_or_default()).or_default().push(broker.id);
    }
    let longest = racks.values().map(Vec::len).max().unwrap_or(0);
    let turns =
        (0..longest).flat_map(|turn| racks.iter().filter_map(move |(rack, ids)| Some((*ids.get(turn)?, *rack))));
    turns.collect()
}

fn replicas_at(place: usize, wanted: usize, active: &[Seat<'_>], spare: &[Seat<'_>]) -> Vec<NodeId> {
    let count = active.len();
    let leader = active[place % count];
    let others = count - 1;
    let shift = if others == 0 { 0 } else { (place / count) % others };
    let followers = (0..others).map(|i| active[(place % count + 1 + (shift + i) % others) % count]);
    let candidates: Vec<Seat<'_>> = followers.chain(spare.iter().copied()).collect();
    let mut chosen = vec![leader];
    for is_new_rack_needed in [true, false] {
        for seat in &candidates {
            let is_rack_used = chosen.iter().any(|(_, rack)| *rack == seat.1);
            if chosen.len() < wanted && !chosen.contains(seat) && !(is_new_rack_needed && is_rack_used) {
                chosen.push(*seat);
            }
        }
    }
    chosen.into_iter().map(|(id, _)| id).collect()
}
