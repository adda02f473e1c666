//! The decoders of the tier's files, for the fuzz targets of `fuzz/` and for a bounded run in the tests; compiled there only.
//!
//! Each function takes any bytes, also with magic and checksum put right, which a fuzzer does not find by itself. Nothing
//! may panic, and what was understood is written again as something that is understood as the same. Each says whether the
//! bytes were understood at all.

use bytes::Bytes;

use crate::checkpoint::{self, Checkpoint, History};
use crate::fields::crc32c;
use crate::journal::entry;
use crate::producer_state::ProducerStates;

/// The fields of a journal entry before its body: magic, checksum, position.
const ENTRY_CRC: std::ops::Range<usize> = 4..8;
const ENTRY_LSN: std::ops::Range<usize> = 8..16;

/// An entry of the journal.
pub fn journal_entry(data: &[u8]) -> bool {
    let mut mended = data.to_vec();
    if mended.len() >= entry::ENTRY_HEADER_LEN {
        mended[..4].copy_from_slice(b"FJE1");
        let body_len = u32::try_from(mended.len() - entry::ENTRY_HEADER_LEN).unwrap_or(0);
        mended[24..28].copy_from_slice(&body_len.to_be_bytes());
        let crc = crc32c([&mended[ENTRY_LSN.start..]]);
        mended[ENTRY_CRC].copy_from_slice(&crc.to_be_bytes());
    }
    check_entry(data) | check_entry(&mended)
}

fn check_entry(bytes: &[u8]) -> bool {
    let Some(lsn) = bytes.get(ENTRY_LSN).and_then(|lsn| lsn.try_into().ok()) else { return false };
    let lsn = u64::from_be_bytes(lsn);
    let Some(found) = entry::decode(bytes, lsn) else { return false };
    let batches = &bytes[found.batches_at..found.batches_at + found.batches_len];
    let mut again = entry::encode(found.partition, &found.event, found.stamp, &[batches]);
    again.extend_from_slice(batches);
    let read = entry::decode(&again, lsn);
    assert_eq!(read.map(|read| read.event), Some(found.event));
    true
}

/// The checkpoint.
pub fn checkpoint(data: &[u8]) -> bool {
    any_form(*b"FCP1", data, |bytes| {
        let Some(found) = Checkpoint::decode(bytes) else { return false };
        let states: Vec<Bytes> = found.partitions.iter().map(|partition| partition.encode()).collect();
        let again = checkpoint::encode(found.lsn, found.clean, &states);
        assert_eq!(Checkpoint::decode(&again).as_ref(), Some(&found));
        true
    })
}

/// A partition's log start and leader epochs.
pub fn history(data: &[u8]) -> bool {
    any_form(*b"FPH1", data, |bytes| {
        let Some(found) = History::decode(bytes) else { return false };
        assert_eq!(History::decode(&found.encode()).as_ref(), Some(&found));
        true
    })
}

/// A snapshot of producer state.
pub fn producer_snapshot(data: &[u8]) -> bool {
    any_form(*b"FPS1", data, |bytes| {
        let Some(found) = ProducerStates::decode(bytes) else { return false };
        let stored = found.encode();
        assert_eq!(ProducerStates::decode(&stored).map(|states| states.encode()), Some(stored));
        true
    })
}

/// Shows `check` the bytes as they are, and as a file with this magic and a right checksum.
fn any_form(magic: [u8; 4], data: &[u8], check: impl Fn(&[u8]) -> bool) -> bool {
    let body = data.get(8..).unwrap_or_default();
    let mended = [&magic, &crc32c([body]).to_be_bytes()[..], body].concat();
    check(data) | check(&mended)
}
