//! Files that are gone, or were cut off: what is left is served, what is lost is refused, nothing is passed over or deleted.

use std::sync::Arc;

use super::fixture::{Fixture, append, data, file, id};
use crate::disk::{Disk, Open};
use crate::{HotTier, PartitionLog, RetentionLimits};

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
