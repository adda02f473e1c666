//! CreatePartitions (KIP-195): topics only grow.

use std::collections::HashMap;

use coordinator::cluster::{Command, MAX_PARTITIONS_PER_COMMAND, MorePartitions, Reply};
use model::topic_name::INTERNAL_TOPICS;
use protocol::messages::create_partitions_request::CreatePartitionsTopic;
use protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use protocol::{ErrorCode, Str};

use super::RequestContext;
use super::errors::{Refusal, code_and_message};
use crate::metadata::parts::{InParts, encoded_len};

pub(super) async fn handle(context: &RequestContext<'_>, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let validate_only = request.validate_only;
    let mut times: HashMap<Str, usize> = HashMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.clone()).or_default() += 1;
    }
    let (mut results, mut wanted) = (Vec::new(), Vec::new());
    for topic in request.topics {
        match checked(&topic.name, &mut times) {
            Some(Ok(())) => wanted.push(topic),
            Some(refused) => results.push(result(topic.name, refused)),
            None => {}
        }
    }
    let names: Vec<Str> = wanted.iter().map(|topic| topic.name.clone()).collect();
    let image = context.broker.metadata.image();
    let added = |topic: &MorePartitions| {
        let existing = image.topic(&topic.name).map_or(0, |topic| topic.partitions);
        i64::from(topic.total).saturating_sub(i64::from(existing)).max(0)
    };
    let topics: Vec<MorePartitions> = wanted.into_iter().map(to_more_partitions).collect();
    // The cluster refuses so many at once: it must see all of them.
    let is_too_many = topics.iter().map(added).fold(0, i64::saturating_add) > MAX_PARTITIONS_PER_COMMAND;
    let bytes = |topic: &MorePartitions| if is_too_many { 0 } else { encoded_len(topic) };
    let outcomes = |reply| match reply {
        Reply::PartitionsCreated(outcomes) => Some(outcomes),
        _ => None,
    };
    let how = InParts { command: |topics| Command::CreatePartitions { topics, validate_only }, outcomes };
    let outcomes = context.broker.metadata.submit_in_parts(topics, bytes, how).await;
    context.broker.follow_metadata().await;
    results.extend(names.into_iter().zip(outcomes).map(|(name, outcome)| result(name, outcome.map_err(Refusal::from))));
    CreatePartitionsResponse { results, ..CreatePartitionsResponse::default() }
}

/// Whether the topic may grow by this request. A topic that is named again gets one answer: `None` the other times.
fn checked(name: &Str, times: &mut HashMap<Str, usize>) -> Option<Result<(), Refusal>> {
    let named = times.remove(name)?;
    let refused = |reason| Some(Err(Refusal::new(ErrorCode::InvalidRequest, reason)));
    match named {
        1 if INTERNAL_TOPICS.contains(&&**name) => refused("internal topics keep their partitions"),
        1 => Some(Ok(())),
        _ => refused("the topic is named twice in one request"),
    }
}

fn to_more_partitions(topic: CreatePartitionsTopic) -> MorePartitions {
    let assignment = topic.assignments.map(|new| new.into_iter().map(|partition| partition.broker_ids).collect());
    MorePartitions { name: topic.name.to_string(), total: topic.count, assignment }
}

fn result(name: Str, outcome: Result<(), Refusal>) -> CreatePartitionsTopicResult {
    let (error_code, error_message) = code_and_message(outcome);
    CreatePartitionsTopicResult { name, error_code, error_message, ..CreatePartitionsTopicResult::default() }
}
