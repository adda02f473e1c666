//! Too many files are open: what needs one more is refused, nothing fails for good, and all goes on when some are closed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::settings::TopicSettings;
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::fixture::{Fixture, Make, NOW, append, batch, config, contents, id, replicated, settings, shape, topic};
use crate::core::Drive;
use crate::disk::faulty::FaultyDisk;
use crate::disk::memory::MemoryDisk;
use crate::recovery::Setting;
use crate::{AppendError, Bootstrap, HotTier, ReadError, ReadLimits, StorageError};

const LIMITS: ReadLimits = ReadLimits { max_bytes: 1 << 20, upper: i64::MAX, at_least_one: true };

/// A batch that is so large that its segment is flushed in place of the journal.
fn bypassing() -> Make {
    Make { value_len: 5000, ..Make::default() }
}

fn large_segments() -> TopicSettings {
    TopicSettings { segment_bytes: 1 << 20, ..settings() }
}

#[test]
fn appends_and_reads_without_a_descriptor_are_refused_and_go_on_with_one() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 3);
    let before = contents(&log);
    log.close_files();
    fixture.faults.set_descriptors(0);
    let refused = log.append_leader(vec![batch()], 0, NOW).unwrap_err();
    assert!(matches!(refused, AppendError::Storage(StorageError::NoDescriptor { .. })), "{refused}");
    let refused = log.read(0, LIMITS).unwrap_err();
    assert!(matches!(refused, ReadError::Storage(StorageError::NoDescriptor { .. })), "{refused}");
    assert!(fixture.tier.create(&topic(), id(2), Arc::new(settings())).is_err());
    assert_eq!((log.log_end(), fixture.tier.failure()), (3, None));
    fixture.faults.set_descriptors(u64::MAX);
    assert_eq!(contents(&log), before);
    append(&log, 1);
    append(&fixture.log(2), 1);
    fixture.flush();
    let again = fixture.killed();
    assert_eq!(shape(&contents(&again.log(1))), [(0, 0), (1, 0), (2, 0), (3, 0)]);
    assert_eq!(shape(&contents(&again.log(2))), [(0, 0)]);
}

#[test]
fn segments_and_journal_files_that_cannot_be_made_lose_nothing() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    let small = Make { value_len: 900, ..Make::default() };
    let mut taken = 0;
    // Each append closes a segment; the journal fills one file after the other.
    for turn in 0..200 {
        fixture.faults.set_descriptors(if turn % 3 == 0 { 0 } else { u64::MAX });
        match log.append_leader(vec![small.batch()], 0, NOW) {
            Ok(appended) => {
                assert_eq!(appended.base_offset, taken);
                taken += 1;
            }
            Err(error) => {
                assert!(matches!(error, AppendError::Storage(StorageError::NoDescriptor { .. })), "{error}");
                assert_eq!(turn % 3, 0);
            }
        }
        fixture.flush();
        if fixture.tier.core().wants_checkpoint() {
            let written = fixture.tier.checkpoint();
            assert_eq!(written.is_err(), turn % 3 == 0, "{written:?}");
        }
    }
    assert!((133..200).contains(&taken), "{taken} appends were taken");
    fixture.faults.set_descriptors(u64::MAX);
    let wanted: Vec<_> = (0..taken).map(|offset| (offset, 0)).collect();
    assert_eq!(shape(&contents(&log)), wanted);
    drop(log);
    assert_eq!(shape(&contents(&fixture.killed().log(1))), wanted);
}

#[test]
fn a_flush_without_a_descriptor_acknowledges_nothing_and_is_tried_again() {
    let fixture = Fixture::new();
    let log = fixture.log_with(1, large_segments());
    fixture.flush();
    fixture.told.lock().clear();
    log.append_leader(vec![bypassing().batch()], 0, NOW).unwrap();
    append(&log, 1);
    log.close_files();
    fixture.faults.set_descriptors(0);
    let refused = fixture.tier.core().flush_round().unwrap_err();
    assert!(matches!(refused, StorageError::NoDescriptor { .. }), "{refused}");
    assert_eq!((log.flushed_end(), fixture.told.lock().len(), fixture.tier.failure()), (0, 0, None));
    fixture.faults.set_descriptors(u64::MAX);
    append(&log, 1);
    fixture.flush();
    assert_eq!(log.flushed_end(), 3);
    assert_eq!(*fixture.told.lock(), [(id(1), 3)]);
    for seed in 0..10 {
        let found = Fixture::on(fixture.disk.power_cut(&mut StdRng::seed_from_u64(seed))).unwrap();
        assert_eq!(contents(&found.log_with(1, large_segments())), contents(&log), "seed {seed}");
    }
}

#[test]
fn a_checkpoint_without_a_descriptor_is_tried_again_with_all_that_it_must_sync() {
    let fixture = Fixture::new();
    fixture.tier.checkpoint().unwrap();
    let log = fixture.log(1);
    append(&log, 20);
    fixture.flush();
    log.close_files();
    fixture.faults.set_descriptors(0);
    let refused = fixture.tier.checkpoint().unwrap_err();
    assert!(matches!(refused, StorageError::NoDescriptor { .. }), "{refused}");
    assert_eq!(fixture.tier.failure(), None);
    assert!(fixture.tier.core().is_checkpoint_wanted());
    fixture.faults.set_descriptors(u64::MAX);
    fixture.tier.checkpoint().unwrap();
    for seed in 0..10 {
        let found = Fixture::on(fixture.disk.power_cut(&mut StdRng::seed_from_u64(seed))).unwrap();
        assert_eq!(found.tier.recovery_report().damage, [""; 0], "seed {seed}");
        assert_eq!(contents(&found.log(1)), contents(&log), "seed {seed}");
    }
}

/// Runs `change`, which finds no descriptor for a while.
fn starved<T: Send>(fixture: &Fixture, change: impl FnOnce() -> T + Send) -> T {
    let faults = &fixture.faults;
    let before = faults.refused();
    faults.set_descriptors(0);
    std::thread::scope(|scope| {
        let changing = scope.spawn(change);
        let deadline = Instant::now() + Duration::from_secs(20);
        // One open is refused twice, with idle files closed in between.
        while faults.refused() < before + 5 && !changing.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        let is_waiting = !changing.is_finished();
        faults.set_descriptors(u64::MAX);
        let changed = changing.join().unwrap();
        assert!(is_waiting, "it did not wait");
        changed
    })
}

#[test]
fn a_truncation_that_has_begun_waits_for_a_descriptor() {
    for mode in [settings(), replicated()] {
        let fixture = Fixture::new();
        let log = fixture.log_with(1, mode.clone());
        append(&log, 6);
        fixture.flush();
        assert_eq!(starved(&fixture, || log.truncate_to(4)).unwrap(), 4);
        assert_eq!(fixture.tier.failure(), None);
        append(&log, 1);
        let wanted = shape(&contents(&log));
        assert_eq!(wanted.len(), 5);
        drop(log);
        assert_eq!(shape(&contents(&fixture.killed().log_with(1, mode))), wanted);
    }
}

#[test]
fn a_log_that_begins_anew_waits_for_a_descriptor() {
    for mode in [settings(), replicated()] {
        let fixture = Fixture::new();
        let state = fixture.log(1).bootstrap().unwrap();
        let state = Bootstrap { local_start: 7, ..state };
        let log = fixture.log_with(2, mode);
        append(&log, 3);
        fixture.flush();
        starved(&fixture, || log.reset_to_bootstrap(&state)).unwrap();
        assert_eq!((log.local_start(), log.log_end(), fixture.tier.failure()), (7, 7, None));
        assert_eq!(log.bootstrap().unwrap(), state);
    }
}

#[test]
fn what_was_deleted_is_unlinked_once_its_folder_can_be_listed() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 3);
    fixture.tier.remove(id(1)).unwrap();
    let core = fixture.tier.core();
    let folder = crate::layout::aside(log.dir(), 0, crate::layout::DELETED);
    fixture.tier.finish_removals().unwrap();
    fixture.faults.set_descriptors(0);
    core.trash.empty(core.disk());
    fixture.faults.set_descriptors(u64::MAX);
    assert!(core.disk().list(&folder).is_ok(), "it is still there");
    core.trash.empty(core.disk());
    assert!(core.disk().list(&folder).is_err());
}

#[test]
fn the_flusher_goes_on_by_itself() {
    let (disk, faults) = FaultyDisk::new(Arc::new(MemoryDisk::default()));
    let told = Arc::new(Mutex::new(0));
    let listener = Arc::clone(&told);
    let tier = HotTier::open_on(Setting {
        config: config(),
        disk: Arc::new(disk),
        on_flush: Arc::new(move |_, end| *listener.lock() = end),
        drive: Drive::Threads,
        now_ms: NOW,
    })
    .unwrap();
    let log = tier.create(&topic(), id(1), Arc::new(large_segments())).unwrap();
    append(&log, 1);
    // The segment's file is open, unless a thread that got no descriptor has closed it as idle; the flush of its name in the
    // folder needs a descriptor.
    let is_taken = (0..100).any(|_| {
        faults.set_descriptors(u64::MAX);
        contents(&log);
        faults.set_descriptors(0);
        log.append_leader(vec![bypassing().batch()], 0, NOW).is_ok()
    });
    assert!(is_taken);
    log.close_files();
    let deadline = Instant::now() + Duration::from_millis(300);
    while Instant::now() < deadline {
        assert!(log.flushed_end() < 2 && tier.failure().is_none());
        std::thread::sleep(Duration::from_millis(10));
    }
    faults.set_descriptors(u64::MAX);
    let deadline = Instant::now() + Duration::from_secs(20);
    while *told.lock() < 2 {
        assert!(Instant::now() < deadline, "the flusher does not go on");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!((log.flushed_end(), tier.failure()), (2, None));
    tier.close().unwrap();
}
