//! What one answer of a leader says about its partitions, for the log: a line for each trouble, however many partitions have it.

use std::collections::BTreeMap;

use model::{NodeId, PartitionIndex};
use tracing::{info, warn};

use crate::places::Places;

/// Different troubles that are told of one answer.
const TROUBLES_MAX: usize = 4;

/// What is to be told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// These follow again.
    pub(super) recovered: Places,
    /// These cannot, by the reason.
    troubled: BTreeMap<String, Places>,
    /// The same for reasons that are one too many.
    others: Places,
}

impl Told {
    /// Adds a partition that cannot follow.
    pub(super) fn troubled(&mut self, reason: String, topic: &str, partition: PartitionIndex) {
        if self.troubled.len() < TROUBLES_MAX || self.troubled.contains_key(&reason) {
            self.troubled.entry(reason).or_default().add(topic, partition);
        } else {
            self.others.add(topic, partition);
        }
    }

    /// Writes the lines.
    pub(super) fn tell(&self, leader: NodeId) {
        let Told { recovered, troubled, others } = self;
        for (reason, places) in troubled {
            let partitions = places.count();
            warn!(leader, partitions, first = %places, reason, "cannot follow the leader, it is tried again");
        }
        if !others.is_empty() {
            let partitions = others.count();
            warn!(leader, partitions, first = %others, "cannot follow the leader for other reasons, it is tried again");
        }
        if !recovered.is_empty() {
            info!(leader, partitions = recovered.count(), first = %recovered, "follows the leader again");
        }
    }
}
