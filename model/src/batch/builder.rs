//! Writing batches: for internal topics, for the command line, and for what comes back from the archive.

use bytes::Bytes;

use super::header::checksum;
use super::{
    Attributes, BatchHeader, Compression, HEADER_LEN, LENGTH_PREFIX_LEN, MAGIC, MAX_BATCH_BYTES, TimestampType,
    compression, varint,
};
use crate::{NO_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE};

/// What all records of a batch have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchFacts {
    /// Leader epoch to stamp.
    pub leader_epoch: i32,
    /// Who timed the records. With [`TimestampType::LogAppendTime`] every record takes the batch's largest timestamp.
    pub timestamp_type: TimestampType,
    /// Idempotent producer, or −1.
    pub producer_id: i64,
    /// Its epoch, or −1.
    pub producer_epoch: i16,
    /// Sequence number of the first record, or −1.
    pub base_sequence: i32,
    /// Codec to compress the records with.
    pub compression: Compression,
    /// Part of a transaction.
    pub is_transactional: bool,
    /// A transaction marker.
    pub is_control: bool,
}

impl Default for BatchFacts {
    /// Create time, no producer, no codec, no transaction.
    fn default() -> Self {
        BatchFacts {
            leader_epoch: NO_LEADER_EPOCH,
            timestamp_type: TimestampType::CreateTime,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            base_sequence: NO_SEQUENCE,
            compression: Compression::None,
            is_transactional: false,
            is_control: false,
        }
    }
}

/// A record to append.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    /// Its offset: larger than the one before, at most 2³¹ − 1 above the batch's first.
    pub offset: i64,
    /// Milliseconds since the epoch, or −1.
    pub timestamp: i64,
    /// The key, or null.
    pub key: Option<&'a [u8]>,
    /// The value, or null.
    pub value: Option<&'a [u8]>,
    /// The headers, in order.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// Collects records into one batch.
#[derive(Debug)]
pub struct BatchBuilder {
    facts: BatchFacts,
    records: Vec<u8>,
    base_offset: i64,
    last_offset: i64,
    base_timestamp: i64,
    max_timestamp: i64,
    record_count: i32,
}

impl BatchBuilder {
    /// An empty batch.
    #[must_use]
    pub fn new(facts: BatchFacts) -> Self {
        BatchBuilder {
            facts,
            records: Vec::new(),
            base_offset: 0,
            last_offset: 0,
            base_timestamp: -1,
            max_timestamp: -1,
            record_count: 0,
        }
    }

    /// Adds a record behind the ones before.
    ///
    /// # Panics
    /// When the offset does not fit the batch: the caller's bug, never a matter of outside bytes.
    pub fn append(&mut self, record: &NewRecord<'_>) {
        if self.record_count == 0 {
            self.base_offset = record.offset;
            self.base_timestamp = record.timestamp;
        } else {
            assert!(record.offset > self.last_offset, "offset {} after {}", record.offset, self.last_offset);
        }
        let offset_delta = record.offset - self.base_offset;
        assert!(offset_delta <= i64::from(i32::MAX), "offset {} is too far above {}", record.offset, self.base_offset);
        self.last_offset = record.offset;
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        self.record_count += 1;

        let timestamp_delta = record.timestamp.wrapping_sub(self.base_timestamp);
        let out = &mut self.records;
        varint::write_i64(out, body_len(record, timestamp_delta, offset_delta));
        out.push(0);
        varint::write_i64(out, timestamp_delta);
        varint::write_i64(out, offset_delta);
        write_bytes(out, record.key);
        write_bytes(out, record.value);
        varint::write_i64(out, signed(record.headers.len()));
        for (key, value) in record.headers {
            write_bytes(out, Some(key.as_bytes()));
            write_bytes(out, *value);
        }
    }

    /// Records so far.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    /// Bytes of the batch so far, before compression.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        HEADER_LEN + self.records.len()
    }

    /// The batch, or an error of the codec's library.
    ///
    /// # Errors
    /// See [`compression::compress`]; also when the batch exceeds [`MAX_BATCH_BYTES`].
    pub fn finish(self) -> std::io::Result<Bytes> {
        let mut batch = Vec::with_capacity(self.size_bytes());
        batch.resize(HEADER_LEN, 0);
        compression::compress(self.facts.compression, &self.records, &mut batch)?;
        if batch.len() > MAX_BATCH_BYTES {
            return Err(std::io::Error::other(format!(
                "a batch of {} bytes, the limit is {MAX_BATCH_BYTES}",
                batch.len()
            )));
        }
        let header = BatchHeader {
            base_offset: self.base_offset,
            batch_length: i32::try_from(batch.len() - LENGTH_PREFIX_LEN).map_err(std::io::Error::other)?,
            leader_epoch: self.facts.leader_epoch,
            magic: MAGIC,
            crc: 0,
            attributes: Attributes::default()
                .with_compression(self.facts.compression)
                .with_timestamp_type(self.facts.timestamp_type)
                .with_transactional(self.facts.is_transactional)
                .with_control(self.facts.is_control),
            last_offset_delta: i32::try_from(self.last_offset - self.base_offset).map_err(std::io::Error::other)?,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.facts.producer_id,
            producer_epoch: self.facts.producer_epoch,
            base_sequence: self.facts.base_sequence,
            record_count: self.record_count,
        };
        let (head, _) = batch.split_first_chunk_mut().ok_or_else(|| std::io::Error::other("no room for the header"))?;
        header.write(head);
        let crc = checksum(&batch);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        Ok(Bytes::from(batch))
    }
}

fn body_len(record: &NewRecord<'_>, timestamp_delta: i64, offset_delta: i64) -> i64 {
    let sized = |bytes: Option<&[u8]>| match bytes {
        Some(bytes) => varint::len_i64(signed(bytes.len())) + bytes.len(),
        None => 1,
    };
    let headers: usize = record.headers.iter().map(|(key, value)| sized(Some(key.as_bytes())) + sized(*value)).sum();
    let fixed = 1 + varint::len_i64(timestamp_delta) + varint::len_i64(offset_delta);
    signed(fixed + sized(record.key) + sized(record.value) + varint::len_i64(signed(record.headers.len())) + headers)
}

fn write_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            varint::write_i64(out, signed(bytes.len()));
            out.extend_from_slice(bytes);
        }
        None => varint::write_i64(out, -1),
    }
}

fn signed(len: usize) -> i64 {
    // A slice never exceeds isize::MAX bytes.
    i64::try_from(len).unwrap_or(i64::MAX)
}
