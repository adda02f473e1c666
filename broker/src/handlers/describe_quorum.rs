//! DescribeQuorum (KIP-595, KIP-836): who leads the metadata log, who votes, and how far each has got.
//!
//! Positions on the wire are Kafka's log ends: the offset after the last entry.

use model::topic_name::CLUSTER_METADATA_TOPIC;
use protocol::messages::describe_quorum_request::TopicData as WantedTopic;
use protocol::messages::describe_quorum_response::{Listener, Node, PartitionData, ReplicaState, TopicData};
use protocol::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use protocol::{ErrorCode, Str};

use super::RequestContext;
use super::once_each::once_each;
use crate::metadata::{Quorum, QuorumMember};

/// First version that tells where the voters are.
const NODES_SINCE: i16 = 2;
/// Name of the listener under which nodes reach each other.
const INTERNAL_LISTENER: &str = "INTERNAL";

pub(super) async fn handle(context: &RequestContext<'_>, request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    let quorum = context.broker.metadata.quorum_of_leader().await;
    let wanted = once_each(request.topics, |topic| topic.topic_name.clone());
    let topics: Vec<TopicData> = wanted.into_iter().map(|topic| answer(topic, &quorum)).collect();
    let is_described = topics.iter().flat_map(|topic| &topic.partitions).any(|partition| partition.error_code == 0);
    let nodes = if context.version >= NODES_SINCE && is_described { nodes(&quorum) } else { Vec::new() };
    DescribeQuorumResponse { topics, nodes, ..DescribeQuorumResponse::default() }
}

/// Partition 0 of the metadata log is the only one that has a quorum.
fn answer(topic: WantedTopic, quorum: &Quorum) -> TopicData {
    let is_known = |index| index == 0 && topic.topic_name == CLUSTER_METADATA_TOPIC;
    let partition = |index| if is_known(index) { described(quorum) } else { refused(index) };
    let wanted = once_each(topic.partitions, |wanted| wanted.partition_index);
    let partitions = wanted.iter().map(|wanted| partition(wanted.partition_index)).collect();
    TopicData { topic_name: topic.topic_name, partitions, ..TopicData::default() }
}

fn described(quorum: &Quorum) -> PartitionData {
    PartitionData {
        leader_id: quorum.leader.unwrap_or(-1),
        leader_epoch: i32::try_from(quorum.epoch).unwrap_or(i32::MAX),
        high_watermark: end(quorum.committed),
        current_voters: quorum.voters.iter().map(state).collect(),
        observers: quorum.learners.iter().map(state).collect(),
        ..PartitionData::default()
    }
}

fn refused(partition_index: i32) -> PartitionData {
    PartitionData {
        partition_index,
        error_code: ErrorCode::UnknownTopicOrPartition.code(),
        error_message: Some(Str::from(format!("only {CLUSTER_METADATA_TOPIC}-0 has a quorum"))),
        ..PartitionData::default()
    }
}

fn state(member: &QuorumMember) -> ReplicaState {
    ReplicaState { replica_id: member.node_id, log_end_offset: end(member.log_end), ..ReplicaState::default() }
}

/// The offset after the entry; −1 where nothing is known.
fn end(index: Option<u64>) -> i64 {
    index.map_or(-1, |index| i64::try_from(index).unwrap_or(i64::MAX).saturating_add(1))
}

fn nodes(quorum: &Quorum) -> Vec<Node> {
    quorum.voters.iter().filter_map(node).collect()
}

fn node(member: &QuorumMember) -> Option<Node> {
    let (host, port) = member.address.rsplit_once(':')?;
    let listener = Listener {
        name: Str::from_static(INTERNAL_LISTENER),
        host: Str::from(host.trim_matches(['[', ']']).to_owned()),
        port: port.parse().ok()?,
        ..Listener::default()
    };
    Some(Node { node_id: member.node_id, listeners: vec![listener], ..Node::default() })
}
