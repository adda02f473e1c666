//! A disk that changes single bits while the tier runs: what is read is what was written, or is refused.

use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::fixture::{Fixture, Make, NOW, contents, file, settings};
use crate::{PartitionLog, ReadError, ReadLimits, StorageError};

const BATCHES: i64 = 12;
const RECORDS: i64 = 3;

/// Three epochs, closed segments and an open one, timestamps that ascend.
fn written(fixture: &Fixture) -> std::sync::Arc<PartitionLog> {
    let settings = model::settings::TopicSettings { segment_bytes: 700, index_interval_bytes: 100, ..settings() };
    let log = fixture.log_with(1, settings);
    for i in 0..BATCHES {
        let make =
            Make { records: RECORDS, timestamp: NOW + i * 10, salt: u8::try_from(i).unwrap(), ..Make::default() };
        log.append_leader(vec![make.batch()], i32::try_from(i / 5).unwrap(), NOW).unwrap();
    }
    fixture.flush();
    log
}

/// What a reader gets at each offset; none where it is refused because of damage.
fn answers(log: &PartitionLog) -> Vec<Option<Vec<u8>>> {
    let read = |from| match log.read(from, ReadLimits { max_bytes: 1 << 20, upper: i64::MAX, at_least_one: true }) {
        Ok(read) => {
            assert!(read.next_offset > from, "no progress at {from}");
            Some(read.records.to_vec())
        }
        Err(ReadError::Storage(StorageError::Damaged { .. })) => None,
        Err(e) => panic!("at {from}: {e}"),
    };
    (0..BATCHES * RECORDS).map(read).collect()
}

/// The first offset at or after each time, as far as it can be told.
fn times(log: &PartitionLog) -> Vec<Option<Option<i64>>> {
    let find = |time| match log.offset_for_timestamp(NOW + time) {
        Ok(found) => Some(found.map(|found| found.offset)),
        Err(ReadError::Storage(StorageError::Damaged { .. })) => None,
        Err(e) => panic!("at {time}: {e}"),
    };
    (0..BATCHES * 10).step_by(3).map(find).collect()
}

fn is_refused_or_a_part<T>(found: Option<&[T]>, whole: Option<&[T]>) -> bool
where
    T: PartialEq,
{
    match (found, whole) {
        (Some(found), Some(whole)) => whole.starts_with(found),
        (found, _) => found.is_none(),
    }
}

#[test]
fn a_changed_bit_of_a_segment_is_never_served() {
    let fixture = Fixture::new();
    let log = written(&fixture);
    let (expected, expected_times) = (answers(&log), times(&log));
    let mut rng = StdRng::seed_from_u64(7);
    for segment in log.segments() {
        let path = file(&log, &format!("{:020}.log", segment.base_offset));
        for position in 0..usize::try_from(segment.size_bytes).unwrap() {
            let mask = 1 << rng.random_range(0..8);
            fixture.disk.damage(&path, position, mask);
            let found = answers(&log);
            for (offset, (found, whole)) in found.iter().zip(&expected).enumerate() {
                let is_right = is_refused_or_a_part(found.as_deref(), whole.as_deref());
                assert!(is_right, "{path:?}, byte {position}, mask {mask}: wrong bytes at offset {offset}");
            }
            let refused = found.iter().filter(|found| found.is_none()).count();
            let in_segment = usize::try_from(segment.next_offset - segment.base_offset).unwrap();
            assert!((1..=in_segment).contains(&refused), "{path:?}, byte {position}: {refused} offsets are refused");
            for (found, right) in times(&log).iter().zip(&expected_times) {
                assert!(found.is_none() || found == right, "{path:?}, byte {position}, mask {mask}: {found:?}");
            }
            fixture.disk.damage(&path, position, mask);
        }
    }
    assert_eq!(answers(&log), expected);
}

#[test]
fn a_changed_bit_of_an_index_changes_no_answer() {
    let fixture = Fixture::new();
    let log = written(&fixture);
    let (expected, expected_times) = (answers(&log), times(&log));
    let dir = log.dir().to_owned();
    drop(log);
    fixture.tier.close().unwrap();
    let disk = fixture.disk.clone();
    drop(fixture);
    let mut rng = StdRng::seed_from_u64(8);
    for path in indexes(&disk, &dir) {
        let len = crate::disk::read_file(&disk, &path, 1 << 20).unwrap().len();
        for position in 0..len {
            let fixture = Fixture::on(disk.clone()).unwrap();
            let mask = 1 << rng.random_range(0..8);
            disk.damage(&path, position, mask);
            let log = fixture.tier.partitions().remove(0);
            assert_eq!(times(&log), expected_times, "{path:?}, byte {position}, mask {mask}");
            assert_eq!(answers(&log), expected, "{path:?}, byte {position}, mask {mask}");
            assert_eq!(contents(&log).len() as u64, log.size_bytes());
        }
    }
}

fn indexes(disk: &dyn crate::disk::Disk, dir: &Path) -> Vec<PathBuf> {
    let is_index = |name: &str| name.ends_with("index");
    let entries = disk.list(dir).unwrap();
    let mut paths: Vec<_> = entries.iter().filter(|entry| is_index(&entry.name)).map(|e| dir.join(&e.name)).collect();
    paths.sort();
    assert!(paths.len() >= 4, "{paths:?}");
    paths
}
