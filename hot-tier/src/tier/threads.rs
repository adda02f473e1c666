//! The tier's two threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Shared;
use crate::disk_state::PROBE_PAUSE;
use crate::error::OpenError;

/// Shortest time between two checkpoints that evictions ask for.
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(500);

/// Pause after a round of the housekeeper in which something failed, such as a checkpoint on a full disk. Waiting requests wake
/// it again and again; what failed is not tried more often for that.
const FAILURE_PAUSE: Duration = PROBE_PAUSE;

/// Pause before a flush is tried again for which too many files were open.
const FLUSH_PAUSE: Duration = Duration::from_millis(100);

pub(super) fn start(shared: &Arc<Shared>) -> Result<Vec<JoinHandle<()>>, OpenError> {
    Ok(vec![
        spawn("hot-flusher", Arc::clone(shared), flush)?,
        spawn("hot-housekeeper", Arc::clone(shared), keep_house)?,
    ])
}

fn spawn(name: &'static str, shared: Arc<Shared>, work: fn(&Shared)) -> Result<JoinHandle<()>, OpenError> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    let guarded = move || {
        // What the thread held locked is not touched again: the tier has failed.
        if catch_unwind(AssertUnwindSafe(|| work(&shared))).is_err() {
            shared.core.lose_thread(name);
        }
    };
    builder.spawn(guarded).map_err(|source| OpenError::Thread { name, source })
}

/// Flushes at once when anything is pending; what arrives meanwhile makes the next round.
fn flush(shared: &Shared) {
    while shared.core.flush.sleep() {
        // A failure is noted where it is found, and ends the queue.
        if shared.core.flush_round().is_err() && shared.core.failure().is_none() {
            std::thread::sleep(FLUSH_PAUSE);
        }
    }
}

fn keep_house(shared: &Shared) {
    let core = &shared.core;
    let mut last = Instant::now();
    let mut patience = Duration::ZERO;
    while core.housekeeping.wait(patience) {
        let round = shared.keep_house_once(last.elapsed());
        if round.had_checkpoint {
            last = Instant::now();
        }
        if round.has_failed {
            core.housekeeping.rest(FAILURE_PAUSE);
        }
        let longest = if core.is_checkpoint_wanted() { CHECKPOINT_PAUSE } else { core.config.checkpoint_interval };
        patience = longest.saturating_sub(last.elapsed());
        if core.disk_state.full().is_some() {
            patience = patience.min(PROBE_PAUSE);
        }
    }
}

/// What came of a round of the housekeeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Round {
    /// It was time for a checkpoint.
    pub(super) had_checkpoint: bool,
    /// Something did not work.
    pub(super) has_failed: bool,
}

impl Shared {
    /// One round of the housekeeper, that long after the last checkpoint.
    pub(super) fn keep_house_once(&self, since_checkpoint: Duration) -> Round {
        let core = &self.core;
        let mut has_failed = match core.journal.prepare() {
            // Without the next journal file appends would soon meet the full disk again.
            Ok(()) => !core.disk_state.probe(core.disk(), &core.config.data_dir),
            Err(e) => {
                if !core.lacks_descriptor(&e) {
                    tracing::warn!(error = %e, "cannot prepare a journal file");
                }
                true
            }
        };
        if let Err(e) = self.finish_removals() {
            has_failed = true;
            if !core.lacks_descriptor(&e) {
                tracing::error!(error = %e, "cannot take away the folder of a removed partition");
            }
        }
        let is_wanted = core.is_checkpoint_wanted() && since_checkpoint >= CHECKPOINT_PAUSE;
        let is_due = core.wants_checkpoint() || is_wanted || since_checkpoint >= core.config.checkpoint_interval;
        if is_due && let Err(e) = self.checkpoint() {
            has_failed = true;
            if !core.lacks_descriptor(&e) && !self.lacks_checkpoint.swap(true, Ordering::AcqRel) {
                tracing::error!(error = %e, "cannot write a checkpoint, it is tried again");
            }
        } else if is_due && self.lacks_checkpoint.swap(false, Ordering::AcqRel) {
            tracing::info!("checkpoints are written again");
        }
        core.trash.empty(core.disk());
        Round { had_checkpoint: is_due, has_failed }
    }
}
