//! A partition in memory: durable at once, held back, or failing, as the test likes.

use bytes::{Bytes, BytesMut};
use model::batch::{BatchView, patch_base_offset};
use model::{Offset, TimestampMs};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::groups::log::LogFailure;

#[derive(Debug)]
pub(crate) struct MemoryLog {
    batches: Mutex<Vec<Bytes>>,
    /// While true, nothing becomes durable.
    held: watch::Sender<bool>,
    failures: Mutex<usize>,
}

impl MemoryLog {
    pub(crate) fn new() -> Self {
        Self { batches: Mutex::default(), held: watch::Sender::new(false), failures: Mutex::new(0) }
    }

    pub(crate) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    pub(crate) fn fail_next(&self, appends: usize) {
        *self.failures.lock() = appends;
    }

    pub(crate) fn batches(&self) -> Vec<Bytes> {
        self.batches.lock().clone()
    }

    fn end(&self) -> Offset {
        self.batches.lock().last().map_or(0, |batch| BatchView::parse(batch).unwrap().header.next_offset())
    }

    async fn released(&self) {
        let _ = self.held.subscribe().wait_for(|held| !held).await;
    }

    pub(crate) async fn append(&self, batch: Bytes, _now: TimestampMs) -> Result<(), LogFailure> {
        {
            let mut failures = self.failures.lock();
            if *failures > 0 {
                *failures -= 1;
                return Err(LogFailure::Failed("made to fail".to_owned()));
            }
        }
        let mut bytes = BytesMut::from(&batch[..]);
        patch_base_offset(&mut bytes, self.end());
        self.batches.lock().push(bytes.freeze());
        self.released().await;
        Ok(())
    }

    pub(crate) async fn bounds(&self) -> Result<(Offset, Offset), LogFailure> {
        self.released().await;
        Ok((0, self.end()))
    }

    pub(crate) fn read(&self, from: Offset) -> Result<Vec<Bytes>, LogFailure> {
        let batches = self.batches.lock();
        let from_here = batches.iter().filter(|batch| BatchView::parse(batch).unwrap().header.next_offset() > from);
        Ok(from_here.take(1).cloned().collect())
    }
}
