//! The Kafka record batch, version 2: the one currency of the log.
//!
//! ```text
//! offset  bytes  field
//!      0      8  base offset             patched by the broker, outside the checksum
//!      8      4  batch length            bytes that follow this field
//!     12      4  partition leader epoch  patched by the broker, outside the checksum
//!     16      1  magic                   2
//!     17      4  CRC-32C                 of everything that follows this field
//!     21      2  attributes              codec, timestamp type, transactional, control, delete horizon
//!     23      4  last offset delta
//!     27      8  base timestamp          ms
//!     35      8  max timestamp           ms
//!     43      8  producer id
//!     51      2  producer epoch
//!     53      4  base sequence
//!     57      4  record count
//!     61      …  records, compressed as one block when the attributes name a codec
//! ```
//!
//! Source: Apache Kafka's message format documentation and KIP-98. [`BatchView`] borrows, [`validate_produced`] checks
//! what a producer sent, [`BatchBuilder`] writes. Bytes from outside never panic here: every read is bounded and the
//! decompressed size has a limit.

pub mod compression;
pub mod varint;

mod builder;
mod header;
mod lz4_frame;
mod validate;
mod view;

pub use builder::{BatchBuilder, BatchFacts, NewRecord};
pub use compression::{Compression, RecordsBuffer};
pub use header::{
    Attributes, BatchHeader, HEADER_LEN, LENGTH_PREFIX_LEN, MAGIC, TimestampType, patch_base_offset,
    patch_leader_epoch, patch_max_timestamp,
};
pub use validate::{
    InvalidBatch, MAX_NAMED_RECORDS, OutsideTimestamp, OutsideTimestamps, ProduceLimits, ValidatedBatch,
    validate_produced,
};
pub use view::{BatchView, Batches, Headers, Record, Records};

/// Largest batch that a leader's log takes, in bytes, whatever the settings say. Who copies logs over the network goes by it:
/// an answer with one such batch must be taken, and fits the protocol's frames of 2 GiB.
pub const MAX_BATCH_BYTES: usize = 1 << 30;

/// What is wrong with bytes that should be a record batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("a record batch of {needed} bytes is cut off after {available}")]
    Truncated {
        /// Bytes that the batch says it has, or that its header needs.
        needed: usize,
        /// Bytes that are there.
        available: usize,
    },
    /// The length field cannot be a batch's.
    #[error("a record batch claims a length of {0} bytes, at least {min} are needed", min = HEADER_LEN - LENGTH_PREFIX_LEN)]
    Length(i32),
    /// Another message format.
    #[error("message format version {0} is not supported, only version 2 is")]
    Magic(i8),
    /// The checksum does not match: the bytes changed after the producer made them.
    #[error("the record batch at offset {base_offset} has checksum {actual:#010x}, its header says {expected:#010x}")]
    Checksum {
        /// Base offset in the header.
        base_offset: i64,
        /// Checksum in the header.
        expected: u32,
        /// Checksum of the bytes.
        actual: u32,
    },
    /// The attributes name no codec that exists.
    #[error("compression codec {0} does not exist")]
    Codec(i16),
    /// The compressed block is damaged.
    #[error("cannot decompress {codec}: {reason}")]
    Decompress {
        /// Which codec.
        codec: Compression,
        /// What its library says.
        reason: String,
    },
    /// The decompressed records are larger than allowed.
    #[error("the records decompress to more than the allowed {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The records inside are damaged or do not match the header.
    #[error("record {index} of the batch is malformed: {what}")]
    Record {
        /// Which record, from 0.
        index: usize,
        /// What is wrong.
        what: &'static str,
    },
}
