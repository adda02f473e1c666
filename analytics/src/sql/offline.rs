//! A bucket alone as a source: what was archived is seen, and what still lies on brokers is not.
//!
//! The bucket's folders tell the cluster and its topics, and the highest version of a partition's manifests is taken for
//! the one that counts. Where a topic was deleted and made again, and both still have folders, the one that was archived
//! to last is seen.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cold_tier::survey::{self, NewestManifest};
use cold_tier::{ColdTier, Config};
use futures::stream::{self, BoxStream, StreamExt};
use model::{Offset, PartitionIndex, TopicId, TopicName};

use super::source::{PinnedPartition, PinnedTopic, Source, SourceError};

/// The archive of one cluster, without the cluster.
#[derive(Debug)]
pub struct Offline {
    cold: ColdTier,
}

impl Offline {
    /// The archive in the store that `config` names. Its cluster is found when `cluster` is `None` and the store holds
    /// the archive of one cluster alone; `config.cluster_id` does not matter. Nothing is written.
    ///
    /// # Errors
    /// When the store does not answer, holds no archive, or those of several clusters.
    pub async fn open(config: Config, cluster: Option<String>) -> Result<Arc<Offline>, SourceError> {
        let cluster_id = match cluster {
            Some(id) => id,
            None => the_one(survey::clusters(&config).await.map_err(SourceError::new)?, &config)?,
        };
        let cold = ColdTier::connect(Config { cluster_id, ..config }).await.map_err(SourceError::new)?;
        Ok(Arc::new(Offline { cold }))
    }

    /// A topic's newest manifests, with when the last of them was written.
    async fn newest(&self, name: &TopicName, id: TopicId) -> Result<(i64, Vec<NewestManifest>), SourceError> {
        let manifests = self.cold.newest_manifests(name, id).await.map_err(SourceError::new)?;
        let written = manifests.iter().map(|newest| newest.written_ms).max().unwrap_or(i64::MIN);
        Ok((written, manifests))
    }
}

fn the_one(mut ids: Vec<String>, config: &Config) -> Result<String, SourceError> {
    let url = cold_tier::redacted(&config.url);
    match (ids.pop(), ids.is_empty()) {
        (Some(id), true) => Ok(id),
        (None, _) => Err(SourceError(format!("{url} holds no archive: there is no firn-cluster-….json at its root"))),
        (Some(last), false) => {
            ids.push(last);
            Err(SourceError(format!("{url} holds archives of several clusters, say which: {}", ids.join(", "))))
        }
    }
}

#[async_trait]
impl Source for Offline {
    async fn topics(&self) -> Result<Vec<TopicName>, SourceError> {
        let topics = self.cold.archived_topics().await.map_err(SourceError::new)?;
        let mut names: Vec<_> = topics.into_iter().map(|(name, _)| name).collect();
        names.dedup();
        Ok(names)
    }

    async fn pin(&self, topic: &str) -> Result<Option<PinnedTopic>, SourceError> {
        let topics = self.cold.archived_topics().await.map_err(SourceError::new)?;
        let mut best: Option<(i64, PinnedTopic)> = None;
        for (name, id) in topics.into_iter().filter(|(name, _)| name.as_str() == topic) {
            let (written, manifests) = self.newest(&name, id).await?;
            if best.as_ref().is_none_or(|(before, _)| written > *before) {
                let partitions = manifests.into_iter().map(pinned).collect();
                best = Some((written, PinnedTopic { name, id, partitions }));
            }
        }
        Ok(best.map(|(_, topic)| topic))
    }

    fn hot(
        &self,
        _: &PinnedTopic,
        _: PartitionIndex,
        _: Range<Offset>,
    ) -> BoxStream<'static, Result<Bytes, SourceError>> {
        // Pins end where the archive does, so that nothing is asked for here.
        stream::empty().boxed()
    }

    fn cold(&self) -> Option<ColdTier> {
        Some(self.cold.clone())
    }

    fn notice(&self) -> Option<String> {
        Some("only archived records are seen: those that are still on brokers alone are not".to_owned())
    }
}

fn pinned(newest: NewestManifest) -> PinnedPartition {
    let NewestManifest { partition, pointer, .. } = newest;
    let (log_start, end) = (pointer.log_start, pointer.archived_end);
    PinnedPartition { partition, log_start, pointer: Some(Arc::new(pointer)), end }
}
