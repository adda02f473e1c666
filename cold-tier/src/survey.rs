//! What a store holds, found out by its names alone: for readers that have a bucket and no cluster.
//!
//! The ledger says which manifest counts; without it the one of the highest version is taken. That may be one whose commit
//! failed: its objects are there and hold committed records all the same, but its log start may be that of a leader which
//! had been replaced already.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt, TryStreamExt};
use model::archive::ManifestPointer;
use model::{PartitionIndex, TopicId, TopicName, TopicPartition};

use crate::config::Config;
use crate::error::{OpenError, ReadError};
use crate::manifest::{MAX_MANIFEST_BYTES, Manifest};
use crate::names::{MARKER_PREFIX, TOPIC_NAME_MAX};
use crate::store::open::{local_root, open_store, redacted};
use crate::tier::ColdTier;

/// Partitions whose manifests are looked for side by side.
const PARTITIONS_AHEAD: usize = 8;

/// A partition's newest manifest, and when it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewestManifest {
    /// Whose.
    pub partition: PartitionIndex,
    /// What the ledger says of it, if it counts.
    pub pointer: ManifestPointer,
    /// When it was written, in ms since the epoch by the store's clock.
    pub written_ms: i64,
}

/// The ids of the clusters whose archives lie in the store at `config.url`, sorted.
///
/// # Errors
/// When the store cannot be opened or does not answer.
pub async fn clusters(config: &Config) -> Result<Vec<String>, OpenError> {
    // Opening a folder makes it, and a folder that is not there holds no archive.
    if local_root(&config.url).is_some_and(|root| !root.is_dir()) {
        return Err(OpenError::Folder { url: config.url.clone(), reason: "there is no such folder".into() });
    }
    let store = open_store(config).await?.into_store(config);
    let unreachable = |call| OpenError::Unreachable { url: redacted(&config.url).to_owned(), call };
    let root = store.list_folder("").await.map_err(unreachable)?;
    let id = |name: &str| Some(name.strip_prefix(MARKER_PREFIX)?.strip_suffix(".json")?.to_owned());
    let mut ids: Vec<_> = root.objects.iter().filter_map(|object| id(object.location.as_ref())).collect();
    ids.sort();
    Ok(ids)
}

impl ColdTier {
    /// The topics that have a folder in the archive, sorted; several may have one name. A name that its folder may have cut is
    /// read from a manifest.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn archived_topics(&self) -> Result<Vec<(TopicName, TopicId)>, ReadError> {
        let root = format!("{}/topics", self.inner.names.cluster_id());
        let listed = self.inner.store.list_folder(&root).await?;
        let mut topics = BTreeSet::new();
        for (name, id) in listed.folders.iter().filter_map(|folder| parse_topic(folder)) {
            let named = if name.len() == TOPIC_NAME_MAX { self.name_in_manifest(&name, id).await? } else { None };
            topics.insert((named.unwrap_or(name), id));
        }
        Ok(topics.into_iter().collect())
    }

    /// The name of a topic as one of its manifests has it, if it has one.
    async fn name_in_manifest(&self, cut: &TopicName, id: TopicId) -> Result<Option<TopicName>, ReadError> {
        let Some(newest) = self.newest_manifests(cut, id).await?.into_iter().next() else { return Ok(None) };
        let manifest = self.inner.manifests.manifest(&newest.pointer).await?;
        Ok(Some(manifest.topic.clone()))
    }

    /// The newest manifest of each partition of a topic that has one, in the order of their indexes.
    ///
    /// # Errors
    /// When the store does not answer, or a manifest is damaged.
    pub async fn newest_manifests(&self, topic: &TopicName, id: TopicId) -> Result<Vec<NewestManifest>, ReadError> {
        let index = |folder: &String| folder.rsplit('/').next()?.parse::<PartitionIndex>().ok().filter(|i| *i >= 0);
        let mut partitions = BTreeSet::new();
        for folder in self.inner.topic_folders(topic, id) {
            partitions.extend(self.inner.store.list_folder(&folder).await?.folders.iter().filter_map(index));
        }
        let newest = |partition| self.newest_manifest(topic, TopicPartition { topic_id: id, partition });
        let found = stream::iter(partitions).map(newest).buffered(PARTITIONS_AHEAD);
        found.try_filter_map(futures::future::ok).try_collect().await
    }

    /// The newest manifest of a partition, if it has one.
    ///
    /// # Errors
    /// As [`Self::newest_manifests`].
    pub async fn newest_manifest(
        &self,
        topic: &TopicName,
        partition: TopicPartition,
    ) -> Result<Option<NewestManifest>, ReadError> {
        let mut objects = Vec::new();
        for folder in self.inner.partition_folders(topic, partition) {
            objects.extend(self.inner.store.list_folder(&format!("{folder}/manifest")).await?.objects);
        }
        // Names begin with the padded version; the leader epoch decides between two of one version.
        let rank = |name: &str| {
            let parts: Vec<_> = name.rsplit('/').next()?.strip_suffix(".manifest")?.splitn(5, '-').collect();
            Some((parts.first()?.parse::<u64>().ok()?, parts.get(3)?.parse::<i64>().ok()?))
        };
        let manifests = objects.into_iter().filter_map(|meta| Some((rank(meta.location.as_ref())?, meta)));
        let Some((_, meta)) = manifests.max_by_key(|(rank, _)| *rank) else { return Ok(None) };
        let object = meta.location.to_string();
        let bytes = self.inner.store.get(&object, MAX_MANIFEST_BYTES).await?;
        let manifest = Manifest::decode(&bytes).and_then(|manifest| match manifest.partition == partition {
            true => Ok(manifest),
            false => Err(format!("it is a manifest of {}", manifest.partition)),
        });
        let manifest = manifest.map_err(|reason| ReadError::Corrupt { object: object.clone(), offset: 0, reason })?;
        let written_ms = meta.last_modified.timestamp_millis();
        Ok(Some(NewestManifest { partition: partition.partition, pointer: manifest.pointer(object), written_ms }))
    }
}

/// The name and the id in a topic's folder name: the id is the last 22 characters, and may hold dashes itself.
fn parse_topic(folder: &str) -> Option<(TopicName, TopicId)> {
    let folder = folder.rsplit('/').next()?;
    let (name, id) = folder.split_at_checked(folder.len().checked_sub(TopicId::TEXT_LEN)?)?;
    Some((TopicName::new(name.strip_suffix('-')?).ok()?, id.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_topics_folder_is_read_back() {
        for (name, id) in [("orders.eu-1", 1_u128), ("a", u128::MAX), ("x-y", 0xfb << 120)] {
            let (name, id) = (TopicName::new(name).unwrap(), TopicId(Uuid::from_u128(id)));
            assert_eq!(parse_topic(&format!("c/topics/{name}-{id}")), Some((name, id)));
        }
        for foreign in ["c/topics/notes", "c/topics/", "c/topics/orders-AAAA", "-AAAAAAAAAAAAAAAAAAAAAQ"] {
            assert_eq!(parse_topic(foreign), None, "{foreign}");
        }
    }
}
