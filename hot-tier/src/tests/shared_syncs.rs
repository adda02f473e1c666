//! Flusher, checkpoints and archiving sync the same files: an acknowledgement needs a sync that began after the write and has
//! ended, whichever thread issued it, and a failed one fails everybody whose bytes it covered.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use parking_lot::Mutex;

use super::fixture::{Fixture, Make, NOW, append, batch, contents, id, replicated, settings};
use crate::HotTier;
use crate::disk::Disk;
use crate::disk::faulty::FaultyDisk;
use crate::disk::hooked::{Hook, HookedDisk, Moment};
use crate::disk::memory::MemoryDisk;

/// How long a thread is watched that must not get further.
const WATCHED: Duration = Duration::from_millis(200);

/// Holds the next operation of one kind, once it is armed.
struct Gate {
    is_armed: AtomicBool,
    holds: fn(Moment, &Path) -> bool,
    reached: Mutex<Sender<()>>,
    open: Mutex<Receiver<()>>,
}

/// What a test has of a gate.
struct Held {
    gate: Arc<Gate>,
    reached: Receiver<()>,
    open: Sender<()>,
}

impl Held {
    fn new(holds: fn(Moment, &Path) -> bool) -> (Self, Hook) {
        let ((reached, is_reached), (open, is_open)) = (channel(), channel());
        let (reached, is_open) = (Mutex::new(reached), Mutex::new(is_open));
        let gate = Arc::new(Gate { is_armed: AtomicBool::new(false), holds, reached, open: is_open });
        let hook = Arc::clone(&gate);
        let held = Held { gate, reached: is_reached, open };
        (held, Arc::new(move |moment, path| hook.pass(moment, path)))
    }

    fn arm(&self) {
        self.gate.is_armed.store(true, Ordering::SeqCst);
    }

    /// Waits until an operation is held.
    fn reached(&self) {
        self.reached.recv_timeout(Duration::from_secs(30)).unwrap();
    }

    fn open(&self) {
        self.open.send(()).unwrap();
    }
}

impl Gate {
    fn pass(&self, moment: Moment, path: &Path) {
        if (self.holds)(moment, path) && self.is_armed.swap(false, Ordering::SeqCst) {
            self.reached.lock().send(()).unwrap();
            self.open.lock().recv_timeout(Duration::from_secs(30)).unwrap();
        }
    }
}

fn is_journal(path: &Path) -> bool {
    path.parent().is_some_and(|dir| dir.ends_with("journal"))
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}

fn fixture_with(hook: Hook) -> Fixture {
    let disk = MemoryDisk::default();
    let (_, faults) = FaultyDisk::new(Arc::new(disk.clone()));
    Fixture::with(disk.clone(), Arc::new(HookedDisk::new(Arc::new(disk), hook)), faults).unwrap()
}

fn flush_in_thread(tier: &HotTier) -> std::thread::JoinHandle<bool> {
    let tier = tier.clone();
    std::thread::spawn(move || tier.core().flush_round().is_ok())
}

fn checkpoint_in_thread(tier: &HotTier) -> std::thread::JoinHandle<bool> {
    let tier = tier.clone();
    std::thread::spawn(move || tier.checkpoint().is_ok())
}

/// The largest end that was reported flushed.
fn acknowledged(fixture: &Fixture) -> i64 {
    fixture.told.lock().iter().map(|(_, end)| *end).max().unwrap_or(0)
}

#[test]
fn records_are_not_acknowledged_while_a_checkpoint_still_syncs_the_journal() {
    let (held, hook) = Held::new(|moment, path| moment == Moment::Sync && is_journal(path));
    let fixture = fixture_with(hook);
    let log = fixture.log(1);
    fixture.flush();
    append(&log, 1);
    held.arm();
    let checkpoint = checkpoint_in_thread(&fixture.tier);
    held.reached();
    let flusher = flush_in_thread(&fixture.tier);
    std::thread::sleep(WATCHED);
    let promised = acknowledged(&fixture);
    let cut = fixture.disk.unsynced_lost();
    held.open();
    assert!(checkpoint.join().unwrap() && flusher.join().unwrap());
    assert_eq!(acknowledged(&fixture), 1);
    let found = Fixture::on(cut).unwrap().tier.partition(id(1)).unwrap().log_end();
    assert!(found >= promised, "{promised} records were acknowledged, {found} survived the power cut");
}

#[test]
fn a_journal_sync_that_fails_in_a_checkpoint_fails_the_flush_that_waited_for_it() {
    let (held, hook) = Held::new(|moment, path| moment == Moment::Sync && is_journal(path));
    let fixture = fixture_with(hook);
    let log = fixture.log(1);
    fixture.flush();
    append(&log, 1);
    held.arm();
    let checkpoint = checkpoint_in_thread(&fixture.tier);
    held.reached();
    let flusher = flush_in_thread(&fixture.tier);
    std::thread::sleep(WATCHED);
    fixture.disk.fail_syncs(true);
    held.open();
    assert!(!checkpoint.join().unwrap());
    assert!(!flusher.join().unwrap(), "a flush succeeded whose bytes another thread failed to sync");
    assert_eq!((acknowledged(&fixture), log.flushed_end()), (0, 0));
}

#[test]
fn a_segment_sync_that_fails_in_a_checkpoint_fails_the_flush_of_a_large_append() {
    // The operating system tells one thread of the failure; the other's sync has nothing left to do.
    let (held, hook) = Held::new(|moment, path| moment == Moment::Synced { failed: true } && is_log(path));
    let fixture = fixture_with(hook);
    let log = fixture.log(1);
    fixture.flush();
    log.append_leader(vec![Make { value_len: 9000, ..Make::default() }.batch()], 0, NOW).unwrap();
    fixture.disk.fail_syncs(true);
    held.arm();
    let checkpoint = checkpoint_in_thread(&fixture.tier);
    held.reached();
    fixture.disk.fail_syncs(false);
    let flusher = flush_in_thread(&fixture.tier);
    std::thread::sleep(WATCHED);
    held.open();
    assert!(!checkpoint.join().unwrap());
    assert!(!flusher.join().unwrap(), "a flush succeeded whose bytes another thread failed to sync");
    assert_eq!((acknowledged(&fixture), log.flushed_end()), (0, 0));
}

#[test]
fn a_second_flush_does_not_settle_what_the_first_still_syncs() {
    let (held, hook) = Held::new(|moment, path| moment == Moment::Sync && is_log(path));
    let fixture = fixture_with(hook);
    let log = fixture.log(1);
    fixture.flush();
    log.append_leader(vec![Make { value_len: 9000, ..Make::default() }.batch()], 0, NOW).unwrap();
    held.arm();
    let flusher = flush_in_thread(&fixture.tier);
    held.reached();
    let waiter = std::thread::spawn({
        let (tier, log) = (fixture.tier.clone(), Arc::clone(&log));
        move || {
            tier.wait_flushed().unwrap();
            log.flushed_end()
        }
    });
    std::thread::sleep(WATCHED);
    held.open();
    assert!(flusher.join().unwrap());
    assert_eq!(waiter.join().unwrap(), 1, "the wait ended before the records were flushed");
}

#[test]
fn what_a_failed_flush_left_in_the_page_cache_is_durable_before_it_is_served() {
    for (mode, value_len) in [(settings(), 20), (settings(), 9000), (replicated(), 20)] {
        let fixture = Fixture::new();
        let log = fixture.log_with(1, mode.clone());
        append(&log, 1);
        fixture.flush();
        log.append_leader(vec![Make { value_len, salt: 7, ..Make::default() }.batch()], 0, NOW).unwrap();
        let expected = contents(&log);
        fixture.disk.fail_syncs(true);
        // The sync of a replicated topic's segment is the checkpoint's.
        assert!(fixture.tier.core().flush_round().and_then(|_| fixture.tier.checkpoint()).is_err());
        let lost = fixture.disk.unsynced_lost();
        drop(log);
        fixture.disk.fail_syncs(false);
        let fixture = fixture.killed();
        let log = fixture.tier.partition(id(1)).unwrap();
        assert_eq!((contents(&log), log.flushed_end()), (expected.clone(), 2), "the process was restarted");
        if mode == replicated() {
            fixture.tier.checkpoint().unwrap();
        }
        let cut = Fixture::on(fixture.disk.unsynced_lost()).unwrap();
        assert_eq!(cut.tier.recovery_report().damage, Vec::<String>::new());
        assert_eq!(contents(&cut.tier.partition(id(1)).unwrap()), expected, "{value_len}: then the power went");
        let at_once = Fixture::on(lost).unwrap();
        assert_eq!(at_once.tier.recovery_report().damage, Vec::<String>::new());
        assert!(at_once.tier.partition(id(1)).is_none_or(|log| log.log_end() <= 1), "the power went at once");
    }
}

#[test]
fn an_append_that_needs_a_journal_file_at_once_does_not_wait_for_its_zeros() {
    let written = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&written);
    let fixture = fixture_with(Arc::new(move |moment, path| {
        if let Moment::Written(len) = moment
            && is_journal(path)
        {
            *counter.lock() += len;
        }
    }));
    let log = fixture.log(1);
    let files = || fixture.disk.list(Path::new("/data/journal")).unwrap().len();
    let before = files();
    while files() == before {
        *written.lock() = 0;
        log.append_leader(vec![batch()], 0, NOW).unwrap();
    }
    assert!(*written.lock() <= 512, "{} bytes were written for one small append", written.lock());
}
