//! Removal of offsets that nothing asked for: of deleted topics, and of groups that have been idle for too long.
//!
//! One decision writes at most `max_cleanup_bytes`, so that it fits one batch; the rest follows in further decisions.

use std::collections::BTreeMap;

use super::deleted_topics::DeletedTopics;
use super::machine::{Change, Decision, Groups};
use super::membership::GroupState;
use super::now::Now;
use super::offsets;
use super::record::GroupRecord;

impl Groups {
    /// Removes offsets that were committed for deleted topics, up to a bound in bytes: again until it writes nothing.
    #[must_use]
    pub fn forget_topics(&self, deleted: &DeletedTopics) -> Decision {
        let mut decision = Decision::default();
        let mut bytes = 0;
        for (id, group) in &self.groups {
            for topic in deleted.names() {
                let Some(of_topic) = group.offsets.get(topic) else { continue };
                for (partition, _) in of_topic.iter().filter(|(_, offset)| deleted.cover(topic, offset)) {
                    bytes += tombstone_bytes(id, topic);
                    if bytes > self.settings.max_cleanup_bytes && !decision.records.is_empty() {
                        return decision;
                    }
                    decision.records.push(offsets::tombstone(id, topic, *partition));
                }
            }
        }
        decision
    }

    /// Lapsed offsets go, and empty groups that keep none. A sweep that hits a bound continues at the next tick.
    pub(super) fn sweep_offsets(&self, now: Now, decisions: &mut Vec<Decision>) {
        let limit = self.settings.max_expired_per_sweep;
        let (mut written, mut is_cut) = (0, false);
        for (id, group) in &self.groups {
            let left = limit.saturating_sub(written);
            if left == 0 {
                break;
            }
            let left = left.min(self.settings.max_cleanup_bytes / tombstone_bytes(id, "")).max(1);
            let lapsed = offsets::lapsed(&self.settings, &group.membership, &group.offsets, (now.calendar_ms, left));
            is_cut |= lapsed.len() >= left;
            let remaining = group.offsets.values().map(BTreeMap::len).sum::<usize>().saturating_sub(lapsed.len());
            let tombstones = lapsed.iter().map(|(topic, partition)| offsets::tombstone(id, topic, *partition));
            let mut records: Vec<_> = tombstones.collect();
            let idle = group.membership.state == GroupState::Empty && group.membership.pending_joins.is_empty();
            if remaining == 0 && idle && (group.image.is_some() || !records.is_empty()) {
                records.push(GroupRecord::Metadata { group: id.clone(), image: None });
            }
            written += records.len();
            if !records.is_empty() {
                decisions.push(Decision { records, ..Decision::default() });
            }
        }
        let is_cut = is_cut || written >= limit;
        let pause_ms = if is_cut { 1 } else { self.settings.offsets_retention_check_interval_ms };
        let swept = Change::OffsetsSwept { next: now.steady_ms.saturating_add(pause_ms) };
        decisions.push(Decision { changes: vec![swept], ..Decision::default() });
    }
}

/// What a tombstone takes in the log, at most; longer names of topics than Kafka allows aside.
fn tombstone_bytes(group: &str, topic: &str) -> usize {
    const OVERHEAD_BYTES: usize = 64;
    const LONGEST_TOPIC_BYTES: usize = 249;
    group.len() + topic.len().max(LONGEST_TOPIC_BYTES) + OVERHEAD_BYTES
}
