//! [`ErrorCode`]: Kafka's error codes, complete up to Kafka 4.3.

use std::fmt::{self, Display};

macro_rules! error_codes {
    ($($code:literal $variant:ident $name:ident $retry:ident $message:literal;)*) => {
        /// An error code of the protocol. `retriable` is Kafka's: the same request may succeed later.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(
                #[doc = concat!("`", stringify!($name), "` (", stringify!($code), ", ", stringify!($retry), "): ", $message, ".")]
                $variant = $code,
            )*
        }

        static FACTS: &[ErrorFacts] = &[$(ErrorFacts {
            code: ErrorCode::$variant,
            name: stringify!($name),
            retry: Retry::$retry,
            message: $message,
        },)*];
    };
}

/// How many codes are below zero: the table starts with them.
const NEGATIVE_CODES: i16 = 1;

struct ErrorFacts {
    code: ErrorCode,
    name: &'static str,
    retry: Retry,
    message: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "written as words in the table below")]
enum Retry {
    retriable,
    terminal,
}

impl ErrorCode {
    /// The error of that number, if Kafka has one.
    pub fn from_code(code: i16) -> Option<Self> {
        let index = usize::try_from(code.checked_add(NEGATIVE_CODES)?).ok()?;
        FACTS.get(index).map(|facts| facts.code)
    }

    /// All errors, by number; the first is −1, the second is 0: none.
    pub fn all() -> impl Iterator<Item = Self> {
        FACTS.iter().map(|facts| facts.code)
    }

    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Kafka's name, for instance `UNKNOWN_TOPIC_OR_PARTITION`.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// Whether Kafka's clients try again by themselves.
    pub fn is_retriable(self) -> bool {
        self.facts().retry == Retry::retriable
    }

    /// Whether it is the code that means success.
    pub fn is_none(self) -> bool {
        self == Self::None
    }

    /// What it means, in a few words.
    pub fn message(self) -> &'static str {
        self.facts().message
    }

    fn facts(self) -> &'static ErrorFacts {
        // Codes have no gaps, which a test below asserts; the last entry would stand in for one that is missing.
        let index = usize::try_from(self.code() + NEGATIVE_CODES).unwrap_or(0);
        &FACTS[index.min(FACTS.len() - 1)]
    }
}

impl From<ErrorCode> for i16 {
    fn from(error: ErrorCode) -> Self {
        error.code()
    }
}

impl Display for ErrorCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({}): {}", self.name(), self.code(), self.message())
    }
}

error_codes! {
    -1 UnknownServerError UNKNOWN_SERVER_ERROR terminal "the broker failed in a way it did not foresee";
    0 None NONE terminal "no error";
    1 OffsetOutOfRange OFFSET_OUT_OF_RANGE terminal "the offset is outside of the partition's log";
    2 CorruptMessage CORRUPT_MESSAGE retriable "the record batch is damaged or not a valid batch";
    3 UnknownTopicOrPartition UNKNOWN_TOPIC_OR_PARTITION retriable "the topic or partition is not known here";
    4 InvalidFetchSize INVALID_FETCH_SIZE terminal "the number of bytes to fetch makes no sense";
    5 LeaderNotAvailable LEADER_NOT_AVAILABLE retriable "the partition has no leader at the moment";
    6 NotLeaderOrFollower NOT_LEADER_OR_FOLLOWER retriable "this broker neither leads nor follows the partition";
    7 RequestTimedOut REQUEST_TIMED_OUT retriable "the time allowed for the request ran out";
    8 BrokerNotAvailable BROKER_NOT_AVAILABLE terminal "the broker cannot be reached";
    9 ReplicaNotAvailable REPLICA_NOT_AVAILABLE retriable "the wanted replica cannot be reached";
    10 MessageTooLarge MESSAGE_TOO_LARGE terminal "a batch is larger than max.message.bytes";
    11 StaleControllerEpoch STALE_CONTROLLER_EPOCH terminal "the controller's epoch is out of date";
    12 OffsetMetadataTooLarge OFFSET_METADATA_TOO_LARGE terminal "the metadata of a committed offset is too long";
    13 NetworkException NETWORK_EXCEPTION retriable "the connection broke before the answer came";
    14 CoordinatorLoadInProgress COORDINATOR_LOAD_IN_PROGRESS retriable "the coordinator is still reading its state";
    15 CoordinatorNotAvailable COORDINATOR_NOT_AVAILABLE retriable "there is no coordinator at the moment";
    16 NotCoordinator NOT_COORDINATOR retriable "another broker is the coordinator";
    17 InvalidTopicException INVALID_TOPIC_EXCEPTION terminal "the topic's name is not allowed, or the topic is internal";
    18 RecordListTooLarge RECORD_LIST_TOO_LARGE terminal "the batches are larger than a segment may be";
    19 NotEnoughReplicas NOT_ENOUGH_REPLICAS retriable "too few replicas are in sync to accept the write";
    20 NotEnoughReplicasAfterAppend NOT_ENOUGH_REPLICAS_AFTER_APPEND retriable "written, but too few replicas were in sync afterwards";
    21 InvalidRequiredAcks INVALID_REQUIRED_ACKS terminal "acks must be -1, 0 or 1";
    22 IllegalGeneration ILLEGAL_GENERATION terminal "the group has moved on to another generation";
    23 InconsistentGroupProtocol INCONSISTENT_GROUP_PROTOCOL terminal "the member shares no protocol with the group";
    24 InvalidGroupId INVALID_GROUP_ID terminal "the group's name is not allowed";
    25 UnknownMemberId UNKNOWN_MEMBER_ID terminal "the group does not know this member";
    26 InvalidSessionTimeout INVALID_SESSION_TIMEOUT terminal "the session timeout is outside of the broker's limits";
    27 RebalanceInProgress REBALANCE_IN_PROGRESS terminal "the group is rebalancing: join again";
    28 InvalidCommitOffsetSize INVALID_COMMIT_OFFSET_SIZE terminal "the offsets to commit take too much room";
    29 TopicAuthorizationFailed TOPIC_AUTHORIZATION_FAILED terminal "the principal may not use this topic";
    30 GroupAuthorizationFailed GROUP_AUTHORIZATION_FAILED terminal "the principal may not use this group";
    31 ClusterAuthorizationFailed CLUSTER_AUTHORIZATION_FAILED terminal "the principal may not do this to the cluster";
    32 InvalidTimestamp INVALID_TIMESTAMP terminal "a record's timestamp is outside of the allowed range";
    33 UnsupportedSaslMechanism UNSUPPORTED_SASL_MECHANISM terminal "the SASL mechanism is not enabled";
    34 IllegalSaslState ILLEGAL_SASL_STATE terminal "the request does not fit the state of authentication";
    35 UnsupportedVersion UNSUPPORTED_VERSION terminal "this version of the API is not spoken";
    36 TopicAlreadyExists TOPIC_ALREADY_EXISTS terminal "a topic of this name exists";
    37 InvalidPartitions INVALID_PARTITIONS terminal "the number of partitions is not possible";
    38 InvalidReplicationFactor INVALID_REPLICATION_FACTOR terminal "the replication factor is not possible with these brokers";
    39 InvalidReplicaAssignment INVALID_REPLICA_ASSIGNMENT terminal "the replica assignment is not valid";
    40 InvalidConfig INVALID_CONFIG terminal "a setting is not known or its value is not valid";
    41 NotController NOT_CONTROLLER retriable "another node is the controller";
    42 InvalidRequest INVALID_REQUEST terminal "the request contradicts itself or the protocol";
    43 UnsupportedForMessageFormat UNSUPPORTED_FOR_MESSAGE_FORMAT terminal "the stored message format cannot answer this request";
    44 PolicyViolation POLICY_VIOLATION terminal "a policy of this cluster forbids it";
    45 OutOfOrderSequenceNumber OUT_OF_ORDER_SEQUENCE_NUMBER terminal "the producer's sequence number leaves a gap";
    46 DuplicateSequenceNumber DUPLICATE_SEQUENCE_NUMBER terminal "the producer's sequence number was used before";
    47 InvalidProducerEpoch INVALID_PRODUCER_EPOCH terminal "a newer producer epoch exists";
    48 InvalidTxnState INVALID_TXN_STATE terminal "the transaction's state does not allow this";
    49 InvalidProducerIdMapping INVALID_PRODUCER_ID_MAPPING terminal "the producer id does not belong to the transactional id";
    50 InvalidTransactionTimeout INVALID_TRANSACTION_TIMEOUT terminal "the transaction timeout is over the broker's limit";
    51 ConcurrentTransactions CONCURRENT_TRANSACTIONS retriable "another change of this transaction is under way";
    52 TransactionCoordinatorFenced TRANSACTION_COORDINATOR_FENCED terminal "a newer transaction coordinator exists";
    53 TransactionalIdAuthorizationFailed TRANSACTIONAL_ID_AUTHORIZATION_FAILED terminal "the principal may not use this transactional id";
    54 SecurityDisabled SECURITY_DISABLED terminal "security is not switched on";
    55 OperationNotAttempted OPERATION_NOT_ATTEMPTED terminal "not tried, because another part of the request failed";
    56 KafkaStorageError KAFKA_STORAGE_ERROR retriable "the broker's storage failed";
    57 LogDirNotFound LOG_DIR_NOT_FOUND terminal "the broker has no such log directory";
    58 SaslAuthenticationFailed SASL_AUTHENTICATION_FAILED terminal "the credentials were refused";
    59 UnknownProducerId UNKNOWN_PRODUCER_ID terminal "nothing is known of this producer id any more";
    60 ReassignmentInProgress REASSIGNMENT_IN_PROGRESS terminal "the partition is being reassigned";
    61 DelegationTokenAuthDisabled DELEGATION_TOKEN_AUTH_DISABLED terminal "delegation tokens are not switched on";
    62 DelegationTokenNotFound DELEGATION_TOKEN_NOT_FOUND terminal "there is no such delegation token";
    63 DelegationTokenOwnerMismatch DELEGATION_TOKEN_OWNER_MISMATCH terminal "the delegation token belongs to somebody else";
    64 DelegationTokenRequestNotAllowed DELEGATION_TOKEN_REQUEST_NOT_ALLOWED terminal "delegation tokens cannot be requested over this connection";
    65 DelegationTokenAuthorizationFailed DELEGATION_TOKEN_AUTHORIZATION_FAILED terminal "the principal may not use this delegation token";
    66 DelegationTokenExpired DELEGATION_TOKEN_EXPIRED terminal "the delegation token has expired";
    67 InvalidPrincipalType INVALID_PRINCIPAL_TYPE terminal "the type of principal is not supported";
    68 NonEmptyGroup NON_EMPTY_GROUP terminal "the group still has members";
    69 GroupIdNotFound GROUP_ID_NOT_FOUND terminal "there is no such group";
    70 FetchSessionIdNotFound FETCH_SESSION_ID_NOT_FOUND retriable "the fetch session is not known: start a new one";
    71 InvalidFetchSessionEpoch INVALID_FETCH_SESSION_EPOCH retriable "the fetch session's epoch is not the expected one";
    72 ListenerNotFound LISTENER_NOT_FOUND retriable "the leader does not have the listener of this connection";
    73 TopicDeletionDisabled TOPIC_DELETION_DISABLED terminal "deleting topics is switched off";
    74 FencedLeaderEpoch FENCED_LEADER_EPOCH retriable "the client's leader epoch is out of date";
    75 UnknownLeaderEpoch UNKNOWN_LEADER_EPOCH retriable "the client's leader epoch is ahead of this broker";
    76 UnsupportedCompressionType UNSUPPORTED_COMPRESSION_TYPE terminal "the client cannot read the partition's compression";
    77 StaleBrokerEpoch STALE_BROKER_EPOCH terminal "the broker's epoch has changed";
    78 OffsetNotAvailable OFFSET_NOT_AVAILABLE retriable "a new leader does not know its high watermark yet";
    79 MemberIdRequired MEMBER_ID_REQUIRED terminal "join again with the member id of this answer";
    80 PreferredLeaderNotAvailable PREFERRED_LEADER_NOT_AVAILABLE retriable "the preferred leader cannot lead at the moment";
    81 GroupMaxSizeReached GROUP_MAX_SIZE_REACHED terminal "the group is full";
    82 FencedInstanceId FENCED_INSTANCE_ID terminal "another member took over this group instance id";
    83 EligibleLeadersNotAvailable ELIGIBLE_LEADERS_NOT_AVAILABLE retriable "no replica is eligible to lead";
    84 ElectionNotNeeded ELECTION_NOT_NEEDED retriable "the partition has the right leader already";
    85 NoReassignmentInProgress NO_REASSIGNMENT_IN_PROGRESS terminal "no reassignment is under way";
    86 GroupSubscribedToTopic GROUP_SUBSCRIBED_TO_TOPIC terminal "the group is subscribed to the topic";
    87 InvalidRecord INVALID_RECORD terminal "a record breaks a rule of this topic";
    88 UnstableOffsetCommit UNSTABLE_OFFSET_COMMIT retriable "offsets of an open transaction are not settled yet";
    89 ThrottlingQuotaExceeded THROTTLING_QUOTA_EXCEEDED retriable "a quota is used up: try later";
    90 ProducerFenced PRODUCER_FENCED terminal "a newer producer took over the transactional id";
    91 ResourceNotFound RESOURCE_NOT_FOUND terminal "what the request names does not exist";
    92 DuplicateResource DUPLICATE_RESOURCE terminal "the request names the same thing twice";
    93 UnacceptableCredential UNACCEPTABLE_CREDENTIAL terminal "the credential is not good enough";
    94 InconsistentVoterSet INCONSISTENT_VOTER_SET terminal "the voters differ from those expected";
    95 InvalidUpdateVersion INVALID_UPDATE_VERSION terminal "the version of the update is not valid";
    96 FeatureUpdateFailed FEATURE_UPDATE_FAILED terminal "the feature could not be changed";
    97 PrincipalDeserializationFailure PRINCIPAL_DESERIALIZATION_FAILURE terminal "a forwarded principal could not be read";
    98 SnapshotNotFound SNAPSHOT_NOT_FOUND terminal "there is no such snapshot";
    99 PositionOutOfRange POSITION_OUT_OF_RANGE terminal "the position is outside of the snapshot";
    100 UnknownTopicId UNKNOWN_TOPIC_ID retriable "no topic has this id here";
    101 DuplicateBrokerRegistration DUPLICATE_BROKER_REGISTRATION terminal "a live broker with this id is registered";
    102 BrokerIdNotRegistered BROKER_ID_NOT_REGISTERED terminal "no broker with this id is registered";
    103 InconsistentTopicId INCONSISTENT_TOPIC_ID retriable "the topic's id differs from the one in the log";
    104 InconsistentClusterId INCONSISTENT_CLUSTER_ID terminal "the request is meant for another cluster";
    105 TransactionalIdNotFound TRANSACTIONAL_ID_NOT_FOUND terminal "there is no such transactional id";
    106 FetchSessionTopicIdError FETCH_SESSION_TOPIC_ID_ERROR retriable "the fetch session mixes topic names and topic ids";
    107 IneligibleReplica INELIGIBLE_REPLICA terminal "a replica is not fit for the in-sync set";
    108 NewLeaderElected NEW_LEADER_ELECTED terminal "another leader was elected meanwhile";
    109 OffsetMovedToTieredStorage OFFSET_MOVED_TO_TIERED_STORAGE terminal "the offset lies in the archive only";
    110 FencedMemberEpoch FENCED_MEMBER_EPOCH terminal "the member's epoch is fenced: join again with no partitions";
    111 UnreleasedInstanceId UNRELEASED_INSTANCE_ID terminal "the group instance id is still in use";
    112 UnsupportedAssignor UNSUPPORTED_ASSIGNOR terminal "the group does not support this assignor";
    113 StaleMemberEpoch STALE_MEMBER_EPOCH terminal "the member's epoch is out of date";
    114 MismatchedEndpointType MISMATCHED_ENDPOINT_TYPE terminal "the request went to the wrong kind of endpoint";
    115 UnsupportedEndpointType UNSUPPORTED_ENDPOINT_TYPE terminal "this kind of endpoint is not supported";
    116 UnknownControllerId UNKNOWN_CONTROLLER_ID terminal "no controller has this id";
    117 UnknownSubscriptionId UNKNOWN_SUBSCRIPTION_ID terminal "the telemetry subscription is out of date";
    118 TelemetryTooLarge TELEMETRY_TOO_LARGE terminal "the telemetry is larger than allowed";
    119 InvalidRegistration INVALID_REGISTRATION terminal "the broker's registration is not valid";
    120 TransactionAbortable TRANSACTION_ABORTABLE terminal "the transaction has to be aborted";
    121 InvalidRecordState INVALID_RECORD_STATE terminal "the record's delivery state does not allow this";
    122 ShareSessionNotFound SHARE_SESSION_NOT_FOUND retriable "the share session is not known";
    123 InvalidShareSessionEpoch INVALID_SHARE_SESSION_EPOCH retriable "the share session's epoch is not the expected one";
    124 FencedStateEpoch FENCED_STATE_EPOCH terminal "the share group's state epoch is out of date";
    125 InvalidVoterKey INVALID_VOTER_KEY terminal "the voter's key differs from the replica's";
    126 DuplicateVoter DUPLICATE_VOTER terminal "the voter is in the set already";
    127 VoterNotFound VOTER_NOT_FOUND terminal "the voter is not in the set";
    128 InvalidRegularExpression INVALID_REGULAR_EXPRESSION terminal "the regular expression is not valid";
    129 RebootstrapRequired REBOOTSTRAP_REQUIRED terminal "the client's metadata is out of date: bootstrap again";
    130 StreamsInvalidTopology STREAMS_INVALID_TOPOLOGY terminal "the topology is not valid";
    131 StreamsInvalidTopologyEpoch STREAMS_INVALID_TOPOLOGY_EPOCH terminal "the topology's epoch is not valid";
    132 StreamsTopologyFenced STREAMS_TOPOLOGY_FENCED terminal "a newer topology exists";
    133 ShareSessionLimitReached SHARE_SESSION_LIMIT_REACHED retriable "there are as many share sessions as allowed";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_no_gaps() {
        for (index, facts) in FACTS.iter().enumerate() {
            assert_eq!(i16::try_from(index).unwrap() - NEGATIVE_CODES, facts.code.code(), "{}", facts.name);
            assert_eq!(ErrorCode::from_code(facts.code.code()), Some(facts.code));
        }
        assert_eq!(ErrorCode::from_code(-2), None);
        assert_eq!(ErrorCode::from_code(i16::MAX), None);
        assert_eq!(FACTS.len(), 135);
    }

    #[test]
    fn an_error_prints_its_name_number_and_meaning() {
        assert_eq!(ErrorCode::NotCoordinator.to_string(), "NOT_COORDINATOR (16): another broker is the coordinator");
        assert!(ErrorCode::NotCoordinator.is_retriable());
        assert!(!ErrorCode::InvalidRequest.is_retriable());
    }
}
