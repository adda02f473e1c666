//! Appending: as the leader, which assigns offsets, and as a follower, which takes what the leader assigned.
//!
//! All batches of a call get into the log, or none. The bytes go to the segment first, then to the journal, then the log
//! end moves: readers and recovery never see a part.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use model::batch::{
    BatchHeader, BatchView, Batches, HEADER_LEN, TimestampType, ValidatedBatch, patch_base_offset, patch_leader_epoch,
    patch_max_timestamp,
};
use model::settings::FlushMode;
use model::{LeaderEpoch, Offset, TimestampMs};

use super::{PartitionLog, Writer};
use crate::error::{AppendError, StorageError};
use crate::fields::crc32c;
use crate::flush_queue::Pending;
use crate::journal::entry::{Digest, Event, Extent};
use crate::producer_state::{PRODUCERS_MAX, Verdict};
use crate::segment::Segment;

/// Where an append went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record. The append is durable once [`PartitionLog::flushed_end`] is above it.
    pub last_offset: Offset,
    /// The time that the broker gave the records, in ms, when the topic says that it does.
    pub log_append_time: Option<TimestampMs>,
    /// The partition's log start at that moment.
    pub log_start_offset: Offset,
    /// True when the batch was in the log already: the offsets are those of then.
    pub duplicate: bool,
}

/// A batch with its place patched in: in place where the bytes are not shared, else with a header of its own.
enum Patched {
    Whole(BytesMut),
    Headed([u8; HEADER_LEN], Bytes),
}

impl Patched {
    fn new(batch: ValidatedBatch, header: &BatchHeader, append_time: Option<TimestampMs>) -> Self {
        let mut patched = match batch.into_bytes().try_into_mut() {
            Ok(bytes) => Patched::Whole(bytes),
            // A new timestamp changes the checksum, which needs the whole batch at hand.
            Err(bytes) if append_time.is_some() => Patched::Whole(BytesMut::from(&bytes[..])),
            Err(bytes) => {
                let mut head = [0; HEADER_LEN];
                // A validated batch is never shorter than its header.
                head.copy_from_slice(&bytes[..HEADER_LEN]);
                Patched::Headed(head, bytes)
            }
        };
        if let (Some(now), Patched::Whole(bytes)) = (append_time, &mut patched) {
            patch_max_timestamp(bytes, TimestampType::LogAppendTime, now);
        }
        let head = match &mut patched {
            Patched::Whole(bytes) => &mut bytes[..],
            Patched::Headed(head, _) => &mut head[..],
        };
        patch_base_offset(head, header.base_offset);
        patch_leader_epoch(head, header.leader_epoch);
        patched
    }

    fn pieces<'a>(&'a self, out: &mut Vec<&'a [u8]>) {
        match self {
            Patched::Whole(bytes) => out.push(bytes),
            Patched::Headed(head, bytes) => {
                out.push(head);
                out.push(&bytes[HEADER_LEN..]);
            }
        }
    }
}

/// When something is appended. Wall clocks leap; what is stamped and what ages may then be different times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendTime {
    /// What records are stamped with when the topic uses log append time, in milliseconds since the epoch.
    pub stamp_ms: TimestampMs,
    /// What the age of segments and of producers' state is counted from: the clock that [`PartitionLog::roll_if_due`]
    /// is called with, in milliseconds since the epoch.
    pub age_ms: TimestampMs,
}

impl From<TimestampMs> for AppendTime {
    /// Both are the same.
    fn from(ms: TimestampMs) -> Self {
        AppendTime { stamp_ms: ms, age_ms: ms }
    }
}

impl PartitionLog {
    /// True while the journal that all partitions share takes batches. When it does not, the disk is behind: wait, without
    /// holding a lock or a thread that others need.
    #[must_use]
    pub fn has_journal_space(&self) -> bool {
        self.core.has_journal_space()
    }

    /// True while the disk is full: appends are refused until there is space again.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.core.disk_state.full().is_some()
    }

    /// Appends batches from producers: gives them offsets from the log end on, stamps `leader_epoch`, and the time
    /// when the topic uses log append time. Idempotent producers are checked (KIP-98): a batch that is in
    /// the log already is not stored again.
    ///
    /// Returns when the records can be read, not when they are durable: see [`PartitionLog::flushed_end`]. Never waits for the
    /// disk: ask [`PartitionLog::has_journal_space`] before.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was appended then. [`StorageError::JournalFull`], [`StorageError::Full`] and
    /// [`StorageError::NoDescriptor`] may be tried again.
    pub fn append_leader(
        self: &Arc<Self>,
        batches: Vec<ValidatedBatch>,
        leader_epoch: LeaderEpoch,
        now: impl Into<AppendTime>,
    ) -> Result<Appended, AppendError> {
        let AppendTime { stamp_ms, age_ms } = now.into();
        self.core.note_now(age_ms);
        self.core.journal.check_space()?;
        let mut writer = self.lock_writer()?;
        let latest = self.latest_epoch();
        if leader_epoch < latest {
            return Err(AppendError::StaleLeaderEpoch { partition: self.id, leader_epoch, latest });
        }
        let append_time =
            (self.settings.load().message_timestamp_type == TimestampType::LogAppendTime).then_some(stamp_ms);
        let mut headers: Vec<BatchHeader> = Vec::with_capacity(batches.len());
        let mut next = self.log_end();
        for batch in &batches {
            if let Some(duplicate) = self.judge(&writer, batch, &headers)? {
                return Ok(Appended { log_append_time: append_time.map(|_| duplicate.1), ..duplicate.0 });
            }
            let mut header = **batch;
            header.base_offset = next;
            header.leader_epoch = leader_epoch;
            header.max_timestamp = append_time.unwrap_or(header.max_timestamp);
            next = header
                .base_offset
                .checked_add(i64::from(header.last_offset_delta) + 1)
                .ok_or_else(|| self.exhausted())?;
            headers.push(header);
        }
        let patched: Vec<Patched> =
            batches.into_iter().zip(&headers).map(|(batch, header)| Patched::new(batch, header, append_time)).collect();
        let mut pieces = Vec::with_capacity(patched.len() * 2);
        patched.iter().for_each(|batch| batch.pieces(&mut pieces));
        self.append(&mut writer, &headers, &pieces, age_ms)?;
        Ok(Appended {
            base_offset: headers[0].base_offset,
            last_offset: next - 1,
            log_append_time: append_time,
            log_start_offset: self.log_start(),
            duplicate: false,
        })
    }

    /// Appends whole batches as a leader gave them out: offsets and epochs stay. Offsets may leave gaps (the leader's log
    /// may be compacted) but must ascend from the log end on. The time is the newest that the tier was given. Never waits for
    /// the disk.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was appended then.
    pub fn append_follower(self: &Arc<Self>, records: &Bytes) -> Result<Appended, AppendError> {
        self.core.journal.check_space()?;
        let mut writer = self.lock_writer()?;
        let mut headers: Vec<BatchHeader> = Vec::new();
        let mut next = self.log_end();
        let mut latest = self.latest_epoch();
        for batch in Batches::new(records) {
            let intact = batch.and_then(|batch: BatchView<'_>| batch.verify_crc().map(|()| batch.header));
            let header = intact.map_err(|source| AppendError::Invalid { partition: self.id, source })?;
            let base_offset = header.base_offset;
            if base_offset < next || header.last_offset_delta < 0 || header.last_offset() == Offset::MAX {
                return Err(AppendError::NotContiguous { partition: self.id, base_offset, log_end: next });
            }
            let leader_epoch = header.leader_epoch;
            if leader_epoch < latest {
                return Err(AppendError::StaleLeaderEpoch { partition: self.id, leader_epoch, latest });
            }
            latest = leader_epoch;
            next = header.next_offset();
            headers.push(header);
        }
        self.append(&mut writer, &headers, &[records], self.core.now_ms())?;
        Ok(Appended {
            base_offset: headers[0].base_offset,
            last_offset: next - 1,
            log_append_time: None,
            log_start_offset: self.log_start(),
            duplicate: false,
        })
    }

    /// Where a batch is that its producer sends again, with its timestamp; `None` when it is new.
    fn judge(
        &self,
        writer: &Writer,
        batch: &BatchHeader,
        before: &[BatchHeader],
    ) -> Result<Option<(Appended, TimestampMs)>, AppendError> {
        if !batch.has_producer_id() {
            return Ok(None);
        }
        let (producer_id, producer_epoch) = (batch.producer_id, batch.producer_epoch);
        match writer.producers.judge(batch, before) {
            Verdict::Next => Ok(None),
            Verdict::Duplicate(mark) => {
                let appended = Appended {
                    base_offset: mark.base_offset,
                    last_offset: mark.last_offset,
                    log_append_time: None,
                    log_start_offset: self.log_start(),
                    duplicate: true,
                };
                Ok(Some((appended, mark.timestamp)))
            }
            Verdict::OutOfOrder { expected } => {
                let (partition, sequence) = (self.id, batch.base_sequence);
                Err(AppendError::OutOfOrderSequence { partition, producer_id, producer_epoch, sequence, expected })
            }
            Verdict::Fenced { current } => {
                Err(AppendError::InvalidProducerEpoch { partition: self.id, producer_id, producer_epoch, current })
            }
        }
    }

    /// Puts batches with their final headers into the log. `pieces` are their bytes, back to back.
    fn append(
        self: &Arc<Self>,
        writer: &mut Writer,
        headers: &[BatchHeader],
        pieces: &[&[u8]],
        now_ms: TimestampMs,
    ) -> Result<(), AppendError> {
        self.write_batches(writer, headers, pieces, now_ms).inspect_err(|error| {
            if let AppendError::Storage(error) = error {
                self.core.note_full(error);
            }
        })
    }

    fn write_batches(
        self: &Arc<Self>,
        writer: &mut Writer,
        headers: &[BatchHeader],
        pieces: &[&[u8]],
        now_ms: TimestampMs,
    ) -> Result<(), AppendError> {
        let (Some(first), Some(last)) = (headers.first(), headers.last()) else {
            return Err(AppendError::Empty(self.id));
        };
        let len: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
        self.roll_for(writer, first.base_offset..last.next_offset(), len, now_ms)?;
        let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut active = self.active();
        let mut written = active.write(&self.core.files, &slices);
        if written.is_err() && active.has_unreadable_end(&self.core.files) {
            tracing::error!(
                partition = %self.id, topic = %self.topic, segment = %active.log_slot().path().display(),
                "the disk cannot read the end of a segment: the next batch is written to a new segment"
            );
            self.roll_at(writer, first.base_offset.max(self.log_end()))?;
            active = self.active();
            written = active.write(&self.core.files, &slices);
        }
        let written = written.map_err(|e| self.core.judge(e));
        let extent = Extent {
            segment_base: active.base(),
            position: active.size(),
            first: first.base_offset,
            next: last.next_offset(),
        };
        let bypassed = writer.mode == FlushMode::Durable && len >= self.core.config.flush_bypass_bytes;
        let journaled = written.and_then(|()| self.journal_append(writer.mode, extent, pieces, len));
        if let Err(e) = journaled {
            self.take_back(&active);
            return Err(e.into());
        }
        active.publish(headers, now_ms, self.settings.load().index_interval_bytes);
        self.note_batches(writer, headers, now_ms);
        self.log_end.store(extent.next, Ordering::Release);
        if writer.mode == FlushMode::Replicated {
            self.note_flushed(extent.next);
        }
        self.mark_dirty();
        active.store_full_indexes(&self.core.files);
        let bypassed = bypassed.then(|| Arc::clone(&active));
        self.core.flush.push(Pending { partition: Arc::clone(self), end: extent.next, bypassed });
        if self.core.wants_checkpoint() {
            self.core.housekeeping.raise();
        }
        Ok(())
    }

    fn journal_append(&self, mode: FlushMode, extent: Extent, pieces: &[&[u8]], len: u64) -> Result<(), StorageError> {
        let bypass = len >= self.core.config.flush_bypass_bytes;
        match mode {
            FlushMode::Replicated => self.core.check(),
            FlushMode::Durable if bypass => {
                let digest = Digest { len, crc: crc32c(pieces.iter().copied()) };
                self.core.journal(self.id, &Event::Bypassed(extent, digest), &[]).map(drop)
            }
            FlushMode::Durable => self.core.journal(self.id, &Event::Append(extent), pieces).map(drop),
        }
    }

    /// Gives back the space of an append that failed. Bytes that cannot be cut lie behind the end and are overwritten later.
    fn take_back(&self, active: &Segment) {
        if self.core.failure().is_none()
            && let Err(e) = active.discard_unpublished(&self.core.files)
            && !e.is_not_found()
            && !self.core.lacks_descriptor(&e)
        {
            tracing::warn!(partition = %self.id, error = %e, "cannot give back the space of a failed append");
        }
    }

    fn note_batches(&self, writer: &mut Writer, headers: &[BatchHeader], now_ms: TimestampMs) {
        for header in headers {
            let forgotten = writer.producers.apply(header, now_ms);
            if forgotten > 0 {
                tracing::warn!(
                    partition = %self.id, topic = %self.topic, forgotten, max = PRODUCERS_MAX,
                    "too many idempotent producers: forgot those that were silent for longest"
                );
            }
            if self.epochs.read().is_new(header.leader_epoch) {
                self.epochs.write().begin(header.leader_epoch, header.base_offset);
                writer.history_stale = true;
            }
        }
    }

    fn exhausted(&self) -> AppendError {
        AppendError::OffsetsExhausted(self.id)
    }
}
