//! A segment file: batches back to back, read one at a time, trusted in nothing.
//!
//! A batch with a wrong checksum is named and passed over by its length; where a header cannot be one, the walk ends.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use anyhow::bail;
use model::batch::{BatchHeader, BatchView, HEADER_LEN};
use serde::Serialize;

use super::records::Origin;
use super::{Mode, RecordPrinter};
use crate::output::{print_json, print_line, size, table, time};

/// Batches that make one table for people.
const BATCHES_SHOWN_TOGETHER: usize = 1000;

#[derive(Debug, Serialize)]
struct Segment {
    kind: &'static str,
    file: String,
    size_bytes: u64,
    /// Bytes up to the first damage.
    intact_bytes: u64,
    batches: Vec<Batch>,
    damage: Vec<Damage>,
}

#[derive(Debug, Serialize)]
struct Batch {
    position: u64,
    size_bytes: usize,
    base_offset: i64,
    last_offset: i64,
    records: i32,
    compression: String,
    timestamp_type: &'static str,
    base_timestamp: i64,
    max_timestamp: i64,
    leader_epoch: i32,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    transactional: bool,
    control: bool,
    crc: String,
    intact: bool,
}

/// Where something is wrong, and what.
#[derive(Debug, Clone, Serialize)]
struct Damage {
    position: u64,
    reason: String,
}

/// Shows a segment.
pub(super) fn show(path: &Path, file: File, size_bytes: u64, mode: Mode) -> anyhow::Result<()> {
    let mut walk =
        Walk { input: BufReader::with_capacity(256 << 10, file), position: 0, size_bytes, damage: Vec::new() };
    match mode {
        Mode::Records { json } => {
            let mut printer = RecordPrinter::new(Origin::of_folder(path), json);
            walk.each(|_, batch| printer.print(&batch).map_err(|e| e.to_string()))?;
            printer.finish()?;
        }
        Mode::Facts { json } => {
            let mut batches = Vec::new();
            walk.each(|position, batch| {
                let checked = batch.verify_crc();
                batches.push(facts(position, &batch.header, checked.is_ok()));
                checked.map_err(|e| e.to_string())
            })?;
            let intact_bytes = walk.damage.first().map_or(size_bytes, |damage| damage.position);
            let (file, damage) = (path.display().to_string(), walk.damage.clone());
            let segment = Segment { kind: "segment", file, size_bytes, intact_bytes, batches, damage };
            if json { print_json(&segment)? } else { print_segment(&segment)? }
        }
    }
    let Some(first) = walk.damage.first() else { return Ok(()) };
    let Damage { position, reason } = first;
    bail!("{} is damaged at byte {position} ({} places): {reason}", path.display(), walk.damage.len())
}

fn facts(position: u64, header: &BatchHeader, intact: bool) -> Batch {
    let compression = header.attributes.compression();
    Batch {
        position,
        size_bytes: header.size_bytes(),
        base_offset: header.base_offset,
        last_offset: header.last_offset(),
        records: header.record_count,
        compression: compression.map_or_else(|e| e.to_string(), |codec| codec.name().to_owned()),
        timestamp_type: header.attributes.timestamp_type().name(),
        base_timestamp: header.base_timestamp,
        max_timestamp: header.max_timestamp,
        leader_epoch: header.leader_epoch,
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        transactional: header.attributes.is_transactional(),
        control: header.is_control(),
        crc: format!("{:08x}", header.crc),
        intact,
    }
}

fn print_segment(segment: &Segment) -> anyhow::Result<()> {
    let records: i64 = segment.batches.iter().map(|batch| i64::from(batch.records)).sum();
    let (batches, bytes) = (segment.batches.len(), size(segment.size_bytes));
    print_line(format_args!("segment {}: {batches} batches, {records} records, {bytes}", segment.file))?;
    for batches in segment.batches.chunks(BATCHES_SHOWN_TOGETHER) {
        let mut shown = table(&[
            ">position",
            ">size",
            ">first",
            ">last",
            ">records",
            "codec",
            "max timestamp",
            ">epoch",
            ">producer",
            ">sequence",
            "",
        ]);
        for b in batches {
            let producer =
                if b.producer_id < 0 { "-".to_owned() } else { format!("{}/{}", b.producer_id, b.producer_epoch) };
            let sequence = if b.producer_id < 0 { "-".to_owned() } else { b.base_sequence.to_string() };
            let marks = [(!b.intact, "DAMAGED"), (b.control, "control"), (b.transactional, "transactional")];
            let marks: Vec<_> = marks.into_iter().filter(|(is_set, _)| *is_set).map(|(_, word)| word).collect();
            shown.add_row([
                b.position.to_string(),
                b.size_bytes.to_string(),
                b.base_offset.to_string(),
                b.last_offset.to_string(),
                b.records.to_string(),
                b.compression.clone(),
                time(b.max_timestamp),
                b.leader_epoch.to_string(),
                producer,
                sequence,
                marks.join(" "),
            ]);
        }
        print_line(shown)?;
    }
    for Damage { position, reason } in &segment.damage {
        print_line(format_args!("damaged at byte {position}: {reason}"))?;
    }
    Ok(())
}

struct Walk<R> {
    input: R,
    position: u64,
    size_bytes: u64,
    damage: Vec<Damage>,
}

impl<R: Read> Walk<R> {
    /// Shows `visit` each batch with its position; what it finds wrong counts as damage.
    fn each(&mut self, mut visit: impl FnMut(u64, BatchView<'_>) -> Result<(), String>) -> io::Result<()> {
        let mut bytes = Vec::new();
        while self.position < self.size_bytes {
            bytes.clear();
            self.input.by_ref().take(HEADER_LEN as u64).read_to_end(&mut bytes)?;
            let header = match BatchHeader::parse(&bytes) {
                Ok(header) => header,
                Err(error) => {
                    self.damage.push(Damage { position: self.position, reason: error.to_string() });
                    return Ok(());
                }
            };
            // Memory follows what the file has, not what the header claims.
            let body = header.size_bytes() - HEADER_LEN;
            self.input.by_ref().take(body as u64).read_to_end(&mut bytes)?;
            let visited = match BatchView::parse(&bytes) {
                Ok(batch) => visit(self.position, batch),
                Err(error) => {
                    self.damage.push(Damage { position: self.position, reason: error.to_string() });
                    return Ok(());
                }
            };
            if let Err(reason) = visited {
                self.damage.push(Damage { position: self.position, reason });
            }
            self.position += header.size_bytes() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use model::batch::{BatchBuilder, BatchFacts, NewRecord};
    use proptest::prelude::*;

    use super::*;

    fn three_batches() -> Vec<u8> {
        let batch = |offset| {
            let mut builder = BatchBuilder::new(BatchFacts::default());
            builder.append(&NewRecord { offset, timestamp: 5, key: None, value: Some(b"value"), headers: &[] });
            builder.finish().unwrap()
        };
        [batch(0), batch(1), batch(2)].concat()
    }

    fn walk(bytes: &[u8]) -> (Vec<i64>, Vec<u64>) {
        let size_bytes = bytes.len() as u64;
        let mut walk = Walk { input: bytes, position: 0, size_bytes, damage: Vec::new() };
        let mut offsets = Vec::new();
        walk.each(|_, batch| {
            offsets.push(batch.header.base_offset);
            batch.verify_crc().map_err(|e| e.to_string())
        })
        .unwrap();
        (offsets, walk.damage.iter().map(|damage| damage.position).collect())
    }

    #[test]
    fn a_wrong_checksum_is_named_and_the_walk_goes_on() {
        let mut bytes = three_batches();
        let len = bytes.len() as u64 / 3;
        assert_eq!(walk(&bytes), (vec![0, 1, 2], vec![]));
        let second_value = bytes.len() / 3 * 2 - 2;
        bytes[second_value] ^= 1;
        assert_eq!(walk(&bytes), (vec![0, 1, 2], vec![len]));
    }

    #[test]
    fn a_cut_off_batch_is_named_by_its_position() {
        let bytes = three_batches();
        let len = bytes.len() as u64 / 3;
        assert_eq!(walk(&bytes[..bytes.len() - 1]), (vec![0, 1], vec![2 * len]));
        assert_eq!(walk(&bytes[..bytes.len() / 3 + 5]), (vec![0], vec![len]));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_walk_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), at in 0..150_usize) {
            walk(&bytes);
            let mut batches = three_batches();
            for (slot, byte) in batches.iter_mut().skip(at).zip(&bytes) {
                *slot = *byte;
            }
            walk(&batches);
        }
    }
}
