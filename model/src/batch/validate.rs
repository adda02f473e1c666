//! The door of the log: a batch from a producer is checked here, once, before anything is stored.
//!
//! The rules are those of Apache Kafka's `LogValidator` for message format 2, and one of our own: header keys are UTF-8,
//! because the archive's table shows them as text.

use std::cell::RefCell;
use std::ops::{Deref, RangeInclusive};

use bytes::{Bytes, BytesMut};

use super::{BatchError, BatchHeader, BatchView, MAX_BATCH_BYTES, RecordsBuffer, TimestampType, patch_max_timestamp};
use crate::{NO_TIMESTAMP, TimestampMs};

/// What a topic allows, and the time at the door.
#[derive(Debug, Clone, Copy)]
pub struct ProduceLimits {
    /// Largest batch in bytes, as sent: `max.message.bytes`.
    pub max_batch_bytes: usize,
    /// Largest batch in bytes after decompression.
    pub max_decompressed_bytes: usize,
    /// `message.timestamp.type`; timestamps are only looked at when the producer gives them.
    pub timestamp_type: TimestampType,
    /// How far before `now` a timestamp may lie, in ms.
    pub timestamp_before_max_ms: u64,
    /// How far after `now` a timestamp may lie, in ms.
    pub timestamp_after_max_ms: u64,
    /// The time, in ms since the epoch.
    pub now: TimestampMs,
}

/// Why a producer's batch is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBatch {
    /// Kafka: `CORRUPT_MESSAGE`.
    #[error("{0}")]
    Corrupt(BatchError),
    /// Kafka: `INVALID_RECORD`.
    #[error("{0}")]
    Invalid(String),
    /// Kafka: `INVALID_RECORD`, before it looks into the batch.
    #[error("{0}")]
    NotOneBatch(String),
    /// Kafka: `MESSAGE_TOO_LARGE`.
    #[error("the record batch has {size} bytes, the topic allows {limit} (max.message.bytes)")]
    TooLarge {
        /// Bytes of the batch.
        size: usize,
        /// Bytes that are allowed.
        limit: usize,
    },
    /// Kafka: `INVALID_TIMESTAMP`.
    #[error(
        "{} records have timestamps outside {} to {}; the first is record {} with {}",
        .0.count, .0.allowed.start(), .0.allowed.end(), .0.first.index, .0.first.timestamp
    )]
    Timestamps(Box<OutsideTimestamps>),
}

/// Records whose timestamps lie outside what the topic allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutsideTimestamps {
    /// How many records there are.
    pub count: usize,
    /// The first of them.
    pub first: OutsideTimestamp,
    /// All others; none where more than [`MAX_NAMED_RECORDS`] are at fault.
    pub others: Vec<OutsideTimestamp>,
    /// What is allowed, in ms since the epoch.
    pub allowed: RangeInclusive<TimestampMs>,
}

impl OutsideTimestamps {
    /// Each record at fault; nothing where there are too many to name.
    pub fn named(&self) -> impl Iterator<Item = &OutsideTimestamp> {
        let is_complete = self.others.len() + 1 == self.count;
        std::iter::once(&self.first).chain(&self.others).filter(move |_| is_complete)
    }
}

/// A record whose timestamp lies outside what the topic allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutsideTimestamp {
    /// Which record, from 0.
    pub index: i32,
    /// Its timestamp in ms.
    pub timestamp: TimestampMs,
}

/// Records of one batch that a refusal names.
pub const MAX_NAMED_RECORDS: usize = 1_000;

/// One batch that passed [`validate_produced`]: framing, checksum, counts, offsets, timestamps and header keys are
/// right. Appending needs no second check.
#[derive(Debug, Clone)]
pub struct ValidatedBatch {
    header: BatchHeader,
    bytes: Bytes,
}

impl ValidatedBatch {
    /// The batch's bytes, exactly.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The batch's bytes, for patching without a copy where no other reference holds them.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The decoded header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Takes a batch that this process has built itself, such as a record of an internal topic or a transaction marker.
    ///
    /// # Errors
    /// [`BatchError`] when the framing or the checksum is wrong.
    pub fn from_own(bytes: Bytes) -> Result<Self, BatchError> {
        let batch = BatchView::parse(&bytes)?;
        batch.verify_crc()?;
        if batch.bytes.len() != bytes.len() {
            return Err(BatchError::Truncated { needed: batch.bytes.len(), available: bytes.len() });
        }
        Ok(ValidatedBatch { header: batch.header, bytes })
    }
}

impl Deref for ValidatedBatch {
    type Target = BatchHeader;

    fn deref(&self) -> &BatchHeader {
        &self.header
    }
}

/// Decompression memory that a thread keeps between batches, in bytes.
const KEPT_BUFFER_BYTES: usize = 4 << 20;

thread_local! {
    static BUFFER: RefCell<RecordsBuffer> = RefCell::default();
}

/// Checks the records of one partition in a produce request: exactly one batch, as the protocol demands since KIP-98.
///
/// A largest timestamp that the producer computed wrongly is set right, as Apache Kafka does; nothing else changes.
///
/// # Errors
/// [`InvalidBatch`] says which rule is broken; each variant is one Kafka error code.
pub fn validate_produced(records: Bytes, limits: &ProduceLimits) -> Result<ValidatedBatch, InvalidBatch> {
    let batch = BatchView::parse(&records).map_err(|e| match e {
        // There is no whole batch of this format: the producer's mistake, not damage on the way.
        BatchError::Magic(0 | 1) | BatchError::Truncated { .. } => InvalidBatch::NotOneBatch(e.to_string()),
        e => InvalidBatch::Corrupt(e),
    })?;
    let limit = limits.max_batch_bytes.min(MAX_BATCH_BYTES);
    if batch.bytes.len() > limit {
        return Err(InvalidBatch::TooLarge { size: batch.bytes.len(), limit });
    }
    if batch.bytes.len() != records.len() {
        return Err(InvalidBatch::NotOneBatch("a produce request holds exactly one record batch per partition".into()));
    }
    batch.verify_crc().map_err(InvalidBatch::Corrupt)?;
    check_header(&batch.header)?;
    let codec = batch.header.attributes.compression().map_err(InvalidBatch::Corrupt)?;
    codec.check_readable(batch.payload()).map_err(InvalidBatch::Corrupt)?;
    let max_timestamp = BUFFER.with_borrow_mut(|buffer| {
        buffer.set_limit(limits.max_decompressed_bytes);
        let checked = check_records(&batch, buffer, limits);
        if buffer.capacity_bytes() > KEPT_BUFFER_BYTES {
            buffer.shrink_to(KEPT_BUFFER_BYTES);
        }
        checked
    })?;
    let header = batch.header;
    if max_timestamp != header.max_timestamp && limits.timestamp_type == TimestampType::CreateTime {
        let mut bytes = BytesMut::from(&records[..]);
        patch_max_timestamp(&mut bytes, TimestampType::CreateTime, max_timestamp);
        let bytes = bytes.freeze();
        let header = BatchHeader::parse(&bytes).map_err(InvalidBatch::Corrupt)?;
        return Ok(ValidatedBatch { header, bytes });
    }
    Ok(ValidatedBatch { header, bytes: records })
}

fn check_header(header: &BatchHeader) -> Result<(), InvalidBatch> {
    let invalid = |what: String| Err(InvalidBatch::Invalid(what));
    if header.base_offset != 0 {
        return invalid(format!("a producer's batch begins at offset 0, not at {}", header.base_offset));
    }
    if header.is_control() {
        return invalid("a producer must not send control batches".into());
    }
    if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
        return invalid("a producer must not claim log append time".into());
    }
    if header.record_count <= 0 {
        return invalid(format!("the batch counts {} records, at least one is needed", header.record_count));
    }
    if header.last_offset_delta != header.record_count - 1 {
        let (last, count) = (header.last_offset_delta, header.record_count);
        return invalid(format!("the batch counts {count} records but ends at relative offset {last}"));
    }
    if header.has_producer_id() && (header.base_sequence < 0 || header.producer_epoch < 0) {
        return invalid("a batch with a producer id needs an epoch and a sequence number".into());
    }
    if header.is_transactional() && !header.has_producer_id() {
        return invalid("a transactional batch needs a producer id".into());
    }
    Ok(())
}

/// Checks every record; answers the largest timestamp.
fn check_records(
    batch: &BatchView<'_>,
    buffer: &mut RecordsBuffer,
    limits: &ProduceLimits,
) -> Result<TimestampMs, InvalidBatch> {
    let mut times = Times::new(limits);
    let mut max_timestamp = NO_TIMESTAMP;
    let records = batch.records(buffer).map_err(|e| match e {
        BatchError::TooLarge { limit } => InvalidBatch::TooLarge { size: limit.saturating_add(1), limit },
        e => InvalidBatch::Corrupt(e),
    })?;
    let mut expected = 0;
    for (index, record) in records.enumerate() {
        let record = record.map_err(|e| InvalidBatch::Invalid(e.to_string()))?;
        if record.offset_delta != expected {
            let got = record.offset_delta;
            return Err(InvalidBatch::Invalid(format!("record {index} has relative offset {got}, {expected} follows")));
        }
        expected += 1;
        for header in record.headers.iter() {
            header.map_err(|e| InvalidBatch::Invalid(e.to_string()))?;
        }
        times.check(expected - 1, record.timestamp);
        max_timestamp = max_timestamp.max(record.timestamp);
    }
    if expected != batch.header.record_count {
        return Err(InvalidBatch::Invalid(format!("the batch holds {expected} records, not what its header counts")));
    }
    times.outside.map_or(Ok(max_timestamp), |outside| Err(InvalidBatch::Timestamps(outside)))
}

/// Looks for records whose timestamps lie outside what the topic allows.
struct Times {
    /// `None` where the broker gives the time.
    allowed: Option<RangeInclusive<TimestampMs>>,
    outside: Option<Box<OutsideTimestamps>>,
}

impl Times {
    fn new(limits: &ProduceLimits) -> Self {
        let earliest = limits.now.saturating_sub_unsigned(limits.timestamp_before_max_ms);
        let latest = limits.now.saturating_add_unsigned(limits.timestamp_after_max_ms);
        let is_given = limits.timestamp_type == TimestampType::CreateTime;
        Times { allowed: is_given.then_some(earliest..=latest), outside: None }
    }

    fn check(&mut self, index: i32, timestamp: TimestampMs) {
        let Some(allowed) = &self.allowed else { return };
        if timestamp == NO_TIMESTAMP || allowed.contains(&timestamp) {
            return;
        }
        let found = OutsideTimestamp { index, timestamp };
        match &mut self.outside {
            None => {
                let (others, allowed) = (Vec::new(), allowed.clone());
                self.outside = Some(Box::new(OutsideTimestamps { count: 1, first: found, others, allowed }));
            }
            Some(outside) => {
                outside.count += 1;
                if outside.count <= MAX_NAMED_RECORDS {
                    outside.others.push(found);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
