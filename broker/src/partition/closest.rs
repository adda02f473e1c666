//! Which replica a consumer should read from (KIP-392), and which followers may be held back (KIP-73).

use coordinator::cluster::Cluster;
use model::{NodeId, Offset};

use super::Partition;
use super::term::Role;

impl Partition {
    /// As the leader: the in-sync follower of the consumer's rack that it should read from, when the leader stands elsewhere
    /// and the follower has what is wanted. Of several, the one that is furthest.
    pub(crate) fn closest_replica(&self, rack: &str, from: Offset, image: &Cluster) -> Option<NodeId> {
        let is_near = |id: NodeId| image.broker(id).is_some_and(|broker| broker.rack.as_deref() == Some(rack));
        if rack.is_empty() || is_near(self.node_id) {
            return None;
        }
        let Role::Leader(leading) = &*self.role.read() else { return None };
        let isr = &self.leadership.load().isr;
        let leading = leading.lock();
        let candidates = isr.iter().filter(|id| is_near(**id) && image.is_alive(**id));
        let has_it =
            candidates.filter_map(|id| Some((leading.follower_end(*id)?, *id))).filter(|(end, _)| *end >= from);
        has_it.max().map(|(_, id)| id)
    }

    /// As the leader: whether a follower may be held back for others' sake: only while it is not in sync.
    pub(crate) fn may_hold_back(&self, follower: NodeId) -> bool {
        let throttled = &self.log.settings().leader_throttled;
        throttled.contains(self.id.partition, follower) && !self.leadership.load().isr.contains(&follower)
    }
}
