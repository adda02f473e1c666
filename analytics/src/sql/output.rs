//! An answer as bytes: a table for people, or CSV, NDJSON, Parquet and Arrow for programs.
//!
//! Bytes (keys and values) are text where they are UTF-8, and `\x` with hex digits otherwise, in the formats that are
//! text; Parquet and Arrow keep them as they are. Times are ISO 8601 in UTC. Rows are written by the threads of their query, in
//! slices of [`SLICE_BYTES`], so that large records need no more memory than small ones.

use std::fmt;
use std::io::Write;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, RecordBatch, StringViewBuilder, StructArray,
};
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::csv;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;

use super::error::SqlError;
use super::ndjson::{Objects, json_texts};
use super::plain::{compact_batch, list_of_own, map_schema, map_type, plain_batch, retyped, without_metadata};
use super::query::{Item, Outlet};
use super::sizes::{batch_bytes, slices};

/// Bytes of rows that are written at a time.
const SLICE_BYTES: usize = 1 << 20;
/// Rows of a row group in Parquet output.
const ROW_GROUP_ROWS: usize = 64 << 10;
/// Memory of an unfinished row group in Parquet output at which it ends, in bytes.
const ROW_GROUP_BYTES: usize = 16 << 20;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Columns in a frame, for people.
    Table,
    /// A column on each line, for people and wide rows.
    Lines,
    /// Comma separated, with a header line.
    Csv,
    /// One JSON object on each line.
    Json,
    /// One Parquet file.
    Parquet,
    /// An Arrow IPC stream.
    Arrow,
}

impl Format {
    /// All of them, by name.
    pub const NAMES: [(&'static str, Format); 6] = [
        ("table", Format::Table),
        ("lines", Format::Lines),
        ("csv", Format::Csv),
        ("json", Format::Json),
        ("parquet", Format::Parquet),
        ("arrow", Format::Arrow),
    ];

    /// The media type, for HTTP.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Table | Format::Lines => "text/plain; charset=utf-8",
            Format::Csv => "text/csv; charset=utf-8",
            Format::Json => "application/x-ndjson",
            Format::Parquet => "application/vnd.apache.parquet",
            Format::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    /// True for formats that a terminal can show.
    #[must_use]
    pub fn is_text(self) -> bool {
        !matches!(self, Format::Parquet | Format::Arrow)
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Format::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, format)| *format).ok_or_else(|| {
            let names: Vec<_> = Format::NAMES.iter().map(|(name, _)| *name).collect();
            format!("there is no format {name:?}, only {}", names.join(", "))
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Format::NAMES.iter().find(|(_, format)| format == self).map_or("table", |(name, _)| name);
        f.write_str(name)
    }
}

/// Sends the rows of `stream` as bytes of `format`, a bounded part of a batch at a time. What is held back for the format is
/// counted in `memory`.
pub(super) async fn send(
    mut stream: SendableRecordBatchStream,
    format: Format,
    memory: &Arc<dyn MemoryPool>,
    rows: &Outlet,
) -> Result<(), SqlError> {
    let held = MemoryConsumer::new(format!("answer as {format}")).register(memory);
    let mut writer = Writer::new(format, &stream.schema())?;
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        for slice in slices(&batch, SLICE_BYTES, writer.slice_rows()) {
            let piece = writer.write(&slice)?;
            held.try_resize(writer.held_bytes())?;
            if !piece.is_empty() && rows.send(Item::Piece(piece)).await.is_err() {
                return Ok(());
            }
        }
    }
    let last = writer.finish()?;
    if !last.is_empty() {
        // A reader that is gone needs no end.
        let _ = rows.send(Item::Piece(last)).await;
    }
    Ok(())
}

/// Writes batches into a buffer that is taken after each.
enum Writer {
    Table(super::pretty::Table),
    Lines(super::pretty::Lines),
    Csv(Box<csv::Writer<Shared>>, Shared, SchemaRef),
    Json(Box<Objects<Shared>>, Shared),
    Parquet(Box<ArrowWriter<Shared>>, Shared),
    Arrow(Box<StreamWriter<Shared>>, Shared, Gathered),
}

/// Small batches that wait to be written as one: each batch of an Arrow stream has a head of several hundred bytes.
#[derive(Debug, Default)]
struct Gathered {
    batches: Vec<RecordBatch>,
    bytes: usize,
}

impl Gathered {
    /// Takes a batch, and gives those that are enough together.
    fn add(&mut self, batch: RecordBatch) -> Result<Option<RecordBatch>, ArrowError> {
        self.bytes += batch_bytes(&batch);
        self.batches.push(batch);
        if self.bytes >= SLICE_BYTES { self.take() } else { Ok(None) }
    }

    fn take(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let Gathered { batches, .. } = std::mem::take(self);
        batches.first().map(|first| concat_batches(&first.schema(), &batches)).transpose()
    }
}

impl Writer {
    fn new(format: Format, schema: &SchemaRef) -> Result<Writer, SqlError> {
        let out = Shared::default();
        let writer = match format {
            Format::Table => Writer::Table(super::pretty::Table::new(schema)),
            Format::Lines => Writer::Lines(super::pretty::Lines::new(schema)),
            Format::Csv => {
                let text = csv_schema(&as_text(schema));
                let mut writer = csv::WriterBuilder::new().with_header(true).build(out.clone());
                // The header comes also when there is no row.
                writer.write(&RecordBatch::new_empty(Arc::clone(&text))).map_err(arrow)?;
                Writer::Csv(Box::new(writer), out, text)
            }
            Format::Json => Writer::Json(Box::new(Objects::new(out.clone(), &as_text(schema))), out),
            Format::Parquet => {
                let level = ZstdLevel::try_new(1).map_err(parquet)?;
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(level))
                    .set_max_row_group_row_count(Some(ROW_GROUP_ROWS));
                let plain = without_metadata(schema);
                let writer = ArrowWriter::try_new(out.clone(), plain, Some(properties.build())).map_err(parquet)?;
                Writer::Parquet(Box::new(writer), out)
            }
            Format::Arrow => {
                let writer = StreamWriter::try_new(out.clone(), &without_metadata(schema)).map_err(arrow)?;
                Writer::Arrow(Box::new(writer), out, Gathered::default())
            }
        };
        Ok(writer)
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<Bytes, SqlError> {
        match self {
            Writer::Table(table) => return table.write(&text_batch(batch)?),
            Writer::Lines(lines) => return lines.write(&text_batch(batch)?),
            Writer::Csv(writer, _, schema) => {
                let text = text_batch(batch)?;
                let columns = text.columns().iter().zip(schema.fields());
                let columns = columns.map(|(column, field)| csv_column(column, field)).collect::<Result<_, _>>()?;
                let flat = RecordBatch::try_new(Arc::clone(schema), columns).map_err(arrow)?;
                writer.write(&flat).map_err(arrow)?;
            }
            Writer::Json(writer, _) => writer.write(&text_batch(batch)?).map_err(arrow)?,
            Writer::Parquet(writer, _) => {
                writer.write(&plain_batch(batch).map_err(arrow)?).map_err(parquet)?;
                if writer.memory_size() >= ROW_GROUP_BYTES {
                    writer.flush().map_err(parquet)?;
                }
            }
            Writer::Arrow(writer, _, gathered) => {
                if let Some(batch) = gathered.add(compact_batch(batch).map_err(arrow)?).map_err(arrow)? {
                    writer.write(&batch).map_err(arrow)?;
                }
            }
        }
        Ok(self.take())
    }

    /// Rows that may be written at a time, as far as that does not depend on their size.
    fn slice_rows(&self) -> usize {
        match self {
            Writer::Table(table) => table.slice_rows(SLICE_BYTES),
            _ => usize::MAX,
        }
    }

    /// Bytes that are held back.
    fn held_bytes(&self) -> usize {
        match self {
            Writer::Table(table) => table.held_bytes(),
            Writer::Parquet(writer, _) => writer.memory_size(),
            Writer::Arrow(_, _, gathered) => gathered.bytes,
            Writer::Lines(_) | Writer::Csv(..) | Writer::Json(..) => 0,
        }
    }

    fn finish(mut self) -> Result<Bytes, SqlError> {
        match &mut self {
            Writer::Table(table) => return table.finish(),
            Writer::Lines(lines) => return Ok(lines.finish()),
            Writer::Csv(..) => {}
            Writer::Json(writer, _) => writer.finish().map_err(arrow)?,
            Writer::Parquet(writer, _) => drop(writer.finish().map_err(parquet)?),
            Writer::Arrow(writer, _, gathered) => {
                if let Some(batch) = gathered.take().map_err(arrow)? {
                    writer.write(&batch).map_err(arrow)?;
                }
                writer.finish().map_err(arrow)?;
            }
        }
        Ok(self.take())
    }

    fn take(&self) -> Bytes {
        match self {
            Writer::Table(_) | Writer::Lines(_) => Bytes::new(),
            Writer::Csv(_, out, _) | Writer::Json(_, out) | Writer::Parquet(_, out) | Writer::Arrow(_, out, _) => {
                Bytes::from(std::mem::take(&mut *out.0.lock()))
            }
        }
    }
}

/// A buffer that a writer holds one end of.
#[derive(Debug, Clone, Default)]
struct Shared(Arc<parking_lot::Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn arrow(error: ArrowError) -> SqlError {
    SqlError::Failed { message: format!("cannot write the answer: {error}") }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn parquet(error: ParquetError) -> SqlError {
    SqlError::Failed { message: format!("cannot write the answer: {error}") }
}

/// The schema with text instead of bytes.
pub(super) fn as_text(schema: &Schema) -> SchemaRef {
    map_schema(schema, text_field)
}

fn text_field(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        data_type if is_bytes(data_type) => DataType::Utf8View,
        other => map_type(other, &text_field),
    };
    Arc::new(Field::new(field.name(), data_type, field.is_nullable()))
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_))
}

/// The batch with text instead of bytes, also inside of lists and structs.
pub(super) fn text_batch(batch: &RecordBatch) -> Result<RecordBatch, SqlError> {
    retyped(batch, as_text(batch.schema_ref()), text_column).map_err(arrow)
}

fn text_column(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        data_type if is_bytes(data_type) => {
            let bytes = cast(column, &DataType::BinaryView)?;
            Ok(text_of(bytes.as_binary_view()))
        }
        DataType::List(element) => list_of_own(column.as_list::<i32>(), text_field(element), text_column),
        DataType::Struct(fields) => {
            let record = column.as_struct();
            let columns = record.columns().iter().map(text_column).collect::<Result<Vec<_>, _>>()?;
            let fields: Fields = fields.iter().map(text_field).collect();
            let made = StructArray::try_new(fields, columns, record.nulls().cloned());
            made.map(|record| Arc::new(record) as ArrayRef)
        }
        _ => Ok(Arc::clone(column)),
    }
}

fn text_of(bytes: &BinaryViewArray) -> ArrayRef {
    if let Ok(text) = bytes.clone().to_string_view() {
        return Arc::new(text);
    }
    let mut texts = StringViewBuilder::with_capacity(bytes.len());
    for value in bytes {
        match value.map(|value| (std::str::from_utf8(value), value)) {
            None => texts.append_null(),
            Some((Ok(text), _)) => texts.append_value(text),
            Some((Err(_), value)) => texts.append_value(hex(value)),
        }
    }
    Arc::new(texts.finish())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 + 2 * bytes.len());
    text.push_str("\\x");
    for byte in bytes {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
    }
    text
}

/// CSV has no lists and structs: they are written as JSON.
fn csv_schema(schema: &Schema) -> SchemaRef {
    let flat = |field: &FieldRef| match field.data_type().is_nested() {
        true => Arc::new(Field::new(field.name(), DataType::Utf8, true)),
        false => Arc::clone(field),
    };
    Arc::new(Schema::new(schema.fields().iter().map(flat).collect::<Fields>()))
}

fn csv_column(column: &ArrayRef, field: &FieldRef) -> Result<ArrayRef, SqlError> {
    if column.data_type() == field.data_type() {
        return Ok(Arc::clone(column));
    }
    json_texts(column).map_err(arrow)
}
