//! The records of `__consumer_offsets`: two bytes, then a message. In a key the two bytes are the type of the record (0
//! and 1: a committed offset, 2: a group), in a value and in embedded data they are the message's version.
//!
//! Kafka 4.3 writes group values in version 3 and committed offsets in version 3 (4 where the topic's id is known).

use bytes::Bytes;

use crate::error::{DecodeError, DecodeProblem, EncodeError};
use crate::message::Message;
use crate::messages::{GroupMetadataKey, OffsetCommitKey};
use crate::reader::Reader;
use crate::writer::Writer;

/// The type of the record of a committed offset before its retention was dropped; the same fields.
const LEGACY_OFFSET_COMMIT: i16 = 0;
const OFFSET_COMMIT: i16 = 1;
const GROUP_METADATA: i16 = 2;

/// The key of a record: what it is about.
#[derive(Debug, Clone, PartialEq)]
pub enum CoordinatorKey {
    /// A committed offset of one partition.
    Offset(OffsetCommitKey),
    /// A group with its members.
    Group(GroupMetadataKey),
}

impl CoordinatorKey {
    /// Reads a record's key.
    ///
    /// # Errors
    /// Where the type is unknown ([`DecodeProblem::UnknownRecordType`]: Kafka's newer group types, to be skipped as
    /// Kafka does) or the bytes are not such a key.
    pub fn decode(key: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(key);
        match reader.i16("CoordinatorKey.Type")? {
            LEGACY_OFFSET_COMMIT | OFFSET_COMMIT => Ok(Self::Offset(OffsetCommitKey::decode(&mut reader, 0)?)),
            GROUP_METADATA => Ok(Self::Group(GroupMetadataKey::decode(&mut reader, 0)?)),
            found => Err(reader.error("CoordinatorKey.Type", DecodeProblem::UnknownRecordType { found })),
        }
    }

    /// The bytes of a record's key.
    ///
    /// # Errors
    /// Where a name is longer than 32,767 bytes.
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::new();
        match self {
            Self::Offset(key) => {
                writer.i16(OFFSET_COMMIT);
                key.encode(&mut writer, 0)?;
            }
            Self::Group(key) => {
                writer.i16(GROUP_METADATA);
                key.encode(&mut writer, 0)?;
            }
        }
        Ok(writer.into_message())
    }
}

/// Reads a record's value, or embedded data such as `ConsumerProtocolSubscription`: the version, then the message. A
/// version of embedded data above ours is read as our last one (newer fields come behind), as Kafka's consumers do.
///
/// # Errors
/// Where the bytes are not such a message.
pub fn decode_versioned<M: Message>(value: Bytes) -> Result<M, DecodeError> {
    let mut reader = Reader::new(value);
    let version = reader.i16(M::INFO.name)?;
    let is_embedded = M::INFO.kind == crate::MessageKind::Data;
    M::decode(&mut reader, if is_embedded { version.min(M::INFO.max) } else { version })
}

/// The version, then the message.
///
/// # Errors
/// Where the version cannot carry the message.
pub fn encode_versioned<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    writer.i16(version);
    message.encode(&mut writer, version)?;
    Ok(writer.into_message())
}
