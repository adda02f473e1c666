//! ElectLeaders (KIP-460): back to preferred leaders, or unclean ones where nobody can lead without loss.

use std::collections::BTreeMap;

use coordinator::cluster::{ClusterError, Command, ElectionKind, Reply};
use model::TopicPartition;
use protocol::messages::elect_leaders_request::TopicPartitions;
use protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use protocol::{ErrorCode, Str};

use super::RequestContext;
use super::errors::{Refusal, told, unexpected_reply};
use crate::metadata::ClusterImage;

/// What became of a partition.
type Outcome = (i32, Result<(), Refusal>);

/// The same, by topic.
type Outcomes = BTreeMap<Str, Vec<Outcome>>;

pub(super) async fn handle(context: &RequestContext<'_>, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let kind = match request.election_type {
        0 => ElectionKind::Preferred,
        1 => ElectionKind::Unclean,
        _ => return refused(ErrorCode::InvalidRequest),
    };
    let mut outcomes = Outcomes::new();
    let image = context.broker.metadata.image();
    let partitions = request.topic_partitions.map(|topics| resolve(&image, topics, &mut outcomes));
    if partitions.as_ref().is_none_or(|partitions| !partitions.is_empty()) {
        match context.broker.metadata.submit(Command::ElectLeaders { kind, partitions }).await {
            Ok(Reply::LeadersElected(elected)) => {
                let image = context.broker.metadata.image();
                elected.into_iter().for_each(|(id, outcome)| note(&image, id, outcome, &mut outcomes));
            }
            Ok(reply) => return refused(unexpected_reply(&reply).code),
            Err(error) => return refused(Refusal::from(error).code),
        }
    }
    ElectLeadersResponse {
        replica_election_results: outcomes.into_iter().map(answer).collect(),
        ..ElectLeadersResponse::default()
    }
}

/// The partitions that exist; the others have their outcome.
fn resolve(image: &ClusterImage, topics: Vec<TopicPartitions>, outcomes: &mut Outcomes) -> Vec<TopicPartition> {
    let mut found = Vec::new();
    for TopicPartitions { topic: name, partitions, .. } in topics {
        let topic = image.topic(&name);
        for index in partitions {
            let exists = topic.filter(|topic| (0..topic.partitions).contains(&index));
            if let Some(topic) = exists {
                found.push(TopicPartition { topic_id: topic.id, partition: index });
                continue;
            }
            let what = if topic.is_some() { format!("partition {name}-{index}") } else { format!("topic {name:?}") };
            let refusal = Refusal::new(ErrorCode::UnknownTopicOrPartition, format!("there is no {what}"));
            outcomes.entry(name.clone()).or_default().push((index, Err(refusal)));
        }
    }
    found
}

fn note(image: &ClusterImage, id: TopicPartition, outcome: Result<(), ClusterError>, outcomes: &mut Outcomes) {
    // A topic that was deleted in the meantime has no name to answer with.
    if let Some(topic) = image.topic_by_id(id.topic_id) {
        let name = Str::from(topic.name.to_string());
        outcomes.entry(name).or_default().push((id.partition, outcome.map_err(Refusal::from)));
    }
}

fn answer((topic, partitions): (Str, Vec<Outcome>)) -> ReplicaElectionResult {
    let result = |(partition_id, outcome): Outcome| {
        let (error_code, error_message) = told(outcome);
        PartitionResult { partition_id, error_code, error_message, ..PartitionResult::default() }
    };
    let partition_result = partitions.into_iter().map(result).collect();
    ReplicaElectionResult { topic, partition_result, ..ReplicaElectionResult::default() }
}

fn refused(code: ErrorCode) -> ElectLeadersResponse {
    ElectLeadersResponse { error_code: code.code(), ..ElectLeadersResponse::default() }
}
