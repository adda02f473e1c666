//! Plans which replicas move: off a broker that leaves, or until brokers and racks are even. Pure, and apart from the
//! cluster's state: the caller gives sites and layout, checks the plan, and asks for the reassignments.
//!
//! Plans move as little as they can. A replica moves to the broker with the fewest, among racks that the partition does not
//! use yet if there are such. Replicas are counted, not weighed: a partition is a partition.

use std::collections::{BTreeMap, BTreeSet};

use model::NodeId;

/// A broker as a place for replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Its id.
    pub id: NodeId,
    /// Its rack; brokers without one share the empty rack.
    pub rack: String,
    /// Whether it may be given replicas: it is alive and stays.
    pub takes_replicas: bool,
}

/// Replicas of partitions, the preferred leader first.
pub type Layout<K> = BTreeMap<K, Vec<NodeId>>;

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Too few brokers would be left.
    #[error("a partition has {replicas} replicas, and without broker {leaving} only {left} brokers could keep them")]
    TooFewBrokers {
        /// The broker that was to leave.
        leaving: NodeId,
        /// Replicas of the partition.
        replicas: usize,
        /// Brokers that could keep them.
        left: usize,
    },
}

/// The partitions that have to change so that `leaving` keeps nothing, with their new replicas.
///
/// # Errors
/// [`PlanError::TooFewBrokers`]: nothing can move.
pub fn decommission<K: Ord + Clone>(
    sites: &[Site],
    layout: &Layout<K>,
    leaving: NodeId,
) -> Result<Layout<K>, PlanError> {
    let others: Vec<Site> = sites.iter().filter(|site| site.id != leaving).cloned().collect();
    let mut plan = Plan::new(&others, layout);
    for (key, replicas) in layout.iter().filter(|(_, replicas)| replicas.contains(&leaving)) {
        let Some(target) = plan.best_target(replicas, leaving) else {
            let left = others.iter().filter(|site| site.takes_replicas || replicas.contains(&site.id)).count();
            return Err(PlanError::TooFewBrokers { leaving, replicas: replicas.len(), left });
        };
        plan.replace(key, leaving, target);
        if replicas.first() == Some(&leaving) {
            plan.prefer_least_leading(key);
        }
    }
    Ok(plan.changes(layout))
}

/// The partitions that have to change so that replicas are spread over racks, and brokers have alike numbers of replicas
/// and of preferred leaderships. Empty when all is even, or as even as single moves can make it.
#[must_use]
pub fn rebalance<K: Ord + Clone>(sites: &[Site], layout: &Layout<K>) -> Layout<K> {
    let mut plan = Plan::new(sites, layout);
    plan.spread_over_racks();
    plan.even_out_replicas();
    plan.even_out_leaders();
    plan.changes(layout)
}

/// The partitions that have to change so that each has `factor` replicas. What is added goes where fewest are, to racks that
/// the partition does not use yet first; what is taken away shares its rack, or is on the broker with the most. The preferred
/// leader stays.
///
/// # Errors
/// The number of brokers that could keep replicas, when that is less than `factor`.
pub fn resize<K: Ord + Clone>(sites: &[Site], layout: &Layout<K>, factor: usize) -> Result<Layout<K>, usize> {
    let mut plan = Plan::new(sites, layout);
    for key in layout.keys() {
        while plan.layout[key].len() < factor {
            let target = plan.best_target(&plan.layout[key], NO_BROKER);
            plan.add(key, target.ok_or(plan.layout[key].len())?);
        }
        while plan.layout[key].len() > factor.max(1) {
            plan.drop_one(key);
        }
    }
    Ok(plan.changes(layout))
}

/// No broker.
const NO_BROKER: NodeId = -1;

/// A layout in the making, and the same by broker.
struct Plan<'a, K> {
    sites: BTreeMap<NodeId, &'a Site>,
    layout: Layout<K>,
    keeps: BTreeMap<NodeId, BTreeSet<K>>,
    prefers: BTreeMap<NodeId, BTreeSet<K>>,
}

impl<'a, K: Ord + Clone> Plan<'a, K> {
    fn new(sites: &'a [Site], layout: &Layout<K>) -> Self {
        let mut plan = Plan {
            sites: sites.iter().map(|site| (site.id, site)).collect(),
            layout: layout.clone(),
            keeps: BTreeMap::new(),
            prefers: BTreeMap::new(),
        };
        for (key, replicas) in layout {
            for id in replicas {
                plan.keeps.entry(*id).or_default().insert(key.clone());
            }
            if let Some(leader) = replicas.first() {
                plan.prefers.entry(*leader).or_default().insert(key.clone());
            }
        }
        plan
    }

    fn changes(self, before: &Layout<K>) -> Layout<K> {
        self.layout.into_iter().filter(|(key, replicas)| before.get(key) != Some(replicas)).collect()
    }

    fn load(&self, id: NodeId) -> usize {
        self.keeps.get(&id).map_or(0, BTreeSet::len)
    }

    fn leads(&self, id: NodeId) -> usize {
        self.prefers.get(&id).map_or(0, BTreeSet::len)
    }

    fn rack(&self, id: NodeId) -> &str {
        self.sites.get(&id).map_or("", |site| site.rack.as_str())
    }

    fn racks(&self, replicas: &[NodeId]) -> BTreeSet<&str> {
        replicas.iter().filter(|id| self.sites.contains_key(id)).map(|id| self.rack(*id)).collect()
    }

    /// The brokers that may be given replicas.
    fn takers(&self) -> Vec<NodeId> {
        self.sites.values().filter(|site| site.takes_replicas).map(|site| site.id).collect()
    }

    /// Where a replica on `from` goes: a rack that the others do not use, then the broker with the fewest replicas.
    fn best_target(&self, replicas: &[NodeId], from: NodeId) -> Option<NodeId> {
        let staying: Vec<NodeId> = replicas.iter().copied().filter(|id| *id != from).collect();
        let used = self.racks(&staying);
        let candidates = self.takers().into_iter().filter(|id| !replicas.contains(id));
        candidates.min_by_key(|id| (used.contains(self.rack(*id)), self.load(*id), *id))
    }

    fn replace(&mut self, key: &K, from: NodeId, to: NodeId) {
        let Some(replicas) = self.layout.get_mut(key) else { return };
        let Some(place) = replicas.iter().position(|id| *id == from) else { return };
        replicas[place] = to;
        shift(&mut self.keeps, key, from, to);
        if place == 0 {
            shift(&mut self.prefers, key, from, to);
        }
    }

    fn add(&mut self, key: &K, to: NodeId) {
        if let Some(replicas) = self.layout.get_mut(key) {
            replicas.push(to);
            self.keeps.entry(to).or_default().insert(key.clone());
        }
    }

    /// Takes away one replica, never the preferred leader.
    fn drop_one(&mut self, key: &K) {
        let replicas = &self.layout[key];
        let is_crowded = |id: NodeId| replicas.iter().filter(|other| self.rack(**other) == self.rack(id)).count() > 1;
        let dropped = replicas.iter().skip(1).copied().max_by_key(|id| (is_crowded(*id), self.load(*id), *id));
        if let (Some(dropped), Some(replicas)) = (dropped, self.layout.get_mut(key)) {
            replicas.retain(|id| *id != dropped);
            self.keeps.entry(dropped).or_default().remove(key);
        }
    }

    /// Makes the replica the preferred leader that is preferred least often.
    fn prefer_least_leading(&mut self, key: &K) {
        let Some(replicas) = self.layout.get(key) else { return };
        let Some(old) = replicas.first().copied() else { return };
        // The present leader's place counts as given up.
        let leads = |id: NodeId| self.leads(id) - usize::from(id == old);
        let best = replicas.iter().copied().min_by_key(|id| leads(*id)).unwrap_or(old);
        self.prefer(key, best);
    }

    fn prefer(&mut self, key: &K, leader: NodeId) {
        let Some(replicas) = self.layout.get_mut(key) else { return };
        let Some(place) = replicas.iter().position(|id| *id == leader) else { return };
        let old = replicas[0];
        replicas.swap(0, place);
        shift(&mut self.prefers, key, old, leader);
    }

    fn spread_over_racks(&mut self) {
        let all: BTreeSet<&str> =
            self.sites.values().filter(|site| site.takes_replicas).map(|site| site.rack.as_str()).collect();
        let keys: Vec<K> = self.layout.keys().cloned().collect();
        for key in keys {
            // Each step uses one more rack.
            for _ in 0..all.len() {
                let replicas = self.layout[&key].clone();
                let used = self.racks(&replicas);
                if used.len() >= all.len().min(replicas.len()) {
                    break;
                }
                let is_crowded =
                    |id: &NodeId| replicas.iter().filter(|other| self.rack(**other) == self.rack(*id)).count() > 1;
                let crowded = replicas.iter().copied().filter(is_crowded).max_by_key(|id| (self.load(*id), *id));
                let Some(from) = crowded else { break };
                let target = self.best_target(&replicas, from).filter(|to| !used.contains(self.rack(*to)));
                let Some(to) = target else { break };
                self.replace(&key, from, to);
            }
        }
    }

    fn even_out_replicas(&mut self) {
        self.fill_up_replicas();
        // Every step brings two brokers closer together: there cannot be more steps than replicas.
        let steps: usize = self.layout.values().map(Vec::len).sum();
        for _ in 0..steps {
            let Some((key, from, to)) = self.useful_move() else { return };
            self.replace(&key, from, to);
        }
    }

    /// Moves replicas from brokers with more than their share to brokers with less, in one pass over the partitions.
    /// Followers first: moving the preferred leader moves the leadership, too.
    fn fill_up_replicas(&mut self) {
        let takers = self.takers();
        let total: usize = takers.iter().map(|id| self.load(*id)).sum();
        let Some(share) = total.checked_div(takers.len()) else { return };
        let keys: Vec<K> = self.layout.keys().cloned().collect();
        for (skipped, key) in [1, 0].into_iter().flat_map(|skipped| keys.iter().map(move |key| (skipped, key))) {
            let replicas = self.layout[key].clone();
            let is_over = |id: &NodeId| takers.contains(id) && self.load(*id) > share + 1;
            let from = replicas.iter().skip(skipped).copied().filter(is_over).max_by_key(|id| self.load(*id));
            let Some(from) = from else { continue };
            let is_under = |to: &NodeId| self.load(*to) < share && self.may_move(&replicas, from, *to);
            let to = takers.iter().copied().filter(is_under).min_by_key(|id| (self.load(*id), *id));
            if let Some(to) = to {
                self.replace(key, from, to);
            }
        }
    }

    /// A replica that may go from a broker with more to one with at least two fewer.
    fn useful_move(&self) -> Option<(K, NodeId, NodeId)> {
        let nothing = BTreeSet::new();
        let mut takers = self.takers();
        takers.sort_by_key(|id| (self.load(*id), *id));
        for from in takers.iter().rev().copied() {
            let kept = self.keeps.get(&from).unwrap_or(&nothing);
            let preferred = self.prefers.get(&from).unwrap_or(&nothing);
            for to in takers.iter().copied().take_while(|to| self.load(*to) + 1 < self.load(from)) {
                let may_move = |key: &&K| self.may_move(&self.layout[*key], from, to);
                let follower = kept.difference(preferred).find(may_move);
                if let Some(key) = follower.or_else(|| preferred.iter().find(may_move)) {
                    return Some((key.clone(), from, to));
                }
            }
        }
        None
    }

    fn may_move(&self, replicas: &[NodeId], from: NodeId, to: NodeId) -> bool {
        if !replicas.contains(&from) || replicas.contains(&to) {
            return false;
        }
        if self.rack(from) == self.rack(to) {
            return true;
        }
        let after: Vec<NodeId> = replicas.iter().map(|id| if *id == from { to } else { *id }).collect();
        self.racks(&after).len() >= self.racks(replicas).len()
    }

    fn even_out_leaders(&mut self) {
        self.fill_up_leaders();
        let steps = self.layout.len();
        for _ in 0..steps {
            let Some((key, to)) = self.useful_swap() else { return };
            self.prefer(&key, to);
        }
    }

    /// Moves preferred leaderships from brokers with more than their share to replicas with less, in one pass.
    fn fill_up_leaders(&mut self) {
        let takers = self.takers();
        let total: usize = takers.iter().map(|id| self.leads(*id)).sum();
        let Some(share) = total.checked_div(takers.len()) else { return };
        let keys: Vec<K> = self.layout.keys().cloned().collect();
        for key in keys {
            let Some((leader, others)) = self.layout[&key].split_first() else { continue };
            if self.leads(*leader) <= share + 1 {
                continue;
            }
            let is_under = |to: &NodeId| takers.contains(to) && self.leads(*to) < share;
            let to = others.iter().copied().filter(is_under).min_by_key(|id| (self.leads(*id), *id));
            if let Some(to) = to {
                self.prefer(&key, to);
            }
        }
    }

    /// A partition whose preferred leadership may go to a replica that has at least two fewer.
    fn useful_swap(&self) -> Option<(K, NodeId)> {
        let mut takers = self.takers();
        takers.sort_by_key(|id| (self.leads(*id), *id));
        let mut leaders: Vec<NodeId> = self.prefers.keys().copied().collect();
        leaders.sort_by_key(|id| (self.leads(*id), *id));
        for leader in leaders.into_iter().rev() {
            for to in takers.iter().copied().take_while(|to| self.leads(*to) + 1 < self.leads(leader)) {
                let found = self.prefers[&leader].iter().find(|key| self.layout[*key].contains(&to));
                if let Some(key) = found {
                    return Some((key.clone(), to));
                }
            }
        }
        None
    }
}

fn shift<K: Ord + Clone>(index: &mut BTreeMap<NodeId, BTreeSet<K>>, key: &K, from: NodeId, to: NodeId) {
    if let Some(keys) = index.get_mut(&from) {
        keys.remove(key);
    }
    index.entry(to).or_default().insert(key.clone());
}

#[cfg(test)]
mod tests;
