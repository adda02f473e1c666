//! Files that are gone, or were cut off: what is left is served, what is lost is refused, nothing is passed over or deleted.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::fixture::{Fixture, Make, append, contents, data, file, id};
use crate::disk::{Disk, Open};
use crate::{HotTier, PartitionLog, ReadError, ReadLimits, RetentionLimits, StorageError};

/// Takes the checkpoint and the journal away, as far as they are there.
fn lose_checkpoint_and_journal(fixture: &Fixture) {
    fixture.disk.remove_file(&data("checkpoint")).unwrap();
    for entry in fixture.disk.list(&data("journal")).unwrap() {
        fixture.disk.remove_file(&data("journal").join(entry.name)).unwrap();
    }
}

fn damage(tier: &HotTier) -> String {
    tier.recovery_report().damage.join("\n")
}

/// Forty records in closed segments, the first three of which the archive has.
fn evicted(fixture: &Fixture) -> Arc<PartitionLog> {
    let log = fixture.log(1);
    append(&log, 40);
    fixture.tier.checkpoint().unwrap();
    let offset = log.segments()[3].base_offset;
    assert_eq!(log.evict_below(offset).unwrap().segments, 3);
    fixture.tier.close().unwrap();
    log
}

#[test]
fn a_log_start_that_is_lost_is_not_the_first_local_offset() {
    for lost in ["missing", "damaged", "cut off"] {
        let fixture = Fixture::new();
        let log = evicted(&fixture);
        let (local_start, history) = (log.local_start(), file(&log, "history"));
        assert!(local_start > 0);
        drop(log);
        lose_checkpoint_and_journal(&fixture);
        match lost {
            "missing" => fixture.disk.remove_file(&history).unwrap(),
            "damaged" => fixture.disk.damage(&history, 14, 0x04),
            _ => fixture.disk.open(&history, Open::Existing).unwrap().set_len(0).unwrap(),
        }
        let fixture = fixture.killed();
        assert!(damage(&fixture.tier).contains("the log start is lost"), "{lost}: {}", damage(&fixture.tier));
        let log = fixture.tier.partition(id(1)).unwrap();
        assert_eq!((log.log_start(), log.local_start(), log.log_end()), (0, local_start, 40), "{lost}");
        let end = log.retention_end(RetentionLimits::default(), super::fixture::NOW);
        assert_eq!(end, 0, "retention moves a log start by what it drops only");
    }
}

fn limits() -> ReadLimits {
    ReadLimits { max_bytes: 1, upper: i64::MAX, at_least_one: true }
}

/// What is not served from the local start on. Nothing is passed over.
fn refused(log: &PartitionLog) -> BTreeSet<i64> {
    let mut refused = BTreeSet::new();
    for offset in log.local_start()..log.log_end() {
        match log.read(offset, limits()) {
            Ok(read) => assert_eq!(read.base_offset, offset, "a record was passed over"),
            Err(ReadError::Storage(StorageError::Damaged { .. })) => drop(refused.insert(offset)),
            Err(e) => panic!("at {offset}: {e}"),
        }
    }
    refused
}

/// As many records in closed segments and an open one.
const END: i64 = 70;

/// A log of [`END`] records, all of them durable, its segments, and what they are.
fn full() -> (Fixture, Vec<Range<i64>>, Vec<u8>) {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, usize::try_from(END).unwrap());
    fixture.tier.close().unwrap();
    let segments = log.segments().iter().map(|segment| segment.base_offset..segment.next_offset).collect();
    let contents = contents(&log);
    drop(log);
    (fixture, segments, contents)
}

fn segment_file(fixture: &Fixture, base: i64) -> PathBuf {
    file(&fixture.log(1), &format!("{base:020}.log"))
}

fn path_of(fixture: &Fixture, base: i64) -> PathBuf {
    let topics = data("topics");
    let folder = fixture.disk.list(&topics).unwrap().remove(0).name;
    topics.join(folder).join(format!("{base:020}.log"))
}

/// Restores everything from `contents`, of which a replica answers so many bytes at a time.
fn mend_all(log: &PartitionLog, contents: &[u8], piece: usize) -> usize {
    let batch_len = Make::default().at(0, 0).len();
    let mut pieces = 0;
    while let Some(lost) = log.lost(0) {
        let damaged = log.damaged_range(lost.start).unwrap().unwrap();
        assert!(damaged.is_cut_off);
        let at = usize::try_from(damaged.from).unwrap() * batch_len;
        let wrong = Make::default().at(damaged.from + 1, 0);
        assert!(!log.mend(damaged, &wrong).unwrap(), "a gap is not taken");
        let sent = Bytes::copy_from_slice(&contents[at..contents.len().min(at + piece)]);
        assert!(log.mend(damaged, &sent).unwrap());
        pieces += 1;
    }
    pieces
}

#[test]
fn a_missing_segment_is_refused_until_it_is_restored_and_costs_no_other_one() {
    for has_checkpoint in [true, false] {
        for piece in [1 << 20, 200] {
            let (fixture, segments, expected) = full();
            let count = segments.len();
            assert!(count > 5, "{segments:?}");
            let lost = [segments[2].clone(), segments[3].clone()];
            for range in &lost {
                fixture.disk.remove_file(&path_of(&fixture, range.start)).unwrap();
            }
            if !has_checkpoint {
                lose_checkpoint_and_journal(&fixture);
            }
            let mut fixture = fixture.killed();
            let gone: BTreeSet<i64> = lost.iter().flat_map(|range| range.clone()).collect();
            for _ in 0..2 {
                assert!(damage(&fixture.tier).contains("is missing"), "{}", damage(&fixture.tier));
                let log = fixture.log(1);
                assert_eq!((log.log_start(), log.local_start(), log.log_end()), (0, 0, END));
                assert_eq!(refused(&log), gone, "checkpoint: {has_checkpoint}");
                assert_eq!(log.lost(0).unwrap().start, segments[2].start);
                drop(log);
                fixture = fixture.killed();
            }
            let log = fixture.log(1);
            let pieces = mend_all(&log, &expected, piece);
            assert!(piece > 200 || pieces > 4, "{pieces} pieces");
            assert_eq!(contents(&log), expected);
            assert_eq!(log.sealed_segments(0, i64::MAX).unwrap().last().unwrap().next_offset, segments[count - 2].end);
            let disk = fixture.disk.power_cut(&mut StdRng::seed_from_u64(1));
            drop(log);
            let fixture = Fixture::on(disk).unwrap();
            let log = fixture.log(1);
            assert_eq!(contents(&log), expected);
            assert_eq!(log.lost(0), None);
        }
    }
}

#[test]
fn a_segment_that_was_cut_off_is_refused_from_there_on() {
    let batch_len = Make::default().at(0, 0).len();
    for has_checkpoint in [true, false] {
        // At the end of a batch, inside of one, and before the first.
        for len in [2 * batch_len, 2 * batch_len + 30, 2 * batch_len + 80, 0] {
            let (fixture, segments, expected) = full();
            let file = fixture.disk.open(&path_of(&fixture, segments[2].start), Open::Existing).unwrap();
            file.set_len(len as u64).unwrap();
            if !has_checkpoint {
                lose_checkpoint_and_journal(&fixture);
            }
            let fixture = fixture.killed();
            let log = fixture.log(1);
            let kept = i64::try_from(len / batch_len).unwrap();
            assert_eq!(refused(&log), (segments[2].start + kept..segments[2].end).collect(), "{len} {has_checkpoint}");
            assert_eq!(log.log_end(), END);
            if !has_checkpoint {
                mend_all(&log, &expected, 1 << 20);
                assert_eq!(contents(&log), expected);
            }
        }
    }
}

#[test]
fn a_file_that_comes_back_is_served() {
    let (fixture, segments, expected) = full();
    let path = path_of(&fixture, segments[2].start);
    let aside = path.with_extension("aside");
    fixture.disk.rename(&path, &aside).unwrap();
    let fixture = fixture.killed();
    assert!(!refused(&fixture.log(1)).is_empty());
    fixture.tier.close().unwrap();
    fixture.disk.rename(&aside, &path).unwrap();
    let fixture = fixture.killed();
    assert_eq!(contents(&fixture.log(1)), expected);
}

#[test]
fn a_lost_open_segment_is_refused_and_its_offsets_are_not_given_out_again() {
    for is_journaled in [false, true] {
        let fixture = Fixture::new();
        let log = fixture.log(1);
        append(&log, 40);
        fixture.tier.checkpoint().unwrap();
        let open = log.active_segment_base();
        if is_journaled {
            append(&log, 2);
            fixture.flush();
        }
        let end = log.log_end();
        let path = segment_file(&fixture, open);
        drop(log);
        fixture.disk.remove_file(&path).unwrap();
        let mut fixture = fixture.killed();
        append(&fixture.log(1), 1);
        for _ in 0..2 {
            let log = fixture.log(1);
            assert_eq!(log.log_end(), end + 1);
            assert_eq!(refused(&log), (open..40).collect(), "what the journal has is served");
            drop(log);
            fixture = fixture.killed();
        }
    }
}

#[test]
fn missing_files_at_the_head_move_no_log_start() {
    let (fixture, segments, _) = full();
    fixture.disk.remove_file(&path_of(&fixture, 0)).unwrap();
    let fixture = fixture.killed();
    let log = fixture.log(1);
    assert_eq!((log.log_start(), log.local_start(), log.log_end()), (0, segments[1].start, END));
    assert!(refused(&log).is_empty());
    assert!(log.sealed_segments(0, i64::MAX).is_err(), "the archive must not begin behind what is missing");
}
