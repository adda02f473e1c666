//! High watermark and ISR as tables: this node is 1, its followers are 2 and 3.

use super::*;

const LAG: Duration = Duration::from_secs(30);

fn leadership(isr: &[NodeId], partition_epoch: i32) -> Leadership {
    Leadership {
        leader: 1,
        leader_epoch: 5,
        partition_epoch,
        replicas: vec![1, 2, 3],
        isr: isr.to_vec(),
        ..Leadership::unknown()
    }
}

fn leading(isr: &[NodeId], epoch_start: Offset, now: Instant) -> Leading {
    Leading::new(1, &leadership(isr, 7), epoch_start, now)
}

fn fetch(node_id: NodeId, offset: Offset) -> FollowerFetch {
    FollowerFetch { node_id, broker_epoch: 10 + i64::from(node_id), offset, log_start: 0 }
}

fn everybody(_: NodeId, _: Option<i64>) -> bool {
    true
}

#[test]
fn nothing_is_committed_before_every_member_has_fetched() {
    let now = Instant::now();
    let mut leading = leading(&[1, 2, 3], 100, now);
    assert_eq!(leading.high_watermark(90, 120, 1), 90);
    leading.note_fetch(fetch(2, 110), 120, now);
    assert_eq!(leading.high_watermark(90, 120, 1), 90, "3 may be anywhere");
    leading.note_fetch(fetch(3, 105), 120, now);
    assert_eq!(leading.high_watermark(90, 120, 1), 105);
    assert_eq!(leading.high_watermark(90, 103, 1), 103, "the leader's own flush counts as well");
}

#[test]
fn an_isr_below_the_minimum_commits_nothing() {
    let now = Instant::now();
    let leading = leading(&[1], 0, now);
    assert_eq!(leading.high_watermark(90, 120, 2), 90);
    assert_eq!(leading.high_watermark(90, 120, 1), 120);
    let alone = Leadership { replicas: vec![1], ..leadership(&[1], 7) };
    let alone = Leading::new(1, &alone, 0, now);
    assert_eq!(alone.high_watermark(90, 120, 2), 120, "one replica cannot be two");
}

#[test]
fn who_may_be_in_the_isr_counts_until_the_answer_is_there() {
    let now = Instant::now();
    let mut leading = leading(&[1, 2], 100, now);
    leading.note_fetch(fetch(2, 120), 120, now);
    leading.note_fetch(fetch(3, 110), 120, now);
    assert_eq!(leading.high_watermark(105, 120, 1), 120);
    let wanted = leading.want_isr(105, LAG, now, everybody).unwrap();
    assert_eq!((&wanted.old, &wanted.isr, wanted.replaces), (&vec![1, 2], &vec![1, 2, 3], 7));
    assert_eq!(leading.high_watermark(105, 120, 1), 110, "3 may be a member already");
    assert_eq!(leading.want_isr(105, LAG, now, everybody), None, "an answer is awaited");
    leading.asked(&wanted, Asked::Refused, now);
    assert_eq!(leading.high_watermark(105, 120, 1), 120);

    let wanted = leading.want_isr(105, LAG, now, everybody).unwrap();
    leading.follow(&leadership(&[1, 2, 3], 8), now);
    leading.asked(&wanted, Asked::Answered, now);
    assert_eq!(leading.high_watermark(105, 120, 1), 110);
    assert_eq!(leading.want_isr(105, LAG, now, everybody), None);
}

#[test]
fn who_may_have_left_the_isr_counts_until_the_answer_is_there() {
    let (now, late) = (Instant::now(), Instant::now() + 2 * LAG);
    let mut leading = leading(&[1, 2, 3], 100, now);
    leading.note_fetch(fetch(3, 110), 120, now);
    leading.note_fetch(fetch(2, 120), 120, late);
    let wanted = leading.want_isr(100, LAG, late, everybody).unwrap();
    assert_eq!(wanted.isr, [1, 2]);
    assert_eq!(leading.high_watermark(105, 120, 1), 110);
    leading.follow(&leadership(&[1, 2], 8), late);
    assert_eq!(leading.high_watermark(105, 120, 1), 120);
}

#[test]
fn without_an_answer_the_same_is_asked_again() {
    let now = Instant::now();
    let mut leading = leading(&[1, 2], 100, now);
    leading.note_fetch(fetch(3, 120), 120, now);
    let first = leading.want_isr(100, LAG, now, everybody).unwrap();
    leading.asked(&first, Asked::Open, now);
    let again = leading.want_isr(100, LAG, now, |_, _| false).unwrap();
    assert_eq!(again, first, "what is open is not given up for something else");
    leading.asked(&again, Asked::Refused, now);
    assert!(leading.want_isr(100, LAG, now, everybody).is_some(), "the first attempt may still be on its way");
    leading.asked(&again, Asked::Refused, now + OPEN_FOR);
    let wanted = leading.want_isr(100, LAG, now, |id, _| id != 2).unwrap();
    assert_eq!(wanted.isr, [1, 3]);
}

#[test]
fn a_follower_joins_when_it_has_what_is_committed_and_what_the_epoch_began_with() {
    let now = Instant::now();
    let mut leading = leading(&[1, 2], 100, now);
    for (offset, joins) in [(80, false), (99, false), (100, true)] {
        leading.note_fetch(fetch(3, offset), 120, now);
        assert_eq!(leading.could_join(3, 80), joins, "at {offset}");
    }
    assert!(!leading.could_join(3, 101));
    assert_eq!(leading.want_isr(80, LAG, now, |id, epoch| id != 3 || epoch != Some(13)), None, "it is not alive");
    assert_eq!(leading.want_isr(80, LAG, now, everybody).unwrap().isr, [1, 2, 3]);
}

#[test]
fn a_member_that_is_lost_leaves_at_once_and_one_that_lags_after_its_patience() {
    let now = Instant::now();
    let mut leading = leading(&[1, 2, 3], 100, now);
    leading.note_fetch(fetch(2, 50), 120, now);
    assert_eq!(leading.want_isr(100, LAG, now + LAG, everybody), None);
    assert_eq!(leading.want_isr(100, LAG, now, |id, _| id != 2).unwrap().isr, [1, 3]);
}

#[test]
fn a_follower_that_is_always_a_little_behind_stays() {
    let start = Instant::now();
    let mut leading = leading(&[1, 2], 0, start);
    for i in 0..10 {
        // Each fetch begins where the log ended at the fetch before.
        leading.note_fetch(fetch(2, 100 * i), 100 * (i + 1), start + 10 * LAG * u32::try_from(i).unwrap());
    }
    let now = start + 90 * LAG;
    // It had everything of then at the last but one fetch.
    assert_eq!(leading.want_isr(0, 10 * LAG, now, everybody), None);
    assert_eq!(leading.want_isr(0, 9 * LAG, now, everybody).unwrap().isr, [1]);
}

#[test]
fn a_follower_that_stands_still_does_not_come_back_while_nothing_is_written() {
    let (start, late) = (Instant::now(), Instant::now() + 2 * LAG);
    let mut leading = leading(&[1, 2], 100, start);
    leading.note_fetch(fetch(2, 100), 100, start);
    leading.follow(&leadership(&[1], 8), late);
    assert!(leading.could_join(2, 100));
    assert_eq!(leading.want_isr(100, LAG, late, everybody), None);
    leading.note_fetch(fetch(2, 100), 100, late);
    assert_eq!(leading.want_isr(100, LAG, late, everybody).unwrap().isr, [1, 2]);
}

#[test]
fn an_older_process_and_a_stranger_are_not_admitted() {
    let now = Instant::now();
    let mut leading = leading(&[1, 2], 0, now);
    assert!(!leading.admits(4, 14));
    assert!(leading.admits(2, 12));
    leading.note_fetch(fetch(2, 0), 0, now);
    assert!(!leading.admits(2, 11));
    assert!(leading.admits(2, 13));
}
