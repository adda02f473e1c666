//! DescribeTopicPartitions (KIP-966): what `kafka-topics --describe` asks, a page at a time.

use coordinator::cluster::{NO_LEADER, Partition, Topic};
use protocol::messages::describe_topic_partitions_request::{DescribeTopicPartitionsRequest, TopicRequest};
use protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};
use protocol::{ApiKey, ErrorCode, Str};

use super::topics::{ALL_TOPIC_OPERATIONS, offline_replicas};
use super::{BadRequest, RequestContext};
use crate::metadata::ClusterImage;

/// Most partitions of one page, whatever the client asks for (Kafka: `max.request.partition.size.limit`).
const MAX_PAGE: usize = 2000;
/// What a partition takes in a response, in memory and encoded; it is the only one of its topic where there are many.
const PARTITION_BYTES: usize = 1024;
/// What the name of a topic takes while the page is looked for.
const NAME_BYTES: usize = 320;

pub(super) async fn handle(
    context: &RequestContext<'_>,
    request: DescribeTopicPartitionsRequest,
) -> Result<DescribeTopicPartitionsResponse, BadRequest> {
    let image = context.broker.metadata.image();
    let listed = if request.topics.is_empty() { image.topics().count() } else { 0 };
    context.claim_reply(ApiKey::DescribeTopicPartitions, MAX_PAGE * PARTITION_BYTES + listed * NAME_BYTES).await?;
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, MAX_PAGE);
    let has_cursor = request.cursor.is_some();
    let (first_topic, first_partition) =
        request.cursor.map_or((Str::default(), 0), |cursor| (cursor.topic_name, cursor.partition_index));
    let is_listed = |name: &Str| request.topics.iter().any(|topic| topic.name == *name);
    let is_elsewhere = has_cursor && !request.topics.is_empty() && !is_listed(&first_topic);
    if is_elsewhere || first_partition < 0 {
        return Ok(refused(request.topics, ErrorCode::InvalidRequest));
    }
    let mut names: Vec<Str> = if request.topics.is_empty() {
        image.topics().map(|topic| Str::from(topic.name.to_string())).collect()
    } else {
        request.topics.into_iter().map(|topic| topic.name).collect()
    };
    names.sort_unstable();
    names.dedup();
    let mut page = Page { left: limit, topics: Vec::new(), next: None };
    for name in names.into_iter().filter(|name| *name >= first_topic) {
        let first = if name == first_topic { first_partition } else { 0 };
        if !page.add(&image, name, first) {
            break;
        }
    }
    Ok(DescribeTopicPartitionsResponse {
        topics: page.topics,
        next_cursor: page.next,
        ..DescribeTopicPartitionsResponse::default()
    })
}

/// The cursor does not belong to the request.
fn refused(topics: Vec<TopicRequest>, code: ErrorCode) -> DescribeTopicPartitionsResponse {
    let topic = |topic: TopicRequest| DescribeTopicPartitionsResponseTopic {
        error_code: code.code(),
        name: Some(topic.name),
        ..DescribeTopicPartitionsResponseTopic::default()
    };
    let topics = topics.into_iter().map(topic).collect();
    DescribeTopicPartitionsResponse { topics, ..DescribeTopicPartitionsResponse::default() }
}

struct Page {
    left: usize,
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
    next: Option<Cursor>,
}

impl Page {
    /// Adds a topic from its partition `first` on; `false` when the page is full.
    fn add(&mut self, image: &ClusterImage, name: Str, first: i32) -> bool {
        let cursor = |partition_index| Cursor { topic_name: name.clone(), partition_index, ..Cursor::default() };
        if self.left == 0 {
            self.next = Some(cursor(first));
            return false;
        }
        let Some(topic) = image.topic(&name) else {
            let error_code = ErrorCode::UnknownTopicOrPartition.code();
            let unknown = DescribeTopicPartitionsResponseTopic { error_code, name: Some(name), ..Default::default() };
            self.topics.push(unknown);
            return true;
        };
        let mut described = describe(topic);
        for (id, partition) in image.partitions_of(topic.id).filter(|(id, _)| id.partition >= first) {
            if self.left == 0 {
                self.next = Some(cursor(id.partition));
                break;
            }
            described.partitions.push(describe_partition(image, id.partition, partition));
            self.left -= 1;
        }
        self.topics.push(described);
        self.next.is_none()
    }
}

fn describe(topic: &Topic) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        name: Some(Str::from(topic.name.to_string())),
        topic_id: topic.id.0,
        is_internal: topic.name.is_internal(),
        topic_authorized_operations: ALL_TOPIC_OPERATIONS,
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

fn describe_partition(
    image: &ClusterImage,
    partition_index: i32,
    partition: &Partition,
) -> DescribeTopicPartitionsResponsePartition {
    let is_led = partition.leader != NO_LEADER;
    DescribeTopicPartitionsResponsePartition {
        error_code: if is_led { 0 } else { ErrorCode::LeaderNotAvailable.code() },
        partition_index,
        leader_id: partition.leader,
        leader_epoch: partition.leader_epoch,
        replica_nodes: partition.replicas.clone(),
        isr_nodes: partition.isr.clone(),
        eligible_leader_replicas: Some(partition.elr.clone()),
        last_known_elr: Some(Vec::new()),
        offline_replicas: offline_replicas(image, partition),
        ..DescribeTopicPartitionsResponsePartition::default()
    }
}
