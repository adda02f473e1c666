//! Where each leader epoch of a partition begins (KIP-101, KIP-279).
//!
//! Invariant: epochs and start offsets ascend strictly in epoch and do not descend in offset.

use model::batch::BatchHeader;
use model::segment::EpochStart;
use model::{LeaderEpoch, NO_LEADER_EPOCH, Offset};

/// Epochs that are kept at most; the oldest go first. A partition that changed its leader so often since the last
/// truncation has other worries.
const EPOCHS_MAX: usize = 10_000;

/// A partition's leader epochs, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LeaderEpochs {
    starts: Vec<EpochStart>,
}

impl LeaderEpochs {
    /// Takes epochs that were stored; what does not ascend is left out.
    pub(crate) fn from_stored(stored: impl IntoIterator<Item = EpochStart>) -> Self {
        let mut epochs = LeaderEpochs::default();
        for start in stored {
            epochs.begin(start.leader_epoch, start.start_offset);
        }
        epochs
    }

    /// Notes that `epoch` begins at `start`; true when that is new. An epoch that is not newer than the latest is known
    /// already.
    pub(crate) fn begin(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if epoch < 0 || self.starts.last().is_some_and(|last| last.leader_epoch >= epoch) {
            return false;
        }
        // An epoch in which nothing was written ends where the next begins.
        self.starts.retain(|earlier| earlier.start_offset < start);
        self.starts.push(EpochStart { leader_epoch: epoch, start_offset: start });
        if self.starts.len() > EPOCHS_MAX {
            self.starts.remove(0);
        }
        true
    }

    /// True when a batch of `epoch` begins a new one.
    pub(crate) fn is_new(&self, epoch: LeaderEpoch) -> bool {
        epoch > self.latest()
    }

    /// The newest epoch, or −1.
    pub(crate) fn latest(&self) -> LeaderEpoch {
        self.starts.last().map_or(NO_LEADER_EPOCH, |last| last.leader_epoch)
    }

    /// The epoch of the record at `offset`, or −1.
    pub(crate) fn at(&self, offset: Offset) -> LeaderEpoch {
        let after = self.starts.partition_point(|start| start.start_offset <= offset);
        after.checked_sub(1).map_or(NO_LEADER_EPOCH, |i| self.starts[i].leader_epoch)
    }

    /// Whether a batch may be of this log: it has the epoch that is known for its offset, or none is.
    pub(crate) fn agree_with(&self, header: &BatchHeader) -> bool {
        let known = self.at(header.base_offset);
        known == NO_LEADER_EPOCH || known == header.leader_epoch
    }

    /// The largest epoch that is at most `epoch`, and where it ends: at the start of the next, or at `log_end`.
    ///
    /// `None` when the log knows no such epoch (Kafka answers −1 and −1). `epoch` newer than all: `None` too, unless it is
    /// the latest (KIP-279).
    pub(crate) fn end_of(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<(LeaderEpoch, Offset)> {
        if epoch < 0 || epoch > self.latest() {
            return None;
        }
        if epoch == self.latest() {
            return Some((epoch, log_end));
        }
        let after = self.starts.partition_point(|start| start.leader_epoch <= epoch);
        let end = self.starts.get(after)?.start_offset;
        // Older than all that is known: Kafka answers the asked epoch with the first known start.
        Some(after.checked_sub(1).map_or((epoch, end), |i| (self.starts[i].leader_epoch, end)))
    }

    /// Forgets epochs that begin at or after `end`.
    pub(crate) fn truncate_to(&mut self, end: Offset) {
        self.starts.retain(|start| start.start_offset < end);
    }

    /// Forgets epochs that end at or before `start`; the one in force there begins there then.
    pub(crate) fn advance_to(&mut self, start: Offset) {
        let after = self.starts.partition_point(|epoch| epoch.start_offset <= start);
        if let Some(in_force) = after.checked_sub(1) {
            self.starts.drain(..in_force);
            self.starts[0].start_offset = start;
        }
    }

    /// Those that begin below `end`, oldest first.
    pub(crate) fn below(&self, end: Offset) -> Vec<EpochStart> {
        self.starts.iter().copied().filter(|start| start.start_offset < end).collect()
    }

    /// All, oldest first.
    pub(crate) fn all(&self) -> &[EpochStart] {
        &self.starts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(starts: &[(i32, i64)]) -> LeaderEpochs {
        LeaderEpochs::from_stored(
            starts.iter().map(|&(leader_epoch, start_offset)| EpochStart { leader_epoch, start_offset }),
        )
    }

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let known = epochs(&[(1, 0), (3, 10), (4, 30)]);
        assert_eq!(known.end_of(1, 50), Some((1, 10)));
        assert_eq!(known.end_of(2, 50), Some((1, 10)), "an epoch without records ends with the one before");
        assert_eq!(known.end_of(3, 50), Some((3, 30)));
        assert_eq!(known.end_of(4, 50), Some((4, 50)));
    }

    #[test]
    fn unknown_epochs_have_no_end() {
        let known = epochs(&[(3, 10)]);
        assert_eq!(known.end_of(4, 50), None);
        assert_eq!(known.end_of(-1, 50), None);
        assert_eq!(known.end_of(1, 50), Some((1, 10)), "older than all that is known");
        assert_eq!(LeaderEpochs::default().end_of(0, 5), None);
    }

    #[test]
    fn an_epoch_without_records_gives_way_to_the_next() {
        let known = epochs(&[(1, 0), (2, 10), (3, 10)]);
        assert_eq!(known.all(), epochs(&[(1, 0), (3, 10)]).all());
    }

    #[test]
    fn stale_epochs_are_not_taken() {
        let mut known = epochs(&[(3, 10)]);
        assert!(!known.begin(3, 20));
        assert!(!known.begin(2, 20));
        assert!(!known.begin(-1, 20));
        assert_eq!(known.latest(), 3);
    }

    #[test]
    fn truncation_and_log_start_cut_the_history() {
        let mut known = epochs(&[(1, 0), (3, 10), (4, 30)]);
        known.truncate_to(30);
        assert_eq!(known.latest(), 3);
        known.advance_to(12);
        assert_eq!(known.all(), &[EpochStart { leader_epoch: 3, start_offset: 12 }]);
        assert_eq!(known.at(11), NO_LEADER_EPOCH);
        assert_eq!(known.at(12), 3);
    }
}
