//! Opening and closing, creating and removing, truncating, evicting: what holds afterwards and after a restart.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use model::settings::TopicSettings;

use super::fixture::{Fixture, Make, NOW, append, batch, config, contents, id, replicated, settings, shape, topic};
use crate::disk::Disk;
use crate::disk::memory::MemoryDisk;
use crate::{AgeOf, Config, HotTier, OpenError, ReadLimits, RetentionLimits, StorageError};

fn offsets(bytes: &[u8]) -> Vec<i64> {
    shape(bytes).into_iter().map(|(offset, _)| offset).collect()
}

#[test]
fn a_second_process_is_refused() {
    let fixture = Fixture::new();
    let refused = Fixture::on(fixture.disk.clone()).err().unwrap();
    assert!(matches!(refused, OpenError::Locked(_)));
    assert!(refused.to_string().contains("/data is in use by another process"), "{refused}");
}

#[test]
fn impossible_settings_are_refused_by_name() {
    let refused = Config { journal_bytes: 10, ..config() }.check().unwrap_err();
    assert!(refused.to_string().contains("journal_bytes = 10"), "{refused}");
}

#[test]
fn a_clean_shutdown_leaves_nothing_to_recover() {
    let fixture = Fixture::new();
    let (durable, fast) = (fixture.log(1), fixture.log_with(2, replicated()));
    append(&durable, 25);
    append(&fast, 25);
    let expected = contents(&durable);
    fixture.tier.close().unwrap();
    assert!(durable.append_leader(vec![batch()], 0, NOW).is_err(), "after closing");
    drop((durable, fast));
    let fixture = fixture.killed();
    let report = fixture.tier.recovery_report();
    assert!(report.clean, "{report:?}");
    assert_eq!(report.partitions, 2);
    assert_eq!(contents(&fixture.log(1)), expected);
    assert_eq!(contents(&fixture.log_with(2, replicated())), expected);
}

#[test]
fn a_kill_loses_nothing_that_was_appended() {
    let fixture = Fixture::new();
    let (durable, fast) = (fixture.log(1), fixture.log_with(2, replicated()));
    append(&durable, 10);
    append(&fast, 10);
    fixture.tier.checkpoint().unwrap();
    append(&durable, 25);
    append(&fast, 25);
    durable.append_leader(vec![Make { value_len: 9000, ..Make::default() }.batch()], 3, NOW).unwrap();
    let (expected, segments, fast_expected) = (contents(&durable), durable.segments(), contents(&fast));
    drop((durable, fast));
    let fixture = fixture.killed();
    assert!(!fixture.tier.recovery_report().clean);
    assert_eq!(fixture.tier.recovery_report().damage, Vec::<String>::new());
    let durable = fixture.tier.partition(id(1)).unwrap();
    assert_eq!(contents(&durable), expected);
    assert_eq!(durable.segments(), segments);
    assert_eq!(durable.flushed_end(), 36, "what is served after recovery is durable");
    assert_eq!(durable.latest_epoch(), 3);
    assert_eq!(contents(&fixture.tier.partition(id(2)).unwrap()), fast_expected);
}

#[test]
fn truncation_cuts_whole_batches_and_survives_a_kill() {
    for mode in [settings(), replicated()] {
        let fixture = Fixture::new();
        let log = fixture.log_with(1, mode.clone());
        for i in 0..30 {
            let make = Make { records: 2, producer: Some((9, 0, i * 2)), ..Make::default() };
            log.append_leader(vec![make.batch()], i / 10, NOW).unwrap();
        }
        assert_eq!(log.truncate_to(60).unwrap(), 60);
        assert_eq!(log.truncate_to(43).unwrap(), 42, "the batch of 42 and 43 goes as a whole");
        assert_eq!(log.log_end(), 42);
        assert_eq!(log.latest_epoch(), 2);
        assert_eq!(log.truncate_to(40).unwrap(), 40);
        assert_eq!(log.latest_epoch(), 1);
        assert_eq!(log.producers()[0].last_sequence, 39);
        let cut = contents(&log);
        drop(log);
        let fixture = fixture.killed();
        let log = fixture.log_with(1, mode.clone());
        assert_eq!(contents(&log), cut);
        log.append_leader(vec![Make { producer: Some((9, 0, 40)), ..Make::default() }.batch()], 4, NOW).unwrap();
        assert_eq!(offsets(&contents(&log)).last(), Some(&40));
        drop(log);
        let log = fixture.killed().log_with(1, mode);
        assert_eq!(log.log_end(), 41);
    }
}

#[test]
fn a_truncation_below_the_checkpoint_holds() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 30);
    fixture.tier.checkpoint().unwrap();
    log.truncate_to(5).unwrap();
    log.append_leader(vec![batch()], 9, NOW).unwrap();
    let expected = contents(&log);
    drop(log);
    let log = fixture.killed().log(1);
    assert_eq!(contents(&log), expected);
    assert_eq!(log.end_offset_for_epoch(0), (0, 5));
}

#[test]
fn a_reset_log_begins_anew() {
    for mode in [settings(), replicated()] {
        let fixture = Fixture::new();
        let log = fixture.log_with(1, mode.clone());
        append(&log, 30);
        log.reset_to(100).unwrap();
        assert_eq!((log.log_start(), log.local_start(), log.log_end(), log.flushed_end()), (100, 100, 100, 100));
        append(&log, 2);
        drop(log);
        let log = fixture.killed().log_with(1, mode);
        assert_eq!((log.log_start(), log.log_end()), (100, 102));
        assert_eq!(offsets(&contents(&log)), [100, 101]);
    }
}

#[test]
fn the_flush_mode_of_a_topic_can_change_both_ways() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    for round in 0..6 {
        append(&log, 7);
        let mode = if round % 2 == 0 { replicated() } else { settings() };
        log.update_settings(Arc::new(mode)).unwrap();
        append(&log, 7);
    }
    let expected = contents(&log);
    drop(log);
    let log = fixture.killed().tier.partition(id(1)).unwrap();
    assert_eq!(contents(&log), expected);
}

#[test]
fn evicted_segments_are_gone_and_the_log_start_stays() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 40);
    let bases: Vec<_> = log.segments().iter().map(|segment| segment.base_offset).collect();
    assert_eq!(log.evict_below(bases[2]).unwrap().segments, 0, "recovery still needs them");
    fixture.tier.checkpoint().unwrap();
    let report = log.evict_below(bases[2] + 1).unwrap();
    assert_eq!((report.segments, report.local_start), (2, bases[2]));
    assert_eq!((log.log_start(), log.local_start()), (0, bases[2]));
    let expected = contents(&log);
    fixture.tier.checkpoint().unwrap();
    drop(log);
    let log = fixture.killed().log(1);
    assert_eq!((log.log_start(), log.local_start()), (0, bases[2]));
    assert_eq!(contents(&log), expected);
}

#[test]
fn a_reader_goes_on_with_an_evicted_segment() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 40);
    fixture.flush();
    let sealed = log.sealed_segments(0, i64::MAX).unwrap();
    fixture.tier.checkpoint().unwrap();
    log.evict_below(i64::MAX).unwrap();
    fixture.tier.core().trash.empty(&fixture.disk);
    let mut bytes = vec![0; usize::try_from(sealed[0].size_bytes).unwrap()];
    std::os::unix::fs::FileExt::read_exact_at(&*sealed[0].file, &mut bytes, 0).unwrap();
    assert_eq!(offsets(&bytes)[0], 0);
}

#[test]
fn the_log_start_moves_durably_and_only_up() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 40);
    log.advance_log_start(15).unwrap();
    log.advance_log_start(3).unwrap();
    assert_eq!((log.log_start(), log.local_start()), (15, 15));
    assert!(log.advance_log_start(41).is_err());
    drop(log);
    let fixture = fixture.killed();
    let log = fixture.log(1);
    assert_eq!((log.log_start(), log.local_start(), log.log_end()), (15, 15, 40));
    log.advance_log_start(40).unwrap();
    fixture.tier.checkpoint().unwrap();
    log.roll_if_due(NOW).unwrap();
    assert_eq!((log.log_start(), log.log_end(), log.size_bytes()), (40, 40, 0));
    drop(log);
    let log = fixture.killed().log(1);
    assert_eq!((log.log_start(), log.log_end()), (40, 40));
}

#[test]
fn retention_names_the_offset_up_to_which_segments_may_go() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 40);
    let limits = RetentionLimits { max_bytes: Some(1500), ..RetentionLimits::default() };
    let end = log.retention_end(limits, NOW);
    let left: u64 = log.segments().iter().filter(|s| s.base_offset >= end).map(|s| s.size_bytes).sum();
    assert!((1500..1500 + 1024).contains(&left), "{left}");
    assert_eq!(log.retention_end(RetentionLimits::default(), NOW), 0);
}

#[test]
fn retention_closes_the_open_segment_that_it_wants_gone() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 3);
    let limits = |max_age_ms| RetentionLimits { max_age_ms: Some(max_age_ms), ..RetentionLimits::default() };
    assert!(!log.roll_if_expired(limits(1000), NOW + 1000).unwrap());
    assert!(!log.roll_if_expired(RetentionLimits::default(), i64::MAX).unwrap());
    assert!(log.roll_if_expired(limits(1000), i64::MAX).unwrap());
    assert_eq!((log.active_segment_base(), log.retention_end(limits(1000), i64::MAX)), (3, 3));
    assert!(!log.roll_if_expired(limits(1000), i64::MAX).unwrap(), "an empty segment stays");
}

#[test]
fn local_retention_leaves_the_segment_open_that_an_import_of_old_records_is_written_to() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    let imported_at = NOW + 86_400_000;
    log.append_leader(vec![batch()], 0, imported_at).unwrap();
    let limits = |age_of| RetentionLimits { max_age_ms: Some(1000), age_of, ..RetentionLimits::default() };
    assert!(!log.roll_if_expired(limits(AgeOf::Copy), imported_at + 1000).unwrap());
    assert!(log.roll_if_expired(limits(AgeOf::Copy), imported_at + 1001).unwrap(), "nothing was written for longer");
    assert_eq!(log.retention_end(limits(AgeOf::Copy), imported_at), 1, "once closed, old records leave at once");
    log.append_leader(vec![batch()], 0, imported_at).unwrap();
    assert!(log.roll_if_expired(limits(AgeOf::Records), imported_at).unwrap(), "they are too old for total retention");
}

#[test]
fn lowering_the_size_of_segments_reaches_the_open_one_of_an_idle_partition() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 3);
    assert!(!log.roll_if_due(NOW).unwrap());
    log.update_settings(Arc::new(TopicSettings { segment_bytes: log.size_bytes() - 1, ..settings() })).unwrap();
    assert!(log.roll_if_due(NOW).unwrap());
}

#[test]
fn a_removed_partition_stays_removed_and_can_be_made_again() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 5);
    fixture.tier.remove(id(1)).unwrap();
    fixture.tier.remove(id(1)).unwrap();
    assert!(matches!(
        log.read(0, ReadLimits { max_bytes: 1, upper: 5, at_least_one: true }),
        Err(crate::ReadError::Storage(StorageError::Removed(_)))
    ));
    assert!(log.append_leader(vec![batch()], 0, NOW).is_err());
    drop(log);
    let fixture = fixture.killed();
    assert!(fixture.tier.partition(id(1)).is_none());
    let again = fixture.log(2);
    append(&again, 1);
    fixture.tier.core().trash.empty(&fixture.disk);
    assert_eq!(fixture.disk.list(Path::new("/data/topics")).unwrap().len(), 1);
}

#[test]
fn creating_twice_is_creating_once() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 3);
    assert!(Arc::ptr_eq(&log, &fixture.log(1)));
    assert_eq!(fixture.tier.partitions().len(), 1);
}

#[test]
fn a_thousand_partitions_open_quickly_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { data_dir: folder.path().to_owned(), journal_bytes: 32 << 20, ..Config::default() };
    {
        let tier = HotTier::open(config.clone(), NOW, Arc::new(|_, _| {})).unwrap();
        for number in 0..1000 {
            let log = tier.create(&topic(), id(number), Arc::new(settings())).unwrap();
            for _ in 0..10 {
                append(&log, 1);
                log.roll().unwrap();
            }
            append(&log, 1);
        }
        // Dropped without closing: as after SIGKILL.
    }
    let start = Instant::now();
    let tier = HotTier::open(config, NOW, Arc::new(|_, _| {})).unwrap();
    let took = start.elapsed();
    assert_eq!(tier.partitions().len(), 1000);
    assert!(tier.partitions().iter().all(|log| log.log_end() == 11 && log.segments().len() == 11));
    assert_eq!(tier.recovery_report().damage, Vec::<String>::new());
    println!("opened 1000 partitions of 11 segments in {took:?}");
    assert!(took.as_secs_f64() < 5.0, "{took:?}");
}

#[test]
fn a_half_made_folder_goes_and_foreign_ones_stay() {
    let fixture = Fixture::new();
    append(&fixture.log(1), 1);
    fixture.tier.close().unwrap();
    let disk: MemoryDisk = fixture.disk.clone();
    let half = Path::new("/data/topics/orders-7.ASNFZ4mrze8BI0VniavN7w");
    disk.create_dir_all(half).unwrap();
    disk.create_dir_all(Path::new("/data/topics/lost+found")).unwrap();
    drop(fixture);
    let fixture = Fixture::on(disk.clone()).unwrap();
    fixture.tier.core().trash.empty(&disk);
    let names: Vec<_> = disk.list(Path::new("/data/topics")).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.contains(&"lost+found".to_owned()));
}

#[test]
fn an_eviction_that_waits_for_a_checkpoint_can_go_on_after_it() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 40);
    fixture.flush();
    let end = log.active_segment_base();
    assert!(!log.can_evict_more());
    assert_eq!(log.evict_below(end).unwrap().segments, 0);
    assert!(!log.can_evict_more(), "there was no checkpoint since");
    fixture.tier.checkpoint().unwrap();
    assert!(log.can_evict_more());
    assert_eq!(log.evict_below(end).unwrap().local_start, end);
    assert!(!log.can_evict_more());
}
