//! What a leader knows of its followers in one leader epoch, and what follows for the high watermark and the ISR (D4).
//!
//! Pure: time and offsets come as arguments. A follower tells how far it is by the offset that it fetches from, which is
//! what it has flushed.
//!
//! Invariants: the high watermark counts every member of the ISR and every member that may be in it already, because the
//! leader asked for it and the answer is open; it does not move while the ISR is smaller than `min.insync.replicas`
//! (KIP-966), so that whoever left such an ISR still has everything that was committed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hot_tier::replication;
use model::{NodeId, Offset};

use super::Leadership;

/// What a follower told with a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FollowerFetch {
    /// Who fetches.
    pub(crate) node_id: NodeId,
    /// Its broker epoch, or −1 when it told none.
    pub(crate) broker_epoch: i64,
    /// The first offset that it has not flushed.
    pub(crate) offset: Offset,
    /// The first offset that it would show to readers.
    pub(crate) log_start: Offset,
}

/// How far a follower is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Follower {
    broker_epoch: i64,
    /// The first offset that it has not flushed; none before its first fetch of this epoch.
    end: Option<Offset>,
    /// The first offset that it would show to readers; the lowest number before its first fetch of this epoch.
    log_start: Offset,
    /// The last time at which it had everything that the leader had.
    caught_up_at: Instant,
    /// When it fetched last, and where the leader's log ended then.
    fetched: (Instant, Offset),
}

/// An ISR that the leader asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedIsr {
    /// The ISR that is valid.
    pub(crate) old: Vec<NodeId>,
    /// The wanted one.
    pub(crate) isr: Vec<NodeId>,
    /// The partition epoch that it replaces.
    pub(crate) replaces: i32,
}

/// What became of asking for an ISR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The cluster has taken it, or has something newer: the next image tells.
    Answered,
    /// The cluster has refused it.
    Refused,
    /// It may be valid, or become so.
    Open,
}

/// A wanted ISR that may be valid already.
#[derive(Debug)]
struct Pending {
    wanted: WantedIsr,
    /// When it was asked for and no certain answer came.
    open_since: Option<Instant>,
    /// True while an answer is awaited.
    is_asked: bool,
}

/// How long a producer may take to send again what was refused: librdkafka waits as long for an answer that does not come.
const TRIED_AGAIN_WITHIN: Duration = Duration::from_secs(60);
/// How long after an attempt without an answer a refusal of the next one says nothing of the first: it may still be on
/// its way.
const OPEN_FOR: Duration = Duration::from_secs(20);

/// A leader's book on its followers, for one leader epoch.
#[derive(Debug)]
pub(super) struct Leading {
    node_id: NodeId,
    /// Where the log ended when the epoch began.
    epoch_start: Offset,
    partition_epoch: i32,
    isr: Vec<NodeId>,
    pending: Option<Pending>,
    followers: BTreeMap<NodeId, Follower>,
    /// Whether the log continues the archive is not known yet.
    is_lineage_open: bool,
    /// When a producer may have been refused last: the leader before is refused as well whatever is still on its way to it.
    refused_at: Option<Instant>,
}

impl Leading {
    /// An epoch begins at `now`; the log ends at `epoch_start`.
    pub(super) fn new(node_id: NodeId, leadership: &Leadership, epoch_start: Offset, now: Instant) -> Self {
        let mut leading = Leading {
            node_id,
            epoch_start,
            partition_epoch: leadership.partition_epoch,
            isr: Vec::new(),
            pending: None,
            followers: BTreeMap::new(),
            is_lineage_open: false,
            // Nobody has led before the first epoch.
            refused_at: (leadership.leader_epoch > 0).then_some(now),
        };
        leading.follow(leadership, now);
        leading
    }

    /// The same while it is not known whether the log continues the archive: nothing is committed and no follower admitted.
    pub(super) fn with_open_lineage(self) -> Self {
        Leading { is_lineage_open: true, ..self }
    }

    /// True until it is known that the log continues the archive.
    pub(super) fn is_lineage_open(&self) -> bool {
        self.is_lineage_open
    }

    /// A producer is refused what it may try again.
    pub(super) fn refuse(&mut self, now: Instant) {
        self.refused_at = Some(now);
    }

    /// True when requests may still come that a producer has sent before those that are here.
    pub(super) fn may_lack_requests(&self, now: Instant) -> bool {
        self.refused_at.is_some_and(|at| now.saturating_duration_since(at) < TRIED_AGAIN_WITHIN)
    }

    /// Takes over what the cluster says of the same epoch. It ends what was pending: either it is valid now, or it never
    /// will be.
    pub(super) fn follow(&mut self, leadership: &Leadership, now: Instant) {
        self.isr.clone_from(&leadership.isr);
        if leadership.partition_epoch > self.partition_epoch {
            self.pending = None;
        }
        self.partition_epoch = leadership.partition_epoch;
        self.followers.retain(|id, _| leadership.replicas.contains(id));
        for id in leadership.replicas.iter().filter(|id| **id != self.node_id) {
            // A member of the ISR has the whole patience of `replica.lag.time.max.ms` to fetch for the first time.
            self.followers.entry(*id).or_insert(Follower {
                broker_epoch: -1,
                end: None,
                log_start: Offset::MIN,
                caught_up_at: now,
                fetched: (now, self.epoch_start),
            });
        }
    }

    /// Where the log ended when the epoch began.
    pub(super) fn epoch_start(&self) -> Offset {
        self.epoch_start
    }

    /// How many replicas are certainly in sync, the leader included.
    pub(super) fn in_sync(&self) -> usize {
        self.isr.len()
    }

    /// The first offset that a follower has not flushed, once it has fetched in this epoch.
    pub(super) fn follower_end(&self, id: NodeId) -> Option<Offset> {
        self.followers.get(&id).and_then(|follower| follower.end)
    }

    /// Replicas besides this one.
    pub(super) fn has_followers(&self) -> bool {
        !self.followers.is_empty()
    }

    /// Whether a node may fetch as a follower: it is a replica, and no newer process of it has fetched.
    pub(super) fn admits(&self, node_id: NodeId, broker_epoch: i64) -> bool {
        let is_current = |f: &Follower| broker_epoch == -1 || broker_epoch >= f.broker_epoch;
        !self.is_lineage_open && self.followers.get(&node_id).is_some_and(is_current)
    }

    /// Takes note of a fetch at `now`, while the log ends at `log_end`.
    pub(super) fn note_fetch(&mut self, fetch: FollowerFetch, log_end: Offset, now: Instant) {
        let Some(follower) = self.followers.get_mut(&fetch.node_id) else { return };
        let (fetched_at, end_then) = follower.fetched;
        if fetch.offset >= log_end {
            follower.caught_up_at = now;
        } else if fetch.offset >= end_then {
            follower.caught_up_at = follower.caught_up_at.max(fetched_at);
        }
        follower.broker_epoch = fetch.broker_epoch;
        follower.end = Some(fetch.offset);
        follower.log_start = fetch.log_start;
        follower.fetched = (now, log_end);
    }

    /// True when the ISR lacks a follower that has all that it needs to join.
    pub(super) fn could_join(&self, id: NodeId, high_watermark: Offset) -> bool {
        let needed = high_watermark.max(self.epoch_start);
        let has_all = |follower: &Follower| follower.end.is_some_and(|end| end >= needed);
        !self.isr.contains(&id) && self.followers.get(&id).is_some_and(has_all)
    }

    /// What is committed, when this node has flushed up to `flushed_end` and `current` was committed before.
    pub(super) fn high_watermark(&self, current: Offset, flushed_end: Offset, min_in_sync: u32) -> Offset {
        if self.is_under_min_isr(min_in_sync) || self.is_lineage_open {
            return current;
        }
        // Whoever has not fetched in this epoch may be anywhere: nothing new is committed without it.
        let ends = self
            .followers
            .iter()
            .filter(|(id, _)| self.counts(**id))
            .map(|(_, follower)| follower.end.unwrap_or(current));
        replication::high_watermark(current, flushed_end, ends)
    }

    /// The lowest log start of the in-sync replicas, of which this node's is `own`.
    pub(super) fn low_watermark(&self, own: Offset) -> Offset {
        let starts = self.followers.iter().filter(|(id, _)| self.counts(**id)).map(|(_, follower)| follower.log_start);
        starts.fold(own, Offset::min)
    }

    /// True for a member of the ISR, and for one that may be a member.
    fn counts(&self, id: NodeId) -> bool {
        self.isr.contains(&id) || self.pending.as_ref().is_some_and(|pending| pending.wanted.isr.contains(&id))
    }

    /// True when too few replicas are in sync to commit anything. A topic never wants more of them than it has replicas.
    pub(super) fn is_under_min_isr(&self, min_in_sync: u32) -> bool {
        self.isr.len() < self.effective_min(min_in_sync)
    }

    fn effective_min(&self, min_in_sync: u32) -> usize {
        usize::try_from(min_in_sync).unwrap_or(usize::MAX).min(self.followers.len() + 1)
    }

    /// The ISR to ask for at `now`, unless an answer is awaited or nothing should change: without the members that are not
    /// alive or have not caught up for `max_lag`, with the others that have what is committed and what the epoch began with.
    /// `is_alive` tells which nodes the cluster would have in an ISR, by id and by the broker epoch of their fetches.
    ///
    /// It counts as possibly valid from now on.
    pub(super) fn want_isr(
        &mut self,
        high_watermark: Offset,
        max_lag: Duration,
        now: Instant,
        is_alive: impl Fn(NodeId, Option<i64>) -> bool,
    ) -> Option<WantedIsr> {
        if let Some(pending) = &mut self.pending {
            // What has no certain answer is asked again, as it was: one of both at most becomes valid.
            let again = !std::mem::replace(&mut pending.is_asked, true);
            return again.then(|| pending.wanted.clone());
        }
        let in_time = |f: &Follower| now.saturating_duration_since(f.caught_up_at) <= max_lag;
        let stays =
            |id: &NodeId| *id == self.node_id || (is_alive(*id, None) && self.followers.get(id).is_some_and(in_time));
        let mut isr: Vec<NodeId> = self.isr.iter().copied().filter(stays).collect();
        let joins = |(id, follower): (&NodeId, &Follower)| {
            // Who stands still with all that it needs would leave again at once.
            let joins =
                self.could_join(*id, high_watermark) && in_time(follower) && is_alive(*id, Some(follower.broker_epoch));
            joins.then_some(*id)
        };
        isr.extend(self.followers.iter().filter_map(joins));
        if isr == self.isr {
            return None;
        }
        let wanted = WantedIsr { old: self.isr.clone(), isr, replaces: self.partition_epoch };
        self.pending = Some(Pending { wanted: wanted.clone(), open_since: None, is_asked: true });
        Some(wanted)
    }

    /// What became at `now` of asking for `wanted`.
    pub(super) fn asked(&mut self, wanted: &WantedIsr, outcome: Asked, now: Instant) {
        let Some(pending) = self.pending.as_mut().filter(|pending| pending.wanted == *wanted) else { return };
        pending.is_asked = false;
        match outcome {
            Asked::Open => {
                pending.open_since = Some(now);
            }
            Asked::Refused
                if pending.open_since.is_some_and(|since| now.saturating_duration_since(since) < OPEN_FOR) => {}
            Asked::Answered | Asked::Refused => self.pending = None,
        }
    }

    /// The broker epoch under which a follower fetched last; −1 before its first fetch.
    pub(super) fn broker_epoch(&self, id: NodeId) -> i64 {
        self.followers.get(&id).map_or(-1, |follower| follower.broker_epoch)
    }
}

#[cfg(test)]
mod tests;
