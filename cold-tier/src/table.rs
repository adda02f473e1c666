//! The archive for those who read its objects as Parquet: the columns, and what an object's footer says.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use parquet::file::metadata::ParquetMetaData;

use crate::error::ReadError;
use crate::footer::Footer;
use crate::inspect::ChunkSummary;
use crate::manifest::ArchivedSegment;
use crate::schema;
use crate::tier::ColdTier;

/// What an object's footer says, checked against its entry in the manifest.
#[derive(Debug, Clone)]
pub struct ObjectIndex {
    /// The metadata, offset and column indexes included.
    pub metadata: Arc<ParquetMetaData>,
    /// The chunks, in order: page `i` of each column of a row group is the group's chunk `i`.
    pub chunks: Vec<ChunkSummary>,
}

impl ObjectIndex {
    /// Memory that it takes, in bytes, about.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.metadata.memory_size() + self.chunks.len() * size_of::<ChunkSummary>()
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
        Ok(ObjectIndex { metadata: Arc::new(metadata), chunks })
    }
}
