//! The APIs of consumer groups: wire structs in, questions to [`crate::groups`], wire structs out.

use std::sync::Arc;

use coordinator::group::GroupError;
use model::{TopicId, TopicPartition};
use protocol::{ErrorCode, Str};

use super::RequestContext;

pub(super) mod delete_groups;
pub(super) mod describe_groups;
pub(super) mod find_coordinator;
pub(super) mod heartbeat;
pub(super) mod join_group;
pub(super) mod leave_group;
pub(super) mod list_groups;
pub(super) mod offset_commit;
pub(super) mod offset_delete;
pub(super) mod offset_fetch;
pub(super) mod sync_group;

/// Kafka's code of a refusal.
fn error_code(error: GroupError) -> ErrorCode {
    match error {
        GroupError::InvalidGroupId => ErrorCode::InvalidGroupId,
        GroupError::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
        GroupError::UnknownMemberId => ErrorCode::UnknownMemberId,
        GroupError::MemberIdRequired => ErrorCode::MemberIdRequired,
        GroupError::FencedInstanceId => ErrorCode::FencedInstanceId,
        GroupError::IllegalGeneration => ErrorCode::IllegalGeneration,
        GroupError::InconsistentGroupProtocol => ErrorCode::InconsistentGroupProtocol,
        GroupError::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        GroupError::GroupMaxSizeReached => ErrorCode::GroupMaxSizeReached,
        GroupError::GroupIdNotFound => ErrorCode::GroupIdNotFound,
        GroupError::NonEmptyGroup => ErrorCode::NonEmptyGroup,
        GroupError::GroupSubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
        GroupError::OffsetMetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
        GroupError::RecordTooLarge => ErrorCode::UnknownServerError,
        GroupError::NotCoordinator => ErrorCode::NotCoordinator,
        GroupError::CoordinatorLoadInProgress => ErrorCode::CoordinatorLoadInProgress,
        GroupError::CoordinatorNotAvailable => ErrorCode::CoordinatorNotAvailable,
    }
}

/// The number for a field of a response.
fn code_of<T>(result: &Result<T, GroupError>) -> i16 {
    result.as_ref().err().map_or(ErrorCode::None, |error| error_code(*error)).code()
}

/// Text of its own: what a group keeps must not keep the request's frame alive.
fn owned(text: &Str) -> Arc<str> {
    Arc::from(&**text)
}

fn owned_option(text: Option<&Str>) -> Option<Arc<str>> {
    text.map(owned)
}

fn wire(text: &Arc<str>) -> Str {
    Str::from(&**text)
}

fn wire_option(text: Option<&Arc<str>>) -> Option<Str> {
    text.map(wire)
}

/// Whether the cluster has the partition, wherever it is led.
fn partition_exists(context: &RequestContext<'_>, topic_id: TopicId, partition: i32) -> bool {
    context.broker.metadata.image().partition(TopicPartition { topic_id, partition }).is_some()
}

/// The name of a topic that is known by its id.
fn topic_name(context: &RequestContext<'_>, id: TopicId) -> Option<Str> {
    context.broker.metadata.image().topic_by_id(id).map(|topic| Str::from(&*topic.name))
}

/// The id of a topic that is known by its name; zero if there is none.
fn topic_id(context: &RequestContext<'_>, name: &str) -> TopicId {
    context.broker.metadata.image().topic(name).map_or(TopicId::ZERO, |topic| topic.id)
}
