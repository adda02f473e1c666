//! Member ids that were handed out, oldest first, so that they can be bounded over all groups of a shard.
//!
//! Invariant: `bytes` is what the entries weigh. An id that was used or has lapsed stays as an entry for a while; there are
//! never more of those than of the others, by more than [`SLACK`].

use std::collections::VecDeque;

use super::record::{GroupId, MemberId};
use super::weight::pending_id;

/// Entries beyond twice the unused ones that are let be.
const SLACK: usize = 64;

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct UnusedIds {
    oldest_first: VecDeque<(GroupId, MemberId)>,
    bytes: usize,
    /// Unused entries when they were last counted.
    counted: usize,
}

impl UnusedIds {
    /// Adds an id; `is_unused` tells which entries still count.
    pub(super) fn push(&mut self, entry: (GroupId, MemberId), is_unused: impl Fn(&(GroupId, MemberId)) -> bool) {
        self.bytes += pending_id(&entry.1);
        self.oldest_first.push_back(entry);
        if self.oldest_first.len() > 2 * self.counted + SLACK {
            self.oldest_first.retain(is_unused);
            self.bytes = self.oldest_first.iter().map(|(_, id)| pending_id(id)).sum();
            self.counted = self.oldest_first.len();
        }
    }

    /// Takes the oldest entry out while all together weigh more than `max_bytes`; the newest stays.
    pub(super) fn pop_beyond(&mut self, max_bytes: usize) -> Option<(GroupId, MemberId)> {
        if self.bytes <= max_bytes || self.oldest_first.len() < 2 {
            return None;
        }
        let oldest = self.oldest_first.pop_front()?;
        self.bytes -= pending_id(&oldest.1);
        Some(oldest)
    }
}
