//! The tier's two threads.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Shared;
use crate::core::DESCRIPTOR_PAUSE;
use crate::error::OpenError;

/// Shortest time between two checkpoints that evictions ask for.
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(500);

pub(super) fn start(shared: &Arc<Shared>) -> Result<Vec<JoinHandle<()>>, OpenError> {
    Ok(vec![
        spawn("hot-flusher", Arc::clone(shared), flush)?,
        spawn("hot-housekeeper", Arc::clone(shared), keep_house)?,
    ])
}

fn spawn(name: &'static str, shared: Arc<Shared>, work: fn(&Shared)) -> Result<JoinHandle<()>, OpenError> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(move || work(&shared)).map_err(|source| OpenError::Thread { name, source })
}

/// Flushes at once when anything is pending; what arrives meanwhile makes the next round.
fn flush(shared: &Shared) {
    while shared.core.flush.sleep() {
        // A failure is noted where it is found, and ends the queue.
        if shared.core.flush_round().is_err() && shared.core.failure().is_none() {
            std::thread::sleep(DESCRIPTOR_PAUSE);
        }
    }
}

fn keep_house(shared: &Shared) {
    let core = &shared.core;
    let interval = core.config.checkpoint_interval;
    let mut last = Instant::now();
    let mut patience = Duration::ZERO;
    while core.housekeeping.wait(patience) {
        if let Err(e) = core.journal.prepare()
            && !core.lacks_descriptor(&e)
        {
            tracing::warn!(error = %e, "cannot prepare a journal file");
        }
        let is_wanted = core.is_checkpoint_wanted() && last.elapsed() >= CHECKPOINT_PAUSE;
        if core.wants_checkpoint() || is_wanted || last.elapsed() >= interval {
            if let Err(e) = shared.checkpoint()
                && !core.lacks_descriptor(&e)
            {
                tracing::error!(error = %e, "cannot write a checkpoint");
            }
            last = Instant::now();
        }
        core.trash.empty(core.disk());
        patience = if core.is_checkpoint_wanted() {
            CHECKPOINT_PAUSE.saturating_sub(last.elapsed())
        } else {
            interval.saturating_sub(last.elapsed())
        };
    }
}
