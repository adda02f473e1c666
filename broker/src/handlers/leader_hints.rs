//! Who leads instead, told with the error that sends a client away (KIP-951): it need not ask for metadata first.

use std::collections::BTreeSet;
use std::sync::Arc;

use coordinator::cluster::NO_LEADER;
use model::{LeaderEpoch, NO_LEADER_EPOCH, NodeId, PartitionIndex, TopicId, TopicPartition};
use protocol::Str;

use crate::broker::LISTENER;
use crate::metadata::ClusterImage;

/// Where a node is reached: id, host, port, rack.
pub(super) type Endpoint = (NodeId, Str, i32, Option<Str>);

/// Collects the leaders that a response names.
#[derive(Debug)]
pub(super) struct LeaderHints {
    image: Arc<ClusterImage>,
    leaders: BTreeSet<NodeId>,
}

impl LeaderHints {
    pub(super) fn new(image: Arc<ClusterImage>) -> Self {
        LeaderHints { image, leaders: BTreeSet::new() }
    }

    /// The leader of a partition whose topic is known by its id, or else by its name; −1 and −1 when there is none.
    pub(super) fn leader(
        &mut self,
        topic_id: TopicId,
        topic: &str,
        partition: PartitionIndex,
    ) -> (NodeId, LeaderEpoch) {
        let by_name = || self.image.topic(topic).map_or(topic_id, |topic| topic.id);
        let topic_id = if topic_id.is_zero() { by_name() } else { topic_id };
        match self.image.partition(TopicPartition { topic_id, partition }) {
            Some(state) if state.has_leader() => {
                self.leaders.insert(state.leader);
                (state.leader, state.leader_epoch)
            }
            _ => (NO_LEADER, NO_LEADER_EPOCH),
        }
    }

    /// Where the named leaders are reached.
    pub(super) fn nodes(&self) -> Vec<Endpoint> {
        let endpoint = |id: &NodeId| {
            let broker = self.image.broker(*id)?;
            let listener = broker.listener(LISTENER)?;
            let rack = broker.rack.clone().map(Str::from);
            Some((*id, Str::from(listener.host.clone()), i32::from(listener.port), rack))
        };
        self.leaders.iter().filter_map(endpoint).collect()
    }
}
