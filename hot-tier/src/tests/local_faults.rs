//! What the tier reports of its own faults: a full disk until there is space again, a thread that has panicked.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fixture::{Fixture, NOW, append, batch, config, id, settings, topic};
use crate::core::Drive;
use crate::disk::Disk;
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
