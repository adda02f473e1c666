//! The archive for those who read its objects as Parquet: the columns, and what an object's footer says.

use std::ops::Range;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use bytes::Bytes;
use parquet::file::metadata::ParquetMetaData;

use crate::checksum::crc32c;
use crate::columns::check_bytes;
use crate::error::ReadError;
use crate::footer::{Chunk, Footer};
use crate::inspect::ChunkSummary;
use crate::manifest::ArchivedSegment;
use crate::schema;
use crate::tier::ColdTier;

/// Memory of a chunk's place: a dozen pages.
const CHUNK_PLACE_BYTES: usize = 384;

/// What an object's footer says, checked against its entry in the manifest.
#[derive(Debug, Clone)]
pub struct ObjectIndex {
    /// The metadata, offset and column indexes included.
    pub metadata: Arc<ParquetMetaData>,
    /// The chunks, in order: page `i` of each column of a row group is the group's chunk `i`.
    pub chunks: Vec<ChunkSummary>,
    /// The chunks with their pages and checksums.
    places: Vec<Chunk>,
}

impl ObjectIndex {
    /// Memory that it takes, in bytes, about.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.metadata.memory_size() + self.chunks.len() * (size_of::<ChunkSummary>() + CHUNK_PLACE_BYTES)
    }
}

/// All columns of the archive: those of every object, then `timestamp_ms`, which few have and which is null elsewhere.
#[must_use]
pub fn table_schema() -> SchemaRef {
    schema::arrow_schema(true)
}

impl ColdTier {
    /// Reads the footer of an archived object. Not cached: the caller knows for how long it is of use.
    ///
    /// # Errors
    /// When the object cannot be read, or is not what the manifest says.
    pub async fn object_index(&self, segment: &ArchivedSegment) -> Result<ObjectIndex, ReadError> {
        let tail = segment.bytes - segment.footer_bytes..segment.bytes;
        let bytes = self.inner.store.get_range(&segment.object, tail).await?;
        let (footer, metadata) = Footer::parse_with_metadata(segment, bytes).map_err(|reason| ReadError::Corrupt {
            object: segment.object.clone(),
            offset: segment.base_offset,
            reason,
        })?;
        let chunks = footer.chunks.iter().map(ChunkSummary::from).collect();
        Ok(ObjectIndex { metadata: Arc::new(metadata), chunks, places: footer.chunks })
    }

    /// Reads ranges of an object's pages. Every page that a range touches is read whole and compared with its checksum; where
    /// the footer has only one checksum for all pages of a chunk, the whole chunk is.
    ///
    /// # Errors
    /// When the object cannot be read, or one of these pages is damaged.
    pub async fn object_ranges(
        &self,
        segment: &ArchivedSegment,
        index: &ObjectIndex,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, ReadError> {
        let checks = checks(&index.places, ranges);
        let mut wanted = ranges.to_vec();
        wanted.extend(checks.iter().flat_map(Check::pages));
        let mut fetched = self.inner.store.get_ranges(&segment.object, &wanted).await?;
        let mut pages = fetched.split_off(ranges.len()).into_iter();
        for check in checks {
            let pages: Vec<_> = pages.by_ref().take(check.pages().count()).collect();
            let (object, offset) = (segment.object.clone(), check.chunk.facts.first_offset);
            check.compare(&pages).map_err(|reason| ReadError::Corrupt { object, offset, reason })?;
        }
        Ok(fetched)
    }
}

/// Pages of a chunk to compare with their checksums.
struct Check<'a> {
    chunk: &'a Chunk,
    /// Columns whose pages have a checksum of their own; none: all pages, which have one together.
    columns: Vec<usize>,
}

impl Check<'_> {
    fn pages(&self) -> impl Iterator<Item = Range<u64>> {
        let all = if self.columns.is_empty() { 0..self.chunk.pages.len() } else { 0..0 };
        all.chain(self.columns.iter().copied()).map(|column| self.chunk.pages[column].clone())
    }

    fn compare(&self, pages: &[Bytes]) -> Result<(), String> {
        if self.columns.is_empty() {
            return check_bytes(self.chunk, pages);
        }
        for (&column, page) in self.columns.iter().zip(pages) {
            if crc32c(page) != self.chunk.facts.page_crc32c[column] {
                let at = self.chunk.pages[column].start;
                return Err(format!("the checksum of the page at byte {at} does not match"));
            }
        }
        Ok(())
    }
}

/// The pages that `ranges` touch, and with which checksums they are compared.
fn checks<'a>(chunks: &'a [Chunk], ranges: &[Range<u64>]) -> Vec<Check<'a>> {
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|range| range.start);
    let is_touched = |page: &Range<u64>| {
        let first = sorted.partition_point(|range| range.end <= page.start);
        sorted.get(first).is_some_and(|range| range.start < page.end)
    };
    let check = |chunk: &'a Chunk| {
        let mut columns: Vec<usize> =
            (0..chunk.pages.len()).filter(|&column| is_touched(&chunk.pages[column])).collect();
        if columns.is_empty() {
            return None;
        }
        if chunk.facts.page_crc32c.is_empty() {
            columns.clear();
        }
        Some(Check { chunk, columns })
    };
    chunks.iter().filter_map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::footer::ChunkFacts;

    /// Two chunks of two columns; `page_crc32c` as it is in the footer of the second.
    fn chunks(page_crc32c: &[u32]) -> Vec<Chunk> {
        let facts = ChunkFacts {
            row_group: 0,
            rows: 1,
            first_offset: 0,
            last_offset: 0,
            min_timestamp: 0,
            max_timestamp: 0,
            record_bytes: 1,
            crc32c: crc32c(b"bbbbbbbbbbbbbbbbbbbbdddddddddddddddddddd"),
            page_crc32c: page_crc32c.into(),
        };
        let chunk = |pages: [Range<u64>; 2]| Chunk { facts: facts.clone(), pages: pages.into() };
        vec![chunk([0..20, 40..60]), chunk([20..40, 60..80])]
    }

    /// First and last byte of each page that is read.
    fn pages(check: &Check<'_>) -> Vec<(u64, u64)> {
        check.pages().map(|page| (page.start, page.end)).collect()
    }

    fn touched<'a>(chunks: &'a [Chunk], start: u64, end: u64) -> Vec<Check<'a>> {
        checks(chunks, std::slice::from_ref(&(start..end)))
    }

    #[test]
    fn a_page_that_is_touched_is_read_whole_and_compared() {
        let pages_of = [crc32c(b"bbbbbbbbbbbbbbbbbbbb"), crc32c(b"dddddddddddddddddddd")];
        let chunks = chunks(&pages_of);
        let [check] = &touched(&chunks, 65, 66)[..] else { panic!("one chunk is touched") };
        assert_eq!(pages(check), [(60, 80)]);
        assert_eq!(check.compare(&[Bytes::from_static(b"dddddddddddddddddddd")]), Ok(()));
        assert!(check.compare(&[Bytes::from_static(b"ddddddddddddddddddde")]).is_err());
        let both = touched(&chunks, 10, 30);
        assert_eq!(both.iter().flat_map(pages).collect::<Vec<_>>(), [(0, 20), (20, 40)]);
        assert!(touched(&chunks, 80, 90).is_empty());
    }

    #[test]
    fn without_page_checksums_a_touched_chunk_is_read_whole_and_compared() {
        let chunks = chunks(&[]);
        let [check] = &touched(&chunks, 65, 66)[..] else { panic!("one chunk is touched") };
        assert_eq!(pages(check), [(20, 40), (60, 80)]);
        let (b, d) = (Bytes::from_static(b"bbbbbbbbbbbbbbbbbbbb"), Bytes::from_static(b"dddddddddddddddddddd"));
        assert_eq!(check.compare(&[b.clone(), d]), Ok(()));
        assert!(check.compare(&[b, Bytes::from_static(b"ddddddddddddddddddde")]).is_err());
    }
}
