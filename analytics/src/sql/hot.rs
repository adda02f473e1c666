//! The hot half: committed batches that are not archived yet, as rows of the same columns as the archive's.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use cold_tier::{Rows, table_schema};
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
};
use futures::stream::{self, BoxStream, StreamExt};
use model::batch::{BatchError, BatchView, Batches, Compression, RecordsBuffer};
use model::{Offset, PartitionIndex};

use super::error::SqlError;
use super::source::{PinnedTopic, Source};

/// Bytes of records at which a batch of rows ends.
const BATCH_BYTES: usize = 4 << 20;
/// Largest decompressed record batch: the protocol's lengths are 32 bits wide.
const MAX_DECOMPRESSED_BYTES: usize = i32::MAX as usize;

/// A partition's records that are not archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HotRange {
    pub(super) partition: PartitionIndex,
    pub(super) offsets: Range<Offset>,
}

/// Reads ranges, `threads` of them side by side.
#[derive(Debug)]
pub(super) struct HotExec {
    source: Arc<dyn Source>,
    topic: Arc<PinnedTopic>,
    groups: Vec<Vec<HotRange>>,
    projection: Arc<[usize]>,
    properties: Arc<PlanProperties>,
}

impl HotExec {
    /// A scan of `ranges` that shows the columns of `projection`.
    pub(super) fn new(
        (source, topic): (Arc<dyn Source>, Arc<PinnedTopic>),
        ranges: Vec<HotRange>,
        projection: &[usize],
        threads: usize,
    ) -> Result<Self> {
        let schema = Arc::new(table_schema().project(projection)?);
        let count = ranges.len().min(threads).max(1);
        let mut groups = vec![Vec::new(); count];
        for (i, range) in ranges.into_iter().enumerate() {
            groups[i % count].push(range);
        }
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(count),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(HotExec { source, topic, groups, projection: projection.into(), properties: Arc::new(properties) })
    }
}

impl DisplayAs for HotExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.groups.iter().flatten();
        let offsets: i64 = ranges.clone().map(|range| range.offsets.end - range.offsets.start).sum();
        write!(f, "HotExec: partitions={}, offsets={offsets}", ranges.count())
    }
}

impl ExecutionPlan for HotExec {
    fn name(&self) -> &'static str {
        "HotExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let batch_rows = context.session_config().batch_size();
        let (source, topic) = (Arc::clone(&self.source), Arc::clone(&self.topic));
        let (schema, projection) = (self.schema(), Arc::clone(&self.projection));
        let reading = move |range: HotRange| {
            let batches = source.hot(&topic, range.partition, range.offsets.clone());
            let decoder =
                Decoder { range, batch_rows, schema: Arc::clone(&schema), projection: Arc::clone(&projection) };
            decoder.rows(topic.name.to_string(), batches)
        };
        let ranges = self.groups.get(partition).cloned().unwrap_or_default();
        let rows = stream::iter(ranges).map(reading).flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

/// Turns the batches of one range into rows.
#[derive(Debug)]
struct Decoder {
    range: HotRange,
    batch_rows: usize,
    schema: SchemaRef,
    projection: Arc<[usize]>,
}

type Slabs = BoxStream<'static, Result<Bytes, super::source::SourceError>>;

impl Decoder {
    fn rows(self, topic: String, slabs: Slabs) -> BoxStream<'static, Result<RecordBatch>> {
        let start = self.range.offsets.start;
        let decode = move |next: &mut Offset, slab: Result<Bytes, _>| {
            let place = |cause: String| {
                SqlError::unreadable(format!(
                    "{topic}, partition {}, near offset {next}: {cause}",
                    self.range.partition
                ))
            };
            let decoded = match slab {
                Ok(slab) => self.decode(&slab, *next).map_err(place),
                Err(error) => Err(place(format!("{error}"))),
            };
            let step = match decoded {
                Ok((end, batches)) => {
                    *next = end;
                    batches.into_iter().map(Ok).collect()
                }
                Err(error) => vec![Err(error.into())],
            };
            futures::future::ready(Some(stream::iter(step)))
        };
        slabs.scan(start, decode).flatten().boxed()
    }

    /// The rows of a slab at or above `next`, and the offset behind the last.
    fn decode(&self, slab: &Bytes, mut next: Offset) -> Result<(Offset, Vec<RecordBatch>), String> {
        let mut done = Vec::new();
        let mut rows = Rows::new(self.range.partition, true);
        let mut scratch = RecordsBuffer::new(MAX_DECOMPRESSED_BYTES);
        for batch in Batches::new(slab) {
            let batch = batch.map_err(|e| e.to_string())?;
            let header = batch.header;
            if header.is_control() || header.next_offset() <= next || header.base_offset >= self.range.offsets.end {
                continue;
            }
            let plain = header.attributes.compression().map_err(|e| e.to_string())? == Compression::None;
            rows.block(plain.then_some(slab));
            self.each(&batch, &mut scratch, next, |record| {
                rows.push(&header, record).map_err(|e| e.to_string())?;
                if rows.len() >= self.batch_rows || rows.bytes() >= BATCH_BYTES {
                    let full = std::mem::replace(&mut rows, Rows::new(self.range.partition, true));
                    rows.block(plain.then_some(slab));
                    done.push(self.finish(full)?);
                }
                Ok(())
            })?;
            next = header.next_offset();
        }
        if !rows.is_empty() {
            done.push(self.finish(rows)?);
        }
        Ok((next, done))
    }

    /// Shows the batch's records that are in the range and at or above `next`.
    fn each(
        &self,
        batch: &BatchView<'_>,
        scratch: &mut RecordsBuffer,
        next: Offset,
        mut visit: impl FnMut(&model::batch::Record<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let damaged = |e: BatchError| e.to_string();
        batch.verify_crc().map_err(damaged)?;
        for record in batch.records(scratch).map_err(damaged)? {
            let record = record.map_err(damaged)?;
            if record.offset >= next && self.range.offsets.contains(&record.offset) {
                visit(&record)?;
            }
        }
        Ok(())
    }

    fn finish(&self, rows: Rows) -> Result<RecordBatch, String> {
        let count = rows.len();
        let whole = rows.finish().map_err(|e| e.to_string())?;
        let columns = self.projection.iter().map(|&column| Arc::clone(whole.column(column))).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(|e| e.to_string())
    }
}
