//! Which replicas of a topic are throttled: Kafka's `leader.replication.throttled.replicas` and its follower's sister
//! (KIP-73).

use std::collections::BTreeSet;

use crate::{NodeId, PartitionIndex};

/// Replicas whose copying is throttled while they are not in sync.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ThrottledReplicas {
    /// None.
    #[default]
    None,
    /// Every replica of the topic.
    All,
    /// Those of these partitions on these nodes.
    Some(BTreeSet<(PartitionIndex, NodeId)>),
}

impl ThrottledReplicas {
    /// Reads `PARTITION:NODE,PARTITION:NODE,…`, `*`, or nothing; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "" => Some(ThrottledReplicas::None),
            "*" => Some(ThrottledReplicas::All),
            list => {
                let replica = |text: &str| {
                    let (partition, node) = text.split_once(':')?;
                    let (partition, node) = (partition.trim().parse().ok()?, node.trim().parse().ok()?);
                    (partition >= 0 && node >= 0).then_some((partition, node))
                };
                list.split(',').map(replica).collect::<Option<_>>().map(ThrottledReplicas::Some)
            }
        }
    }

    /// Whether the replica of `partition` on `node` is throttled.
    #[must_use]
    pub fn contains(&self, partition: PartitionIndex, node: NodeId) -> bool {
        match self {
            ThrottledReplicas::None => false,
            ThrottledReplicas::All => true,
            ThrottledReplicas::Some(replicas) => replicas.contains(&(partition, node)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_partitions_and_nodes() {
        let listed = ThrottledReplicas::parse(" 0:1, 3:2").unwrap();
        assert!(listed.contains(0, 1) && listed.contains(3, 2));
        assert!(!listed.contains(1, 0) && !listed.contains(3, 1));
        assert!(ThrottledReplicas::parse("*").unwrap().contains(7, 7));
        assert_eq!(ThrottledReplicas::parse(""), Some(ThrottledReplicas::None));
        for wrong in ["0", "0:", "0:1,", "a:b", "0:1;1:2", "-1:2", "0:-2", "*,0:1"] {
            assert_eq!(ThrottledReplicas::parse(wrong), None, "{wrong}");
        }
    }
}
