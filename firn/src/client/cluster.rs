//! The cluster as its metadata shows it: brokers, topics, leaders; and the offsets where partitions begin and end.

use std::collections::BTreeMap;

use model::TopicId;
use protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use protocol::messages::metadata_request::MetadataRequestTopic;
use protocol::messages::metadata_response::MetadataResponseTopic;
use protocol::messages::{ListOffsetsRequest, MetadataRequest, MetadataResponse};
use protocol::{ApiKey, ErrorCode, Request, Str};
use tokio::time::Instant;

use super::records::Isolation;
use super::{Backoff, Client, ClientError, Endpoint};

/// Asks ListOffsets for the first offset.
pub(crate) const EARLIEST: i64 = -2;
/// Asks ListOffsets for the offset after the last.
pub(crate) const LATEST: i64 = -1;

/// Brokers and topics at one time.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClusterView {
    pub(crate) brokers: BTreeMap<i32, Endpoint>,
    pub(crate) topics: BTreeMap<String, TopicView>,
}

/// A topic.
#[derive(Debug, Clone)]
pub(crate) struct TopicView {
    pub(crate) name: String,
    pub(crate) id: TopicId,
    pub(crate) is_internal: bool,
    pub(crate) partitions: BTreeMap<i32, PartitionView>,
}

/// A partition; brokers by node id, −1 where there is none.
#[derive(Debug, Clone)]
pub(crate) struct PartitionView {
    pub(crate) index: i32,
    pub(crate) leader: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) replicas: Vec<i32>,
    pub(crate) in_sync: Vec<i32>,
}

impl ClusterView {
    /// Where the leader of a partition is.
    ///
    /// # Errors
    /// [`ClientError::NoLeader`], which is worth another try.
    pub(crate) fn leader(&self, topic: &str, partition: i32) -> Result<&Endpoint, ClientError> {
        let leader = self.topics.get(topic).and_then(|topic| topic.partitions.get(&partition));
        let endpoint = leader.and_then(|partition| self.brokers.get(&partition.leader));
        endpoint.ok_or_else(|| ClientError::NoLeader { topic: topic.to_owned(), partition })
    }

    /// Partitions by the broker that leads them.
    ///
    /// # Errors
    /// As [`ClusterView::leader`].
    pub(crate) fn by_leader(
        &self,
        topic: &str,
        partitions: impl IntoIterator<Item = i32>,
    ) -> Result<BTreeMap<Endpoint, Vec<i32>>, ClientError> {
        let mut groups: BTreeMap<Endpoint, Vec<i32>> = BTreeMap::new();
        for partition in partitions {
            groups.entry(self.leader(topic, partition)?.clone()).or_default().push(partition);
        }
        Ok(groups)
    }
}

/// Whether a topic that does not exist is created by asking for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfMissing {
    /// Create it, if the cluster allows.
    Create,
    /// Fail at once.
    Fail,
}

impl Client {
    /// The brokers, and all topics.
    pub(crate) async fn all_topics(&mut self) -> Result<ClusterView, ClientError> {
        let request = MetadataRequest { topics: None, allow_auto_topic_creation: false, ..MetadataRequest::default() };
        let answer = self.call_any(&request, self.deadline()).await?;
        let mut view = ClusterView { brokers: brokers(&answer), topics: BTreeMap::new() };
        for topic in answer.topics {
            let topic = topic_view(topic)?;
            view.topics.insert(topic.name.clone(), topic);
        }
        Ok(view)
    }

    /// The brokers, and one topic, once all its partitions have leaders.
    pub(crate) async fn topic(&mut self, name: &str, if_missing: IfMissing) -> Result<ClusterView, ClientError> {
        let mut backoff = Backoff::until(self.deadline());
        loop {
            match self.try_topic(name, if_missing).await {
                Err(error) if if_missing == IfMissing::Fail && error.has_code(ErrorCode::UnknownTopicOrPartition) => {
                    return Err(self.with_nearest_topic(name, error).await);
                }
                Err(error @ ClientError::NoBroker { .. }) => return Err(error),
                Err(error) => backoff.pause_after(error).await?,
                Ok(view) => return Ok(view),
            }
        }
    }

    async fn try_topic(&mut self, name: &str, if_missing: IfMissing) -> Result<ClusterView, ClientError> {
        let wanted = MetadataRequestTopic { name: Some(Str::from(name)), ..MetadataRequestTopic::default() };
        let request = MetadataRequest {
            topics: Some(vec![wanted]),
            allow_auto_topic_creation: if_missing == IfMissing::Create,
            ..MetadataRequest::default()
        };
        let answer = self.call_any(&request, self.deadline()).await?;
        let mut view = ClusterView { brokers: brokers(&answer), topics: BTreeMap::new() };
        for topic in answer.topics {
            let topic = topic_view(topic)?;
            for &partition in topic.partitions.keys() {
                let leader = topic.partitions[&partition].leader;
                if !view.brokers.contains_key(&leader) {
                    return Err(ClientError::NoLeader { topic: topic.name, partition });
                }
            }
            view.topics.insert(topic.name.clone(), topic);
        }
        Ok(view)
    }

    async fn with_nearest_topic(&mut self, name: &str, error: ClientError) -> ClientError {
        let Ok(all) = self.all_topics().await else { return error };
        let nearest = model::settings::nearest(name, all.topics.keys().map(String::as_str));
        let hint = nearest.map(|nearest| format!(", did you mean {nearest:?}?")).unwrap_or_default();
        ClientError::Refused {
            doing: format!("topic {name:?}"),
            code: ErrorCode::UnknownTopicOrPartition.code(),
            message: Some(format!("there is no such topic{hint}")),
        }
    }

    /// For each partition, the first offset whose timestamp is at least the one given ([`EARLIEST`], [`LATEST`]: the ends
    /// of the log); −1 where there is none.
    pub(crate) async fn offsets(
        &mut self,
        topic: &str,
        partitions: &[i32],
        timestamp: i64,
    ) -> Result<BTreeMap<i32, i64>, ClientError> {
        self.offsets_seen(topic, partitions, timestamp, Isolation::Uncommitted).await
    }

    /// For each partition, the first offset of the log, and its end.
    pub(crate) async fn bounds(
        &mut self,
        topic: &str,
        partitions: &[i32],
    ) -> Result<(BTreeMap<i32, i64>, BTreeMap<i32, i64>), ClientError> {
        let starts = self.offsets(topic, partitions, EARLIEST).await?;
        Ok((starts, self.offsets(topic, partitions, LATEST).await?))
    }

    /// As [`Client::offsets`], as a reader of that isolation sees them.
    pub(crate) async fn offsets_seen(
        &mut self,
        topic: &str,
        partitions: &[i32],
        timestamp: i64,
        isolation: Isolation,
    ) -> Result<BTreeMap<i32, i64>, ClientError> {
        let deadline = self.deadline();
        let mut backoff = Backoff::until(deadline);
        loop {
            match self.try_offsets(topic, partitions, (timestamp, isolation), deadline).await {
                Err(error @ ClientError::NoBroker { .. }) => return Err(error),
                Err(error) => backoff.pause_after(error).await?,
                Ok(offsets) => return Ok(offsets),
            }
        }
    }

    async fn try_offsets(
        &mut self,
        topic: &str,
        partitions: &[i32],
        (timestamp, isolation): (i64, Isolation),
        deadline: Instant,
    ) -> Result<BTreeMap<i32, i64>, ClientError> {
        let view = self.topic(topic, IfMissing::Fail).await?;
        let mut offsets = BTreeMap::new();
        for (endpoint, partitions) in view.by_leader(topic, partitions.iter().copied())? {
            let asked = |index: i32| ListOffsetsPartition {
                partition_index: index,
                timestamp,
                ..ListOffsetsPartition::default()
            };
            let wanted = ListOffsetsTopic {
                name: Str::from(topic),
                partitions: partitions.iter().map(|&index| asked(index)).collect(),
                ..ListOffsetsTopic::default()
            };
            let request = ListOffsetsRequest {
                replica_id: -1,
                isolation_level: isolation.level(),
                topics: vec![wanted],
                ..ListOffsetsRequest::default()
            };
            let answer = self.call_at(&endpoint, &request, deadline).await?;
            for found in answer.topics.into_iter().flat_map(|topic| topic.partitions) {
                offsets.insert(found.partition_index, offset_of(topic, &found)?);
            }
            if let Some(missing) = partitions.iter().find(|index| !offsets.contains_key(index)) {
                let (api, what) = (ApiKey::ListOffsets, format!("partition {missing} of {topic}"));
                return Err(ClientError::Incomplete { endpoint, api, what });
            }
        }
        Ok(offsets)
    }

    /// Sends a request to every broker and gives the answers with where they came from.
    pub(crate) async fn call_all<R: Request>(
        &mut self,
        request: &R,
    ) -> Result<Vec<(Endpoint, R::Response)>, ClientError> {
        let deadline = self.deadline();
        let none = MetadataRequest { topics: Some(Vec::new()), ..MetadataRequest::default() };
        let found = brokers(&self.call_any(&none, deadline).await?);
        let mut answers = Vec::new();
        for endpoint in found.into_values() {
            let answer = self.call_at(&endpoint, request, deadline).await?;
            answers.push((endpoint, answer));
        }
        Ok(answers)
    }
}

fn offset_of(topic: &str, found: &ListOffsetsPartitionResponse) -> Result<i64, ClientError> {
    let doing = || format!("offsets of {topic} partition {}", found.partition_index);
    ClientError::check(found.error_code, None, doing)?;
    Ok(found.offset)
}

fn brokers(answer: &MetadataResponse) -> BTreeMap<i32, Endpoint> {
    let endpoint = |host: &str, port: i32| Some(Endpoint { host: host.to_owned(), port: u16::try_from(port).ok()? });
    answer.brokers.iter().filter_map(|b| Some((b.node_id, endpoint(&b.host, b.port)?))).collect()
}

fn topic_view(topic: MetadataResponseTopic) -> Result<TopicView, ClientError> {
    let name = topic.name.map(String::from).unwrap_or_default();
    ClientError::check(topic.error_code, None, || format!("topic {name:?}"))?;
    let partition = |p: protocol::messages::metadata_response::MetadataResponsePartition| PartitionView {
        index: p.partition_index,
        leader: p.leader_id,
        leader_epoch: p.leader_epoch,
        replicas: p.replica_nodes,
        in_sync: p.isr_nodes,
    };
    Ok(TopicView {
        id: TopicId(topic.topic_id),
        is_internal: topic.is_internal,
        partitions: topic.partitions.into_iter().map(|p| (p.partition_index, partition(p))).collect(),
        name,
    })
}
