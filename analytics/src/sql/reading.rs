//! Reading on another runtime than that of the query: connections are kept for later queries and must outlive this one, and
//! a read that several wait for must not stop with the threads of one of them.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cold_tier::ColdTier;
use futures::stream::{self, BoxStream, StreamExt};
use model::{Offset, PartitionIndex, TopicName};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::source::{PinnedTopic, Source, SourceError};

/// Answers of a leader that are fetched ahead.
const FETCHED_AHEAD: usize = 1;

/// Runs `read` on `reading`; it is dropped with the result.
///
/// # Errors
/// When that runtime ends, or `read` panics.
pub(super) async fn aside<T: Send + 'static>(
    reading: &Handle,
    read: impl Future<Output = T> + Send + 'static,
) -> Result<T, SourceError> {
    let task = AbortOnDropHandle::new(reading.spawn(read));
    task.await.map_err(|error| SourceError(format!("reading was given up: {error}")))
}

/// A source that is asked on another runtime.
#[derive(Debug)]
pub(super) struct ReadAside {
    source: Arc<dyn Source>,
    reading: Handle,
}

impl ReadAside {
    pub(super) fn new(source: Arc<dyn Source>, reading: Handle) -> Self {
        ReadAside { source, reading }
    }
}

#[async_trait]
impl Source for ReadAside {
    async fn topics(&self) -> Result<Vec<TopicName>, SourceError> {
        let source = Arc::clone(&self.source);
        aside(&self.reading, async move { source.topics().await }).await?
    }

    async fn pin(&self, topic: &str) -> Result<Option<PinnedTopic>, SourceError> {
        let (source, topic) = (Arc::clone(&self.source), topic.to_owned());
        aside(&self.reading, async move { source.pin(&topic).await }).await?
    }

    fn hot(
        &self,
        topic: &PinnedTopic,
        partition: PartitionIndex,
        range: Range<Offset>,
    ) -> BoxStream<'static, Result<Bytes, SourceError>> {
        let mut records = self.source.hot(topic, partition, range);
        let (sender, receiver) = mpsc::channel(FETCHED_AHEAD);
        let task = self.reading.spawn(async move {
            while let Some(fetched) = records.next().await {
                if sender.send(fetched).await.is_err() {
                    return;
                }
            }
        });
        let state = (receiver, AbortOnDropHandle::new(task));
        stream::unfold(state, |(mut receiver, task)| async move {
            let fetched = receiver.recv().await?;
            Some((fetched, (receiver, task)))
        })
        .boxed()
    }

    fn cold(&self) -> Option<ColdTier> {
        self.source.cold()
    }

    fn notice(&self) -> Option<String> {
        self.source.notice()
    }
}
