//! AlterPartitionReassignments and ListPartitionReassignments (KIP-455): partitions move to other brokers.

use std::collections::{BTreeMap, BTreeSet};

use coordinator::cluster::{Command, Partition, Reassignment, Reply, Topic};
use model::TopicPartition;
use protocol::messages::alter_partition_reassignments_request::ReassignableTopic;
use protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
};
use protocol::{ApiKey, Str};

use super::errors::{Refusal, code_and_message};
use super::partition_outcomes::{Outcome, Outcomes};
use super::topics::RECORD_BYTES;
use super::{BadRequest, RequestContext};
use crate::metadata::parts::{InParts, encoded_len};
use crate::metadata::{ClusterImage, SubmitError};

/// What a partition that moves takes in a response, in memory and encoded.
const ONGOING_BYTES: usize = 768;

/// Names of the partitions of a command, in its order.
type Asked = Vec<(Str, i32)>;

pub(super) async fn alter(
    context: &RequestContext<'_>,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let allow_replication_factor_change = request.allow_replication_factor_change;
    let mut outcomes = Outcomes::default();
    let image = context.broker.metadata.image();
    let (asked, changes) = resolve(&image, request.topics, &mut outcomes);
    let keep_replication_factor = !allow_replication_factor_change;
    let altered = |reply| match reply {
        Reply::ReassignmentsAltered(outcomes) => Some(outcomes),
        _ => None,
    };
    let command = |changes| Command::AlterReassignments { changes, keep_replication_factor };
    let bytes = |change: &Reassignment| encoded_len(change) + RECORD_BYTES;
    let how = InParts { command, outcomes: altered };
    let altered = context.broker.metadata.submit_in_parts(changes, bytes, how).await;
    context.broker.follow_metadata().await;
    for ((topic, index), outcome) in asked.into_iter().zip(altered) {
        match outcome {
            Ok(()) => outcomes.note(topic, index, Ok(())),
            Err(SubmitError::Refused(error)) => outcomes.note(topic, index, Err(error)),
            Err(error) => return refused(error.into()),
        }
    }
    AlterPartitionReassignmentsResponse {
        allow_replication_factor_change,
        responses: outcomes.into_iter().map(answer).collect(),
        ..AlterPartitionReassignmentsResponse::default()
    }
}

/// The changes of partitions that exist; the others have their outcome.
fn resolve(
    image: &ClusterImage,
    topics: Vec<ReassignableTopic>,
    outcomes: &mut Outcomes,
) -> (Asked, Vec<Reassignment>) {
    let (mut asked, mut changes) = (Asked::new(), Vec::new());
    for ReassignableTopic { name, partitions, .. } in topics {
        for wanted in partitions {
            let index = wanted.partition_index;
            if let Some(partition) = outcomes.find(image, &name, index) {
                asked.push((name.clone(), index));
                changes.push(Reassignment { partition, replicas: wanted.replicas });
            }
        }
    }
    (asked, changes)
}

fn answer((name, partitions): (Str, Vec<Outcome>)) -> ReassignableTopicResponse {
    let response = |(partition_index, outcome): Outcome| {
        let (error_code, error_message) = code_and_message(outcome);
        ReassignablePartitionResponse {
            partition_index,
            error_code,
            error_message,
            ..ReassignablePartitionResponse::default()
        }
    };
    let partitions = partitions.into_iter().map(response).collect();
    ReassignableTopicResponse { name, partitions, ..ReassignableTopicResponse::default() }
}

fn refused(refusal: Refusal) -> AlterPartitionReassignmentsResponse {
    let (error_code, error_message) = code_and_message(Err(refusal));
    AlterPartitionReassignmentsResponse { error_code, error_message, ..AlterPartitionReassignmentsResponse::default() }
}

pub(super) async fn list(
    context: &RequestContext<'_>,
    request: ListPartitionReassignmentsRequest,
) -> Result<ListPartitionReassignmentsResponse, BadRequest> {
    let image = context.broker.metadata.image();
    let is_moving = |(_, partition): &(TopicPartition, &Partition)| partition.is_reassigning();
    let moving_of = |topic: &Topic| image.partitions_of(topic.id).filter(is_moving).count();
    let bytes = image.topics().map(|topic| moving_of(topic) * ONGOING_BYTES).sum();
    context.claim_reply(ApiKey::ListPartitionReassignments, bytes).await?;
    let topics: Vec<OngoingTopicReassignment> = match request.topics {
        None => image.topics().filter_map(|topic| moving(&image, topic, |_| true)).collect(),
        Some(wanted) => {
            let mut by_topic: BTreeMap<Str, BTreeSet<i32>> = BTreeMap::new();
            for topic in wanted {
                by_topic.entry(topic.name).or_default().extend(topic.partition_indexes);
            }
            let of_topic = |(name, indexes): (Str, BTreeSet<i32>)| {
                moving(&image, image.topic(&name)?, |index| indexes.contains(&index))
            };
            by_topic.into_iter().filter_map(of_topic).collect()
        }
    };
    Ok(ListPartitionReassignmentsResponse { topics, ..ListPartitionReassignmentsResponse::default() })
}

/// The topic's partitions that move, if there are any.
fn moving(image: &ClusterImage, topic: &Topic, is_wanted: impl Fn(i32) -> bool) -> Option<OngoingTopicReassignment> {
    let ongoing = |(id, partition): (TopicPartition, &Partition)| OngoingPartitionReassignment {
        partition_index: id.partition,
        replicas: partition.replicas.clone(),
        adding_replicas: partition.adding.clone(),
        removing_replicas: partition.removing.clone(),
        ..OngoingPartitionReassignment::default()
    };
    let partitions = image.partitions_of(topic.id);
    let moving = partitions.filter(|(id, partition)| is_wanted(id.partition) && partition.is_reassigning());
    let partitions: Vec<_> = moving.map(ongoing).collect();
    let name = Str::from(topic.name.to_string());
    let ongoing = OngoingTopicReassignment { name, partitions, ..OngoingTopicReassignment::default() };
    (!ongoing.partitions.is_empty()).then_some(ongoing)
}
