//! What the hot tier hands to the archive: a closed segment that will never change again.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{LeaderEpoch, Offset, ProducerId, TimestampMs, TopicName, TopicPartition};

/// A closed segment wholly below the last stable offset: `[base_offset, next_offset)` of one partition.
///
/// `file` holds plain v2 record batches back to back in `[0, size_bytes)` and stays readable through this handle even
/// when its name is gone. Offsets may have gaps.
#[derive(Debug, Clone)]
pub struct SealedSegment {
    /// The topic's name, for people; `partition` is the identity.
    pub topic: TopicName,
    /// Whose segment it is.
    pub partition: TopicPartition,
    /// First offset that the segment covers.
    pub base_offset: Offset,
    /// First offset after the segment.
    pub next_offset: Offset,
    /// Bytes of record batches in `file`.
    pub size_bytes: u64,
    /// Largest record timestamp, or −1 when no record carries one.
    pub max_timestamp: TimestampMs,
    /// Leader epoch of the segment's last batch.
    pub leader_epoch: LeaderEpoch,
    /// The partition's leader epochs up to `next_offset`, oldest first.
    pub epochs: Vec<EpochStart>,
    /// Aborted transactions that overlap the segment: their records are not history.
    pub aborted: Vec<AbortedTransaction>,
    /// Producer state at `next_offset`, in the hot tier's own format; opaque to everyone else.
    pub producers: Bytes,
    /// The batches; read with `FileExt::read_at`.
    pub file: Arc<File>,
}

/// Where a leader epoch begins: its first offset (KIP-101).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochStart {
    /// The epoch.
    pub leader_epoch: LeaderEpoch,
    /// The first offset written in it.
    pub start_offset: Offset,
}

/// A transaction that was rolled back: records of `producer_id` in `[first_offset, last_offset]` do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortedTransaction {
    /// Whose transaction.
    pub producer_id: ProducerId,
    /// Its first record.
    pub first_offset: Offset,
    /// Its abort marker.
    pub last_offset: Offset,
}
