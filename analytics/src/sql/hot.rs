//! The hot half: committed batches that are not archived yet, as rows of the same columns as the archive's.

use std::fmt;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use bytes::Bytes;
use cold_tier::Rows;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
};
use futures::StreamExt;
use model::batch::{BatchError, BatchView, Batches, Compression, Records, RecordsBuffer};
use model::{Offset, PartitionIndex};
use tokio::sync::mpsc;

use super::error::SqlError;
use super::plain::{columns, retyped};
use super::scale::Scale;
use super::source::{PinnedTopic, Source};

/// Bytes of records at which a batch of rows ends.
const BATCH_BYTES: usize = 4 << 20;
/// Batches of rows that are made ahead.
const BATCHES_AHEAD: usize = 1;
/// Bytes that every record batch may unpack to; a larger one needs more of the queries' memory.
const FIRST_UNPACKED_BYTES: usize = 1 << 20;
/// Largest unpacked record batch: the protocol's lengths are 32 bits wide.
const MAX_UNPACKED_BYTES: usize = i32::MAX as usize;

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
    scale: Option<Arc<Scale>>,
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
        let schema = Arc::new(columns().project(projection)?);
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
        Ok(HotExec {
            source,
            topic,
            groups,
            projection: projection.into(),
            scale: None,
            properties: Arc::new(properties),
        })
    }

    /// The same, which notes the sizes of the records that it reads.
    pub(super) fn noting(self, scale: &Arc<Scale>) -> Self {
        HotExec { scale: Some(Arc::clone(scale)), ..self }
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
        let memory = MemoryConsumer::new("records that are not archived yet").register(context.memory_pool());
        let reader = Reader {
            source: Arc::clone(&self.source),
            topic: Arc::clone(&self.topic),
            batch_rows: context.session_config().batch_size(),
            schema: self.schema(),
            projection: Arc::clone(&self.projection),
            scale: self.scale.clone(),
            memory,
        };
        let ranges = self.groups.get(partition).cloned().unwrap_or_default();
        let mut rows = RecordBatchReceiverStreamBuilder::new(self.schema(), BATCHES_AHEAD);
        let sender = rows.tx();
        rows.spawn(async move {
            for range in &ranges {
                if reader.read(range, &sender).await?.is_break() {
                    break;
                }
            }
            Ok(())
        });
        Ok(rows.build())
    }
}

type Sender = mpsc::Sender<Result<RecordBatch>>;

/// Turns record batches into rows, as many at a time as are sent: what a batch unpacks to is counted as memory of the query
/// before it is unpacked, and left before the next one is.
struct Reader {
    source: Arc<dyn Source>,
    topic: Arc<PinnedTopic>,
    batch_rows: usize,
    schema: SchemaRef,
    projection: Arc<[usize]>,
    scale: Option<Arc<Scale>>,
    memory: MemoryReservation,
}

/// A range being read.
struct Reading<'a> {
    range: &'a HotRange,
    /// The next offset to show.
    next: Offset,
    scratch: RecordsBuffer,
    rows: Rows,
    /// Where the keys and values of the present batch lie, when they need not be copied.
    block: Option<Bytes>,
}

/// [`ControlFlow::Break`] when the rows are not wanted any more.
type Step = Result<ControlFlow<()>>;

impl Reader {
    async fn read(&self, range: &HotRange, sender: &Sender) -> Step {
        let mut slabs = self.source.hot(&self.topic, range.partition, range.offsets.clone());
        let mut reading = Reading {
            range,
            next: range.offsets.start,
            scratch: RecordsBuffer::new(FIRST_UNPACKED_BYTES),
            rows: Rows::new(range.partition, true),
            block: None,
        };
        while let Some(slab) = slabs.next().await {
            let slab = slab.map_err(|error| self.unreadable(&reading, &error))?;
            if self.slab(&slab, &mut reading, sender).await?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn unreadable(&self, reading: &Reading<'_>, cause: &dyn fmt::Display) -> DataFusionError {
        let (topic, partition, next) = (&self.topic.name, reading.range.partition, reading.next);
        SqlError::unreadable(format!("{topic}, partition {partition}, near offset {next}: {cause}")).into()
    }

    async fn slab(&self, slab: &Bytes, reading: &mut Reading<'_>, sender: &Sender) -> Step {
        for batch in Batches::new(slab) {
            let batch = batch.map_err(|e| self.unreadable(reading, &e))?;
            let header = batch.header;
            let is_beyond = header.base_offset >= reading.range.offsets.end;
            if header.is_control() || header.next_offset() <= reading.next || is_beyond {
                continue;
            }
            batch.verify_crc().map_err(|e| self.unreadable(reading, &e))?;
            let compression = header.attributes.compression().map_err(|e| self.unreadable(reading, &e))?;
            reading.block = (compression == Compression::None).then(|| slab.clone());
            reading.rows.block(reading.block.as_ref());
            if self.batch(&batch, reading, sender).await?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            reading.next = header.next_offset();
            reading.scratch.shrink_to(FIRST_UNPACKED_BYTES);
        }
        reading.block = None;
        self.send(reading, sender).await
    }

    /// Takes the records of one batch. Its unpacked size is not known before, so that the limit doubles until it fits, as far as
    /// there is memory.
    async fn batch(&self, batch: &BatchView<'_>, reading: &mut Reading<'_>, sender: &Sender) -> Step {
        let mut limit = FIRST_UNPACKED_BYTES;
        loop {
            self.memory.try_resize(limit + BATCH_BYTES)?;
            let mut scratch = std::mem::take(&mut reading.scratch);
            scratch.set_limit(limit);
            let unpacked = match batch.records(&mut scratch) {
                Ok(records) => self.take(batch, records, reading, sender).await,
                Err(BatchError::TooLarge { .. }) if limit < MAX_UNPACKED_BYTES => {
                    reading.scratch = scratch;
                    limit = limit.saturating_mul(2).min(MAX_UNPACKED_BYTES);
                    continue;
                }
                Err(error) => Err(self.unreadable(reading, &error)),
            };
            reading.scratch = scratch;
            return unpacked;
        }
    }

    /// Takes those of the batch's records that are in the range and not shown yet, and sends what is enough for a batch of rows.
    async fn take(
        &self,
        batch: &BatchView<'_>,
        records: Records<'_>,
        reading: &mut Reading<'_>,
        sender: &Sender,
    ) -> Step {
        for record in records {
            let record = record.map_err(|e| self.unreadable(reading, &e))?;
            if record.offset < reading.next || !reading.range.offsets.contains(&record.offset) {
                continue;
            }
            if let Err(error) = reading.rows.push(&batch.header, &record) {
                return Err(self.unreadable(reading, &error));
            }
            let is_enough = reading.rows.len() >= self.batch_rows || reading.rows.bytes() >= BATCH_BYTES;
            if is_enough && self.send(reading, sender).await?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Sends the rows taken so far.
    async fn send(&self, reading: &mut Reading<'_>, sender: &Sender) -> Step {
        let rows = std::mem::replace(&mut reading.rows, Rows::new(reading.range.partition, true));
        reading.rows.block(reading.block.as_ref());
        if rows.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let batch = self.finish(rows).map_err(|e| self.unreadable(reading, &e))?;
        let sent = sender.send(Ok(batch)).await;
        Ok(if sent.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    }

    fn finish(&self, rows: Rows) -> Result<RecordBatch, String> {
        if let Some(scale) = &self.scale {
            scale.note_read(rows.len(), rows.bytes());
        }
        let whole = rows.finish().map_err(|e| e.to_string())?;
        let shown = whole.project(&self.projection).map_err(|e| e.to_string())?;
        retyped(&shown, Arc::clone(&self.schema), |column| Ok(Arc::clone(column))).map_err(|e| e.to_string())
    }
}
