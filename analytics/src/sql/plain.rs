//! Columns and batches without what belongs to the archive's files: field ids, and bytes that no row of the batch has.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, RecordBatchOptions, StructArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;

/// The columns of every topic's table. The field ids of the archive's schema would stay with some expressions and not with
/// others, so that the two sides of a recursive query, or a plan and its rows, would differ.
pub(super) fn columns() -> SchemaRef {
    static COLUMNS: LazyLock<SchemaRef> = LazyLock::new(|| without_metadata(&cold_tier::table_schema()));
    Arc::clone(&COLUMNS)
}

/// The schema without metadata, also inside of lists and structs.
pub(super) fn without_metadata(schema: &Schema) -> SchemaRef {
    map_schema(schema, plain_field)
}

fn plain_field(field: &FieldRef) -> FieldRef {
    let data_type = map_type(field.data_type(), &plain_field);
    Arc::new(Field::new(field.name(), data_type, field.is_nullable()))
}

/// The batch without metadata.
pub(super) fn plain_batch(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = without_metadata(batch.schema_ref());
    retyped(batch, schema, |column| Ok(Arc::clone(column)))
}

/// The batch without metadata, and with copies of the texts and bytes of its own rows. Rows are slices of what was read, and
/// a format that writes whole buffers would write all of it with each slice.
pub(super) fn compact_batch(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    retyped(batch, without_metadata(batch.schema_ref()), compact)
}

fn compact(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    Ok(match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()),
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        DataType::List(element) => {
            let list = column.as_list::<i32>();
            list_of_own(list, Arc::clone(element), compact)?
        }
        DataType::Struct(fields) => {
            let record = column.as_struct();
            let columns = record.columns().iter().map(compact).collect::<Result<Vec<_>, _>>()?;
            let rows = record.len();
            Arc::new(StructArray::try_new_with_length(fields.clone(), columns, record.nulls().cloned(), rows)?)
        }
        _ => Arc::clone(column),
    })
}

/// The list with its own values converted: a slice of a list shares those of the whole.
pub(super) fn list_of_own(
    list: &ListArray,
    element: FieldRef,
    convert: impl Fn(&ArrayRef) -> Result<ArrayRef, ArrowError>,
) -> Result<ArrayRef, ArrowError> {
    let offsets = list.offsets();
    let (first, last) = (offsets.first().copied().unwrap_or(0), offsets.last().copied().unwrap_or(0));
    let values = convert(&list.values().slice(index(first)?, index(last - first)?))?;
    let offsets = OffsetBuffer::from_lengths(offsets.lengths());
    Ok(Arc::new(ListArray::try_new(element, offsets, values, list.nulls().cloned())?))
}

fn index(at: i32) -> Result<usize, ArrowError> {
    usize::try_from(at).map_err(|error| ArrowError::ComputeError(error.to_string()))
}

/// The schema with its fields changed by `field`.
pub(super) fn map_schema(schema: &Schema, field: impl Fn(&FieldRef) -> FieldRef) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Fields>()))
}

/// A type whose fields are changed by `field`.
pub(super) fn map_type(data_type: &DataType, field: &dyn Fn(&FieldRef) -> FieldRef) -> DataType {
    match data_type {
        DataType::List(element) => DataType::List(field(element)),
        DataType::LargeList(element) => DataType::LargeList(field(element)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        other => other.clone(),
    }
}

/// The batch with its columns converted, and with the types of `schema`.
pub(super) fn retyped(
    batch: &RecordBatch,
    schema: SchemaRef,
    convert: impl Fn(&ArrayRef) -> Result<ArrayRef, ArrowError>,
) -> Result<RecordBatch, ArrowError> {
    let converted = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        let column = convert(column)?;
        if column.data_type() == field.data_type() { Ok(column) } else { cast(&column, field.data_type()) }
    });
    let columns = converted.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema, columns, &options)
}
