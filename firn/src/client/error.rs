//! What can go wrong between the command line and a broker, and whether trying again may help.

use std::io;

use broker::wire::CallError;
use protocol::frame::FrameError;
use protocol::{ApiKey, DecodeError, EncodeError, ErrorCode};

use super::Endpoint;

/// A request that was not answered, or answered with an error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// No connection.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect {
        /// To where.
        endpoint: Endpoint,
        /// Why.
        source: io::Error,
    },
    /// None of the bootstrap addresses answers.
    #[error(
        "no broker answers ({reasons}); is the server running? Its address is given by --bootstrap or FIRN_BOOTSTRAP"
    )]
    NoBroker {
        /// Each address with its reason.
        reasons: String,
    },
    /// The connection broke.
    #[error("the connection to {endpoint} broke during {api}: {source}")]
    Broken {
        /// To where.
        endpoint: Endpoint,
        /// During which request.
        api: ApiKey,
        /// Why.
        source: io::Error,
    },
    /// No answer in time.
    #[error("{endpoint} did not answer {api} in time")]
    TimedOut {
        /// Who.
        endpoint: Endpoint,
        /// Which request.
        api: ApiKey,
    },
    /// The other side does not speak Kafka's protocol.
    #[error("{endpoint} does not speak Kafka's protocol: {source}")]
    Frame {
        /// Who.
        endpoint: Endpoint,
        /// What it sent.
        source: FrameError,
    },
    /// A response that cannot be read.
    #[error("cannot read the answer of {endpoint} to {api}: {reason}")]
    Decode {
        /// Who.
        endpoint: Endpoint,
        /// To which request.
        api: ApiKey,
        /// What is wrong with it.
        reason: String,
    },
    /// A request that cannot be written, because a value is too long.
    #[error("cannot make a request: {0}")]
    Encode(#[from] EncodeError),
    /// The broker lacks the API, or the versions of it that we know.
    #[error("{endpoint} does not offer {api} in a version from {min} to {max}")]
    Unsupported {
        /// Who.
        endpoint: Endpoint,
        /// Which API.
        api: ApiKey,
        /// First version that we speak.
        min: i16,
        /// Last version that we speak.
        max: i16,
    },
    /// The broker refused.
    #[error("{doing}: {}", broker_words(*code, message.as_deref()))]
    Refused {
        /// What was asked for.
        doing: String,
        /// Kafka's error code.
        code: i16,
        /// The broker's own words.
        message: Option<String>,
    },
    /// A partition has no leader at the moment.
    #[error("partition {partition} of {topic} has no leader at the moment")]
    NoLeader {
        /// Which topic.
        topic: String,
        /// Which partition.
        partition: i32,
    },
    /// An answer that leaves out what was asked for.
    #[error("the answer of {endpoint} to {api} leaves out {what}")]
    Incomplete {
        /// Who.
        endpoint: Endpoint,
        /// To which request.
        api: ApiKey,
        /// What is missing.
        what: String,
    },
}

fn broker_words(code: i16, message: Option<&str>) -> String {
    let known = ErrorCode::from_code(code);
    match (known, message.filter(|text| !text.is_empty())) {
        (Some(code), Some(text)) => format!("{text} ({})", code.name()),
        (Some(code), None) => code.to_string(),
        (None, text) => format!("unknown error {code} {}", text.unwrap_or_default()),
    }
}

impl ClientError {
    /// A request that was not answered.
    pub(super) fn call(endpoint: &Endpoint, api: ApiKey, error: CallError) -> Self {
        let endpoint = endpoint.clone();
        match error {
            CallError::Io(source) => ClientError::Broken { endpoint, api, source },
            CallError::TimedOut { .. } => ClientError::TimedOut { endpoint, api },
            CallError::Frame(source) => ClientError::Frame { endpoint, source },
            CallError::Encode(source) => ClientError::Encode(source),
            CallError::Decode(source) => ClientError::decode(&endpoint, api, &source),
            CallError::OutOfStep { .. } => ClientError::Decode { endpoint, api, reason: error.to_string() },
        }
    }

    /// Fails when `code` is an error.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with what was being done.
    pub(crate) fn check(code: i16, message: Option<&str>, doing: impl FnOnce() -> String) -> Result<(), ClientError> {
        if code == ErrorCode::None.code() {
            return Ok(());
        }
        Err(ClientError::Refused { doing: doing(), code, message: message.map(str::to_owned) })
    }

    pub(crate) fn decode(endpoint: &Endpoint, api: ApiKey, error: &DecodeError) -> Self {
        ClientError::Decode { endpoint: endpoint.clone(), api, reason: error.to_string() }
    }

    /// Whether the same request may succeed a little later.
    pub(crate) fn is_retriable(&self) -> bool {
        match self {
            ClientError::Broken { .. } | ClientError::TimedOut { .. } | ClientError::NoLeader { .. } => true,
            ClientError::Connect { .. } | ClientError::NoBroker { .. } => true,
            ClientError::Refused { code, .. } => ErrorCode::from_code(*code).is_some_and(ErrorCode::is_retriable),
            _ => false,
        }
    }

    /// Whether the broker answered with this code.
    pub(crate) fn has_code(&self, wanted: ErrorCode) -> bool {
        matches!(self, ClientError::Refused { code, .. } if *code == wanted.code())
    }
}
