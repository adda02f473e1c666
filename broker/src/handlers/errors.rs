//! The one table from our errors to Kafka's codes.

use coordinator::cluster::{ClusterError, Reply};
use hot_tier::AppendError;
use model::batch::InvalidBatch;
use protocol::{ErrorCode, Str};
use tracing::error;

use crate::metadata::SubmitError;
use crate::partition::{DeleteError, NotAccepted, NotCommitted};

/// Longest text of an error. Texts name what the client has sent, which may be as long as a string can be.
const MAX_TEXT_BYTES: usize = 1000;

/// The text of an error, cut to a length that every response can carry.
pub(super) fn cut(mut message: String) -> String {
    if message.len() > MAX_TEXT_BYTES {
        message.truncate(message.floor_char_boundary(MAX_TEXT_BYTES));
        message.push('…');
        message.shrink_to_fit();
    }
    message
}

/// Why transactions are refused.
pub(super) const NO_TRANSACTIONS: &str = "transactions are not supported by this cluster";

/// A code for the client, and words for the person behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: Option<String>,
}

impl Refusal {
    /// A refusal with words, which are cut when they are long.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Refusal { code, message: Some(cut(message.into())) }
    }

    /// A refusal whose code says everything.
    pub(crate) fn without_words(code: ErrorCode) -> Self {
        Refusal { code, message: None }
    }
}

/// An outcome in a response: the code, and words where there are any.
pub(super) fn code_and_message(outcome: Result<(), Refusal>) -> (i16, Option<Str>) {
    match outcome {
        Ok(()) => (ErrorCode::None.code(), None),
        Err(refusal) => (refusal.code.code(), refusal.message.map(Str::from)),
    }
}

impl From<ClusterError> for Refusal {
    fn from(error: ClusterError) -> Self {
        use ClusterError as E;
        let code = match &error {
            E::NoCluster | E::ClusterExists { .. } | E::Forgotten { .. } | E::TopicIdTaken { .. } => {
                ErrorCode::UnknownServerError
            }
            E::InvalidMetadataVersion { .. } | E::MetadataVersionRefused { .. } | E::InvalidUpdateVersion { .. } => {
                ErrorCode::InvalidUpdateVersion
            }
            E::InvalidRequest { .. } => ErrorCode::InvalidRequest,
            E::UnknownBroker { .. } => ErrorCode::BrokerIdNotRegistered,
            E::BrokerIsAlive { .. } => ErrorCode::DuplicateBrokerRegistration,
            E::StaleBrokerEpoch { .. } => ErrorCode::StaleBrokerEpoch,
            E::InvalidTopicName { .. } | E::TopicCollision { .. } => ErrorCode::InvalidTopicException,
            E::TopicExists { .. } => ErrorCode::TopicAlreadyExists,
            E::UnknownTopic { .. } | E::UnknownPartition { .. } => ErrorCode::UnknownTopicOrPartition,
            E::UnknownTopicId { .. } => ErrorCode::UnknownTopicId,
            E::InvalidPartitions { .. } => ErrorCode::InvalidPartitions,
            E::InvalidReplicationFactor { .. } => ErrorCode::InvalidReplicationFactor,
            E::InvalidReplicaAssignment { .. } => ErrorCode::InvalidReplicaAssignment,
            E::InvalidConfig { .. } => ErrorCode::InvalidConfig,
            E::LimitExceeded { .. } => ErrorCode::PolicyViolation,
            E::FencedLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            E::UnknownLeaderEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
            E::NotLeader { .. } => ErrorCode::NotLeaderOrFollower,
            E::IneligibleReplica { .. } => ErrorCode::IneligibleReplica,
            E::ElectionNotNeeded { .. } => ErrorCode::ElectionNotNeeded,
            E::PreferredLeaderNotAvailable { .. } => ErrorCode::PreferredLeaderNotAvailable,
            E::EligibleLeadersNotAvailable { .. } => ErrorCode::EligibleLeadersNotAvailable,
            E::NoReassignment { .. } => ErrorCode::NoReassignmentInProgress,
            E::InvalidPointer { .. } => ErrorCode::UnknownServerError,
        };
        Refusal::new(code, error.to_string())
    }
}

impl From<SubmitError> for Refusal {
    /// A command without an answer becomes an error at which Kafka's clients ask again.
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Refused(error) => error.into(),
            error => Refusal::new(ErrorCode::RequestTimedOut, error.to_string()),
        }
    }
}

/// Why records were not deleted.
pub(crate) fn delete_error(error: &DeleteError) -> ErrorCode {
    match error {
        DeleteError::Hot(_) => ErrorCode::KafkaStorageError,
        DeleteError::NotKept(SubmitError::Refused(
            ClusterError::UnknownTopicId { .. } | ClusterError::UnknownPartition { .. },
        )) => ErrorCode::UnknownTopicOrPartition,
        // Another term has begun, of the partition or of this broker.
        DeleteError::NotKept(SubmitError::Refused(_)) => ErrorCode::NotLeaderOrFollower,
        DeleteError::NotKept(_) => ErrorCode::RequestTimedOut,
        DeleteError::NotCommitted(error) => not_committed(*error),
    }
}

/// A reply that does not belong to its command: a bug.
pub(crate) fn unexpected_reply(reply: &Reply) -> Refusal {
    error!(?reply, "the cluster's metadata gave a reply that does not belong to the command");
    Refusal::new(ErrorCode::UnknownServerError, "the cluster's metadata gave an unexpected reply, see the broker's log")
}

/// Why a batch was not let in.
pub(crate) fn batch_error(error: &InvalidBatch) -> ErrorCode {
    match error {
        InvalidBatch::Corrupt(_) => ErrorCode::CorruptMessage,
        InvalidBatch::Invalid(_) | InvalidBatch::NotOneBatch(_) => ErrorCode::InvalidRecord,
        InvalidBatch::TooLarge { .. } => ErrorCode::MessageTooLarge,
        InvalidBatch::Timestamps(_) => ErrorCode::InvalidTimestamp,
    }
}

/// Why a batch was not appended.
pub(crate) fn not_accepted(error: &NotAccepted) -> ErrorCode {
    match error {
        // The error that has every client try again without giving its producer up.
        NotAccepted::NotLeader | NotAccepted::TooEarly(_) | NotAccepted::Log(AppendError::StaleLeaderEpoch { .. }) => {
            ErrorCode::NotLeaderOrFollower
        }
        NotAccepted::NotEnoughReplicas { .. } => ErrorCode::NotEnoughReplicas,
        NotAccepted::Log(AppendError::OutOfOrderSequence { .. }) => ErrorCode::OutOfOrderSequenceNumber,
        NotAccepted::Log(AppendError::InvalidProducerEpoch { .. }) => ErrorCode::InvalidProducerEpoch,
        NotAccepted::Log(_) => ErrorCode::KafkaStorageError,
    }
}

/// Why an acknowledgement was not given.
pub(crate) fn not_committed(error: NotCommitted) -> ErrorCode {
    match error {
        NotCommitted::TimedOut => ErrorCode::RequestTimedOut,
        NotCommitted::NotEnoughReplicas => ErrorCode::NotEnoughReplicasAfterAppend,
        NotCommitted::NotLeader => ErrorCode::NotLeaderOrFollower,
        NotCommitted::Failed => ErrorCode::KafkaStorageError,
        NotCommitted::Deleted => ErrorCode::UnknownTopicOrPartition,
    }
}
