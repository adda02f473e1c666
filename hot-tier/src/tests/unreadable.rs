//! Places that the disk cannot read: what lay there is refused and can be put right, everything else is served, and a
//! restart is not kept from happening.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use model::settings::TopicSettings;

use super::fixture::{Fixture, Make, NOW, append, batch, contents, data, file, id, replicated, settings, shape};
use crate::disk::faulty::FaultyDisk;
use crate::disk::memory::MemoryDisk;
use crate::{PartitionLog, ReadError, ReadLimits, StorageError};

const FIRST_SEGMENT: &str = "00000000000000000000.log";
const PAGE: u64 = 4096;

/// The next start, after SIGKILL, on a disk that cannot read these bytes.
fn restarted(fixture: Fixture, unreadable: &[(&Path, Range<u64>)]) -> Fixture {
    let disk = fixture.disk.clone();
    drop(fixture);
    started(disk, unreadable)
}

fn started(disk: MemoryDisk, unreadable: &[(&Path, Range<u64>)]) -> Fixture {
    let (faulty, faults) = FaultyDisk::new(Arc::new(disk.clone()));
    for (path, bytes) in unreadable {
        faults.make_unreadable(path, bytes.clone());
    }
    Fixture::with(disk, Arc::new(faulty), faults).expect("the node starts")
}

/// The next start, on a disk that cannot read the first page of this file; the partition has all its records.
fn restarted_whole(fixture: Fixture, path: &Path) -> Fixture {
    let log = |fixture: &Fixture| fixture.tier.partition(id(1)).unwrap();
    let expected = contents(&log(&fixture));
    let fixture = restarted(fixture, &[(path, 0..PAGE)]);
    assert_eq!(contents(&log(&fixture)), expected);
    fixture
}

fn large_segments(settings: TopicSettings) -> TopicSettings {
    TopicSettings { segment_bytes: 1 << 20, ..settings }
}

/// Offsets that are served, one by one, and those that are refused as damaged; none is passed over.
fn served_and_refused(log: &PartitionLog) -> (Vec<i64>, Vec<i64>) {
    let limits = ReadLimits { max_bytes: 1, upper: i64::MAX, at_least_one: true };
    let is_served = |offset: &i64| match log.read(*offset, limits) {
        Ok(read) => {
            assert!(read.base_offset <= *offset && *offset < read.next_offset, "{offset} was passed over: {read:?}");
            true
        }
        Err(ReadError::Storage(StorageError::Damaged { .. })) => false,
        Err(error) => panic!("{offset}: {error}"),
    };
    (log.local_start()..log.log_end()).partition(is_served)
}

/// The offsets of batches of one record and `len` bytes each that lie on one of the pages.
fn on_pages(pages: Range<u64>, len: u64) -> Range<i64> {
    let at = |position: u64| i64::try_from(position).unwrap();
    at(pages.start * PAGE / len)..at((pages.end * PAGE).div_ceil(len))
}

#[test]
fn a_place_behind_the_checkpoint_that_cannot_be_read_is_refused_and_the_rest_is_served() {
    for value_len in [60, 5000] {
        let fixture = Fixture::new();
        let log = fixture.log_with(1, large_segments(replicated()));
        let make = Make { value_len, ..Make::default() };
        for i in 0..200 {
            log.append_leader(vec![make.batch()], 0, NOW).unwrap();
            if i == 5 {
                fixture.tier.checkpoint().unwrap();
            }
        }
        let expected = contents(&log);
        let len = make.at(0, 0).len() as u64;
        let path = file(&log, FIRST_SEGMENT);
        drop(log);
        let pages = 5000_u64.div_ceil(PAGE) * 8;
        let pages = if value_len == 60 { 2..4 } else { pages..pages + 2 };
        let fixture = restarted(fixture, &[(&path, pages.start * PAGE..pages.end * PAGE)]);
        let log = fixture.tier.partition(id(1)).unwrap();
        let refused: Vec<i64> = on_pages(pages, len).collect();
        let served: Vec<i64> = (0..200).filter(|offset| !refused.contains(offset)).collect();
        assert_eq!(served_and_refused(&log), (served, refused), "{value_len}");
        let reported = &fixture.tier.recovery_report().damage;
        assert!(reported.iter().any(|damage| damage.contains("the disk cannot read")), "{reported:?}");
        // The records of another replica are written in its place: the disk can be read again.
        let damaged = log.damaged_range(0).unwrap().unwrap();
        let from = usize::try_from(damaged.from).unwrap() * usize::try_from(len).unwrap();
        assert!(log.mend(damaged, &Bytes::copy_from_slice(&expected[from..])).unwrap());
        assert_eq!(contents(&log), expected);
    }
}

#[test]
fn a_large_append_that_cannot_be_read_is_not_taken_for_a_torn_one() {
    let fixture = Fixture::new();
    let log = fixture.log_with(1, large_segments(settings()));
    append(&log, 2);
    fixture.tier.checkpoint().unwrap();
    let large = Make { value_len: 20_000, ..Make::default() };
    log.append_leader(vec![large.batch()], 0, NOW).unwrap();
    append(&log, 3);
    fixture.flush();
    let expected = contents(&log);
    let path = file(&log, FIRST_SEGMENT);
    drop(log);
    for (page, refused) in [(0, vec![0, 1, 2]), (1, vec![2]), (3, vec![2])] {
        let fixture = started(fixture.disk.killed(), &[(&path, page * PAGE..(page + 1) * PAGE)]);
        let log = fixture.tier.partition(id(1)).unwrap();
        let served: Vec<i64> = (0..6).filter(|offset| !refused.contains(offset)).collect();
        assert_eq!(served_and_refused(&log), (served, refused), "page {page}");
        let damaged = log.damaged_range(0).unwrap().unwrap();
        let batches: Vec<_> = model::batch::Batches::new(&expected).map(|batch| batch.unwrap()).collect();
        let before = batches.iter().take_while(|batch| batch.header.next_offset() <= damaged.from);
        let from: usize = before.map(|batch| batch.header.size_bytes()).sum();
        assert!(log.mend(damaged, &Bytes::copy_from_slice(&expected[from..])).unwrap());
        assert_eq!(contents(&log), expected, "page {page}");
    }
}

#[test]
fn an_append_behind_a_place_that_cannot_be_read_begins_the_next_segment() {
    let fixture = Fixture::new();
    let log = fixture.log_with(1, large_segments(settings()));
    let len = Make::default().at(0, 0).len() as u64;
    append(&log, 50);
    fixture.tier.close().unwrap();
    let path = file(&log, FIRST_SEGMENT);
    drop(log);
    let pages = 50 * len / PAGE..50 * len / PAGE + 1;
    let fixture = restarted(fixture, &[(&path, pages.start * PAGE..pages.end * PAGE)]);
    let (log, other) = (fixture.log_with(1, large_segments(settings())), fixture.log(2));
    append(&log, 2);
    append(&other, 1);
    fixture.flush();
    fixture.tier.checkpoint().unwrap();
    assert_eq!((log.flushed_end(), other.flushed_end(), fixture.tier.failure()), (52, 1, None));
    let refused: Vec<i64> = on_pages(pages, len).filter(|offset| *offset < 50).collect();
    let served: Vec<i64> = (0..52).filter(|offset| !refused.contains(offset)).collect();
    assert_eq!(served_and_refused(&log), (served, refused));
}

#[test]
fn a_checkpoint_that_cannot_be_read_costs_nothing() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 30);
    fixture.tier.checkpoint().unwrap();
    append(&log, 30);
    fixture.flush();
    drop(log);
    restarted_whole(fixture, &data("checkpoint"));
}

#[test]
fn a_place_of_the_journal_that_cannot_be_read_costs_nothing_that_segments_have() {
    let slot = data("journal/slot-0000");
    for page in 0..4 {
        println!("page {page}");
        let bad = page * PAGE..(page + 1) * PAGE;
        let fixture = Fixture::new();
        let log = fixture.log_with(1, large_segments(settings()));
        append(&log, 100);
        fixture.flush();
        append(&log, 100);
        fixture.flush();
        let expected = contents(&log);
        drop(log);
        let fixture = restarted(fixture, &[(&slot, bad.clone())]);
        assert_eq!(contents(&fixture.log(1)), expected, "{bad:?}");
        let report = fixture.tier.recovery_report();
        assert!(!report.damage.is_empty() || !report.mended.is_empty(), "{bad:?}: {report:?}");
        append(&fixture.log(1), 1);
    }
}

#[test]
fn an_index_that_cannot_be_read_is_rebuilt() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 40);
    fixture.tier.close().unwrap();
    let path = file(&log, "00000000000000000000.index");
    drop(log);
    let fixture = restarted_whole(fixture, &path);
    assert_eq!(served_and_refused(&fixture.log(1)).1, Vec::<i64>::new());
}

#[test]
fn a_partition_that_cannot_be_opened_takes_no_other_one_out_of_service_and_comes_back_whole() {
    let fixture = Fixture::new();
    let (log, other) = (fixture.log(1), fixture.log(2));
    append(&log, 10);
    append(&other, 10);
    fixture.tier.checkpoint().unwrap();
    append(&log, 10);
    append(&other, 10);
    fixture.flush();
    let expected = contents(&log);
    let dir = log.dir().to_owned();
    drop((log, other));
    let fixture = restarted(fixture, &[(&dir, 0..1)]);
    let reported = &fixture.tier.recovery_report().damage;
    assert!(reported.iter().any(|damage| damage.contains("cannot be opened and is out of service")), "{reported:?}");
    assert!(fixture.tier.partition(id(1)).is_none());
    // It must not be taken for a partition that is new.
    let refused = fixture.tier.create(&super::fixture::topic(), id(1), Arc::new(settings())).unwrap_err();
    assert!(matches!(refused, StorageError::Unopened { .. }), "{refused}");
    let other = fixture.log(2);
    append(&other, 10);
    fixture.flush();
    assert_eq!(other.flushed_end(), 30);
    for _ in 0..2 {
        fixture.tier.checkpoint().unwrap();
    }
    drop(other);
    let fixture = fixture.killed();
    assert_eq!(fixture.tier.recovery_report().damage, Vec::<String>::new());
    assert_eq!(contents(&fixture.log(1)), expected, "also what only the journal had");
    assert_eq!(fixture.log(2).log_end(), 30);
}

#[test]
fn a_partition_that_cannot_be_opened_can_be_removed() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 10);
    fixture.tier.checkpoint().unwrap();
    append(&log, 10);
    fixture.flush();
    let dir = log.dir().to_owned();
    drop(log);
    let fixture = restarted(fixture, &[(&dir, 0..1)]);
    assert_eq!(fixture.tier.unopened().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [id(1)]);
    fixture.tier.remove(id(1)).unwrap();
    assert_eq!(fixture.tier.unopened(), []);
    fixture.tier.keep_house();
    fixture.tier.checkpoint().unwrap();
    let fixture = fixture.killed();
    assert!(fixture.tier.partition(id(1)).is_none());
    assert_eq!(fixture.tier.recovery_report().damage, Vec::<String>::new());
    assert_eq!(fixture.log(1).log_end(), 0, "a new partition of this id is empty");
}

#[test]
fn a_partition_that_cannot_be_opened_comes_back_whole_when_the_checkpoint_is_lost_with_it() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 10);
    fixture.tier.checkpoint().unwrap();
    append(&log, 10);
    fixture.flush();
    let expected = contents(&log);
    let dir = log.dir().to_owned();
    drop(log);
    let fixture = restarted(fixture, &[(&data("checkpoint"), 0..PAGE), (&dir, 0..1)]);
    assert!(fixture.tier.partition(id(1)).is_none());
    fixture.tier.checkpoint().unwrap();
    let fixture = fixture.killed();
    assert_eq!(contents(&fixture.tier.partition(id(1)).unwrap()), expected);
}

#[test]
fn a_partition_that_no_checkpoint_knew_comes_back_with_its_files_when_the_journal_was_needed() {
    let fixture = Fixture::new();
    fixture.tier.checkpoint().unwrap();
    append(&fixture.log(1), 10);
    fixture.flush();
    let (expected, dir) = (contents(&fixture.log(1)), fixture.log(1).dir().to_owned());
    let fixture = restarted(fixture, &[(&dir, 0..1)]);
    need_the_journal(&fixture);
    let fixture = fixture.killed();
    assert_eq!(contents(&fixture.tier.partition(id(1)).unwrap()), expected);
}

#[test]
fn the_journal_of_a_partition_that_cannot_be_opened_does_not_fill_up() {
    let fixture = Fixture::new();
    append(&fixture.log(1), 10);
    fixture.tier.checkpoint().unwrap();
    append(&fixture.log(1), 1);
    fixture.flush();
    let dir = fixture.log(1).dir().to_owned();
    let fixture = restarted(fixture, &[(&dir, 0..1)]);
    need_the_journal(&fixture);
    let fixture = fixture.killed();
    assert_eq!(shape(&contents(&fixture.log(1))).len(), 10, "what the checkpoint had");
    let added = fixture.log(1).append_leader(vec![batch()], 0, NOW).unwrap();
    assert_eq!(added.base_offset, 10);
}

/// Appends to another partition than the unopened one, until the journal's files were all used.
fn need_the_journal(fixture: &Fixture) {
    let other = fixture.log(2);
    for _ in 0..60 {
        for _ in 0..20 {
            other.append_leader(vec![Make { value_len: 500, ..Make::default() }.batch()], 0, NOW).unwrap();
        }
        fixture.flush();
        fixture.tier.keep_house();
    }
    assert_eq!(other.flushed_end(), 1200);
}
