//! Damage and lost files times everything that changes a log: truncation, bootstrap, new leader epochs, rolls, checkpoints, restarts. A
//! record below the log end is served as it was written or refused; it is never passed over, and no other partition notices.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use model::batch::HEADER_LEN;
use model::settings::TopicSettings;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::fixture::{Fixture, Make, NOW, append, contents, data, file, settings, shape};
use crate::disk::faulty::FaultyDisk;
use crate::disk::hooked::{Hook, HookedDisk, Moment};
use crate::disk::memory::MemoryDisk;
use crate::disk::{Disk, Open};
use crate::{PartitionLog, ReadError, ReadLimits, StorageError};

const SEEDS: u64 = 400;
const STEPS: usize = 25;

/// A batch as it was written.
#[derive(Debug, Clone, PartialEq)]
struct Written {
    base: i64,
    next: i64,
    bytes: Vec<u8>,
}

/// One partition under damage beside one without, and what both must hold.
struct World {
    fixture: Fixture,
    log: Arc<PartitionLog>,
    written: Vec<Written>,
    epoch: i32,
    damaged: bool,
    /// A field changed that no checksum covers: without the checkpoint nothing certainly tells that it did.
    unchecked: bool,
    /// A batch may claim the offsets of its neighbour.
    shifted: bool,
    /// Files of the log were lost.
    lost: bool,
    served: usize,
    refused: usize,
}

fn small() -> TopicSettings {
    TopicSettings { segment_bytes: 1500, index_interval_bytes: 200, ..settings() }
}

fn limits(max_bytes: usize) -> ReadLimits {
    ReadLimits { max_bytes, upper: i64::MAX, at_least_one: true }
}

impl World {
    fn new() -> Self {
        let fixture = Fixture::new();
        let log = fixture.log_with(1, small());
        append(&fixture.log(2), 5);
        World {
            fixture,
            log,
            written: Vec::new(),
            epoch: 0,
            damaged: false,
            unchecked: false,
            shifted: false,
            lost: false,
            served: 0,
            refused: 0,
        }
    }

    fn step(&mut self, rng: &mut StdRng) {
        match rng.random_range(0..15) {
            0 => drop(self.log.roll().unwrap()),
            1 => self.fixture.tier.checkpoint().unwrap(),
            2 => self.truncate(rng),
            3 => self.restart(rng),
            4 => {
                self.epoch += 1;
                self.log.begin_epoch(self.epoch).unwrap();
            }
            5 | 6 => self.flip(rng),
            7 => self.bootstrap(),
            8 => self.lose(rng),
            _ => self.append(rng),
        }
    }

    fn append(&mut self, rng: &mut StdRng) {
        let make = Make {
            records: rng.random_range(1..4),
            value_len: rng.random_range(10..60),
            salt: rng.random(),
            ..Make::default()
        };
        let base = self.log.log_end();
        self.log.append_leader(vec![make.batch()], self.epoch, NOW).unwrap();
        let next = self.log.log_end();
        self.written.push(Written { base, next, bytes: make.at(base, self.epoch).to_vec() });
    }

    /// As a follower does whose leader has less.
    fn truncate(&mut self, rng: &mut StdRng) {
        let offset = rng.random_range(self.log.local_start()..=self.log.log_end());
        let readable: Vec<i64> =
            (self.log.local_start()..offset).filter(|at| self.log.read(*at, limits(1)).is_ok()).collect();
        let end = self.log.truncate_to(offset).unwrap();
        assert_eq!(self.log.log_end(), end);
        let spans = |batch: &Written| batch.base < offset && batch.next > offset;
        let spanning = self.written.iter().find(|batch| spans(batch)).cloned();
        let expected = spanning.map_or(offset, |batch| batch.base);
        // What goes in addition was damaged: a leader that has it sends it again.
        assert!(end <= expected && !readable.iter().any(|at| (end..expected).contains(at)), "{end}, not {expected}");
        self.written.retain(|batch| batch.base < end);
    }

    fn restart(&mut self, rng: &mut StdRng) {
        if rng.random() {
            self.fixture.tier.close().unwrap();
        }
        let disk = self.fixture.disk.clone();
        // The disk stays locked while the partition's log or the tier lives.
        self.log = Fixture::new().log(1);
        self.fixture = Fixture::new();
        self.fixture = Fixture::on(disk.killed()).unwrap();
        self.log = self.fixture.log_with(1, small());
    }

    /// Files are gone when the tier is opened again, in any combination. The journal alone is what acknowledges records behind
    /// the checkpoint: it is lost after an orderly end, or with the checkpoint.
    fn lose(&mut self, rng: &mut StdRng) {
        let is_clean = rng.random();
        if is_clean {
            self.fixture.tier.close().unwrap();
        }
        let (disk, dir) = (self.fixture.disk.clone(), self.log.dir().to_owned());
        self.log = Fixture::new().log(1);
        self.fixture = Fixture::new();
        let disk = disk.killed();
        let is_uncertain = rng.random_bool(0.4) && !self.unchecked;
        let loses_history = rng.random_bool(0.4);
        if is_uncertain {
            let _ = disk.remove_file(&data("checkpoint"));
        }
        if (is_uncertain || is_clean) && rng.random() {
            for slot in disk.list(&data("journal")).unwrap() {
                disk.remove_file(&data("journal").join(slot.name)).unwrap();
            }
        }
        for entry in disk.list(&dir).unwrap() {
            let is_history = entry.name == "history";
            if (is_history && loses_history) || (!is_history && entry.name != "partition" && rng.random_bool(0.08)) {
                disk.remove_file(&dir.join(&entry.name)).unwrap();
                self.lost |= entry.name.ends_with(".log");
            }
        }
        self.fixture = Fixture::on(disk).unwrap();
        self.log = self.fixture.log_with(1, small());
        let end = self.log.log_end();
        if self.written.last().is_some_and(|last| last.next > end) {
            // Nothing is left that could tell of the last ones.
            assert!(is_uncertain && (self.lost || self.damaged), "the log ends at {end}");
            self.written.retain(|batch| batch.base < end);
        }
    }

    /// Flips a bit of a batch that is on disk, mostly in its header.
    fn flip(&mut self, rng: &mut StdRng) {
        if self.written.is_empty() {
            return;
        }
        let batch = &self.written[rng.random_range(0..self.written.len())];
        let segments = self.log.segments();
        let Some(segment) = segments.iter().rev().find(|segment| segment.base_offset <= batch.base) else { return };
        let before = self.written.iter().filter(|b| b.base >= segment.base_offset && b.base < batch.base);
        let position: usize = before.map(|batch| batch.bytes.len()).sum();
        let within = if rng.random_bool(0.7) { HEADER_LEN } else { batch.bytes.len() };
        let path = file(&self.log, &format!("{:020}.log", segment.base_offset));
        let field = rng.random_range(0..within);
        let at = position + field;
        // Two changes can fit each other: a batch takes the place of its neighbour, which is damaged.
        if self.shifted || (field == 7 && self.damaged) {
            return;
        }
        let is_there = self.fixture.disk.open(&path, Open::Existing).is_ok();
        if is_there && at < self.fixture.disk.bytes(&path).len() {
            self.fixture.disk.damage(&path, at, 1 << rng.random_range(0..8));
            self.damaged = true;
            self.shifted |= field == 7;
            // Base offset, and leader epoch.
            self.unchecked |= (0..8).contains(&field) || (12..16).contains(&field);
        }
    }

    /// Another replica begins at this one's local start.
    fn bootstrap(&self) {
        let state = self.log.bootstrap().unwrap();
        let replica = self.fixture.log_with(3, small());
        replica.reset_to_bootstrap(&state).unwrap();
        if let Ok(read) = self.log.read(self.log.local_start(), limits(1 << 20))
            && !read.records.is_empty()
        {
            replica.append_follower(&read.records).unwrap();
            assert!(contents(&replica).starts_with(&read.records));
        }
    }

    fn check(&mut self) {
        assert!(self.fixture.tier.failure().is_none(), "the tier has failed");
        let end = self.written.last().map_or(self.log.local_start(), |last| last.next);
        assert_eq!((self.log.log_start(), self.log.log_end()), (0, end));
        for i in 0..self.written.len() {
            let (base, next) = (self.written[i].base, self.written[i].next);
            for offset in base..next {
                self.check_read(i, offset);
            }
        }
        let neighbour = self.fixture.log(2);
        append(&neighbour, 1);
        assert_eq!(neighbour.read(0, limits(1)).unwrap().base_offset, 0);
    }

    fn check_read(&mut self, i: usize, offset: i64) {
        match self.log.read(offset, limits(1 << 20)) {
            Ok(read) => {
                assert!(!read.records.is_empty(), "nothing at {offset}, the log ends at {}", self.log.log_end());
                let right: Vec<u8> = self.written[i..].iter().flat_map(|batch| batch.bytes.clone()).collect();
                assert!(right.starts_with(&read.records), "wrong or missing records at {offset}");
                self.served += 1;
            }
            Err(ReadError::Storage(StorageError::Damaged { path, .. })) => {
                assert!(self.damaged || self.lost, "refused at {offset} without any damage");
                assert!(path.starts_with(self.log.dir()), "{path:?}");
                self.refused += 1;
            }
            // The first files are gone: whether they were evicted, the broker knows.
            Err(ReadError::OutOfRange { start, .. }) if self.lost && offset < start => self.refused += 1,
            Err(e) => panic!("at {offset}: {e}"),
        }
    }
}

#[test]
fn a_record_is_served_as_written_or_refused_whatever_happens_to_a_damaged_log() {
    let (mut served, mut refused) = (0, 0);
    for seed in 0..SEEDS {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::new();
        for step in 0..STEPS {
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                world.step(&mut rng);
                world.check();
            }));
            if let Err(panic) = checked {
                eprintln!("seed {seed}, step {step}");
                std::panic::resume_unwind(panic);
            }
        }
        served += world.served;
        refused += world.refused;
    }
    // Damage costs some records, not most of them.
    assert!(refused > 1000 && served > 4 * refused, "served {served}, refused {refused}");
}

/// 60 batches in one segment, all durable.
fn one_segment(fixture: &Fixture) -> Arc<PartitionLog> {
    let log = fixture.log_with(1, TopicSettings { segment_bytes: 1 << 20, ..settings() });
    append(&log, 60);
    fixture.flush();
    log
}

/// The damaged batch is refused, and all others are served.
fn assert_refused_not_skipped(log: &PartitionLog, damaged: i64) {
    let refused = log.read(damaged, limits(1)).unwrap_err();
    assert!(matches!(refused, ReadError::Storage(StorageError::Damaged { .. })), "{refused}");
    for offset in (0..log.log_end()).filter(|offset| *offset != damaged) {
        assert_eq!(log.read(offset, limits(1)).unwrap().base_offset, offset);
    }
}

#[test]
fn a_truncation_behind_a_damaged_header_skips_no_record() {
    let batch_len = Make::default().at(0, 0).len();
    // The base offset, the length, and the magic byte of the third batch.
    for (field, mask) in [(7, 0x10), (0, 0x40), (11, 0x20), (10, 0x01), (16, 0x01)] {
        let fixture = Fixture::new();
        let log = one_segment(&fixture);
        fixture.tier.checkpoint().unwrap();
        fixture.disk.damage(&file(&log, "00000000000000000000.log"), 2 * batch_len + field, mask);
        assert_eq!(log.truncate_to(50).unwrap(), 50);
        append(&log, 3);
        assert_eq!(log.size_bytes(), (53 * batch_len) as u64, "no byte before the cut may go");
        assert_refused_not_skipped(&log, 2);
        drop(log);
        let fixture = fixture.killed();
        let log = fixture.log(1);
        assert_eq!((log.log_end(), log.size_bytes()), (53, (53 * batch_len) as u64));
        assert_refused_not_skipped(&log, 2);
    }
}

#[test]
fn a_damaged_batch_and_a_truncation_fail_neither_the_tier_nor_the_next_start() {
    let batch_len = Make::default().at(0, 0).len();
    // In the records, and in the header.
    for at in [HEADER_LEN + 5, 9] {
        for has_checkpoint in [false, true] {
            let fixture = Fixture::new();
            let log = one_segment(&fixture);
            append(&fixture.log(2), 5);
            fixture.tier.checkpoint().unwrap();
            fixture.disk.damage(&file(&log, "00000000000000000000.log"), batch_len + at, 0x04);
            assert_eq!(log.truncate_to(40).unwrap(), 40);
            assert!(fixture.tier.failure().is_none());
            if has_checkpoint {
                fixture.tier.checkpoint().unwrap();
            }
            append(&fixture.log(2), 5);
            drop(log);
            let fixture = fixture.killed();
            assert_eq!(fixture.log(2).log_end(), 10);
            let log = fixture.log(1);
            assert_eq!(log.log_end(), 40);
            assert_refused_not_skipped(&log, 1);
        }
    }
}

#[test]
fn a_truncation_into_a_damaged_batch_removes_all_of_it() {
    let batch_len = Make { records: 4, ..Make::default() }.at(0, 0).len();
    let fixture = Fixture::new();
    let log = fixture.log_with(1, TopicSettings { segment_bytes: 1 << 20, ..settings() });
    for _ in 0..10 {
        log.append_leader(vec![Make { records: 4, ..Make::default() }.batch()], 0, NOW).unwrap();
    }
    fixture.flush();
    // Offsets 20 to 23.
    fixture.disk.damage(&file(&log, "00000000000000000000.log"), 5 * batch_len + 9, 0x40);
    assert_eq!(log.truncate_to(22).unwrap(), 20);
    append(&log, 2);
    let expected = contents(&log);
    drop(log);
    let fixture = fixture.killed();
    assert_eq!(contents(&fixture.log(1)), expected);
}

#[test]
fn damage_in_a_closed_segment_is_refused_also_without_checkpoint_and_journal() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 40);
    let segments = log.segments();
    fixture.tier.close().unwrap();
    let batch_len = Make::default().at(0, 0).len();
    fixture.disk.damage(&file(&log, "00000000000000000000.log"), batch_len + 9, 0x40);
    // The last batch of the second segment.
    let second = segments[1];
    let at = usize::try_from(second.size_bytes).unwrap() - batch_len + 9;
    fixture.disk.damage(&file(&log, &format!("{:020}.log", second.base_offset)), at, 0x40);
    drop(log);
    fixture.disk.remove_file(&data("checkpoint")).unwrap();
    for entry in fixture.disk.list(&data("journal")).unwrap() {
        fixture.disk.remove_file(&data("journal").join(entry.name)).unwrap();
    }
    let fixture = fixture.killed();
    assert_eq!(fixture.tier.recovery_report().damage.len(), 2, "{:?}", fixture.tier.recovery_report());
    let log = fixture.log(1);
    assert_eq!(log.log_end(), 40);
    for offset in 0..40 {
        match log.read(offset, limits(1)) {
            Ok(read) => assert_eq!(read.base_offset, offset),
            Err(e) => assert!([1, second.next_offset - 1].contains(&offset), "{offset}: {e}"),
        }
    }
}

#[test]
fn what_a_synced_segment_has_lost_at_its_end_is_refused() {
    let fixture = Fixture::new();
    let log = fixture.log(1);
    append(&log, 5);
    fixture.tier.close().unwrap();
    let path = file(&log, "00000000000000000000.log");
    drop(log);
    fixture.disk.open(&path, Open::Existing).unwrap().set_len(200).unwrap();
    let mut fixture = fixture.killed();
    append(&fixture.log(1), 2);
    for _ in 0..2 {
        let log = fixture.log(1);
        for offset in 0..7 {
            match log.read(offset, limits(1)) {
                Ok(read) => assert_eq!(read.base_offset, offset),
                Err(e) => assert!((2..5).contains(&offset), "{offset}: {e}"),
            }
        }
        drop(log);
        fixture = fixture.killed();
    }
}

#[test]
fn another_replicas_records_put_damage_right() {
    let batch_len = Make::default().at(0, 0).len();
    for at in 0..batch_len {
        let fixture = Fixture::new();
        let log = one_segment(&fixture);
        fixture.tier.checkpoint().unwrap();
        let expected = contents(&log);
        // Also the last batch, behind which no other tells where the damage ends.
        for batch in [0, 30, 59] {
            fixture.disk.damage(&file(&log, "00000000000000000000.log"), batch * batch_len + at, 0x02);
        }
        while let Some(damaged) = log.damaged_range(0).unwrap() {
            let from = usize::try_from(damaged.from).unwrap() * batch_len;
            let right = Bytes::copy_from_slice(&expected[from..]);
            let wrong = Make { salt: 1, value_len: 21, ..Make::default() }.at(damaged.from, 0);
            let other_epoch = Make::default().at(damaged.from, 7);
            for wrong in [&Bytes::new(), &wrong, &other_epoch, &right.slice(batch_len..)] {
                assert!(!log.mend(damaged, wrong).unwrap(), "byte {at}");
            }
            assert!(log.mend(damaged, &right).unwrap(), "byte {at}: {damaged:?}");
        }
        assert_eq!(contents(&log), expected, "byte {at}");
        let disk = fixture.disk.power_cut(&mut StdRng::seed_from_u64(1));
        drop(log);
        assert_eq!(contents(&Fixture::on(disk).unwrap().log(1)), expected);
    }
}

type Meanwhile = Box<dyn FnOnce() + Send>;

/// A tier on a disk whose next read of a segment calls `meanwhile` first, once that is set.
fn fixture_that_calls(meanwhile: Arc<Mutex<Option<Meanwhile>>>) -> Fixture {
    let disk = MemoryDisk::default();
    let hook: Hook = Arc::new(move |moment, path: &Path| {
        if moment == Moment::Read && path.extension().is_some_and(|kind| kind == "log") {
            let call = meanwhile.lock().take();
            call.into_iter().for_each(|call| call());
        }
    });
    let (faulty, faults) = FaultyDisk::new(Arc::new(HookedDisk::new(Arc::new(disk.clone()), hook)));
    Fixture::with(disk, Arc::new(faulty), faults).unwrap()
}

#[test]
fn mending_a_segment_keeps_no_append_waiting_while_it_is_read() {
    let (reading, is_read) = mpsc::channel();
    let (append_done, appended) = mpsc::channel();
    let meanwhile: Arc<Mutex<Option<Meanwhile>>> = Arc::default();
    let fixture = fixture_that_calls(Arc::clone(&meanwhile));
    let log = one_segment(&fixture);
    fixture.tier.checkpoint().unwrap();
    let expected = contents(&log);
    fixture.disk.damage(&file(&log, "00000000000000000000.log"), 70, 0x02);
    let damaged = log.damaged_range(0).unwrap().unwrap();
    *meanwhile.lock() = Some(Box::new(move || {
        reading.send(()).unwrap();
        appended.recv_timeout(Duration::from_secs(10)).expect("an append ended while the segment was read");
    }));
    std::thread::scope(|scope| {
        let log = &log;
        scope.spawn(move || {
            is_read.recv().unwrap();
            append(log, 1);
            append_done.send(()).unwrap();
        });
        assert!(log.mend(damaged, &Bytes::copy_from_slice(&expected)).unwrap());
    });
    assert!(contents(&log).starts_with(&expected));
}

#[test]
fn a_segment_that_goes_away_while_it_is_read_is_not_mended() {
    let meanwhile: Arc<Mutex<Option<Meanwhile>>> = Arc::default();
    let fixture = fixture_that_calls(Arc::clone(&meanwhile));
    let log = fixture.log(1);
    append(&log, 40);
    let second = log.segments()[1].base_offset;
    let before: u64 = log.segments()[..1].iter().map(|segment| segment.size_bytes).sum();
    let expected = Bytes::from(contents(&log)).slice(usize::try_from(before).unwrap()..);
    fixture.disk.damage(&file(&log, &format!("{second:020}.log")), 70, 0x02);
    let damaged = log.damaged_range(second).unwrap().unwrap();
    let cut = Arc::clone(&log);
    *meanwhile.lock() = Some(Box::new(move || {
        cut.truncate_to(second - 1).unwrap();
    }));
    assert!(!log.mend(damaged, &expected).unwrap());
    assert_eq!(log.log_end(), second - 1);
}

#[test]
fn a_segment_that_is_cut_before_it_is_read_is_not_mended() {
    let fixture = Fixture::new();
    let log = one_segment(&fixture);
    let expected = Bytes::from(contents(&log));
    fixture.disk.damage(&file(&log, "00000000000000000000.log"), 70, 0x02);
    let damaged = log.damaged_range(0).unwrap().unwrap();
    log.truncate_to(0).unwrap();
    assert!(!log.mend(damaged, &expected).unwrap());
    append(&log, 3);
    assert_eq!(shape(&contents(&log)).len(), 3);
}
