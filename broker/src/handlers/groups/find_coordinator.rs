//! FindCoordinator: who coordinates a group. Creates the offsets topic when it is first asked for, as Kafka does.

use model::topic_name::GROUP_OFFSETS_TOPIC;
use protocol::messages::find_coordinator_response::Coordinator;
use protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use protocol::{ErrorCode, Str};

use crate::groups::group_partition;
use crate::handlers::errors::NO_TRANSACTIONS;
use crate::handlers::topics::create_on_demand;
use crate::handlers::{BadRequest, RequestContext};

/// The key is the id of a group.
const KEY_GROUP: i8 = 0;
/// The key is a transactional id; there are no transactions yet.
const KEY_TRANSACTION: i8 = 1;
/// First version that asks for several keys at once.
const BATCHED: i16 = 4;

pub(crate) async fn handle(
    context: &RequestContext<'_>,
    request: FindCoordinatorRequest,
) -> Result<FindCoordinatorResponse, BadRequest> {
    context.broker.metadata.confirm().await?;
    let keys = if context.version >= BATCHED { request.coordinator_keys } else { vec![request.key] };
    let ready = match request.key_type {
        KEY_GROUP => ensure_topic(context).await,
        KEY_TRANSACTION => Err(no_transactions(context.version)),
        _ => Err(ErrorCode::InvalidRequest),
    };
    let mut coordinators = Vec::with_capacity(keys.len());
    for key in keys {
        let found = ready.and_then(|()| locate(context, &key));
        let message = |code: ErrorCode| match request.key_type {
            KEY_TRANSACTION => NO_TRANSACTIONS,
            _ => code.message(),
        };
        coordinators.push(coordinator(key, found.map_err(|code| (code, message(code)))));
    }
    if context.version >= BATCHED {
        return Ok(FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() });
    }
    let Coordinator { node_id, host, port, error_code, error_message, .. } = coordinators.swap_remove(0);
    Ok(FindCoordinatorResponse { node_id, host, port, error_code, error_message, ..FindCoordinatorResponse::default() })
}

async fn ensure_topic(context: &RequestContext<'_>) -> Result<(), ErrorCode> {
    if context.broker.metadata.image().topic(GROUP_OFFSETS_TOPIC).is_some() {
        return Ok(());
    }
    let refused = create_on_demand(context.broker, [&Str::from_static(GROUP_OFFSETS_TOPIC)].into_iter()).await;
    if refused.is_empty() { Ok(()) } else { Err(ErrorCode::CoordinatorNotAvailable) }
}

/// The error at which clients give up at once, and show its text. librdkafka, which asks for one key at a time, does so at
/// failed authorizations only and asks for ever at any other error; Java's client does so at any error that it does not
/// know, and shows the text only then.
fn no_transactions(version: i16) -> ErrorCode {
    if version >= BATCHED { ErrorCode::UnsupportedVersion } else { ErrorCode::TransactionalIdAuthorizationFailed }
}

/// Node, host and port of the leader of the group's partition.
fn locate(context: &RequestContext<'_>, group: &str) -> Result<(i32, Str, i32), ErrorCode> {
    let image = context.broker.metadata.image();
    let unavailable = ErrorCode::CoordinatorNotAvailable;
    let topic = image.topic(GROUP_OFFSETS_TOPIC).ok_or(unavailable)?;
    let count = i32::try_from(image.partitions_of(topic.id).count()).map_err(|_| unavailable)?;
    let id = model::TopicPartition { topic_id: topic.id, partition: group_partition(group, count) };
    let leader = image.partition(id).ok_or(unavailable)?.leader;
    let broker = image.brokers().find(|broker| broker.id == leader && !broker.is_fenced).ok_or(unavailable)?;
    let listener = broker.listener("PLAINTEXT").ok_or(unavailable)?;
    Ok((leader, Str::from(listener.host.clone()), i32::from(listener.port)))
}

fn coordinator(key: Str, found: Result<(i32, Str, i32), (ErrorCode, &'static str)>) -> Coordinator {
    match found {
        Ok((node_id, host, port)) => Coordinator { key, node_id, host, port, ..Coordinator::default() },
        Err((error, message)) => Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code: error.code(),
            error_message: Some(Str::from_static(message)),
            ..Coordinator::default()
        },
    }
}
