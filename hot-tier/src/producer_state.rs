//! What a partition remembers of its idempotent producers (KIP-98), so that a repeated batch is stored once.
//!
//! For each producer: its epoch, its last five batches, its open transaction. The rules are those of Apache Kafka's
//! `ProducerAppendInfo`. A batch is judged with [`ProducerStates::judge`], which changes nothing, and taken with
//! [`ProducerStates::apply`] once it is in the log; recovery applies what it finds in the log without judging.

use std::collections::{BTreeMap, VecDeque};

use model::batch::BatchHeader;
use model::{NO_SEQUENCE, NO_TIMESTAMP, Offset, ProducerEpoch, ProducerId, TimestampMs};

mod snapshot;

/// Batches that are remembered of each producer: as many as a client may have in flight.
pub(crate) const BATCHES_MAX: usize = 5;

/// Producers that a partition remembers. Kafka bounds them by time alone (`producer.id.expiration.ms`); here a client that uses
/// a new id for every batch cannot fill memory and checkpoints in that time.
pub(crate) const PRODUCERS_MAX: usize = 1 << 16;

/// Producers that are forgotten together once there are more than [`PRODUCERS_MAX`]: finding the oldest looks at all.
const FORGOTTEN_AT_ONCE: usize = PRODUCERS_MAX / 8;

/// Most that a producer's age may grow between two looks, in ms. Partitions are looked at every few seconds.
const LONGEST_STEP_MS: i64 = 60_000;

/// A producer that the partition remembers, for `DescribeProducers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Who.
    pub producer_id: ProducerId,
    /// Its newest epoch.
    pub producer_epoch: ProducerEpoch,
    /// Sequence number of its last record, or −1.
    pub last_sequence: i32,
    /// Largest timestamp of its last batch, in ms, or −1.
    pub last_timestamp: TimestampMs,
    /// Epoch of the transaction coordinator that wrote its last marker, or −1.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction.
    pub current_txn_start_offset: Option<Offset>,
}

/// A batch that is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchMark {
    pub(crate) first_sequence: i32,
    pub(crate) last_sequence: i32,
    pub(crate) base_offset: Offset,
    pub(crate) last_offset: Offset,
    pub(crate) timestamp: TimestampMs,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    coordinator_epoch: i32,
    last_timestamp: TimestampMs,
    /// When it last appended, by [`ProducerStates::clock`]: what expiry goes by.
    last_seen_ms: TimestampMs,
    txn_start: Option<Offset>,
    batches: VecDeque<BatchMark>,
}

/// What a batch of an idempotent producer means to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It continues what is stored.
    Next,
    /// It is stored already, here.
    Duplicate(BatchMark),
    /// Its sequence number does not follow.
    OutOfOrder { expected: i32 },
    /// A newer instance of the producer has written already.
    Fenced { current: ProducerEpoch },
}

/// The producers of one partition, by id.
#[derive(Debug, Clone, Default)]
#[cfg_attr(test, derive(PartialEq))]
pub(crate) struct ProducerStates {
    producers: BTreeMap<ProducerId, Producer>,
    clock: Clock,
}

/// Tells how long the partition was looked after. Wall clocks leap, and a process that starts after a leap has another time
/// than the one that stored the state: going by them, producers that are at work would be forgotten, and their repeated
/// batches stored twice. So leaps count for little, and what passes while no process runs does not count.
#[derive(Debug, Clone, Copy, Default)]
#[cfg_attr(test, derive(PartialEq))]
struct Clock {
    /// What it shows; from where it began does not matter.
    now_ms: Option<TimestampMs>,
    /// What the broker's clock showed when it was last asked.
    asked_ms: Option<TimestampMs>,
}

impl Clock {
    /// Goes on to where the broker's clock shows `now_ms`.
    fn advance(&mut self, now_ms: TimestampMs) -> TimestampMs {
        let passed = self.asked_ms.map_or(0, |asked| now_ms.saturating_sub(asked).clamp(0, LONGEST_STEP_MS));
        self.asked_ms = Some(now_ms);
        *self.now_ms.insert(self.now_ms.map_or(now_ms, |shown| shown.saturating_add(passed)))
    }
}

impl Producer {
    fn new(epoch: ProducerEpoch) -> Self {
        Producer {
            epoch,
            coordinator_epoch: -1,
            last_timestamp: NO_TIMESTAMP,
            last_seen_ms: NO_TIMESTAMP,
            txn_start: None,
            batches: VecDeque::new(),
        }
    }

    fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(NO_SEQUENCE, |batch| batch.last_sequence)
    }

    fn is_idle(&self, now_ms: TimestampMs, expiration_ms: u64) -> bool {
        self.txn_start.is_none()
            && u64::try_from(now_ms.saturating_sub(self.last_seen_ms)).unwrap_or(0) >= expiration_ms
    }
}

impl ProducerStates {
    /// Judges a batch with a producer id. `before` are batches of the same append, which come first.
    pub(crate) fn judge(&self, batch: &BatchHeader, before: &[BatchHeader]) -> Verdict {
        if batch.is_control() {
            return self.judge_marker(batch);
        }
        let known = self.producers.get(&batch.producer_id);
        if let Some(stored) = known.filter(|known| known.epoch == batch.producer_epoch)
            && let Some(mark) = stored.batches.iter().find(|mark| mark.is_of(batch))
        {
            return Verdict::Duplicate(*mark);
        }
        let sibling = before.iter().rev().find(|other| other.producer_id == batch.producer_id && !other.is_control());
        let (epoch, last_sequence) = match (sibling, known) {
            (Some(sibling), _) => (sibling.producer_epoch, sibling.last_sequence()),
            (None, Some(known)) => (known.epoch, known.last_sequence()),
            // Nothing is known, perhaps because it was deleted: any sequence may follow.
            (None, None) => return Verdict::Next,
        };
        if batch.producer_epoch < epoch {
            return Verdict::Fenced { current: epoch };
        }
        let expected = if batch.producer_epoch > epoch { 0 } else { next_sequence(last_sequence) };
        if batch.base_sequence == expected { Verdict::Next } else { Verdict::OutOfOrder { expected } }
    }

    fn judge_marker(&self, marker: &BatchHeader) -> Verdict {
        match self.producers.get(&marker.producer_id) {
            Some(known) if marker.producer_epoch < known.epoch => Verdict::Fenced { current: known.epoch },
            _ => Verdict::Next,
        }
    }

    /// Takes a batch that is in the log. Batches without a producer id change nothing. Answers how many producers were
    /// forgotten because there are more than [`PRODUCERS_MAX`].
    pub(crate) fn apply(&mut self, batch: &BatchHeader, now_ms: TimestampMs) -> usize {
        if !batch.has_producer_id() {
            return 0;
        }
        self.note(batch, now_ms);
        if self.producers.len() > PRODUCERS_MAX { self.forget_oldest(FORGOTTEN_AT_ONCE) } else { 0 }
    }

    fn note(&mut self, batch: &BatchHeader, now_ms: TimestampMs) {
        let producer = self.producers.entry(batch.producer_id).or_insert_with(|| Producer::new(batch.producer_epoch));
        if producer.epoch != batch.producer_epoch {
            producer.epoch = batch.producer_epoch;
            producer.batches.clear();
        }
        producer.last_timestamp = batch.max_timestamp;
        producer.last_seen_ms = self.clock.advance(now_ms);
        if batch.is_control() {
            producer.txn_start = None;
            return;
        }
        if batch.is_transactional() {
            producer.txn_start.get_or_insert(batch.base_offset);
        }
        if producer.batches.len() == BATCHES_MAX {
            producer.batches.pop_front();
        }
        producer.batches.push_back(BatchMark::of(batch));
    }

    /// Forgets up to `count` producers that were silent for longest, other than those with an open transaction.
    fn forget_oldest(&mut self, count: usize) -> usize {
        let idle = self.producers.iter().filter(|(_, producer)| producer.txn_start.is_none());
        let last_offset = |producer: &Producer| producer.batches.back().map_or(-1, |batch| batch.last_offset);
        let mut by_age: Vec<_> =
            idle.map(|(id, producer)| (producer.last_seen_ms, last_offset(producer), *id)).collect();
        let count = count.min(by_age.len());
        if count < by_age.len() {
            by_age.select_nth_unstable(count);
        }
        by_age[..count].iter().for_each(|(_, _, id)| drop(self.producers.remove(id)));
        count
    }

    /// Forgets those that were silent for longest until the stored form has at most `max_len` bytes. Answers how many.
    pub(crate) fn shrink_to(&mut self, max_len: usize) -> usize {
        let mut by_age: Vec<_> = self
            .producers
            .iter()
            .map(|(id, producer)| (producer.last_seen_ms, *id, snapshot::stored_len(producer)))
            .collect();
        by_age.sort_unstable();
        let mut len = self.encode().len();
        let mut forgotten = 0;
        for (_, id, stored_len) in by_age {
            if len <= max_len {
                break;
            }
            self.producers.remove(&id);
            len -= stored_len;
            forgotten += 1;
        }
        forgotten
    }

    /// Forgets producers that were silent for `expiration_ms`, other than those with an open transaction.
    pub(crate) fn expire(&mut self, now_ms: TimestampMs, expiration_ms: u64) {
        let now_ms = self.clock.advance(now_ms);
        self.producers.retain(|_, producer| !producer.is_idle(now_ms, expiration_ms));
    }

    /// Everyone who is remembered, by id.
    pub(crate) fn active(&self) -> Vec<ActiveProducer> {
        let describe = |(&producer_id, producer): (&ProducerId, &Producer)| ActiveProducer {
            producer_id,
            producer_epoch: producer.epoch,
            last_sequence: producer.last_sequence(),
            last_timestamp: producer.last_timestamp,
            coordinator_epoch: producer.coordinator_epoch,
            current_txn_start_offset: producer.txn_start,
        };
        self.producers.iter().map(describe).collect()
    }
}

impl BatchMark {
    fn of(batch: &BatchHeader) -> Self {
        BatchMark {
            first_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            base_offset: batch.base_offset,
            last_offset: batch.last_offset(),
            timestamp: batch.max_timestamp,
        }
    }

    fn is_of(&self, batch: &BatchHeader) -> bool {
        self.first_sequence == batch.base_sequence && self.last_sequence == batch.last_sequence()
    }
}

/// The number after `last`; after the largest comes 0, after "none" too.
fn next_sequence(last: i32) -> i32 {
    last.checked_add(1).unwrap_or(0)
}

#[cfg(test)]
mod tests;
