//! The columns of an archived object: frozen in version 1 (`docs/formats/archive.md`).
//!
//! Field ids are numbered breadth first, because that is how Iceberg numbers the fields of a new table.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use model::{NO_TIMESTAMP, TimestampMs};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

/// Version of the layout, in every object's metadata.
pub(crate) const FORMAT_VERSION: u32 = 1;

pub(crate) const PARTITION: &str = "partition";
pub(crate) const OFFSET: &str = "offset";
pub(crate) const TIMESTAMP: &str = "timestamp";
pub(crate) const KEY: &str = "key";
pub(crate) const VALUE: &str = "value";
pub(crate) const HEADERS: &str = "headers";
pub(crate) const TIMESTAMP_TYPE: &str = "timestamp_type";
pub(crate) const LEADER_EPOCH: &str = "leader_epoch";
pub(crate) const PRODUCER_ID: &str = "producer_id";
pub(crate) const PRODUCER_EPOCH: &str = "producer_epoch";
pub(crate) const SEQUENCE: &str = "sequence";
/// Present only in objects with a timestamp outside of [`TIMESTAMP_RANGE_MS`].
pub(crate) const TIMESTAMP_MS: &str = "timestamp_ms";

/// What the column `timestamp` holds, in ms: the years 1 to 9999, as SQL and Python know them. Engines fail, or answer wrong, on
/// one value beyond their own range. Objects of earlier versions may hold whatever fits microseconds.
pub const TIMESTAMP_RANGE_MS: RangeInclusive<TimestampMs> = -62_135_596_800_000..=253_402_300_799_999;

/// What the column `timestamp` has for a record's timestamp, in microseconds; `None` is null there.
#[must_use]
pub fn timestamp_micros(timestamp: TimestampMs) -> Option<i64> {
    (timestamp != NO_TIMESTAMP && TIMESTAMP_RANGE_MS.contains(&timestamp)).then(|| timestamp * 1000)
}

/// Paths of the leaf columns, in order; [`TIMESTAMP_MS`] may follow.
pub(crate) const LEAVES: [&str; 12] = [
    PARTITION,
    OFFSET,
    TIMESTAMP,
    KEY,
    VALUE,
    "headers.list.element.key",
    "headers.list.element.value",
    TIMESTAMP_TYPE,
    LEADER_EPOCH,
    PRODUCER_ID,
    PRODUCER_EPOCH,
    SEQUENCE,
];

/// Names of the metadata keys in a Parquet footer.
pub(crate) mod keys {
    pub(crate) const FORMAT: &str = "firn.format";
    pub(crate) const CLUSTER_ID: &str = "firn.cluster_id";
    pub(crate) const TOPIC: &str = "firn.topic";
    pub(crate) const TOPIC_ID: &str = "firn.topic_id";
    pub(crate) const PARTITION: &str = "firn.partition";
    pub(crate) const BASE_OFFSET: &str = "firn.base_offset";
    pub(crate) const NEXT_OFFSET: &str = "firn.next_offset";
    pub(crate) const EPOCHS: &str = "firn.leader_epochs";
    pub(crate) const PRODUCERS: &str = "firn.producers";
    pub(crate) const CHUNKS: &str = "firn.chunks";
    pub(crate) const PAGES: &str = "firn.pages";
}

/// The schema of an object: what is written, and how arrays are read back.
pub(crate) fn arrow_schema(with_timestamp_ms: bool) -> SchemaRef {
    static PLAIN: LazyLock<SchemaRef> = LazyLock::new(|| build(false));
    static EXACT: LazyLock<SchemaRef> = LazyLock::new(|| build(true));
    Arc::clone(if with_timestamp_ms { &EXACT } else { &PLAIN })
}

/// The fields inside one element of `headers`.
pub(crate) fn header_fields() -> Fields {
    Fields::from(vec![field("key", DataType::Utf8, false, 13), field("value", DataType::Binary, true, 14)])
}

/// The element of `headers`.
pub(crate) fn header_element() -> Arc<Field> {
    Arc::new(field("element", DataType::Struct(header_fields()), false, 12))
}

fn build(with_timestamp_ms: bool) -> SchemaRef {
    let utc_micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let mut fields = vec![
        field(PARTITION, DataType::Int32, false, 1),
        field(OFFSET, DataType::Int64, false, 2),
        field(TIMESTAMP, utc_micros, true, 3),
        field(KEY, DataType::BinaryView, true, 4),
        field(VALUE, DataType::BinaryView, true, 5),
        field(HEADERS, DataType::List(header_element()), false, 6),
        field(TIMESTAMP_TYPE, DataType::Int32, false, 7),
        field(LEADER_EPOCH, DataType::Int32, false, 8),
        field(PRODUCER_ID, DataType::Int64, false, 9),
        field(PRODUCER_EPOCH, DataType::Int32, false, 10),
        field(SEQUENCE, DataType::Int32, false, 11),
    ];
    if with_timestamp_ms {
        fields.push(field(TIMESTAMP_MS, DataType::Int64, true, 15));
    }
    Arc::new(Schema::new(fields))
}

fn field(name: &str, data_type: DataType, nullable: bool, id: i32) -> Field {
    let metadata = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]);
    Field::new(name, data_type, nullable).with_metadata(metadata)
}
