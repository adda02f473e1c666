//! Reading by offset and by time, side files that lie, and the layouts that Kafka's tools read.

use model::batch::Compression;
use model::settings::TopicSettings;

use super::fixture::{Fixture, Make, NOW, append, contents, file, settings, shape};
use crate::{ReadError, ReadLimits, TimestampedOffset};

fn limits(max_bytes: usize) -> ReadLimits {
    ReadLimits { max_bytes, upper: i64::MAX, at_least_one: true }
}

#[test]
fn a_read_begins_with_the_batch_that_contains_the_offset() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    for _ in 0..40 {
        log.append_leader(vec![Make { records: 3, ..Make::default() }.batch()], 0, NOW).unwrap();
    }
    for offset in 0..120 {
        let read = log.read(offset, limits(1)).unwrap();
        assert_eq!(read.base_offset, offset / 3 * 3, "offset {offset}");
        assert_eq!(shape(&read.records), [(offset / 3 * 3, 0)]);
        assert_eq!(read.next_offset, read.base_offset + 3);
    }
    assert_eq!(log.read(120, limits(1000)).unwrap().records.len(), 0);
}

#[test]
fn a_read_stays_below_its_limits() {
    let fixture = Fixture::new();
    let log = fixture.log_with(1, TopicSettings { segment_bytes: 1 << 20, ..settings() });
    append(&log, 10);
    let size = contents(&log).len() / 10;
    assert_eq!(shape(&log.read(2, limits(size * 3 + 5)).unwrap().records).len(), 3);
    let upper = ReadLimits { upper: 4, ..limits(1 << 20) };
    assert_eq!(log.read(2, upper).unwrap().next_offset, 4);
    assert_eq!(log.read(4, upper).unwrap().records.len(), 0);
    let nothing = ReadLimits { at_least_one: false, ..limits(size - 1) };
    assert_eq!(log.read(2, nothing).unwrap().records.len(), 0);
}

#[test]
fn offsets_outside_of_the_local_log_are_out_of_range() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 5);
    log.advance_log_start(2).unwrap();
    for offset in [-1, 1, 6] {
        let refused = log.read(offset, limits(100)).unwrap_err();
        assert!(matches!(refused, ReadError::OutOfRange { start: 2, end: 5, .. }), "{refused}");
    }
}

#[test]
fn the_first_record_at_or_after_a_time_is_found_exactly() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    // Records at NOW + 0, 1, 2 | 10, 11, 12 | … and one late straggler.
    for i in 0..30 {
        let make = Make { records: 3, timestamp: NOW + i * 10, ..Make::default() };
        log.append_leader(vec![make.batch()], 7, NOW).unwrap();
    }
    log.append_leader(vec![Make { timestamp: NOW + 5, ..Make::default() }.batch()], 7, NOW).unwrap();
    let find = |timestamp| log.offset_for_timestamp(timestamp).unwrap().map(|found| (found.timestamp, found.offset));
    assert_eq!(find(0), Some((NOW, 0)));
    assert_eq!(find(NOW + 1), Some((NOW + 1, 1)));
    assert_eq!(find(NOW + 3), Some((NOW + 10, 3)));
    assert_eq!(find(NOW + 202), Some((NOW + 202, 62)));
    assert_eq!(find(NOW + 292), Some((NOW + 292, 89)));
    assert_eq!(find(NOW + 293), None);
    let last = TimestampedOffset { timestamp: NOW + 292, offset: 89, leader_epoch: 7 };
    assert_eq!(log.max_timestamp(log.log_end()).unwrap(), Some(last));
    log.advance_log_start(4).unwrap();
    assert_eq!(find(NOW), Some((NOW + 11, 4)), "below the log start there is nothing");
}

#[test]
fn an_empty_log_has_no_times() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    assert_eq!(log.offset_for_timestamp(0).unwrap(), None);
    assert_eq!(log.max_timestamp(0).unwrap(), None);
}

#[test]
fn the_largest_time_below_an_offset_is_that_of_a_record_below_it() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    let times = [NOW, NOW + 50, NOW + 20, NOW + 50, NOW + 90];
    for (index, timestamp) in times.into_iter().enumerate() {
        log.append_leader(vec![Make { timestamp, ..Make::default() }.batch()], 7, NOW).unwrap();
        if index == 1 {
            log.roll().unwrap();
        }
    }
    let largest = |end| log.max_timestamp(end).unwrap().map(|found| (found.timestamp - NOW, found.offset));
    assert_eq!(
        [0, 1, 2, 3, 4, 5].map(largest),
        [None, Some((0, 0)), Some((50, 1)), Some((50, 1)), Some((50, 1)), Some((90, 4))]
    );
    log.advance_log_start(2).unwrap();
    assert_eq!([3, 4].map(largest), [Some((20, 2)), Some((50, 3))]);
}

#[test]
fn records_are_found_by_time_in_compressed_batches() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    let facts = model::batch::BatchFacts { compression: Compression::Zstd, ..model::batch::BatchFacts::default() };
    let mut builder = model::batch::BatchBuilder::new(facts);
    for offset in 0..10 {
        let timestamp = NOW + offset;
        builder.append(&model::batch::NewRecord { offset, timestamp, key: None, value: Some(b"v"), headers: &[] });
    }
    let compressed = model::batch::ValidatedBatch::from_own(builder.finish().unwrap()).unwrap();
    log.append_leader(vec![compressed], 0, NOW).unwrap();
    assert_eq!(log.offset_for_timestamp(NOW + 7).unwrap().unwrap().offset, 7);
}

#[test]
fn the_indexes_have_kafkas_layout() {
    let fixture = Fixture::new();
    let log = fixture.log_with(1, TopicSettings { segment_bytes: 1 << 20, index_interval_bytes: 100, ..settings() });
    let size = u32::try_from(Make::default().at(0, 0).len()).unwrap();
    for i in 0..5 {
        log.append_leader(vec![Make { timestamp: 1000 + i, ..Make::default() }.batch()], 0, NOW).unwrap();
    }
    log.roll().unwrap();
    // A batch has less than 100 bytes, two have more: entries at the third and the fifth batch.
    let mut offsets = Vec::new();
    for (offset, batch) in [(2_u32, 2), (4, 4)] {
        offsets.extend_from_slice(&offset.to_be_bytes());
        offsets.extend_from_slice(&(batch * size).to_be_bytes());
    }
    assert_eq!(fixture.disk.bytes(&file(&log, "00000000000000000000.index")), offsets);
    let mut times = Vec::new();
    for (timestamp, offset) in [(1002_i64, 2_u32), (1004, 4)] {
        times.extend_from_slice(&timestamp.to_be_bytes());
        times.extend_from_slice(&offset.to_be_bytes());
    }
    assert_eq!(fixture.disk.bytes(&file(&log, "00000000000000000000.timeindex")), times);
}

#[test]
fn damaged_and_missing_indexes_are_built_anew() {
    let (fixture, expected) = {
        let fixture = Fixture::new();
        let log = fixture.log(1);
        append(&log, 60);
        fixture.tier.close().unwrap();
        let expected = contents(&log);
        (fixture, expected)
    };
    let disk = fixture.disk.clone();
    drop(fixture);
    for position in 0..200 {
        let fixture = Fixture::on(disk.clone()).unwrap();
        let log = fixture.log(1);
        for name in ["00000000000000000000.index", "00000000000000000000.timeindex"] {
            let path = file(&log, name);
            let len = disk.bytes(&path).len();
            disk.damage(&path, position % len, 1 << (position % 8));
        }
        if position % 50 == 0 {
            let _ = crate::disk::Disk::remove_file(&disk, &file(&log, "00000000000000000011.index"));
        }
        for offset in 0..60 {
            assert_eq!(log.read(offset, limits(1)).unwrap().base_offset, offset, "byte {position}");
        }
        assert_eq!(contents(&log), expected);
        assert_eq!(log.offset_for_timestamp(NOW).unwrap().unwrap().offset, 0);
        fixture.tier.close().unwrap();
    }
}

#[test]
fn closed_segments_are_handed_to_the_archive_once_their_end_is_durable() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 30);
    assert_eq!(log.sealed_segments(0, i64::MAX).unwrap().len(), 0, "nothing is flushed yet");
    fixture.flush();
    let sealed = log.sealed_segments(0, i64::MAX).unwrap();
    assert_eq!(sealed.len(), log.segments().len() - 1);
    let mut next = 0;
    for segment in &sealed {
        assert_eq!(segment.base_offset, next);
        next = segment.next_offset;
        let mut bytes = vec![0; usize::try_from(segment.size_bytes).unwrap()];
        std::os::unix::fs::FileExt::read_exact_at(&*segment.file, &mut bytes, 0).unwrap();
        let offsets: Vec<_> = shape(&bytes).into_iter().map(|(offset, _)| offset).collect();
        assert_eq!(offsets, (segment.base_offset..segment.next_offset).collect::<Vec<_>>());
        assert_eq!(segment.leader_epoch, 0);
        assert_eq!(segment.epochs.len(), 1);
        assert_eq!(segment.max_timestamp, NOW);
    }
    assert_eq!(next, log.active_segment_base());
    let second = sealed[1].base_offset;
    assert_eq!(log.sealed_segments(second, sealed[1].next_offset).unwrap().len(), 1);
    assert!(log.sealed_segments(second + 1, i64::MAX).unwrap_err().to_string().contains("inside segment"));
}

#[test]
fn readers_never_block_or_see_half_an_append() {
    let folder = tempfile::tempdir().unwrap();
    let config = crate::Config {
        data_dir: folder.path().to_owned(),
        journal_bytes: 1 << 20,
        flush_bypass_bytes: 8 << 10,
        ..crate::Config::default()
    };
    let tier = crate::HotTier::open(config, NOW, std::sync::Arc::new(|_, _| {})).unwrap();
    let log = tier.create(&super::fixture::topic(), super::fixture::id(1), std::sync::Arc::new(settings())).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut from = 0;
                while from < 2000 {
                    let read = log.read(from, limits(5000)).unwrap();
                    for (offset, _) in shape(&read.records) {
                        assert_eq!(offset, from);
                        from += 1;
                    }
                }
            });
        }
        for i in 0..2000 {
            let value_len = if i % 100 == 0 { 10_000 } else { 50 };
            log.append_leader(vec![Make { value_len, ..Make::default() }.batch()], 0, NOW).unwrap();
        }
    });
    while log.flushed_end() < 2000 {
        std::thread::yield_now();
    }
    tier.close().unwrap();
}

#[test]
fn a_full_journal_makes_callers_wait_until_a_checkpoint_frees_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = crate::Config {
        data_dir: folder.path().to_owned(),
        journal_bytes: crate::Config::MIN_JOURNAL_BYTES,
        flush_bypass_bytes: 4 << 10,
        ..crate::Config::default()
    };
    let tier = crate::HotTier::open(config, NOW, std::sync::Arc::new(|_, _| {})).unwrap();
    let log = tier.create(&super::fixture::topic(), super::fixture::id(1), std::sync::Arc::new(settings())).unwrap();
    for _ in 0..1000 {
        tier.wait_for_journal_space().unwrap();
        log.append_leader(vec![Make { value_len: 1000, ..Make::default() }.batch()], 0, NOW).unwrap();
    }
    let slots = std::fs::read_dir(folder.path().join("journal")).unwrap().count();
    assert!(slots <= 10, "{slots} files");
    tier.close().unwrap();
    assert_eq!(log.flushed_end(), 1000);
}
