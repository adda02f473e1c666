//! Producer state, in tables of steps.

use model::batch::Attributes;

use super::*;

fn batch(producer_id: i64, epoch: i16, sequence: i32, records: i32, base_offset: i64) -> BatchHeader {
    BatchHeader {
        base_offset,
        batch_length: 100,
        leader_epoch: 0,
        magic: 2,
        crc: 0,
        attributes: Attributes::default(),
        last_offset_delta: records - 1,
        base_timestamp: 1000,
        max_timestamp: 1000 + base_offset,
        producer_id,
        producer_epoch: epoch,
        base_sequence: sequence,
        record_count: records,
    }
}

fn states(batches: &[BatchHeader]) -> ProducerStates {
    let mut states = ProducerStates::default();
    for batch in batches {
        assert_eq!(states.judge(batch, &[]), Verdict::Next, "{batch:?}");
        states.apply(batch, 5000);
    }
    states
}

#[test]
fn a_repeated_batch_is_found_among_the_last_five() {
    let stored: Vec<_> = (0..6).map(|i| batch(7, 0, i * 2, 2, i64::from(i) * 2)).collect();
    let states = states(&stored);
    for stored in &stored[1..] {
        let Verdict::Duplicate(mark) = states.judge(stored, &[]) else { panic!("{stored:?} was not found") };
        assert_eq!((mark.base_offset, mark.last_offset), (stored.base_offset, stored.last_offset()));
    }
    assert_eq!(states.judge(&stored[0], &[]), Verdict::OutOfOrder { expected: 12 }, "the sixth last is forgotten");
}

#[test]
fn a_gap_or_a_partial_repeat_is_out_of_order() {
    let states = states(&[batch(7, 0, 0, 5, 0)]);
    assert_eq!(states.judge(&batch(7, 0, 6, 1, 5), &[]), Verdict::OutOfOrder { expected: 5 });
    assert_eq!(states.judge(&batch(7, 0, 3, 2, 5), &[]), Verdict::OutOfOrder { expected: 5 });
    assert_eq!(states.judge(&batch(7, 0, 5, 1, 5), &[]), Verdict::Next);
}

#[test]
fn sequences_wrap_to_zero_after_the_largest() {
    let mut states = ProducerStates::default();
    states.apply(&batch(7, 0, i32::MAX - 1, 2, 0), 0);
    assert_eq!(states.judge(&batch(7, 0, 0, 1, 2), &[]), Verdict::Next);
    let mut states = ProducerStates::default();
    // One batch across the edge: the numbers MAX, 0, 1.
    let across = batch(7, 0, i32::MAX, 3, 0);
    states.apply(&across, 0);
    assert_eq!(states.judge(&batch(7, 0, 2, 1, 3), &[]), Verdict::Next);
    assert!(matches!(states.judge(&across, &[]), Verdict::Duplicate(_)));
}

#[test]
fn a_new_epoch_begins_at_sequence_zero_and_fences_the_old() {
    let mut states = states(&[batch(7, 3, 0, 5, 0)]);
    assert_eq!(states.judge(&batch(7, 4, 5, 1, 5), &[]), Verdict::OutOfOrder { expected: 0 });
    let renewed = batch(7, 4, 0, 1, 5);
    assert_eq!(states.judge(&renewed, &[]), Verdict::Next);
    states.apply(&renewed, 0);
    assert_eq!(states.judge(&batch(7, 3, 5, 1, 6), &[]), Verdict::Fenced { current: 4 });
}

#[test]
fn an_unknown_producer_may_begin_anywhere() {
    assert_eq!(ProducerStates::default().judge(&batch(7, 2, 40, 1, 0), &[]), Verdict::Next);
}

#[test]
fn batches_of_one_append_follow_each_other() {
    let states = states(&[batch(7, 0, 0, 1, 0)]);
    let before = [batch(7, 0, 1, 2, 1)];
    assert_eq!(states.judge(&batch(7, 0, 3, 1, 3), &before), Verdict::Next);
    assert_eq!(states.judge(&batch(7, 0, 4, 1, 3), &before), Verdict::OutOfOrder { expected: 3 });
}

#[test]
fn silent_producers_are_forgotten_unless_a_transaction_is_open() {
    let mut states = ProducerStates::default();
    states.apply(&batch(1, 0, 0, 1, 0), 1000);
    states.apply(&batch(2, 0, 0, 1, 1), 1500);
    let mut open = batch(3, 0, 0, 1, 2);
    open.attributes = open.attributes.with_transactional(true);
    states.apply(&open, 1500);
    states.expire(2000, 1000);
    assert_eq!(states.active().iter().map(|p| p.producer_id).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(states.active()[1].current_txn_start_offset, Some(2));
}

#[test]
fn a_marker_ends_the_transaction() {
    let mut open = batch(3, 0, 0, 1, 2);
    open.attributes = open.attributes.with_transactional(true);
    let mut marker = batch(3, 0, -1, 1, 3);
    marker.attributes = marker.attributes.with_transactional(true).with_control(true);
    let states = states(&[open, marker]);
    assert_eq!(states.active()[0].current_txn_start_offset, None);
    assert_eq!(states.judge(&batch(3, 0, 1, 1, 4), &[]), Verdict::Next);
}

#[test]
fn the_stored_form_is_pinned() {
    let states = states(&[batch(7, 3, 0, 5, 0)]);
    let hex: String = states.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, include_str!("golden.hex").trim());
}

#[test]
fn damaged_state_is_not_taken() {
    let bytes = states(&[batch(7, 3, 0, 5, 0), batch(9, 0, 0, 1, 5)]).encode();
    assert_eq!(ProducerStates::decode(&bytes).map(|states| states.encode()), Some(bytes.clone()));
    for i in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[i] ^= 0x10;
        assert_eq!(ProducerStates::decode(&damaged), None, "byte {i}");
        assert_eq!(ProducerStates::decode(&bytes[..i]), None, "cut at {i}");
    }
}

#[test]
fn a_leap_of_the_clock_forgets_nobody() {
    const DAY: i64 = 86_400_000;
    let day = DAY.unsigned_abs();
    let mut states = ProducerStates::default();
    states.apply(&batch(1, 0, 0, 1, 0), 100 * DAY);
    // Back, and another producer appends; the state is stored, and read by a process whose clock is right again.
    states.apply(&batch(2, 0, 0, 1, 1), 10 * DAY);
    let mut states = ProducerStates::decode(&states.encode()).unwrap();
    states.expire(101 * DAY, day);
    states.expire(400 * DAY, day);
    assert_eq!(states.active().len(), 2);
    // What really passes counts.
    for minute in 0..day / 60_000 {
        states.expire(400 * DAY + i64::try_from(minute).unwrap() * 60_000, day);
    }
    assert_eq!(states.active().len(), 0);
}

#[test]
fn a_client_with_a_new_producer_for_each_batch_is_remembered_within_a_bound() {
    let mut states = ProducerStates::default();
    let mut open = batch(0, 0, 0, 1, 0);
    open.attributes = Attributes(1 << 4);
    states.apply(&open, 1000);
    let mut forgotten = 0;
    let count = i64::try_from(PRODUCERS_MAX).unwrap() * 2;
    for id in 1..count {
        forgotten += states.apply(&batch(id, 0, 0, 1, id), 1000);
        assert!(states.producers.len() <= PRODUCERS_MAX);
    }
    assert_eq!(states.producers.len() + forgotten, usize::try_from(count).unwrap());
    let newest = count - i64::try_from(PRODUCERS_MAX - FORGOTTEN_AT_ONCE).unwrap() + 1;
    for id in (newest..count).step_by(100) {
        assert!(matches!(states.judge(&batch(id, 0, 0, 1, id), &[]), Verdict::Duplicate(_)), "{id} wrote lately");
    }
    assert!(states.producers.contains_key(&0), "its transaction is open");
    assert_eq!(states.judge(&batch(1, 0, 0, 1, 0), &[]), Verdict::Next, "as after its expiration");
}
