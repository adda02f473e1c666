//! ElectLeaders (KIP-460): back to preferred leaders, or unclean ones where no replica can lead without loss.

use coordinator::cluster::{Command, ElectionKind, Reply};
use model::TopicPartition;
use protocol::messages::elect_leaders_request::TopicPartitions;
use protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use protocol::{ApiKey, ErrorCode, Str};

use super::errors::{Refusal, code_and_message, unexpected_reply};
use super::partition_outcomes::{Outcome, Outcomes};
use super::{BadRequest, RequestContext};
use crate::metadata::ClusterImage;

/// What an outcome takes in a response, in memory and encoded.
const OUTCOME_BYTES: usize = 512;

pub(super) async fn handle(
    context: &RequestContext<'_>,
    request: ElectLeadersRequest,
) -> Result<ElectLeadersResponse, BadRequest> {
    let kind = match request.election_type {
        0 => ElectionKind::Preferred,
        1 => ElectionKind::Unclean,
        _ => return Ok(refused(ErrorCode::InvalidRequest)),
    };
    let mut outcomes = Outcomes::default();
    let image = context.broker.metadata.image();
    if request.topic_partitions.is_none() {
        let all: usize = image.topics().map(|topic| usize::try_from(topic.partitions).unwrap_or(0)).sum();
        context.claim_reply(ApiKey::ElectLeaders, all * OUTCOME_BYTES).await?;
    }
    let partitions = request.topic_partitions.map(|topics| resolve(&image, topics, &mut outcomes));
    if partitions.as_ref().is_none_or(|partitions| !partitions.is_empty()) {
        match context.broker.metadata.submit(Command::ElectLeaders { kind, partitions }).await {
            Ok(Reply::LeadersElected(elected)) => {
                let image = context.broker.metadata.image();
                for (id, outcome) in elected {
                    // A topic that was deleted in the meantime has no name to answer with.
                    if let Some(topic) = image.topic_by_id(id.topic_id) {
                        outcomes.note(Str::from(topic.name.to_string()), id.partition, outcome);
                    }
                }
            }
            Ok(reply) => return Ok(refused(unexpected_reply(&reply).code)),
            Err(error) => return Ok(refused(Refusal::from(error).code)),
        }
    }
    Ok(ElectLeadersResponse {
        replica_election_results: outcomes.into_iter().map(answer).collect(),
        ..ElectLeadersResponse::default()
    })
}

/// The partitions that exist; the others have their outcome.
fn resolve(image: &ClusterImage, topics: Vec<TopicPartitions>, outcomes: &mut Outcomes) -> Vec<TopicPartition> {
    let mut found = Vec::new();
    for TopicPartitions { topic, partitions, .. } in topics {
        found.extend(partitions.into_iter().filter_map(|index| outcomes.find(image, &topic, index)));
    }
    found
}

fn answer((topic, partitions): (Str, Vec<Outcome>)) -> ReplicaElectionResult {
    let result = |(partition_id, outcome): Outcome| {
        let (error_code, error_message) = code_and_message(outcome);
        PartitionResult { partition_id, error_code, error_message, ..PartitionResult::default() }
    };
    let partition_result = partitions.into_iter().map(result).collect();
    ReplicaElectionResult { topic, partition_result, ..ReplicaElectionResult::default() }
}

fn refused(code: ErrorCode) -> ElectLeadersResponse {
    ElectLeadersResponse { error_code: code.code(), ..ElectLeadersResponse::default() }
}
