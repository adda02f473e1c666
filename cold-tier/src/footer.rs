//! The footer of an archived object: where each chunk's pages lie, and what they hold.

use std::ops::Range;

use bytes::Bytes;
use model::{NO_TIMESTAMP, Offset, TimestampMs};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};

use crate::checksum::crc32c;
use crate::manifest::ArchivedSegment;
use crate::schema::{self, keys};
use crate::writer::rows::RowFacts;

/// What the footer's own table says of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChunkFacts {
    pub(crate) row_group: usize,
    pub(crate) rows: u32,
    pub(crate) first_offset: Offset,
    pub(crate) last_offset: Offset,
    pub(crate) min_timestamp: TimestampMs,
    pub(crate) max_timestamp: TimestampMs,
    pub(crate) record_bytes: u64,
    /// Over the bytes of all pages, in column order.
    pub(crate) crc32c: u32,
    /// Of each page, in column order. Empty in objects of versions that wrote only the one over all pages.
    pub(crate) page_crc32c: Box<[u32]>,
}

impl ChunkFacts {
    pub(crate) fn from_rows(rows: &RowFacts, row_group: usize) -> Self {
        ChunkFacts {
            row_group,
            rows: rows.rows,
            first_offset: rows.first_offset,
            last_offset: rows.last_offset,
            min_timestamp: rows.min_timestamp,
            max_timestamp: rows.max_timestamp,
            record_bytes: rows.record_bytes as u64,
            crc32c: 0,
            page_crc32c: Box::default(),
        }
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!([
            self.row_group,
            self.rows,
            self.first_offset,
            self.last_offset,
            self.min_timestamp,
            self.max_timestamp,
            self.record_bytes,
            self.crc32c,
        ])
    }

    fn from_tuple(tuple: (usize, u32, i64, i64, i64, i64, u64, u32)) -> Self {
        let (row_group, rows, first_offset, last_offset, min_timestamp, max_timestamp, record_bytes, crc32c) = tuple;
        ChunkFacts {
            row_group,
            rows,
            first_offset,
            last_offset,
            min_timestamp,
            max_timestamp,
            record_bytes,
            crc32c,
            page_crc32c: Box::default(),
        }
    }
}

/// A chunk and its pages, in column order.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    pub(crate) facts: ChunkFacts,
    pub(crate) pages: Box<[Range<u64>]>,
}

impl Chunk {
    /// Bytes of all pages, as stored.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.pages.iter().map(|page| page.end - page.start).sum()
    }
}

/// What a reader needs to know of an object.
#[derive(Debug, Clone)]
pub(crate) struct Footer {
    pub(crate) codecs: Box<[parquet::basic::Compression]>,
    pub(crate) with_timestamp_ms: bool,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) entries: Vec<(String, String)>,
}

impl Footer {
    /// Reads the footer of the object that `segment` describes; `tail` is the object's last `footer_bytes`.
    ///
    /// # Errors
    /// What is wrong with the bytes, for a person.
    pub(crate) fn parse(segment: &ArchivedSegment, tail: Bytes) -> Result<Footer, String> {
        Ok(Footer::parse_for(segment, tail, PageIndexPolicy::Skip)?.0)
    }

    /// As [`Self::parse`], with the metadata as the `parquet` crate has them: column indexes included.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub(crate) fn parse_with_metadata(
        segment: &ArchivedSegment,
        tail: Bytes,
    ) -> Result<(Footer, ParquetMetaData), String> {
        Footer::parse_for(segment, tail, PageIndexPolicy::Optional)
    }

    fn parse_for(
        segment: &ArchivedSegment,
        tail: Bytes,
        column_index: PageIndexPolicy,
    ) -> Result<(Footer, ParquetMetaData), String> {
        if tail.len() as u64 != segment.footer_bytes {
            return Err(format!("its footer has {} bytes instead of {}", tail.len(), segment.footer_bytes));
        }
        if crc32c(&tail) != segment.footer_crc32c {
            return Err("its footer's checksum does not match the manifest".into());
        }
        let data_end = segment.bytes - segment.footer_bytes;
        let (footer, metadata) = Footer::parse_tail((data_end, tail), data_end, column_index)?;
        let in_range = |chunk: &Chunk| {
            let facts = &chunk.facts;
            facts.first_offset >= segment.base_offset && facts.last_offset < segment.next_offset
        };
        if !footer.chunks.iter().all(in_range) {
            return Err("its chunks lie outside the offsets that the manifest gives it".into());
        }
        Ok((footer, metadata))
    }

    /// Reads the footer of a whole object of `size` bytes, without a manifest.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub(crate) fn parse_whole(size: u64, bytes: Bytes) -> Result<Footer, String> {
        Ok(Footer::parse_tail((0, bytes), size, PageIndexPolicy::Skip)?.0)
    }

    /// `tail` is the object's end from byte `start` on; pages must end before `data_end`.
    fn parse_tail(
        (start, tail): (u64, Bytes),
        data_end: u64,
        column_index: PageIndexPolicy,
    ) -> Result<(Footer, ParquetMetaData), String> {
        let metadata = ParquetMetaDataReader::new()
            .with_offset_index_policy(PageIndexPolicy::Optional)
            .with_column_index_policy(column_index)
            .parse_and_finish(&Tail { start, bytes: tail })
            .map_err(|e| format!("it is no Parquet file with an offset index: {e}"))?;
        let entries: Vec<(String, String)> = metadata
            .file_metadata()
            .key_value_metadata()
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .filter_map(|entry| Some((entry.key.clone(), entry.value.clone()?)))
            .collect();
        let format = entry(&entries, keys::FORMAT).ok_or("it has no firn.format entry: not written by Firn")?;
        if format != schema::FORMAT_VERSION.to_string() {
            return Err(format!("its format version {format} is not supported, only {} is", schema::FORMAT_VERSION));
        }
        let chunks = entry(&entries, keys::CHUNKS).ok_or("it has no firn.chunks entry")?;
        let facts: Vec<_> = serde_json::from_str(chunks).map_err(|e| format!("its chunk table is malformed: {e}"))?;
        let mut facts: Vec<_> = facts.into_iter().map(ChunkFacts::from_tuple).collect();
        if let Some(pages) = entry(&entries, keys::PAGES) {
            add_page_checksums(&mut facts, pages)?;
        }
        let chunks = place(&metadata, facts, data_end)?;
        let schema = metadata.file_metadata().schema_descr();
        let mut leaves: Vec<_> = schema.columns().iter().map(|column| column.path().string()).collect();
        let with_timestamp_ms = leaves.pop_if(|leaf| leaf == schema::TIMESTAMP_MS).is_some();
        if leaves != schema::LEAVES {
            return Err(format!("its columns are {leaves:?}"));
        }
        let codecs = metadata
            .row_groups()
            .first()
            .map_or_else(|| Box::from([]), |group| group.columns().iter().map(|c| c.compression()).collect());
        Ok((Footer { codecs, with_timestamp_ms, chunks, entries }, metadata))
    }

    /// A `firn.*` entry of the footer.
    pub(crate) fn entry(&self, key: &str) -> Option<&str> {
        entry(&self.entries, key)
    }

    /// Position of the first chunk that ends at or after `offset`.
    pub(crate) fn chunk_at(&self, offset: Offset) -> usize {
        self.chunks.partition_point(|chunk| chunk.facts.last_offset < offset)
    }

    /// First chunk that may hold a record with a timestamp of `timestamp` or later.
    pub(crate) fn chunk_from_time(&self, timestamp: TimestampMs, from: usize) -> Option<usize> {
        let at = self
            .chunks
            .iter()
            .skip(from)
            .position(|c| c.facts.max_timestamp != NO_TIMESTAMP && c.facts.max_timestamp >= timestamp);
        at.map(|at| at + from)
    }

    /// Memory that the footer takes, in bytes, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        let entries: usize = self.entries.iter().map(|(k, v)| k.len() + v.len()).sum();
        let page_bytes = size_of::<Range<u64>>() + size_of::<u32>();
        self.chunks.iter().map(|chunk| 128 + chunk.pages.len() * page_bytes).sum::<usize>() + entries + 4096
    }
}

fn entry<'a>(entries: &'a [(String, String)], key: &str) -> Option<&'a str> {
    entries.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
}

/// Adds the checksums of the entry `firn.pages` to the chunks.
fn add_page_checksums(chunks: &mut [ChunkFacts], json: &str) -> Result<(), String> {
    let pages: Vec<Box<[u32]>> =
        serde_json::from_str(json).map_err(|e| format!("its table of page checksums is malformed: {e}"))?;
    if pages.len() != chunks.len() {
        return Err(format!("it has page checksums of {} chunks, and {} chunks", pages.len(), chunks.len()));
    }
    for (chunk, page_crc32c) in chunks.iter_mut().zip(pages) {
        chunk.page_crc32c = page_crc32c;
    }
    Ok(())
}

/// Joins the chunk table with the offset index: chunk `i` of a row group is page `i` of each of its columns.
fn place(metadata: &ParquetMetaData, facts: Vec<ChunkFacts>, data_end: u64) -> Result<Vec<Chunk>, String> {
    let index = metadata.offset_index().map_or(&[][..], Vec::as_slice);
    let mut chunks = Vec::with_capacity(facts.len());
    let mut previous: Offset = -1;
    let mut facts = facts.into_iter().peekable();
    for (group, (row_group, columns)) in metadata.row_groups().iter().zip(index).enumerate() {
        let mut number = 0;
        let mut first_row = 0_i64;
        while let Some(facts) = facts.next_if(|facts| facts.row_group == group) {
            let pages = columns
                .iter()
                .map(|column| {
                    let page = column.page_locations().get(number).filter(|page| page.first_row_index == first_row)?;
                    let start = u64::try_from(page.offset).ok()?;
                    let end = start.checked_add(u64::try_from(page.compressed_page_size).ok()?)?;
                    (end <= data_end).then_some(start..end)
                })
                .collect::<Option<Box<[_]>>>()
                .ok_or("its pages do not end where its chunks do")?;
            if !facts.page_crc32c.is_empty() && facts.page_crc32c.len() != pages.len() {
                return Err("a chunk has another number of pages than of checksums".into());
            }
            if facts.rows == 0 || facts.first_offset <= previous || facts.last_offset < facts.first_offset {
                return Err("its chunk table is out of order".into());
            }
            previous = facts.last_offset;
            first_row += i64::from(facts.rows);
            number += 1;
            chunks.push(Chunk { facts, pages });
        }
        if first_row != row_group.num_rows() || columns.iter().any(|column| column.page_locations().len() != number) {
            return Err(format!("row group {group} and the chunk table disagree on its rows"));
        }
    }
    if facts.next().is_some() {
        return Err("its chunk table names a row group that does not exist".into());
    }
    Ok(chunks)
}

/// The end of a file, as if it were the whole.
struct Tail {
    start: u64,
    bytes: Bytes,
}

impl Length for Tail {
    fn len(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl ChunkReader for Tail {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        let len = usize::try_from(self.len().saturating_sub(start)).unwrap_or(0);
        Ok(bytes::Buf::reader(self.get_bytes(start, len)?))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let outside = || ParquetError::EOF(format!("{length} bytes at {start} lie outside the footer"));
        let from = usize::try_from(start.checked_sub(self.start).ok_or_else(outside)?).map_err(|_| outside())?;
        let to = from.checked_add(length).filter(|&to| to <= self.bytes.len()).ok_or_else(outside)?;
        Ok(self.bytes.slice(from..to))
    }
}
