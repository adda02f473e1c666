//! Values of topic settings on which the cluster itself decides, from the layers that brokers read, the strongest first:
//!
//! ```text
//! the topic's own ▸ the broker's, dynamic ▸ all brokers', dynamic ▸ the broker's configuration ▸ the table
//! ```
//!
//! Only settings that have the same name on every layer are read here. A layer whose value cannot be read counts as not
//! given, here as on the brokers. Replicas may be configured differently: then the cautious value counts.

use model::settings::spec;
use model::{NodeId, TopicId, TopicPartition};

use super::Cluster;

impl Cluster {
    /// The `min.insync.replicas` by which a partition's high watermark goes: it must not move while the ISR is smaller. The
    /// smallest value that any of its replicas has, and never more than there are replicas (as in Kafka).
    ///
    /// Leaders must take it from the image from which they take the ISR: the cluster decides by it who stays eligible.
    #[must_use]
    pub fn min_insync_replicas(&self, id: TopicPartition) -> usize {
        self.partition(id).map_or(1, |partition| self.min_insync(id.topic_id, &partition.replicas))
    }

    /// See [`Cluster::min_insync_replicas`]: that of partitions of the topic which these nodes keep.
    #[must_use]
    pub fn min_insync(&self, topic_id: TopicId, replicas: &[NodeId]) -> usize {
        const NAME: &str = "min.insync.replicas";
        let of_replica = |id: &NodeId| self.setting(topic_id, *id, NAME).trim().parse::<usize>().unwrap_or(1);
        let registered = replicas.iter().filter(|id| self.broker(**id).is_some());
        let asked = registered.map(of_replica).min().unwrap_or(1);
        asked.clamp(1, replicas.len().max(1))
    }

    /// True when the broker's replicas of the topic are flushed before anything is acknowledged.
    pub(super) fn is_durable(&self, topic_id: TopicId, broker: NodeId) -> bool {
        self.setting(topic_id, broker, "firn.flush").trim() == "durable"
    }

    /// True when a partition that no replica can lead without loss shall not wait: all its replicas are configured so.
    pub(super) fn is_unclean_election_enabled(&self, topic_id: TopicId, replicas: &[NodeId]) -> bool {
        let of_replica = |id: &NodeId| self.setting(topic_id, *id, "unclean.leader.election.enable");
        let mut registered = replicas.iter().filter(|id| self.broker(**id).is_some());
        registered.all(|id| of_replica(id).trim().eq_ignore_ascii_case("true"))
    }

    /// The value of a topic setting for one replica.
    fn setting(&self, topic_id: TopicId, broker: NodeId, name: &str) -> &str {
        let Ok(spec) = spec(name) else { return "" };
        let readable = |value: &&String| spec.kind.check(spec.name, value).is_ok();
        let own = || self.topic_by_id(topic_id)?.configs.get(name).filter(readable);
        let dynamic = || self.broker_configs(broker)?.get(name).filter(readable);
        let cluster = || self.cluster_configs().get(name).filter(readable);
        let fixed = || self.broker(broker)?.topic_defaults.get(name).filter(readable);
        let stated = own().or_else(dynamic).or_else(cluster).or_else(fixed);
        stated.map_or(spec.default, String::as_str)
    }
}
