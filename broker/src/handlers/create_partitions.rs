//! CreatePartitions (KIP-195): topics only grow.

use coordinator::cluster::{ClusterError, Command, MorePartitions, Reply};
use model::topic_name::INTERNAL_TOPICS;
use protocol::messages::create_partitions_request::CreatePartitionsTopic;
use protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use protocol::{ErrorCode, Str};

use super::RequestContext;
use super::errors::{Refusal, told, unexpected_reply};

pub(super) async fn handle(context: &RequestContext<'_>, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let validate_only = request.validate_only;
    let (internal, wanted): (Vec<_>, Vec<_>) =
        request.topics.into_iter().partition(|topic| INTERNAL_TOPICS.contains(&&*topic.name));
    let refusal = Refusal::new(ErrorCode::InvalidRequest, "internal topics keep their partitions");
    let mut results: Vec<_> = internal.into_iter().map(|topic| result(topic.name, Err(refusal.clone()))).collect();
    let names: Vec<Str> = wanted.iter().map(|topic| topic.name.clone()).collect();
    let topics = wanted.into_iter().map(to_more_partitions).collect();
    match context.broker.metadata.submit(Command::CreatePartitions { topics, validate_only }).await {
        Ok(Reply::PartitionsCreated(outcomes)) => {
            context.broker.follow_metadata();
            let answer =
                |(name, outcome): (Str, Result<(), ClusterError>)| result(name, outcome.map_err(Refusal::from));
            results.extend(names.into_iter().zip(outcomes).map(answer));
        }
        other => {
            let refusal = match other {
                Ok(reply) => unexpected_reply(&reply),
                Err(error) => Refusal::from(error),
            };
            results.extend(names.into_iter().map(|name| result(name, Err(refusal.clone()))));
        }
    }
    CreatePartitionsResponse { results, ..CreatePartitionsResponse::default() }
}

fn to_more_partitions(topic: CreatePartitionsTopic) -> MorePartitions {
    let assignment = topic.assignments.map(|new| new.into_iter().map(|partition| partition.broker_ids).collect());
    MorePartitions { name: topic.name.to_string(), total: topic.count, assignment }
}

fn result(name: Str, outcome: Result<(), Refusal>) -> CreatePartitionsTopicResult {
    let (error_code, error_message) = told(outcome);
    CreatePartitionsTopicResult { name, error_code, error_message, ..CreatePartitionsTopicResult::default() }
}
