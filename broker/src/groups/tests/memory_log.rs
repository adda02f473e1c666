//! A partition in memory: durable at once, held back, short of replicas, or failing, as the test likes.

use bytes::{Bytes, BytesMut};
use model::Offset;
use model::batch::{BatchView, patch_base_offset};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::groups::log::LogFailure;

#[derive(Debug)]
pub(crate) struct MemoryLog {
    batches: Mutex<Vec<Bytes>>,
    /// While true, nothing becomes durable.
    held: watch::Sender<bool>,
    committed: Mutex<Offset>,
    failures: Mutex<usize>,
    /// While true, too few replicas are in sync.
    lacks_replicas: Mutex<bool>,
    max_batch_bytes: Mutex<usize>,
    /// What was not committed is lost, which the coordinator has not learned yet.
    lost: Mutex<bool>,
}

impl MemoryLog {
    pub(crate) fn new() -> Self {
        Self {
            batches: Mutex::default(),
            held: watch::Sender::new(false),
            committed: Mutex::new(0),
            failures: Mutex::new(0),
            lacks_replicas: Mutex::new(false),
            max_batch_bytes: Mutex::new(1_048_588),
            lost: Mutex::new(false),
        }
    }

    pub(crate) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    pub(crate) fn lack_replicas(&self, lacks: bool) {
        *self.lacks_replicas.lock() = lacks;
    }

    pub(crate) fn limit_batches(&self, bytes: usize) {
        *self.max_batch_bytes.lock() = bytes;
    }

    pub(crate) fn fail_next(&self, appends: usize) {
        *self.failures.lock() = appends;
    }

    /// Drops what is not committed; those that wait for it get an error.
    pub(crate) fn lose_uncommitted(&self) {
        let committed = *self.committed.lock();
        let is_kept = |batch: &Bytes| BatchView::parse(batch).unwrap().header.next_offset() <= committed;
        self.batches.lock().retain(is_kept);
        *self.lost.lock() = true;
        // Wakes those who wait; nothing is committed by it.
        self.held.send_replace(true);
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

    pub(crate) fn max_batch_bytes(&self) -> usize {
        *self.max_batch_bytes.lock()
    }

    pub(crate) fn admit(&self) -> Result<(), LogFailure> {
        if *self.lacks_replicas.lock() { Err(LogFailure::Refused("too few replicas".to_owned())) } else { Ok(()) }
    }

    pub(crate) fn append(&self, batch: &[u8]) -> Result<Offset, LogFailure> {
        let mut failures = self.failures.lock();
        if *failures > 0 {
            *failures -= 1;
            return Err(LogFailure::Failed("made to fail".to_owned()));
        }
        let mut bytes = BytesMut::from(batch);
        patch_base_offset(&mut bytes, self.end());
        self.batches.lock().push(bytes.freeze());
        Ok(self.end())
    }

    pub(crate) fn is_committed(&self, end: Offset) -> bool {
        let mut committed = self.committed.lock();
        if !*self.held.borrow() {
            *committed = self.end();
        }
        *committed >= end
    }

    pub(crate) async fn committed(&self, end: Offset) -> Result<(), LogFailure> {
        let mut held = self.held.subscribe();
        while !self.is_committed(end) {
            if std::mem::take(&mut *self.lost.lock()) {
                return Err(LogFailure::Failed("made to lose it".to_owned()));
            }
            let _ = held.changed().await;
        }
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
