//! A chunk's pages, decoded into columns: the common ground of replay, verification and inspection.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, BinaryArray, BinaryViewArray, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use bytes::Bytes;
use model::{NO_TIMESTAMP, Offset, TimestampMs};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, FileMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};

use crate::checksum::Sum;
use crate::footer::{Chunk, Footer};
use crate::schema;

/// Row facts that are constant within a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) timestamp_type: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i32,
}

/// The columns of one chunk.
#[derive(Debug)]
pub(crate) struct Columns {
    pub(crate) partitions: Int32Array,
    pub(crate) offsets: Int64Array,
    timestamps: TimestampMicrosecondArray,
    exact_timestamps: Option<Int64Array>,
    keys: BinaryViewArray,
    values: BinaryViewArray,
    headers: ListArray,
    header_keys: StringArray,
    header_values: BinaryArray,
    timestamp_types: Int32Array,
    leader_epochs: Int32Array,
    producer_ids: Int64Array,
    producer_epochs: Int32Array,
    pub(crate) sequences: Int32Array,
}

/// Decodes a chunk from the bytes of its pages, which are in column order.
///
/// # Errors
/// What is wrong, for a person: a checksum, a count, an offset, or the decoder's words.
pub(crate) fn decode(footer: &Footer, chunk: &Chunk, pages: &[Bytes]) -> Result<Columns, String> {
    check_bytes(chunk, pages)?;
    let rows = chunk.facts.rows as usize;
    let batch = read(footer, chunk, pages).map_err(|e| e.to_string())?;
    if batch.num_rows() != rows {
        return Err(format!("a chunk holds {} rows instead of {rows}", batch.num_rows()));
    }
    let columns = Columns::from_batch(&batch, footer.with_timestamp_ms).ok_or("a column has another type")?;
    columns.check_offsets(chunk)?;
    Ok(columns)
}

fn check_bytes(chunk: &Chunk, pages: &[Bytes]) -> Result<(), String> {
    let mut sum = Sum::new();
    for (range, page) in chunk.pages.iter().zip(pages) {
        if page.len() as u64 != range.end - range.start {
            return Err(format!("a page at byte {} has {} bytes", range.start, page.len()));
        }
        sum.update(page);
    }
    if pages.len() != chunk.pages.len() || sum.value() != chunk.facts.crc32c {
        let at = chunk.pages.first().map_or(0, |page| page.start);
        return Err(format!("the checksum of the chunk with its first page at byte {at} does not match"));
    }
    Ok(())
}

/// Reads the chunk as if it were a file with one row group of one page per column.
fn read(footer: &Footer, chunk: &Chunk, pages: &[Bytes]) -> Result<RecordBatch, ParquetError> {
    let rows = chunk.facts.rows as usize;
    let mut group = RowGroupMetaData::builder(Arc::clone(&footer.schema)).set_num_rows(i64::from(chunk.facts.rows));
    for (i, range) in chunk.pages.iter().enumerate() {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let codec = footer.codecs.get(i).copied().ok_or_else(|| ParquetError::EOF("a column is missing".into()))?;
        let column = ColumnChunkMetaData::builder(footer.schema.column(i))
            .set_compression(codec)
            .set_data_page_offset(signed(range.start))
            .set_total_compressed_size(signed(range.end - range.start))
            .set_num_values(i64::from(chunk.facts.rows))
            .build()?;
        group = group.add_column_metadata(column);
    }
    let file = FileMetaData::new(1, i64::from(chunk.facts.rows), None, None, Arc::clone(&footer.schema), None);
    let metadata = Arc::new(ParquetMetaData::new(file, vec![group.build()?]));
    let options = ArrowReaderOptions::new().with_schema(schema::arrow_schema(footer.with_timestamp_ms));
    let metadata = ArrowReaderMetadata::try_new(metadata, options)?;
    let mut reader = ParquetRecordBatchReaderBuilder::new_with_metadata(Pages::new(chunk, pages), metadata)
        .with_batch_size(rows)
        .build()?;
    let batch = reader.next().ok_or_else(|| ParquetError::EOF("a chunk without rows".into()))??;
    Ok(batch)
}

impl Columns {
    fn from_batch(batch: &RecordBatch, with_timestamp_ms: bool) -> Option<Columns> {
        let ints = |name: &str| batch.column_by_name(name)?.as_primitive_opt::<Int32Type>().cloned();
        let longs = |name: &str| batch.column_by_name(name)?.as_primitive_opt::<Int64Type>().cloned();
        let views = |name: &str| batch.column_by_name(name)?.as_binary_view_opt().cloned();
        let headers = batch.column_by_name(schema::HEADERS)?.as_list_opt::<i32>()?.clone();
        let element = headers.values().as_struct_opt()?;
        Some(Columns {
            partitions: ints(schema::PARTITION)?,
            offsets: longs(schema::OFFSET)?,
            timestamps: batch
                .column_by_name(schema::TIMESTAMP)?
                .as_primitive_opt::<TimestampMicrosecondType>()?
                .clone(),
            exact_timestamps: if with_timestamp_ms { Some(longs(schema::TIMESTAMP_MS)?) } else { None },
            keys: views(schema::KEY)?,
            values: views(schema::VALUE)?,
            header_keys: element.column(0).as_string_opt::<i32>()?.clone(),
            header_values: element.column(1).as_binary_opt::<i32>()?.clone(),
            headers,
            timestamp_types: ints(schema::TIMESTAMP_TYPE)?,
            leader_epochs: ints(schema::LEADER_EPOCH)?,
            producer_ids: longs(schema::PRODUCER_ID)?,
            producer_epochs: ints(schema::PRODUCER_EPOCH)?,
            sequences: ints(schema::SEQUENCE)?,
        })
    }

    fn check_offsets(&self, chunk: &Chunk) -> Result<(), String> {
        let offsets = self.offsets.values();
        let (first, last) = (chunk.facts.first_offset, chunk.facts.last_offset);
        let ascending = offsets.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || offsets.first() != Some(&first) || offsets.last() != Some(&last) {
            return Err(format!("a chunk's offsets are not those from {first} to {last}"));
        }
        Ok(())
    }

    pub(crate) fn rows(&self) -> usize {
        self.offsets.len()
    }

    #[inline]
    pub(crate) fn offset(&self, row: usize) -> Offset {
        self.offsets.values()[row]
    }

    /// Milliseconds, or −1.
    #[inline]
    pub(crate) fn timestamp(&self, row: usize) -> TimestampMs {
        if self.timestamps.is_valid(row) {
            return self.timestamps.value(row).div_euclid(1000);
        }
        match &self.exact_timestamps {
            Some(exact) if exact.is_valid(row) => exact.value(row),
            _ => NO_TIMESTAMP,
        }
    }

    #[inline]
    pub(crate) fn key(&self, row: usize) -> Option<&[u8]> {
        self.keys.is_valid(row).then(|| self.keys.value(row))
    }

    #[inline]
    pub(crate) fn value(&self, row: usize) -> Option<&[u8]> {
        self.values.is_valid(row).then(|| self.values.value(row))
    }

    #[inline]
    pub(crate) fn headers(&self, row: usize) -> impl ExactSizeIterator<Item = (&str, Option<&[u8]>)> + Clone {
        let ends = self.headers.value_offsets();
        // Arrow's offsets are never negative and never beyond the values.
        let range = usize::try_from(ends[row]).unwrap_or(0)..usize::try_from(ends[row + 1]).unwrap_or(0);
        let value = |i: usize| self.header_values.is_valid(i).then(|| self.header_values.value(i));
        range.map(move |i| (self.header_keys.value(i), value(i)))
    }

    #[inline]
    pub(crate) fn facts(&self, row: usize) -> Facts {
        Facts {
            timestamp_type: self.timestamp_types.values()[row],
            leader_epoch: self.leader_epochs.values()[row],
            producer_id: self.producer_ids.values()[row],
            producer_epoch: self.producer_epochs.values()[row],
        }
    }

    #[inline]
    pub(crate) fn sequence(&self, row: usize) -> i32 {
        self.sequences.values()[row]
    }
}

/// The fetched pages, at their places in the file.
struct Pages {
    pages: BTreeMap<u64, Bytes>,
    end: u64,
}

impl Pages {
    fn new(chunk: &Chunk, pages: &[Bytes]) -> Self {
        let at = |(range, page): (&Range<u64>, &Bytes)| (range.start, page.clone());
        let end = chunk.pages.iter().map(|page| page.end).max().unwrap_or(0);
        Pages { pages: chunk.pages.iter().zip(pages).map(at).collect(), end }
    }
}

impl Length for Pages {
    fn len(&self) -> u64 {
        self.end
    }
}

impl ChunkReader for Pages {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        let outside = || ParquetError::EOF(format!("byte {start} lies outside the chunk"));
        let (at, page) = self.pages.range(..=start).next_back().ok_or_else(outside)?;
        let from = usize::try_from(start - at).ok().filter(|&from| from <= page.len()).ok_or_else(outside)?;
        Ok(bytes::Buf::reader(page.slice(from..)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let rest = self.get_read(start)?.into_inner();
        if length > rest.len() {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} lie outside the page")));
        }
        Ok(rest.slice(..length))
    }
}
