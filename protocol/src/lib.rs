//! Kafka's wire protocol: frames, headers, messages, error codes, and the table of what we speak.
//!
//! The messages are generated while building from the tables in `schemas/` (their form: `schemas/README.md`); one more
//! message is one more table. Decoding is bounded: no count or length may exceed what is left of the frame, nothing is
//! allocated from a number on the wire, strings and record batches are views of the frame's bytes. Encoding leaves
//! large record batches where they lie, see [`Writer`].
//!
//! No clock, no sockets, no state beyond one frame.

mod records;
mod text;

mod error;
mod reader;
mod writer;

mod api_key;
mod message;

pub mod coordinator_record;
pub mod error_code;
pub mod frame;
pub mod messages;
pub mod versions;

pub mod compatibility;

pub use api_key::{ApiKey, KAFKA_RELEASE};
pub use error::{DecodeError, DecodeProblem, EncodeError, EncodeProblem};
pub use error_code::ErrorCode;
pub use message::{AnyMessage, AnyRequest, DecodeAny, Message, MessageInfo, MessageKind, Request, decode_any_request};
pub use reader::Reader;
pub use records::Records;
pub use text::Str;
pub use writer::{BY_REFERENCE_MIN_BYTES, Frame, TagSection, Writer};
