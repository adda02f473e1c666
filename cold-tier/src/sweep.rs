//! Removing what no manifest names: losers of races, leftovers of crashes, what retention has dropped.
//!
//! An object is swept only if all of this holds:
//!
//! - the caller passes the pointer that the ledger holds; without one nothing is touched;
//! - its name is exactly one that we would give in that folder: what others put there stays;
//! - the manifest and all its children could be read, and none of them names the object;
//! - it is older than the grace period, and a sweep of this process found it unnamed that long ago: readers that still hold
//!   an older manifest, or a table's older snapshot, have this time to finish, however old the object is;
//! - a data object begins below the archive's end: an archiver that stalls between upload and commit may still commit
//!   what lies at or above it, and the ledger's fencing refuses it once the archive has moved on;
//! - a manifest belongs to a version that the ledger has passed, for the same reason.
//!
//! The Iceberg table beside a topic's partitions goes with the topic, its entrance first ([`crate::TableFile`]); while the topic
//! lives, whoever writes the table sweeps it.
//!
//! A folder store also loses the staged files of interrupted uploads, which listings hide, after the same grace period.
//!
//! So a stale pointer, a stalled archiver or a slow clock leave garbage, and never a hole.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::time::Duration;

use futures::StreamExt;
use model::archive::ManifestPointer;
use model::{TimestampMs, TopicName, TopicPartition};
use object_store::ObjectMeta;

use crate::error::{ArchiveError, ReadError, StoreError, StoreErrorKind};
use crate::manifest::ArchivedSegment;
use crate::names::{Named, parse, table_file};
use crate::store::staged;
use crate::tier::{ColdTier, Inner};

/// When a sweep first found that no manifest names an object, by the objects' names.
pub(crate) type Orphans = HashMap<String, TimestampMs>;

/// What a sweep or a deletion did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Objects of ours that were looked at.
    pub listed: u64,
    /// Objects in our folders that are not ours by name: they stay.
    pub foreign: u64,
    /// Objects deleted.
    pub deleted: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Objects that no manifest names and that must wait: too young, or not yet passed by the ledger.
    pub waiting: u64,
}

impl ColdTier {
    /// Deletes the orphans of one partition. `live` is what the ledger holds now; `None` (no commit yet, or not known)
    /// deletes nothing.
    ///
    /// # Errors
    /// When a manifest cannot be read or the store fails; what was deleted until then was rightly deleted.
    pub async fn sweep_partition(
        &self,
        topic: &TopicName,
        partition: TopicPartition,
        live: Option<&ManifestPointer>,
        now: TimestampMs,
    ) -> Result<SweepReport, ArchiveError> {
        let Some(live) = live else { return Ok(SweepReport::default()) };
        let named = self.inner.names_of(live).await?;
        let grace_ms = u64::try_from(self.inner.config.sweep_grace.as_millis()).unwrap_or(u64::MAX);
        let youngest = now.saturating_sub_unsigned(grace_ms);
        let folder = self.inner.names.partition(topic, partition);
        let known = self.inner.orphans.lock().get(&partition).cloned().unwrap_or_default();
        let mut orphans = Orphans::new();
        let verdict = |object: &ObjectMeta| {
            let name = object.location.as_ref();
            let passed = match parse(&folder, name) {
                Some(Named::Data(base_offset)) => base_offset < live.archived_end,
                Some(Named::Manifest(version)) => version <= live.version,
                None => return Verdict::Foreign,
            };
            if named.contains(name) {
                return Verdict::Keep;
            }
            // A clock that was set back does not let an object wait for longer than the grace period from now on.
            let since = known.get(name).map_or(now, |since| now.min(*since));
            if passed && object.last_modified.timestamp_millis() < youngest && since <= youngest {
                return Verdict::Delete;
            }
            if passed {
                orphans.insert(name.to_owned(), since);
            }
            Verdict::Wait
        };
        let swept = self.inner.delete_where(&folder, verdict).await;
        // Also after a failure: what was not listed then begins to wait anew.
        self.inner.orphans.lock().insert(partition, orphans);
        let mut report = swept?;
        self.inner.sweep_staged(&folder, self.inner.config.sweep_grace, &mut report).await?;
        Ok(report)
    }

    /// Deletes every object of ours of a topic that the ledger no longer knows, its table first. The topic's id is in the names, so a topic
    /// recreated under the same name is not touched.
    ///
    /// # Errors
    /// When the store fails; calling again goes on.
    pub async fn delete_topic(&self, topic: &TopicName, topic_id: model::TopicId) -> Result<SweepReport, ArchiveError> {
        let partition = TopicPartition { topic_id, partition: 0 };
        let folder = self.inner.names.topic(topic, partition);
        self.inner.orphans.lock().retain(|partition, _| partition.topic_id != topic_id);
        let mut report = self.inner.delete_table(&folder).await?;
        let verdict = |object: &ObjectMeta| {
            let name = object.location.as_ref();
            let is_ours = parse(&folder, name).is_some() || table_file(&folder, name).is_some();
            if is_ours { Verdict::Delete } else { Verdict::Foreign }
        };
        report.add(self.inner.delete_where(&folder, verdict).await?);
        self.inner.sweep_staged(&folder, Duration::ZERO, &mut report).await?;
        Ok(report)
    }
}

impl SweepReport {
    fn add(&mut self, other: SweepReport) {
        self.listed += other.listed;
        self.foreign += other.foreign;
        self.deleted += other.deleted;
        self.deleted_bytes += other.deleted_bytes;
        self.waiting += other.waiting;
    }
}

enum Verdict {
    /// Not ours by name: whoever put it there may want it.
    Foreign,
    Keep,
    Wait,
    Delete,
}

impl Inner {
    /// The names that the manifest and its children hold, their own included.
    async fn names_of(&self, live: &ManifestPointer) -> Result<HashSet<String>, ReadError> {
        let manifest = self.manifests.manifest(live).await?;
        let mut names = HashSet::from([live.object.clone()]);
        let mut children = manifest.list.children.clone();
        while let Some(child) = children.pop() {
            let node = self.manifests.node(&child).await?;
            names.insert(child.object);
            children.extend(node.children.iter().cloned());
        }
        let visit = |segment: &ArchivedSegment| {
            names.insert(segment.object.clone());
            ControlFlow::Continue(())
        };
        self.manifests.each(live, i64::MIN, |_| true, visit).await?;
        Ok(names)
    }

    /// Removes what interrupted uploads left of a folder store, below `folder`.
    async fn sweep_staged(&self, folder: &str, grace: Duration, report: &mut SweepReport) -> Result<(), StoreError> {
        let Some(root) = &self.root else { return Ok(()) };
        let below = folder.split('/').fold(root.clone(), |path, part| path.join(part));
        let swept = tokio::task::spawn_blocking(move || staged::sweep(&below, grace)).await;
        let found = swept.map_err(std::io::Error::other).and_then(|found| found).map_err(|error| StoreError {
            operation: "sweep",
            object: folder.to_owned(),
            kind: StoreErrorKind::Uncertain,
            detail: error.to_string(),
        })?;
        report.listed += found.waiting + found.deleted;
        report.waiting += found.waiting;
        report.deleted += found.deleted;
        report.deleted_bytes += found.deleted_bytes;
        metrics::counter!("firn_archive_swept_objects_total").increment(found.deleted);
        Ok(())
    }

    /// Deletes the files of the topic's Iceberg table in the order of [`crate::TableFile`].
    async fn delete_table(&self, topic_folder: &str) -> Result<SweepReport, StoreError> {
        let mut files = Vec::new();
        let below = format!("{topic_folder}/iceberg");
        let mut listing = self.store.list(&below);
        while let Some(object) = listing.next().await {
            let object = object?;
            if let Some(file) = table_file(topic_folder, object.location.as_ref()) {
                files.push((file, object));
            }
        }
        drop(listing);
        files.sort_by(|(a, a_object), (b, b_object)| (a, &a_object.location).cmp(&(b, &b_object.location)));
        let mut report = SweepReport::default();
        for (_, object) in files {
            self.store.delete(object.location.as_ref()).await?;
            report.listed += 1;
            report.deleted += 1;
            report.deleted_bytes += object.size;
        }
        Ok(report)
    }

    async fn delete_where(
        &self,
        folder: &str,
        mut verdict: impl FnMut(&ObjectMeta) -> Verdict,
    ) -> Result<SweepReport, StoreError> {
        let mut report = SweepReport::default();
        let mut listing = self.store.list(folder);
        while let Some(object) = listing.next().await {
            let object = object?;
            report.listed += 1;
            match verdict(&object) {
                Verdict::Foreign => {
                    report.listed -= 1;
                    report.foreign += 1;
                }
                Verdict::Keep => {}
                Verdict::Wait => report.waiting += 1,
                Verdict::Delete => {
                    self.store.delete(object.location.as_ref()).await?;
                    tracing::info!(object = %object.location, "deleted an archived object");
                    report.deleted += 1;
                    report.deleted_bytes += object.size;
                }
            }
        }
        metrics::counter!("firn_archive_swept_objects_total").increment(report.deleted);
        Ok(report)
    }
}
