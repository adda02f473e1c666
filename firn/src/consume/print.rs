//! The forms in which a record is printed.

use std::io::{self, Write};

use model::batch::Record;

use crate::json_record::OutputRecord;

/// How a record becomes a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Format {
    /// The value's bytes; null prints as nothing.
    Value,
    /// The key's bytes, this, the value's bytes.
    KeyAndValue(String),
    /// See [`crate::json_record`].
    Json,
}

impl Format {
    /// Prints one line.
    pub(super) fn print(
        &self,
        out: &mut impl Write,
        topic: &str,
        partition: i32,
        record: &Record<'_>,
    ) -> anyhow::Result<()> {
        match self {
            Format::Value => out.write_all(record.value.unwrap_or_default())?,
            Format::KeyAndValue(separator) => {
                out.write_all(record.key.unwrap_or_default())?;
                out.write_all(separator.as_bytes())?;
                out.write_all(record.value.unwrap_or_default())?;
            }
            Format::Json => {
                let line = OutputRecord::new(topic, partition, record)?;
                serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
            }
        }
        Ok(out.write_all(b"\n")?)
    }
}
