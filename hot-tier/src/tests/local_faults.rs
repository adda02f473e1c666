//! What the tier reports of its own faults: a full disk until there is space again, a thread that has panicked.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::fixture::{Fixture, Make, NOW, append, batch, config, id, settings, topic};
use crate::core::Drive;
use crate::disk::Disk;
use crate::disk::faulty::FaultyDisk;
use crate::disk::hooked::{Hook, HookedDisk, Moment};
use crate::disk::memory::MemoryDisk;
use crate::recovery::Setting;
use crate::{AppendError, HotTier, StorageError};

#[test]
fn a_full_disk_is_reported_until_a_probe_finds_space() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 1);
    assert_eq!(fixture.tier.full(), None);
    fixture.faults.set_full(true);
    log.append_leader(vec![batch()], 0, NOW).unwrap_err();
    let reason = fixture.tier.full().unwrap();
    assert!(reason.contains("the disk is full"), "{reason}");
    fixture.tier.keep_house();
    assert!(fixture.tier.full().is_some(), "there is no space yet");
    fixture.faults.set_full(false);
    assert!(fixture.tier.full().is_some(), "only a probe tells that there is space");
    fixture.tier.keep_house();
    assert_eq!((fixture.tier.full(), fixture.tier.failure()), (None, None));
    append(&log, 1);
    let left = Disk::list(&fixture.disk, Path::new("/data")).unwrap();
    assert!(!left.iter().any(|entry| entry.name.contains("probe")), "{left:?}");
}

#[test]
fn a_flusher_that_panics_fails_the_tier() {
    let tier = HotTier::open_on(Setting {
        config: config(),
        disk: Arc::new(MemoryDisk::default()),
        on_flush: Arc::new(|_, _| panic!("injected")),
        drive: Drive::Threads,
        now_ms: NOW,
    })
    .unwrap();
    let log = tier.create(&topic(), id(1), Arc::new(settings())).unwrap();
    log.append_leader(vec![batch()], 0, NOW).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while tier.panicked().is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(tier.panicked(), Some("hot-flusher"));
    assert!(tier.failure().unwrap().to_string().contains("the hot-flusher thread has panicked"));
    let refused = log.append_leader(vec![batch()], 0, NOW).unwrap_err();
    assert!(matches!(refused, AppendError::Storage(StorageError::Failed(_))), "{refused}");
}

/// Requests that wait for the journal ask for a checkpoint again and again: a failed one is not retried more often for that.
#[test]
fn a_full_disk_is_not_written_to_at_the_pace_of_waiting_requests() {
    let disk = MemoryDisk::default();
    let tried: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let seen = Arc::clone(&tried);
    // A write on the full disk gets half way, and is seen there.
    let hook: Hook = Arc::new(move |moment, path: &Path| {
        if let (Moment::Written(_), Some(name)) = (moment, path.file_name().and_then(|name| name.to_str())) {
            // Files of the journal have numbers.
            let kind = name.trim_end_matches(|c: char| c.is_ascii_digit());
            *seen.lock().entry(kind.to_owned()).or_default() += 1;
        }
    });
    let (faulty, faults) = FaultyDisk::new(Arc::new(HookedDisk::new(Arc::new(disk), hook)));
    let tier = HotTier::open_on(Setting {
        config: config(),
        disk: Arc::new(faulty),
        on_flush: Arc::new(|_, _| {}),
        drive: Drive::Threads,
        now_ms: NOW,
    })
    .unwrap();
    let log = tier.create(&topic(), id(1), Arc::new(settings())).unwrap();
    let large = || Make { value_len: 6000, ..Make::default() }.batch();
    log.append_leader(vec![large()], 0, NOW).unwrap();
    faults.set_full(true);
    log.append_leader(vec![large()], 0, NOW).unwrap_err();
    tried.lock().clear();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1200) {
        tier.core().ask_for_checkpoint();
        tier.core().housekeeping.raise();
        std::thread::sleep(Duration::from_millis(1));
    }
    let tried = std::mem::take(&mut *tried.lock());
    assert!(!tried.is_empty(), "space is looked for");
    // A space probe, the next file of the journal, a checkpoint: each twice a second.
    assert!(tried.values().all(|times| *times <= 6), "attempts in 1.2 s: {tried:?}");
    faults.set_full(false);
    let deadline = Instant::now() + Duration::from_secs(30);
    while tier.full().is_some() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    log.append_leader(vec![large()], 0, NOW).unwrap();
    tier.wait_flushed().unwrap();
}
