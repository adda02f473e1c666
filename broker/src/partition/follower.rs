//! What a follower does to its log because the leader of its epoch says so.
//!
//! ```text
//!   own log      ├──── epoch 3 ────┼─ epoch 5 ─┤
//!   leader's     ├──── epoch 3 ─────────┼─ epoch 6 ──┤
//!                                  ▲ divergence: the follower ends here, and continues with what the leader has
//! ```
//!
//! Every call takes the guard of [`Partition::following`]: a leader whose epoch is over changes nothing here. Calls block for
//! flushes.

use bytes::Bytes;
use hot_tier::{AppendError, Appended, Bootstrap, BootstrapError, ReadError, StorageError};
use model::batch::{BatchView, Batches};
use model::segment::EpochStart;
use model::{LeaderEpoch, NO_LEADER_EPOCH, Offset, TimestampMs};
use tracing::{error, info, warn};

use super::archive::SettleError;
use super::{Partition, SameTerm};

/// Where the leader's log lies, and what a follower needs that begins at its local start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaderState {
    /// Where its log ends.
    pub(crate) log_end: Offset,
    /// All of its epochs, oldest first.
    pub(crate) epochs: Vec<EpochStart>,
    /// What it remembers at its local start.
    pub(crate) bootstrap: Bootstrap,
}

/// What a follower did with the leader's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aligned {
    /// Nothing: the leader has what comes next.
    Fits,
    /// It gave up what the leader does not have.
    Truncated,
    /// It was reset to the leader's local start.
    BeganAnew,
}

impl Partition {
    /// Takes what the leader sent. Of batches that are not all intact, those before the first damaged one are taken.
    ///
    /// # Errors
    /// As [`hot_tier::PartitionLog::append_follower`], when nothing was taken.
    pub(crate) fn take_records(&self, _same: &SameTerm<'_>, records: &Bytes) -> Result<(), AppendError> {
        let appended = match self.log.append_follower(records) {
            Err(AppendError::Invalid { .. }) if intact_len(records) > 0 => {
                self.log.append_follower(&records.slice(..intact_len(records)))
            }
            Err(error @ AppendError::NotContiguous { .. }) => self.append_around_start(error, records),
            appended => appended,
        };
        appended.map(drop)
    }

    /// The first batch of a log whose beginning was deleted may begin below the log's start: an empty log begins with that
    /// batch then (KAFKA-6975). The start that the leader tells with it keeps the records below deleted. `error`: why the batch
    /// was not taken.
    fn append_around_start(&self, error: AppendError, records: &Bytes) -> Result<Appended, AppendError> {
        let end = self.log.log_end();
        let first = Batches::new(records).next().and_then(Result::ok).map(|batch| batch.header);
        let Some(first) = first.filter(|batch| batch.base_offset < end && batch.next_offset() > end) else {
            return Err(error);
        };
        if self.log.local_start() != end {
            return Err(error);
        }
        let (own, local_start) = (self.log.bootstrap()?, first.base_offset);
        let state = Bootstrap { local_start, log_start: own.log_start.min(local_start), ..own };
        self.log.reset_to_bootstrap(&state).map_err(|failure| match failure {
            BootstrapError::Storage(failure) => AppendError::Storage(failure),
            BootstrapError::Malformed { .. } => error,
        })?;
        self.log.append_follower(records)
    }

    /// The leader's log start: what lies below is gone for consumers.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn follow_log_start(&self, _same: &SameTerm<'_>, told: Offset) -> Result<(), ReadError> {
        let start = told.min(self.log.log_end());
        if start > self.log.log_start() { self.log.advance_log_start(start) } else { Ok(()) }
    }

    /// The leader's records of `epoch` end at `end`, the follower's do not: gives up what cannot be the leader's (KIP-101,
    /// KIP-279). `false` when there was nothing to give up.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn diverge_at(
        &self,
        same: &SameTerm<'_>,
        epoch: LeaderEpoch,
        end: Offset,
    ) -> Result<bool, StorageError> {
        let target = match self.log.end_offset_for_epoch(epoch) {
            (-1, _) => end,
            (_, own_end) => own_end.min(end),
        };
        self.give_up_from(same, target.min(self.log.log_end()))
    }

    /// Makes the log one that the leader's continues, by what the leader says of its own.
    ///
    /// # Errors
    /// Those of the disk, and a state that makes no sense.
    pub(crate) fn align(&self, same: &SameTerm<'_>, leader: &LeaderState) -> Result<Aligned, BootstrapError> {
        let (own_end, start) = (self.log.log_end(), leader.bootstrap.local_start);
        let common = common_end((&self.log.epochs(), own_end), (&leader.epochs, leader.log_end));
        let has_history = own_end > start || self.log.latest_epoch() != NO_LEADER_EPOCH;
        if own_end < start || (common.is_none() && has_history) {
            self.begin_anew(&leader.bootstrap)?;
            return Ok(Aligned::BeganAnew);
        }
        let target = common.unwrap_or(own_end).min(leader.log_end);
        let has_changed = target < own_end && self.give_up_from(same, target)?;
        Ok(if has_changed { Aligned::Truncated } else { Aligned::Fits })
    }

    fn begin_anew(&self, state: &Bootstrap) -> Result<(), BootstrapError> {
        let (topic, partition, start) = (&self.topic, self.id.partition, state.local_start);
        let (local_start, log_end, archived_end) = (self.log.local_start(), self.log.log_end(), self.archived_end());
        if log_end > local_start && log_end > archived_end {
            warn!(%topic, partition, local_start, log_end, start, "this replica's records do not continue into the leader's log, and go");
        } else {
            info!(%topic, partition, log_end, start, "continues where the leader's local log begins; the archive has the rest");
        }
        self.log.reset_to_bootstrap(state)?;
        self.lower_high_watermark();
        Ok(())
    }

    fn give_up_from(&self, _same: &SameTerm<'_>, target: Offset) -> Result<bool, StorageError> {
        let (topic, partition) = (&self.topic, self.id.partition);
        let (log_end, latest, high_watermark) = (self.log.log_end(), self.log.latest_epoch(), self.high_watermark());
        if target < high_watermark {
            error!(
                %topic, partition, target, high_watermark,
                "the leader does not have records that were committed: this replica gives them up too"
            );
        }
        let end = self.log.truncate_to(target)?;
        self.lower_high_watermark();
        let has_changed = end < log_end || self.log.latest_epoch() != latest;
        if has_changed {
            warn!(%topic, partition, from = log_end, to = end, "gave up records that the leader does not have");
        }
        Ok(has_changed)
    }

    fn lower_high_watermark(&self) {
        let end = self.log.log_end();
        self.progress.send_if_modified(|progress| {
            let moves = progress.high_watermark > end;
            progress.high_watermark = progress.high_watermark.min(end);
            moves
        });
    }

    /// As a leader: the state that followers align with.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn leader_state(&self) -> Result<LeaderState, ReadError> {
        // What the archive no longer has is not given out either.
        self.log.advance_log_start(self.log_start().min(self.log.log_end()))?;
        let bootstrap = self.log.bootstrap()?;
        Ok(LeaderState { log_end: self.log.log_end(), epochs: self.log.epochs(), bootstrap })
    }

    /// As a follower: closes an idle segment, and drops local ones that are archived and that local retention no longer
    /// wants.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn keep_as_follower(&self, now: TimestampMs) -> Result<(), SettleError> {
        self.log.roll_if_due(now)?;
        // The leader has closed its own, or this log would not be archived to its end.
        if self.is_tiered() && self.archived_end() >= self.log.log_end() {
            self.log.roll_if_expired(self.local_limits(), now)?;
        }
        self.evict(now)
    }
}

/// How many bytes of whole, intact batches come first.
fn intact_len(records: &[u8]) -> usize {
    let is_intact = |batch: &BatchView<'_>| batch.verify_crc().is_ok();
    let intact = Batches::new(records).map_while(Result::ok).take_while(is_intact);
    intact.map(|batch| batch.bytes.len()).sum()
}

/// Up to where two logs certainly are the same: the end of the newest epoch that both have, in the log where it ends first.
/// `None` when they have none in common.
fn common_end(own: (&[EpochStart], Offset), leader: (&[EpochStart], Offset)) -> Option<Offset> {
    let end_of = |(epochs, log_end): (&[EpochStart], Offset), i: usize| {
        epochs.get(i + 1).map_or(log_end, |next| next.start_offset)
    };
    let newest_first = own.0.iter().enumerate().rev();
    let mut ends = newest_first.filter_map(|(i, epoch)| {
        let theirs = leader.0.iter().position(|their| their.leader_epoch == epoch.leader_epoch)?;
        Some(end_of(own, i).min(end_of(leader, theirs)))
    });
    ends.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(starts: &[(i32, i64)]) -> Vec<EpochStart> {
        starts.iter().map(|&(leader_epoch, start_offset)| EpochStart { leader_epoch, start_offset }).collect()
    }

    #[test]
    fn logs_are_the_same_up_to_the_end_of_their_newest_common_epoch() {
        let common = |own: &[(i32, i64)], own_end, leader: &[(i32, i64)], leader_end| {
            common_end((&epochs(own), own_end), (&epochs(leader), leader_end))
        };
        assert_eq!(common(&[(1, 0)], 10, &[(1, 0)], 20), Some(10));
        assert_eq!(common(&[(1, 0)], 30, &[(1, 0)], 20), Some(20), "the leader lost records");
        assert_eq!(common(&[(3, 0), (5, 10)], 15, &[(3, 0), (6, 12)], 20), Some(10), "the drawing above");
        assert_eq!(common(&[(3, 0), (5, 14)], 15, &[(3, 0), (6, 12)], 20), Some(12));
        assert_eq!(common(&[(1, 0), (2, 5), (4, 9)], 11, &[(1, 0), (2, 5), (3, 8)], 20), Some(8));
        assert_eq!(common(&[(5, 0)], 11, &[(6, 0)], 20), None);
        assert_eq!(common(&[], 0, &[(6, 0)], 20), None);
    }
}
