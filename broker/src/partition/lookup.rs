//! Finding offsets: by timestamp, by leader epoch, and the points that the protocol has names for.

use std::sync::Arc;
use std::time::Duration;

use cold_tier::ColdTier;
use hot_tier::StorageError;
use model::archive::ManifestPointer;
use model::{LeaderEpoch, NO_LEADER_EPOCH, NO_TIMESTAMP, Offset, TimestampMs};
use protocol::ErrorCode;

use super::{Leadership, Partition};
use crate::machine::blocking;

/// How often both tiers are searched while the local log's start moves beyond what was searched of the archive.
const SEAM_TRIES: usize = 4;

/// A point of a partition's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Point {
    /// Timestamp of the record there, or −1 when the point is not a record.
    pub(crate) timestamp: TimestampMs,
    /// The offset.
    pub(crate) offset: Offset,
    /// Leader epoch at the offset, or −1.
    pub(crate) leader_epoch: LeaderEpoch,
}

impl From<hot_tier::TimestampedOffset> for Point {
    fn from(found: hot_tier::TimestampedOffset) -> Self {
        let hot_tier::TimestampedOffset { timestamp, offset, leader_epoch } = found;
        Point { timestamp, offset, leader_epoch }
    }
}

impl From<cold_tier::TimestampOffset> for Point {
    fn from(found: cold_tier::TimestampOffset) -> Self {
        let cold_tier::TimestampOffset { timestamp, offset, leader_epoch } = found;
        Point { timestamp, offset, leader_epoch }
    }
}

/// Why a point cannot be found now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    /// The local disk.
    #[error("cannot search the local log: {0}")]
    Hot(#[from] hot_tier::ReadError),
    /// The local disk changed what was written.
    #[error("the local log is damaged: {0}")]
    Damaged(String),
    /// Offsets that neither tier has may hold the answer.
    #[error("offsets {0} to {1} are missing: the archive ends before the local log begins")]
    Missing(Offset, Offset),
    /// The object store.
    #[error("cannot search the archive: {0}")]
    Cold(#[from] cold_tier::ReadError),
    /// The object store is slow. The bytes read so far are kept: asking again continues from there.
    #[error("the archive did not answer within {0:?}")]
    Slow(Duration),
    /// Records leave the local disk faster than they are searched for.
    #[error("the local log's start moved during each of {SEAM_TRIES} searches")]
    Moving,
}

impl Leadership {
    /// Compares the epoch that a client believes in (KIP-320); −1 is no belief.
    ///
    /// # Errors
    /// `FENCED_LEADER_EPOCH` for an old one, `UNKNOWN_LEADER_EPOCH` for one from the future.
    pub(crate) fn check_epoch(&self, believed: LeaderEpoch) -> Result<(), ErrorCode> {
        match believed {
            NO_LEADER_EPOCH => Ok(()),
            epoch if epoch < self.leader_epoch => Err(ErrorCode::FencedLeaderEpoch),
            epoch if epoch > self.leader_epoch => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }
}

impl Partition {
    /// The end of the log as readers see it: the next record will be of the epoch in which this broker leads.
    pub(crate) fn end_point(&self) -> Point {
        let leader_epoch = self.leadership().leader_epoch;
        Point { timestamp: NO_TIMESTAMP, offset: self.last_stable_offset(), leader_epoch }
    }

    /// A point whose record is not looked at, with the epoch in which it was written.
    pub(crate) fn named_point(&self, offset: Offset) -> Point {
        let is_end = offset >= self.log.log_end();
        let leader_epoch = if is_end { self.leadership().leader_epoch } else { self.log.epoch_at(offset) };
        Point { timestamp: NO_TIMESTAMP, offset, leader_epoch }
    }

    /// The last archived offset.
    pub(crate) fn latest_tiered(&self) -> Option<Point> {
        self.ledger().map(|pointer| self.named_point(pointer.archived_end - 1))
    }

    /// The first offset that is not archived yet.
    pub(crate) fn earliest_pending_upload(&self) -> Option<Point> {
        let is_tiered = self.log.settings().remote_storage_enable;
        is_tiered.then(|| self.named_point(self.archived_end()))
    }

    /// The first record with a timestamp of at least `timestamp`, wherever it is.
    ///
    /// # Errors
    /// [`LookupError`] when a tier cannot be searched.
    pub(crate) async fn offset_at(self: &Arc<Self>, timestamp: TimestampMs) -> Result<Option<Point>, LookupError> {
        for _ in 0..SEAM_TRIES {
            let searched_end = match self.archive_below_local() {
                Some((cold, pointer)) => {
                    let found = self.in_time(cold.offset_for_timestamp(&pointer, timestamp)).await?;
                    if let Some(p) = found.filter(|p| p.offset < self.log.local_start()) {
                        return Ok(Some(Point::from(p)));
                    }
                    pointer.archived_end
                }
                None => self.log.local_start(),
            };
            if let Some((archived_end, local_start)) = self.hole() {
                return Err(LookupError::Missing(archived_end, local_start));
            }
            let log = Arc::clone(&self.log);
            let found = match blocking::run(move || log.offset_for_timestamp(timestamp)).await {
                Err(hot_tier::ReadError::Storage(damage @ StorageError::Damaged { .. })) => {
                    return self.offset_beside_damage(&damage, timestamp).await;
                }
                found => found?.filter(|p| p.offset < self.high_watermark()),
            };
            // What was archived and evicted in between lies in neither search: they are made again.
            if self.log.local_start() <= searched_end {
                return Ok(found.map(Point::from));
            }
        }
        Err(LookupError::Moving)
    }

    /// As [`Partition::offset_at`], when a local segment is damaged: the archive can tell, if it holds the segment.
    async fn offset_beside_damage(
        self: &Arc<Self>,
        damage: &StorageError,
        timestamp: TimestampMs,
    ) -> Result<Option<Point>, LookupError> {
        if self.meet_damage_anywhere(damage)
            && let Some(pointer) = self.archive_from_now()
            && let Some(p) = self.in_time(self.cold.offset_for_timestamp(&pointer, timestamp)).await?
        {
            return Ok(Some(Point::from(p)));
        }
        Err(LookupError::Damaged(damage.to_string()))
    }

    /// The record with the largest timestamp, the first of several; as in Kafka the first of all where none has one.
    ///
    /// # Errors
    /// [`LookupError`] when a tier cannot be searched.
    pub(crate) async fn max_timestamp(&self) -> Result<Option<Point>, LookupError> {
        let first = self.log_start();
        let known = self.max_known_timestamp().await?;
        Ok(known.or_else(|| (first < self.high_watermark()).then(|| self.named_point(first))))
    }

    async fn max_known_timestamp(&self) -> Result<Option<Point>, LookupError> {
        let (log, end) = (Arc::clone(&self.log), self.high_watermark());
        let hot = blocking::run(move || log.max_timestamp(end)).await?;
        let hot = hot.map(Point::from);
        let Some((cold, pointer)) = self.archive_below_local() else { return Ok(hot) };
        if hot.is_some_and(|p| p.timestamp > pointer.max_timestamp) {
            return Ok(hot);
        }
        let cold = self.in_time(cold.max_timestamp(&pointer)).await?;
        let cold = cold.map(Point::from);
        // Of equal timestamps the earlier record counts, and the archive's are earlier.
        Ok(match (cold, hot) {
            (Some(c), Some(h)) if h.timestamp > c.timestamp => Some(h),
            (Some(c), _) => Some(c),
            (None, hot) => hot,
        })
    }

    /// The largest epoch that is at most `epoch`, and where it ends (KIP-101, KIP-279).
    pub(crate) async fn end_of_epoch(&self, epoch: LeaderEpoch) -> Result<(LeaderEpoch, Offset), LookupError> {
        let current = self.leadership().leader_epoch;
        if epoch == current {
            return Ok((epoch, self.log.log_end()));
        }
        let hot = self.log.end_offset_for_epoch(epoch);
        if hot.0 != NO_LEADER_EPOCH {
            return Ok(hot);
        }
        match self.archive_below_local() {
            Some((cold, pointer)) => {
                let found = self.in_time(cold.end_offset_for_epoch(&pointer, epoch)).await?;
                Ok(found.unwrap_or(hot))
            }
            None => Ok(hot),
        }
    }

    async fn in_time<T>(
        &self,
        search: impl Future<Output = Result<T, cold_tier::ReadError>>,
    ) -> Result<T, LookupError> {
        match tokio::time::timeout(self.cold_timeout, search).await {
            Ok(found) => Ok(found?),
            Err(_) => Err(LookupError::Slow(self.cold_timeout)),
        }
    }

    /// The archive, when it holds offsets that the local disk does not.
    ///
    /// The pointer begins at the log start of now: the ledger's follows later, and not before the store answers.
    fn archive_below_local(&self) -> Option<(&ColdTier, ManifestPointer)> {
        let pointer = self.archive_from_now()?;
        (pointer.log_start < self.log.local_start()).then_some((&self.cold, pointer))
    }

    fn archive_from_now(&self) -> Option<ManifestPointer> {
        let pointer = self.ledger()?;
        Some(ManifestPointer { log_start: self.log_start(), ..(*pointer).clone() })
    }
}
