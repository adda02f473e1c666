//! What can be wrong with bytes that should be a message, and with a message that should become bytes. Both errors name
//! the message and the field; they are one pointer wide, so that the hot path moves nothing larger.

use std::fmt::{self, Display};

use thiserror::Error;

/// Bytes that are not the message they should be. The peer is at fault, or speaks another protocol.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct DecodeError(Box<DecodeFacts>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct DecodeFacts {
    field: &'static str,
    position: usize,
    problem: DecodeProblem,
}

/// Why bytes could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeProblem {
    /// The bytes end inside the field.
    #[error("needs {needed} bytes, {remaining} are left")]
    UnexpectedEnd {
        /// How many bytes the field needs.
        needed: usize,
        /// How many there are.
        remaining: usize,
    },
    /// A count of elements that the rest of the frame cannot hold.
    #[error("claims {count} elements, but only {remaining} bytes are left")]
    CountTooLarge {
        /// The count on the wire.
        count: usize,
        /// How many bytes follow.
        remaining: usize,
    },
    /// More elements than a frame of this size may reasonably have: they would take many times its memory.
    #[error("has {count} elements, which with all before would take too much memory for a frame of this size")]
    TooManyElements {
        /// The count on the wire.
        count: usize,
    },
    /// A length below zero which is not the one that means null.
    #[error("has the negative length {length}")]
    NegativeLength {
        /// The length on the wire.
        length: i32,
    },
    /// Null where the version allows none.
    #[error("is null, which this version does not allow")]
    Null,
    /// A string longer than Kafka's limit of 32,767 bytes.
    #[error("is a string of {length} bytes, more than 32767")]
    StringTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A string with other bytes than UTF-8.
    #[error("is not UTF-8")]
    NotUtf8,
    /// A variable-length number that does not end, or does not fit 32 bits.
    #[error("has a number of more than 32 bits")]
    NumberTooLong,
    /// A tagged field whose content is not as long as announced.
    #[error("has a tagged field {tag} of {declared} bytes whose content takes {taken}")]
    TagLength {
        /// The tag.
        tag: u32,
        /// The length on the wire, in bytes.
        declared: usize,
        /// The length of the content, in bytes.
        taken: usize,
    },
    /// The marker in front of a struct that may be null is neither of its two values.
    #[error("is marked neither as present nor as null")]
    BadPresence,
    /// A version that the message does not have.
    #[error("has no version {version}, only {min} to {max}")]
    UnsupportedVersion {
        /// The version asked for.
        version: i16,
        /// The first version.
        min: i16,
        /// The last version.
        max: i16,
    },
    /// The key of a coordinator's record is of a type we do not know.
    #[error("has the unknown record type {found}")]
    UnknownRecordType {
        /// The type found.
        found: i16,
    },
}

impl DecodeError {
    #[cold]
    pub(crate) fn new(field: &'static str, position: usize, problem: DecodeProblem) -> Self {
        Self(Box::new(DecodeFacts { field, position, problem }))
    }

    /// The message, for instance `FetchRequest`.
    pub fn message(&self) -> &'static str {
        self.0.field.split('.').next().unwrap_or_default()
    }

    /// The path of the field, for instance `FetchRequest.FetchTopic.TopicId`.
    pub fn field(&self) -> &'static str {
        self.0.field
    }

    /// Where in the bytes, counted from the start of the reader's bytes.
    pub fn position(&self) -> usize {
        self.0.position
    }

    /// What is wrong.
    pub fn problem(&self) -> &DecodeProblem {
        &self.0.problem
    }
}

impl Display for DecodeFacts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} at byte {} {}", self.field, self.position, self.problem)
    }
}

/// A message that the chosen version cannot carry. Our own mistake.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct EncodeError(Box<EncodeFacts>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct EncodeFacts {
    field: &'static str,
    problem: EncodeProblem,
}

/// Why a message could not be encoded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeProblem {
    /// A field that is not at its default, in a version that lacks it.
    #[error("is set, but version {version} does not have it")]
    NotInVersion {
        /// The version.
        version: i16,
    },
    /// Null where the version allows none.
    #[error("is null, which version {version} does not allow")]
    Null {
        /// The version.
        version: i16,
    },
    /// More bytes or elements than the length field can state.
    #[error("has a length of {length}, more than {max}")]
    TooLong {
        /// How long it is.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// A version that the message does not have.
    #[error("has no version {version}, only {min} to {max}")]
    UnsupportedVersion {
        /// The version asked for.
        version: i16,
        /// The first version.
        min: i16,
        /// The last version.
        max: i16,
    },
}

impl EncodeError {
    #[cold]
    pub(crate) fn new(field: &'static str, problem: EncodeProblem) -> Self {
        Self(Box::new(EncodeFacts { field, problem }))
    }

    /// The path of the field, for instance `FetchRequest.FetchTopic.TopicId`.
    pub fn field(&self) -> &'static str {
        self.0.field
    }

    /// What is wrong.
    pub fn problem(&self) -> &EncodeProblem {
        &self.0.problem
    }
}

impl Display for EncodeFacts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.field, self.problem)
    }
}
