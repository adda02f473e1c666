//! The cluster as a source of tables: the ledger by the broker's view, everything else by the Kafka protocol, so that one
//! path serves partitions that the broker leads and those of others.
//!
//! A pin takes the archive's ledger first and asks the leaders afterwards: what is archived in between is in both halves,
//! and the seam keeps it from being read twice.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use analytics::sql::{PinnedPartition, PinnedTopic, Source, SourceError};
use async_trait::async_trait;
use bytes::Bytes;
use cold_tier::ColdTier;
use futures::stream::{BoxStream, StreamExt, try_unfold};
use model::{Offset, PartitionIndex, TopicId, TopicName};
use protocol::ErrorCode;
use tokio::time::Instant;

use super::catalogue::{Ask, Catalogue, Partition, Topic};
use crate::client::cluster::{EARLIEST, LATEST};
use crate::client::records::{Isolation, whole_batches};
use crate::client::{Backoff, Client, ClientError, ClusterView, Endpoint};

/// How long a request to the cluster is tried again, and how long a leader may send nothing.
const PATIENCE: Duration = Duration::from_secs(30);
/// Clients that wait, with their connections, for the next query.
const IDLE_CLIENTS: usize = 16;

/// The cluster that the broker belongs to.
#[derive(Debug)]
pub(super) struct ClusterSource {
    catalogue: Catalogue,
    cold: ColdTier,
    clients: Arc<Clients>,
    /// The broker's own address, once it was asked for.
    broker: OnceLock<Endpoint>,
}

impl ClusterSource {
    pub(super) fn new(catalogue: Catalogue, cold: ColdTier) -> Self {
        ClusterSource { catalogue, cold, clients: Arc::default(), broker: OnceLock::new() }
    }

    /// A client. The broker's address is known from the first pin on.
    fn client(&self) -> Result<Client, SourceError> {
        if let Some(client) = self.clients.take() {
            return Ok(client);
        }
        let broker = self.broker.get().ok_or_else(not_registered)?;
        Ok(Client::new(vec![broker.clone()], PATIENCE))
    }

    async fn find_broker(&self) -> Result<(), SourceError> {
        if self.broker.get().is_none() {
            let address: Option<(String, u16)> = self.catalogue.ask(Ask::Address).await?;
            let (host, port) = address.ok_or_else(not_registered)?;
            let _ = self.broker.set(Endpoint { host, port });
        }
        Ok(())
    }

    async fn topic(&self, name: &str) -> Result<Option<Topic>, SourceError> {
        let topic: Option<Option<Topic>> = self.catalogue.ask(Ask::Topic(name.to_owned())).await?;
        topic.ok_or_else(not_registered)
    }

    async fn ends(&self, topic: &Topic) -> Result<[BTreeMap<i32, i64>; 2], ClientError> {
        let partitions: Vec<i32> = (0..).take(topic.partitions.len()).collect();
        let mut client = self.client().map_err(|error| ClientError::NoBroker { reasons: error.to_string() })?;
        let name = topic.name.as_str();
        let earliest = client.offsets_seen(name, &partitions, EARLIEST, Isolation::Committed).await?;
        let latest = client.offsets_seen(name, &partitions, LATEST, Isolation::Committed).await?;
        self.clients.put(client);
        Ok([earliest, latest])
    }
}

fn not_registered() -> SourceError {
    SourceError("the broker is not open yet".into())
}

/// Clients with open connections.
#[derive(Debug, Default)]
struct Clients(Mutex<Vec<Client>>);

impl Clients {
    fn take(&self) -> Option<Client> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn put(&self, client: Client) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_CLIENTS {
            idle.push(client);
        }
    }
}

#[async_trait]
impl Source for ClusterSource {
    async fn topics(&self) -> Result<Vec<TopicName>, SourceError> {
        let topics: Option<Vec<String>> = self.catalogue.ask(Ask::Topics).await?;
        let names = topics.ok_or_else(not_registered)?.into_iter().map(topic_name);
        names.collect()
    }

    async fn pin(&self, name: &str) -> Result<Option<PinnedTopic>, SourceError> {
        self.find_broker().await?;
        let Some(topic) = self.topic(name).await? else { return Ok(None) };
        let [earliest, latest] = match self.ends(&topic).await {
            Ok(ends) => ends,
            Err(error) => {
                // A topic that is deleted meanwhile is none.
                let is_there = self.topic(name).await?.is_some_and(|now| now.id == topic.id);
                return if is_there { Err(SourceError::new(error)) } else { Ok(None) };
            }
        };
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for (index, archive) in (0..).zip(topic.partitions) {
            let (Some(&earliest), Some(&latest)) = (earliest.get(&index), latest.get(&index)) else {
                return Err(SourceError(format!("the ends of {name} partition {index} are not known")));
            };
            partitions.push(pinned(index, archive, earliest, latest));
        }
        Ok(Some(PinnedTopic { name: topic_name(topic.name)?, id: topic.id, partitions }))
    }

    fn hot(
        &self,
        topic: &PinnedTopic,
        partition: PartitionIndex,
        range: Range<Offset>,
    ) -> BoxStream<'static, Result<Bytes, SourceError>> {
        let client = match self.client() {
            Ok(client) => client,
            Err(error) => return futures::stream::once(async { Err(error) }).boxed(),
        };
        let tail = Tail {
            client,
            idle: Arc::clone(&self.clients),
            topic: topic.name.to_string(),
            id: topic.id,
            partition,
            range,
            leaders: None,
        };
        try_unfold(tail, |mut tail| async move {
            match tail.next().await? {
                Some(records) => Ok(Some((records, tail))),
                None => {
                    tail.idle.put(tail.client);
                    Ok(None)
                }
            }
        })
        .boxed()
    }

    fn cold(&self) -> Option<ColdTier> {
        Some(self.cold.clone())
    }

    fn notice(&self) -> Option<String> {
        None
    }
}

fn topic_name(name: String) -> Result<TopicName, SourceError> {
    TopicName::new(&name).map_err(|error| SourceError(format!("the broker names a topic {name:?}: {error}")))
}

fn pinned(index: PartitionIndex, archive: Partition, earliest: Offset, latest: Offset) -> PinnedPartition {
    let archived = archive.pointer.as_ref().map(|pointer| (pointer.log_start, pointer.archived_end));
    let (start, archived_end) = archived.unwrap_or_default();
    let log_start = archive.log_start.max(earliest).max(start);
    let end = latest.max(log_start).max(archived_end);
    PinnedPartition { partition: index, log_start, pointer: archive.pointer, end }
}

/// The records of one partition that are read from its leader, whoever that is.
struct Tail {
    client: Client,
    idle: Arc<Clients>,
    topic: String,
    id: TopicId,
    partition: PartitionIndex,
    /// What is still to be read.
    range: Range<Offset>,
    leaders: Option<ClusterView>,
}

impl Tail {
    /// The next whole batches; nothing once the range is read.
    async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        if self.range.is_empty() {
            return Ok(None);
        }
        let deadline = Instant::now() + PATIENCE;
        let mut backoff = Backoff::until(deadline);
        loop {
            match self.fetch().await {
                Ok(Some((records, next))) => {
                    self.range.start = next;
                    return Ok(Some(records));
                }
                Ok(None) if Instant::now() >= deadline => return Err(self.stalled()),
                Ok(None) => {}
                Err(error) if error.has_code(ErrorCode::OffsetOutOfRange) => return Err(self.gone()),
                Err(error) => {
                    self.leaders = None;
                    backoff.pause_after(error).await.map_err(SourceError::new)?;
                }
            }
        }
    }

    async fn fetch(&mut self) -> Result<Option<(Bytes, Offset)>, ClientError> {
        let leader = self.leader().await?;
        let wanted = BTreeMap::from([(self.partition, self.range.start)]);
        let answer = self.client.fetch(&leader, &self.topic, &wanted, Isolation::Committed).await?;
        let Some(data) = answer.into_iter().find(|data| data.partition_index == self.partition) else {
            return Ok(None);
        };
        let doing = || format!("fetching from {} partition {}", self.topic, self.partition);
        ClientError::check(data.error_code, None, doing)?;
        let whole = data.records.and_then(|records| whole_batches(&records.into_bytes()));
        Ok(whole.filter(|(_, next)| *next > self.range.start))
    }

    async fn leader(&mut self) -> Result<Endpoint, ClientError> {
        let view = match self.leaders.take() {
            Some(view) => view,
            None => self.client.leaders(&self.topic).await?,
        };
        let leader = view.leader(&self.topic, self.partition).cloned();
        let same = view.topics.get(&self.topic).is_some_and(|topic| topic.id == self.id);
        self.leaders = Some(view);
        if !same {
            return Err(ClientError::Refused {
                doing: format!("topic {:?}", self.topic),
                code: ErrorCode::UnknownTopicId.code(),
                message: Some("it was deleted, and another one has its name now".into()),
            });
        }
        leader
    }

    fn stalled(&self) -> SourceError {
        let (topic, partition, at) = (&self.topic, self.partition, self.range.start);
        SourceError(format!("{topic} partition {partition} sends nothing from offset {at} on, though it has more"))
    }

    fn gone(&self) -> SourceError {
        let (topic, partition, at) = (&self.topic, self.partition, self.range.start);
        SourceError(format!(
            "offset {at} of {topic} partition {partition} was deleted while it was being read; ask again"
        ))
    }
}

#[cfg(test)]
mod tests {
    use model::archive::ManifestPointer;

    use super::*;

    fn pointer(log_start: Offset, archived_end: Offset) -> Arc<ManifestPointer> {
        Arc::new(ManifestPointer {
            object: "m".into(),
            version: 1,
            leader_epoch: 0,
            log_start,
            archived_end,
            bytes: 0,
            record_bytes: 0,
            objects: 1,
            max_timestamp: 0,
        })
    }

    #[test]
    fn a_pin_takes_the_latest_start_and_never_ends_before_its_seam() {
        let archive = |log_start, pointer| Partition { log_start, pointer };
        let pin = |archive, earliest, latest| {
            let pin = pinned(0, archive, earliest, latest);
            (pin.log_start, pin.seam(), pin.end)
        };
        assert_eq!(pin(archive(0, None), 0, 7), (0, 0, 7));
        assert_eq!(pin(archive(3, Some(pointer(4, 10))), 5, 12), (5, 10, 12));
        assert_eq!(pin(archive(3, Some(pointer(6, 10))), 5, 12), (6, 10, 12));
        // A new leader may not know yet how far the last one got.
        assert_eq!(pin(archive(0, Some(pointer(0, 10))), 0, 8), (0, 10, 10));
        assert_eq!(pin(archive(15, Some(pointer(0, 10))), 12, 14), (15, 15, 15));
    }
}
