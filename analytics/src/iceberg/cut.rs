//! A log start inside an object: the rows below it are deleted by position.
//!
//! Rows lie in an object in the order of their offsets, so those below a log start are its first ones, and the delete file
//! says `(object, 0) … (object, rows − 1)`. A data file has at most one: a later log start replaces it.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use iceberg::spec::{DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum};
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::data::partition_value;
use super::{Table, TableError};

/// The specification's reserved ids of a position delete file's columns.
const FILE_PATH: i32 = 2_147_483_546;
const POSITION: i32 = 2_147_483_545;
/// Rows encoded at once.
const BATCH_ROWS: u64 = 1 << 16;

/// The first rows of an object that lie below the log start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The object's partition.
    pub partition: i32,
    /// Its name, relative to the store's root.
    pub object: String,
    /// How many of its rows are below the log start: at least one, and not all.
    pub rows: u64,
}

impl Cut {
    /// The delete file's bytes.
    ///
    /// # Errors
    /// [`TableError::Deletes`].
    pub(crate) fn encode(&self, table: &Table) -> Result<Bytes, TableError> {
        let column = |name: &str, data_type, id: i32| {
            Field::new(name, data_type, false)
                .with_metadata([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())].into())
        };
        let columns = vec![column("file_path", DataType::Utf8, FILE_PATH), column("pos", DataType::Int64, POSITION)];
        let schema = Arc::new(Schema::new(columns));
        let codec = Compression::ZSTD(ZstdLevel::default());
        let properties = WriterProperties::builder().set_compression(codec).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties))?;
        let url = table.object_url(&self.object);
        for first in (0..self.rows).step_by(usize::try_from(BATCH_ROWS).unwrap_or(1)) {
            let positions: Vec<i64> = (first..self.rows.min(first + BATCH_ROWS)).map(u64::cast_signed).collect();
            let urls: ArrayRef = Arc::new(StringArray::from_iter_values(positions.iter().map(|_| &url)));
            let batch = RecordBatch::try_new(Arc::clone(&schema), vec![urls, Arc::new(Int64Array::from(positions))]);
            writer.write(&batch.map_err(parquet::errors::ParquetError::from)?)?;
        }
        Ok(Bytes::from(writer.into_inner()?))
    }

    /// The delete file as a manifest names it; its bytes lie at `url`.
    ///
    /// # Errors
    /// When a value does not fit the specification.
    pub(crate) fn to_file(&self, table: &Table, url: &str, bytes: u64) -> Result<DataFile, TableError> {
        let of = table.object_url(&self.object);
        // Equal bounds on the path let readers skip the file for every other object, also those that do not know the
        // newer field.
        let path = [(FILE_PATH, Datum::string(&of))];
        DataFileBuilder::default()
            .content(DataContentType::PositionDeletes)
            .file_path(url.to_owned())
            .file_format(DataFileFormat::Parquet)
            .partition(partition_value(self.partition))
            .record_count(self.rows)
            .file_size_in_bytes(bytes)
            .lower_bounds(path.clone().into())
            .upper_bounds(path.into())
            .referenced_data_file(Some(of))
            .build()
            .map_err(|error| TableError::Inconsistent(format!("{}: {error}", self.object)))
    }
}
