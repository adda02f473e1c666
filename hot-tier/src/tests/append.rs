//! Appending, flushing, rolling, idempotence, failures of the disk.

use std::sync::Arc;

use bytes::Bytes;
use model::batch::{Batches, TimestampType};
use model::settings::TopicSettings;

use super::fixture::{Fixture, Make, NOW, append, batch, contents, id, replicated, settings, shape};
use crate::{AppendError, AppendTime, StorageError};

const DAY_MS: i64 = 86_400_000;

#[test]
fn batches_get_offsets_and_the_leader_epoch() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    let three = Make { records: 3, ..Make::default() };
    let first = log.append_leader(vec![three.batch(), batch()], 5, NOW).unwrap();
    assert_eq!((first.base_offset, first.last_offset, first.duplicate), (0, 3, false));
    let second = log.append_leader(vec![batch()], 6, NOW).unwrap();
    assert_eq!((second.base_offset, second.last_offset), (4, 4));
    assert_eq!(shape(&contents(&log)), [(0, 5), (3, 5), (4, 6)]);
    assert_eq!(log.end_offset_for_epoch(5), (5, 4));
    assert_eq!(log.end_offset_for_epoch(6), (6, 5));
    assert_eq!(log.end_offset_for_epoch(7), (-1, -1));
}

#[test]
fn shared_and_unshared_bytes_are_stored_alike() {
    let fixture = Fixture::new();
    let (shared, unshared) = (fixture.log(1), fixture.log(2));
    let kept = batch();
    shared.append_leader(vec![kept.clone()], 3, NOW).unwrap();
    unshared.append_leader(vec![batch()], 3, NOW).unwrap();
    assert_eq!(contents(&shared), contents(&unshared));
    assert_eq!(kept.base_offset, 0);
}

#[test]
fn nothing_counts_as_flushed_before_the_flush() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 2);
    assert_eq!((log.log_end(), log.flushed_end()), (2, 0));
    fixture.flush();
    assert_eq!(log.flushed_end(), 2);
    assert_eq!(fixture.told.lock().last(), Some(&(id(1), 2)));
}

#[test]
fn one_round_flushes_all_partitions() {
    let fixture = Fixture::new();
    let logs: Vec<_> = (1..50).map(|i| fixture.log(i)).collect();
    fixture.flush();
    fixture.told.lock().clear();
    logs.iter().for_each(|log| append(log, 1));
    let before = fixture.faults.changes();
    fixture.flush();
    assert_eq!(fixture.faults.changes() - before, 1, "one fdatasync for 49 partitions");
    assert_eq!(fixture.told.lock().len(), 49);
}

#[test]
fn a_replicated_topic_counts_as_flushed_at_once() {
    let fixture = Fixture::new();
    let log = fixture.log_with(1, replicated());
    append(&log, 3);
    assert_eq!((log.log_end(), log.flushed_end()), (3, 3));
}

#[test]
fn log_append_time_is_stamped_and_the_checksum_renewed() {
    let fixture = Fixture::new();
    let log = fixture.log_with(1, TopicSettings { message_timestamp_type: TimestampType::LogAppendTime, ..settings() });
    let appended = log.append_leader(vec![batch()], 0, NOW + 77).unwrap();
    assert_eq!(appended.log_append_time, Some(NOW + 77));
    let bytes = contents(&log);
    let stored = Batches::new(&bytes).next().unwrap().unwrap();
    stored.verify_crc().unwrap();
    assert_eq!(stored.header.max_timestamp, NOW + 77);
    assert_eq!(stored.header.attributes.timestamp_type(), TimestampType::LogAppendTime);
}

#[test]
fn a_repeated_batch_is_stored_once() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    let sent = Make { records: 2, producer: Some((9, 0, 0)), ..Make::default() };
    let first = log.append_leader(vec![sent.batch()], 0, NOW).unwrap();
    append(&log, 1);
    let again = log.append_leader(vec![sent.batch()], 0, NOW).unwrap();
    assert!(again.duplicate);
    assert_eq!((again.base_offset, again.last_offset), (first.base_offset, first.last_offset));
    assert_eq!(log.log_end(), 3);
    let gap = Make { producer: Some((9, 0, 3)), ..Make::default() };
    let refused = log.append_leader(vec![gap.batch()], 0, NOW).unwrap_err();
    assert!(matches!(refused, AppendError::OutOfOrderSequence { expected: 2, sequence: 3, .. }), "{refused}");
    let next = Make { producer: Some((9, 1, 0)), ..Make::default() };
    log.append_leader(vec![next.batch()], 0, NOW).unwrap();
    let stale = Make { producer: Some((9, 0, 2)), ..Make::default() };
    let refused = log.append_leader(vec![stale.batch()], 0, NOW).unwrap_err();
    assert!(matches!(refused, AppendError::InvalidProducerEpoch { current: 1, .. }), "{refused}");
}

#[test]
fn idempotence_survives_a_kill_and_a_lost_snapshot() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    let sent = |sequence| Make { producer: Some((9, 0, sequence)), ..Make::default() }.batch();
    for sequence in 0..30 {
        log.append_leader(vec![sent(sequence)], 0, NOW).unwrap();
        if sequence == 20 {
            fixture.tier.checkpoint().unwrap();
        }
    }
    let producers = log.producers();
    drop(log);
    let fixture = fixture.killed();
    let log = fixture.log(1);
    assert_eq!(log.producers(), producers);
    assert!(log.append_leader(vec![sent(29)], 0, NOW).unwrap().duplicate);
    assert!(!log.append_leader(vec![sent(30)], 0, NOW).unwrap().duplicate);
}

#[test]
fn silent_producers_are_forgotten() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    log.append_leader(vec![Make { producer: Some((9, 0, 0)), ..Make::default() }.batch()], 0, NOW).unwrap();
    log.roll_if_due(NOW + 1000).unwrap();
    assert_eq!(log.producers().len(), 1);
    for minute in 1..=24 * 60 {
        log.roll_if_due(NOW + minute * 60_000).unwrap();
    }
    assert_eq!(log.producers().len(), 0);
}

#[test]
fn a_stale_leader_cannot_append() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    log.begin_epoch(4).unwrap();
    let refused = log.append_leader(vec![batch()], 3, NOW).unwrap_err();
    assert!(matches!(refused, AppendError::StaleLeaderEpoch { latest: 4, .. }), "{refused}");
    assert_eq!(log.latest_epoch(), 4);
}

#[test]
fn a_segment_closes_by_size_and_by_age() {
    let fixture = Fixture::new();
    let log = fixture.log_with(1, TopicSettings { segment_ms: 1000, ..settings() });
    append(&log, 12);
    let sizes: Vec<_> = log.segments().iter().map(|segment| (segment.size_bytes <= 1024, segment.closed)).collect();
    assert_eq!(sizes, [(true, true), (true, false)]);
    assert!(!log.roll_if_due(NOW + 1000).unwrap());
    assert!(log.roll_if_due(NOW + 1001).unwrap(), "an idle segment closes");
    assert!(!log.roll_if_due(NOW + 9999).unwrap(), "an empty one does not");
    assert_eq!(log.active_segment_base(), 12);
    log.append_leader(vec![batch()], 0, NOW + 2000).unwrap();
    log.append_leader(vec![batch()], 0, NOW + 3001).unwrap();
    assert_eq!(log.active_segment_base(), 13, "the first append closes an old segment too");
}

#[test]
fn a_batch_larger_than_a_segment_gets_a_segment_of_its_own() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 1);
    log.append_leader(vec![Make { value_len: 3000, ..Make::default() }.batch()], 0, NOW).unwrap();
    append(&log, 1);
    assert_eq!(log.segments().iter().map(|segment| segment.base_offset).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn a_segment_closes_before_a_relative_offset_overflows() {
    let fixture = Fixture::new();
    let log = fixture.log_with(1, TopicSettings { segment_bytes: 1 << 20, ..settings() });
    append(&log, 1);
    let far = i64::from(i32::MAX) + 5;
    log.append_follower(&Make::default().at(far, 0)).unwrap();
    assert_eq!(log.active_segment_base(), far);
    assert_eq!(log.segments()[0].next_offset, far);
    assert_eq!(shape(&contents(&log)), [(0, 0), (far, 0)]);
}

#[test]
fn a_follower_takes_what_the_leader_assigned() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    let mut records = Make::default().at(0, 2).to_vec();
    records.extend_from_slice(&Make { records: 2, ..Make::default() }.at(5, 3));
    log.append_follower(&Bytes::from(records.clone())).unwrap();
    assert_eq!(contents(&log), records);
    assert_eq!(log.log_end(), 7);
    assert_eq!(log.end_offset_for_epoch(2), (2, 5));
    let behind = log.append_follower(&Make::default().at(6, 3)).unwrap_err();
    assert!(matches!(behind, AppendError::NotContiguous { base_offset: 6, log_end: 7, .. }), "{behind}");
    let older = log.append_follower(&Make::default().at(7, 2)).unwrap_err();
    assert!(matches!(older, AppendError::StaleLeaderEpoch { .. }), "{older}");
    let mut flipped = Make::default().at(7, 3).to_vec();
    flipped[70] ^= 1;
    let damaged = log.append_follower(&Bytes::from(flipped)).unwrap_err();
    assert!(matches!(damaged, AppendError::Invalid { .. }), "{damaged}");
    assert!(matches!(log.append_follower(&Bytes::new()).unwrap_err(), AppendError::Empty(_)));
    assert_eq!(contents(&log), records);
}

#[test]
fn what_a_follower_takes_teaches_it_producers_and_epochs() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    let first = Make { producer: Some((9, 0, 0)), records: 3, ..Make::default() };
    let second = Make { producer: Some((9, 0, 3)), ..Make::default() };
    // The archive's and the compacted log's offsets leave gaps, also in one answer.
    let mut records = first.at(0, 1).to_vec();
    records.extend_from_slice(&second.at(8, 1));
    log.append_follower(&Bytes::from(records)).unwrap();
    log.append_follower(&Make::default().at(20, 4)).unwrap();
    fixture.tier.wait_flushed().unwrap();
    assert_eq!(log.flushed_end(), 21);
    drop(log);
    let fixture = fixture.killed();
    let log = fixture.log(1);
    assert_eq!(log.epochs().iter().map(|e| (e.leader_epoch, e.start_offset)).collect::<Vec<_>>(), [(1, 0), (4, 20)]);
    let again = log.append_leader(vec![second.batch()], 5, NOW).unwrap();
    assert!(again.duplicate, "what the old leader took must not be stored twice by the new one");
    assert_eq!(again.base_offset, 8);
    let gap = Make { producer: Some((9, 0, 9)), ..Make::default() };
    assert!(matches!(log.append_leader(vec![gap.batch()], 5, NOW), Err(AppendError::OutOfOrderSequence { .. })));
}

#[test]
fn a_batch_that_is_cut_short_is_refused_whole() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    let mut records = Make::default().at(0, 1).to_vec();
    let second = Make::default().at(1, 1);
    records.extend_from_slice(&second[..second.len() - 3]);
    assert!(matches!(log.append_follower(&Bytes::from(records)), Err(AppendError::Invalid { .. })));
    assert_eq!(log.log_end(), 0);
}

#[test]
fn a_full_disk_refuses_the_whole_append_and_recovers_when_freed() {
    let fixture = Fixture::new();
    let log = fixture.log_with(1, TopicSettings { segment_bytes: 1 << 20, ..settings() });
    append(&log, 3);
    let before = contents(&log);
    fixture.faults.set_full(true);
    let refused = log.append_leader(vec![batch(), batch()], 0, NOW).unwrap_err();
    assert!(matches!(refused, AppendError::Storage(StorageError::Full { .. })), "{refused}");
    assert_eq!(contents(&log), before);
    assert_eq!(fixture.disk.bytes(&log.dir().join("00000000000000000000.log")), before, "nothing partial is left");
    assert_eq!(fixture.tier.failure(), None);
    fixture.faults.set_full(false);
    append(&log, 1);
    fixture.flush();
    assert_eq!(shape(&contents(&log)), [(0, 0), (1, 0), (2, 0), (3, 0)]);
}

#[test]
fn a_failed_sync_ends_all_acknowledgements() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    fixture.flush();
    append(&log, 1);
    fixture.faults.fail_syncs();
    assert!(fixture.tier.core().flush_round().is_err());
    assert_eq!(log.flushed_end(), 0);
    assert!(fixture.tier.failure().is_some());
    assert!(matches!(log.append_leader(vec![batch()], 0, NOW), Err(AppendError::Storage(StorageError::Failed(_)))));
    assert!(fixture.tier.core().flush_round().is_err(), "a failed sync is never repeated");
}

#[test]
fn a_failed_write_ends_all_acknowledgements() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 1);
    fixture.faults.fail_writes();
    assert!(log.append_leader(vec![batch()], 0, NOW).is_err());
    assert!(fixture.tier.failure().is_some());
    assert_eq!(log.log_end(), 1);
}

#[test]
fn a_full_journal_is_freed_by_a_checkpoint() {
    let fixture = Fixture::new();
    let log: Arc<_> = fixture.log(1);
    for _ in 0..400 {
        log.append_leader(vec![Make { value_len: 2000, ..Make::default() }.batch()], 0, NOW).unwrap();
        if fixture.tier.core().wants_checkpoint() {
            fixture.flush();
            fixture.tier.checkpoint().unwrap();
        }
    }
    let slots = crate::disk::Disk::list(&fixture.disk, &super::fixture::data("journal")).unwrap();
    assert!(slots.len() <= 8, "the journal has {} files", slots.len());
    assert_eq!(log.log_end(), 400);
}

#[test]
fn a_wall_clock_that_leaps_ahead_stamps_records_but_ages_nothing() {
    let fixture = Fixture::new();
    let stamped =
        TopicSettings { message_timestamp_type: TimestampType::LogAppendTime, segment_ms: 1000, ..settings() };
    let log = fixture.log_with(1, stamped);
    let sent = |id| Make { producer: Some((id, 0, 0)), ..Make::default() }.batch();
    log.append_leader(vec![sent(1)], 0, NOW).unwrap();
    let leapt = AppendTime { stamp_ms: NOW + 800 * DAY_MS, age_ms: NOW + 500 };
    let appended = log.append_leader(vec![sent(2)], 0, leapt).unwrap();
    assert_eq!(appended.log_append_time, Some(leapt.stamp_ms));
    assert!(!log.roll_if_due(NOW + 1000).unwrap(), "the segment is as young as before");
    log.roll().unwrap();
    assert_eq!(log.producers().len(), 2);
}

#[test]
fn a_clock_that_was_ahead_and_is_set_back_stops_nothing_and_ages_nothing() {
    let fixture = Fixture::new();
    let log = fixture.log_with(1, TopicSettings { segment_ms: 1000, ..settings() });
    append(&log, 1);
    log.append_leader(vec![batch()], 0, NOW + 800 * DAY_MS).unwrap();
    let sent = Make { producer: Some((9, 0, 0)), ..Make::default() };
    log.append_leader(vec![sent.batch()], 0, NOW).unwrap();
    assert_eq!(log.active_segment_base(), 2, "a segment from the future closes");
    log.roll().unwrap();
    assert_eq!(log.producers().len(), 1, "closing one asks the clock as it is now");
    assert!(log.append_leader(vec![sent.batch()], 0, NOW).unwrap().duplicate);
}
