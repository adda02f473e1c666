//! One entry of the journal: what happened to one partition.
//!
//! ```text
//!  0  4  magic "FJE1"
//!  4  4  CRC-32C of all that follows, body included, padding not
//!  8  8  journal position (LSN) of this entry: stale bytes of a reused file have another
//! 16  8  journal position below which all was durable when this was written
//! 24  4  length of the body
//! 28  1  kind
//! 29  3  zero
//! 32 16  topic id
//! 48  4  partition
//! 52  4  zero
//! 56  …  body, then zeros up to a multiple of 8
//! ```
//!
//! Bodies (big-endian; a *point* is segment base, position in it, offset: 8 bytes each):
//! 1 append: segment base, position, first offset, next offset, then the batches ·
//! 2 bypassed append: the same with the batches' length (8) and CRC-32C (4) in their place, they are in the segment ·
//! 3 truncate: point · 4 log start: offset · 5 local start: offset · 6 roll: base of the new segment ·
//! 7 flush mode: 1 (0 durable, 1 replicated), point · 8 create: the topic's name · 9 remove: nothing ·
//! 10 reset: offset · 11 leader epoch: epoch (4), start offset ·
//! 12 bootstrap: log start, local start, number of epochs (4), each epoch (4) and start offset, length (4) and bytes of the
//! producer state

use bytes::{BufMut, Bytes};
use model::settings::FlushMode;
use model::{LeaderEpoch, Offset, TopicId, TopicName, TopicPartition};
use uuid::Uuid;

use crate::bootstrap::Bootstrap;
use crate::checkpoint::{EPOCH_LEN, put_epochs, read_epochs};
use crate::fields::{Fields, crc32c, put_sized};

/// Bytes before an entry's body.
pub(crate) const ENTRY_HEADER_LEN: usize = 56;
/// Largest body: far above a batch that is journaled, far below what would hurt to allocate.
pub(crate) const BODY_LEN_MAX: usize = 64 << 20;

const MAGIC: u32 = u32::from_be_bytes(*b"FJE1");

/// A place in a partition's log: right before `offset`, which lies (or will lie) at `position` of the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogPoint {
    pub(crate) segment_base: Offset,
    pub(crate) position: u64,
    pub(crate) offset: Offset,
}

/// Where an append went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) segment_base: Offset,
    pub(crate) position: u64,
    pub(crate) first: Offset,
    pub(crate) next: Offset,
}

/// What the bytes of an append must be. Intact batches with fitting offsets are not enough: bytes that were truncated at
/// the same place may still lie there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest {
    /// How many.
    pub(crate) len: u64,
    /// CRC-32C of all.
    pub(crate) crc: u32,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Batches, which follow the event in the entry.
    Append(Extent),
    /// Batches which only the segment has.
    Bypassed(Extent, Digest),
    Truncate(LogPoint),
    LogStart(Offset),
    LocalStart(Offset),
    Roll(Offset),
    Mode(FlushMode, LogPoint),
    Create(TopicName),
    Remove,
    Reset(Offset),
    Epoch(LeaderEpoch, Offset),
    Bootstrap(Bootstrap),
}

impl Event {
    /// Bytes that the event takes in an entry's body, at most.
    pub(crate) fn len_max(&self) -> usize {
        match self {
            Event::Bootstrap(state) => bootstrap_len(state),
            // The longest of the others, a topic's name, takes 249 bytes.
            _ => 256,
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Event::Append(_) => 1,
            Event::Bypassed(..) => 2,
            Event::Truncate(_) => 3,
            Event::LogStart(_) => 4,
            Event::LocalStart(_) => 5,
            Event::Roll(_) => 6,
            Event::Mode(..) => 7,
            Event::Create(_) => 8,
            Event::Remove => 9,
            Event::Reset(_) => 10,
            Event::Epoch(..) => 11,
            Event::Bootstrap(_) => 12,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let put_point = |out: &mut Vec<u8>, point: &LogPoint| {
            out.put_i64(point.segment_base);
            out.put_u64(point.position);
            out.put_i64(point.offset);
        };
        match self {
            Event::Append(extent) => put_extent(out, extent),
            Event::Bypassed(extent, digest) => {
                put_extent(out, extent);
                out.put_u64(digest.len);
                out.put_u32(digest.crc);
            }
            Event::Truncate(point) => put_point(out, point),
            Event::LogStart(offset) | Event::LocalStart(offset) | Event::Roll(offset) | Event::Reset(offset) => {
                out.put_i64(*offset);
            }
            Event::Mode(mode, point) => {
                out.put_u8(mode_code(*mode));
                put_point(out, point);
            }
            Event::Create(topic) => out.put_slice(topic.as_bytes()),
            Event::Remove => {}
            Event::Epoch(epoch, start) => {
                out.put_i32(*epoch);
                out.put_i64(*start);
            }
            Event::Bootstrap(state) => {
                out.put_i64(state.log_start);
                out.put_i64(state.local_start);
                put_epochs(out, &state.epochs);
                put_sized(out, &state.producers);
            }
        }
    }

    /// Reads the event at the start of a body; the second part is what follows it.
    fn read(kind: u8, body: &[u8]) -> Option<(Event, usize)> {
        let mut fields = Fields::new(body);
        let event = match kind {
            1 => Event::Append(read_extent(&mut fields)?),
            2 => {
                let extent = read_extent(&mut fields)?;
                Event::Bypassed(extent, Digest { len: fields.u64()?, crc: fields.u32()? })
            }
            3 => Event::Truncate(read_point(&mut fields)?),
            4 => Event::LogStart(fields.i64()?),
            5 => Event::LocalStart(fields.i64()?),
            6 => Event::Roll(fields.i64()?),
            7 => Event::Mode(mode_of(fields.u8()?)?, read_point(&mut fields)?),
            8 => {
                let name = std::str::from_utf8(fields.take(body.len())?).ok()?;
                Event::Create(TopicName::new(name).ok()?)
            }
            9 => Event::Remove,
            10 => Event::Reset(fields.i64()?),
            11 => Event::Epoch(fields.i32()?, fields.i64()?),
            12 => Event::Bootstrap(read_bootstrap(&mut fields)?),
            _ => return None,
        };
        Some((event, body.len() - fields.rest().len()))
    }
}

/// The stored form of a flush mode.
pub(crate) fn mode_code(mode: FlushMode) -> u8 {
    match mode {
        FlushMode::Durable => 0,
        FlushMode::Replicated => 1,
    }
}

/// The flush mode of a stored form.
pub(crate) fn mode_of(code: u8) -> Option<FlushMode> {
    match code {
        0 => Some(FlushMode::Durable),
        1 => Some(FlushMode::Replicated),
        _ => None,
    }
}

fn put_extent(out: &mut Vec<u8>, extent: &Extent) {
    out.put_i64(extent.segment_base);
    out.put_u64(extent.position);
    out.put_i64(extent.first);
    out.put_i64(extent.next);
}

fn read_extent(fields: &mut Fields<'_>) -> Option<Extent> {
    Some(Extent { segment_base: fields.i64()?, position: fields.u64()?, first: fields.i64()?, next: fields.i64()? })
}

/// Bytes of a bootstrap event.
pub(crate) fn bootstrap_len(state: &Bootstrap) -> usize {
    24 + state.epochs.len() * EPOCH_LEN + state.producers.len()
}

fn read_bootstrap(fields: &mut Fields<'_>) -> Option<Bootstrap> {
    Some(Bootstrap {
        log_start: fields.i64()?,
        local_start: fields.i64()?,
        epochs: read_epochs(fields)?,
        producers: Bytes::copy_from_slice(fields.sized()?),
    })
}

fn read_point(fields: &mut Fields<'_>) -> Option<LogPoint> {
    Some(LogPoint { segment_base: fields.i64()?, position: fields.u64()?, offset: fields.i64()? })
}

/// The place of an entry in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Its own position.
    pub(crate) lsn: u64,
    /// Everything below was durable when it was written.
    pub(crate) durable_lsn: u64,
}

/// The bytes of an entry that come before its batches; `batches` are the pieces that follow.
pub(crate) fn encode(partition: TopicPartition, event: &Event, stamp: Stamp, batches: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(ENTRY_HEADER_LEN + 48);
    out.put_u32(MAGIC);
    out.put_u32(0);
    out.put_u64(stamp.lsn);
    out.put_u64(stamp.durable_lsn);
    out.put_u32(0);
    out.put_u8(event.kind());
    out.put_bytes(0, 3);
    out.put_u128(partition.topic_id.0.as_u128());
    out.put_i32(partition.partition);
    out.put_u32(0);
    event.write(&mut out);
    let body_len = out.len() - ENTRY_HEADER_LEN + batches.iter().map(|piece| piece.len()).sum::<usize>();
    // The caller bypasses the journal long before a body has BODY_LEN_MAX bytes.
    out[24..28].copy_from_slice(&u32::try_from(body_len).unwrap_or(u32::MAX).to_be_bytes());
    let crc = crc32c(std::iter::once(&out[8..]).chain(batches.iter().copied()));
    out[4..8].copy_from_slice(&crc.to_be_bytes());
    out
}

/// Bytes that an entry with such a body takes in the journal.
pub(crate) fn padded_len(body_len: usize) -> usize {
    (ENTRY_HEADER_LEN + body_len).next_multiple_of(8)
}

/// An entry that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) stamp: Stamp,
    pub(crate) partition: TopicPartition,
    pub(crate) event: Event,
    /// Where in the entry the batches of an append begin, and their length.
    pub(crate) batches_at: usize,
    pub(crate) batches_len: usize,
    /// Bytes of the entry, padding included.
    pub(crate) len: usize,
}

/// The position that the entry in front of `bytes` has by its own account, which nothing vouches for.
pub(super) fn lsn_of(bytes: &[u8]) -> Option<u64> {
    let mut fields = Fields::new(bytes);
    if fields.u32()? != MAGIC {
        return None;
    }
    fields.u32()?;
    fields.u64()
}

/// The entry at the start of `bytes` when it is intact and belongs to journal position `lsn`.
pub(crate) fn decode(bytes: &[u8], lsn: u64) -> Option<Entry> {
    let mut fields = Fields::new(bytes);
    if fields.u32()? != MAGIC {
        return None;
    }
    let crc = fields.u32()?;
    if fields.u64()? != lsn {
        return None;
    }
    let durable_lsn = fields.u64()?;
    let body_len = usize::try_from(fields.u32()?).ok().filter(|len| *len <= BODY_LEN_MAX)?;
    let kind = fields.u8()?;
    fields.take(3)?;
    let topic_id = TopicId(Uuid::from_u128(fields.u128()?));
    let partition = TopicPartition { topic_id, partition: fields.i32()? };
    fields.take(4)?;
    let body = fields.take(body_len)?;
    if crc32c([&bytes[8..ENTRY_HEADER_LEN + body_len]]) != crc {
        return None;
    }
    let (event, used) = Event::read(kind, body)?;
    Some(Entry {
        stamp: Stamp { lsn, durable_lsn },
        partition,
        event,
        batches_at: ENTRY_HEADER_LEN + used,
        batches_len: body_len - used,
        len: padded_len(body_len),
    })
}

#[cfg(test)]
mod tests {
    use model::segment::EpochStart;
    use proptest::prelude::*;

    use super::*;

    fn partition() -> TopicPartition {
        TopicPartition { topic_id: TopicId(Uuid::from_u128(7)), partition: 3 }
    }

    fn points() -> impl Strategy<Value = LogPoint> {
        (any::<i64>(), any::<u64>(), any::<i64>()).prop_map(|(segment_base, position, offset)| LogPoint {
            segment_base,
            position,
            offset,
        })
    }

    fn extents() -> impl Strategy<Value = Extent> {
        (any::<i64>(), any::<u64>(), any::<i64>(), any::<i64>())
            .prop_map(|(segment_base, position, first, next)| Extent { segment_base, position, first, next })
    }

    fn bootstraps() -> impl Strategy<Value = Bootstrap> {
        let epochs = proptest::collection::vec((any::<i32>(), any::<i64>()), 0..5);
        (any::<i64>(), any::<i64>(), epochs, any::<Vec<u8>>()).prop_map(
            |(log_start, local_start, epochs, producers)| {
                let epoch = |(leader_epoch, start_offset)| EpochStart { leader_epoch, start_offset };
                let epochs = epochs.into_iter().map(epoch).collect();
                Bootstrap { log_start, local_start, epochs, producers: Bytes::from(producers) }
            },
        )
    }

    fn events() -> impl Strategy<Value = Event> {
        prop_oneof![
            extents().prop_map(Event::Append),
            (extents(), any::<u64>(), any::<u32>())
                .prop_map(|(extent, len, crc)| Event::Bypassed(extent, Digest { len, crc })),
            points().prop_map(Event::Truncate),
            any::<i64>().prop_map(Event::LogStart),
            any::<i64>().prop_map(Event::LocalStart),
            any::<i64>().prop_map(Event::Roll),
            points().prop_map(|point| Event::Mode(FlushMode::Replicated, point)),
            Just(Event::Create(TopicName::new("orders").unwrap())),
            Just(Event::Remove),
            any::<i64>().prop_map(Event::Reset),
            (any::<i32>(), any::<i64>()).prop_map(|(epoch, start)| Event::Epoch(epoch, start)),
            bootstraps().prop_map(Event::Bootstrap),
        ]
    }

    proptest! {
        #[test]
        fn an_entry_survives_its_stored_form(event in events(), lsn: u64, durable_lsn: u64, batches: Vec<u8>) {
            let pieces: Vec<&[u8]> = if matches!(event, Event::Append(_)) { vec![&batches] } else { vec![] };
            let mut bytes = encode(partition(), &event, Stamp { lsn, durable_lsn }, &pieces);
            pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
            let entry = decode(&bytes, lsn).unwrap();
            prop_assert_eq!(&entry.event, &event);
            prop_assert_eq!(entry.stamp, Stamp { lsn, durable_lsn });
            prop_assert_eq!(entry.partition, partition());
            prop_assert_eq!(&bytes[entry.batches_at..][..entry.batches_len], pieces.concat());
            prop_assert_eq!(entry.len % 8, 0);
            prop_assert!(decode(&bytes, lsn.wrapping_add(1)).is_none(), "another position means stale bytes");
        }

        #[test]
        fn foreign_bytes_are_no_entry(bytes: Vec<u8>, lsn: u64) {
            prop_assert!(decode(&bytes, lsn).is_none());
        }
    }

    #[test]
    fn the_stored_form_is_pinned() {
        let extent = Extent { segment_base: 1, position: 2, first: 3, next: 4 };
        let bytes = encode(partition(), &Event::Append(extent), Stamp { lsn: 5, durable_lsn: 6 }, &[b"batch"]);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("golden.hex").trim());
    }

    #[test]
    fn the_stored_form_of_a_bootstrap_is_pinned() {
        let epochs = vec![EpochStart { leader_epoch: 1, start_offset: 2 }];
        let state = Bootstrap { log_start: 3, local_start: 4, epochs, producers: Bytes::from_static(b"state") };
        let event = Event::Bootstrap(state.clone());
        let bytes = encode(partition(), &event, Stamp { lsn: 5, durable_lsn: 6 }, &[]);
        assert_eq!(bytes.len(), ENTRY_HEADER_LEN + bootstrap_len(&state));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, include_str!("bootstrap.golden.hex").trim());
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let extent = Extent { segment_base: 1, position: 2, first: 3, next: 4 };
        let mut bytes = encode(partition(), &Event::Append(extent), Stamp { lsn: 5, durable_lsn: 6 }, &[b"batch"]);
        bytes.extend_from_slice(b"batch");
        assert!(decode(&bytes, 5).is_some());
        for i in 0..bytes.len() {
            bytes[i] ^= 0x04;
            assert!(decode(&bytes, 5).is_none(), "byte {i}");
            bytes[i] ^= 0x04;
        }
    }
}
