//! The real code under many schedules of its threads, which `shuttle` chooses: what flusher, checkpoints, producers and removals
//! do at the same time. Each test repeats exactly; a failure prints its schedule.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::interleavings::{check, point};
use model::TopicPartition;
use parking_lot::Mutex;
use shuttle::current::TaskId;

use super::fixture::{Make, NOW, append, batch, config, id, settings, topic};
use crate::HotTier;
use crate::core::Drive;
use crate::disk::hooked::{HookedDisk, Moment};
use crate::disk::memory::MemoryDisk;
use crate::recovery::Setting;

/// Schedules that each model runs under.
const SCHEDULES: usize = 400;

/// How many writes each file has seen.
type Versions = HashMap<PathBuf, u64>;

/// What happened on the disk, and what was acknowledged.
#[derive(Default)]
struct Seen {
    written: Versions,
    /// What ended syncs have covered: the writes before they began.
    synced: Versions,
    syncing: HashMap<TaskId, u64>,
    /// The last write of each task to a file that its append must have synced.
    last: HashMap<TaskId, (PathBuf, u64)>,
    /// Appends: partition, end, and the write that must be synced.
    appended: Vec<(TopicPartition, i64, PathBuf, u64)>,
    /// Acknowledgements: partition, end, and what was synced by then.
    acknowledged: Vec<(TopicPartition, i64, Versions)>,
}

impl Seen {
    fn note(&mut self, moment: Moment, path: &Path) {
        let me = shuttle::current::me();
        match moment {
            Moment::Written(_) => {
                let version = self.written.entry(path.to_owned()).or_default();
                *version += 1;
                self.last.insert(me, (path.to_owned(), *version));
            }
            Moment::Sync => {
                let version = self.written.get(path).copied().unwrap_or(0);
                self.syncing.insert(me, version);
            }
            Moment::Synced { failed } => {
                let version = self.syncing.remove(&me).unwrap_or(0);
                let synced = self.synced.entry(path.to_owned()).or_default();
                *synced = (*synced).max(if failed { 0 } else { version });
            }
            Moment::Read | Moment::SyncDir => {}
        }
    }

    /// An acknowledgement needs a sync that began after the write and has ended.
    fn check(&self) {
        for (partition, end, path, version) in &self.appended {
            let first = self.acknowledged.iter().find(|(id, acked, _)| id == partition && acked >= end);
            let (_, _, synced) = first.unwrap_or_else(|| panic!("{partition}: {end} was never acknowledged"));
            let covered = synced.get(path).copied().unwrap_or(0);
            assert!(
                covered >= *version,
                "{partition}: {end} was acknowledged when write {version} of {} was not synced, only {covered}",
                path.display()
            );
        }
    }
}

/// A tier without threads of its own whose disk tells what happens; while a file is synced, other tasks run.
fn open(seen: &Arc<Mutex<Seen>>) -> HotTier {
    let (on_disk, on_flush) = (Arc::clone(seen), Arc::clone(seen));
    let hook = move |moment, path: &Path| {
        // A synced file is not synced before the operation ends, and the end is seen before it returns.
        on_disk.lock().note(moment, path);
        if moment == Moment::Sync {
            point();
        }
    };
    HotTier::open_on(Setting {
        config: config(),
        disk: Arc::new(HookedDisk::new(Arc::new(MemoryDisk::default()), Arc::new(hook))),
        on_flush: Arc::new(move |id, end| {
            let mut seen = on_flush.lock();
            let synced = seen.synced.clone();
            seen.acknowledged.push((id, end, synced));
        }),
        drive: Drive::Inline,
        now_ms: NOW,
    })
    .unwrap()
}

fn produce(tier: &HotTier, seen: &Mutex<Seen>, number: u128, value_len: usize) {
    let log = tier.create(&topic(), id(number), Arc::new(settings())).unwrap();
    for _ in 0..2 {
        let appended = log.append_leader(vec![Make { value_len, ..Make::default() }.batch()], 0, NOW).unwrap();
        let mut seen = seen.lock();
        let (path, version) = seen.last[&shuttle::current::me()].clone();
        seen.appended.push((id(number), appended.last_offset + 1, path, version));
    }
}

#[test]
fn an_acknowledgement_needs_a_sync_that_began_after_the_write_and_has_ended() {
    check(1, SCHEDULES, || {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let tier = open(&seen);
        let producers = (1..=2).map(|number| {
            let (tier, seen) = (tier.clone(), Arc::clone(&seen));
            shuttle::thread::spawn(move || produce(&tier, &seen, number, 20))
        });
        let mut tasks: Vec<_> = producers.collect();
        let flusher = tier.clone();
        tasks.push(shuttle::thread::spawn(move || {
            for _ in 0..4 {
                flusher.core().flush_round().unwrap();
            }
        }));
        let housekeeper = tier.clone();
        tasks.push(shuttle::thread::spawn(move || housekeeper.checkpoint().unwrap()));
        tasks.into_iter().for_each(|task| task.join().unwrap());
        tier.core().flush_round().unwrap();
        seen.lock().check();
    });
}

#[test]
fn a_partition_that_comes_and_goes_beside_checkpoints_disturbs_no_other() {
    check(2, SCHEDULES, || {
        let tier = open(&Arc::default());
        let busy = tier.create(&topic(), id(1), Arc::new(settings())).unwrap();
        let churn = tier.clone();
        let housekeeper = tier.clone();
        let tasks = [
            shuttle::thread::spawn(move || {
                for _ in 0..2 {
                    let log = churn.create(&topic(), id(2), Arc::new(settings())).unwrap();
                    let large = Make { value_len: 5000, ..Make::default() }.batch();
                    log.append_leader(vec![large, batch()], 0, NOW).unwrap();
                    churn.remove(id(2)).unwrap();
                }
            }),
            shuttle::thread::spawn(move || {
                housekeeper.checkpoint().unwrap();
                housekeeper.finish_removals().unwrap();
                housekeeper.checkpoint().unwrap();
            }),
            shuttle::thread::spawn({
                let (tier, busy) = (tier.clone(), Arc::clone(&busy));
                move || {
                    append(&busy, 2);
                    tier.wait_flushed().unwrap();
                    assert_eq!(busy.flushed_end(), 2);
                }
            }),
        ];
        for task in tasks {
            task.join().unwrap();
        }
        assert_eq!(tier.failure(), None);
        assert!(tier.partition(id(2)).is_none());
    });
}
