//! Frames: a length of four bytes, then a header, then a message.
//!
//! [`FrameSplitter`] cuts a stream of bytes into frames, [`RequestHeader`] opens a request, [`request`] and [`response`]
//! build whole frames, [`open_response`] opens what a client gets back.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use crate::api_key::ApiKey;
use crate::error::{DecodeError, EncodeError};
use crate::message::{Message, Request};
use crate::messages;
use crate::reader::Reader;
use crate::text::Str;
use crate::writer::{Frame, Writer};

/// Size of the length in front of a frame.
const LENGTH_BYTES: usize = 4;

/// What the tagged fields of a header may take in memory. Kafka defines none for requests.
const HEADER_ELEMENT_BYTES: usize = 16 * 1024;

/// How much to reserve at once for a frame that is still arriving: a length alone must not cost much memory.
const MAX_RESERVE_BYTES: usize = 1024 * 1024;

/// Cuts frames off the front of a buffer. Has no state of its own: what is incomplete stays in the caller's buffer.
#[derive(Debug, Clone, Copy)]
pub struct FrameSplitter {
    max_frame_bytes: usize,
}

/// A stream of bytes that is not Kafka's protocol, or exceeds our limit. Close the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A length of zero or less.
    #[error("a frame of {length} bytes was announced: this is not Kafka's protocol")]
    NotPositive {
        /// The length on the wire.
        length: i32,
    },
    /// The first bytes of another protocol.
    #[error("the client speaks {protocol}, this listener speaks Kafka's protocol without TLS: {advice}")]
    Foreign {
        /// Which protocol.
        protocol: &'static str,
        /// What to change at the client.
        advice: &'static str,
    },
    /// A length over the limit.
    #[error("a frame of {length} bytes was announced, the limit is {max} (socket.request.max.bytes)")]
    TooLarge {
        /// The length on the wire.
        length: usize,
        /// The limit in bytes.
        max: usize,
    },
}

impl FrameSplitter {
    /// Frames of at most `max_frame_bytes`, their length not counted (Kafka's `socket.request.max.bytes`).
    pub fn new(max_frame_bytes: usize) -> Self {
        Self { max_frame_bytes }
    }

    /// Takes the next frame off the buffer, without its length; `None` while it is incomplete. The frame shares the
    /// buffer's memory.
    ///
    /// # Errors
    /// Where the length is not positive or over the limit; nothing is taken then.
    pub fn next_frame(&self, buffer: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let Some(length) = self.announced(buffer)? else { return Ok(None) };
        if buffer.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        buffer.advance(LENGTH_BYTES);
        Ok(Some(buffer.split_to(length).freeze()))
    }

    /// How many bytes the buffer should have room for before the next read: what is missing of the frame, in steps of at
    /// most 1 MiB, so that memory follows what has really arrived.
    ///
    /// # Errors
    /// As [`FrameSplitter::next_frame`].
    pub fn missing_bytes(&self, buffer: &BytesMut) -> Result<usize, FrameError> {
        let wanted = LENGTH_BYTES + self.announced(buffer)?.unwrap_or(0);
        Ok(wanted.saturating_sub(buffer.len()).min(MAX_RESERVE_BYTES))
    }

    /// The length of the frame at the front, once its four bytes are there.
    ///
    /// # Errors
    /// As [`FrameSplitter::next_frame`].
    pub fn announced(&self, buffer: &BytesMut) -> Result<Option<usize>, FrameError> {
        let Some(digits) = buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = i32::from_be_bytes(*digits);
        match usize::try_from(length) {
            Ok(0) | Err(_) => Err(FrameError::NotPositive { length }),
            Ok(length) if length > self.max_frame_bytes => {
                Err(foreign(*digits).unwrap_or(FrameError::TooLarge { length, max: self.max_frame_bytes }))
            }
            Ok(length) => Ok(Some(length)),
        }
    }
}

/// The protocol that begins with these bytes, where it is not Kafka's. They are lengths of hundreds of megabytes.
fn foreign(digits: [u8; LENGTH_BYTES]) -> Option<FrameError> {
    let (protocol, advice) = match &digits {
        // A handshake record of SSL 3.0 to TLS 1.3.
        [0x16, 0x03, 0..=4, _] => ("TLS", "set security.protocol=PLAINTEXT"),
        b"GET " | b"PUT " | b"POST" | b"HEAD" | b"DELE" | b"OPTI" | b"PATC" | b"CONN" | b"PRI " => {
            ("HTTP", "metrics, health and SQL are on the admin port")
        }
        b"SSH-" => ("SSH", "correct host and port"),
        _ => return None,
    };
    Some(FrameError::Foreign { protocol, advice })
}

/// The header in front of a request's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which API.
    pub key: ApiKey,
    /// The version of the body, not checked: see [`crate::versions::support`].
    pub version: i16,
    /// Comes back in the response.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<Str>,
}

/// A request whose header or body cannot be read. Close the connection.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// A number that no API of Kafka has.
    #[error("API {id} (version {version}) does not exist in Kafka {}", crate::KAFKA_RELEASE)]
    UnknownApi {
        /// The number on the wire.
        id: i16,
        /// The version on the wire.
        version: i16,
    },
    /// An API that we have no table for.
    #[error("API {key} is not spoken here")]
    NotServed {
        /// Which API.
        key: ApiKey,
        /// Of the request.
        correlation_id: i32,
    },
    /// Bytes that are not a request.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

impl RequestHeader {
    /// Reads the header of a frame (without its length); the reader is then at the body.
    ///
    /// The header of an `ApiVersions` request can be read in any version, known or not, which the fallback to version 0
    /// depends on.
    ///
    /// # Errors
    /// Where the API does not exist or the bytes are not a header.
    pub fn decode(frame: Bytes) -> Result<(Self, Reader), HeaderError> {
        let mut reader = Reader::new(frame).with_element_budget(HEADER_ELEMENT_BYTES, 0);
        let mut start = reader.clone();
        let id = start.i16("RequestHeader.RequestApiKey")?;
        let version = start.i16("RequestHeader.RequestApiVersion")?;
        let key = ApiKey::from_id(id).ok_or(HeaderError::UnknownApi { id, version })?;
        let header = messages::RequestHeader::decode(&mut reader, key.request_header_version(version))?;
        let messages::RequestHeader { correlation_id, client_id, .. } = header;
        Ok((Self { key, version, correlation_id, client_id }, reader.with_default_budget()))
    }
}

/// A whole request.
///
/// # Errors
/// Where the version cannot carry the message.
pub fn request<R: Request>(
    body: &R,
    version: i16,
    correlation_id: i32,
    client_id: Option<Str>,
) -> Result<Frame, EncodeError> {
    let header = messages::RequestHeader {
        request_api_key: R::KEY.id(),
        request_api_version: version,
        correlation_id,
        client_id,
        ..messages::RequestHeader::default()
    };
    let mut writer = Writer::new();
    header.encode(&mut writer, R::KEY.request_header_version(version))?;
    body.encode(&mut writer, version)?;
    Ok(writer.finish())
}

/// A whole response of API `key`. For the fallback of `ApiVersions` give version 0.
///
/// # Errors
/// Where the version cannot carry the message.
pub fn response<M: Message>(key: ApiKey, version: i16, correlation_id: i32, body: &M) -> Result<Frame, EncodeError> {
    let header = messages::ResponseHeader { correlation_id, ..messages::ResponseHeader::default() };
    let mut writer = Writer::new();
    header.encode(&mut writer, key.response_header_version(version))?;
    body.encode(&mut writer, version)?;
    Ok(writer.finish())
}

/// The correlation id of a response frame (without its length), and a reader at its body.
///
/// # Errors
/// Where the bytes are not a response header.
pub fn open_response(key: ApiKey, version: i16, frame: Bytes) -> Result<(i32, Reader), DecodeError> {
    let mut reader = Reader::new(frame);
    let header = messages::ResponseHeader::decode(&mut reader, key.response_header_version(version))?;
    Ok((header.correlation_id, reader))
}
