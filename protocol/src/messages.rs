//! The messages, one module each, generated from `schemas/`. A field that the version at hand lacks has its default
//! after decoding. While encoding, a field that the version lacks must have its default, unless the table calls it
//! ignorable; then it is dropped (Kafka's rule).
#![allow(
    unused_variables,
    unused_imports,
    reason = "not every message has a use for its version or all of the prelude"
)]
#![allow(clippy::nonminimal_bool, reason = "conditions are put together from parts")]

mod prelude {
    pub(super) use bytes::Bytes;
    pub(super) use uuid::Uuid;

    pub(super) use crate::api_key::ApiKey;
    pub(super) use crate::error::{DecodeError, EncodeError};
    pub(super) use crate::message::{Message, MessageInfo, MessageKind, Request, decode_boxed};
    pub(super) use crate::reader::Reader;
    pub(super) use crate::records::Records;
    pub(super) use crate::text::Str;
    pub(super) use crate::writer::Writer;
}

use crate::message::{Message, MessageInfo};

include!(concat!(env!("OUT_DIR"), "/messages.rs"));
