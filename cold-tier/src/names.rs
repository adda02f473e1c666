//! Names of objects: unique to cluster, topic id, partition, offset range, leader epoch and attempt.
//!
//! ```text
//! firn-cluster-<cluster id>.json                                                            the cluster's marker
//! <cluster id>/topics/<topic name>-<topic id>/<partition>/data/<base>-<next>-<epoch>-<attempt>.parquet
//! <cluster id>/topics/<topic name>-<topic id>/<partition>/manifest/<version>-<base>-<next>-<epoch>-<attempt>.manifest
//! <cluster id>/topics/<topic name>-<topic id>/<partition>/manifest/<version>-<base>-<next>-<epoch>-<attempt>-<n>.node
//! ```
//!
//! Numbers are decimal, padded so that names sort as numbers do (20 digits for offsets and versions, 10 for epochs); the
//! attempt is a UUID. Objects lie only in the folders `data` and `manifest`, so no name is a folder of another.

use model::{LeaderEpoch, Offset, TopicName, TopicPartition};
use uuid::Uuid;

/// Names of one cluster's objects.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    cluster_id: String,
}

/// What tells one write from every other: the range it covers, who makes it, and which try it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) base: Offset,
    pub(crate) next: Offset,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) attempt: Uuid,
}

impl Names {
    /// `None` when `cluster_id` cannot be a folder.
    pub(crate) fn new(cluster_id: &str) -> Option<Self> {
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let valid = (1..=64).contains(&cluster_id.len()) && cluster_id.chars().all(legal);
        valid.then(|| Names { cluster_id: cluster_id.to_owned() })
    }

    pub(crate) fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    pub(crate) fn marker(&self) -> String {
        format!("{MARKER_PREFIX}{}.json", self.cluster_id)
    }

    pub(crate) fn topic(&self, topic: &TopicName, partition: TopicPartition) -> String {
        format!("{}/topics/{topic}-{}", self.cluster_id, partition.topic_id)
    }

    pub(crate) fn partition(&self, topic: &TopicName, partition: TopicPartition) -> String {
        format!("{}/{}", self.topic(topic, partition), partition.partition)
    }

    pub(crate) fn data(&self, topic: &TopicName, partition: TopicPartition, span: Span) -> String {
        let Span { base, next, leader_epoch, attempt } = span;
        let folder = self.partition(topic, partition);
        format!("{folder}/data/{base:020}-{next:020}-{leader_epoch:010}-{attempt}.parquet")
    }

    pub(crate) fn manifest(&self, topic: &TopicName, partition: TopicPartition, version: u64, span: Span) -> String {
        let Span { base, next, leader_epoch, attempt } = span;
        let folder = self.partition(topic, partition);
        format!("{folder}/manifest/{version:020}-{base:020}-{next:020}-{leader_epoch:010}-{attempt}.manifest")
    }

    /// The `n`th child manifest written with the commit that `manifest` belongs to.
    pub(crate) fn node(manifest: &str, n: usize) -> String {
        format!("{}-{n}.node", manifest.strip_suffix(".manifest").unwrap_or(manifest))
    }
}

pub(crate) const MARKER_PREFIX: &str = "firn-cluster-";

/// What a name in a partition's folder says, as far as the sweep needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// A data object that begins at this offset.
    Data(Offset),
    /// A manifest, or a child of one, written with the commit of this version.
    Manifest(u64),
}

/// Reads the last two parts of an object name; `None` for a name that is not ours.
pub(crate) fn parse(name: &str) -> Option<Named> {
    let mut parts = name.rsplit('/');
    let file = parts.next()?;
    let first = file.split('-').next()?;
    match parts.next()? {
        "data" if file.ends_with(".parquet") => first.parse().ok().map(Named::Data),
        "manifest" if file.ends_with(".manifest") || file.ends_with(".node") => first.parse().ok().map(Named::Manifest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use model::TopicId;

    use super::*;

    fn span() -> Span {
        Span { base: 5, next: 17, leader_epoch: 3, attempt: Uuid::from_u128(7) }
    }

    #[test]
    fn names_are_as_documented() {
        let names = Names::new("c1").unwrap();
        let topic = TopicName::new("orders.eu").unwrap();
        let partition = TopicPartition { topic_id: TopicId(Uuid::from_u128(1)), partition: 4 };
        let data = names.data(&topic, partition, span());
        assert_eq!(
            data,
            "c1/topics/orders.eu-AAAAAAAAAAAAAAAAAAAAAQ/4/data/\
             00000000000000000005-00000000000000000017-0000000003-00000000-0000-0000-0000-000000000007.parquet"
        );
        assert_eq!(parse(&data), Some(Named::Data(5)));
        let manifest = names.manifest(&topic, partition, 9, span());
        assert_eq!(parse(&manifest), Some(Named::Manifest(9)));
        assert_eq!(parse(&Names::node(&manifest, 0)), Some(Named::Manifest(9)));
        assert_eq!(parse("c1/topics/x/4/data/readme.txt"), None);
    }

    #[test]
    fn cluster_ids_that_are_no_folder_are_refused() {
        for bad in ["", "a/b", "a b", "..", &"x".repeat(65)] {
            assert!(Names::new(bad).is_none(), "{bad:?} was taken");
        }
    }
}
