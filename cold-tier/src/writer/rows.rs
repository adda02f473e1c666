//! One chunk in the making: the columns of its records, keys and values as views over the segment's bytes.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, BinaryViewBuilder, StringBuilder};
use arrow_array::{ArrayRef, Int32Array, Int64Array, ListArray, RecordBatch, StructArray, TimestampMicrosecondArray};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::ArrowError;
use bytes::Bytes;
use model::batch::{BatchHeader, Record, TimestampType};
use model::{NO_TIMESTAMP, Offset, PartitionIndex, TimestampMs};

use crate::schema::{self, timestamp_micros};

/// Bytes that a record costs besides key, value and headers, as it is counted for the size of a chunk.
const RECORD_OVERHEAD_BYTES: usize = 12;
/// Values at most this long are stored inside the view itself.
const INLINE_BYTES: usize = 12;

/// What a chunk's entry in the footer says of its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowFacts {
    pub(crate) rows: u32,
    pub(crate) first_offset: Offset,
    pub(crate) last_offset: Offset,
    pub(crate) min_timestamp: TimestampMs,
    pub(crate) max_timestamp: TimestampMs,
    pub(crate) record_bytes: usize,
}

/// A timestamp outside of [`crate::TIMESTAMP_RANGE_MS`]: the object needs the column `timestamp_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnfitTimestamp;

/// Why a record could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// Its timestamp needs the column `timestamp_ms`.
    #[error("its timestamp is outside of the years 1 to 9999")]
    Timestamp(UnfitTimestamp),
    /// A header of it is malformed.
    #[error(transparent)]
    Header(model::batch::BatchError),
    /// A column is full.
    #[error(transparent)]
    Arrow(ArrowError),
}

/// Records as columns, filled record by record: the rows of a chunk, and what a table shows of records that are not
/// archived yet.
#[derive(Debug)]
pub struct Rows {
    partition: PartitionIndex,
    exact_timestamps: bool,
    offsets: Vec<i64>,
    /// Milliseconds; turned into microseconds at the end.
    timestamps: Vec<i64>,
    keys: Views,
    values: Views,
    header_ends: Vec<i32>,
    header_keys: StringBuilder,
    header_values: BinaryBuilder,
    timestamp_types: Vec<i32>,
    leader_epochs: Vec<i32>,
    producer_ids: Vec<i64>,
    producer_epochs: Vec<i32>,
    sequences: Vec<i32>,
    bytes: usize,
}

impl Rows {
    /// No rows yet. With `exact_timestamps` the column `timestamp_ms` is there, and every timestamp can be taken.
    #[must_use]
    pub fn new(partition: PartitionIndex, exact_timestamps: bool) -> Self {
        Rows {
            partition,
            exact_timestamps,
            offsets: Vec::new(),
            timestamps: Vec::new(),
            keys: Views::default(),
            values: Views::default(),
            header_ends: vec![0],
            header_keys: StringBuilder::new(),
            header_values: BinaryBuilder::new(),
            timestamp_types: Vec::new(),
            leader_epochs: Vec::new(),
            producer_ids: Vec::new(),
            producer_epochs: Vec::new(),
            sequences: Vec::new(),
            bytes: 0,
        }
    }

    /// True before the first record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// Record bytes so far, about as many as the records take in a batch.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// A batch begins whose keys and values lie in `block`, or must be copied.
    pub fn block(&mut self, block: Option<&Bytes>) {
        self.keys.block(block);
        self.values.block(block);
    }

    /// Takes a record of the batch whose header is `header`.
    ///
    /// # Errors
    /// [`RowError`]; nothing more may be taken then.
    pub fn push(&mut self, header: &BatchHeader, record: &Record<'_>) -> Result<(), RowError> {
        if !self.exact_timestamps && is_exact(record.timestamp) {
            return Err(RowError::Timestamp(UnfitTimestamp));
        }
        let mut bytes = RECORD_OVERHEAD_BYTES;
        for field in record.headers.iter() {
            let (key, value) = field.map_err(RowError::Header)?;
            self.header_keys.append_value(key);
            self.header_values.append_option(value);
            bytes += key.len() + value.map_or(0, <[u8]>::len) + 2;
        }
        self.header_ends.push(i32::try_from(self.header_keys.len_now()).unwrap_or(i32::MAX));
        self.keys.push(record.key).map_err(RowError::Arrow)?;
        self.values.push(record.value).map_err(RowError::Arrow)?;
        self.offsets.push(record.offset);
        self.timestamps.push(record.timestamp);
        self.timestamp_types.push(i32::from(header.attributes.timestamp_type() == TimestampType::LogAppendTime));
        self.leader_epochs.push(header.leader_epoch);
        self.producer_ids.push(header.producer_id);
        self.producer_epochs.push(i32::from(header.producer_epoch));
        self.sequences.push(sequence(header, record));
        self.bytes += bytes + record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        Ok(())
    }

    pub(crate) fn facts(&self) -> RowFacts {
        let timestamps = || self.timestamps.iter().copied().filter(|&t| t != NO_TIMESTAMP);
        RowFacts {
            rows: u32::try_from(self.offsets.len()).unwrap_or(u32::MAX),
            first_offset: self.offsets.first().copied().unwrap_or(-1),
            last_offset: self.offsets.last().copied().unwrap_or(-1),
            min_timestamp: timestamps().min().unwrap_or(NO_TIMESTAMP),
            max_timestamp: timestamps().max().unwrap_or(NO_TIMESTAMP),
            record_bytes: self.bytes,
        }
    }

    /// The records as arrays, of the schema that [`crate::table_schema`] gives.
    ///
    /// # Errors
    /// When the columns do not fit together, which the types do not let happen.
    pub fn finish(mut self) -> Result<RecordBatch, ArrowError> {
        let rows = self.offsets.len();
        let exact = self.exact_timestamps.then(|| exact_timestamps(&self.timestamps));
        let headers = StructArray::try_new(
            schema::header_fields(),
            vec![Arc::new(self.header_keys.finish()) as ArrayRef, Arc::new(self.header_values.finish())],
            None,
        )?;
        let header_ends = OffsetBuffer::new(ScalarBuffer::from(self.header_ends));
        let headers = ListArray::try_new(schema::header_element(), header_ends, Arc::new(headers), None)?;
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from_value(self.partition, rows)),
            Arc::new(Int64Array::from(self.offsets)),
            Arc::new(timestamps(self.timestamps)),
            Arc::new(self.keys.builder.finish()),
            Arc::new(self.values.builder.finish()),
            Arc::new(headers),
            Arc::new(Int32Array::from(self.timestamp_types)),
            Arc::new(Int32Array::from(self.leader_epochs)),
            Arc::new(Int64Array::from(self.producer_ids)),
            Arc::new(Int32Array::from(self.producer_epochs)),
            Arc::new(Int32Array::from(self.sequences)),
        ];
        columns.extend(exact.map(|array| Arc::new(array) as ArrayRef));
        RecordBatch::try_new(schema::arrow_schema(self.exact_timestamps), columns)
    }
}

trait LenNow {
    fn len_now(&self) -> usize;
}

impl LenNow for StringBuilder {
    fn len_now(&self) -> usize {
        arrow_array::builder::ArrayBuilder::len(self)
    }
}

/// Sequence number of a record; numbers wrap from `i32::MAX` to 0 (KIP-98).
pub(crate) fn sequence(header: &BatchHeader, record: &Record<'_>) -> i32 {
    if header.base_sequence < 0 {
        return header.base_sequence;
    }
    let wrapped = (i64::from(header.base_sequence) + i64::from(record.offset_delta)) & i64::from(i32::MAX);
    i32::try_from(wrapped).unwrap_or(0)
}

/// True for a timestamp that only the column `timestamp_ms` holds.
pub(crate) fn is_exact(timestamp: TimestampMs) -> bool {
    timestamp != NO_TIMESTAMP && timestamp_micros(timestamp).is_none()
}

fn timestamps(mut millis: Vec<i64>) -> TimestampMicrosecondArray {
    let has_value = |&t: &i64| timestamp_micros(t).is_some();
    let nulls =
        if millis.iter().all(has_value) { None } else { Some(NullBuffer::from_iter(millis.iter().map(has_value))) };
    for timestamp in &mut millis {
        *timestamp = timestamp_micros(*timestamp).unwrap_or(0);
    }
    TimestampMicrosecondArray::new(ScalarBuffer::from(millis), nulls).with_timezone("UTC")
}

/// Milliseconds of the timestamps that the column `timestamp` does not hold, null elsewhere.
fn exact_timestamps(millis: &[i64]) -> Int64Array {
    millis.iter().map(|&t| is_exact(t).then_some(t)).collect()
}

/// A column of byte strings that refers to the block they lie in.
#[derive(Debug, Default)]
struct Views {
    builder: BinaryViewBuilder,
    block: Option<Bytes>,
    /// The block's number in `builder`, once a value refers to it.
    number: Option<u32>,
}

impl Views {
    fn block(&mut self, block: Option<&Bytes>) {
        let same = |a: &Bytes, b: &Bytes| a.as_ptr() == b.as_ptr() && a.len() == b.len();
        let unchanged = match (&self.block, block) {
            (Some(a), Some(b)) => same(a, b),
            (None, None) => true,
            _ => false,
        };
        if !unchanged {
            self.block = block.cloned();
            self.number = None;
        }
    }

    fn push(&mut self, value: Option<&[u8]>) -> Result<(), ArrowError> {
        let Some(value) = value else {
            self.builder.append_null();
            return Ok(());
        };
        match (&self.block, position(self.block.as_ref(), value)) {
            (Some(block), Some(offset)) if value.len() > INLINE_BYTES => {
                let number = match self.number {
                    Some(number) => number,
                    None => *self.number.insert(self.builder.append_block(Buffer::from(block.clone()))),
                };
                // `position` has bounded both by the block, which is smaller than 4 GiB.
                let len = u32::try_from(value.len()).unwrap_or(u32::MAX);
                self.builder.try_append_view(number, offset, len)
            }
            _ => self.builder.try_append_value(value),
        }
    }
}

/// Where `value` lies in `block`, if it does.
fn position(block: Option<&Bytes>, value: &[u8]) -> Option<u32> {
    let block = block?;
    let offset = (value.as_ptr() as usize).checked_sub(block.as_ptr() as usize)?;
    (offset + value.len() <= block.len()).then(|| u32::try_from(offset).ok()).flatten()
}
