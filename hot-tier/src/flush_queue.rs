//! What waits for the next flush, and who waits for it.

use std::sync::Arc;

use model::Offset;

use crate::partition::PartitionLog;
use crate::segment::Segment;
use crate::sync::{Condvar, Mutex};

/// An append that becomes durable with the next round.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) partition: Arc<PartitionLog>,
    /// The log end after it.
    pub(crate) end: Offset,
    /// The segment that must be synced itself, when the batches bypassed the journal.
    pub(crate) bypassed: Option<Arc<Segment>>,
}

/// The flusher's queue. It is bounded by what clients have in flight: each of them waits for its answer.
#[derive(Debug)]
pub(crate) struct FlushQueue {
    state: Mutex<State>,
    work: Condvar,
    settled: Condvar,
}

#[derive(Debug)]
struct State {
    pending: Vec<Pending>,
    /// Someone needs everything below to be durable.
    wanted_lsn: u64,
    /// Everything below is durable, and its partitions know.
    settled_lsn: u64,
    flusher_sleeps: bool,
    stopped: bool,
}

impl FlushQueue {
    pub(crate) fn new(settled_lsn: u64) -> Self {
        let state = State { pending: Vec::new(), wanted_lsn: 0, settled_lsn, flusher_sleeps: false, stopped: false };
        FlushQueue { state: Mutex::new(state), work: Condvar::new(), settled: Condvar::new() }
    }

    /// Adds an append; called under its partition's lock, after its journal entry.
    pub(crate) fn push(&self, pending: Pending) {
        let mut state = self.state.lock();
        state.pending.push(pending);
        self.wake(&state);
    }

    /// Asks for a flush up to `lsn`, without waiting.
    pub(crate) fn request(&self, lsn: u64) {
        let mut state = self.state.lock();
        state.wanted_lsn = state.wanted_lsn.max(lsn);
        self.wake(&state);
    }

    fn wake(&self, state: &State) {
        if state.flusher_sleeps {
            self.work.notify_one();
        }
    }

    /// Waits until everything below `lsn` is durable, or the queue was stopped.
    pub(crate) fn wait(&self, lsn: u64) {
        let mut state = self.state.lock();
        while state.settled_lsn < lsn && !state.stopped {
            self.settled.wait(&mut state);
        }
    }

    /// Everything below is durable.
    pub(crate) fn settled(&self) -> u64 {
        self.state.lock().settled_lsn
    }

    /// What the next round is for; `None` when there is nothing to do.
    pub(crate) fn take(&self) -> Option<Vec<Pending>> {
        let mut state = self.state.lock();
        if state.pending.is_empty() && state.wanted_lsn <= state.settled_lsn {
            return None;
        }
        Some(std::mem::take(&mut state.pending))
    }

    /// A round could not begin: its appends wait for the next one, before those that came meanwhile.
    pub(crate) fn give_back(&self, mut pending: Vec<Pending>) {
        let mut state = self.state.lock();
        if !state.stopped {
            pending.append(&mut state.pending);
            state.pending = pending;
        }
    }

    /// A round is over.
    pub(crate) fn settle(&self, lsn: u64) {
        let mut state = self.state.lock();
        state.settled_lsn = state.settled_lsn.max(lsn);
        drop(state);
        self.settled.notify_all();
    }

    /// Sleeps until there is something to flush; false once stopped.
    pub(crate) fn sleep(&self) -> bool {
        let mut state = self.state.lock();
        while state.pending.is_empty() && state.wanted_lsn <= state.settled_lsn && !state.stopped {
            state.flusher_sleeps = true;
            self.work.wait(&mut state);
            state.flusher_sleeps = false;
        }
        !state.stopped
    }

    /// Nothing will be flushed any more: everyone may go. The appends that wait are dropped with their partitions.
    pub(crate) fn give_up(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        state.pending.clear();
        drop(state);
        self.work.notify_all();
        self.settled.notify_all();
    }
}
