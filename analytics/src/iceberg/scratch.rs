//! The specification's writers want a place to write to: one in memory, from which the bytes are taken.

use bytes::Bytes;
use iceberg::io::{FileIO, OutputFile};

use super::TableError;

/// Files in memory, by the URL under which they will be stored.
#[derive(Debug)]
pub(crate) struct Scratch(FileIO);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        Scratch(FileIO::new_with_memory())
    }

    /// Where to write what will lie at `url`.
    pub(crate) fn output(&self, url: &str) -> Result<OutputFile, TableError> {
        self.0.new_output(url).map_err(TableError::making("file"))
    }

    /// What was written for `url`.
    pub(crate) async fn take(&self, url: &str) -> Result<Bytes, TableError> {
        let input = self.0.new_input(url).map_err(TableError::making("file"))?;
        input.read().await.map_err(TableError::making("file"))
    }
}
