//! What all messages have in common, and decoding where the message is only known by its key.

use std::fmt::{self, Debug};

use bytes::Bytes;

use crate::api_key::ApiKey;
use crate::error::{DecodeError, EncodeError};
use crate::frame::{HeaderError, RequestHeader};
use crate::messages;
use crate::reader::Reader;
use crate::writer::Writer;

/// A message of the protocol. Each also has `decode` and `encode` as its own functions.
pub trait Message: Debug + Clone + PartialEq + Default + Send + Sync + 'static {
    /// Its facts.
    const INFO: &'static MessageInfo;

    /// Reads the fields of a version; the reader is behind them then.
    ///
    /// # Errors
    /// Where the bytes are not such a message, or the message has no such version.
    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError>;

    /// Writes the fields of a version.
    ///
    /// # Errors
    /// Where the version cannot carry a value that is set, or does not exist.
    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError>;
}

/// A message from a client.
pub trait Request: Message {
    /// Which API it calls.
    const KEY: ApiKey;
    /// What it is answered with, in the same version.
    type Response: Message;
}

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// From a client.
    Request,
    /// To a client.
    Response,
    /// In front of a request or response.
    Header,
    /// Embedded in a `bytes` field, after a two-byte version.
    Data,
    /// The key of a record of a coordinator's topic, after the two-byte type of the record.
    CoordinatorKey,
    /// The value of a record of a coordinator's topic, after a two-byte version.
    CoordinatorValue,
}

/// Decodes a version of one message.
pub type DecodeAny = fn(&mut Reader, i16) -> Result<Box<dyn AnyMessage>, DecodeError>;

/// The facts of a message.
pub struct MessageInfo {
    /// Kafka's name, for instance `FetchRequest`.
    pub name: &'static str,
    /// What it is for.
    pub kind: MessageKind,
    /// The key of its API, or the type of a coordinator's record.
    pub api: Option<i16>,
    /// The first version there is.
    pub min: i16,
    /// The last version there is, unstable ones of Kafka included.
    pub max: i16,
    /// The first version with compact lengths and tagged fields.
    pub flexible_from: Option<i16>,
    /// Decodes any message of this kind.
    pub decode: DecodeAny,
}

impl Debug for MessageInfo {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}-{}", self.name, self.min, self.max)
    }
}

/// A message whose type is known only while running.
pub trait AnyMessage: Debug + Send + Sync {
    /// Its facts.
    fn info(&self) -> &'static MessageInfo;

    /// See [`Message::encode`].
    ///
    /// # Errors
    /// As there.
    fn encode_any(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError>;
}

impl<M: Message> AnyMessage for M {
    fn info(&self) -> &'static MessageInfo {
        M::INFO
    }

    fn encode_any(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        self.encode(w, version)
    }
}

pub(crate) fn decode_boxed<M: Message>(r: &mut Reader, version: i16) -> Result<Box<dyn AnyMessage>, DecodeError> {
    Ok(Box::new(M::decode(r, version)?))
}

/// A request of any API.
#[derive(Debug)]
pub struct AnyRequest {
    /// Its header.
    pub header: RequestHeader,
    /// Its body.
    pub body: Box<dyn AnyMessage>,
    /// What follows the body: empty from a well-made client.
    pub trailing: Bytes,
}

/// Decodes a request of any API and version that we have a table for: `frame` is what follows the frame's length.
/// For tools and for fuzzing; a broker matches on the header's key instead.
///
/// # Errors
/// Where the header or the body is not what it should be. Never panics, whatever the bytes.
pub fn decode_any_request(frame: Bytes) -> Result<AnyRequest, HeaderError> {
    let (header, mut reader) = RequestHeader::decode(frame)?;
    let id = header.key.id();
    let is_body = |info: &&&MessageInfo| info.kind == MessageKind::Request && info.api == Some(id);
    let Some(info) = messages::ALL.iter().find(is_body) else {
        return Err(HeaderError::NotServed { key: header.key, correlation_id: header.correlation_id });
    };
    let body = (info.decode)(&mut reader, header.version)?;
    Ok(AnyRequest { header, body, trailing: reader.into_rest() })
}
