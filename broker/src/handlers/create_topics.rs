//! CreateTopics.

use coordinator::cluster::{CreatedTopic, Layout, NewTopic};
use model::TopicName;
use model::topic_name::INTERNAL_TOPICS;
use protocol::messages::create_topics_request::CreatableTopic;
use protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use protocol::{ApiKey, ErrorCode, Str};

use super::describe_configs::{topic_entries, topic_weight};
use super::errors::Refusal;
use super::once_each::once_each_counted;
use super::topics::create;
use super::{BadRequest, RequestContext};
use crate::broker::Broker;
use crate::metadata::new_topic_id;

/// "As many as the broker's default says" (KIP-464).
const USE_DEFAULT: i32 = -1;

pub(super) async fn handle(
    context: &RequestContext<'_>,
    request: CreateTopicsRequest,
) -> Result<CreateTopicsResponse, BadRequest> {
    let mut topics = Vec::new();
    let mut wanted = Vec::new();
    let named = once_each_counted(request.topics, |topic| topic.name.clone());
    context.claim_reply(ApiKey::CreateTopics, named.len() * topic_weight(context.broker)).await?;
    for (topic, is_repeated) in named {
        let name = topic.name.clone();
        match to_new_topic(context.broker, topic, is_repeated) {
            Ok(new) => wanted.push(new),
            Err(refusal) => topics.push(refused(name, &refusal)),
        }
    }
    let names: Vec<Str> = wanted.iter().map(|topic| Str::from(topic.name.clone())).collect();
    let outcomes = create(context.broker, wanted, request.validate_only).await;
    topics.extend(names.into_iter().zip(outcomes).map(|(name, outcome)| answer(context.broker, name, outcome)));
    Ok(CreateTopicsResponse { topics, ..CreateTopicsResponse::default() })
}

fn to_new_topic(broker: &Broker, topic: CreatableTopic, is_repeated: bool) -> Result<NewTopic, Refusal> {
    let CreatableTopic { name, num_partitions, replication_factor, assignments, configs, .. } = topic;
    if is_repeated {
        return Err(Refusal::new(ErrorCode::InvalidRequest, "the topic is named twice in one request"));
    }
    if TopicName::is_reserved(&name) {
        return Err(Refusal::new(ErrorCode::InvalidRequest, format!("{name} is the name of the metadata log")));
    }
    if INTERNAL_TOPICS.contains(&&*name) && broker.metadata.image().topic(&name).is_none() {
        return Err(Refusal::new(ErrorCode::InvalidTopicException, "internal topics are created by the cluster"));
    }
    let settings = &broker.config.settings.broker;
    let layout = if assignments.is_empty() {
        let partitions = if num_partitions == USE_DEFAULT { settings.num_partitions } else { num_partitions };
        let uses_default = i32::from(replication_factor) == USE_DEFAULT;
        let replication_factor = if uses_default { settings.default_replication_factor } else { replication_factor };
        Layout::Placed { partitions, replication_factor }
    } else {
        if num_partitions != USE_DEFAULT || i32::from(replication_factor) != USE_DEFAULT {
            let reason = "with an assignment, the number of partitions and the replication factor must be -1";
            return Err(Refusal::new(ErrorCode::InvalidRequest, reason));
        }
        let mut assigned: Vec<_> = assignments.into_iter().map(|a| (a.partition_index, a.broker_ids)).collect();
        assigned.sort_unstable_by_key(|(index, _)| *index);
        if !assigned.iter().map(|(index, _)| *index).eq(0..i32::try_from(assigned.len()).unwrap_or(i32::MAX)) {
            let reason = "the assignment must name the partitions 0, 1, 2, … once each";
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, reason));
        }
        Layout::Assigned(assigned.into_iter().map(|(_, brokers)| brokers).collect())
    };
    let configs = configs.into_iter().map(|c| (c.name.to_string(), c.value.map(|v| v.to_string()))).collect();
    Ok(NewTopic { id: new_topic_id(), name: name.to_string(), layout, configs, wanted_replicas: None })
}

fn answer(broker: &Broker, name: Str, outcome: Result<CreatedTopic, Refusal>) -> CreatableTopicResult {
    let created = match outcome {
        Ok(created) => created,
        Err(refusal) => return refused(name, &refusal),
    };
    // Given values are repeated as they were given, as in Kafka.
    let given = |name: &str| created.configs.get(name).cloned();
    let configs = topic_entries(broker, &created.configs).into_iter().map(|entry| CreatableTopicConfigs {
        name: Str::from_static(entry.name),
        value: Some(Str::from(given(entry.name).unwrap_or(entry.value))),
        read_only: false,
        config_source: entry.source as i8,
        ..CreatableTopicConfigs::default()
    });
    CreatableTopicResult {
        name,
        topic_id: created.id.0,
        num_partitions: created.partitions,
        replication_factor: created.replication_factor,
        configs: Some(configs.collect()),
        ..CreatableTopicResult::default()
    }
}

fn refused(name: Str, refusal: &Refusal) -> CreatableTopicResult {
    CreatableTopicResult {
        name,
        error_code: refusal.code.code(),
        error_message: refusal.message.clone().map(Str::from),
        ..CreatableTopicResult::default()
    }
}
