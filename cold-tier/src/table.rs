//! The archive for those who read its objects as Parquet: the columns, and what an object's footer says.

use std::ops::Range;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use bytes::Bytes;
use parquet::file::metadata::ParquetMetaData;

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

    /// Reads ranges of an object. A chunk has one checksum over its pages of all columns: where the ranges hold at least
    /// a quarter of a chunk, the rest of it is read too, and the checksum is compared. What holds less is not checked.
    ///
    /// # Errors
    /// When the object cannot be read, or is damaged in a chunk that was checked.
    pub async fn object_ranges(
        &self,
        segment: &ArchivedSegment,
        index: &ObjectIndex,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, ReadError> {
        let checked = mostly_covered(&index.places, ranges);
        let mut wanted = ranges.to_vec();
        wanted.extend(checked.iter().flat_map(|chunk| chunk.pages.iter().cloned()));
        let mut fetched = self.inner.store.get_ranges(&segment.object, &wanted).await?;
        let mut pages = fetched.split_off(ranges.len()).into_iter();
        for chunk in checked {
            let pages: Vec<_> = pages.by_ref().take(chunk.pages.len()).collect();
            let (object, offset) = (segment.object.clone(), chunk.facts.first_offset);
            check_bytes(chunk, &pages).map_err(|reason| ReadError::Corrupt { object, offset, reason })?;
        }
        Ok(fetched)
    }
}

/// The chunks of which `ranges` hold at least a quarter.
fn mostly_covered<'a>(chunks: &'a [Chunk], ranges: &[Range<u64>]) -> Vec<&'a Chunk> {
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|range| range.start);
    let covered = |page: &Range<u64>| -> u64 {
        let first = sorted.partition_point(|range| range.end <= page.start);
        let overlapping = sorted[first..].iter().take_while(|range| range.start < page.end);
        overlapping.map(|range| range.end.min(page.end) - range.start.max(page.start)).sum()
    };
    let is_covered = |chunk: &&Chunk| chunk.pages.iter().map(covered).sum::<u64>() * 4 >= chunk.stored_bytes();
    chunks.iter().filter(is_covered).collect()
}
