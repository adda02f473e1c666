//! A Kafka client as small as can be: requests to nodes by name, one at a time on each connection.
//!
//! Topics are named by their ids: a request that was held up must not reach another topic of the same name.

mod administration;
mod groups;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use model::{TopicId, TopicPartition};
use protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use protocol::messages::fetch_response::PartitionData;
use protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use protocol::messages::metadata_request::MetadataRequestTopic;
use protocol::messages::metadata_response::MetadataResponseTopic;
use protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use protocol::messages::produce_response::PartitionProduceResponse;
use protocol::messages::{FetchRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest};
use protocol::{Records, Request, Str};
use tokio::time::Instant;

use broker::wire::Connection;

pub(crate) use administration::NewTopic;
pub(crate) use groups::Membership;

/// Where nodes listen for clients.
pub(crate) const PORT: u16 = 9092;
/// Longest that an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(8);
/// Longest that a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// Asks for the first offset (ListOffsets).
const EARLIEST: i64 = -2;
const MAX_FRAME_BYTES: usize = 64 << 20;

/// The name of a node's host.
pub(crate) fn host(node: i32) -> String {
    format!("n{node}")
}

/// A client. Errors are words: the caller that gets one asks again for the leader.
#[derive(Debug, Default)]
pub(crate) struct Client {
    connections: BTreeMap<i32, Connection>,
}

impl Client {
    /// Asks a node.
    async fn call<R: Request>(&mut self, node: i32, request: &R, version: i16) -> Result<R::Response, String> {
        let mut connection = match self.connections.remove(&node) {
            Some(connection) => connection,
            None => {
                let client_id = Str::from_static("sim");
                let opened = Connection::open((&host(node), PORT), CONNECT_WITHIN, client_id, MAX_FRAME_BYTES).await;
                opened.map_err(|error| error.to_string())?
            }
        };
        // A connection that failed is not used again.
        let answer = connection.call(request, version, Instant::now() + PATIENCE).await;
        let answer = answer.map_err(|error| error.to_string())?;
        self.connections.insert(node, connection);
        Ok(answer)
    }

    /// A topic as a node sees it.
    async fn topic(&mut self, node: i32, wanted: MetadataRequestTopic) -> Result<MetadataResponseTopic, String> {
        let topics = Some(vec![wanted]);
        let request = MetadataRequest { topics, allow_auto_topic_creation: false, ..MetadataRequest::default() };
        let answer = self.call(node, &request, 12).await?;
        let topic = answer.topics.into_iter().next().ok_or("no answer for the topic")?;
        checked(topic.error_code).map(|()| topic)
    }

    /// The id of the topic that has a name now.
    pub(crate) async fn topic_id(&mut self, node: i32, name: &str) -> Result<TopicId, String> {
        let wanted = MetadataRequestTopic { name: Some(Str::from(name)), ..MetadataRequestTopic::default() };
        self.topic(node, wanted).await.map(|topic| TopicId(topic.topic_id))
    }

    /// Who leads a partition, as a node sees it.
    pub(crate) async fn leader(&mut self, node: i32, at: TopicPartition) -> Result<i32, String> {
        let wanted = MetadataRequestTopic { topic_id: at.topic_id.0, name: None, ..MetadataRequestTopic::default() };
        let partitions = self.topic(node, wanted).await?.partitions;
        let found = partitions.into_iter().find(|one| one.partition_index == at.partition && one.leader_id >= 0);
        found.map(|one| one.leader_id).ok_or_else(|| "there is no leader".to_owned())
    }

    /// A new producer's id and epoch.
    pub(crate) async fn producer_id(&mut self, node: i32) -> Result<(i64, i16), String> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            ..InitProducerIdRequest::default()
        };
        let answer = self.call(node, &request, 4).await?;
        checked(answer.error_code).map(|()| (answer.producer_id, answer.producer_epoch))
    }

    /// Hands a batch to a leader, with acks=all.
    pub(crate) async fn produce(
        &mut self,
        node: i32,
        at: TopicPartition,
        batch: Bytes,
    ) -> Result<PartitionProduceResponse, String> {
        let part = PartitionProduceData {
            index: at.partition,
            records: Some(Records::from(batch)),
            ..PartitionProduceData::default()
        };
        let data =
            TopicProduceData { topic_id: at.topic_id.0, partition_data: vec![part], ..TopicProduceData::default() };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 4_000,
            topic_data: vec![data],
            transactional_id: None,
            ..ProduceRequest::default()
        };
        let answer = self.call(node, &request, 13).await?;
        only(answer.responses.into_iter().flat_map(|topic| topic.partition_responses))
    }

    /// What a leader has from an offset on.
    pub(crate) async fn fetch(&mut self, node: i32, at: TopicPartition, offset: i64) -> Result<PartitionData, String> {
        let part = FetchPartition {
            partition: at.partition,
            fetch_offset: offset,
            partition_max_bytes: 16 << 10,
            ..FetchPartition::default()
        };
        let topic = FetchTopic { topic_id: at.topic_id.0, partitions: vec![part], ..FetchTopic::default() };
        let request = FetchRequest {
            max_wait_ms: 200,
            min_bytes: 1,
            max_bytes: 1 << 20,
            topics: vec![topic],
            ..FetchRequest::default()
        };
        let answer = self.call(node, &request, 13).await?;
        checked(answer.error_code)?;
        only(answer.responses.into_iter().flat_map(|topic| topic.partitions))
    }

    /// The first offset that a leader of a topic of this name gives out.
    pub(crate) async fn start(&mut self, node: i32, name: &str, partition: i32) -> Result<i64, String> {
        let part =
            ListOffsetsPartition { partition_index: partition, timestamp: EARLIEST, ..ListOffsetsPartition::default() };
        let topic = ListOffsetsTopic { name: Str::from(name), partitions: vec![part], ..ListOffsetsTopic::default() };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..ListOffsetsRequest::default() };
        let answer = self.call(node, &request, 8).await?;
        let part = only(answer.topics.into_iter().flat_map(|topic| topic.partitions))?;
        checked(part.error_code).map(|()| part.offset)
    }
}

fn checked(code: i16) -> Result<(), String> {
    if code == 0 { Ok(()) } else { Err(format!("error {code}")) }
}

/// The only item of an answer about one partition.
fn only<P>(mut parts: impl Iterator<Item = P>) -> Result<P, String> {
    parts.next().ok_or_else(|| "no answer for the partition".to_owned())
}
