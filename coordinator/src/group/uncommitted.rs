//! Records of one group that are appended to the log but not committed yet.
//!
//! Decisions build on what is appended: the log keeps the order, so a record is committed only if those before it are.
//! Readers see what is committed: for each offset with a write under way, the value before it is kept here.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::PartitionIndex;

use super::record::{CommittedOffset, GroupId, GroupRecord, MemberId, OffsetsByTopic};

/// A decision that was taken over, until its records are committed. Handles are settled in the order of the log.
#[derive(Debug, Default)]
#[must_use = "what it wrote stays invisible until it is settled"]
pub struct Appended {
    pub(super) records: Vec<GroupRecord>,
    pub(super) withheld: Vec<(GroupId, MemberId)>,
}

/// What a group has under way.
#[derive(Debug, Default)]
pub(super) struct Uncommitted {
    /// Records of the group itself.
    metadata: usize,
    offsets: BTreeMap<Arc<str>, BTreeMap<PartitionIndex, Shadow>>,
}

/// One offset with writes under way.
#[derive(Debug)]
struct Shadow {
    committed: Option<CommittedOffset>,
    writes: usize,
}

impl Uncommitted {
    pub(super) fn is_empty(&self) -> bool {
        self.metadata == 0 && self.offsets.is_empty()
    }

    /// True while a record of the group itself is under way.
    pub(super) fn holds_metadata(&self) -> bool {
        self.metadata > 0
    }

    /// Notes a record that is about to take effect on `live`.
    pub(super) fn begin(&mut self, record: &GroupRecord, live: &OffsetsByTopic) {
        match record {
            GroupRecord::Metadata { .. } => self.metadata += 1,
            GroupRecord::Offset { topic, partition, .. } => {
                let of_topic = self.offsets.entry(topic.clone()).or_default();
                let shadow = of_topic.entry(*partition).or_insert_with(|| {
                    let committed = live.get(topic).and_then(|of_topic| of_topic.get(partition)).cloned();
                    Shadow { committed, writes: 0 }
                });
                shadow.writes += 1;
            }
        }
    }

    /// The record is committed.
    pub(super) fn settle(&mut self, record: GroupRecord) {
        match record {
            GroupRecord::Metadata { .. } => self.metadata = self.metadata.saturating_sub(1),
            GroupRecord::Offset { topic, partition, committed, .. } => {
                let Some(of_topic) = self.offsets.get_mut(&topic) else { return };
                let Some(shadow) = of_topic.get_mut(&partition) else { return };
                shadow.committed = committed;
                shadow.writes -= 1;
                if shadow.writes == 0 {
                    of_topic.remove(&partition);
                }
                if of_topic.is_empty() {
                    self.offsets.remove(&topic);
                }
            }
        }
    }

    /// One offset as it is committed.
    pub(super) fn offset<'a>(
        &'a self,
        live: &'a OffsetsByTopic,
        topic: &str,
        partition: PartitionIndex,
    ) -> Option<&'a CommittedOffset> {
        match self.offsets.get(topic).and_then(|of_topic| of_topic.get(&partition)) {
            Some(shadow) => shadow.committed.as_ref(),
            None => live.get(topic)?.get(&partition),
        }
    }

    /// All offsets as they are committed, one by one: first those without a write under way.
    pub(super) fn each<'a>(
        &'a self,
        live: &'a OffsetsByTopic,
    ) -> impl Iterator<Item = (&'a Arc<str>, PartitionIndex, &'a CommittedOffset)> {
        let settled = live.iter().flat_map(|(topic, of_topic)| {
            let shadows = self.offsets.get(topic);
            let is_settled = move |partition: &PartitionIndex| !shadows.is_some_and(|it| it.contains_key(partition));
            let of_topic = of_topic.iter().filter(move |(partition, _)| is_settled(partition));
            of_topic.map(move |(partition, offset)| (topic, *partition, offset))
        });
        let shadowed = self.offsets.iter().flat_map(|(topic, shadows)| {
            shadows.iter().filter_map(move |(partition, shadow)| Some((topic, *partition, shadow.committed.as_ref()?)))
        });
        settled.chain(shadowed)
    }

    /// All offsets as they are committed.
    pub(super) fn committed(&self, live: &OffsetsByTopic) -> OffsetsByTopic {
        let mut committed = OffsetsByTopic::new();
        for (topic, partition, offset) in self.each(live) {
            committed.entry(topic.clone()).or_default().insert(partition, offset.clone());
        }
        committed
    }
}
