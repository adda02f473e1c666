//! What this node does for a partition: it leads for a *term*, one leader epoch, or it follows.
//!
//! Invariants:
//! - Appends of a term happen while the role is locked for reading, a change of the role while it is locked for writing:
//!   nothing of a term that is over gets into the log, and no acknowledgement of one term is given in another.
//! - A reader that must not wait tries the lock: a change of the role looks at everything when it is
//!   done.
//!
//! Where the high watermark comes from: a leader computes it, a follower learns it. Neither remembers it over a restart. Until
//! it is known again, what the archive holds and what lies before the local start is certainly committed; all that is
//! flushed is, when no other replica is in sync and one is enough to commit.

use std::time::Instant;

use coordinator::cluster::NO_LEADER;
use hot_tier::{AppendError, AppendTime, Appended, Bootstrap};
use model::batch::ValidatedBatch;
use model::{LeaderEpoch, NO_LEADER_EPOCH, NodeId, Offset};
use parking_lot::RwLockReadGuard;
use tracing::{debug, error, warn};

use super::leader::Leading;
use super::{Ends, Leadership, Partition, Progress, State};
use crate::sync::{Mutex, point};

/// What this node does for the partition.
#[derive(Debug)]
pub(super) enum Role {
    /// It takes writes.
    Leader(Mutex<Leading>),
    /// It copies from the leader, or waits for one.
    Follower,
}

/// What a new term is to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It leads.
    Leads,
    /// It has led, and follows another.
    GivesUp,
    /// It follows this leader.
    Follows(NodeId),
    /// There is no leader.
    HasNoLeader,
}

/// Batches that were appended, and the term in which they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// Where they are.
    pub(crate) appended: Appended,
    /// The leader epoch.
    pub(crate) term: LeaderEpoch,
}

/// Why batches were not appended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAccepted {
    /// Another node leads.
    #[error("this broker does not lead the partition")]
    NotLeader,
    /// Too few replicas are in sync for `acks=all`.
    #[error("{in_sync} replicas are in sync, min.insync.replicas is {wanted}")]
    NotEnoughReplicas {
        /// How many are.
        in_sync: usize,
        /// How many must be.
        wanted: u32,
    },
    /// Sequence numbers are missing, and the requests that have them may still come.
    #[error("{0}; earlier requests were refused, and may be on their way again")]
    TooEarly(#[source] AppendError),
    /// The local log.
    #[error("{0}")]
    Log(#[from] AppendError),
}

/// Why an acknowledgement cannot be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotCommitted {
    /// The time is over; the records may still become durable.
    #[error("the records are not durable yet")]
    TimedOut,
    /// Too few replicas are in sync by now; the records may still be committed.
    #[error("the records are written, but too few replicas are in sync")]
    NotEnoughReplicas,
    /// This node leads no more, or in another epoch; the records may still be committed.
    #[error("the partition has another leader by now")]
    NotLeader,
    /// The local disk failed.
    #[error("the local disk failed")]
    Failed,
    /// The topic was deleted meanwhile.
    #[error("the topic was deleted")]
    Deleted,
}

/// While it lives, the partition stays in the epoch.
#[derive(Debug)]
pub(crate) struct SameTerm<'a> {
    _role: RwLockReadGuard<'a, Role>,
}

impl Partition {
    /// Follows the cluster's metadata, and says what a new term is to this node. Calls must not overlap.
    pub(crate) fn follow(&self, leadership: Leadership) -> Option<Turn> {
        let before = self.leadership();
        if *before == leadership {
            return None;
        }
        let mut turn = None;
        let now = Instant::now();
        let mut role = self.role.write();
        let is_new_term = before.leader_epoch != leadership.leader_epoch;
        let leads = leadership.leader == self.node_id;
        if before.leader_epoch == NO_LEADER_EPOCH {
            self.note_missing_head(leadership.log_start);
        }
        self.leadership.store(leadership.clone().into());
        if is_new_term {
            let is_first = before.leader_epoch == NO_LEADER_EPOCH;
            *role = if leads { self.begin_term(&before, &leadership) } else { Role::Follower };
            turn = self.turn(&before, &leadership);
            let term = if leads { leadership.leader_epoch } else { NO_LEADER_EPOCH };
            // A leader may not know yet all that is committed; what is archived is.
            let floor = match &*role {
                Role::Leader(leading) if leading.lock().is_lineage_open() => self.archived_end(),
                _ if is_first || leads => self.certainly_committed(&leadership),
                _ => Offset::MIN,
            };
            self.publish_term(term, floor);
        } else if let Role::Leader(leading) = &*role {
            leading.lock().follow(&leadership, now);
        }
        drop(role);
        self.advance();
        turn
    }

    fn begin_term(&self, before: &Leadership, leadership: &Leadership) -> Role {
        if self.may_diverge_from_archive(before, leadership) {
            let leading = Leading::new(self.node_id, leadership, self.log.log_end(), Instant::now());
            return Role::Leader(Mutex::new(leading.with_open_lineage()));
        }
        self.restore_end(leadership.log_start);
        self.lead(leadership)
    }

    /// Leads with a log that continues the archive.
    pub(super) fn lead(&self, leadership: &Leadership) -> Role {
        self.restore_start(leadership.log_start);
        // What has one replica has no follower that would ask where an epoch without records began.
        if leadership.replicas.len() > 1
            && let Err(error) = self.log.begin_epoch(leadership.leader_epoch)
        {
            let (topic, partition) = (&self.topic, self.id.partition);
            warn!(%topic, partition, %error, "cannot write down the new leader epoch, its first record will");
        }
        Role::Leader(Mutex::new(Leading::new(self.node_id, leadership, self.log.log_end(), Instant::now())))
    }

    /// A local log that ends before the archive does, or before the log begins for readers, has lost its disk: offsets must go
    /// on behind, or they would be given out twice.
    fn restore_end(&self, log_start: Offset) {
        let archived_end = self.ledger().map_or(0, |pointer| pointer.archived_end);
        let (log_end, continues_at) = (self.log.log_end(), archived_end.max(log_start));
        if log_end >= continues_at {
            return;
        }
        let (topic, partition) = (&self.topic, self.id.partition);
        warn!(
            %topic, partition, log_end, archived_end, log_start, continues_at,
            "the local log ends before the archive, or before the log start: it was lost, and continues behind them"
        );
        // The archive is not lost, whatever is missing here.
        let log_start = self.log_start().max(log_start).min(continues_at);
        if let Err(error) = self.log.reset_to_bootstrap(&Bootstrap::without_past(log_start, continues_at)) {
            error!(%topic, partition, %error, "cannot continue the log behind what was lost");
        }
    }

    /// A leader before may have shown readers that the log begins there: this one shows nothing else from its first answer on.
    fn restore_start(&self, log_start: Offset) {
        let log_start = log_start.min(self.log.log_end());
        if log_start > self.log.log_start()
            && let Err(error) = self.log.advance_log_start(log_start)
        {
            error!(topic = %self.topic, partition = self.id.partition, log_start, %error, "cannot move the log start");
        }
    }

    /// What is committed whatever else is true, when nothing was remembered.
    pub(super) fn certainly_committed(&self, leadership: &Leadership) -> Offset {
        let least = leadership.min_insync_replicas.min(u32::try_from(leadership.replicas.len()).unwrap_or(1));
        // Where it takes others to commit anything, one who is alone may have more than was ever committed (KIP-966).
        if leadership.isr == [self.node_id] && least <= 1 {
            return self.log.flushed_end();
        }
        if leadership.leader == self.node_id {
            return self.archived_end().max(self.log.local_start()).min(self.log.log_end());
        }
        // A follower may have other records where the archive has those of the leader.
        self.log.local_start()
    }

    pub(super) fn publish_term(&self, term: LeaderEpoch, floor: Offset) {
        self.progress.send_modify(|progress| {
            progress.term = term;
            progress.high_watermark = progress.high_watermark.max(floor);
        });
        let (log_end, flushed_end) = (self.log.log_end(), self.log.flushed_end());
        self.ends.send_modify(|ends| {
            *ends = Ends { log_end, flushed_end, low_watermark: Offset::MIN, term, ..*ends };
        });
    }

    /// What the new term is to this node, where several nodes keep the partition: one node alone leads all of it after every
    /// start.
    fn turn(&self, before: &Leadership, now: &Leadership) -> Option<Turn> {
        if now.replicas.len() < 2 {
            return None;
        }
        let turn = match now.leader {
            leader if leader == self.node_id => Turn::Leads,
            NO_LEADER => Turn::HasNoLeader,
            _ if before.leader == self.node_id => Turn::GivesUp,
            leader => Turn::Follows(leader),
        };
        let (topic, partition, leader_epoch, log_end) =
            (&self.topic, self.id.partition, now.leader_epoch, self.log.log_end());
        debug!(%topic, partition, leader_epoch, log_end, isr = ?now.isr, ?turn, "a new term of the partition");
        Some(turn)
    }

    /// The leader epoch in which this node leads.
    pub(crate) fn term(&self) -> Option<LeaderEpoch> {
        Some(self.progress.borrow().term).filter(|term| *term != NO_LEADER_EPOCH)
    }

    /// Keeps the partition in the epoch in which this node follows, for as long as the guard lives. `None` when that epoch is
    /// over. To be held around every change of the log that the epoch's leader wants; never across an await.
    pub(crate) fn following(&self, leader_epoch: LeaderEpoch) -> Option<SameTerm<'_>> {
        let role = self.role.read();
        let is_same = matches!(*role, Role::Follower) && self.leadership.load().leader_epoch == leader_epoch;
        is_same.then_some(SameTerm { _role: role })
    }

    /// As a follower: the leader says that everything below is committed. What is not in the local log yet does not count.
    pub(crate) fn learn_high_watermark(&self, _same: &SameTerm<'_>, told: Offset) {
        self.raise_high_watermark(told.min(self.log.log_end()));
    }

    /// Checks that enough replicas are in sync for `acks=all`.
    ///
    /// # Errors
    /// [`NotAccepted::NotLeader`] or [`NotAccepted::NotEnoughReplicas`].
    pub(crate) fn check_in_sync(&self) -> Result<(), NotAccepted> {
        let Role::Leader(leading) = &*self.role.read() else { return Err(NotAccepted::NotLeader) };
        let (mut leading, wanted) = (leading.lock(), self.leadership.load().min_insync_replicas);
        if leading.is_under_min_isr(wanted) {
            leading.refuse(Instant::now());
            return Err(NotAccepted::NotEnoughReplicas { in_sync: leading.in_sync(), wanted });
        }
        Ok(())
    }

    /// True while this node leads and too few replicas are in sync for `acks=all`.
    pub(crate) fn lacks_replicas(&self) -> bool {
        matches!(self.check_in_sync(), Err(NotAccepted::NotEnoughReplicas { .. }))
    }

    /// Appends batches and wakes the tasks that wait for them.
    ///
    /// # Errors
    /// [`NotAccepted`]; nothing is appended then.
    pub(crate) fn append(&self, batches: Vec<ValidatedBatch>, now: AppendTime) -> Result<Accepted, NotAccepted> {
        self.append_where(|_| true, batches, now)
    }

    /// As [`Partition::append`], in that term only: what is appended follows from what was read in it.
    ///
    /// # Errors
    /// [`NotAccepted`]; nothing is appended then.
    pub(crate) fn append_in(
        &self,
        term: LeaderEpoch,
        batches: Vec<ValidatedBatch>,
        now: AppendTime,
    ) -> Result<Accepted, NotAccepted> {
        self.append_where(|current| current == term, batches, now)
    }

    fn append_where(
        &self,
        is_right: impl FnOnce(LeaderEpoch) -> bool,
        batches: Vec<ValidatedBatch>,
        now: AppendTime,
    ) -> Result<Accepted, NotAccepted> {
        let role = self.role.read();
        let Role::Leader(leading) = &*role else { return Err(NotAccepted::NotLeader) };
        let term = self.leadership.load().leader_epoch;
        if !is_right(term) || leading.lock().is_lineage_open() {
            return Err(NotAccepted::NotLeader);
        }
        let appended = match self.log.append_leader(batches, term, now) {
            Ok(appended) => appended,
            Err(gap @ AppendError::OutOfOrderSequence { .. }) if leading.lock().may_lack_requests(Instant::now()) => {
                return Err(NotAccepted::TooEarly(gap));
            }
            Err(error) => {
                if matches!(error, AppendError::Storage(_)) {
                    leading.lock().refuse(Instant::now());
                }
                return Err(error.into());
            }
        };
        // A topic that does not flush may be committed as soon as it is appended.
        self.advance_in(leading);
        Ok(Accepted { appended, term })
    }

    /// Looks at what is flushed here, and raises the high watermark when that commits something. A follower only takes note.
    pub(crate) fn advance(&self) {
        let Some(role) = self.role.try_read() else { return };
        match &*role {
            Role::Leader(leading) => self.advance_in(leading),
            Role::Follower => self.publish_ends(Offset::MIN),
        }
    }

    pub(super) fn advance_in(&self, leading: &Mutex<Leading>) {
        let leading = leading.lock();
        if leading.has_followers() {
            self.publish_ends(leading.low_watermark(self.log_start()));
        }
        let (flushed_end, min) = (self.log.flushed_end(), self.leadership.load().min_insync_replicas);
        // Published while the members are locked: a follower is asked into the ISR when it has all that was committed, so
        // nothing may be committed without it in between.
        self.raise_high_watermark(leading.high_watermark(self.high_watermark(), flushed_end, min));
    }

    fn raise_high_watermark(&self, high_watermark: Offset) {
        point();
        self.progress.send_if_modified(|progress| {
            let moves = high_watermark > progress.high_watermark;
            progress.high_watermark = progress.high_watermark.max(high_watermark);
            moves
        });
    }

    fn publish_ends(&self, low_watermark: Offset) {
        self.ends.send_if_modified(|ends| {
            let (log_end, flushed_end) = (self.log.log_end(), self.log.flushed_end());
            let now = Ends { log_end, flushed_end, low_watermark, ..*ends };
            std::mem::replace(ends, now) != now
        });
    }

    /// Waits until everything below `end`, appended in `term`, is committed.
    ///
    /// # Errors
    /// [`NotCommitted`] when it is not by `deadline`, or can no longer be.
    pub(crate) async fn committed(
        &self,
        end: Offset,
        term: LeaderEpoch,
        deadline: tokio::time::Instant,
    ) -> Result<(), NotCommitted> {
        let mut progress = self.watch();
        let is_over = |p: &Progress| p.term != term || p.state != State::Open;
        let arrived = progress.wait_for(|p| p.high_watermark >= end || is_over(p));
        let Ok(arrived) = tokio::time::timeout_at(deadline, arrived).await else {
            return Err(NotCommitted::TimedOut);
        };
        let Ok(p) = arrived.map(|p| *p) else { return Err(NotCommitted::Deleted) };
        if p.term == term && p.high_watermark >= end { Ok(()) } else { Err(over(p.state)) }
    }

    /// Waits until everything below `end`, appended in `term`, is durable on this node.
    ///
    /// # Errors
    /// As [`Partition::committed`].
    pub(crate) async fn flushed(
        &self,
        end: Offset,
        term: LeaderEpoch,
        deadline: tokio::time::Instant,
    ) -> Result<(), NotCommitted> {
        if self.leadership.load().replicas.len() < 2 {
            return self.committed(end, term, deadline).await;
        }
        let mut ends = self.watch_ends();
        let is_over = |e: &Ends| e.term != term || e.state != State::Open;
        let arrived = ends.wait_for(|e| e.flushed_end >= end || is_over(e));
        let Ok(arrived) = tokio::time::timeout_at(deadline, arrived).await else { return Err(NotCommitted::TimedOut) };
        match arrived.map(|e| *e) {
            Ok(e) if e.term == term && e.flushed_end >= end => Ok(()),
            Ok(e) => Err(over(e.state)),
            Err(_) => Err(NotCommitted::Deleted),
        }
    }

    /// Waits until no in-sync replica shows records below `offset` to readers any more: they are gone under any next leader.
    ///
    /// # Errors
    /// As [`Partition::committed`].
    pub(crate) async fn gone_everywhere(
        &self,
        offset: Offset,
        deadline: tokio::time::Instant,
    ) -> Result<(), NotCommitted> {
        let Some(term) = self.term() else { return Err(NotCommitted::NotLeader) };
        if self.leadership.load().replicas.len() < 2 {
            return Ok(());
        }
        let mut ends = self.watch_ends();
        self.advance();
        let is_over = |e: &Ends| e.term != term || e.state != State::Open;
        let arrived = ends.wait_for(|e| e.low_watermark >= offset || is_over(e));
        let Ok(arrived) = tokio::time::timeout_at(deadline, arrived).await else { return Err(NotCommitted::TimedOut) };
        match arrived.map(|e| *e) {
            Ok(e) if e.term == term && e.low_watermark >= offset => Ok(()),
            Ok(e) => Err(over(e.state)),
            Err(_) => Err(NotCommitted::Deleted),
        }
    }

    /// True while what the log held when this node's term began is not all committed: until then it is not known how far the
    /// leader before got (KIP-207).
    pub(crate) fn is_settling_in(&self) -> bool {
        let Role::Leader(leading) = &*self.role.read() else { return false };
        let leading = leading.lock();
        leading.has_followers() && self.high_watermark() < leading.epoch_start()
    }
}

/// Why nothing more can be promised.
fn over(state: State) -> NotCommitted {
    match state {
        State::Failed => NotCommitted::Failed,
        State::Deleted => NotCommitted::Deleted,
        State::Open | State::Moved => NotCommitted::NotLeader,
    }
}
