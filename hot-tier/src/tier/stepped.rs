//! A tier without threads, for simulations: its driver says when it flushes and keeps house.

use std::sync::Arc;
use std::time::Duration;

use model::TimestampMs;

use super::HotTier;
use crate::config::Config;
use crate::core::{Drive, FlushListener};
use crate::disk::memory::MemoryDisk;
use crate::error::{OpenError, StorageError};
use crate::recovery::Setting;

impl HotTier {
    /// As [`HotTier::open`], on a disk in memory and without threads: see [`HotTier::step_flush`] and
    /// [`HotTier::step_housekeeping`].
    ///
    /// # Errors
    /// As [`HotTier::open`].
    pub fn open_stepped(
        config: Config,
        disk: MemoryDisk,
        now_ms: TimestampMs,
        on_flush: FlushListener,
    ) -> Result<HotTier, OpenError> {
        // No thread frees space while a call waits for it.
        let config = Config { journal_wait: Duration::ZERO, ..config };
        Self::open_on(Setting { config, disk: Arc::new(disk), on_flush, drive: Drive::Inline, now_ms })
    }

    /// One round of the flusher: what was appended becomes durable. False when there was nothing to do.
    ///
    /// # Errors
    /// The tier's failure.
    pub fn step_flush(&self) -> Result<bool, StorageError> {
        self.handle.shared.core.flush_round()
    }

    /// One round of the housekeeper, that long after the last checkpoint. True when it was time for another.
    pub fn step_housekeeping(&self, since_checkpoint: Duration) -> bool {
        self.handle.shared.keep_house_once(since_checkpoint).had_checkpoint
    }
}
