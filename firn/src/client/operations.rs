//! What changes a cluster: elections, reassignments, throttles, voters, brokers that are forgotten.

use std::collections::BTreeMap;

use protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use protocol::messages::elect_leaders_request::TopicPartitions;
use protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use protocol::messages::{
    AddRaftVoterRequest, AlterPartitionReassignmentsRequest, ElectLeadersRequest, IncrementalAlterConfigsRequest,
    RemoveRaftVoterRequest, UnregisterBrokerRequest,
};
use protocol::{ErrorCode, Str};

use super::topics::{ConfigChange, TOPIC_RESOURCE};
use super::{Client, ClientError};

/// How long the cluster may take for a change, in ms.
const CHANGE_TIMEOUT_MS: i32 = 20_000;
/// Partitions of one request.
const BATCH: usize = 1000;

/// What is asked of an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ElectionKind {
    /// Back to the preferred leader, if it is in sync.
    Preferred,
    /// Any replica that is alive, though records may be lost.
    Unclean,
}

/// A topic's partition.
pub(crate) type Place = (String, i32);

/// What became of one partition of a request: nothing to say, or why not.
pub(crate) type Outcomes = Vec<(Place, Option<Failure>)>;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Kafka's code.
    pub(crate) code: i16,
    /// In words.
    pub(crate) reason: String,
}

impl Failure {
    fn from_answer(code: i16, message: Option<&str>) -> Option<Failure> {
        let known = || ErrorCode::from_code(code).map_or_else(|| format!("error {code}"), |code| code.to_string());
        (code != 0).then(|| Failure { code, reason: message.map_or_else(known, str::to_owned) })
    }
}

impl Client {
    /// Elects leaders of these partitions, or of all (`None`). Partitions that need no election are left out.
    pub(crate) async fn elect_leaders(
        &mut self,
        kind: ElectionKind,
        places: Option<&[Place]>,
    ) -> Result<Outcomes, ClientError> {
        let topic = |(topic, partitions): (String, Vec<i32>)| TopicPartitions {
            topic: Str::from(topic),
            partitions,
            ..TopicPartitions::default()
        };
        let request = ElectLeadersRequest {
            election_type: match kind {
                ElectionKind::Preferred => 0,
                ElectionKind::Unclean => 1,
            },
            topic_partitions: places.map(|places| by_topic(places.iter().cloned()).into_iter().map(topic).collect()),
            timeout_ms: CHANGE_TIMEOUT_MS,
            ..ElectLeadersRequest::default()
        };
        let answer = self.call_any(&request, self.deadline()).await?;
        ClientError::check(answer.error_code, None, || "electing leaders".to_owned())?;
        let mut outcomes = Vec::new();
        for topic in answer.replica_election_results {
            for found in topic.partition_result {
                if found.error_code == ErrorCode::ElectionNotNeeded.code() {
                    continue;
                }
                let failure = Failure::from_answer(found.error_code, found.error_message.as_deref());
                outcomes.push(((topic.topic.to_string(), found.partition_id), failure));
            }
        }
        Ok(outcomes)
    }

    /// Changes the replicas of partitions; `None` cancels a change that is under way.
    pub(crate) async fn reassign(
        &mut self,
        moves: &BTreeMap<Place, Option<Vec<i32>>>,
    ) -> Result<Outcomes, ClientError> {
        let all: Vec<_> = moves.iter().collect();
        let mut outcomes = Vec::new();
        for batch in all.chunks(BATCH) {
            outcomes.extend(self.reassign_batch(batch).await?);
        }
        Ok(outcomes)
    }

    async fn reassign_batch(&mut self, batch: &[(&Place, &Option<Vec<i32>>)]) -> Result<Outcomes, ClientError> {
        let mut topics: BTreeMap<&str, Vec<ReassignablePartition>> = BTreeMap::new();
        for ((topic, partition_index), replicas) in batch {
            let partition = ReassignablePartition {
                partition_index: *partition_index,
                replicas: (*replicas).clone(),
                ..ReassignablePartition::default()
            };
            topics.entry(topic).or_default().push(partition);
        }
        let topic = |(name, partitions): (&str, Vec<ReassignablePartition>)| ReassignableTopic {
            name: Str::from(name),
            partitions,
            ..ReassignableTopic::default()
        };
        let request = AlterPartitionReassignmentsRequest {
            timeout_ms: CHANGE_TIMEOUT_MS,
            topics: topics.into_iter().map(topic).collect(),
            ..AlterPartitionReassignmentsRequest::default()
        };
        let answer = self.call_any(&request, self.deadline()).await?;
        let doing = || "changing replicas".to_owned();
        ClientError::check(answer.error_code, answer.error_message.as_deref(), doing)?;
        let mut outcomes = Vec::new();
        for topic in answer.responses {
            for found in topic.partitions {
                let failure = Failure::from_answer(found.error_code, found.error_message.as_deref());
                outcomes.push(((topic.name.to_string(), found.partition_index), failure));
            }
        }
        Ok(outcomes)
    }

    /// Changes settings of one broker or topic (`kind` is Kafka's number of the kind of resource).
    pub(crate) async fn alter_settings(
        &mut self,
        kind: i8,
        name: &str,
        changes: &[ConfigChange],
    ) -> Result<(), ClientError> {
        let alterable = |change: &ConfigChange| {
            let (name, config_operation, value) = match change {
                ConfigChange::Set(name, value) => (name, 0, Some(Str::from(value))),
                ConfigChange::Delete(name) => (name, 1, None),
            };
            AlterableConfig { name: Str::from(name), config_operation, value, ..AlterableConfig::default() }
        };
        let resource = AlterConfigsResource {
            resource_type: kind,
            resource_name: Str::from(name),
            configs: changes.iter().map(alterable).collect(),
            ..AlterConfigsResource::default()
        };
        let request =
            IncrementalAlterConfigsRequest { resources: vec![resource], ..IncrementalAlterConfigsRequest::default() };
        let answer = self.call_any(&request, self.deadline()).await?;
        let doing = || match kind {
            TOPIC_RESOURCE => format!("altering topic {name:?}"),
            _ => format!("settings of broker {name}"),
        };
        match answer.responses.into_iter().next() {
            Some(result) => ClientError::check(result.error_code, result.error_message.as_deref(), doing),
            None => Err(ClientError::Refused {
                doing: doing(),
                code: ErrorCode::UnknownServerError.code(),
                message: Some("the answer does not mention them".to_owned()),
            }),
        }
    }

    /// Forgets a broker that will not come back.
    pub(crate) async fn unregister_broker(&mut self, broker_id: i32) -> Result<(), ClientError> {
        let request = UnregisterBrokerRequest { broker_id, ..UnregisterBrokerRequest::default() };
        let answer = self.call_any(&request, self.deadline()).await?;
        let doing = || format!("unregistering broker {broker_id}");
        ClientError::check(answer.error_code, answer.error_message.as_deref(), doing)
    }

    /// Gives a node that follows the metadata log a vote.
    pub(crate) async fn add_voter(&mut self, voter_id: i32) -> Result<(), ClientError> {
        let request = AddRaftVoterRequest {
            cluster_id: None,
            voter_id,
            timeout_ms: CHANGE_TIMEOUT_MS,
            ..AddRaftVoterRequest::default()
        };
        let answer = self.call_any(&request, self.deadline()).await?;
        let doing = || format!("adding voter {voter_id}");
        ClientError::check(answer.error_code, answer.error_message.as_deref(), doing)
    }

    /// Takes a node's vote.
    pub(crate) async fn remove_voter(&mut self, voter_id: i32) -> Result<(), ClientError> {
        let request = RemoveRaftVoterRequest { cluster_id: None, voter_id, ..RemoveRaftVoterRequest::default() };
        let answer = self.call_any(&request, self.deadline()).await?;
        let doing = || format!("removing voter {voter_id}");
        ClientError::check(answer.error_code, answer.error_message.as_deref(), doing)
    }
}

fn by_topic(places: impl Iterator<Item = Place>) -> BTreeMap<String, Vec<i32>> {
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in places {
        topics.entry(topic).or_default().push(partition);
    }
    topics
}
