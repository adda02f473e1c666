//! From a chunk's columns to Kafka record batches, as a consumer gets them.
//!
//! Records keep their offsets, timestamps and producer facts. A batch ends where a fact that belongs to the batch changes
//! (leader epoch, timestamp type, producer id or epoch, the append time of a log-append-time batch), where a sequence
//! number does not follow from the batch's first, where a delta would not fit, and at [`BATCH_TARGET_BYTES`]. Batches are
//! uncompressed and carry neither the transactional nor the control flag: what is archived is committed (D6).
//!
//! The bytes are written straight into the chunk's buffer, header last, which is why this is not `model`'s builder.

use bytes::Bytes;
use model::Offset;
use model::batch::{Attributes, HEADER_LEN, LENGTH_PREFIX_LEN, MAGIC, TimestampType, varint};

use crate::checksum::crc32c;
use crate::columns::{Columns, Facts};

/// Bytes at which a batch ends: large enough that a consumer spends no time on headers, small enough to share a fetch of
/// `max.partition.fetch.bytes` (1 MiB) without waste.
pub(crate) const BATCH_TARGET_BYTES: usize = 128 << 10;

/// Ready-made batches of one chunk.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) bytes: Bytes,
    pub(crate) batches: Vec<BatchPlace>,
}

/// Where a batch lies, and what it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchPlace {
    pub(crate) base_offset: Offset,
    pub(crate) last_offset: Offset,
    /// Position behind the batch; it begins where the one before ends.
    pub(crate) end: usize,
}

impl Replayed {
    /// Memory that the chunk takes, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes.len() + self.batches.len() * size_of::<BatchPlace>() + 256
    }
}

/// Builds the batches of a chunk with about `record_bytes` of records.
///
/// # Errors
/// When a column holds what no batch can, for a person.
pub(crate) fn replay(columns: &Columns, record_bytes: u64) -> Result<Replayed, String> {
    // What a record takes besides its fields is counted in; the batches' headers come on top.
    let guess = usize::try_from(record_bytes + record_bytes / 64).unwrap_or(0) + 4096;
    let mut out = Vec::with_capacity(guess);
    let mut batches = Vec::new();
    let mut row = 0;
    while row < columns.rows() {
        let mut batch = OpenBatch::begin(columns, row, &mut out)?;
        batch.push(columns, row, &mut out);
        row += 1;
        while row < columns.rows() && batch.admits(columns, row, out.len()) {
            batch.push(columns, row, &mut out);
            row += 1;
        }
        batches.push(batch.finish(&mut out)?);
    }
    Ok(Replayed { bytes: Bytes::from(out), batches })
}

struct OpenBatch {
    start: usize,
    facts: Facts,
    timestamp_type: TimestampType,
    producer_epoch: i16,
    base_offset: i64,
    last_offset: i64,
    base_timestamp: i64,
    max_timestamp: i64,
    base_sequence: i32,
    count: i32,
}

impl OpenBatch {
    fn begin(columns: &Columns, row: usize, out: &mut Vec<u8>) -> Result<Self, String> {
        let facts = columns.facts(row);
        let start = out.len();
        out.resize(start + HEADER_LEN, 0);
        let offset = columns.offset(row);
        Ok(OpenBatch {
            start,
            facts,
            timestamp_type: match facts.timestamp_type {
                0 => TimestampType::CreateTime,
                1 => TimestampType::LogAppendTime,
                other => return Err(format!("offset {offset} has timestamp type {other}")),
            },
            producer_epoch: i16::try_from(facts.producer_epoch)
                .map_err(|_| format!("offset {offset} has producer epoch {}", facts.producer_epoch))?,
            base_offset: offset,
            last_offset: offset,
            base_timestamp: columns.timestamp(row),
            max_timestamp: columns.timestamp(row),
            base_sequence: columns.sequence(row),
            count: 0,
        })
    }

    /// True when the row can be the batch's next record.
    #[inline]
    fn admits(&self, columns: &Columns, row: usize, end: usize) -> bool {
        let delta = columns.offset(row) - self.base_offset;
        let timestamp = columns.timestamp(row);
        let same_time = self.timestamp_type == TimestampType::CreateTime || timestamp == self.base_timestamp;
        end - self.start < BATCH_TARGET_BYTES
            && columns.facts(row) == self.facts
            && delta <= i64::from(i32::MAX)
            && columns.sequence(row) == self.sequence_at(delta)
            && same_time
            && timestamp.checked_sub(self.base_timestamp).is_some()
    }

    fn sequence_at(&self, delta: i64) -> i32 {
        if self.base_sequence < 0 {
            return self.base_sequence;
        }
        i32::try_from((i64::from(self.base_sequence) + delta) & i64::from(i32::MAX)).unwrap_or(0)
    }

    #[inline]
    fn push(&mut self, columns: &Columns, row: usize, out: &mut Vec<u8>) {
        let (offset, timestamp) = (columns.offset(row), columns.timestamp(row));
        let (offset_delta, timestamp_delta) = (offset - self.base_offset, timestamp.wrapping_sub(self.base_timestamp));
        let (key, value, headers) = (columns.key(row), columns.value(row), columns.headers(row));
        let fixed = 1 + varint::len_i64(timestamp_delta) + varint::len_i64(offset_delta);
        let count = signed(headers.len());
        let header_bytes: usize = headers.clone().map(|(k, v)| sized(Some(k)) + sized(v)).sum();
        varint::write_i64(out, signed(fixed + sized(key) + sized(value) + varint::len_i64(count) + header_bytes));
        out.push(0);
        varint::write_i64(out, timestamp_delta);
        varint::write_i64(out, offset_delta);
        write_bytes(out, key);
        write_bytes(out, value);
        varint::write_i64(out, count);
        for (key, value) in headers {
            write_bytes(out, Some(key));
            write_bytes(out, value);
        }
        self.last_offset = offset;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.count += 1;
    }

    fn finish(self, out: &mut [u8]) -> Result<BatchPlace, String> {
        let end = out.len();
        let batch = &mut out[self.start..];
        let too_large = |_| format!("the batch at offset {} exceeds 2 GiB", self.base_offset);
        let length = i32::try_from(batch.len() - LENGTH_PREFIX_LEN).map_err(too_large)?;
        let last_delta = i32::try_from(self.last_offset - self.base_offset).map_err(too_large)?;
        let attributes = Attributes::default().with_timestamp_type(self.timestamp_type);
        batch[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[12..16].copy_from_slice(&self.facts.leader_epoch.to_be_bytes());
        batch[16] = MAGIC.cast_unsigned();
        batch[21..23].copy_from_slice(&attributes.0.to_be_bytes());
        batch[23..27].copy_from_slice(&last_delta.to_be_bytes());
        batch[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        batch[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        batch[43..51].copy_from_slice(&self.facts.producer_id.to_be_bytes());
        batch[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        batch[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        batch[57..61].copy_from_slice(&self.count.to_be_bytes());
        let crc = crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        Ok(BatchPlace { base_offset: self.base_offset, last_offset: self.last_offset, end })
    }
}

#[inline]
fn sized(bytes: Option<&[u8]>) -> usize {
    match bytes {
        Some(bytes) => varint::len_i64(signed(bytes.len())) + bytes.len(),
        None => 1,
    }
}

#[inline]
fn write_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            varint::write_i64(out, signed(bytes.len()));
            out.extend_from_slice(bytes);
        }
        None => varint::write_i64(out, -1),
    }
}

#[inline]
fn signed(len: usize) -> i64 {
    // A slice never exceeds isize::MAX bytes.
    i64::try_from(len).unwrap_or(i64::MAX)
}
