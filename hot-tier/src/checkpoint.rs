//! What is known of every partition at one moment, so that recovery reads the journal only from there on.
//!
//! File `checkpoint`, replaced as a whole and synced before it takes its name:
//! ```text
//! 0  4  magic "FCP1"
//! 4  4  CRC-32C of all that follows
//! 8  8  journal position from which entries must be replayed
//! 16 1  1 when the tier was closed in order, else 0
//! 17 4  number of partitions; for each, by ascending id, a length of 4 bytes and then:
//!       16 topic id · 4 partition · 4 + n topic's name · 8 journal position up to which this state goes · 1 flush mode ·
//!       8 log start · 8 log end ·
//!       4 number of leader epochs, each 4 epoch · 8 start offset ·
//!       4 number of segments, each 8 base · 8 next · 8 bytes · 8 largest timestamp · 8 its batch's last offset ·
//!         8 first append (ms) · 8 last append (ms) ·
//!       4 + n producer state ([`crate::producer_state`])
//! ```
//! A partition without segments was out of service when the file was written, and no earlier state of it is known: its files
//! are read.
//!
//! When it is written, the segments' bytes that it counts are durable, and so are the journal's entries below its
//! positions. File `history` in a partition's folder is for when the checkpoint is lost: 4 magic "FPH1" · 4 CRC-32C of the
//! rest · 1 flush mode · 8 log start · 4 number of leader epochs, each 4 epoch · 8 start offset. It is not synced.

use bytes::{BufMut, Bytes};
use model::segment::EpochStart;
use model::settings::FlushMode;
use model::{Offset, TopicId, TopicName, TopicPartition};
use uuid::Uuid;

use crate::fields::{Fields, crc32c, put_count, put_sized};
use crate::journal::entry::{mode_code, mode_of};
use crate::segment::SegmentFacts;

/// Name of the file in the data folder.
pub(crate) const FILE_NAME: &str = "checkpoint";

const MAGIC: u32 = u32::from_be_bytes(*b"FCP1");
const HISTORY_MAGIC: u32 = u32::from_be_bytes(*b"FPH1");
/// Bytes of a leader epoch and its first offset.
pub(crate) const EPOCH_LEN: usize = 12;
const SEGMENT_LEN: usize = 56;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Checkpoint {
    pub(crate) lsn: u64,
    pub(crate) clean: bool,
    pub(crate) partitions: Vec<PartitionCheckpoint>,
}

/// One partition's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionCheckpoint {
    pub(crate) id: TopicPartition,
    pub(crate) topic: TopicName,
    /// Entries of this partition below this journal position are part of the state.
    pub(crate) lsn: u64,
    pub(crate) mode: FlushMode,
    pub(crate) log_start: Offset,
    pub(crate) end: Offset,
    pub(crate) epochs: Vec<EpochStart>,
    /// By base offset. Empty only where no state is known ([`PartitionCheckpoint::unknown`]).
    pub(crate) segments: Vec<SegmentFacts>,
    pub(crate) producers: Bytes,
}

/// What of a partition cannot be found in its batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct History {
    pub(crate) mode: FlushMode,
    pub(crate) log_start: Offset,
    pub(crate) epochs: Vec<EpochStart>,
}

/// The file of these partitions, each in its encoded form.
pub(crate) fn encode(lsn: u64, clean: bool, partitions: &[Bytes]) -> Vec<u8> {
    let len = partitions.iter().map(|partition| partition.len() + 4).sum::<usize>();
    let mut out = Vec::with_capacity(21 + len);
    out.put_u32(MAGIC);
    out.put_u32(0);
    out.put_u64(lsn);
    out.put_u8(u8::from(clean));
    put_count(&mut out, partitions.len());
    partitions.iter().for_each(|partition| put_sized(&mut out, partition));
    let crc = crc32c([&out[8..]]);
    out[4..8].copy_from_slice(&crc.to_be_bytes());
    out
}

impl Checkpoint {
    /// Reads the file; `None` when it is not intact.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        if fields.u32()? != MAGIC || fields.u32()? != crc32c([fields.rest()]) {
            return None;
        }
        let (lsn, clean) = (fields.u64()?, fields.u8()? == 1);
        let count = fields.count(4)?;
        let partitions =
            (0..count).map(|_| PartitionCheckpoint::decode(fields.sized()?)).collect::<Option<Vec<_>>>()?;
        fields.rest().is_empty().then_some(Checkpoint { lsn, clean, partitions })
    }
}

impl PartitionCheckpoint {
    /// Of a partition of which only the name is known.
    pub(crate) fn unknown(id: TopicPartition, topic: TopicName) -> Self {
        PartitionCheckpoint {
            id,
            topic,
            lsn: 0,
            mode: FlushMode::Durable,
            log_start: 0,
            end: 0,
            epochs: Vec::new(),
            segments: Vec::new(),
            producers: Bytes::new(),
        }
    }

    /// True when there is no state to build on.
    pub(crate) fn is_unknown(&self) -> bool {
        self.segments.is_empty()
    }

    pub(crate) fn encode(&self) -> Bytes {
        let lists = self.epochs.len() * EPOCH_LEN + self.segments.len() * SEGMENT_LEN;
        let mut out = Vec::with_capacity(80 + self.topic.len() + lists + self.producers.len());
        out.put_u128(self.id.topic_id.0.as_u128());
        out.put_i32(self.id.partition);
        put_sized(&mut out, self.topic.as_bytes());
        out.put_u64(self.lsn);
        out.put_u8(mode_code(self.mode));
        out.put_i64(self.log_start);
        out.put_i64(self.end);
        put_epochs(&mut out, &self.epochs);
        put_count(&mut out, self.segments.len());
        for segment in &self.segments {
            out.put_i64(segment.base);
            out.put_i64(segment.next);
            out.put_u64(segment.size);
            out.put_i64(segment.max_timestamp);
            out.put_i64(segment.max_timestamp_offset);
            out.put_i64(segment.first_append_ms);
            out.put_i64(segment.last_append_ms);
        }
        put_sized(&mut out, &self.producers);
        Bytes::from(out)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let topic_id = TopicId(Uuid::from_u128(fields.u128()?));
        let id = TopicPartition { topic_id, partition: fields.i32()? };
        let topic = TopicName::new(std::str::from_utf8(fields.sized()?).ok()?).ok()?;
        let (lsn, mode) = (fields.u64()?, mode_of(fields.u8()?)?);
        let (log_start, end) = (fields.i64()?, fields.i64()?);
        let epochs = read_epochs(&mut fields)?;
        let count = fields.count(SEGMENT_LEN)?;
        let segments = (0..count).map(|_| read_segment(&mut fields)).collect::<Option<Vec<_>>>()?;
        let producers = Bytes::copy_from_slice(fields.sized()?);
        let ascending = segments.windows(2).all(|pair| pair[0].base < pair[1].base);
        if !fields.rest().is_empty() || !ascending {
            return None;
        }
        Some(PartitionCheckpoint { id, topic, lsn, mode, log_start, end, epochs, segments, producers })
    }
}

impl History {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(21 + self.epochs.len() * EPOCH_LEN);
        out.put_u32(HISTORY_MAGIC);
        out.put_u32(0);
        out.put_u8(mode_code(self.mode));
        out.put_i64(self.log_start);
        put_epochs(&mut out, &self.epochs);
        let crc = crc32c([&out[8..]]);
        out[4..8].copy_from_slice(&crc.to_be_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        if fields.u32()? != HISTORY_MAGIC || fields.u32()? != crc32c([fields.rest()]) {
            return None;
        }
        let history =
            History { mode: mode_of(fields.u8()?)?, log_start: fields.i64()?, epochs: read_epochs(&mut fields)? };
        fields.rest().is_empty().then_some(history)
    }
}

/// Writes what [`read_epochs`] reads.
pub(crate) fn put_epochs(out: &mut Vec<u8>, epochs: &[EpochStart]) {
    put_count(out, epochs.len());
    for epoch in epochs {
        out.put_i32(epoch.leader_epoch);
        out.put_i64(epoch.start_offset);
    }
}

/// A count, then leader epochs with their first offsets.
pub(crate) fn read_epochs(fields: &mut Fields<'_>) -> Option<Vec<EpochStart>> {
    let count = fields.count(EPOCH_LEN)?;
    (0..count).map(|_| Some(EpochStart { leader_epoch: fields.i32()?, start_offset: fields.i64()? })).collect()
}

fn read_segment(fields: &mut Fields<'_>) -> Option<SegmentFacts> {
    Some(SegmentFacts {
        base: fields.i64()?,
        next: fields.i64()?,
        size: fields.u64()?,
        max_timestamp: fields.i64()?,
        max_timestamp_offset: fields.i64()?,
        first_append_ms: fields.i64()?,
        last_append_ms: fields.i64()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> PartitionCheckpoint {
        PartitionCheckpoint {
            id: TopicPartition { topic_id: TopicId(Uuid::from_u128(7)), partition: 3 },
            topic: TopicName::new("orders").unwrap(),
            lsn: 4096,
            mode: FlushMode::Durable,
            log_start: 5,
            end: 30,
            epochs: vec![EpochStart { leader_epoch: 2, start_offset: 5 }],
            segments: vec![SegmentFacts::empty(5), SegmentFacts { size: 300, next: 30, ..SegmentFacts::empty(20) }],
            producers: Bytes::from_static(b"opaque"),
        }
    }

    #[test]
    fn the_stored_forms_are_pinned() {
        let history = History { mode: FlushMode::Replicated, log_start: 5, epochs: partition().epochs };
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let stored = format!("{}\n{}", hex(&encode(77, true, &[partition().encode()])), hex(&history.encode()));
        assert_eq!(stored, include_str!("checkpoint/golden.hex").trim());
        assert_eq!(History::decode(&history.encode()), Some(history));
    }

    #[test]
    fn a_damaged_checkpoint_is_not_taken() {
        let bytes = encode(77, false, &[partition().encode(), partition().encode()]);
        let whole = Checkpoint { lsn: 77, clean: false, partitions: vec![partition(), partition()] };
        assert_eq!(Checkpoint::decode(&bytes), Some(whole));
        for i in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[i] ^= 0x40;
            assert_eq!(Checkpoint::decode(&damaged), None, "byte {i}");
            assert_eq!(Checkpoint::decode(&bytes[..i]), None, "cut at {i}");
        }
    }
}
