//! The cold half: which objects are read, which are only counted, and the plan that reads them.
//!
//! Where no column but `partition` is wanted, records need not be read to be counted: whole objects are counted by the
//! manifest, whole chunks by the footer, and only chunks that a filter or the log start cuts are read.

use std::sync::Arc;

use cold_tier::{ArchivedSegment, ObjectIndex};
use datafusion::common::config::TableParquetOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, RowGroupAccess};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use datafusion::physical_plan::ExecutionPlan;
use futures::stream::{self, StreamExt, TryStreamExt};
use model::{Offset, PartitionIndex};

use super::objects::Objects;
use super::plain::columns;
use super::prune::{Bounds, Known, Pruner};
use super::session::store_url;

/// Footers that are loaded side by side.
const FOOTERS_AHEAD: usize = 8;
/// Place of the column `timestamp` among the leaves of an object.
const TIMESTAMP_LEAF: usize = 2;

/// An object that a scan may have to read.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) partition: PartitionIndex,
    /// First offset that counts: above the object's first where the log start lies inside.
    pub(super) from: Offset,
    pub(super) segment: Arc<ArchivedSegment>,
    /// The chunks to read; all when there is no choice.
    pub(super) access: Option<Arc<ParquetAccessPlan>>,
}

impl Candidate {
    /// True when the object holds records below the log start.
    pub(super) fn is_cut(&self) -> bool {
        self.segment.base_offset < self.from
    }

    /// What the manifest says of the object's records.
    pub(super) fn bounds(&self) -> Bounds {
        let segment = &self.segment;
        let bounds = Bounds {
            partition: self.partition,
            offsets: (segment.base_offset.max(self.from), segment.next_offset - 1),
            timestamps: None,
            nulls: None,
            rows: segment.records,
        };
        bounds.with_millis((segment.min_timestamp, segment.max_timestamp), None)
    }

    /// What the footer says of each chunk's records.
    fn chunk_bounds(&self, index: &ObjectIndex) -> Vec<Bounds> {
        let mut page = PageNumbers::default();
        let bounds = index.chunks.iter().map(|chunk| {
            let number = page.next(chunk.row_group);
            let bounds = Bounds {
                partition: self.partition,
                offsets: (chunk.first_offset, chunk.last_offset),
                timestamps: None,
                nulls: None,
                rows: u64::from(chunk.records),
            };
            let nulls = null_count(index, chunk.row_group, number);
            bounds.with_millis((chunk.min_timestamp, chunk.max_timestamp), nulls)
        });
        bounds.collect()
    }
}

/// Numbers the chunks within their row groups.
#[derive(Debug, Default)]
struct PageNumbers {
    row_group: usize,
    next: usize,
}

impl PageNumbers {
    fn next(&mut self, row_group: usize) -> usize {
        if row_group != self.row_group {
            *self = PageNumbers { row_group, next: 0 };
        }
        self.next += 1;
        self.next - 1
    }
}

fn null_count(index: &ObjectIndex, row_group: usize, page: usize) -> Option<u64> {
    let column = index.metadata.column_index()?.get(row_group)?.get(TIMESTAMP_LEAF)?;
    u64::try_from(*column.null_counts()?.get(page)?).ok()
}

/// Objects by what must be done with them.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    /// Rows by partition that need not be read.
    pub(super) counts: Vec<(PartitionIndex, u64)>,
    /// Objects that need not be read.
    pub(super) counted: u64,
    /// Objects, or chunks of them, that must be read.
    pub(super) read: Vec<Candidate>,
}

/// Counts what can be counted without reading records.
pub(super) async fn count(
    objects: &Objects,
    candidates: Vec<Candidate>,
    pruner: &Pruner,
    unfiltered: bool,
) -> Result<Sorted> {
    let bounds: Vec<_> = candidates.iter().map(Candidate::bounds).collect();
    let all_match = pruner.all_match(&bounds, unfiltered)?;
    let count = |(candidate, all): (Candidate, bool)| async move {
        if all { whole(objects, candidate).await } else { chunks(objects, candidate, pruner).await }
    };
    let mut counted = stream::iter(candidates.into_iter().zip(all_match)).map(count).buffered(FOOTERS_AHEAD);
    let mut sorted = Sorted::default();
    while let Some(one) = counted.try_next().await? {
        sorted.counts.push(one.counted);
        sorted.counted += u64::from(one.read.is_none());
        sorted.read.extend(one.read);
    }
    Ok(sorted)
}

/// One object, counted as far as possible.
struct One {
    counted: (PartitionIndex, u64),
    read: Option<Candidate>,
}

async fn whole(objects: &Objects, candidate: Candidate) -> Result<One> {
    let mut rows = candidate.segment.records;
    if candidate.is_cut() {
        rows = rows.saturating_sub(objects.records_below(&candidate.segment, candidate.from).await?);
    }
    Ok(One { counted: (candidate.partition, rows), read: None })
}

async fn chunks(objects: &Objects, mut candidate: Candidate, pruner: &Pruner) -> Result<One> {
    let index = objects.index(&candidate.segment).await?;
    let bounds = candidate.chunk_bounds(&index);
    let may_match = pruner.may_match(&bounds, Known::Timestamp)?;
    let all_match = pruner.all_match(&bounds, false)?;
    let mut rows = 0;
    let mut to_read = vec![false; bounds.len()];
    for (i, chunk) in bounds.iter().enumerate() {
        let (first, last) = chunk.offsets;
        if last < candidate.from || !may_match[i] {
            continue;
        }
        if all_match[i] && first >= candidate.from {
            rows += chunk.rows;
        } else {
            to_read[i] = true;
        }
    }
    candidate.access = to_read.contains(&true).then(|| Arc::new(access(&index, &to_read)));
    let read = candidate.access.is_some();
    Ok(One { counted: (candidate.partition, rows), read: read.then_some(candidate) })
}

/// Reads the chosen chunks only.
fn access(index: &ObjectIndex, to_read: &[bool]) -> ParquetAccessPlan {
    let groups = index.metadata.num_row_groups();
    let mut selectors: Vec<Vec<RowSelector>> = vec![Vec::new(); groups];
    for (chunk, &read) in index.chunks.iter().zip(to_read) {
        let rows = chunk.records as usize;
        let selector = if read { RowSelector::select(rows) } else { RowSelector::skip(rows) };
        if let Some(group) = selectors.get_mut(chunk.row_group) {
            group.push(selector);
        }
    }
    let access = selectors.into_iter().map(|group| match group.iter().all(|selector| selector.skip) {
        true => RowGroupAccess::Skip,
        false => RowGroupAccess::Selection(RowSelection::from(group)),
    });
    ParquetAccessPlan::new(access.collect())
}

/// A plan that reads `candidates`, with the columns of `projection`.
pub(super) fn read(
    objects: &Objects,
    candidates: Vec<Candidate>,
    projection: Vec<usize>,
    options: TableParquetOptions,
) -> Result<Arc<dyn ExecutionPlan>> {
    let files = candidates.into_iter().map(|candidate| {
        let file = PartitionedFile::new(candidate.segment.object.clone(), candidate.segment.bytes);
        let file = match &candidate.access {
            Some(access) => file.with_extension(ParquetAccessPlan::clone(access)),
            None => file,
        };
        file.with_extension(candidate.segment)
    });
    let source = ParquetSource::new(columns())
        .with_table_parquet_options(options)
        .with_parquet_file_reader_factory(Arc::new(objects.clone()));
    let scan = FileScanConfigBuilder::new(store_url(), Arc::new(source))
        .with_projection_indices(Some(projection))?
        .with_file_group(FileGroup::new(files.collect()))
        .build();
    Ok(DataSourceExec::from_data_source(scan))
}
