//! Records into batches: at most one open batch per partition, numbered for an idempotent producer (KIP-98).

use std::collections::BTreeMap;

use anyhow::bail;
use bytes::Bytes;
use model::batch::{BatchBuilder, BatchFacts, Compression, NewRecord};

use super::partitioner::partition_of;
use crate::json_record::InputRecord;

/// A batch is sent before it exceeds this many bytes, uncompressed, or what the topic takes when that is less.
const BATCH_BYTES: usize = 1_000_000;
/// This part of a batch's limit is left free: a codec makes records that do not compress a little larger.
const RESERVE_DIVISOR: usize = 32;
/// Bytes that a record takes besides its key, value and headers, and each header besides its own, at most.
const OVERHEAD_BYTES: usize = 40;
/// All open batches together are sent before they exceed this.
const ROUND_BYTES: usize = 8 << 20;

/// The open batches.
#[derive(Debug)]
pub(super) struct Batcher {
    partitions: i32,
    batch_bytes: usize,
    compression: Compression,
    producer_id: i64,
    producer_epoch: i16,
    open: BTreeMap<i32, BatchBuilder>,
    open_bytes: usize,
    /// Sequence number of the next record, by partition.
    sequences: BTreeMap<i32, i32>,
    /// Where records without a key go until the next round.
    sticky: i32,
}

/// Batches to be sent together, and how many records each has.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) batches: BTreeMap<i32, Bytes>,
    pub(super) counts: BTreeMap<i32, u64>,
}

impl Batcher {
    /// No batches yet, for a topic of so many partitions that takes batches up to `limit_bytes`.
    pub(super) fn new(
        partitions: i32,
        limit_bytes: usize,
        compression: Compression,
        (producer_id, producer_epoch): (i64, i16),
    ) -> Self {
        let partitions = partitions.max(1);
        // Any number will do: it only spreads producers over partitions.
        let sticky = i32::try_from(producer_id.rem_euclid(i64::from(partitions))).unwrap_or(0);
        Batcher {
            partitions,
            batch_bytes: BATCH_BYTES.min(limit_bytes - limit_bytes / RESERVE_DIVISOR),
            compression,
            producer_id,
            producer_epoch,
            open: BTreeMap::new(),
            open_bytes: 0,
            sequences: BTreeMap::new(),
            sticky,
        }
    }

    /// How many partitions the topic has.
    pub(super) fn partitions(&self) -> i32 {
        self.partitions
    }

    /// Whether the open batches have to be sent before this record.
    ///
    /// # Errors
    /// When the record names a partition that does not exist.
    pub(super) fn is_full_with(&self, record: &InputRecord) -> anyhow::Result<bool> {
        let size = size_of(record);
        let batch = self.open.get(&self.partition(record)?);
        let is_batch_full = batch.is_some_and(|batch| batch.size_bytes() + size > self.batch_bytes);
        Ok(is_batch_full || (self.open_bytes > 0 && self.open_bytes + size > ROUND_BYTES))
    }

    /// Adds a record.
    ///
    /// # Errors
    /// As [`Batcher::is_full_with`].
    pub(super) fn add(&mut self, record: &InputRecord) -> anyhow::Result<()> {
        let partition = self.partition(record)?;
        let facts = BatchFacts {
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.sequences.get(&partition).copied().unwrap_or(0),
            compression: self.compression,
            ..BatchFacts::default()
        };
        let batch = self.open.entry(partition).or_insert_with(|| BatchBuilder::new(facts));
        let headers: Vec<_> = record.headers.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
        batch.append(&NewRecord {
            offset: i64::from(batch.record_count()),
            timestamp: record.timestamp.unwrap_or(model::NO_TIMESTAMP),
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        });
        self.open_bytes += size_of(record);
        Ok(())
    }

    /// Closes the open batches.
    ///
    /// # Errors
    /// When a codec fails or a batch exceeds 2 GiB.
    pub(super) fn take_round(&mut self) -> anyhow::Result<Round> {
        let mut round = Round { batches: BTreeMap::new(), counts: BTreeMap::new() };
        for (partition, batch) in std::mem::take(&mut self.open) {
            let count = batch.record_count();
            let sequence = self.sequences.entry(partition).or_insert(0);
            // Sequence numbers wrap to 0 after i32::MAX.
            *sequence = sequence.wrapping_add(count) & i32::MAX;
            round.counts.insert(partition, u64::try_from(count)?);
            round.batches.insert(partition, batch.finish()?);
        }
        self.open_bytes = 0;
        self.sticky = (self.sticky + 1) % self.partitions;
        Ok(round)
    }

    fn partition(&self, record: &InputRecord) -> anyhow::Result<i32> {
        match (record.partition, &record.key) {
            (Some(partition), _) if (0..self.partitions).contains(&partition) => Ok(partition),
            (Some(partition), _) => {
                bail!("there is no partition {partition}: the topic has partitions 0 to {}", self.partitions - 1)
            }
            (None, Some(key)) => Ok(partition_of(key, self.partitions)),
            (None, None) => Ok(self.sticky),
        }
    }
}

fn size_of(record: &InputRecord) -> usize {
    let len = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    let header = |(key, value): &(String, Option<Vec<u8>>)| key.len() + len(value) + OVERHEAD_BYTES;
    OVERHEAD_BYTES + len(&record.key) + len(&record.value) + record.headers.iter().map(header).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use model::batch::BatchHeader;

    use super::*;

    fn value(len: usize) -> InputRecord {
        InputRecord { value: Some(vec![b'x'; len]), timestamp: Some(1), ..InputRecord::default() }
    }

    #[test]
    fn sequences_go_on_from_batch_to_batch() {
        let mut batcher = Batcher::new(1, usize::MAX, Compression::None, (7, 0));
        for (count, base) in [(3, 0), (2, 3), (1, 5)] {
            (0..count).for_each(|_| batcher.add(&value(10)).unwrap());
            let round = batcher.take_round().unwrap();
            let header = BatchHeader::parse(&round.batches[&0]).unwrap();
            assert_eq!((header.base_sequence, header.record_count, header.producer_id), (base, count, 7));
        }
        assert!(batcher.take_round().unwrap().batches.is_empty());
    }

    #[test]
    fn a_batch_is_full_before_it_exceeds_what_the_topic_takes() {
        assert!((900_000..=BATCH_BYTES).contains(&full_batch_of(1_048_588)));
        assert!((14_000..=16_384).contains(&full_batch_of(16_384)));
    }

    fn full_batch_of(limit_bytes: usize) -> usize {
        let mut batcher = Batcher::new(1, limit_bytes, Compression::None, (0, 0));
        while !batcher.is_full_with(&value(1000)).unwrap() {
            batcher.add(&value(1000)).unwrap();
        }
        batcher.take_round().unwrap().batches[&0].len()
    }

    #[test]
    fn records_without_a_key_move_on_with_every_round() {
        let mut batcher = Batcher::new(3, usize::MAX, Compression::None, (0, 0));
        let mut seen = Vec::new();
        for _ in 0..3 {
            batcher.add(&value(1)).unwrap();
            batcher.add(&value(1)).unwrap();
            seen.extend(batcher.take_round().unwrap().counts);
        }
        seen.sort_unstable();
        assert_eq!(seen, [(0, 2), (1, 2), (2, 2)]);
    }

    #[test]
    fn a_partition_that_does_not_exist_is_refused() {
        let batcher = Batcher::new(2, usize::MAX, Compression::None, (0, 0));
        let record = InputRecord { partition: Some(2), ..value(1) };
        let error = batcher.is_full_with(&record).unwrap_err().to_string();
        assert_eq!(error, "there is no partition 2: the topic has partitions 0 to 1");
    }
}
