//! Putting one changed bit right, by the checksum that it breaks.
//!
//! What was flushed last has no witness: a changed bit there looks like the torn tail of a power cut, and acknowledged records
//! would be cut off with it. The batches in the segments cannot stand in for it: behind the journal's end, ones may lie that
//! were refused or truncated. But CRC-32C tells *which* bit of up to 2³¹ has changed, if it is one. A torn entry passes for
//! one with a changed bit once in 2³² divided by its bits; its batches have checksums of their own that must fit as well.

use model::batch::Batches;

use super::entry::{BODY_LEN_MAX, ENTRY_HEADER_LEN, Event, decode};

/// The generator of CRC-32C, lowest bit first.
const POLYNOMIAL: u32 = 0x82F6_3B78;
/// Where the checksum of an entry is, and where the bytes that it covers begin.
const CRC_AT: usize = 4;
const COVERED_FROM: usize = 8;
const LEN_AT: usize = 24;

/// A bit of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flip {
    pub(super) byte: usize,
    pub(super) mask: u8,
}

impl Flip {
    fn apply(self, bytes: &mut [u8]) {
        if let Some(byte) = bytes.get_mut(self.byte) {
            *byte ^= self.mask;
        }
    }
}

/// The bit that must change for an intact entry of position `lsn` to stand at the start of `bytes`.
pub(super) fn flip_in_entry(bytes: &[u8], lsn: u64) -> Option<Flip> {
    let end = bytes.len().min(ENTRY_HEADER_LEN + BODY_LEN_MAX);
    let bytes = bytes.get(..end).filter(|bytes| is_near(bytes, lsn))?;
    let mut copy = bytes.to_vec();
    let header_bits = bits(0..COVERED_FROM).chain(bits(LEN_AT..LEN_AT + 4));
    header_bits.chain(covered_flip(bytes)).find(|flip| {
        flip.apply(&mut copy);
        let is_whole = is_entry(&copy, lsn);
        flip.apply(&mut copy);
        is_whole
    })
}

/// The bit that must change for `is_intact` to hold; `bytes` are few.
pub(super) fn flip_in(bytes: &[u8], is_intact: impl Fn(&[u8]) -> bool) -> Option<Flip> {
    let mut copy = bytes.to_vec();
    bits(0..bytes.len()).find(|flip| {
        flip.apply(&mut copy);
        let is_whole = is_intact(&copy);
        flip.apply(&mut copy);
        is_whole
    })
}

fn bits(bytes: std::ops::Range<usize>) -> impl Iterator<Item = Flip> {
    bytes.flat_map(|byte| (0..8).map(move |bit| Flip { byte, mask: 1 << bit }))
}

/// False for what never was this entry, with a bit changed or not: most of what lies behind the journal's end.
pub(super) fn is_near(bytes: &[u8], lsn: u64) -> bool {
    let (Some(magic), Some(position)) = (bytes.first_chunk::<4>(), bytes.get(8..16)) else { return false };
    let differing = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>();
    differing(magic, b"FJE1") + differing(position, &lsn.to_be_bytes()) <= 1
}

fn is_entry(bytes: &[u8], lsn: u64) -> bool {
    let Some(entry) = decode(bytes, lsn) else { return false };
    let batches = &bytes[entry.batches_at..entry.batches_at + entry.batches_len];
    let is_append = matches!(entry.event, Event::Append(_));
    !is_append || Batches::new(batches).all(|batch| batch.and_then(|batch| batch.verify_crc()).is_ok())
}

/// The bit among those that the checksum covers whose change explains the checksum.
fn covered_flip(bytes: &[u8]) -> Option<Flip> {
    let len = u32::from_be_bytes(*bytes.get(LEN_AT..)?.first_chunk()?);
    let end = ENTRY_HEADER_LEN.checked_add(usize::try_from(len).ok()?)?;
    let covered = bytes.get(COVERED_FROM..end)?;
    let stored = u32::from_be_bytes(*bytes.get(CRC_AT..)?.first_chunk()?);
    let difference = stored ^ crate::fields::crc32c([covered]);
    // What a bit does to the checksum depends on how many bits follow it only.
    let mut effect = POLYNOMIAL;
    for byte in (COVERED_FROM..end).rev() {
        for bit in (0..8).rev() {
            if effect == difference {
                return Some(Flip { byte, mask: 1 << bit });
            }
            effect = (effect >> 1) ^ if effect & 1 == 1 { POLYNOMIAL } else { 0 };
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use model::{TopicId, TopicName, TopicPartition};
    use uuid::Uuid;

    use super::*;
    use crate::journal::entry::{Stamp, encode};

    #[test]
    fn any_one_bit_of_an_entry_is_found_and_two_are_not() {
        let partition = TopicPartition { topic_id: TopicId(Uuid::from_u128(7)), partition: 3 };
        let event = Event::Create(TopicName::new("orders").unwrap());
        let mut bytes = encode(partition, &event, Stamp { lsn: 5, durable_lsn: 6 }, &[]);
        let len = bytes.len();
        bytes.extend_from_slice(&[0; 500]);
        for flip in bits(0..len) {
            flip.apply(&mut bytes);
            assert_eq!(flip_in_entry(&bytes, 5), Some(flip));
            let other = Flip { byte: (flip.byte + 9) % len, mask: 2 };
            other.apply(&mut bytes);
            assert_eq!(flip_in_entry(&bytes, 5), None, "{flip:?} and {other:?}");
            other.apply(&mut bytes);
            flip.apply(&mut bytes);
        }
        assert_eq!(flip_in_entry(&bytes, 6), None, "stale bytes are of another position");
        assert_eq!(flip_in_entry(&[0; 600], 5), None);
    }
}
