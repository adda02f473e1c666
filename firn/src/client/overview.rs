//! The whole cluster as one who operates it sees it: brokers that are lost included, every partition's replicas, the
//! quorum of the metadata log.

use std::collections::BTreeMap;

use model::topic_name::CLUSTER_METADATA_TOPIC;
use protocol::messages::describe_cluster_response::DescribeClusterBroker;
use protocol::messages::describe_configs_request::DescribeConfigsResource;
use protocol::messages::describe_quorum_request::{PartitionData as WantedPartition, TopicData as WantedTopic};
use protocol::messages::describe_quorum_response::{DescribeQuorumResponse, ReplicaState};
use protocol::messages::describe_topic_partitions_response::DescribeTopicPartitionsResponsePartition;
use protocol::messages::{
    DescribeClusterRequest, DescribeConfigsRequest, DescribeQuorumRequest, DescribeTopicPartitionsRequest,
    ListPartitionReassignmentsRequest,
};
use protocol::{ErrorCode, Str};
use serde::Serialize;

use super::topics::TOPIC_RESOURCE;
use super::{Client, ClientError, Endpoint};

/// Partitions of one page of an answer.
const PAGE: i32 = 2000;
const MIN_IN_SYNC: &str = "min.insync.replicas";
const DEFAULT_REPLICATION: &str = "default.replication.factor";
const OFFSETS_REPLICATION: &str = "offsets.topic.replication.factor";
/// The number by which requests about settings name a broker.
pub(super) const BROKER_RESOURCE: i8 = 4;

/// The cluster at one time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overview {
    pub(crate) cluster_id: String,
    /// The broker that decides changes, as far as the one that was asked knows.
    pub(crate) controller: i32,
    pub(crate) brokers: Vec<BrokerState>,
    pub(crate) topics: Vec<TopicState>,
    pub(crate) quorum: QuorumState,
    pub(crate) usual: UsualReplicas,
}

/// Replicas of topics that are created without a number of them, by the configuration of a broker; 0 where no broker answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct UsualReplicas {
    /// `default.replication.factor`.
    pub(crate) ordinary: usize,
    /// `offsets.topic.replication.factor`.
    pub(crate) group_offsets: usize,
}

/// A registered broker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct BrokerState {
    pub(crate) id: i32,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) rack: Option<String>,
    /// It may not lead: it is lost, starting or stopping.
    pub(crate) is_fenced: bool,
}

/// A topic.
#[derive(Debug, Clone, Default)]
pub(crate) struct TopicState {
    pub(crate) name: String,
    /// Copies without which writes with acks=all are refused.
    pub(crate) min_in_sync: usize,
    pub(crate) partitions: Vec<PartitionState>,
}

/// A partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct PartitionState {
    pub(crate) index: i32,
    /// −1 for no broker.
    pub(crate) leader: i32,
    /// The preferred leader first.
    pub(crate) replicas: Vec<i32>,
    pub(crate) in_sync: Vec<i32>,
    /// Out of sync, but certain to have everything that was acknowledged (KIP-966).
    pub(crate) eligible: Vec<i32>,
}

/// The quorum of the metadata log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct QuorumState {
    /// −1 for no broker.
    pub(crate) leader: i32,
    pub(crate) epoch: i32,
    /// First position that no majority holds yet.
    pub(crate) high_watermark: i64,
    pub(crate) voters: Vec<QuorumMember>,
    pub(crate) learners: Vec<QuorumMember>,
}

/// A node of the quorum.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct QuorumMember {
    pub(crate) id: i32,
    /// Where its log ends; −1 where the node that was asked does not know.
    pub(crate) log_end: i64,
    /// Its internal listener, for voters.
    pub(crate) address: Option<String>,
}

/// A partition whose replicas are being changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Reassignment {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) replicas: Vec<i32>,
    pub(crate) adding: Vec<i32>,
    pub(crate) removing: Vec<i32>,
}

impl Overview {
    /// Every partition with its topic.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = (&TopicState, &PartitionState)> {
        self.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |partition| (topic, partition)))
    }

    /// Whether the broker is registered and may lead.
    pub(crate) fn is_alive(&self, id: i32) -> bool {
        self.brokers.iter().any(|broker| broker.id == id && !broker.is_fenced)
    }
}

impl BrokerState {
    /// Where clients reach it.
    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint { host: self.host.clone(), port: self.port }
    }
}

impl Client {
    /// Brokers, partitions and quorum.
    pub(crate) async fn overview(&mut self) -> Result<Overview, ClientError> {
        let request = DescribeClusterRequest { include_fenced_brokers: true, ..DescribeClusterRequest::default() };
        let answer = self.call_any(&request, self.deadline()).await?;
        ClientError::check(answer.error_code, answer.error_message.as_deref(), || "describing the cluster".to_owned())?;
        let mut topics = self.describe_partitions().await?;
        self.fill_min_in_sync(&mut topics).await?;
        let brokers: Vec<BrokerState> = answer.brokers.into_iter().map(BrokerState::from).collect();
        Ok(Overview {
            cluster_id: answer.cluster_id.into(),
            controller: answer.controller_id,
            usual: self.usual_replicas(&brokers).await,
            brokers,
            topics,
            quorum: self.quorum().await?,
        })
    }

    /// All topics with their partitions, page by page.
    async fn describe_partitions(&mut self) -> Result<Vec<TopicState>, ClientError> {
        let mut topics: BTreeMap<String, TopicState> = BTreeMap::new();
        let mut request = DescribeTopicPartitionsRequest {
            response_partition_limit: PAGE,
            ..DescribeTopicPartitionsRequest::default()
        };
        loop {
            let answer = self.call_any(&request, self.deadline()).await?;
            for found in answer.topics.into_iter().filter(|topic| topic.error_code == 0) {
                let name = found.name.map(String::from).unwrap_or_default();
                let topic = topics.entry(name.clone()).or_default();
                topic.name = name;
                topic.partitions.extend(found.partitions.into_iter().map(PartitionState::from));
            }
            let Some(next) = answer.next_cursor else { break };
            request.cursor = Some(protocol::messages::describe_topic_partitions_request::Cursor {
                topic_name: next.topic_name,
                partition_index: next.partition_index,
                ..Default::default()
            });
        }
        Ok(topics.into_values().collect())
    }

    async fn fill_min_in_sync(&mut self, topics: &mut [TopicState]) -> Result<(), ClientError> {
        let resource = |topic: &TopicState| DescribeConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: Str::from(&topic.name),
            configuration_keys: Some(vec![Str::from_static(MIN_IN_SYNC)]),
            ..DescribeConfigsResource::default()
        };
        if topics.is_empty() {
            return Ok(());
        }
        let request = DescribeConfigsRequest {
            resources: topics.iter().map(resource).collect(),
            ..DescribeConfigsRequest::default()
        };
        let answer = self.call_any(&request, self.deadline()).await?;
        let values: BTreeMap<String, usize> = answer
            .results
            .into_iter()
            .filter_map(|result| {
                let config = result.configs.into_iter().find(|config| config.name == MIN_IN_SYNC)?;
                Some((result.resource_name.into(), config.value?.parse().ok()?))
            })
            .collect();
        for topic in topics {
            topic.min_in_sync = values.get(&topic.name).copied().unwrap_or(1);
        }
        Ok(())
    }

    /// By the first broker that tells.
    async fn usual_replicas(&mut self, brokers: &[BrokerState]) -> UsualReplicas {
        for broker in brokers.iter().filter(|broker| !broker.is_fenced) {
            let resource = DescribeConfigsResource {
                resource_type: BROKER_RESOURCE,
                resource_name: Str::from(broker.id.to_string()),
                configuration_keys: Some(vec![
                    Str::from_static(DEFAULT_REPLICATION),
                    Str::from_static(OFFSETS_REPLICATION),
                ]),
                ..DescribeConfigsResource::default()
            };
            let request = DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
            let Ok(answer) = self.call_at(&broker.endpoint(), &request, self.deadline()).await else { continue };
            let configs: Vec<_> = answer.results.into_iter().flat_map(|result| result.configs).collect();
            let value = |name: &str| configs.iter().find(|config| config.name == name)?.value.as_deref()?.parse().ok();
            if let (Some(ordinary), Some(group_offsets)) = (value(DEFAULT_REPLICATION), value(OFFSETS_REPLICATION)) {
                return UsualReplicas { ordinary, group_offsets };
            }
        }
        UsualReplicas::default()
    }

    /// The quorum of the metadata log.
    pub(crate) async fn quorum(&mut self) -> Result<QuorumState, ClientError> {
        let wanted = WantedTopic {
            topic_name: Str::from_static(CLUSTER_METADATA_TOPIC),
            partitions: vec![WantedPartition::default()],
            ..WantedTopic::default()
        };
        let request = DescribeQuorumRequest { topics: vec![wanted], ..DescribeQuorumRequest::default() };
        let answer = self.call_any(&request, self.deadline()).await?;
        quorum_state(answer)
    }

    /// The partitions whose replicas are being changed.
    pub(crate) async fn reassignments(&mut self) -> Result<Vec<Reassignment>, ClientError> {
        let request =
            ListPartitionReassignmentsRequest { topics: None, ..ListPartitionReassignmentsRequest::default() };
        let answer = match self.call_any(&request, self.deadline()).await {
            // A broker that cannot change replicas changes none.
            Err(ClientError::Unsupported { .. }) => return Ok(Vec::new()),
            answer => answer?,
        };
        let doing = || "listing reassignments".to_owned();
        ClientError::check(answer.error_code, answer.error_message.as_deref(), doing)?;
        let of_topic = |topic: protocol::messages::list_partition_reassignments_response::OngoingTopicReassignment| {
            let name = String::from(topic.name);
            topic.partitions.into_iter().map(move |p| Reassignment {
                topic: name.clone(),
                partition: p.partition_index,
                replicas: p.replicas,
                adding: p.adding_replicas,
                removing: p.removing_replicas,
            })
        };
        Ok(answer.topics.into_iter().flat_map(of_topic).collect())
    }
}

impl From<DescribeClusterBroker> for BrokerState {
    fn from(broker: DescribeClusterBroker) -> Self {
        BrokerState {
            id: broker.broker_id,
            host: broker.host.into(),
            port: u16::try_from(broker.port).unwrap_or(0),
            rack: broker.rack.map(String::from),
            is_fenced: broker.is_fenced,
        }
    }
}

impl From<DescribeTopicPartitionsResponsePartition> for PartitionState {
    fn from(partition: DescribeTopicPartitionsResponsePartition) -> Self {
        PartitionState {
            index: partition.partition_index,
            leader: partition.leader_id,
            replicas: partition.replica_nodes,
            in_sync: partition.isr_nodes,
            eligible: partition.eligible_leader_replicas.unwrap_or_default(),
        }
    }
}

fn quorum_state(answer: DescribeQuorumResponse) -> Result<QuorumState, ClientError> {
    let doing = || "describing the metadata quorum".to_owned();
    ClientError::check(answer.error_code, answer.error_message.as_deref(), doing)?;
    let partition = answer.topics.into_iter().flat_map(|topic| topic.partitions).next();
    let silent = Some("the answer does not mention it");
    let Some(partition) = partition else {
        return Err(ClientError::Refused {
            doing: doing(),
            code: ErrorCode::UnknownServerError.code(),
            message: silent.map(str::to_owned),
        });
    };
    ClientError::check(partition.error_code, partition.error_message.as_deref(), doing)?;
    let addresses: BTreeMap<i32, String> = answer
        .nodes
        .into_iter()
        .filter_map(|node| {
            let listener = node.listeners.into_iter().next()?;
            Some((node.node_id, Endpoint { host: listener.host.into(), port: listener.port }.to_string()))
        })
        .collect();
    let member = |replica: ReplicaState| QuorumMember {
        id: replica.replica_id,
        log_end: replica.log_end_offset,
        address: addresses.get(&replica.replica_id).cloned(),
    };
    Ok(QuorumState {
        leader: partition.leader_id,
        epoch: partition.leader_epoch,
        high_watermark: partition.high_watermark,
        voters: partition.current_voters.into_iter().map(member).collect(),
        learners: partition.observers.into_iter().map(member).collect(),
    })
}
