//! A partition: where the two tiers meet, and the only place where they do.
//!
//! ```text
//! log start ≤ local start ≤ archived end ≤ last stable ≤ high watermark ≤ log end
//! └────────── bucket ──────────────┘
//!             └───────────────── local disk ────────────────────────────┘
//! ```
//!
//! Invariants: an offset below the local start is read from the archive, everything else from disk; the archived end
//! comes from the ledger alone; the high watermark only counts what is durable and never goes back while the partition
//! is led here. Its progress is published through one watch channel that acknowledgements and long polls await; the ends
//! of the local log through a second one, for those who do not care what is committed. What this node does for the
//! partition, leading or following, is in [`term`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use cold_tier::ColdTier;
use coordinator::cluster::NO_LEADER;
use hot_tier::PartitionLog;
use model::archive::ManifestPointer;
use model::{LeaderEpoch, NO_LEADER_EPOCH, NodeId, Offset, TopicName, TopicPartition};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

mod adopt;
mod archive;
mod closest;
mod compare;
mod damage;
mod follower;
mod health;
mod journal_space;
mod leader;
mod lineage;
mod lookup;
mod read;
mod replicas;
mod seen;
mod term;

pub(crate) use archive::{DeleteError, SettleError, Upkeep};
pub(crate) use follower::{Aligned, LeaderState};
pub(crate) use health::ArchiveHealth;
pub use health::{Activity, Trouble};
pub(crate) use journal_space::{journal_deadline, journal_space};
pub(crate) use leader::{Asked, FollowerFetch, WantedIsr};
pub(crate) use lookup::{LookupError, Point};
pub(crate) use read::{PartitionRead, ReadFailure, ReadRequest};
pub(crate) use replicas::{NotAdmitted, Replication};
pub(crate) use term::{Accepted, NotAccepted, NotCommitted, SameTerm, Turn};

use term::Role;

use crate::sync::RwLock;

/// Who leads the partition and who keeps it, from the cluster's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leadership {
    /// The leader's node id, or `NO_LEADER`.
    pub(crate) leader: NodeId,
    /// Its epoch.
    pub(crate) leader_epoch: LeaderEpoch,
    /// Counts the changes of all that is here.
    pub(crate) partition_epoch: i32,
    /// The nodes that keep the partition, the preferred leader first.
    pub(crate) replicas: Vec<NodeId>,
    /// Those of them that are in sync.
    pub(crate) isr: Vec<NodeId>,
    /// How many of them must be in sync for anything to be committed: what the cluster goes by when it decides who stays
    /// eligible, so leaders must not go by anything else.
    pub(crate) min_insync_replicas: u32,
    /// Where the log begins at least, for readers: no leader begins before.
    pub(crate) log_start: Offset,
}

impl Leadership {
    /// Before anything is known.
    pub(crate) fn unknown() -> Self {
        Leadership {
            leader: NO_LEADER,
            leader_epoch: NO_LEADER_EPOCH,
            partition_epoch: -1,
            replicas: Vec::new(),
            isr: Vec::new(),
            min_insync_replicas: 1,
            log_start: 0,
        }
    }
}

impl Leadership {
    /// What an image of the cluster says, which has `min_insync_replicas` for the partition.
    pub(crate) fn of(state: &coordinator::cluster::Partition, min_insync_replicas: usize) -> Self {
        Leadership {
            min_insync_replicas: u32::try_from(min_insync_replicas).unwrap_or(u32::MAX),
            leader: state.leader,
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            replicas: state.replicas.clone(),
            isr: state.isr.clone(),
            log_start: state.log_start,
        }
    }
}

/// Where a partition stands, as those who wait for it see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// First offset that consumers may not read yet.
    pub(crate) high_watermark: Offset,
    /// The leader epoch in which this node leads, or −1 while it does not.
    pub(crate) term: LeaderEpoch,
    /// Whether it can still move.
    pub(crate) state: State,
}

/// Where the local log ends, as those who wait for it see it. Kept only while the partition has followers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    /// First offset that is free.
    pub(crate) log_end: Offset,
    /// First offset that is not durable here.
    pub(crate) flushed_end: Offset,
    /// First offset that some in-sync replica still shows to readers, as far as they have told.
    pub(crate) low_watermark: Offset,
    /// As in [`Progress`].
    pub(crate) term: LeaderEpoch,
    /// As in [`Progress`].
    pub(crate) state: State,
}

/// Whether a partition is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Reads and writes.
    Open,
    /// The local disk failed: nothing more can be acknowledged.
    Failed,
    /// The topic was deleted.
    Deleted,
    /// The cluster took this replica away.
    Moved,
}

/// One partition that this node keeps a replica of.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) id: TopicPartition,
    pub(crate) topic: TopicName,
    pub(crate) log: Arc<PartitionLog>,
    node_id: NodeId,
    cold: ColdTier,
    cold_timeout: Duration,
    leadership: ArcSwap<Leadership>,
    /// Held while this node appends, so that a term ends between appends. See [`term`].
    role: RwLock<Role>,
    ledger: ArcSwapOption<ManifestPointer>,
    progress: watch::Sender<Progress>,
    ends: watch::Sender<Ends>,
    /// Rung when the ISR should be looked at.
    isr_bell: Arc<Notify>,
    archive: Mutex<ArchiveHealth>,
    /// Bases of segments found damaged, and whether the archive has them: what was told already.
    damaged: Mutex<BTreeSet<(Offset, bool)>>,
    /// Local segments below are damaged, or lie before one that is; the archive has all of them.
    damaged_end: AtomicI64,
    /// Damage that another replica may put right.
    to_mend: Mutex<Option<damage::ToMend>>,
    /// First offset whose object this node has not seen in the store.
    seen_end: AtomicI64,
    /// Leader epoch in which the bucket was searched for a manifest that is newer than the ledger.
    surveyed_in: AtomicI32,
    /// Held by background work, one at a time: settling, retention, the sweep.
    pub(crate) background: Arc<tokio::sync::Mutex<()>>,
    /// Held by retention from before it waits for its turn, so that only one waits.
    pub(crate) retention: Arc<tokio::sync::Mutex<()>>,
    /// Held while it is found out whether the log continues the archive.
    pub(crate) verifying: Arc<tokio::sync::Mutex<()>>,
    /// True when the bucket may hold objects of the partition that no manifest names.
    pub(crate) is_unswept: AtomicBool,
}

impl Partition {
    /// Takes over a recovered or new log; everything that recovery found is durable. What is committed, and what this node
    /// has to do with it, is learned from the first [`Partition::follow`].
    pub(crate) fn new(
        log: Arc<PartitionLog>,
        node_id: NodeId,
        cold: ColdTier,
        cold_timeout: Duration,
        isr_bell: Arc<Notify>,
    ) -> Self {
        let (high_watermark, term, state) = (log.local_start(), NO_LEADER_EPOCH, State::Open);
        let (log_end, flushed_end, low_watermark) = (log.log_end(), log.flushed_end(), Offset::MIN);
        let ends = Ends { log_end, flushed_end, low_watermark, term, state };
        Partition {
            id: log.id(),
            topic: log.topic().clone(),
            log,
            node_id,
            cold,
            cold_timeout,
            leadership: ArcSwap::from_pointee(Leadership::unknown()),
            role: RwLock::new(Role::Follower),
            ledger: ArcSwapOption::empty(),
            progress: watch::Sender::new(Progress { high_watermark, term, state }),
            ends: watch::Sender::new(ends),
            isr_bell,
            archive: Mutex::default(),
            damaged: Mutex::default(),
            damaged_end: AtomicI64::new(Offset::MIN),
            to_mend: Mutex::default(),
            seen_end: AtomicI64::new(Offset::MIN),
            surveyed_in: AtomicI32::new(NO_LEADER_EPOCH),
            background: Arc::default(),
            retention: Arc::default(),
            verifying: Arc::default(),
            // A crash may have left something.
            is_unswept: AtomicBool::new(true),
        }
    }

    /// This node.
    pub(crate) fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// Who leads, and who keeps the partition.
    pub(crate) fn leadership(&self) -> Arc<Leadership> {
        self.leadership.load_full()
    }

    /// Takes over what the ledger held at some time, unless something newer is known: the archiver and the metadata's
    /// follower tell it, in no order.
    pub(crate) fn follow_ledger(&self, told: Option<&Arc<ManifestPointer>>) {
        let version = |pointer: Option<&Arc<ManifestPointer>>| pointer.map_or(0, |pointer| pointer.version);
        self.ledger.rcu(|held| if version(told) > version(held.as_ref()) { told.cloned() } else { held.clone() });
    }

    /// The archive's last committed manifest.
    pub(crate) fn ledger(&self) -> Option<Arc<ManifestPointer>> {
        self.ledger.load_full()
    }

    /// First offset that readers may still see, in whichever tier.
    pub(crate) fn log_start(&self) -> Offset {
        let local = self.log.log_start();
        self.ledger().map_or(local, |pointer| pointer.log_start.max(local))
    }

    /// First offset that is not archived; the log start when nothing is, or when it has passed what is.
    pub(crate) fn archived_end(&self) -> Offset {
        let log_start = self.log_start();
        self.ledger().map_or(log_start, |pointer| pointer.archived_end.max(log_start))
    }

    /// First offset that is on the local disk.
    pub(crate) fn local_start(&self) -> Offset {
        self.log.local_start().max(self.log_start())
    }

    /// First offset that consumers may not read yet.
    pub(crate) fn high_watermark(&self) -> Offset {
        self.progress.borrow().high_watermark
    }

    /// True when everything below `end`, appended in `term`, is known to be committed.
    pub(crate) fn is_committed(&self, end: Offset, term: LeaderEpoch) -> bool {
        let progress = self.progress.borrow();
        progress.term == term && progress.high_watermark >= end
    }

    /// First offset that may still be part of an open transaction; there are none yet.
    pub(crate) fn last_stable_offset(&self) -> Offset {
        self.high_watermark()
    }

    /// Follows the partition's progress.
    pub(crate) fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Follows the ends of the local log.
    pub(crate) fn watch_ends(&self) -> watch::Receiver<Ends> {
        self.ends.subscribe()
    }

    /// Tells those who wait that nothing more will come.
    pub(crate) fn close(&self, state: State) {
        self.progress.send_if_modified(|progress| {
            let changes = progress.state != state;
            progress.state = state;
            changes
        });
        self.ends.send_if_modified(|ends| {
            let changes = ends.state != state;
            ends.state = state;
            changes
        });
    }

    /// True when the topic was deleted.
    pub(crate) fn is_deleted(&self) -> bool {
        self.state() == State::Deleted
    }

    /// Whether the partition is alive.
    pub(crate) fn state(&self) -> State {
        self.progress.borrow().state
    }
}

#[cfg(test)]
mod tests;
