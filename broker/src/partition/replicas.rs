//! What a leader does for its followers: it admits their fetches, and keeps the ISR.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator::cluster::{BrokerRef, Cluster, IsrChange};
use hot_tier::{ReadError, StorageError};
use model::{LeaderEpoch, NO_LEADER_EPOCH, NodeId, Offset};
use protocol::ErrorCode;

use super::leader::{Asked, FollowerFetch, WantedIsr};
use super::term::Role;
use super::{Partition, PartitionRead, ReadFailure, ReadRequest};

/// Why a follower gets no records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotAdmitted {
    /// Kafka's code says it.
    Refused(ErrorCode),
    /// The follower's log is not a beginning of the leader's: what they have in common ends at the latest here (KIP-595).
    Diverging {
        /// The newest epoch that may be common.
        epoch: LeaderEpoch,
        /// Where it ends in the leader's log.
        end: Offset,
    },
}

impl From<ErrorCode> for NotAdmitted {
    fn from(code: ErrorCode) -> Self {
        NotAdmitted::Refused(code)
    }
}

impl Partition {
    /// A follower of the epoch `believed` fetches; its last record is of epoch `last_epoch`. What it has flushed is noted,
    /// which may commit records.
    ///
    /// # Errors
    /// [`NotAdmitted`]; nothing is noted then.
    pub(crate) fn admit(
        &self,
        fetch: FollowerFetch,
        believed: LeaderEpoch,
        last_epoch: LeaderEpoch,
    ) -> Result<(), NotAdmitted> {
        let Role::Leader(leading) = &*self.role.read() else { return Err(ErrorCode::NotLeaderOrFollower.into()) };
        self.leadership.load().check_epoch(believed)?;
        if !leading.lock().admits(fetch.node_id, fetch.broker_epoch) {
            // With the right epoch, but not a replica as far as this leader knows: one of both has yet to hear the news.
            let is_replica = self.leadership.load().replicas.contains(&fetch.node_id);
            let knows_epoch = believed != NO_LEADER_EPOCH && !is_replica;
            let code = if knows_epoch { ErrorCode::UnknownLeaderEpoch } else { ErrorCode::NotLeaderOrFollower };
            return Err(code.into());
        }
        self.check_common(fetch.offset, last_epoch)?;
        leading.lock().note_fetch(fetch, self.log.log_end(), Instant::now());
        self.advance_in(leading);
        if leading.lock().could_join(fetch.node_id, self.high_watermark()) {
            self.isr_bell.notify_one();
        }
        Ok(())
    }

    /// Checks that a log that ends at `offset`, in `last_epoch`, is a beginning of this one, and continues in the local part.
    fn check_common(&self, offset: Offset, last_epoch: LeaderEpoch) -> Result<(), NotAdmitted> {
        if offset < self.log_start() {
            return Err(ErrorCode::OffsetOutOfRange.into());
        }
        if offset < self.log.local_start() {
            return Err(ErrorCode::OffsetMovedToTieredStorage.into());
        }
        if last_epoch != NO_LEADER_EPOCH {
            let (epoch, end) = self.local_end_of(last_epoch);
            if epoch == NO_LEADER_EPOCH {
                return Err(ErrorCode::OffsetOutOfRange.into());
            }
            if epoch < last_epoch || end < offset {
                return Err(NotAdmitted::Diverging { epoch, end });
            }
        }
        if offset > self.log.log_end() {
            return Err(ErrorCode::OffsetOutOfRange.into());
        }
        Ok(())
    }

    /// As a leader: where a consumer that has read records up to `offset`, the last of `last_epoch`, has read what is no
    /// longer there (KIP-320). Only the local log is asked: what is archived stays as it is.
    pub(crate) fn divergence(&self, offset: Offset, last_epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        if last_epoch == NO_LEADER_EPOCH || self.term().is_none() || offset < self.log.local_start() {
            return None;
        }
        let (epoch, end) = self.local_end_of(last_epoch);
        let diverges = epoch != NO_LEADER_EPOCH && (epoch < last_epoch || end < offset);
        diverges.then_some((epoch, end))
    }

    /// The largest epoch of the local log that is at most `epoch`, and where it ends; (−1, −1) when there is none.
    fn local_end_of(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        if epoch == self.leadership.load().leader_epoch {
            return (epoch, self.log.log_end());
        }
        self.log.end_offset_for_epoch(epoch)
    }

    /// Reads for a follower: all that the local log holds, committed or not.
    ///
    /// # Errors
    /// [`ReadFailure`].
    pub(crate) async fn read_for_follower(
        self: &Arc<Self>,
        request: &ReadRequest,
    ) -> Result<PartitionRead, ReadFailure> {
        match self.read_local(request, self.log.log_end()).await {
            Err(ReadError::Storage(damage @ StorageError::Damaged { .. })) => {
                self.meet_damage(request.from, &damage);
                Err(ReadFailure::Damaged(damage))
            }
            read => read.map_err(ReadFailure::Hot),
        }
    }

    /// The change of the ISR to ask for at `now`, if there is one; it counts as possibly valid until
    /// [`Partition::isr_asked`] is called.
    pub(crate) fn want_isr(
        &self,
        image: &Cluster,
        own_epoch: i64,
        max_lag: Duration,
        now: Instant,
    ) -> Option<(WantedIsr, IsrChange)> {
        let Role::Leader(leading) = &*self.role.read() else { return None };
        let mut leading = leading.lock();
        if !leading.has_followers() {
            return None;
        }
        let is_alive = |id: NodeId, fetched_as: Option<i64>| {
            let fits = |broker: &coordinator::cluster::Broker| match fetched_as {
                Some(epoch) => broker.is_active() && broker.epoch == epoch,
                None => !broker.is_fenced,
            };
            image.broker(id).is_some_and(fits)
        };
        let wanted = leading.want_isr(self.high_watermark(), max_lag, now, is_alive)?;
        let member = |&broker_id: &NodeId| {
            let fetched_as = if broker_id == self.node_id { own_epoch } else { leading.broker_epoch(broker_id) };
            // A member that has restarted without losing its place has not fetched as what it is now.
            let is_known = image.broker(broker_id).is_some_and(|broker| broker.epoch == fetched_as);
            let broker_epoch = if is_known || !wanted.old.contains(&broker_id) { fetched_as } else { -1 };
            BrokerRef { broker_id, broker_epoch }
        };
        let leader_epoch = self.leadership.load().leader_epoch;
        let isr = wanted.isr.iter().map(member).collect();
        let change = IsrChange { partition: self.id, leader_epoch, partition_epoch: wanted.replaces, isr };
        Some((wanted, change))
    }

    /// What became at `now` of asking for `wanted`.
    pub(crate) fn isr_asked(&self, wanted: &WantedIsr, outcome: Asked, now: Instant) {
        if let Role::Leader(leading) = &*self.role.read() {
            leading.lock().asked(wanted, outcome, now);
        }
        self.advance();
    }

    /// How many replicas there are, how many of them are in sync, and how many must be for `acks=all`; `None` where another
    /// node leads.
    pub(crate) fn replication(&self) -> Option<Replication> {
        let Role::Leader(leading) = &*self.role.read() else { return None };
        let leadership = self.leadership.load();
        let replicas = leadership.replicas.len();
        let least = usize::try_from(leadership.min_insync_replicas).unwrap_or(usize::MAX).min(replicas);
        Some(Replication { replicas, in_sync: leading.lock().in_sync(), least })
    }
}

/// How well a led partition is replicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replication {
    /// How many replicas there are.
    pub(crate) replicas: usize,
    /// How many are in sync.
    pub(crate) in_sync: usize,
    /// How many must be for `acks=all`.
    pub(crate) least: usize,
}
