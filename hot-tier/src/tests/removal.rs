//! Removing partitions beside everything that goes over partitions: flushes, checkpoints, archiving, crashes.

use std::io::IoSlice;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::fixture::{Fixture, Make, NOW, append, batch, config, contents, id, replicated, settings, topic};
use crate::core::Drive;
use crate::disk::faulty::FaultyDisk;
use crate::disk::hooked::{Hook, HookedDisk, Moment};
use crate::disk::memory::MemoryDisk;
use crate::disk::{Disk, Open};
use crate::recovery::Setting;
use crate::{Config, HotTier, SealError, StorageError};

fn folders(disk: &MemoryDisk) -> Vec<String> {
    disk.list(Path::new("/data/topics")).unwrap().into_iter().map(|entry| entry.name).collect()
}

fn fixture_with(hook: Hook) -> Fixture {
    let disk = MemoryDisk::default();
    let (_, faults) = FaultyDisk::new(Arc::new(disk.clone()));
    Fixture::with(disk.clone(), Arc::new(HookedDisk::new(Arc::new(disk), hook)), faults).unwrap()
}

/// Calls `work` once, right before a partition's folder is synced.
fn before_folder_sync(work: impl Fn(&HotTier) + Send + Sync + 'static) -> (Fixture, Arc<OnceLock<HotTier>>) {
    let tier: Arc<OnceLock<HotTier>> = Arc::default();
    let (seen, is_done) = (Arc::clone(&tier), AtomicBool::new(false));
    let fixture = fixture_with(Arc::new(move |moment, path| {
        let is_partition = path.parent().is_some_and(|dir| dir.ends_with("topics"));
        if moment == Moment::SyncDir
            && is_partition
            && let Some(tier) = seen.get()
            && !is_done.swap(true, Ordering::SeqCst)
        {
            work(tier);
        }
    }));
    (fixture, tier)
}

#[test]
fn a_topic_deleted_at_any_point_of_a_checkpoint_leaves_the_others_working() {
    let (fixture, tier) = before_folder_sync(|tier| tier.remove(id(1)).unwrap());
    let (log, other) = (fixture.log(1), fixture.log(2));
    append(&log, 3);
    append(&other, 3);
    assert!(tier.set(fixture.tier.clone()).is_ok());
    fixture.tier.checkpoint().unwrap();
    assert!(fixture.tier.partition(id(1)).is_none());
    assert_eq!(fixture.tier.failure(), None);
    append(&other, 1);
    fixture.flush();
    assert_eq!(other.flushed_end(), 4);
    fixture.tier.finish_removals().unwrap();
    fixture.tier.checkpoint().unwrap();
    assert_eq!(fixture.tier.failure(), None);
}

#[test]
fn a_topic_deleted_while_its_segment_is_flushed_for_the_archive_is_no_failure_of_the_disk() {
    let (fixture, tier) = before_folder_sync(|tier| {
        tier.remove(id(1)).unwrap();
        tier.finish_removals().unwrap();
    });
    let log = fixture.log_with(1, replicated());
    append(&log, 40);
    fixture.flush();
    assert!(tier.set(fixture.tier.clone()).is_ok());
    let sealed = log.sealed_segments(0, i64::MAX);
    assert!(matches!(sealed, Err(SealError::Storage(StorageError::Removed(_)))), "{sealed:?}");
    assert_eq!(fixture.tier.failure(), None);
}

#[test]
fn topics_come_and_go_beside_checkpoints() {
    const TOPICS: u128 = 60;
    const PARTITIONS: u128 = 12;
    let disk = MemoryDisk::default();
    let tier = HotTier::open_on(Setting {
        config: Config { journal_bytes: 1 << 20, ..config() },
        disk: Arc::new(disk.clone()),
        on_flush: Arc::new(|_, _| {}),
        drive: Drive::Threads,
        now_ms: NOW,
    })
    .unwrap();
    let busy = tier.create(&topic(), id(0), Arc::new(settings())).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                tier.checkpoint().unwrap();
            }
        });
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                tier.wait_for_journal_space().unwrap();
                busy.append_leader(vec![Make { value_len: 5000, ..Make::default() }.batch()], 0, NOW).unwrap();
                busy.sealed_segments(busy.local_start(), i64::MAX).unwrap();
                busy.evict_below(i64::MAX).unwrap();
            }
        });
        for number in (0..TOPICS).map(|topic| 1 + topic * PARTITIONS) {
            for partition in number..number + PARTITIONS {
                let log = tier.create(&topic(), id(partition), Arc::new(settings())).unwrap();
                tier.wait_for_journal_space().unwrap();
                log.append_leader(vec![Make { value_len: 5000, ..Make::default() }.batch(), batch()], 0, NOW).unwrap();
            }
            (number..number + PARTITIONS).for_each(|partition| tier.remove(id(partition)).unwrap());
            assert_eq!(tier.failure(), None, "after {} topics", number / PARTITIONS);
        }
        is_over.store(true, Ordering::SeqCst);
    });
    tier.wait_flushed().unwrap();
    tier.close().unwrap();
    assert_eq!(folders(&disk).len(), 1, "{:?}", folders(&disk));
}

#[test]
fn removing_many_partitions_flushes_once_and_not_on_the_callers_thread() {
    let syncs = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&syncs);
    let fixture = fixture_with(Arc::new(move |moment, _| {
        if moment == Moment::Sync {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    }));
    for number in 0..500 {
        append(&fixture.log(number), 1);
        if number % 50 == 0 {
            fixture.tier.checkpoint().unwrap();
        }
    }
    fixture.flush();
    fixture.tier.checkpoint().unwrap();
    syncs.store(0, Ordering::SeqCst);
    (0..500).for_each(|number| fixture.tier.remove(id(number)).unwrap());
    let by_caller = syncs.load(Ordering::SeqCst);
    fixture.tier.finish_removals().unwrap();
    let in_all = syncs.load(Ordering::SeqCst);
    // Another file of the journal costs one more.
    assert!(by_caller <= 6 && in_all <= 8, "{by_caller} syncs by the caller, {in_all} in all");
    assert!(fixture.tier.partitions().is_empty());
}

#[test]
fn a_removal_that_only_a_checkpoint_has_seen_is_finished_after_a_crash() {
    let fixture = Fixture::new();
    let (log, other) = (fixture.log(1), fixture.log(2));
    append(&log, 5);
    append(&other, 5);
    fixture.tier.checkpoint().unwrap();
    fixture.tier.remove(id(1)).unwrap();
    fixture.tier.checkpoint().unwrap();
    drop((log, other));
    for disk in [fixture.disk.killed(), fixture.disk.unsynced_lost()] {
        let fixture = Fixture::on(disk).unwrap();
        assert!(fixture.tier.partition(id(1)).is_none());
        assert_eq!(fixture.tier.partition(id(2)).unwrap().log_end(), 5);
        fixture.tier.core().trash.empty(&fixture.disk);
        assert_eq!(folders(&fixture.disk).len(), 1, "{:?}", folders(&fixture.disk));
    }
}

#[test]
fn a_partition_that_is_made_again_under_its_id_survives_a_crash() {
    for checkpointed in [false, true] {
        let fixture = Fixture::new();
        append(&fixture.log(1), 5);
        if checkpointed {
            fixture.tier.checkpoint().unwrap();
        }
        fixture.tier.remove(id(1)).unwrap();
        let again = fixture.log(1);
        assert_eq!(again.log_end(), 0);
        again.append_leader(vec![Make { salt: 9, ..Make::default() }.batch()], 0, NOW).unwrap();
        again.append_leader(vec![Make { salt: 9, value_len: 9000, ..Make::default() }.batch()], 0, NOW).unwrap();
        fixture.flush();
        let expected = contents(&again);
        for disk in [fixture.disk.killed(), fixture.disk.unsynced_lost()] {
            let fixture = Fixture::on(disk).unwrap();
            let found = fixture.tier.partition(id(1)).map(|log| contents(&log));
            assert_eq!(found.as_ref(), Some(&expected), "the partition was acknowledged records and lost them");
        }
    }
}

#[test]
fn a_partition_is_removed_twice_before_its_files_are_unlinked() {
    let fixture = Fixture::new();
    for _ in 0..3 {
        append(&fixture.log(1), 5);
        fixture.tier.remove(id(1)).unwrap();
        fixture.tier.finish_removals().unwrap();
    }
    assert_eq!(fixture.tier.failure(), None);
    assert_eq!(folders(&fixture.disk).len(), 3);
    let fixture = fixture.killed();
    fixture.tier.core().trash.empty(&fixture.disk);
    assert_eq!(folders(&fixture.disk), Vec::<String>::new());
}

#[test]
fn a_folder_that_was_moved_by_hand_does_not_hold_up_the_removal_of_its_partition() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 5);
    fixture.flush();
    let moved_away = Path::new("/data/topics/moved");
    fixture.tier.remove(id(1)).unwrap();
    fixture.disk.rename(log.dir(), moved_away).unwrap();
    fixture.tier.finish_removals().unwrap();
    assert_eq!(fixture.tier.failure(), None);
    assert_eq!(fixture.log(1).log_end(), 0);
}

#[test]
fn the_housekeeper_takes_removed_folders_away_by_itself() {
    let disk = MemoryDisk::default();
    let setting = |disk: MemoryDisk| Setting {
        config: config(),
        disk: Arc::new(disk),
        on_flush: Arc::new(|_, _| {}),
        drive: Drive::Threads,
        now_ms: NOW,
    };
    let tier = HotTier::open_on(setting(disk.clone())).unwrap();
    append(&tier.create(&topic(), id(1), Arc::new(settings())).unwrap(), 3);
    tier.remove(id(1)).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !folders(&disk).is_empty() {
        assert!(Instant::now() < deadline, "{:?} is still there", folders(&disk));
        std::thread::sleep(Duration::from_millis(5));
    }
    tier.close().unwrap();
}

#[test]
fn a_folder_that_nothing_knows_is_set_aside_beside_one_that_was_before() {
    let mut fixture = Fixture::new();
    append(&fixture.log(2), 1);
    for number in 1..=2 {
        fixture.tier.checkpoint().unwrap();
        let folder = Path::new("/data/topics/orders-0.AAAAAAAAAAAAAAAAAAAAAQ");
        fixture.disk.create_dir_all(folder).unwrap();
        let log = fixture.disk.open(&folder.join("00000000000000000000.log"), Open::Create).unwrap();
        log.write_at(&[IoSlice::new(b"unknown")], 0).unwrap();
        fixture = fixture.killed();
        append(&fixture.log(2), 1);
        let strays = folders(&fixture.disk).iter().filter(|name| name.ends_with(".stray")).count();
        assert_eq!(strays, number, "{:?}", folders(&fixture.disk));
    }
}
