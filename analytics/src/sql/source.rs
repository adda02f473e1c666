//! What the engine is given: topics, pins of them, the archive, and the records that are not archived yet.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cold_tier::ColdTier;
use futures::stream::BoxStream;
use model::archive::ManifestPointer;
use model::{Offset, PartitionIndex, TopicId, TopicName};

/// Where tables come from: a running cluster, or a bucket alone.
#[async_trait]
pub trait Source: Send + Sync + Debug + 'static {
    /// The names of all topics. Asked once for each query.
    async fn topics(&self) -> Result<Vec<TopicName>, SourceError>;

    /// The topic as it is now; `None` when there is no such topic. Asked once for each topic of a query.
    async fn pin(&self, topic: &str) -> Result<Option<PinnedTopic>, SourceError>;

    /// Committed record batches, as Kafka's v2 bytes back to back, of all records in `range`: in order of their offsets,
    /// whole batches, so that the first may begin below the range and the last end beyond it. Control batches may be
    /// among them, batches of aborted transactions may not. The stream ends early only with an error.
    fn hot(
        &self,
        topic: &PinnedTopic,
        partition: PartitionIndex,
        range: Range<Offset>,
    ) -> BoxStream<'static, Result<Bytes, SourceError>>;

    /// The archive that the pointers of pins refer to.
    fn cold(&self) -> Option<ColdTier>;

    /// What a reader of an answer must know of what is not seen.
    fn notice(&self) -> Option<String>;
}

/// A topic at one moment.
#[derive(Debug, Clone)]
pub struct PinnedTopic {
    /// Its name.
    pub name: TopicName,
    /// Its id.
    pub id: TopicId,
    /// Its partitions, in the order of their indexes.
    pub partitions: Vec<PinnedPartition>,
}

/// A partition at one moment.
///
/// Invariant: `log_start ≤ seam ≤ end`, where the seam is [`Self::seam`].
#[derive(Debug, Clone)]
pub struct PinnedPartition {
    /// Its index.
    pub partition: PartitionIndex,
    /// First offset that is seen.
    pub log_start: Offset,
    /// The manifest that counts; none when nothing is archived.
    pub pointer: Option<Arc<ManifestPointer>>,
    /// First offset that is not seen: the last stable offset.
    pub end: Offset,
}

impl PinnedPartition {
    /// First offset that is read from the hot half; everything below is read from the archive.
    #[must_use]
    pub fn seam(&self) -> Offset {
        self.pointer.as_ref().map_or(self.log_start, |pointer| pointer.archived_end.max(self.log_start))
    }
}

/// Why a source did not answer, for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

impl SourceError {
    /// An error with the words of `cause`.
    pub fn new(cause: impl ToString) -> Self {
        SourceError(cause.to_string())
    }
}
