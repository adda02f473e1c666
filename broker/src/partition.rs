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
//! is led here. Progress is published through one watch channel that produce acknowledgements and long polls await.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use cold_tier::ColdTier;
use hot_tier::{AppendTime, Appended, PartitionLog};
use model::archive::ManifestPointer;
use model::batch::ValidatedBatch;
use model::{LeaderEpoch, NodeId, Offset, TopicName, TopicPartition};
use parking_lot::Mutex;
use tokio::sync::watch;

mod archive;
mod damage;
mod health;
mod lookup;
mod read;

pub(crate) use archive::DeleteError;
pub(crate) use health::ArchiveHealth;
pub use health::{Activity, Trouble};
pub(crate) use lookup::{LookupError, Point};
pub(crate) use read::{PartitionRead, ReadFailure, ReadRequest};

/// Who leads the partition, from the cluster's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leadership {
    /// The leader's node id.
    pub(crate) leader: NodeId,
    /// Its epoch.
    pub(crate) leader_epoch: LeaderEpoch,
    /// Replicas that are in sync.
    pub(crate) isr: Vec<NodeId>,
}

/// Where a partition stands, as those who wait for it see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// First offset that consumers may not read yet.
    pub(crate) high_watermark: Offset,
    /// Whether it can still move.
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
}

/// Why an acknowledgement cannot be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotCommitted {
    /// The time is over; the records may still become durable.
    #[error("the records are not durable yet")]
    TimedOut,
    /// The local disk failed.
    #[error("the local disk failed")]
    Failed,
    /// The topic was deleted meanwhile.
    #[error("the topic was deleted")]
    Deleted,
}

/// One partition that this node leads.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) id: TopicPartition,
    pub(crate) topic: TopicName,
    pub(crate) log: Arc<PartitionLog>,
    cold: ColdTier,
    cold_timeout: Duration,
    leadership: ArcSwap<Leadership>,
    ledger: ArcSwapOption<ManifestPointer>,
    progress: watch::Sender<Progress>,
    archive: Mutex<ArchiveHealth>,
    /// Bases of segments found damaged, and whether the archive has them: what was told already.
    damaged: Mutex<BTreeSet<(Offset, bool)>>,
    /// Local segments below are damaged, or lie before one that is; the archive has all of them.
    damaged_end: AtomicI64,
    /// Held by background work, one at a time: settling, retention, the sweep.
    pub(crate) background: Arc<tokio::sync::Mutex<()>>,
    /// Held by retention from before it waits for its turn, so that only one waits.
    pub(crate) retention: Arc<tokio::sync::Mutex<()>>,
    /// True when the bucket may hold objects of the partition that no manifest names.
    pub(crate) is_unswept: AtomicBool,
}

impl Partition {
    /// Takes over a recovered or new log; everything that recovery found is durable.
    pub(crate) fn new(log: Arc<PartitionLog>, leadership: Leadership, cold: ColdTier, cold_timeout: Duration) -> Self {
        let progress = Progress { high_watermark: log.flushed_end(), state: State::Open };
        Partition {
            id: log.id(),
            topic: log.topic().clone(),
            log,
            cold,
            cold_timeout,
            leadership: ArcSwap::from_pointee(leadership),
            ledger: ArcSwapOption::empty(),
            progress: watch::Sender::new(progress),
            archive: Mutex::default(),
            damaged: Mutex::default(),
            damaged_end: AtomicI64::new(Offset::MIN),
            background: Arc::default(),
            retention: Arc::default(),
            // A crash may have left something.
            is_unswept: AtomicBool::new(true),
        }
    }

    /// Who leads.
    pub(crate) fn leadership(&self) -> Arc<Leadership> {
        self.leadership.load_full()
    }

    /// Follows the cluster's metadata.
    pub(crate) fn update(&self, leadership: Leadership, ledger: Option<Arc<ManifestPointer>>) {
        if *self.leadership.load_full() != leadership {
            self.leadership.store(Arc::new(leadership));
        }
        self.follow_ledger(ledger.as_ref());
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

    /// First offset that may still be part of an open transaction; there are none yet.
    pub(crate) fn last_stable_offset(&self) -> Offset {
        self.high_watermark()
    }

    /// Follows the partition's progress.
    pub(crate) fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Appends batches and wakes whoever waits for them.
    ///
    /// # Errors
    /// As [`PartitionLog::append_leader`]; nothing is appended then.
    pub(crate) fn append(
        &self,
        batches: Vec<ValidatedBatch>,
        now: AppendTime,
    ) -> Result<Appended, hot_tier::AppendError> {
        let epoch = self.leadership.load().leader_epoch;
        let appended = self.log.append_leader(batches, epoch, now)?;
        // A topic that does not flush is committed as soon as it is appended.
        self.advance(self.log.flushed_end());
        Ok(appended)
    }

    /// Raises the high watermark to what every in-sync replica has flushed; here the only one is this node.
    pub(crate) fn advance(&self, flushed_end: Offset) {
        self.progress.send_if_modified(|progress| {
            let moves = flushed_end > progress.high_watermark;
            progress.high_watermark = progress.high_watermark.max(flushed_end);
            moves
        });
    }

    /// Tells those who wait that nothing more will come.
    pub(crate) fn close(&self, state: State) {
        self.progress.send_if_modified(|progress| {
            let changes = progress.state != state;
            progress.state = state;
            changes
        });
    }

    /// True when the topic was deleted.
    pub(crate) fn is_deleted(&self) -> bool {
        self.progress.borrow().state == State::Deleted
    }

    /// Waits until everything below `end` is committed.
    ///
    /// # Errors
    /// [`NotCommitted`] when it is not by `deadline`, or can no longer be.
    pub(crate) async fn committed(&self, end: Offset, deadline: tokio::time::Instant) -> Result<(), NotCommitted> {
        let mut progress = self.watch();
        let arrived = progress.wait_for(|p| p.high_watermark >= end || p.state != State::Open);
        let Ok(arrived) = tokio::time::timeout_at(deadline, arrived).await else { return Err(NotCommitted::TimedOut) };
        match arrived.map(|p| *p) {
            Ok(p) if p.high_watermark >= end => Ok(()),
            Ok(Progress { state: State::Deleted, .. }) | Err(_) => Err(NotCommitted::Deleted),
            Ok(_) => Err(NotCommitted::Failed),
        }
    }
}
