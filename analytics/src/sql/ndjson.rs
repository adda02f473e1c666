//! Rows and values as JSON. A value that cannot be written is an error, and no two keys of a row are the same.

use std::io::Write;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::writer::{LineDelimited, NullableEncoder};
use datafusion::arrow::json::{EncoderFactory, EncoderOptions, LineDelimitedWriter, WriterBuilder};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use super::titles::Titles;

/// Writes rows as objects, one on each line.
pub(super) struct Objects<W: Write> {
    writer: LineDelimitedWriter<W>,
    schema: SchemaRef,
}

impl<W: Write> Objects<W> {
    /// Rows with the columns of `schema`, as they are written.
    pub(super) fn new(out: W, schema: &Schema) -> Self {
        Objects { writer: builder().build(out), schema: with_own_names(schema) }
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns = batch.columns().to_vec();
        self.writer.write(&RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }

    pub(super) fn finish(&mut self) -> Result<(), ArrowError> {
        self.writer.finish()
    }
}

/// Each value of a column as JSON.
pub(super) fn json_texts(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let schema = Arc::new(Schema::new(vec![Field::new("v", column.data_type().clone(), true)]));
    let batch = RecordBatch::try_new(schema, vec![Arc::clone(column)])?;
    let mut writer = builder().build::<_, LineDelimited>(Vec::new());
    writer.write(&batch)?;
    writer.finish()?;
    let lines = String::from_utf8(writer.into_inner()).map_err(|e| ArrowError::JsonError(e.to_string()))?;
    let value = |line: &str| match line.strip_prefix("{\"v\":").and_then(|rest| rest.strip_suffix('}')) {
        Some("null") | None => None,
        Some(value) => Some(value.to_owned()),
    };
    let texts: StringArray = lines.lines().map(value).collect();
    debug_assert_eq!(texts.len(), column.len());
    Ok(Arc::new(texts))
}

fn builder() -> WriterBuilder {
    WriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(TimesWithinRange))
}

/// The schema with a number behind each name that another column has before it.
fn with_own_names(schema: &Schema) -> SchemaRef {
    let mut names = Titles::new(schema.fields().iter().map(|field| field.name().clone()));
    let mut seen = std::collections::HashSet::new();
    let own = |field: &FieldRef| match seen.insert(field.name().clone()) {
        true => Arc::clone(field),
        false => Arc::new(field.as_ref().clone().with_name(names.next(field.name()))),
    };
    Arc::new(Schema::new(schema.fields().iter().map(own).collect::<Fields>()))
}

/// Refuses times beyond the calendar, for which the library's encoder writes the words of its error as the value.
#[derive(Debug)]
struct TimesWithinRange;

impl EncoderFactory for TimesWithinRange {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let is_number_of_units = array.data_type().is_temporal() && !matches!(array.data_type(), DataType::Interval(_));
        if is_number_of_units {
            check_extremes(array)?;
        }
        Ok(None)
    }
}

/// Every value is within a range if the smallest and the largest are.
fn check_extremes(array: &dyn Array) -> Result<(), ArrowError> {
    let numbers = cast(array, &DataType::Int64)?;
    let numbers = numbers.as_primitive::<Int64Type>();
    let known = || numbers.iter().enumerate().filter_map(|(row, number)| Some((number?, row)));
    let options = FormatOptions::new();
    let formatter = ArrayFormatter::try_new(array, &options)?;
    for (_, row) in known().min().into_iter().chain(known().max()) {
        formatter.value(row).try_to_string()?;
    }
    Ok(())
}
