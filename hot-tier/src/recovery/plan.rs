//! First pass over the journal: what is left of each partition's entries when truncations, resets and removals have had
//! their say. Nothing is written here.
//!
//! It must come before any byte is written: an entry that a later truncation voids would overwrite bytes of a large
//! append that took its place, and those are in the segment only.

use std::collections::BTreeMap;

use model::settings::FlushMode;
use model::{LeaderEpoch, Offset, TopicName, TopicPartition};

use crate::bootstrap::Bootstrap;
use crate::checkpoint::{Checkpoint, PartitionCheckpoint};
use crate::journal::entry::{Digest, Entry, Event, Extent, LogPoint};
use crate::journal::replay::Place;

/// What must be done again, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Batches that the journal has.
    Append(Extent, Place),
    /// Batches of so many bytes that only the segment has; with their checksum unless a truncation cut them since, for
    /// which they had to be durable.
    Bypassed(Extent, u64, Option<u32>),
    Roll(Offset),
    Epoch(LeaderEpoch, Offset),
    /// From this point on the log is flushed by the other mode.
    Mode(FlushMode, LogPoint),
}

/// Where and how a log begins after a reset.
#[derive(Debug)]
pub(super) enum Reset {
    /// Empty at this offset.
    Empty(Offset),
    /// With the state of another replica.
    Inherited(Bootstrap),
}

impl Reset {
    /// Where the local log begins.
    pub(super) fn local_start(&self) -> Offset {
        match self {
            Reset::Empty(offset) => *offset,
            Reset::Inherited(state) => state.local_start,
        }
    }

    fn log_start(&self) -> Offset {
        match self {
            Reset::Empty(offset) => *offset,
            Reset::Inherited(state) => state.log_start,
        }
    }
}

/// What is known of one partition after the first pass.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) topic: Option<TopicName>,
    pub(super) base: Option<PartitionCheckpoint>,
    /// The base counts up to here only.
    pub(super) base_cut: Option<LogPoint>,
    /// The log was reset here, whatever base or files say.
    pub(super) reset: Option<Reset>,
    pub(super) steps: Vec<Step>,
    pub(super) log_start: Option<Offset>,
    pub(super) local_start: Option<Offset>,
    pub(super) removed: bool,
    /// Any entry was for this partition.
    pub(super) touched: bool,
}

/// The plans of all partitions that the checkpoint or the journal know.
#[derive(Debug, Default)]
pub(super) struct Plans {
    pub(super) partitions: BTreeMap<TopicPartition, Plan>,
    pub(super) entries: u64,
    /// Position below which no entry may be written any more.
    pub(super) past_lsn: u64,
}

impl Plans {
    pub(super) fn new(checkpoint: Option<Checkpoint>) -> Self {
        let mut plans = Plans::default();
        let Some(checkpoint) = checkpoint else { return plans };
        plans.past_lsn = checkpoint.lsn;
        for base in checkpoint.partitions {
            plans.past_lsn = plans.past_lsn.max(base.lsn);
            let (id, topic) = (base.id, Some(base.topic.clone()));
            let base = Some(base).filter(|base| !base.is_unknown());
            plans.partitions.insert(id, Plan { topic, base, ..Plan::default() });
        }
        plans
    }

    /// Takes the next entry.
    pub(super) fn add(&mut self, entry: Entry, place: Place) {
        self.entries += 1;
        let plan = self.partitions.entry(entry.partition).or_default();
        if plan.base.as_ref().is_some_and(|base| entry.stamp.lsn < base.lsn) {
            return;
        }
        plan.add(entry.event, place);
    }
}

impl Plan {
    fn add(&mut self, event: Event, place: Place) {
        self.touched = true;
        match event {
            Event::Append(extent) => {
                self.make_way(extent);
                self.steps.push(Step::Append(extent, place));
            }
            Event::Bypassed(extent, Digest { len, crc }) => {
                self.make_way(extent);
                self.steps.push(Step::Bypassed(extent, len, Some(crc)));
            }
            Event::Truncate(point) => self.truncate(point),
            Event::LogStart(offset) => self.log_start = self.log_start.max(Some(offset)),
            Event::LocalStart(offset) => self.local_start = self.local_start.max(Some(offset)),
            Event::Roll(base) => self.steps.push(Step::Roll(base)),
            Event::Mode(mode, point) => self.steps.push(Step::Mode(mode, point)),
            // Nothing of a partition of this id that was removed before belongs to the new one.
            Event::Create(topic) => {
                *self = Plan { topic: Some(topic), reset: Some(Reset::Empty(0)), touched: true, ..Plan::default() };
            }
            Event::Remove => self.removed = true,
            Event::Reset(offset) => self.reset_to(Reset::Empty(offset)),
            Event::Bootstrap(state) => self.reset_to(Reset::Inherited(state)),
            Event::Epoch(epoch, start) => self.steps.push(Step::Epoch(epoch, start)),
        }
    }

    fn reset_to(&mut self, reset: Reset) {
        let topic = self.topic.take();
        let base = self.base.take();
        let mode = self.mode_so_far(base.as_ref());
        let (log_start, offset) = (Some(reset.log_start()), reset.local_start());
        *self = Plan { topic, base, reset: Some(reset), touched: true, log_start, ..Plan::default() };
        let start = LogPoint { segment_base: offset, position: 0, offset };
        self.steps.extend(mode.map(|mode| Step::Mode(mode, start)));
    }

    fn mode_so_far(&self, base: Option<&PartitionCheckpoint>) -> Option<FlushMode> {
        let step = self.steps.iter().rev().find_map(|step| match step {
            Step::Mode(mode, _) => Some(*mode),
            _ => None,
        });
        step.or(base.map(|base| base.mode))
    }

    /// An append where something lies already takes its place: the truncation before it was lost to damage.
    fn make_way(&mut self, extent: Extent) {
        let point = LogPoint { segment_base: extent.segment_base, position: extent.position, offset: extent.first };
        let end = self.steps.iter().rev().find_map(|step| match step {
            Step::Append(before, place) => Some((before.segment_base, before.position + place.len as u64)),
            Step::Bypassed(before, len, _) => Some((before.segment_base, before.position + len)),
            _ => None,
        });
        let base_end = self.base.as_ref().and_then(|base| base.segments.last()).map(|last| (last.base, last.size));
        let end = end.or(if self.reset.is_some() { None } else { base_end });
        // Without a checkpoint the base is what lies in the files, which may be more than was ever acknowledged.
        if end.is_none_or(|end| (point.segment_base, point.position) < end) {
            self.truncate(point);
        }
    }

    fn truncate(&mut self, point: LogPoint) {
        let at = (point.segment_base, point.position);
        self.steps.retain(|step| match step {
            Step::Append(extent, _) | Step::Bypassed(extent, ..) => (extent.segment_base, extent.position) < at,
            Step::Roll(base) => *base <= point.segment_base,
            Step::Epoch(_, start) => *start < point.offset,
            // A mode stays in force also when the log is cut below the point where it began.
            Step::Mode(..) => true,
        });
        for step in &mut self.steps {
            match step {
                Step::Append(extent, place) if extent.segment_base == point.segment_base => {
                    let len = usize::try_from(point.position - extent.position).unwrap_or(usize::MAX);
                    if len < place.len {
                        place.len = len;
                        extent.next = point.offset;
                    }
                }
                Step::Bypassed(extent, len, crc) if extent.segment_base == point.segment_base => {
                    let kept = point.position - extent.position;
                    if kept < *len {
                        *len = kept;
                        *crc = None;
                        extent.next = point.offset;
                    }
                }
                Step::Mode(_, began) if (began.segment_base, began.position) > at => *began = point,
                _ => {}
            }
        }
        // Only recovery truncates below a log start: the move went beyond records that turned out void, and was void with
        // them. It must not hide the records that came in their place.
        self.log_start = self.log_start.map(|start| start.min(point.offset));
        self.local_start = self.local_start.map(|start| start.min(point.offset));
        let is_lower = |cut: LogPoint| at < (cut.segment_base, cut.position);
        if self.base_cut.is_none_or(is_lower) {
            self.base_cut = Some(point);
        }
    }
}
