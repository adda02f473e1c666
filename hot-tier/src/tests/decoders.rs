//! Random changes to the tier's small files, with checksums that fit: each is refused or understood, none ends the process.

use std::path::PathBuf;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::fixture::{Fixture, Make, NOW, data, file};
use crate::fuzzing;

const ROUNDS: usize = 20_000;

/// The files of a small log: checkpoint, history, snapshot of producers, and the journal's first entries.
fn files() -> [Vec<u8>; 4] {
    /// Bytes of a journal file before its first entry.
    const FIRST_ENTRY: usize = 4096;
    let fixture = Fixture::new();
    let log = fixture.log(1);
    for epoch in 0..3 {
        for producer in 0..3 {
            let make = Make { producer: Some((producer, 1, epoch)), ..Make::default() };
            log.append_leader(vec![make.batch()], epoch, NOW).unwrap();
        }
        log.roll().unwrap();
    }
    fixture.tier.checkpoint().unwrap();
    let journal = fixture.disk.bytes(&data("journal/slot-0000"));
    let read = |path: PathBuf| fixture.disk.bytes(&path);
    [
        read(data("checkpoint")),
        read(file(&log, "history")),
        read(file(&log, "00000000000000000003.snapshot")),
        journal[FIRST_ENTRY..FIRST_ENTRY + 512].to_vec(),
    ]
}

/// A few changes of the kinds that break decoders: bits, extreme numbers, bytes too few, bytes twice.
fn changed(rng: &mut StdRng, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.random_range(1..4) {
        if bytes.is_empty() {
            break;
        }
        let at = rng.random_range(0..bytes.len());
        let end = bytes.len().min(at + rng.random_range(1..9));
        match rng.random_range(0..6) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at..end].fill(0),
            2 => bytes[at..end].fill(0xff),
            3 => bytes[at] = 0x7f,
            4 => bytes.truncate(at),
            _ => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
    bytes
}

#[test]
fn changed_files_are_refused_or_understood() {
    let decoders = [fuzzing::checkpoint, fuzzing::history, fuzzing::producer_snapshot, fuzzing::journal_entry];
    let mut rng = StdRng::seed_from_u64(3);
    for (decode, whole) in decoders.into_iter().zip(files()) {
        assert!(decode(&whole));
        let understood = (0..ROUNDS).filter(|_| decode(&changed(&mut rng, &whole))).count();
        assert!((ROUNDS / 100..ROUNDS).contains(&understood), "{understood} of {ROUNDS} changes were understood");
    }
}
