//! Settling: closed segments go to the archive, then leave the local disk.
//!
//! One pass keeps the order of D7 — object, manifest, pointer, local delete — and may be cut off anywhere: what no
//! pointer names is swept later, what was not evicted is evicted by the next pass. Passes of one partition never overlap.
//! Only the leader archives, and all of a pass in the term in which it began: the ledger refuses what comes later.

mod error;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cold_tier::{ArchiveError, ArchiveOptions, ArchivedSegment, ManifestChange, RetentionLimits};
use coordinator::cluster::{ArchiveCommit, ArchiveReply, Command, LogStartMove, Reply};
use hot_tier::AgeOf;
use model::archive::ManifestPointer;
use model::segment::SealedSegment;
use model::{LeaderEpoch, Offset, TimestampMs};
use tokio::time::Instant;
use tracing::{error, info, warn};
use uuid::Uuid;

pub(crate) use self::error::{DeleteError, SettleError};
use super::damage::ADVICE;
use super::health::{Activity, Trouble};
use super::{NotCommitted, Partition};
use crate::crash_point::crash_point;
use crate::machine::blocking;
use crate::metadata::{Metadata, SubmitError};
use crate::store_identity::StoreIdentity;

/// Everything that background work on a partition needs.
#[derive(Clone, Copy)]
pub(crate) struct Upkeep<'a> {
    pub(crate) metadata: &'a Metadata,
    pub(crate) store: &'a StoreIdentity,
    /// The time, in ms since the epoch.
    pub(crate) now: TimestampMs,
}

impl Partition {
    /// Closes the open segment when its time is over, then tells whether a pass would find something to do.
    pub(crate) fn needs_settling(&self, now: TimestampMs) -> bool {
        if let Err(error) = self.log.roll_if_due(now) {
            warn!(topic = %self.topic, partition = self.id.partition, %error, "cannot close the open segment");
        }
        if !self.is_tiered() {
            return false;
        }
        let (closed_end, archived_end) = (self.log.active_segment_base(), self.unarchived_start());
        let mut health = self.archive.lock();
        health.note(closed_end, archived_end, now);
        if health.pauses(Instant::now()) {
            return false;
        }
        drop(health);
        let is_behind = || self.ledger().is_some_and(|p| p.log_start < self.log.log_start().min(p.archived_end));
        closed_end > archived_end || is_behind()
    }

    /// For how long the oldest closed segment waits for the archive, in ms.
    pub(crate) fn waiting_ms(&self, now: TimestampMs) -> u64 {
        let archived_end = self.unarchived_start();
        let since = self.archive.lock().waiting_since(archived_end);
        since.map_or(0, |since| u64::try_from(now.saturating_sub(since)).unwrap_or(0))
    }

    /// First offset that is not archived. Without an archive it is the log start: what the local log lacks of it is missing.
    fn unarchived_start(&self) -> Offset {
        self.ledger().map_or_else(|| self.log.log_start(), |pointer| pointer.archived_end)
    }

    /// True when the topic is archived (`remote.storage.enable`).
    pub(crate) fn is_tiered(&self) -> bool {
        self.log.settings().remote_storage_enable
    }

    /// One pass: archives what is closed and committed, and evicts what local retention no longer wants. After a failure
    /// the partition pauses, at most `max_pause`. The pass ends early, between two commits, when `others_wait`.
    pub(crate) async fn settle(
        self: &Arc<Self>,
        upkeep: &Upkeep<'_>,
        max_pause: Duration,
        others_wait: &(dyn Fn() -> bool + Send + Sync),
    ) {
        let Some(term) = self.term() else { return };
        let outcome = match upkeep.store.check().await {
            Ok(()) => self.try_settle(upkeep, term, others_wait).await,
            Err(error) => Err(error.into()),
        };
        match outcome {
            Ok(()) => self.archive.lock().succeeded(Activity::Archive),
            // Nothing is left to be archived by this node, and no error to report.
            Err(_) if self.is_deleted() || self.term() != Some(term) => {
                self.archive.lock().succeeded(Activity::Archive);
            }
            Err(error) => {
                let spread = rand::random_range(0.0..1.0);
                let pause = self.archive.lock().archiving_failed(error.to_string(), Instant::now(), max_pause, spread);
                self.report(&error, pause);
                metrics::counter!("firn_archive_failures_total").increment(1);
            }
        }
    }

    fn report(&self, error: &SettleError, retry_in: Duration) {
        let (topic, partition) = (&self.topic, self.id.partition);
        if let SettleError::Cold(ArchiveError::DamagedSegment { offset, .. }) = error {
            let segments = self.log.segments();
            let damaged = segments.iter().rev().find(|segment| segment.base_offset <= *offset);
            self.want_mending(damaged.map_or(*offset, |segment| segment.base_offset));
            let folder = self.log.dir().display();
            error!(%topic, partition, %error, %folder, ?retry_in, "a local segment is damaged and cannot be archived: {ADVICE}");
        } else {
            warn!(%topic, partition, %error, ?retry_in, "archiving failed; the local copy stays");
        }
    }

    async fn try_settle(
        self: &Arc<Self>,
        upkeep: &Upkeep<'_>,
        term: LeaderEpoch,
        others_wait: &(dyn Fn() -> bool + Send + Sync),
    ) -> Result<(), SettleError> {
        let Upkeep { metadata, now, .. } = *upkeep;
        self.adopt_after_recovery(metadata, term).await?;
        loop {
            let segments = match self.closed_segments() {
                Err(missing @ hot_tier::SealError::Missing { .. }) => {
                    // The ledger may be older than the archive, which then has what is missing.
                    if self.adopt_newer(metadata, term).await? {
                        continue;
                    }
                    return Err(missing.into());
                }
                segments => segments?,
            };
            if segments.is_empty() {
                break;
            }
            self.archive_segments(metadata, term, segments, now).await?;
            self.evict(now)?;
            if others_wait() {
                break;
            }
        }
        self.commit_log_start(metadata, term).await?;
        self.evict(now)
    }

    /// The next closed segments that are not archived; the first may begin below the archive's end.
    fn closed_segments(&self) -> Result<Vec<SealedSegment>, hot_tier::SealError> {
        let below = self.last_stable_offset();
        match self.log.sealed_segments(self.unarchived_start(), below) {
            Err(hot_tier::SealError::InsideSegment { base, .. }) => self.log.sealed_segments(base, below),
            sealed => sealed,
        }
    }

    async fn archive_segments(
        &self,
        metadata: &Metadata,
        leader_epoch: LeaderEpoch,
        segments: Vec<SealedSegment>,
        now: TimestampMs,
    ) -> Result<(), SettleError> {
        let codec = self.log.settings().archive_compression;
        // The first segment may begin below the archive's end: the rest of it counts.
        let mut from = self.ledger().map(|pointer| pointer.archived_end);
        let mut append = Vec::new();
        let mut failure = None;
        for segment in segments {
            self.check_term(leader_epoch)?;
            let from = from.take().filter(|end| *end > segment.base_offset);
            let options = ArchiveOptions { codec, leader_epoch, attempt: Uuid::new_v4(), now, from };
            match self.cold.archive(&[segment], options).await {
                Ok(object) => append.push(object),
                // What is uploaded counts: a store that fails now and then must not keep a backlog from shrinking.
                Err(error) if !append.is_empty() => {
                    failure = Some(error);
                    break;
                }
                Err(error) => return Err(error.into()),
            }
            crash_point("archive.object-written");
        }
        let count = append.len();
        let log_start = Some(self.log_start());
        let pointer =
            self.commit(metadata, ManifestChange { append, log_start, leader_epoch, attempt: Uuid::new_v4() }).await?;
        info!(
            topic = %self.topic, partition = self.id.partition, segments = count, archived_end = pointer.archived_end,
            "archived closed segments"
        );
        failure.map_or(Ok(()), |error| Err(error.into()))
    }

    fn check_term(&self, term: LeaderEpoch) -> Result<(), SettleError> {
        match self.term() {
            _ if self.is_deleted() => Err(SettleError::Deleted),
            Some(now) if now == term => Ok(()),
            _ => Err(SettleError::NotLeader),
        }
    }

    /// Writes the log start to the manifest when it has moved since.
    async fn commit_log_start(&self, metadata: &Metadata, term: LeaderEpoch) -> Result<(), SettleError> {
        let Some(pointer) = self.ledger() else { return Ok(()) };
        let log_start = self.log.log_start().min(pointer.archived_end);
        if log_start <= pointer.log_start {
            return Ok(());
        }
        let (append, log_start, leader_epoch) = (Vec::new(), Some(log_start), term);
        let change = ManifestChange { append, log_start, leader_epoch, attempt: Uuid::new_v4() };
        self.commit(metadata, change).await.map(drop)
    }

    /// Manifest, then pointer. An outcome that is uncertain is settled by looking at the ledger, never by deleting.
    async fn commit(&self, metadata: &Metadata, change: ManifestChange) -> Result<ManifestPointer, SettleError> {
        let previous = self.ledger();
        self.commit_after(metadata, previous.as_deref(), change).await
    }

    /// As [`Partition::commit`], where the new manifest follows `previous`: the ledger's, or a newer one that is adopted.
    pub(super) async fn commit_after(
        &self,
        metadata: &Metadata,
        previous: Option<&ManifestPointer>,
        change: ManifestChange,
    ) -> Result<ManifestPointer, SettleError> {
        let replaces = self.ledger().map_or(0, |held| held.version);
        let leader_epoch = change.leader_epoch;
        self.check_term(leader_epoch)?;
        let pointer = self.cold.write_manifest(&self.id, &self.topic, previous, change).await?;
        crash_point("archive.manifest-written");
        let command = Command::ArchiveCommit(ArchiveCommit {
            partition: self.id,
            leader_epoch,
            replaces,
            pointer: pointer.clone(),
            adopts: previous.is_some_and(|previous| previous.version != replaces),
        });
        let reply = metadata.submit(command).await;
        crash_point("archive.ledger-committed");
        let image = metadata.image();
        let held = image.archive(self.id).cloned();
        self.follow_ledger(held.as_ref());
        // The manifest that was replaced, or the one that lost, is an orphan from now on.
        self.is_unswept.store(true, Ordering::Release);
        match reply {
            Ok(Reply::Archive(ArchiveReply::Committed)) => Ok(pointer),
            // Whatever the answer was: the ledger says what is true.
            _ if held.as_deref() == Some(&pointer) => Ok(pointer),
            Ok(reply) => Err(SettleError::Overtaken(format!("{reply:?}"))),
            Err(error) => Err(error.into()),
        }
    }

    /// The archive's log start, and up to where local retention wants archived segments gone. Without a ledger entry nothing
    /// is archived, so nothing may go.
    pub(super) fn eviction_end(&self, now: TimestampMs) -> Option<(Offset, Offset)> {
        let pointer = self.ledger()?;
        let expired = self.log.retention_end(self.local_limits(), now);
        let wanted = expired.max(pointer.log_start).max(self.damaged_end());
        Some((pointer.log_start, wanted.min(pointer.archived_end)))
    }

    /// Drops local segments that are archived, that this node has seen in the store, and that local retention no longer wants.
    pub(crate) fn evict(&self, now: TimestampMs) -> Result<(), SettleError> {
        let Some((log_start, wanted)) = self.eviction_end(now) else { return Ok(()) };
        crash_point("archive.evicting");
        let evicted = self.log.evict_below(wanted.min(self.seen_end().max(log_start)))?;
        if evicted.segments > 0 {
            crash_point("archive.evicted");
        }
        metrics::counter!("firn_evicted_bytes_total").increment(evicted.bytes);
        Ok(())
    }

    /// Total retention: moves the log start over what is too old or too much, in both tiers. Then local retention. Both reach
    /// the open segment: an idle partition must not keep it until `segment.ms` is over.
    pub(crate) async fn retain(self: &Arc<Self>, metadata: &Metadata, now: TimestampMs) -> Result<(), SettleError> {
        if let Some(term) = self.term() {
            self.retain_in_total(metadata, term, now).await?;
            if self.is_tiered() {
                self.log.roll_if_expired(self.local_limits(), now)?;
            }
        }
        self.evict(now)
    }

    async fn retain_in_total(
        self: &Arc<Self>,
        metadata: &Metadata,
        term: LeaderEpoch,
        now: TimestampMs,
    ) -> Result<(), SettleError> {
        self.catch_up_log_start().await.map_err(SettleError::LogStart)?;
        let settings = self.log.settings();
        let limits = RetentionLimits::from(&*settings);
        if limits == RetentionLimits::default() {
            return Ok(());
        }
        let log_start = match self.ledger() {
            Some(pointer) => {
                let unarchived = self.unarchived_bytes(pointer.archived_end).map_err(SettleError::LogStart)?;
                let start = self.cold.retention_start(&pointer, limits, unarchived, now).await?;
                // When the whole archive may go, what is only local is looked at as well.
                if start < pointer.archived_end { start } else { start.max(self.total_retention_end(now)?) }
            }
            None => self.total_retention_end(now)?,
        };
        // Never past what consumers could have read.
        let log_start = log_start.min(self.high_watermark());
        if log_start <= self.log_start() {
            return Ok(());
        }
        info!(topic = %self.topic, partition = self.id.partition, log_start, "retention moves the log start");
        self.keep_log_start(metadata, term, log_start).await.map_err(SettleError::NotKept)?;
        crash_point("retention.log-start-kept");
        self.move_log_start(log_start).await.map_err(SettleError::LogStart)?;
        crash_point("retention.log-start-moved");
        self.commit_log_start(metadata, term).await
    }

    /// Bytes of the local log that are not archived. The archive may end inside of a segment.
    pub(super) fn unarchived_bytes(&self, archived_end: Offset) -> Result<u64, hot_tier::ReadError> {
        self.log.size_bytes_from(archived_end)
    }

    /// Up to where total retention wants the local segments gone. Closes the open one when it is among them.
    fn total_retention_end(&self, now: TimestampMs) -> Result<Offset, SettleError> {
        let settings = self.log.settings();
        let (max_age_ms, max_bytes) = (settings.retention_ms, settings.retention_bytes);
        let limits = hot_tier::RetentionLimits { max_age_ms, max_bytes, age_of: AgeOf::Records };
        self.log.roll_if_expired(limits, now)?;
        Ok(self.log.retention_end(limits, now))
    }

    /// Limits of local retention: archived segments are copies.
    pub(super) fn local_limits(&self) -> hot_tier::RetentionLimits {
        let settings = self.log.settings();
        let (max_age_ms, max_bytes) = (settings.local_retention_ms, settings.local_retention_bytes);
        hot_tier::RetentionLimits { max_age_ms, max_bytes, age_of: AgeOf::Copy }
    }

    /// DeleteRecords: moves the log start to `offset`, durably, and so that no later leader takes it back.
    ///
    /// # Errors
    /// [`DeleteError`]; the move continues when it was not in time.
    pub(crate) async fn delete_below(
        self: &Arc<Self>,
        metadata: &Metadata,
        offset: Offset,
        deadline: Instant,
    ) -> Result<(), DeleteError> {
        let Some(term) = self.term() else { return Err(NotCommitted::NotLeader.into()) };
        if offset <= self.log_start() {
            return Ok(());
        }
        let (partition, metadata) = (Arc::clone(self), metadata.clone());
        let moving = tokio::spawn(async move {
            partition.keep_log_start(&metadata, term, offset).await.map_err(DeleteError::NotKept)?;
            crash_point("delete-records.log-start-kept");
            partition.move_log_start(offset).await?;
            crash_point("delete-records.log-start-moved");
            Ok(())
        });
        match tokio::time::timeout_at(deadline, moving).await {
            Ok(moved) => blocking::unwound(moved),
            Err(_) => Err(NotCommitted::TimedOut.into()),
        }
    }

    /// Writes a log start to the metadata, where every later leader finds it. Only then may readers be shown it.
    async fn keep_log_start(
        &self,
        metadata: &Metadata,
        leader_epoch: LeaderEpoch,
        log_start: Offset,
    ) -> Result<(), SubmitError> {
        // Without such rules each replica keeps its own.
        if !metadata.image().keeps_log_starts() || log_start <= self.leadership().log_start {
            return Ok(());
        }
        let moves = vec![LogStartMove { partition: self.id, leader_epoch, log_start }];
        let reply = metadata.submit(Command::MoveLogStarts { broker: metadata.broker(), moves }).await?;
        match reply {
            Reply::PartitionsAltered(mut outcomes) if outcomes.len() == 1 => {
                outcomes.remove(0).map(drop).map_err(SubmitError::Refused)
            }
            reply => Err(SubmitError::Uncertain { reason: format!("an unexpected reply: {reply:?}") }),
        }
    }

    /// A move whose caller has given up waiting, or that a former leader did not come to make.
    async fn catch_up_log_start(&self) -> Result<(), hot_tier::ReadError> {
        let kept = self.leadership().log_start.min(self.log.log_end());
        if kept > self.log.log_start() { self.move_log_start(kept).await } else { Ok(()) }
    }

    /// The move waits for a flush: it is made on a thread that may wait.
    async fn move_log_start(&self, offset: Offset) -> Result<(), hot_tier::ReadError> {
        let log = Arc::clone(&self.log);
        blocking::run(move || log.advance_log_start(offset)).await
    }

    /// The archived objects, oldest first.
    ///
    /// # Errors
    /// When the manifest cannot be read.
    pub(crate) async fn archived_objects(&self) -> Result<Vec<ArchivedSegment>, cold_tier::ReadError> {
        match self.ledger() {
            Some(pointer) => self.cold.entries(&pointer).await,
            None => Ok(Vec::new()),
        }
    }

    /// Takes note of how an activity went.
    pub(crate) fn note_upkeep<T, E: std::fmt::Display>(&self, activity: Activity, outcome: &Result<T, E>) {
        let mut health = self.archive.lock();
        match outcome {
            Ok(_) => health.succeeded(activity),
            Err(error) => health.upkeep_failed(activity, error.to_string(), Instant::now()),
        }
    }

    /// Whether an object that no manifest names may yet appear: a call to write one failed, and its request may still be on
    /// its way.
    pub(crate) fn awaits_orphans(&self, grace: Duration) -> bool {
        self.archive.lock().may_arrive_late(Instant::now(), grace)
    }

    /// What goes wrong with the archive now.
    pub(crate) fn archive_troubles(&self, now: TimestampMs) -> Vec<Trouble> {
        self.archive.lock().troubles(self.log_start(), Instant::now(), now)
    }
}
