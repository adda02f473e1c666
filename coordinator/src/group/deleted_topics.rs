//! Deleted topics whose committed offsets are to be removed.
//!
//! A topic's name may be taken again at once, its id never. So an offset goes only if it was committed for a deleted id.
//! Old records have no id: such an offset goes if it is older than the deletion of a topic of its name.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{TimestampMs, TopicId};

use super::record::CommittedOffset;

/// See the head of this file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeletedTopics {
    by_name: BTreeMap<Arc<str>, BTreeMap<TopicId, Option<TimestampMs>>>,
}

impl DeletedTopics {
    /// Adds a topic; `deleted_ms` is `None` if the time of its deletion is not known.
    pub fn insert(&mut self, name: &str, id: TopicId, deleted_ms: Option<TimestampMs>) {
        let of_name = self.by_name.entry(Arc::from(name)).or_default();
        let known = of_name.entry(id).or_default();
        *known = deleted_ms.or(*known);
    }

    /// Adds all topics of `other`.
    pub fn extend(&mut self, other: Self) {
        for (name, ids) in other.by_name {
            self.by_name.entry(name).or_default().extend(ids);
        }
    }

    /// True without topics.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Number of topics.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.values().map(BTreeMap::len).sum()
    }

    /// Names of the topics; others may have them by now.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_name.keys()
    }

    /// Whether the offset was committed for one of the topics.
    pub(super) fn cover(&self, topic: &str, committed: &CommittedOffset) -> bool {
        let Some(ids) = self.by_name.get(topic) else { return false };
        if committed.topic_id.is_zero() {
            return ids.values().flatten().any(|deleted_ms| committed.commit_timestamp <= *deleted_ms);
        }
        ids.contains_key(&committed.topic_id)
    }
}
