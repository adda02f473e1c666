//! Why a group refuses a request. Each variant is one error code of the Kafka protocol; the broker owns the table.

/// A refusal of the group coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum GroupError {
    /// The group id is empty where the API needs one.
    #[error("the group id is empty")]
    InvalidGroupId,
    /// The session timeout lies outside `group.min.session.timeout.ms` … `group.max.session.timeout.ms`.
    #[error("the session timeout is outside the bounds that the broker is set to")]
    InvalidSessionTimeout,
    /// The group knows no such member, or there is no such group: join again without a member id.
    #[error("the group has no such member")]
    UnknownMemberId,
    /// A new dynamic member must join again with the member id that the reply carries (KIP-394).
    #[error("join again with the member id given in the reply")]
    MemberIdRequired,
    /// Another process has taken over this `group.instance.id` (KIP-345).
    #[error("another member has joined with the same group instance id")]
    FencedInstanceId,
    /// The request speaks of another generation than the group's.
    #[error("the generation is not the group's current one")]
    IllegalGeneration,
    /// Protocol type or names do not fit those of the other members.
    #[error("the member's protocols do not fit the group's")]
    InconsistentGroupProtocol,
    /// The group is rebalancing: join again.
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    /// The group holds `group.max.size` members, or the shard its bound of groups.
    #[error("the group is full")]
    GroupMaxSizeReached,
    /// There is no such group.
    #[error("there is no such group")]
    GroupIdNotFound,
    /// The group still has members.
    #[error("the group still has members")]
    NonEmptyGroup,
    /// A member is subscribed to the topic whose offsets were to be deleted.
    #[error("the group is subscribed to the topic")]
    GroupSubscribedToTopic,
    /// The commit's metadata text is longer than `offset.metadata.max.bytes`.
    #[error("the metadata of the commit is too large")]
    OffsetMetadataTooLarge,
    /// The records of the decision exceed `max.message.bytes` of the offsets topic: nothing was changed.
    #[error("the group's records would exceed max.message.bytes of the offsets topic")]
    RecordTooLarge,
    /// The group lives on another broker, or its partition was just given up.
    #[error("this broker does not coordinate the group")]
    NotCoordinator,
    /// The group's partition is being read back.
    #[error("the coordinator is still loading the group's partition")]
    CoordinatorLoadInProgress,
    /// The coordinator cannot serve now (no such partition yet, queue full, append refused): retry.
    #[error("the coordinator is not available now")]
    CoordinatorNotAvailable,
}
