//! What a leader knows of its followers in one leader epoch, and what follows for the high watermark and the ISR (D4).
//!
//! Pure: time and offsets come as arguments. A follower tells how far it is by the offset that it fetches from, which is
//! what it has flushed.
//!
//! Invariants: the high watermark counts every member of the ISR and every member that may be in it already, because the
//! leader asked for it and the answer is open; it does not move while the ISR is smaller than `min.insync.replicas`
//! (KIP-966), so that whoever left such an ISR still has everything that was committed.

#![allow(dead_code, reason = "for the fetches of followers")]

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
}

/// How far a follower is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Follower {
    broker_epoch: i64,
    /// The first offset that it has not flushed; none before its first fetch of this epoch.
    end: Option<Offset>,
    /// The last time at which it had everything that the leader had.
    caught_up_at: Instant,
    /// When it fetched last, and where the leader's log ended then.
    fetched: (Instant, Offset),
}

/// An ISR that the leader has asked for; whether it is valid already is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PendingIsr {
    /// The wanted ISR.
    pub(crate) isr: Vec<NodeId>,
    /// The partition epoch that it replaces.
    pub(crate) replaces: i32,
}

/// A leader's book on its followers, for one leader epoch.
#[derive(Debug)]
pub(super) struct Leading {
    node_id: NodeId,
    /// Where the log ended when the epoch began.
    epoch_start: Offset,
    partition_epoch: i32,
    isr: Vec<NodeId>,
    pending: Option<PendingIsr>,
    followers: BTreeMap<NodeId, Follower>,
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
        };
        leading.follow(leadership, now);
        leading
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

    /// Replicas besides this one.
    pub(super) fn has_followers(&self) -> bool {
        !self.followers.is_empty()
    }

    /// Takes note of a fetch at `now`, while the log ends at `log_end`. `false` for a node that is no replica, or whose
    /// process is older than one that fetched before.
    pub(super) fn note_fetch(&mut self, fetch: FollowerFetch, log_end: Offset, now: Instant) -> bool {
        let Some(follower) = self.followers.get_mut(&fetch.node_id) else { return false };
        if fetch.broker_epoch != -1 && fetch.broker_epoch < follower.broker_epoch {
            return false;
        }
        let (fetched_at, end_then) = follower.fetched;
        if fetch.offset >= log_end {
            follower.caught_up_at = now;
        } else if fetch.offset >= end_then {
            follower.caught_up_at = follower.caught_up_at.max(fetched_at);
        }
        follower.broker_epoch = fetch.broker_epoch;
        follower.end = Some(fetch.offset);
        follower.fetched = (now, log_end);
        true
    }

    /// What is committed, when this node has flushed up to `flushed_end` and `current` was committed before.
    pub(super) fn high_watermark(&self, current: Offset, flushed_end: Offset, min_in_sync: u32) -> Offset {
        if self.is_under_min_isr(min_in_sync) {
            return current;
        }
        let counts = |id: &NodeId| {
            self.isr.contains(id) || self.pending.as_ref().is_some_and(|pending| pending.isr.contains(id))
        };
        // Whoever has not fetched in this epoch may be anywhere: nothing new is committed without it.
        let ends =
            self.followers.iter().filter(|(id, _)| counts(id)).map(|(_, follower)| follower.end.unwrap_or(current));
        replication::high_watermark(current, flushed_end, ends)
    }

    /// True when too few replicas are in sync to commit anything. A topic never wants more of them than it has replicas.
    pub(super) fn is_under_min_isr(&self, min_in_sync: u32) -> bool {
        self.isr.len() < self.effective_min(min_in_sync)
    }

    fn effective_min(&self, min_in_sync: u32) -> usize {
        usize::try_from(min_in_sync).unwrap_or(usize::MAX).min(self.followers.len() + 1)
    }

    /// The ISR to ask for at `now`, unless an answer is awaited or nothing should change: without the members that have
    /// not caught up for `max_lag`, with the others that have what is committed and what the epoch began with.
    /// `may_join` tells whether the cluster would take a node in.
    pub(super) fn wanted_isr(
        &self,
        high_watermark: Offset,
        max_lag: Duration,
        now: Instant,
        may_join: impl Fn(NodeId, i64) -> bool,
    ) -> Option<PendingIsr> {
        if self.pending.is_some() {
            return None;
        }
        let in_time = |id: &NodeId| {
            self.followers.get(id).is_some_and(|f| now.saturating_duration_since(f.caught_up_at) <= max_lag)
        };
        let mut isr: Vec<NodeId> = self.isr.iter().copied().filter(|id| *id == self.node_id || in_time(id)).collect();
        let needed = high_watermark.max(self.epoch_start);
        let joins = |(id, follower): (&NodeId, &Follower)| {
            let has_all = follower.end.is_some_and(|end| end >= needed);
            (!self.isr.contains(id) && has_all && in_time(id) && may_join(*id, follower.broker_epoch)).then_some(*id)
        };
        isr.extend(self.followers.iter().filter_map(joins));
        (isr != self.isr).then_some(PendingIsr { isr, replaces: self.partition_epoch })
    }

    /// The ISR was asked for.
    pub(super) fn ask(&mut self, pending: PendingIsr) {
        self.pending = Some(pending);
    }

    /// The cluster has certainly refused it.
    pub(super) fn refused(&mut self, pending: &PendingIsr) {
        if self.pending.as_ref() == Some(pending) {
            self.pending = None;
        }
    }

    /// The broker epoch under which a follower fetched last; −1 before its first fetch.
    pub(super) fn broker_epoch(&self, id: NodeId) -> i64 {
        self.followers.get(&id).map_or(-1, |follower| follower.broker_epoch)
    }
}
