//! The state of the local disk as the tier experiences it: whether it is full, and how long the flush under way has taken.
//!
//! Invariant: the disk counts as full from the first write that it refuses for lack of space until a probe of
//! [`PROBE_BYTES`] succeeds. An append that still fits in between is taken.
//!
//! A crash may leave the probe's file in the data folder; nothing reads it, and the next probe removes it.

use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::disk::{Disk, Open};
use crate::error::StorageError;

/// Pause between two probes of a full disk.
pub(crate) const PROBE_PAUSE: Duration = Duration::from_millis(500);
/// Space that a disk must have before it is written to again, in bytes.
const PROBE_BYTES: usize = 1 << 20;
/// The file that a probe writes and removes, in the data folder.
const PROBE_FILE: &str = "space-probe.tmp";

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct DiskState {
    /// The error of the write that found the disk full.
    full: Mutex<Option<Arc<str>>>,
    /// When the flush under way began.
    flushing: Mutex<Option<Instant>>,
}

impl DiskState {
    /// Notes that a write was refused for lack of space; true when that is news.
    pub(crate) fn note_full(&self, error: &StorageError) -> bool {
        let mut full = self.full.lock();
        let is_news = full.is_none();
        if is_news {
            tracing::error!(%error, "the local disk is full: writes are refused until it has space");
            *full = Some(error.to_string().into());
        }
        is_news
    }

    /// The error that found the disk full, while it is.
    pub(crate) fn full(&self) -> Option<Arc<str>> {
        self.full.lock().clone()
    }

    /// Tests whether a full disk has space again, by writing [`PROBE_BYTES`]. False when it is still full.
    pub(crate) fn probe(&self, disk: &dyn Disk, data_dir: &Path) -> bool {
        if self.full.lock().is_none() {
            return true;
        }
        let path = data_dir.join(PROBE_FILE);
        let zeros = vec![0; PROBE_BYTES];
        let written = disk.open(&path, Open::Create).and_then(|file| file.write_at(&[IoSlice::new(&zeros)], 0));
        // A file that was never made cannot be removed.
        let _ = disk.remove_file(&path);
        match written {
            Ok(()) => {
                *self.full.lock() = None;
                tracing::info!("the local disk has space again");
                true
            }
            Err(error) => {
                tracing::debug!(%error, "the local disk is still full");
                false
            }
        }
    }

    /// Times a flush until the guard is dropped.
    pub(crate) fn time_flush(&self) -> FlushTimer<'_> {
        *self.flushing.lock() = Some(Instant::now());
        FlushTimer(self)
    }

    /// How long the flush under way has taken; `None` while none is.
    pub(crate) fn flushing_for(&self) -> Option<Duration> {
        self.flushing.lock().map(|began| began.elapsed())
    }
}

/// A flush is under way for as long as this lives.
#[derive(Debug)]
pub(crate) struct FlushTimer<'a>(&'a DiskState);

impl Drop for FlushTimer<'_> {
    fn drop(&mut self) {
        *self.0.flushing.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_has_an_age_only_while_it_is_under_way() {
        let state = DiskState::default();
        assert_eq!(state.flushing_for(), None);
        let flush = state.time_flush();
        let first = state.flushing_for().unwrap();
        std::thread::sleep(Duration::from_millis(2));
        assert!(state.flushing_for().unwrap() > first);
        drop(flush);
        assert_eq!(state.flushing_for(), None);
    }
}
