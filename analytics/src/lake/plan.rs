//! What has changed between what a table shows and what the ledger says.

use std::collections::BTreeMap;

use cold_tier::{ArchivedSegment, ColdTier};
use model::archive::{ManifestPointer, PartitionArchive, TopicArchive};
use model::{Offset, TopicPartition};

use super::error::{LakeError, Unusable};
use super::state::{Shown, ShownCut, State};
use crate::iceberg::{Cut, DataObject};

/// A change of a table, and the state after it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// New objects, with their partitions.
    pub(super) added: Vec<(i32, DataObject)>,
    /// Partitions whose objects below an offset leave the table.
    pub(super) dropped: BTreeMap<i32, Offset>,
    /// What the table shows afterwards.
    pub(super) state: State,
}

/// Why there is no plan.
#[derive(Debug)]
pub(super) enum NoPlan {
    /// The table does not fit the ledger: it must be recreated.
    Unusable(Unusable),
    /// It is not to be changed now.
    Failed(LakeError),
}

impl<E: Into<LakeError>> From<E> for NoPlan {
    fn from(error: E) -> Self {
        NoPlan::Failed(error.into())
    }
}

impl Plan {
    /// All cuts that hold after the change.
    pub(super) fn cuts(&self) -> Vec<Cut> {
        let cut = |(partition, shown): (&i32, &Shown)| {
            let ShownCut { object, rows } = shown.cut.clone()?;
            Some(Cut { partition: *partition, object, rows })
        };
        self.state.partitions.iter().filter_map(cut).collect()
    }
}

/// Whether the ledger says something that `state` does not show. Reads nothing.
pub(super) fn is_behind(state: &State, topic: &TopicArchive) -> bool {
    let partitions = (0..).zip(&topic.partitions);
    let mut archived =
        partitions.filter_map(|(index, partition)| Some((index, partition, partition.pointer.as_ref()?)));
    archived.any(|(index, partition, pointer)| {
        let shown = state.partitions.get(&index);
        shown.is_none_or(|shown| shown.version != pointer.version || shown.log_start < log_start(partition, pointer))
    })
}

/// Plans the change from `state` to the ledger of `topic`; `None` when the table shows it already.
pub(super) async fn plan(cold: &ColdTier, state: &State, topic: &TopicArchive) -> Result<Option<Plan>, NoPlan> {
    for (index, partition) in (0..).zip(&topic.partitions) {
        compare(state, topic, index, partition)?;
    }
    if !is_behind(state, topic) {
        return Ok(None);
    }
    let mut plan = Plan { state: state.clone(), ..Plan::default() };
    for (index, partition) in (0..).zip(&topic.partitions) {
        let Some(pointer) = &partition.pointer else { continue };
        let log_start = log_start(partition, pointer);
        let shown = state.partitions.get(&index);
        if shown.is_some_and(|shown| shown.version == pointer.version && shown.log_start == log_start) {
            continue;
        }
        plan_partition(cold, &mut plan, (index, pointer, log_start), shown).await?;
    }
    Ok(Some(plan))
}

fn log_start(partition: &PartitionArchive, pointer: &ManifestPointer) -> Offset {
    partition.log_start.max(pointer.log_start)
}

/// A node that knows less of the ledger than the table shows must not commit. The ledger's versions and log starts only
/// grow, together; where only the version has grown, the ledger has another history than the table.
fn compare(state: &State, topic: &TopicArchive, index: i32, partition: &PartitionArchive) -> Result<(), NoPlan> {
    let Some(shown) = state.partitions.get(&index) else { return Ok(()) };
    let pointer = partition.pointer.as_ref();
    let known = pointer.map_or(0, |pointer| pointer.version);
    let has_older_start = pointer.is_none_or(|pointer| log_start(partition, pointer) < shown.log_start);
    if known < shown.version || (known == shown.version && has_older_start) {
        let partition = TopicPartition { topic_id: topic.id, partition: index };
        return Err(NoPlan::Failed(LakeError::Older { partition, shown: shown.version, known }));
    }
    if has_older_start {
        return Err(NoPlan::Unusable(Unusable::OtherHistory(index)));
    }
    Ok(())
}

async fn plan_partition(
    cold: &ColdTier,
    plan: &mut Plan,
    (index, pointer, log_start): (i32, &ManifestPointer, Offset),
    shown: Option<&Shown>,
) -> Result<(), NoPlan> {
    let (end, last) = match shown {
        Some(shown) => (shown.end, shown.last.clone()),
        None => (log_start, None),
    };
    // The last object that the table shows comes along when it is still there: it proves that this is the same history.
    let from = if last.is_some() { end - 1 } else { end };
    let mut entries = cold.entries_from(pointer, from.max(log_start)).await?;
    if last.is_some() && log_start < end {
        let is_same =
            entries.first().is_some_and(|entry| Some(&entry.object) == last.as_ref() && entry.next_offset == end);
        if !is_same {
            return Err(NoPlan::Unusable(Unusable::OtherHistory(index)));
        }
        entries.remove(0);
    }
    let newest = entries.last();
    let last = last.filter(|_| log_start < end);
    let end = newest.map_or(end.max(log_start), |entry| entry.next_offset);
    let last = newest.map(|entry| entry.object.clone()).or(last);
    let first = match shown {
        Some(shown) if shown.log_start == log_start && shown.first_base < shown.end => {
            First { base: shown.first_base, cut: shown.cut.clone() }
        }
        _ => first_visible(cold, pointer, log_start, end).await?,
    };
    let visible = entries.iter().filter(|entry| entry.base_offset >= first.base && entry.records > 0);
    plan.added.extend(visible.map(|entry| (index, DataObject::from(entry))));
    if shown.is_some_and(|shown| shown.first_base < first.base && shown.first_base < shown.end) {
        plan.dropped.insert(index, first.base);
    }
    let First { base: first_base, cut } = first;
    let after = Shown { version: pointer.version, log_start, first_base, end, last, cut };
    plan.state.partitions.insert(index, after);
    Ok(())
}

/// Where a table's objects begin, and what it hides of the first.
struct First {
    base: Offset,
    cut: Option<ShownCut>,
}

/// The first object of which a row is at or above the log start.
async fn first_visible(
    cold: &ColdTier,
    pointer: &ManifestPointer,
    log_start: Offset,
    end: Offset,
) -> Result<First, LakeError> {
    let mut from = log_start;
    while let Some(entry) = cold.entry_at(pointer, from).await? {
        let rows = rows_below(cold, &entry, log_start).await?;
        if rows < entry.records {
            let ArchivedSegment { base_offset, object, .. } = entry;
            return Ok(First { base: base_offset, cut: (rows > 0).then_some(ShownCut { object, rows }) });
        }
        from = entry.next_offset;
    }
    Ok(First { base: end, cut: None })
}

async fn rows_below(cold: &ColdTier, entry: &ArchivedSegment, log_start: Offset) -> Result<u64, LakeError> {
    match entry {
        _ if entry.base_offset >= log_start => Ok(0),
        _ if entry.records == 0 => Ok(0),
        entry => Ok(cold.records_below(entry, log_start).await?),
    }
}
