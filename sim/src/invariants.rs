//! What must hold between any two steps, seen from inside the nodes.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};

use broker::simulated::{Observer, PartitionLook};
use model::{LeaderEpoch, NodeId, TopicPartition};

use crate::history::History;

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Invariants {
    /// Who leads in an epoch.
    leaders: BTreeMap<(TopicPartition, LeaderEpoch), NodeId>,
    /// How far a leader had come in its term.
    terms: BTreeMap<(NodeId, TopicPartition, LeaderEpoch), i64>,
    /// What the metadata of a version are.
    images: BTreeMap<u64, u64>,
    /// The newest version that a node had.
    versions: BTreeMap<NodeId, u64>,
    /// The newest leader epoch that any metadata told.
    epochs: BTreeMap<TopicPartition, (u64, LeaderEpoch)>,
}

impl Invariants {
    /// Looks at all nodes.
    pub(crate) fn check(&mut self, nodes: &BTreeMap<NodeId, Observer>, history: &History) {
        for (node, observer) in nodes {
            self.check_image(*node, observer, history);
            for look in observer.partitions() {
                self.check_partition(*node, &look, history);
            }
        }
    }

    /// The node's process is another one: it may begin behind the one before.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.versions.remove(&node);
    }

    fn check_image(&mut self, node: NodeId, observer: &Observer, history: &History) {
        let Some(image) = observer.image() else { return };
        let version = image.version();
        let before = self.versions.insert(node, version).unwrap_or_default();
        if version < before {
            history.violation(format!("node {node}: its metadata go back from version {before} to {version}"));
        }
        if version == before {
            return;
        }
        let mut digest = DefaultHasher::new();
        digest.write(&serde_json::to_vec(&**image).unwrap_or_default());
        let digest = digest.finish();
        if *self.images.entry(version).or_insert(digest) != digest {
            history.violation(format!("node {node}: its metadata of version {version} differ from another node's"));
        }
        for (id, partition) in image.partitions() {
            let (seen, newest) = self.epochs.entry(id).or_insert((version, partition.leader_epoch));
            if version >= *seen && partition.leader_epoch < *newest {
                history.violation(format!("{id:?}: its leader epoch goes back from {newest}"));
            }
            if version >= *seen {
                (*seen, *newest) = (version, partition.leader_epoch);
            }
        }
    }

    fn check_partition(&mut self, node: NodeId, look: &PartitionLook, history: &History) {
        let PartitionLook { id, topic, term, log_start, local_start, archived_end, high_watermark, log_end } = look;
        // A follower that was away may end before the start that was decided meanwhile; it begins there then.
        let of_leader = local_start <= log_end && archived_end <= high_watermark && local_start <= archived_end;
        if log_start > local_start || high_watermark > log_end || (term.is_some() && !of_leader) {
            history.violation(format!("node {node} {topic}: its offsets are out of order: {look:?}"));
        }
        let Some(term) = term else { return };
        let leader = *self.leaders.entry((*id, *term)).or_insert(node);
        if leader != node {
            history.violation(format!("{topic}: nodes {leader} and {node} lead in epoch {term}"));
        }
        let before = self.terms.insert((node, *id, *term), *high_watermark).unwrap_or(i64::MIN);
        if *high_watermark < before {
            history.violation(format!("node {node} {topic}: its high watermark goes back from {before} in {term}"));
        }
    }
}
