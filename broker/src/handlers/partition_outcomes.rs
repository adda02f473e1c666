//! What became of the partitions that a request wants changed, by topic.

use std::collections::BTreeMap;
use std::collections::btree_map::IntoIter;

use coordinator::cluster::ClusterError;
use model::{PartitionIndex, TopicPartition};
use protocol::{ErrorCode, Str};

use super::errors::Refusal;
use crate::metadata::ClusterImage;

/// What became of one partition.
pub(super) type Outcome = (PartitionIndex, Result<(), Refusal>);

/// Outcomes in the order in which they became known, by the topics' names.
#[derive(Debug, Default)]
pub(super) struct Outcomes(BTreeMap<Str, Vec<Outcome>>);

impl Outcomes {
    /// The partition, when there is one; else that is its outcome.
    pub(super) fn find(&mut self, image: &ClusterImage, name: &Str, index: PartitionIndex) -> Option<TopicPartition> {
        let topic = image.topic(name);
        if let Some(topic) = topic.filter(|topic| (0..topic.partitions).contains(&index)) {
            return Some(TopicPartition { topic_id: topic.id, partition: index });
        }
        // Without the names: the response has them, and a long one would be repeated for each of its partitions.
        let reason = if topic.is_some() { "there is no such partition" } else { "there is no such topic" };
        let refusal = Refusal::new(ErrorCode::UnknownTopicOrPartition, reason);
        self.0.entry(name.clone()).or_default().push((index, Err(refusal)));
        None
    }

    /// What the metadata said to the change.
    pub(super) fn note(&mut self, name: Str, index: PartitionIndex, outcome: Result<(), ClusterError>) {
        self.0.entry(name).or_default().push((index, outcome.map_err(Refusal::from)));
    }
}

impl IntoIterator for Outcomes {
    type Item = (Str, Vec<Outcome>);
    type IntoIter = IntoIter<Str, Vec<Outcome>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
