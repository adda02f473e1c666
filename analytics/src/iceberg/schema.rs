//! The table's columns: those of `docs/formats/archive.md`, with the same ids.
//!
//! The Parquet objects carry these ids as field ids, so that no name mapping is needed. They are frozen.

use iceberg::spec::{ListType, NestedField, NestedFieldRef, PrimitiveType, Schema, StructType, Transform, Type};
use iceberg::spec::{UnboundPartitionSpec, UnboundPartitionSpecBuilder};

use super::TableError;

/// Id of the column `partition`.
pub const PARTITION: i32 = 1;
/// Id of the column `offset`.
pub const OFFSET: i32 = 2;
/// Id of the column `timestamp`.
pub const TIMESTAMP: i32 = 3;

/// The columns that every object has: their ids are what the numbering of a new table gives them.
pub(crate) fn every_object() -> Result<Schema, TableError> {
    build(columns())
}

/// All columns: a few objects have `timestamp_ms` as well, and the others read it as null.
pub(crate) fn whole() -> Result<Schema, TableError> {
    let mut columns = columns();
    columns.push(NestedField::optional(15, "timestamp_ms", Type::Primitive(PrimitiveType::Long)).into());
    build(columns)
}

/// One Iceberg partition for each partition of the topic.
pub(crate) fn partitioning() -> Result<UnboundPartitionSpec, TableError> {
    UnboundPartitionSpec::builder()
        .add_partition_field(PARTITION, "partition", Transform::Identity)
        .map(UnboundPartitionSpecBuilder::build)
        .map_err(TableError::making("partition spec"))
}

fn build(columns: Vec<NestedFieldRef>) -> Result<Schema, TableError> {
    Schema::builder().with_fields(columns).build().map_err(TableError::making("schema"))
}

fn columns() -> Vec<NestedFieldRef> {
    let (int, long) = (Type::Primitive(PrimitiveType::Int), Type::Primitive(PrimitiveType::Long));
    let binary = Type::Primitive(PrimitiveType::Binary);
    let header = StructType::new(vec![
        NestedField::required(13, "key", Type::Primitive(PrimitiveType::String)).into(),
        NestedField::optional(14, "value", binary.clone()).into(),
    ]);
    let headers = ListType::new(NestedField::list_element(12, Type::Struct(header), true).into());
    vec![
        NestedField::required(PARTITION, "partition", int.clone()).into(),
        NestedField::required(OFFSET, "offset", long.clone()).into(),
        NestedField::optional(TIMESTAMP, "timestamp", Type::Primitive(PrimitiveType::Timestamptz)).into(),
        NestedField::optional(4, "key", binary.clone()).into(),
        NestedField::optional(5, "value", binary).into(),
        NestedField::required(6, "headers", Type::List(headers)).into(),
        NestedField::required(7, "timestamp_type", int.clone()).into(),
        NestedField::required(8, "leader_epoch", int.clone()).into(),
        NestedField::required(9, "producer_id", long).into(),
        NestedField::required(10, "producer_epoch", int.clone()).into(),
        NestedField::required(11, "sequence", int).into(),
    ]
}
