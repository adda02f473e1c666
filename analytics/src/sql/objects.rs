//! Reading archived objects: footers are cached, ranges go through the archive's store with its deadlines, and every error
//! names the object.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use cold_tier::{ArchivedSegment, ColdTier, ObjectIndex};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetFileReaderFactory;
use datafusion::error::Result;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use futures::FutureExt;
use futures::future::BoxFuture;
use model::Offset;
use model::archive::ManifestPointer;
use moka::future::Cache;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::error::{SqlError, UNDECODABLE};
use super::reading::aside;

/// Objects that an error about damaged bytes names at most.
const SUSPECTS: usize = 4;

/// The archive's objects, with a cache of their footers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Objects {
    cold: Option<ColdTier>,
    /// Where the store is asked.
    reading: Handle,
    indexes: Cache<String, Arc<ObjectIndex>>,
    /// What a query opened last.
    opened: Arc<Mutex<VecDeque<Arc<ArchivedSegment>>>>,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").field("cold", &self.cold).finish_non_exhaustive()
    }
}

impl Objects {
    /// Objects of `cold`, read on `reading`, with a cache of `cache_bytes` for footers.
    pub(super) fn new(cold: Option<ColdTier>, cache_bytes: usize, reading: Handle) -> Self {
        let weigh = |_: &String, index: &Arc<ObjectIndex>| u32::try_from(index.memory_bytes()).unwrap_or(u32::MAX);
        let indexes = Cache::builder().max_capacity(cache_bytes as u64).weigher(weigh).build();
        Objects { cold, reading, indexes, opened: Arc::default() }
    }

    fn cold(&self) -> Result<ColdTier, SqlError> {
        self.cold.clone().ok_or_else(|| SqlError::unreadable("a topic has archived records, but there is no archive"))
    }

    /// The objects that a manifest names at and above an offset.
    pub(super) async fn entries_from(
        &self,
        pointer: Arc<ManifestPointer>,
        from: Offset,
    ) -> Result<Vec<ArchivedSegment>, SqlError> {
        let cold = self.cold()?;
        let entries = aside(&self.reading, async move { cold.entries_from(&pointer, from).await }).await?;
        entries.map_err(SqlError::unreadable)
    }

    /// How many of an object's records are below an offset.
    pub(super) async fn records_below(&self, segment: &Arc<ArchivedSegment>, offset: Offset) -> Result<u64, SqlError> {
        let (cold, segment) = (self.cold()?, Arc::clone(segment));
        let below = aside(&self.reading, async move { cold.records_below(&segment, offset).await }).await?;
        below.map_err(SqlError::unreadable)
    }

    /// An object's footer, from the cache or from the store; loaded once however many ask.
    pub(super) async fn index(&self, segment: &Arc<ArchivedSegment>) -> Result<Arc<ObjectIndex>, SqlError> {
        if let Some(index) = self.indexes.get(&segment.object).await {
            return Ok(index);
        }
        let (cold, indexes, segment) = (self.cold()?, self.indexes.clone(), Arc::clone(segment));
        let loading = async move {
            let load = async { cold.object_index(&segment).await.map(Arc::new).map_err(SqlError::unreadable) };
            Box::pin(indexes.try_get_with_by_ref(&segment.object, load)).await
        };
        let loaded = aside(&self.reading, loading).await?;
        loaded.map_err(|error: Arc<SqlError>| (*error).clone())
    }

    /// The same objects, for one query: it remembers which it opened last.
    pub(super) fn for_query(&self) -> Self {
        Objects { opened: Arc::default(), ..self.clone() }
    }

    /// The error, with the objects that it may be about where it names none: bytes that are damaged and were not checked
    /// first fail in the decoder, which does not know whose they are.
    pub(super) fn name_suspects(&self, error: SqlError) -> SqlError {
        let opened = self.opened.lock();
        match error {
            SqlError::Unreadable { message } if message.starts_with(UNDECODABLE) && !opened.is_empty() => {
                let names: Vec<_> = opened.iter().map(|segment| segment.object.as_str()).collect();
                SqlError::unreadable(format!("{message} in {}", names.join(" or ")))
            }
            other => other,
        }
    }

    fn opened(&self, segment: &Arc<ArchivedSegment>) {
        let mut opened = self.opened.lock();
        if opened.len() == SUSPECTS {
            opened.pop_front();
        }
        opened.push_back(Arc::clone(segment));
    }

    async fn ranges(&self, segment: &Arc<ArchivedSegment>, ranges: Vec<Range<u64>>) -> Result<Vec<Bytes>, SqlError> {
        let index = self.index(segment).await?;
        let (cold, segment) = (self.cold()?, Arc::clone(segment));
        let read = aside(&self.reading, async move { cold.object_ranges(&segment, &index, &ranges).await }).await?;
        read.map_err(SqlError::unreadable)
    }
}

impl ParquetFileReaderFactory for Objects {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let segment = file.extension::<Arc<ArchivedSegment>>().cloned();
        let segment =
            segment.ok_or_else(|| SqlError::unreadable(format!("{} is not an archived object", file.path())))?;
        self.opened(&segment);
        let scanned = MetricBuilder::new(metrics).counter("bytes_scanned", partition_index);
        Ok(Box::new(Reader { objects: self.clone(), segment, scanned }))
    }
}

/// One object being read.
struct Reader {
    objects: Objects,
    segment: Arc<ArchivedSegment>,
    scanned: Count,
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move {
            let mut bytes = self.get_byte_ranges(vec![range]).await?;
            Ok(bytes.pop().unwrap_or_default())
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move {
            let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
            self.scanned.add(usize::try_from(bytes).unwrap_or(usize::MAX));
            Box::pin(self.objects.ranges(&self.segment, ranges)).await.map_err(external)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let index = self.objects.index(&self.segment).await.map_err(external)?;
            Ok(Arc::clone(&index.metadata))
        }
        .boxed()
    }
}

fn external(error: SqlError) -> ParquetError {
    ParquetError::External(Box::new(error))
}
