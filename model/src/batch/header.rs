//! The fixed 61 bytes in front of a batch's records, and the few of them that the broker may write.

use serde::{Deserialize, Serialize};

use super::{BatchError, Compression};

/// Bytes of a batch before its records.
pub const HEADER_LEN: usize = 61;
/// Bytes up to and including the length field, which counts what comes after them.
pub const LENGTH_PREFIX_LEN: usize = 12;
/// The only message format that Firn stores.
pub const MAGIC: i8 = 2;

const CRC_END: usize = 21;

/// Who gave the records their timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum TimestampType {
    /// The producer.
    #[default]
    CreateTime,
    /// The broker, at append: every record has the batch's max timestamp.
    LogAppendTime,
}

impl TimestampType {
    /// The value of the topic setting `message.timestamp.type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        }
    }
}

/// The attribute bits of a batch: codec (0–2), timestamp type (3), transactional (4), control (5), delete horizon (6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC: i16 = 0x07;
    const LOG_APPEND_TIME: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;
    const DELETE_HORIZON: i16 = 0x40;

    /// The codec of the records.
    ///
    /// # Errors
    /// [`BatchError::Codec`] when the bits name none.
    pub fn compression(self) -> Result<Compression, BatchError> {
        Compression::from_code(self.0 & Self::CODEC)
    }

    /// Who gave the records their timestamps.
    #[must_use]
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 { TimestampType::CreateTime } else { TimestampType::LogAppendTime }
    }

    /// True when the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// True when the batch holds a commit or abort marker instead of records.
    #[must_use]
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// True when the base timestamp is really the time from which tombstones may go (KIP-534).
    #[must_use]
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// The same with another codec.
    #[must_use]
    pub fn with_compression(self, compression: Compression) -> Self {
        Attributes((self.0 & !Self::CODEC) | compression.code())
    }

    /// The same with another timestamp type.
    #[must_use]
    pub fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        self.with_bit(Self::LOG_APPEND_TIME, timestamp_type == TimestampType::LogAppendTime)
    }

    /// The same, transactional or not.
    #[must_use]
    pub fn with_transactional(self, is_transactional: bool) -> Self {
        self.with_bit(Self::TRANSACTIONAL, is_transactional)
    }

    /// The same, control or not.
    #[must_use]
    pub fn with_control(self, is_control: bool) -> Self {
        self.with_bit(Self::CONTROL, is_control)
    }

    fn with_bit(self, bit: i16, on: bool) -> Self {
        Attributes(if on { self.0 | bit } else { self.0 & !bit })
    }
}

/// The decoded header of a batch; see [`super`] for where each field lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the module documentation names every field")]
pub struct BatchHeader {
    pub base_offset: i64,
    pub batch_length: i32,
    pub leader_epoch: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: Attributes,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl BatchHeader {
    /// Decodes the header at the start of `bytes`, which may hold more or less than the batch.
    ///
    /// # Errors
    /// [`BatchError::Truncated`] when `bytes` is shorter than a header, [`BatchError::Length`] when the length field
    /// is impossible, [`BatchError::Magic`] for another message format. The checksum is not looked at.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        // The magic byte and the length lie at the same place in every version of the format.
        let short = || BatchError::Truncated { needed: HEADER_LEN, available: bytes.len() };
        let magic = bytes.get(16).ok_or_else(short)?.cast_signed();
        if magic != MAGIC {
            return Err(BatchError::Magic(magic));
        }
        let header: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or_else(short)?;
        let batch_length = i32::from_be_bytes(field(header, 8));
        if batch_length < i32::try_from(HEADER_LEN - LENGTH_PREFIX_LEN).unwrap_or(i32::MAX) {
            return Err(BatchError::Length(batch_length));
        }
        Ok(BatchHeader {
            base_offset: i64::from_be_bytes(field(header, 0)),
            batch_length,
            leader_epoch: i32::from_be_bytes(field(header, 12)),
            magic,
            crc: u32::from_be_bytes(field(header, 17)),
            attributes: Attributes(i16::from_be_bytes(field(header, 21))),
            last_offset_delta: i32::from_be_bytes(field(header, 23)),
            base_timestamp: i64::from_be_bytes(field(header, 27)),
            max_timestamp: i64::from_be_bytes(field(header, 35)),
            producer_id: i64::from_be_bytes(field(header, 43)),
            producer_epoch: i16::from_be_bytes(field(header, 51)),
            base_sequence: i32::from_be_bytes(field(header, 53)),
            record_count: i32::from_be_bytes(field(header, 57)),
        })
    }

    /// Writes the header to the first [`HEADER_LEN`] bytes of `out`.
    pub(crate) fn write(&self, out: &mut [u8; HEADER_LEN]) {
        out[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        out[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        out[12..16].copy_from_slice(&self.leader_epoch.to_be_bytes());
        out[16] = self.magic.cast_unsigned();
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes.0.to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        out[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        out[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[57..61].copy_from_slice(&self.record_count.to_be_bytes());
    }

    /// Bytes of the whole batch, header and records.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        // `parse` admits no negative length.
        LENGTH_PREFIX_LEN + usize::try_from(self.batch_length).unwrap_or(0)
    }

    /// Offset of the last record that the batch was made with, also when compaction has removed it.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// First offset after the batch.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Sequence number of the last record; numbers wrap from `i32::MAX` to 0 (KIP-98).
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        sequence_after(self.base_sequence, self.last_offset_delta)
    }

    /// True when an idempotent producer made the batch.
    #[must_use]
    pub fn has_producer_id(&self) -> bool {
        self.producer_id >= 0
    }

    /// True when the batch holds a commit or abort marker instead of records.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes.is_control()
    }

    /// True when the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes.is_transactional()
    }
}

fn sequence_after(base: i32, delta: i32) -> i32 {
    if base < 0 {
        return base;
    }
    let wrapped = (i64::from(base) + i64::from(delta)).rem_euclid(i64::from(i32::MAX) + 1);
    i32::try_from(wrapped).unwrap_or(0)
}

fn field<const N: usize>(header: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}

/// Gives the batch at the start of `batch` its place in the log. Outside the checksum.
///
/// # Panics
/// When `batch` is shorter than a header: only call it on bytes that [`BatchHeader::parse`] took.
pub fn patch_base_offset(batch: &mut [u8], base_offset: i64) {
    batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
}

/// Stamps the leader epoch under which the batch is appended. Outside the checksum.
///
/// # Panics
/// As [`patch_base_offset`].
pub fn patch_leader_epoch(batch: &mut [u8], leader_epoch: i32) {
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Sets who timed the batch and its largest timestamp, then renews the checksum. `batch` is exactly one batch.
///
/// # Panics
/// As [`patch_base_offset`].
pub fn patch_max_timestamp(batch: &mut [u8], timestamp_type: TimestampType, max_timestamp: i64) {
    let attributes = Attributes(i16::from_be_bytes([batch[21], batch[22]])).with_timestamp_type(timestamp_type);
    batch[21..23].copy_from_slice(&attributes.0.to_be_bytes());
    batch[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
    let crc = checksum(batch);
    batch[17..CRC_END].copy_from_slice(&crc.to_be_bytes());
}

/// CRC-32C of everything in `batch` after the checksum field.
pub(crate) fn checksum(batch: &[u8]) -> u32 {
    let covered = batch.get(CRC_END..).unwrap_or_default();
    u32::try_from(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, covered)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_to_zero_after_the_largest() {
        assert_eq!(sequence_after(5, 3), 8);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 3), 1);
        assert_eq!(sequence_after(-1, 3), -1);
    }

    #[test]
    fn the_checksum_is_crc32c() {
        let mut bytes = vec![0; CRC_END];
        bytes.extend_from_slice(b"123456789");
        assert_eq!(checksum(&bytes), 0xe306_9283);
    }

    #[test]
    fn an_old_message_format_is_named() {
        let mut bytes = [0; 40];
        bytes[16] = 1;
        assert_eq!(BatchHeader::parse(&bytes), Err(BatchError::Magic(1)));
    }
}
