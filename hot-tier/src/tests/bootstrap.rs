//! Beginning in the middle of a log with another replica's state, and giving up epochs that have no record.

use std::sync::Arc;

use bytes::Bytes;
use model::segment::EpochStart;
use rand::SeedableRng;

use super::fixture::{Fixture, Make, NOW, append, contents, replicated, settings, shape};
use crate::{AppendError, Bootstrap, BootstrapError, PartitionLog, StorageError};

const PRODUCER: i64 = 9;

fn epochs(log: &PartitionLog) -> Vec<(i32, i64)> {
    log.epochs().iter().map(|epoch| (epoch.leader_epoch, epoch.start_offset)).collect()
}

fn produce(log: &Arc<PartitionLog>, sequence: i32, epoch: i32) -> Result<crate::Appended, AppendError> {
    let make = Make { producer: Some((PRODUCER, 0, sequence)), value_len: 200, ..Make::default() };
    log.append_leader(vec![make.batch()], epoch, NOW)
}

/// A leader whose first segments are in the archive only, and its state.
fn leader(fixture: &Fixture) -> (Arc<PartitionLog>, Bootstrap) {
    let log = fixture.log(1);
    append(&log, 20);
    for sequence in 0..4 {
        produce(&log, sequence, 3).unwrap();
    }
    log.roll().unwrap();
    fixture.tier.checkpoint().unwrap();
    log.evict_below(log.log_end()).unwrap();
    let state = log.bootstrap().unwrap();
    (log, state)
}

#[test]
fn an_empty_replica_goes_on_where_the_leader_begins() {
    for mode in [settings(), replicated()] {
        let fixture = Fixture::new();
        let (leader, state) = leader(&fixture);
        assert_eq!((state.log_start, state.local_start), (0, 24));
        assert_eq!(
            state.epochs.iter().map(|e| (e.leader_epoch, e.start_offset)).collect::<Vec<_>>(),
            [(0, 0), (3, 20)]
        );
        let replica = fixture.log_with(2, mode.clone());
        append(&replica, 3);
        replica.reset_to_bootstrap(&state).unwrap();
        produce(&leader, 4, 3).unwrap();
        replica.append_follower(&Bytes::from(contents(&leader))).unwrap();
        fixture.tier.wait_flushed().unwrap();
        drop((replica, leader));

        let disk = fixture.disk.clone();
        drop(fixture);
        let fixture = Fixture::on(disk.power_cut(&mut rand::rngs::StdRng::seed_from_u64(1))).unwrap();
        assert_eq!(fixture.tier.recovery_report().damage, Vec::<String>::new());
        let replica = fixture.log_with(2, mode);
        assert_eq!((replica.log_start(), replica.local_start()), (0, 24));
        assert_eq!(epochs(&replica), [(0, 0), (3, 20)]);
        // Page cache and all, a replicated topic may lose what it appended, never what it began with.
        let next = if replica.log_end() == 25 { 5 } else { 4 };
        assert!(produce(&replica, next - 1, 4).unwrap().duplicate);
        assert!(matches!(produce(&replica, 9, 4), Err(AppendError::OutOfOrderSequence { .. })));
        assert!(!produce(&replica, next, 4).unwrap().duplicate);
    }
}

#[test]
fn a_full_disk_leaves_the_log_as_it_is_and_the_tier_whole() {
    let fixture = Fixture::new();
    let (_, state) = leader(&fixture);
    let replica = fixture.log(2);
    append(&replica, 3);
    let before = contents(&replica);
    fixture.faults.set_full(true);
    let refused = replica.reset_to_bootstrap(&state).unwrap_err();
    assert!(matches!(refused, BootstrapError::Storage(StorageError::Full { .. })), "{refused}");
    assert_eq!(fixture.tier.failure(), None, "no restart is needed");
    assert!(fixture.tier.full().is_some());
    assert_eq!((contents(&replica), replica.log_end()), (before, 3));
    fixture.faults.set_full(false);
    fixture.tier.keep_house();
    replica.reset_to_bootstrap(&state).unwrap();
    assert_eq!((replica.log_start(), replica.local_start()), (0, 24));
    assert!(produce(&replica, 3, 4).unwrap().duplicate);
}

#[test]
fn a_snapshot_that_cannot_be_opened_is_not_taken_for_none() {
    let fixture = Fixture::new();
    let (_, state) = leader(&fixture);
    let replica = fixture.log(2);
    replica.reset_to_bootstrap(&state).unwrap();
    produce(&replica, 4, 3).unwrap();
    fixture.faults.set_descriptors(0);
    let refused = replica.bootstrap().unwrap_err();
    assert!(matches!(refused, StorageError::NoDescriptor { .. }), "{refused}");
    fixture.faults.set_descriptors(u64::MAX);
    assert_eq!(replica.bootstrap().unwrap(), state);
}

#[test]
fn a_truncation_keeps_what_the_log_began_with() {
    let fixture = Fixture::new();
    let (_, state) = leader(&fixture);
    let replica = fixture.log(2);
    replica.reset_to_bootstrap(&state).unwrap();
    produce(&replica, 4, 3).unwrap();
    produce(&replica, 5, 3).unwrap();
    replica.truncate_to(25).unwrap();
    assert!(produce(&replica, 4, 3).unwrap().duplicate);
    fixture.tier.checkpoint().unwrap();
    replica.truncate_to(24).unwrap();
    assert!(produce(&replica, 3, 3).unwrap().duplicate);
    assert_eq!(epochs(&replica), [(0, 0), (3, 20)]);
    drop(replica);
    let fixture = fixture.killed();
    let replica = fixture.log(2);
    assert!(produce(&replica, 3, 3).unwrap().duplicate);
    assert!(!produce(&replica, 4, 3).unwrap().duplicate);
}

#[test]
fn a_state_that_is_not_intact_is_refused_and_changes_nothing() {
    let fixture = Fixture::new();
    let (_, state) = leader(&fixture);
    let replica = fixture.log(2);
    append(&replica, 3);
    let broken = [
        Bootstrap { log_start: 25, ..state.clone() },
        Bootstrap { log_start: -1, ..state.clone() },
        Bootstrap { producers: Bytes::from_static(b"FPS1"), ..state.clone() },
    ];
    for state in broken {
        let refused = replica.reset_to_bootstrap(&state);
        assert!(matches!(refused, Err(BootstrapError::Malformed { .. })), "{refused:?}");
    }
    assert_eq!(replica.log_end(), 3);
    let stray = EpochStart { leader_epoch: 7, start_offset: 24 };
    let mut epochs_behind = state;
    epochs_behind.epochs.push(stray);
    replica.reset_to_bootstrap(&epochs_behind).unwrap();
    assert_eq!(epochs(&replica), [(0, 0), (3, 20)], "an epoch that begins behind the state is none of it");
}

#[test]
fn more_producers_than_an_entry_holds_lose_the_oldest() {
    let fixture = Fixture::new();
    let (_, mut state) = leader(&fixture);
    // The journal's files have 16 KiB here.
    let source = fixture.log(3);
    for id in 0..200 {
        let make = Make { producer: Some((id, 0, 0)), ..Make::default() };
        source.append_leader(vec![make.batch()], 0, NOW + id).unwrap();
    }
    source.roll().unwrap();
    fixture.tier.checkpoint().unwrap();
    source.evict_below(200).unwrap();
    state.producers = source.bootstrap().unwrap().producers;
    let replica = fixture.log(2);
    replica.reset_to_bootstrap(&state).unwrap();
    let expected: Vec<i64> = replica.producers().iter().map(|producer| producer.producer_id).collect();
    assert!(expected.len() > 100 && expected.len() < 200, "{}", expected.len());
    assert!(expected.contains(&199) && !expected.contains(&0));
    drop((replica, source));
    let replica = fixture.killed().log(2);
    assert_eq!(replica.producers().iter().map(|producer| producer.producer_id).collect::<Vec<_>>(), expected);
}

#[test]
fn an_epoch_without_a_record_gives_way_to_the_leaders() {
    for checkpointed in [false, true] {
        let fixture = Fixture::new();
        let log = fixture.log(1);
        append(&log, 2);
        log.begin_epoch(5).unwrap();
        if checkpointed {
            fixture.tier.checkpoint().unwrap();
        }
        assert_eq!(log.truncate_to(3).unwrap(), 2, "behind the end there is nothing");
        assert_eq!(log.latest_epoch(), 5);
        assert_eq!(log.truncate_to(2).unwrap(), 2);
        assert_eq!(log.latest_epoch(), 0);
        log.append_follower(&Make::default().at(2, 4)).unwrap();
        assert_eq!(epochs(&log), [(0, 0), (4, 2)]);
        drop(log);
        let log = fixture.killed().log(1);
        assert_eq!(epochs(&log), [(0, 0), (4, 2)]);
        assert_eq!(shape(&contents(&log)), [(0, 0), (1, 0), (2, 4)]);
    }
}

#[test]
fn what_a_power_cut_took_takes_the_epochs_behind_it_along() {
    let mut has_lost = false;
    for seed in 0..20 {
        let fixture = Fixture::new();
        let log = fixture.log_with(1, replicated());
        append(&log, 3);
        log.begin_epoch(1).unwrap();
        fixture.tier.wait_flushed().unwrap();
        let disk = fixture.disk.clone();
        drop((log, fixture));
        let fixture = Fixture::on(disk.power_cut(&mut rand::rngs::StdRng::seed_from_u64(seed))).unwrap();
        let log = fixture.log_with(1, replicated());
        let end = log.log_end();
        assert!(epochs(&log).iter().all(|(_, start)| *start <= end), "seed {seed}: {:?} at {end}", epochs(&log));
        if end < 3 {
            has_lost = true;
            log.append_follower(&Make::default().at(end, 0)).unwrap();
        }
    }
    assert!(has_lost, "no power cut took anything");
}
