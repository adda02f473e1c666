//! Disks that lose or change what they promised to keep: what is left is served, what is lost is said.

use std::path::Path;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::fixture::{Fixture, Make, NOW, append, batch, contents, data, file, id, replicated, settings, shape};
use crate::disk::Disk;
use crate::{PartitionLog, ReadError, ReadLimits, StorageError};

/// Bytes of a journal file before its first entry.
const FIRST_ENTRY: usize = 4096;

fn everything(log: &PartitionLog) -> (Vec<u8>, Vec<crate::ActiveProducer>, i64, Vec<model::segment::EpochStart>) {
    (contents(log), log.producers(), log.log_start(), log.epochs())
}

/// Three epochs, two producers, a moved log start, large and small batches, a checkpoint in the middle.
fn busy(fixture: &Fixture) -> Arc<PartitionLog> {
    let log = fixture.log(1);
    for i in 0..40 {
        let value_len = if i % 9 == 0 { 5000 } else { 60 };
        let make = Make { value_len, producer: Some((7 + i64::from(i % 2), 0, i / 2)), ..Make::default() };
        log.append_leader(vec![make.batch()], i / 15, NOW).unwrap();
        if i == 20 {
            log.advance_log_start(3).unwrap();
            fixture.tier.checkpoint().unwrap();
        }
    }
    fixture.flush();
    log
}

#[test]
fn without_its_checkpoint_the_log_is_read_from_its_files() {
    for damage in ["missing", "damaged"] {
        let fixture = Fixture::new();
        let log = busy(&fixture);
        let expected = everything(&log);
        drop(log);
        if damage == "missing" {
            fixture.disk.remove_file(&data("checkpoint")).unwrap();
        } else {
            fixture.disk.damage(&data("checkpoint"), 30, 0x10);
        }
        let fixture = fixture.killed();
        assert_eq!(fixture.tier.recovery_report().damage.len(), usize::from(damage == "damaged"));
        let log = fixture.tier.partition(id(1)).unwrap();
        assert_eq!(everything(&log), expected, "{damage}");
        append(&log, 0);
        log.append_leader(vec![batch()], 9, NOW).unwrap();
    }
}

#[test]
fn without_journal_and_checkpoint_the_files_are_enough() {
    let fixture = Fixture::new();
    let log = busy(&fixture);
    let expected = everything(&log);
    drop(log);
    for entry in fixture.disk.list(&data("journal")).unwrap() {
        fixture.disk.remove_file(&data("journal").join(entry.name)).unwrap();
    }
    fixture.disk.remove_file(&data("checkpoint")).unwrap();
    let log = fixture.killed().tier.partition(id(1)).unwrap();
    assert_eq!(everything(&log), expected);
}

#[test]
fn missing_snapshots_history_and_identity_are_made_anew() {
    let fixture = Fixture::new();
    let log = busy(&fixture);
    let expected = everything(&log);
    let dir = log.dir().to_owned();
    drop(log);
    for entry in fixture.disk.list(&dir).unwrap() {
        if !entry.name.ends_with(".log") {
            fixture.disk.remove_file(&dir.join(entry.name)).unwrap();
        }
    }
    let fixture = fixture.killed();
    let log = fixture.log(1);
    assert_eq!(everything(&log), expected);
    assert!(fixture.disk.list(&dir).unwrap().iter().any(|entry| entry.name == "partition"));
    log.truncate_to(30).unwrap();
    assert_eq!(log.producers().iter().map(|producer| producer.last_sequence).collect::<Vec<_>>(), [14, 14]);
}

#[test]
fn a_damaged_snapshot_is_not_believed() {
    let fixture = Fixture::new();
    let log = busy(&fixture);
    let base = log.segments().last().unwrap().base_offset;
    let sealed = log.sealed_segments(log.segments()[0].base_offset, i64::MAX).unwrap().pop().unwrap();
    fixture.disk.damage(&file(&log, &format!("{base:020}.snapshot")), 20, 0xff);
    let again = log.sealed_segments(sealed.base_offset, i64::MAX).unwrap().pop().unwrap();
    assert_eq!(again.producers, sealed.producers);
}

#[test]
fn a_damaged_entry_in_the_middle_of_the_journal_costs_nothing_that_the_segment_has() {
    let fixture = Fixture::new();
    let log = fixture.log_with(1, model::settings::TopicSettings { segment_bytes: 1 << 20, ..settings() });
    append(&log, 10);
    fixture.flush();
    append(&log, 10);
    fixture.flush();
    let expected = contents(&log);
    drop(log);
    // Somewhere in the first few appends, long since durable.
    fixture.disk.damage(&data("journal/slot-0000"), FIRST_ENTRY + 300, 0x11);
    let fixture = fixture.killed();
    let report = fixture.tier.recovery_report().clone();
    assert_eq!(report.damage.len(), 1, "{report:?}");
    assert!(report.damage[0].contains("the journal is damaged from position"), "{report:?}");
    assert_eq!(contents(&fixture.log(1)), expected);
}

#[test]
fn a_damaged_entry_whose_records_are_gone_is_reported_and_cuts_the_log() {
    let fixture = Fixture::new();
    let log = fixture.log_with(1, model::settings::TopicSettings { segment_bytes: 1 << 20, ..settings() });
    append(&log, 10);
    fixture.flush();
    append(&log, 10);
    fixture.flush();
    let path = file(&log, "00000000000000000000.log");
    drop(log);
    fixture.disk.damage(&data("journal/slot-0000"), FIRST_ENTRY + 300, 0x11);
    fixture.disk.open(&path, crate::disk::Open::Existing).unwrap().set_len(0).unwrap();
    let fixture = fixture.killed();
    let report = fixture.tier.recovery_report().clone();
    assert!(report.damage.iter().any(|damage| damage.contains("are lost")), "{report:?}");
    let log = fixture.log(1);
    assert!(log.log_end() < 10, "records behind the hole are not served");
    let offsets: Vec<_> = shape(&contents(&log)).into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(offsets, (0..log.log_end()).collect::<Vec<_>>());
    append(&log, 3);
    let expected = contents(&log);
    drop(log);
    assert_eq!(contents(&fixture.killed().log(1)), expected, "the cut holds");
}

#[test]
fn one_changed_bit_anywhere_in_the_journal_costs_nothing() {
    let journal = data("journal/slot-0000");
    let mut position = 0;
    for turn in 0.. {
        let fixture = Fixture::new();
        let start = fixture.tier.core().journal.end_lsn();
        let log = fixture.log(1);
        append(&log, 4);
        fixture.flush();
        let expected = contents(&log);
        let end = FIRST_ENTRY + usize::try_from(fixture.tier.core().journal.end_lsn() - start).unwrap();
        let path = file(&log, "00000000000000000000.log");
        drop(log);
        let is_header = position < 32;
        fixture.disk.damage(&journal, position, 1 << (turn % 8));
        // The journal alone has the records, the last ones too.
        fixture.disk.open(&path, crate::disk::Open::Existing).unwrap().set_len(0).unwrap();
        let fixture = fixture.killed();
        let report = fixture.tier.recovery_report().clone();
        assert_eq!(contents(&fixture.log(1)), expected, "byte {position}: {report:?}");
        // The last bytes of an entry may be padding, which nobody reads.
        assert_eq!(report.damage, Vec::<String>::new(), "byte {position}");
        assert!(report.mended.len() == 1 || !is_header, "byte {position}: {report:?}");
        let fixture = fixture.killed();
        assert_eq!(fixture.tier.recovery_report().mended, Vec::<String>::new(), "byte {position}");
        assert_eq!(contents(&fixture.log(1)), expected, "byte {position}");
        position += if position == 31 {
            FIRST_ENTRY - 31
        } else if is_header {
            1
        } else {
            3
        };
        if position >= end {
            break;
        }
    }
}

#[test]
fn a_torn_tail_of_the_journal_is_no_damage() {
    let fixture = Fixture::new();
    let start = fixture.tier.core().journal.end_lsn();
    let log = fixture.log(1);
    append(&log, 4);
    fixture.flush();
    let flushed = contents(&log);
    let end = usize::try_from(fixture.tier.core().journal.end_lsn() - start).unwrap();
    append(&log, 3);
    drop(log);
    fixture.disk.damage(&data("journal/slot-0000"), FIRST_ENTRY + end + 9, 0x11);
    let fixture = fixture.killed();
    assert_eq!(fixture.tier.recovery_report().damage, Vec::<String>::new());
    assert_eq!(contents(&fixture.log(1)), flushed);
}

#[test]
fn a_flipped_bit_in_a_closed_segment_is_found_when_it_is_read_whole() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 30);
    fixture.tier.close().unwrap();
    // The length field of the second batch: no reader gets past it.
    let size = Make::default().at(0, 0).len();
    fixture.disk.damage(&file(&log, "00000000000000000000.log"), size + 9, 0x40);
    drop(log);
    let fixture = fixture.killed();
    let log = fixture.log(1);
    let refused = log.read(1, ReadLimits { max_bytes: 1, upper: 30, at_least_one: true }).unwrap_err();
    assert!(matches!(refused, ReadError::Storage(StorageError::Damaged { .. })), "{refused}");
    assert!(refused.to_string().contains("00000000000000000000.log is damaged at byte"), "{refused}");
    assert_eq!(log.read(20, ReadLimits { max_bytes: 1, upper: 30, at_least_one: true }).unwrap().base_offset, 20);
}

#[test]
fn a_missing_segment_file_is_told_and_costs_no_other_one() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 40);
    let bases: Vec<_> = log.segments().iter().map(|segment| segment.base_offset).collect();
    fixture.tier.close().unwrap();
    let path = file(&log, &format!("{:020}.log", bases[1]));
    drop(log);
    fixture.disk.remove_file(&path).unwrap();
    let fixture = fixture.killed();
    let report = fixture.tier.recovery_report();
    assert!(report.damage.iter().any(|damage| damage.contains("is missing")), "{report:?}");
    let log = fixture.log(1);
    assert_eq!((log.local_start(), log.log_end()), (0, 40));
    let limits = ReadLimits { max_bytes: 1, upper: 40, at_least_one: true };
    let refused = (0..40).filter(|offset| log.read(*offset, limits).is_err());
    assert_eq!(refused.collect::<Vec<_>>(), (bases[1]..bases[2]).collect::<Vec<_>>());
}

#[test]
fn a_synced_segment_that_lost_its_end_gives_out_no_offset_twice() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 5);
    fixture.tier.close().unwrap();
    let path = file(&log, "00000000000000000000.log");
    drop(log);
    fixture.disk.open(&path, crate::disk::Open::Existing).unwrap().set_len(200).unwrap();
    let fixture = fixture.killed();
    assert_eq!(fixture.tier.recovery_report().damage.len(), 1);
    let log = fixture.log(1);
    assert_eq!(log.append_leader(vec![batch()], 0, NOW).unwrap().base_offset, 5);
}

/// KAFKA-16541: leader epochs that were not synced were lost in a power cut, and followers then truncated wrongly.
#[test]
fn leader_epochs_and_the_log_start_survive_a_power_cut() {
    for seed in 0..50 {
        let fixture = Fixture::new();
        let log = fixture.log(1);
        for epoch in 0..5 {
            log.begin_epoch(epoch * 2).unwrap();
            append_in(&log, epoch * 2);
        }
        log.advance_log_start(2).unwrap();
        log.truncate_to(4).unwrap();
        log.begin_epoch(11).unwrap();
        append_in(&log, 11);
        fixture.flush();
        let expected = everything(&log);
        let disk = fixture.disk.power_cut(&mut StdRng::seed_from_u64(seed));
        let log = Fixture::on(disk).unwrap().tier.partition(id(1)).unwrap();
        assert_eq!(everything(&log), expected, "seed {seed}");
        assert_eq!(log.end_offset_for_epoch(6), (6, 4));
        assert_eq!(log.end_offset_for_epoch(9), (6, 4));
        assert_eq!(log.end_offset_for_epoch(11), (11, 5));
    }
}

/// KAFKA-10101: records that recovery found in the page cache were served, then lost in a power cut before any flush.
#[test]
fn what_is_served_after_a_kill_survives_a_power_cut() {
    for seed in 0..100 {
        let fixture = Fixture::new();
        let log = fixture.log(1);
        append(&log, 12);
        log.append_leader(vec![Make { value_len: 9000, ..Make::default() }.batch()], 0, NOW).unwrap();
        append(&log, 2);
        drop(log);
        // Nothing was flushed: all of it is in the page cache only.
        let killed = fixture.killed();
        let log = killed.tier.partition(id(1)).unwrap();
        assert_eq!((log.log_end(), log.flushed_end()), (15, 15));
        let served = contents(&log);
        let disk = killed.disk.power_cut(&mut StdRng::seed_from_u64(seed));
        let log = Fixture::on(disk).unwrap().tier.partition(id(1)).unwrap();
        assert_eq!(contents(&log), served, "seed {seed}");
    }
}

#[test]
fn what_the_archive_takes_of_a_replicated_topic_survives_a_power_cut() {
    for seed in 0..50 {
        let fixture = Fixture::new();
        let log = fixture.log_with(1, replicated());
        append(&log, 40);
        fixture.flush();
        let sealed = log.sealed_segments(0, i64::MAX).unwrap();
        let end = sealed.last().unwrap().next_offset;
        let disk = fixture.disk.power_cut(&mut StdRng::seed_from_u64(seed));
        let log = Fixture::on(disk).unwrap().tier.partition(id(1)).unwrap();
        assert!(log.log_end() >= end, "seed {seed}: {} < {end}", log.log_end());
        let offsets: Vec<_> = shape(&contents(&log)).into_iter().map(|(offset, _)| offset).collect();
        assert_eq!(offsets, (0..log.log_end()).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn a_replicated_topic_may_lose_its_end_in_a_power_cut_but_is_never_torn() {
    for seed in 0..200 {
        let fixture = Fixture::new();
        let log = fixture.log_with(1, replicated());
        let mut rng = StdRng::seed_from_u64(seed);
        for step in 0..30 {
            match rand::Rng::random_range(&mut rng, 0..10) {
                0 => drop(log.roll().unwrap()),
                1 => fixture.tier.checkpoint().unwrap(),
                2 => drop(log.truncate_to(log.log_end() * 3 / 4).unwrap()),
                3 => fixture.flush(),
                _ => {
                    let make = Make { salt: step, value_len: 300, ..Make::default() };
                    log.append_leader(vec![make.batch()], 0, NOW).unwrap();
                }
            }
        }
        let before = contents(&log);
        let disk = fixture.disk.power_cut(&mut rng);
        let fixture = Fixture::on(disk).unwrap();
        assert_eq!(fixture.tier.recovery_report().damage, Vec::<String>::new(), "seed {seed}");
        let Some(log) = fixture.tier.partition(id(1)) else { continue };
        let after = contents(&log);
        assert!(before.starts_with(&after), "seed {seed}: {:?} then {:?}", shape(&before), shape(&after));
    }
}

#[test]
fn a_half_deleted_folder_is_removed_for_good() {
    let fixture = Fixture::new();
    append(&fixture.log(1), 3);
    fixture.tier.close().unwrap();
    let disk = fixture.disk.clone();
    let dir = Path::new("/data/topics/orders-3.ASNFZ4mrze8BI0VniavN7w.deleted");
    disk.create_dir_all(dir).unwrap();
    disk.open(&dir.join("00000000000000000000.log"), crate::disk::Open::Create).unwrap();
    drop(fixture);
    let fixture = Fixture::on(disk.clone()).unwrap();
    fixture.tier.core().trash.empty(&disk);
    assert_eq!(disk.list(Path::new("/data/topics")).unwrap().len(), 1);
    assert_eq!(fixture.tier.partitions().len(), 1);
}

fn append_in(log: &Arc<PartitionLog>, epoch: i32) {
    log.append_leader(vec![batch()], epoch, NOW).unwrap();
}
