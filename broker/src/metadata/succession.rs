//! Who leads what a broker led, between two images: for one line in the log instead of one for each partition.

use std::sync::Arc;

use coordinator::cluster::NO_LEADER;
use model::NodeId;

use super::ClusterImage;
use crate::places::Places;

/// What became of the partitions that a broker led.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Succession {
    /// Others lead these.
    pub(super) taken_over: Places,
    /// Nobody leads these.
    pub(super) orphaned: Places,
}

impl Succession {
    /// Of the partitions that `broker` led in the image `before` and does not lead in `after`.
    pub(super) fn between(before: &Arc<ClusterImage>, after: &Arc<ClusterImage>, broker: NodeId) -> Self {
        let mut found = Succession::default();
        for (id, _) in before.partitions().filter(|(_, partition)| partition.leader == broker) {
            let Some((now, topic)) = after.partition(id).zip(after.topic_by_id(id.topic_id)) else { continue };
            match now.leader {
                NO_LEADER => found.orphaned.add(&topic.name, id.partition),
                leader if leader != broker => found.taken_over.add(&topic.name, id.partition),
                _ => {}
            }
        }
        found
    }
}

impl std::fmt::Display for Succession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let partitions = |count: usize, one: &str, many: &str| match count {
            1 => format!("1 partition {one}"),
            count => format!("{count} partitions {many}"),
        };
        let Succession { taken_over, orphaned } = self;
        if taken_over.is_empty() && orphaned.is_empty() {
            return f.write_str("it led nothing");
        }
        let mut parts = Vec::new();
        if !taken_over.is_empty() {
            parts.push(
                partitions(taken_over.count(), "has a new leader", "have a new leader") + &format!(" ({taken_over})"),
            );
        }
        if !orphaned.is_empty() {
            parts.push(partitions(orphaned.count(), "has none", "have none") + &format!(" ({orphaned})"));
        }
        f.write_str(&parts.join(", "))
    }
}
