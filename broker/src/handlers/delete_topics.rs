//! DeleteTopics, by name or by id (KIP-516).

use coordinator::cluster::TopicRef;
use model::TopicId;
use model::topic_name::INTERNAL_TOPICS;
use protocol::messages::delete_topics_response::DeletableTopicResult;
use protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use protocol::{ErrorCode, Str};

use super::RequestContext;
use super::errors::Refusal;
use super::once_each::once_each_counted;
use super::topics::delete;

pub(super) async fn handle(context: &RequestContext<'_>, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let by_name = request.topic_names.into_iter().map(|name| (Some(name), TopicId::ZERO));
    let by_state = request.topics.into_iter().map(|topic| (topic.name, TopicId(topic.topic_id)));
    let mut responses = Vec::new();
    let mut wanted = Vec::new();
    let named = by_name.chain(by_state).collect();
    let image = context.broker.metadata.image();
    // Named once by its name and once by its id, a topic is named twice.
    let identity = |(name, id): &(Option<Str>, TopicId)| {
        let known = name.as_ref().filter(|_| id.is_zero()).and_then(|name| image.topic(name));
        known.map_or_else(|| (name.clone(), *id), |topic| (None, topic.id))
    };
    for ((name, id), is_repeated) in once_each_counted(named, identity) {
        let repeated = || Refusal::new(ErrorCode::InvalidRequest, "the topic is named twice in one request");
        let found = if is_repeated { Err(repeated()) } else { to_topic_ref(context, name.as_ref(), id) };
        match found {
            Ok(topic) => wanted.push((name, id, topic)),
            Err(refusal) => responses.push(refused(name, id, &refusal)),
        }
    }
    let topics = wanted.iter().map(|(_, _, topic)| topic.clone()).collect();
    let outcomes = delete(context.broker, topics).await;
    for ((name, id, _), outcome) in wanted.into_iter().zip(outcomes) {
        responses.push(match outcome {
            Ok(removed) => DeletableTopicResult {
                name: Some(Str::from(removed.name.to_string())),
                topic_id: removed.id.0,
                ..DeletableTopicResult::default()
            },
            Err(refusal) => refused(name, id, &refusal),
        });
    }
    DeleteTopicsResponse { responses, ..DeleteTopicsResponse::default() }
}

fn to_topic_ref(context: &RequestContext<'_>, name: Option<&Str>, id: TopicId) -> Result<TopicRef, Refusal> {
    if !context.broker.config.settings.broker.delete_topic_enable {
        return Err(Refusal::new(ErrorCode::TopicDeletionDisabled, "delete.topic.enable is false"));
    }
    let invalid = |reason: &str| Refusal::new(ErrorCode::InvalidRequest, reason);
    let internal = || invalid("internal topics cannot be deleted");
    match name {
        // Even where they agree, as in Kafka: nothing is deleted by one identity that the other may contradict.
        Some(_) if !id.is_zero() => Err(invalid("the topic is given by name and by id")),
        None if id.is_zero() => Err(invalid("the topic is given neither by name nor by id")),
        Some(name) if INTERNAL_TOPICS.contains(&&**name) => Err(internal()),
        Some(name) => Ok(TopicRef::Name(name.to_string())),
        None => match context.broker.metadata.image().topic_by_id(id) {
            Some(topic) if topic.name.is_internal() => Err(internal()),
            _ => Ok(TopicRef::Id(id)),
        },
    }
}

fn refused(name: Option<Str>, id: TopicId, refusal: &Refusal) -> DeletableTopicResult {
    DeletableTopicResult {
        name,
        topic_id: id.0,
        error_code: refusal.code.code(),
        error_message: refusal.message.clone().map(Str::from),
        ..DeletableTopicResult::default()
    }
}
