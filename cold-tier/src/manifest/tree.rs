//! From one manifest to the next: append segments, advance the log start, spill old entries into children.
//!
//! A manifest lists up to 32 segments itself. Beyond that the 16 oldest move into a child of level 1; once there are enough of
//! such small children, they are joined into one of 64. Beyond 32 children of a level, the 16 oldest of them move into a child of
//! the next level. So the manifest that every commit writes holds at most 32 entries per level, however small the objects are,
//! and a million segments need four levels; reading all of it takes one call for about 64 segments.
//!
//! ```text
//!   oldest                                              newest
//!   [level 2] [level 2] [level 1] [level 1] … │ segment segment segment …
//! ```

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use model::archive::ManifestPointer;
use model::{LeaderEpoch, Offset, TopicName, TopicPartition};
use object_store::PutPayload;
use uuid::Uuid;

use super::cache::Manifests;
use super::{ArchivedSegment, Child, Manifest, Node};
use crate::error::{ArchiveError, ReadError};
use crate::names::{Names, Span};
use crate::store::Store;

/// Entries that move into a child together.
const SPILL: usize = 16;
/// Entries beyond which the oldest move.
const MAX_INLINE: usize = 2 * SPILL;
/// Segments of a child that is not joined with others any more.
const FULL: usize = 64;

/// What a new manifest changes.
#[derive(Debug, Clone)]
pub struct ManifestChange {
    /// Segments to add, in order; the first continues the archive.
    pub append: Vec<ArchivedSegment>,
    /// New log start: segments wholly below it leave the manifest. Never moves back.
    pub log_start: Option<Offset>,
    /// Leader epoch of the broker that makes the change.
    pub leader_epoch: LeaderEpoch,
    /// A fresh random id; with the same one, the same change may be tried again.
    pub attempt: Uuid,
}

/// Whose manifest is written, and where.
#[derive(Debug)]
pub(crate) struct Commit<'a> {
    pub(crate) store: &'a Store,
    pub(crate) manifests: &'a Manifests,
    pub(crate) names: &'a Names,
    pub(crate) topic: &'a TopicName,
    pub(crate) partition: TopicPartition,
}

impl Commit<'_> {
    /// Writes the manifest that follows `previous`, children first.
    pub(crate) async fn write(
        &self,
        previous: Option<&ManifestPointer>,
        change: ManifestChange,
    ) -> Result<ManifestPointer, ArchiveError> {
        let before = match previous {
            Some(pointer) => Some(self.manifests.manifest(pointer).await?),
            None => None,
        };
        if let Some(before) = before.as_ref().filter(|before| before.partition != self.partition) {
            return Err(self.refuse(format!("the manifest before belongs to {}", before.partition)));
        }
        let ends = self.ends(before.as_deref(), &change)?;
        let version = before.as_ref().map_or(1, |before| before.version + 1);
        let span = Span {
            base: ends.log_start,
            next: ends.archived_end,
            leader_epoch: change.leader_epoch,
            attempt: change.attempt,
        };
        let object = self.names.manifest(self.topic, self.partition, version, span);

        let mut list = before.as_ref().map(|before| (*before.list).clone()).unwrap_or_default();
        let mut spilled = Spilled { manifest: &object, nodes: Vec::new() };
        prune(self.manifests, &mut list, ends.log_start, &mut spilled).await?;
        list.segments.extend(change.append.into_iter().filter(|segment| segment.next_offset > ends.log_start));
        spill(&mut list, &mut spilled);
        if let Err(error) = join_small(self.manifests, &mut list, &mut spilled).await {
            // They stay as they are: a child that is lost or late must not hold up the commit.
            tracing::debug!(manifest = object, %error, "small child manifests are not joined");
        }

        let manifest = Manifest {
            cluster_id: self.names.cluster_id().to_owned(),
            topic: self.topic.clone(),
            partition: self.partition,
            version,
            previous: previous.map(|pointer| pointer.object.clone()),
            leader_epoch: change.leader_epoch,
            log_start: ends.log_start,
            archived_end: ends.archived_end,
            totals: list.totals(),
            list: Arc::new(list),
        };
        for (name, node) in &spilled.nodes {
            self.put(name, node.encode()).await?;
        }
        self.put(&object, manifest.encode()).await?;
        Ok(manifest.pointer(object))
    }

    async fn put(&self, name: &str, encoded: Result<Vec<u8>, String>) -> Result<(), ArchiveError> {
        let bytes = encoded.map_err(|reason| ArchiveError::Encode { object: name.to_owned(), reason })?;
        self.store.put_new(name, PutPayload::from(bytes)).await?;
        Ok(())
    }

    fn refuse(&self, reason: String) -> ArchiveError {
        ArchiveError::Segments { partition: self.partition, reason }
    }

    /// Checks that the change continues the archive, and says what the new manifest spans.
    fn ends(&self, before: Option<&Manifest>, change: &ManifestChange) -> Result<Ends, ArchiveError> {
        let first = change.append.first().map(|segment| segment.base_offset);
        let old_start = before.map(|before| before.log_start).or(first).or(change.log_start).unwrap_or(0);
        let old_end = before.map(|before| before.archived_end).or(first).or(change.log_start).unwrap_or(0);
        let log_start = change.log_start.unwrap_or(old_start).max(old_start);
        let mut end = old_end;
        for (i, segment) in change.append.iter().enumerate() {
            // Only DeleteRecords beyond the archive's end may leave a hole, and nothing in it is readable.
            let fits = segment.base_offset == end || (i == 0 && (end..=log_start).contains(&segment.base_offset));
            if !fits || segment.next_offset <= segment.base_offset {
                let (base, next) = (segment.base_offset, segment.next_offset);
                return Err(self.refuse(format!("[{base}, {next}) does not continue the archive, which ends at {end}")));
            }
            end = segment.next_offset;
        }
        Ok(Ends { log_start, archived_end: end.max(log_start) })
    }
}

struct Ends {
    log_start: Offset,
    archived_end: Offset,
}

/// Children that the new manifest brings with it.
struct Spilled<'a> {
    manifest: &'a str,
    nodes: Vec<(String, Node)>,
}

impl Spilled<'_> {
    fn child(&mut self, node: Node, level: u32) -> Option<Child> {
        let child = Child {
            object: Names::node(self.manifest, self.nodes.len()),
            level,
            base_offset: node.base_offset()?,
            next_offset: node.next_offset()?,
            totals: node.totals(),
        };
        self.nodes.push((child.object.clone(), node));
        Some(child)
    }
}

/// Removes the segments that end at or below `log_start`; a child that is hit in the middle is rewritten.
fn prune<'a>(
    manifests: &'a Manifests,
    node: &'a mut Node,
    log_start: Offset,
    spilled: &'a mut Spilled<'_>,
) -> Pin<Box<dyn Future<Output = Result<(), ReadError>> + Send + 'a>> {
    Box::pin(async move {
        node.children.retain(|child| child.next_offset > log_start);
        node.segments.retain(|segment| segment.next_offset > log_start);
        let Some(first) = node.children.first().filter(|child| child.base_offset < log_start) else { return Ok(()) };
        let whole = manifests.node(first).await?;
        let mut pruned = (*whole).clone();
        prune(manifests, &mut pruned, log_start, spilled).await?;
        if pruned != *whole {
            let level = first.level;
            let replacement = spilled.child(pruned, level);
            node.children.splice(0..1, replacement);
        }
        Ok(())
    })
}

/// Moves the oldest entries into children until the node is small enough.
fn spill(list: &mut Node, spilled: &mut Spilled<'_>) {
    while list.segments.len() > MAX_INLINE {
        let count = if list.segments.len() >= FULL + SPILL { FULL } else { SPILL };
        let rest = list.segments.split_off(count);
        let oldest = std::mem::replace(&mut list.segments, rest);
        let child = spilled.child(Node { children: Vec::new(), segments: oldest }, 1);
        list.children.extend(child);
    }
    let mut level = 1;
    loop {
        let from = list.children.partition_point(|child| child.level > level);
        let to = list.children.partition_point(|child| child.level >= level);
        if to - from > MAX_INLINE {
            let oldest: Vec<_> = list.children[from..from + SPILL].to_vec();
            let child = spilled.child(Node { children: oldest, segments: Vec::new() }, level + 1);
            list.children.splice(from..from + SPILL, child);
        } else if from == 0 {
            return;
        } else {
            level += 1;
        }
    }
}

/// Joins small children of level 1 that lie side by side and fill one of [`FULL`] segments.
async fn join_small(manifests: &Manifests, list: &mut Node, spilled: &mut Spilled<'_>) -> Result<(), ReadError> {
    let (mut from, mut sum) = (0, 0);
    for to in 0..list.children.len() {
        let child = &list.children[to];
        let segments = usize::try_from(child.totals.objects).unwrap_or(usize::MAX);
        // The children of this commit are not stored yet.
        let is_new = spilled.nodes.iter().any(|(name, _)| *name == child.object);
        if child.level > 1 || segments > FULL - SPILL || is_new {
            (from, sum) = (to + 1, 0);
            continue;
        }
        sum += segments;
        while sum > FULL {
            sum -= usize::try_from(list.children[from].totals.objects).unwrap_or(usize::MAX);
            from += 1;
        }
        if sum == FULL {
            let mut joined = Node::default();
            for small in &list.children[from..=to] {
                joined.segments.extend(manifests.node(small).await?.segments.iter().cloned());
            }
            let child = spilled.child(joined, 1);
            list.children.splice(from..=to, child);
            return Ok(());
        }
    }
    Ok(())
}
