//! The stored form of producer state, in `.snapshot` files, in the checkpoint and in what the archive keeps.
//!
//! ```text
//! 0  4  magic "FPS1"
//! 4  4  CRC-32C of all that follows
//! 8  4  number of producers; for each, by ascending id:
//!       8 id · 2 epoch · 4 coordinator epoch · 8 last timestamp · 8 last seen (ms since any time) · 8 open transaction's
//!       first offset or −1 · 1 number of batches, 0 to 5, oldest first; for each:
//!         4 first sequence · 4 last sequence · 8 base offset · 8 last offset · 8 largest timestamp
//! ```

use std::collections::VecDeque;

use bytes::BufMut;

use super::{BATCHES_MAX, BatchMark, Producer, ProducerStates};
use crate::fields::{Fields, crc32c, put_count};

const MAGIC: u32 = u32::from_be_bytes(*b"FPS1");
const PRODUCER_LEN_MIN: usize = 39;
const BATCH_LEN: usize = 32;

/// Bytes that a producer takes in the stored form.
pub(super) fn stored_len(producer: &Producer) -> usize {
    PRODUCER_LEN_MIN + BATCH_LEN * producer.batches.len()
}

impl ProducerStates {
    /// The stored form.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(12 + self.producers.len() * (PRODUCER_LEN_MIN + BATCH_LEN * BATCHES_MAX));
        out.put_u32(MAGIC);
        out.put_u32(0);
        put_count(&mut out, self.producers.len());
        for (id, producer) in &self.producers {
            out.put_i64(*id);
            out.put_i16(producer.epoch);
            out.put_i32(producer.coordinator_epoch);
            out.put_i64(producer.last_timestamp);
            out.put_i64(producer.last_seen_ms);
            out.put_i64(producer.txn_start.unwrap_or(-1));
            out.put_u8(u8::try_from(producer.batches.len()).unwrap_or(0));
            for batch in &producer.batches {
                out.put_i32(batch.first_sequence);
                out.put_i32(batch.last_sequence);
                out.put_i64(batch.base_offset);
                out.put_i64(batch.last_offset);
                out.put_i64(batch.timestamp);
            }
        }
        let crc = crc32c([&out[8..]]);
        out[4..8].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// Reads the stored form; `None` when it is not intact.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        if fields.u32()? != MAGIC || fields.u32()? != crc32c([fields.rest()]) {
            return None;
        }
        let mut states = ProducerStates::default();
        for _ in 0..fields.count(PRODUCER_LEN_MIN)? {
            let id = fields.i64()?;
            states.producers.insert(id, read_producer(&mut fields)?);
        }
        // Who appended last did so just now, as far as the age of all goes.
        states.clock.now_ms = states.producers.values().map(|producer| producer.last_seen_ms).max();
        fields.rest().is_empty().then_some(states)
    }
}

fn read_producer(fields: &mut Fields<'_>) -> Option<Producer> {
    let mut producer = Producer {
        epoch: fields.i16()?,
        coordinator_epoch: fields.i32()?,
        last_timestamp: fields.i64()?,
        last_seen_ms: fields.i64()?,
        txn_start: Some(fields.i64()?).filter(|start| *start >= 0),
        batches: VecDeque::new(),
    };
    let count = usize::from(fields.u8()?);
    if count > BATCHES_MAX {
        return None;
    }
    for _ in 0..count {
        producer.batches.push_back(BatchMark {
            first_sequence: fields.i32()?,
            last_sequence: fields.i32()?,
            base_offset: fields.i64()?,
            last_offset: fields.i64()?,
            timestamp: fields.i64()?,
        });
    }
    Some(producer)
}
