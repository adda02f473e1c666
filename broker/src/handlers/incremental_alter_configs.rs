//! IncrementalAlterConfigs (KIP-339), and what AlterConfigs shares with it.

use std::collections::BTreeMap;

use coordinator::cluster::{
    ClusterError, Command, ConfigChange, ConfigEdit, ConfigOp, ConfigOpKind, ConfigResource, Reply,
};
use model::settings::{ValueType, dynamic_spec};
use protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use protocol::{ErrorCode, Str};

use super::RequestContext;
use super::describe_configs::{BROKER, TOPIC};
use super::errors::{Refusal, code_and_message};
use super::topics::check_topic_name;
use crate::config::BROKER_SETTINGS;
use crate::metadata::parts::{InParts, encoded_len};
use crate::metadata::{ClusterImage, SubmitError};

pub(super) async fn handle(
    context: &RequestContext<'_>,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let names: Vec<(i8, Str)> = request.resources.iter().map(|r| (r.resource_type, r.resource_name.clone())).collect();
    let changes = request.resources.into_iter().map(to_change).collect();
    let outcomes = alter(context, changes, request.validate_only).await;
    let answer = |((resource_type, resource_name), outcome): ((i8, Str), Result<(), Refusal>)| {
        let (error_code, error_message) = code_and_message(outcome);
        AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type,
            resource_name,
            ..AlterConfigsResourceResponse::default()
        }
    };
    let responses = names.into_iter().zip(outcomes).map(answer).collect();
    IncrementalAlterConfigsResponse { responses, ..IncrementalAlterConfigsResponse::default() }
}

fn to_change(resource: AlterConfigsResource) -> Result<ConfigChange, Refusal> {
    let target = to_resource(resource.resource_type, &resource.resource_name)?;
    let ops = resource.configs.into_iter().map(to_op).collect::<Result<Vec<_>, _>>()?;
    Ok(ConfigChange { resource: target, edit: ConfigEdit::Incremental(ops) })
}

fn to_op(config: AlterableConfig) -> Result<ConfigOp, Refusal> {
    let kind = match config.config_operation {
        0 => ConfigOpKind::Set,
        1 => ConfigOpKind::Delete,
        2 => ConfigOpKind::Append,
        3 => ConfigOpKind::Subtract,
        other => {
            let reason = format!("operation {other} on {:?} does not exist", &*config.name);
            return Err(Refusal::new(ErrorCode::InvalidRequest, reason));
        }
    };
    Ok(ConfigOp { name: config.name.to_string(), kind, value: config.value.map(|value| value.to_string()) })
}

/// The resource that a request names.
pub(super) fn to_resource(resource_type: i8, name: &str) -> Result<ConfigResource, Refusal> {
    match resource_type {
        TOPIC if name.is_empty() => Err(Refusal::new(ErrorCode::InvalidRequest, "a topic has a name")),
        TOPIC => {
            check_topic_name(name)?;
            Ok(ConfigResource::Topic(name.to_owned()))
        }
        BROKER if name.is_empty() => Ok(ConfigResource::Cluster),
        BROKER => name
            .parse()
            .map(ConfigResource::Broker)
            .map_err(|_| Refusal::new(ErrorCode::InvalidRequest, format!("{name:?} is not a broker id"))),
        other => {
            let reason =
                format!("resources of type {other} have no settings here, only topics (2) and brokers (4) have");
            Err(Refusal::new(ErrorCode::InvalidRequest, reason))
        }
    }
}

/// Carries out the changes that are in order; answers for each in its place.
pub(super) async fn alter(
    context: &RequestContext<'_>,
    changes: Vec<Result<ConfigChange, Refusal>>,
    validate_only: bool,
) -> Vec<Result<(), Refusal>> {
    let mut times: BTreeMap<ConfigResource, usize> = BTreeMap::new();
    for change in changes.iter().flatten() {
        *times.entry(change.resource.clone()).or_default() += 1;
    }
    let mut outcomes: Vec<Result<(), Refusal>> = Vec::new();
    let (mut places, mut submitted) = (Vec::new(), Vec::new());
    let is_broker_value: Vec<bool> = changes
        .iter()
        .map(|change| !change.as_ref().is_ok_and(|c| is_of_topic(c) || edits_what_is_no_list(c)))
        .collect();
    for change in changes {
        let checked = change.and_then(check_broker_settings).and_then(|change| named_once(change, &times));
        outcomes.push(checked.map(|change| {
            places.push(outcomes.len());
            submitted.push(change);
        }));
    }
    let altered = |reply| match reply {
        Reply::ConfigsAltered(outcomes) => Some(outcomes),
        _ => None,
    };
    let image = context.broker.metadata.image();
    let how = InParts { command: |changes| Command::AlterConfigs { changes, validate_only }, outcomes: altered };
    let altered = context.broker.metadata.submit_in_parts(submitted, |change| bytes_of(&image, change), how).await;
    context.broker.follow_metadata().await;
    for (place, outcome) in places.into_iter().zip(altered) {
        outcomes[place] = outcome.map_err(|error| match error {
            SubmitError::Refused(error @ ClusterError::UnknownBroker { .. }) => {
                Refusal::new(ErrorCode::InvalidRequest, error.to_string())
            }
            error => Refusal::from(error),
        });
    }
    for (outcome, _) in outcomes.iter_mut().zip(is_broker_value).filter(|(_, is_broker_value)| *is_broker_value) {
        outcome.as_mut().err().into_iter().for_each(as_kafka_says_of_brokers);
    }
    outcomes
}

fn is_of_topic(change: &ConfigChange) -> bool {
    matches!(change.resource, ConfigResource::Topic(_))
}

/// APPEND and SUBTRACT of a setting that is no list have one code in Kafka, whatever the resource.
fn edits_what_is_no_list(change: &ConfigChange) -> bool {
    let ConfigEdit::Incremental(ops) = &change.edit else { return false };
    ops.iter()
        .filter(|op| matches!(op.kind, ConfigOpKind::Append | ConfigOpKind::Subtract))
        .any(|op| dynamic_spec(&op.name).is_ok_and(|(spec, _)| spec.kind.value_type() != ValueType::List))
}

/// A value that a setting cannot have is an invalid request where it is a broker's, in Kafka.
fn as_kafka_says_of_brokers(refusal: &mut Refusal) {
    if refusal.code == ErrorCode::InvalidConfig {
        refusal.code = ErrorCode::InvalidRequest;
    }
}

/// Of a resource that is named twice nothing is changed, in whatever order the changes come.
fn named_once(change: ConfigChange, times: &BTreeMap<ConfigResource, usize>) -> Result<ConfigChange, Refusal> {
    if times.get(&change.resource).is_some_and(|times| *times > 1) {
        let reason = format!("{:?} is named twice", change.resource);
        return Err(Refusal::new(ErrorCode::InvalidRequest, reason));
    }
    Ok(change)
}

/// What the change takes in the metadata log: all settings of the resource are written together.
fn bytes_of(image: &ClusterImage, change: &ConfigChange) -> usize {
    let present = match &change.resource {
        ConfigResource::Topic(name) => image.topic(name).map(|topic| &topic.configs),
        ConfigResource::Broker(id) => image.broker_configs(*id),
        ConfigResource::Cluster => Some(image.cluster_configs()),
    };
    encoded_len(change) + present.map_or(0, encoded_len)
}

/// Taking back a setting that no broker here has, as `kafka-reassign-partitions` does with all throttles that Kafka knows.
fn takes_nothing(op: &ConfigOp) -> bool {
    op.kind == ConfigOpKind::Delete && !BROKER_SETTINGS.iter().any(|spec| spec.name == op.name)
}

/// While they run, brokers take the defaults of topics and the few dynamic settings that are theirs. The cluster checks the
/// values.
fn check_broker_settings(change: ConfigChange) -> Result<ConfigChange, Refusal> {
    if is_of_topic(&change) {
        return Ok(change);
    }
    let names: Vec<&str> = match &change.edit {
        ConfigEdit::Incremental(ops) => ops.iter().filter(|op| !takes_nothing(op)).map(|op| op.name.as_str()).collect(),
        ConfigEdit::Replace(all) => all.iter().map(|(name, _)| name.as_str()).collect(),
    };
    match names.into_iter().find(|name| dynamic_spec(name).is_err()) {
        None => Ok(change),
        Some(name) => {
            let reason =
                format!("{name} cannot be changed while the broker runs: set it in its configuration and restart");
            Err(Refusal::new(ErrorCode::InvalidConfig, reason))
        }
    }
}
