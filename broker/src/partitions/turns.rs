//! What the new terms in one image are to this node: a line in the log for each kind, however many partitions there are.

use std::collections::BTreeMap;

use model::{NodeId, PartitionIndex};
use tracing::{info, warn};

use crate::partition::Turn;
use crate::places::Places;

/// The terms that began.
#[derive(Debug, Default)]
pub(super) struct Turns {
    leads: Places,
    gives_up: Places,
    follows: BTreeMap<NodeId, Places>,
    without_leader: Places,
}

impl Turns {
    /// Adds one.
    pub(super) fn add(&mut self, topic: &str, partition: PartitionIndex, turn: Turn) {
        let places = match turn {
            Turn::Leads => &mut self.leads,
            Turn::GivesUp => &mut self.gives_up,
            Turn::Follows(leader) => self.follows.entry(leader).or_default(),
            Turn::HasNoLeader => &mut self.without_leader,
        };
        places.add(topic, partition);
    }

    /// Writes the lines.
    pub(super) fn tell(&self) {
        let Turns { leads, gives_up, follows, without_leader } = self;
        if !leads.is_empty() {
            info!(partitions = leads.count(), first = %leads, "leads partitions");
        }
        if !gives_up.is_empty() {
            info!(partitions = gives_up.count(), first = %gives_up, "gave up partitions, and follows");
        }
        for (leader, places) in follows {
            info!(leader, partitions = places.count(), first = %places, "follows the leader of partitions");
        }
        if !without_leader.is_empty() {
            warn!(partitions = without_leader.count(), first = %without_leader, "partitions have no leader");
        }
    }
}
