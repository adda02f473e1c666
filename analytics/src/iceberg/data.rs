//! Archived objects as data files.

use std::collections::HashMap;

use cold_tier::{ArchivedSegment, timestamp_micros};
use iceberg::spec::{DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, Literal, Struct};
use model::{Offset, TimestampMs};
use serde::{Deserialize, Serialize};

use super::schema::{OFFSET, PARTITION, TIMESTAMP};
use super::{Table, TableError};

/// What a table says of one archived object: fields of the manifest's entry for it, under the same names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataObject {
    /// The object's name, relative to the store's root.
    pub object: String,
    /// First offset covered.
    pub base_offset: Offset,
    /// First offset after the range covered.
    pub next_offset: Offset,
    /// Bytes of the object.
    pub bytes: u64,
    /// Its records, at least one.
    pub records: u64,
    /// Smallest record timestamp in ms, or −1.
    pub min_timestamp: TimestampMs,
    /// Largest record timestamp in ms, or −1.
    pub max_timestamp: TimestampMs,
}

impl From<&ArchivedSegment> for DataObject {
    fn from(segment: &ArchivedSegment) -> Self {
        DataObject {
            object: segment.object.clone(),
            base_offset: segment.base_offset,
            next_offset: segment.next_offset,
            bytes: segment.bytes,
            records: segment.records,
            min_timestamp: segment.min_timestamp,
            max_timestamp: segment.max_timestamp,
        }
    }
}

impl DataObject {
    /// The object as a data file of `table`. Its bounds hold for every row; a bound that is not surely known is left out.
    ///
    /// # Errors
    /// When a value does not fit the specification.
    pub(crate) fn to_file(&self, table: &Table, partition: i32) -> Result<DataFile, TableError> {
        let mut lower = HashMap::from([(PARTITION, Datum::int(partition)), (OFFSET, Datum::long(self.base_offset))]);
        let last_offset = self.next_offset.saturating_sub(1);
        let mut upper = HashMap::from([(PARTITION, Datum::int(partition)), (OFFSET, Datum::long(last_offset))]);
        // −1 may stand for "none"; what is outside of the column's range is null there.
        if let (Some(min), Some(max)) = (timestamp_micros(self.min_timestamp), timestamp_micros(self.max_timestamp)) {
            lower.insert(TIMESTAMP, Datum::timestamptz_micros(min));
            upper.insert(TIMESTAMP, Datum::timestamptz_micros(max));
        }
        let never_null = [PARTITION, OFFSET];
        DataFileBuilder::default()
            .content(DataContentType::Data)
            .file_path(table.object_url(&self.object))
            .file_format(DataFileFormat::Parquet)
            .partition(partition_value(partition))
            .record_count(self.records)
            .file_size_in_bytes(self.bytes)
            .value_counts(never_null.map(|column| (column, self.records)).into())
            .null_value_counts(never_null.map(|column| (column, 0)).into())
            .lower_bounds(lower)
            .upper_bounds(upper)
            .build()
            .map_err(|error| TableError::Inconsistent(format!("{}: {error}", self.object)))
    }
}

/// The partition tuple of everything in `partition`.
pub(crate) fn partition_value(partition: i32) -> Struct {
    Struct::from_iter([Some(Literal::int(partition))])
}
