//! Writing the Parquet object, chunk by chunk.
//!
//! A chunk is about 1 MiB of record bytes and one page in every column: all its pages end at the same row. The `parquet`
//! crate has no call for that, but its column writer looks at the page limits once per mini batch, so with
//! `write_batch_size` beyond any chunk and `data_page_row_count_limit` 1 each `write` of a column makes exactly one page
//! (checked when the footer is read back). Chunks as row groups of their own were the other way; they cost about 1.2 KiB of
//! footer each, and SQL engines dislike row groups of 1 MiB.
//!
//! Numbers are DELTA_BINARY_PACKED and never dictionary encoded, so that a chunk needs no dictionary page: the columns
//! that are constant within a batch cost a bit over a quarter of a byte per record before compression.
//!
//! The crate (58.4) writes no page checksums. Instead the footer holds a CRC-32C of each page, header included, and one over
//! each chunk's pages, and the manifest holds one of the footer: every byte that a reader uses is covered.

use std::sync::Arc;

use bytes::Bytes;
use model::batch::{BatchHeader, Compression, Record};
use model::segment::EpochStart;
use model::{NO_TIMESTAMP, TimestampMs, TopicName, TopicPartition};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression as ParquetCodec, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use super::rows::{RowError, Rows};
use super::segment::{Visitor, Walk};
use super::sink::{Finished, Sink};
use crate::checksum::{Metered, crc32c};
use crate::config::Config;
use crate::error::ArchiveError;
use crate::footer::ChunkFacts;
use crate::manifest::Attachment;
use crate::names::Span;
use crate::schema::{self, keys};

/// What goes into the object besides the records.
#[derive(Debug, Clone)]
pub(crate) struct ObjectFacts {
    pub(crate) name: String,
    pub(crate) cluster_id: String,
    pub(crate) topic: TopicName,
    pub(crate) partition: TopicPartition,
    pub(crate) span: Span,
    pub(crate) epochs: Vec<EpochStart>,
    pub(crate) producers: Bytes,
    pub(crate) codec: Compression,
}

/// What came out.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) finished: Finished,
    pub(crate) footer_bytes: u64,
    pub(crate) footer_crc32c: u32,
    pub(crate) producers: Attachment,
    pub(crate) chunks: Vec<ChunkFacts>,
    pub(crate) record_bytes: u64,
}

impl Encoded {
    pub(crate) fn rows(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.rows)).sum()
    }

    pub(crate) fn min_timestamp(&self) -> TimestampMs {
        let known = self.chunks.iter().map(|chunk| chunk.min_timestamp).filter(|&t| t != NO_TIMESTAMP);
        known.min().unwrap_or(NO_TIMESTAMP)
    }

    pub(crate) fn max_timestamp(&self) -> TimestampMs {
        let known = self.chunks.iter().map(|chunk| chunk.max_timestamp).filter(|&t| t != NO_TIMESTAMP);
        known.max().unwrap_or(NO_TIMESTAMP)
    }
}

/// Why encoding ended early.
#[derive(Debug)]
pub(crate) enum EncodeError {
    /// A timestamp needs the column `timestamp_ms`: begin again with it.
    NeedsExactTimestamps,
    /// Anything else.
    Archive(ArchiveError),
}

/// Encodes the records of `walk` into `sink`. Runs on a worker thread; blocks while the upload is behind.
pub(crate) fn encode(
    walk: &Walk<'_>,
    facts: &ObjectFacts,
    config: &Config,
    sink: Sink,
    exact_timestamps: bool,
) -> Result<Encoded, EncodeError> {
    let failed = |e: ParquetError| EncodeError::Archive(refused(&facts.name, &e));
    let mut encoder = Encoder::new(facts, config, sink, exact_timestamps).map_err(failed)?;
    let walked = walk.run(&mut encoder).map_err(|error| {
        if encoder.needs_exact_timestamps { EncodeError::NeedsExactTimestamps } else { EncodeError::Archive(error) }
    })?;
    encoder.close_group().map_err(EncodeError::Archive)?;
    encoder.finish(walked.record_bytes).map_err(failed)
}

fn refused(object: &str, error: &dyn std::fmt::Display) -> ArchiveError {
    ArchiveError::Encode { object: object.to_owned(), reason: error.to_string() }
}

struct Encoder<'a> {
    facts: &'a ObjectFacts,
    writer: SerializedFileWriter<Metered<Sink>>,
    factory: ArrowRowGroupWriterFactory,
    group: Vec<ArrowColumnWriter>,
    group_index: usize,
    group_bytes: usize,
    rows: Rows,
    chunks: Vec<ChunkFacts>,
    chunk_bytes: usize,
    row_group_bytes: usize,
    exact_timestamps: bool,
    needs_exact_timestamps: bool,
}

impl Visitor for Encoder<'_> {
    fn batch(&mut self, _header: &BatchHeader, block: Option<&Bytes>) {
        self.rows.block(block);
    }

    fn record(&mut self, header: &BatchHeader, record: &Record<'_>) -> Result<(), ArchiveError> {
        self.rows.push(header, record).map_err(|error| self.row_error(record.offset, &error))?;
        if self.rows.bytes() >= self.chunk_bytes { self.close_chunk() } else { Ok(()) }
    }

    fn batch_end(&mut self) -> Result<(), ArchiveError> {
        // A chunk that is nearly full ends with its batch, so that the batch comes back in one piece.
        if self.rows.bytes() >= self.chunk_bytes / 16 * 15 && !self.rows.is_empty() {
            self.close_chunk()
        } else {
            Ok(())
        }
    }
}

impl<'a> Encoder<'a> {
    fn new(facts: &'a ObjectFacts, config: &Config, sink: Sink, exact_timestamps: bool) -> Result<Self, ParquetError> {
        let arrow = schema::arrow_schema(exact_timestamps);
        let parquet = ArrowSchemaConverter::new().schema_root("record").convert(&arrow)?;
        let properties = Arc::new(properties(facts.codec)?);
        let writer = SerializedFileWriter::new(Metered::new(sink), parquet.root_schema_ptr(), properties)?;
        let factory = ArrowRowGroupWriterFactory::new(&writer, arrow);
        Ok(Encoder {
            facts,
            writer,
            factory,
            group: Vec::new(),
            group_index: 0,
            group_bytes: 0,
            rows: Rows::new(facts.partition.partition, exact_timestamps),
            chunks: Vec::new(),
            chunk_bytes: config.chunk_bytes,
            row_group_bytes: config.row_group_bytes,
            exact_timestamps,
            needs_exact_timestamps: false,
        })
    }

    fn row_error(&mut self, offset: i64, error: &RowError) -> ArchiveError {
        let partition = self.facts.partition;
        self.needs_exact_timestamps |= matches!(error, RowError::Timestamp(_));
        ArchiveError::DamagedSegment { partition, offset, reason: error.to_string() }
    }

    fn close_chunk(&mut self) -> Result<(), ArchiveError> {
        let fresh = Rows::new(self.facts.partition.partition, self.exact_timestamps);
        let rows = std::mem::replace(&mut self.rows, fresh);
        let facts = rows.facts();
        let failed = |e: &dyn std::fmt::Display| refused(&self.facts.name, e);
        let batch = rows.finish().map_err(|e| failed(&e))?;
        if self.group.is_empty() {
            self.group = self.factory.create_column_writers(self.group_index).map_err(|e| failed(&e))?;
        }
        let schema = batch.schema();
        let mut writers = self.group.iter_mut();
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            for leaf in compute_leaves(field, column).map_err(|e| failed(&e))? {
                let writer = writers.next().ok_or_else(|| failed(&"a column has no writer"))?;
                writer.write(&leaf).map_err(|e| failed(&e))?;
            }
        }
        self.chunks.push(ChunkFacts::from_rows(&facts, self.group_index));
        self.group_bytes += facts.record_bytes;
        if self.group_bytes >= self.row_group_bytes { self.close_group() } else { Ok(()) }
    }

    /// Ends the row group, and tells the meter which bytes belong to which chunk.
    fn close_group(&mut self) -> Result<(), ArchiveError> {
        if !self.rows.is_empty() {
            // May end the group by itself.
            self.close_chunk()?;
        }
        if self.group.is_empty() {
            return Ok(());
        }
        let first_chunk = self.chunks.partition_point(|chunk| chunk.row_group < self.group_index);
        let result = append_group(&mut self.writer, std::mem::take(&mut self.group), first_chunk);
        self.group_index += 1;
        self.group_bytes = 0;
        result.map_err(|e| refused(&self.facts.name, &e))
    }

    fn finish(mut self, record_bytes: u64) -> Result<Encoded, ParquetError> {
        let facts = self.facts;
        let producers = Attachment {
            offset: self.writer.bytes_written() as u64,
            length: facts.producers.len() as u64,
            crc32c: crc32c(&facts.producers),
        };
        self.writer.write_all(&facts.producers)?;
        self.writer.flush()?;
        for (chunk, sums) in self.chunks.iter_mut().zip(self.writer.inner_mut().take_sums()) {
            chunk.crc32c = sums.all;
            chunk.page_crc32c = sums.ranges;
        }
        for (key, value) in footer_entries(facts, &producers, &self.chunks) {
            self.writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        let footer_offset = self.writer.bytes_written() as u64;
        self.writer.inner_mut().start_total();
        let (sink, footer_crc32c) = self.writer.into_inner()?.into_parts();
        let footer_bytes = sink.written() - footer_offset;
        let finished = sink.finish().map_err(|e| ParquetError::External(Box::new(e)))?;
        Ok(Encoded { finished, footer_bytes, footer_crc32c, producers, chunks: self.chunks, record_bytes })
    }
}

fn append_group(
    writer: &mut SerializedFileWriter<Metered<Sink>>,
    columns: Vec<ArrowColumnWriter>,
    first_chunk: usize,
) -> Result<(), ParquetError> {
    let mut closed = Vec::with_capacity(columns.len());
    let mut start = writer.bytes_written() as u64;
    for column in columns {
        let chunk = column.close()?;
        let pages = chunk.close().offset_index.as_ref().map_or(&[][..], |index| index.page_locations());
        for (i, page) in pages.iter().enumerate() {
            let len = u64::try_from(page.compressed_page_size).unwrap_or(0);
            writer.inner_mut().meter(start..start + len, first_chunk + i);
            start += len;
        }
        closed.push(chunk);
    }
    let mut group = writer.next_row_group()?;
    for chunk in closed {
        chunk.append_to_row_group(&mut group)?;
    }
    group.close()?;
    Ok(())
}

fn footer_entries(facts: &ObjectFacts, producers: &Attachment, chunks: &[ChunkFacts]) -> Vec<(&'static str, String)> {
    let json = |value: serde_json::Value| value.to_string();
    vec![
        (keys::FORMAT, schema::FORMAT_VERSION.to_string()),
        (keys::CLUSTER_ID, facts.cluster_id.clone()),
        (keys::TOPIC, facts.topic.to_string()),
        (keys::TOPIC_ID, facts.partition.topic_id.to_string()),
        (keys::PARTITION, facts.partition.partition.to_string()),
        (keys::BASE_OFFSET, facts.span.base.to_string()),
        (keys::NEXT_OFFSET, facts.span.next.to_string()),
        (
            keys::EPOCHS,
            json(facts.epochs.iter().map(|e| serde_json::json!([e.leader_epoch, e.start_offset])).collect()),
        ),
        (keys::PRODUCERS, json(serde_json::json!([producers.offset, producers.length, producers.crc32c]))),
        (keys::CHUNKS, json(chunks.iter().map(ChunkFacts::to_json).collect())),
        (keys::PAGES, json(chunks.iter().map(|chunk| serde_json::json!(chunk.page_crc32c)).collect())),
    ]
}

fn properties(codec: Compression) -> Result<WriterProperties, ParquetError> {
    let codec = match codec {
        Compression::None => ParquetCodec::UNCOMPRESSED,
        Compression::Lz4 => ParquetCodec::LZ4_RAW,
        Compression::Snappy => ParquetCodec::SNAPPY,
        Compression::Zstd | Compression::Gzip => ParquetCodec::ZSTD(ZstdLevel::try_new(1)?),
    };
    let path = |name: &str| ColumnPath::from(name);
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("firn version ", env!("CARGO_PKG_VERSION"), " (build 1)").to_owned())
        .set_compression(codec)
        .set_dictionary_enabled(false)
        .set_write_batch_size(1 << 30)
        .set_data_page_row_count_limit(1)
        .set_data_page_size_limit(usize::MAX)
        .set_max_row_group_row_count(None)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_write_page_header_statistics(false);
    for name in [
        schema::PARTITION,
        schema::OFFSET,
        schema::TIMESTAMP,
        schema::TIMESTAMP_TYPE,
        schema::LEADER_EPOCH,
        schema::PRODUCER_ID,
        schema::PRODUCER_EPOCH,
        schema::SEQUENCE,
        schema::TIMESTAMP_MS,
    ] {
        builder = builder.set_column_encoding(path(name), Encoding::DELTA_BINARY_PACKED);
    }
    for name in [schema::OFFSET, schema::TIMESTAMP, schema::SEQUENCE] {
        builder = builder.set_column_statistics_enabled(path(name), EnabledStatistics::Page);
    }
    let header_paths = ["key", "value"]
        .map(|leaf| ColumnPath::from(vec![schema::HEADERS.to_owned(), "list".into(), "element".into(), leaf.into()]));
    for column in [path(schema::KEY), path(schema::VALUE)].into_iter().chain(header_paths) {
        builder = builder
            .set_column_encoding(column.clone(), Encoding::PLAIN)
            .set_column_statistics_enabled(column, EnabledStatistics::None);
    }
    Ok(builder.build())
}
