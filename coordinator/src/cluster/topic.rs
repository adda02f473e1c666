//! What the cluster knows of a topic and of its partitions.

use model::settings::SettingsMap;
use model::{LeaderEpoch, NodeId, Offset, TimestampMs, TopicId, TopicName};
use serde::{Deserialize, Serialize};

/// "This partition has no leader": none of its in-sync replicas is alive.
pub const NO_LEADER: NodeId = -1;

/// A topic. Its partitions are kept beside it, so that a change of one copies one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its identity: never used again, unlike the name.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// When it was created.
    pub created_ms: TimestampMs,
    /// Number of its partitions: their indexes are 0 up to this.
    #[serde(default)]
    pub partitions: i32,
    /// The settings that were set on the topic itself, under Kafka's names.
    #[serde(default)]
    pub configs: SettingsMap,
}

/// Who keeps a partition, and who leads it.
///
/// Invariants: `isr ⊆ replicas`, `elr ⊆ replicas`, `isr ∩ elr = ∅`, `adding` and `removing` are in `replicas` and share
/// nothing, none names a broker twice; `leader ∈ isr` or [`NO_LEADER`]; log start and both epochs only grow. The ISR is empty only where the last member lost its disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// The brokers that keep the partition, the preferred leader first; during a reassignment its target, then those that
    /// it removes.
    pub replicas: Vec<NodeId>,
    /// Those of them that have everything that was acknowledged. A member that has just restarted may be fenced: the leader
    /// takes it out, or waits for it. Without a leader, these are the members that the last one had.
    pub isr: Vec<NodeId>,
    /// Those that have everything that was acknowledged although they are not in sync: they left while the ISR was too
    /// small for the high watermark to move (KIP-966). Each may lead when no member of the ISR can.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elr: Vec<NodeId>,
    /// Those that a reassignment adds (KIP-455): they are replicas for good once all of the target are in sync.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adding: Vec<NodeId>,
    /// Those that a reassignment removes then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removing: Vec<NodeId>,
    /// How many replicas it waits for: it was made while there were too few brokers. None when it waits for none. From
    /// metadata version 2 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted_replicas: Option<usize>,
    /// Readers see nothing below, under any leader: the highest log start that a leader may have shown. From metadata version 3
    /// on.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub log_start: Offset,
    /// The broker that takes writes, or [`NO_LEADER`].
    pub leader: NodeId,
    /// Counts the leaderships: a higher one fences all lower ones.
    pub leader_epoch: LeaderEpoch,
    /// Counts the changes of this value: AlterPartition names the one that it replaces.
    pub partition_epoch: i32,
}

impl Partition {
    /// A partition in its first term.
    #[must_use]
    pub fn new(replicas: Vec<NodeId>, isr: Vec<NodeId>, leader: NodeId) -> Self {
        Partition {
            replicas,
            isr,
            elr: Vec::new(),
            adding: Vec::new(),
            removing: Vec::new(),
            wanted_replicas: None,
            log_start: 0,
            leader,
            leader_epoch: 0,
            partition_epoch: 0,
        }
    }

    /// True while its replicas change.
    #[must_use]
    pub fn is_reassigning(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// The replicas that it shall have: those that it has, unless it is being reassigned.
    #[must_use]
    pub fn target_replicas(&self) -> Vec<NodeId> {
        self.replicas.iter().copied().filter(|id| !self.removing.contains(id)).collect()
    }

    /// The replica that should lead while it can: the first.
    #[must_use]
    pub fn preferred_leader(&self) -> NodeId {
        self.replicas.first().copied().unwrap_or(NO_LEADER)
    }

    /// True when a broker leads the partition.
    #[must_use]
    pub fn has_leader(&self) -> bool {
        self.leader != NO_LEADER
    }
}

fn is_zero(offset: &Offset) -> bool {
    *offset == 0
}

/// A deleted topic whose objects may still lie in the archive.
///
/// Its entries of the archive ledger stay until the purge is reported, so that the sweeper knows what to remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedTopic {
    /// Its identity.
    pub id: TopicId,
    /// The name that it had; another topic may have it by now.
    pub name: TopicName,
    /// Number of its partitions.
    pub partitions: i32,
    /// When it was deleted.
    pub deleted_ms: TimestampMs,
}
