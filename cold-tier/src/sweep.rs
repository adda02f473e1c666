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
//! - a manifest belongs to a version that the ledger has passed, for the same reason;
//! - its leader epoch is not older than the records that the archive has at its end: such an object was written by a cluster
//!   whose records differ, as after disks were restored from a copy;
//! - nothing in the partition's folder knows more than the ledger: no name has a leader epoch above the caller's, and no
//!   manifest has a version above the ledger's. One that stays for the grace period is reported ([`SweepReport::ahead`]);
//! - the folder has no object `sweep-held.json`: the caller leaves it where what is ahead is another history
//!   ([`ColdTier::hold_sweep`]), so that later sweeps, of any broker, remember it. A person removes it.
//!
//! The Iceberg table beside a topic's partitions goes with the topic, its entrance first ([`crate::TableFile`]), and whatever
//! engines have left in its folder; while the topic lives, the table's writer sweeps it.
//!
//! A folder store also loses the staged files of interrupted uploads, which listings hide, after the same grace period.
//!
//! So a stale pointer, a stalled archiver or a slow clock leave garbage, and never a hole.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::time::Duration;

use futures::StreamExt;
use model::archive::ManifestPointer;
use model::segment::EpochStart;
use model::{LeaderEpoch, TimestampMs, TopicName, TopicPartition};
use object_store::{ObjectMeta, PutPayload};

use crate::error::{ArchiveError, ReadError, StoreError, StoreErrorKind};
use crate::manifest::ArchivedSegment;
use crate::names::{Kind, Named, parse, table_file};
use crate::store::staged;
use crate::tier::{ColdTier, Inner};

/// Name of the object in a partition's folder that holds up its sweep.
const HOLD: &str = "sweep-held.json";
/// Objects that are deleted after one listing; the rest waits for the next.
const MAX_DELETIONS: usize = 10_000;

/// When a sweep first found that no manifest names an object, by the objects' names.
pub(crate) type Orphans = HashMap<String, TimestampMs>;

/// What a sweep or a deletion did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
    /// An object that has shown for the grace period that the bucket knows more than the ledger. Nothing is deleted then.
    pub ahead: Option<String>,
    /// The object that holds up the sweep, where there is one. Nothing is deleted then.
    pub held: Option<String>,
}

/// Who sweeps, and when.
#[derive(Debug, Clone, Copy)]
pub struct SweepBy {
    /// Leader epoch in which the caller leads the partition.
    pub leader_epoch: LeaderEpoch,
    /// The time, in ms since the epoch.
    pub now: TimestampMs,
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
        by: SweepBy,
    ) -> Result<SweepReport, ArchiveError> {
        let Some(live) = live else { return Ok(SweepReport::default()) };
        let held = self.inner.held_by(live).await?;
        let grace_ms = u64::try_from(self.inner.config.sweep_grace.as_millis()).unwrap_or(u64::MAX);
        let folders = self.inner.partition_folders(topic, partition);
        let known = self.inner.orphans.lock().get(&partition).cloned().unwrap_or_default();
        let mut look = Look {
            live,
            held,
            by,
            youngest: by.now.saturating_sub_unsigned(grace_ms),
            known,
            orphans: Orphans::new(),
            doomed: Vec::new(),
            is_ahead: false,
            report: SweepReport::default(),
        };
        let mut listed = Ok(());
        for folder in &folders {
            if listed.is_ok() {
                listed = self.inner.each_in(folder, |object| look.take(folder, object)).await;
            }
        }
        let Look { orphans, doomed, is_ahead, mut report, .. } = look;
        // Also after a failure: what was not listed then begins to wait again.
        self.inner.orphans.lock().insert(partition, orphans);
        listed?;
        if is_ahead || report.held.is_some() {
            report.waiting += doomed.len() as u64;
        } else {
            self.inner.delete_all(doomed, &mut report).await?;
        }
        for folder in &folders {
            self.inner.sweep_staged(folder, self.inner.config.sweep_grace, &mut report).await?;
        }
        Ok(report)
    }

    /// Stops the sweep of a partition for good, because of `object`: until a person removes the object that this leaves.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn hold_sweep(
        &self,
        topic: &TopicName,
        partition: TopicPartition,
        object: &str,
    ) -> Result<(), StoreError> {
        let name = format!("{}/{HOLD}", self.inner.names.partition(topic, partition));
        let content = serde_json::json!({ "format": 1, "object": object }).to_string();
        match self.inner.store.put_new(&name, PutPayload::from(content.into_bytes())).await {
            Err(error) if error.kind != StoreErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Deletes every object of ours of a topic that the ledger no longer knows, its table first. The topic's id is in the names, so a topic
    /// recreated under the same name is not touched.
    ///
    /// # Errors
    /// When the store fails; calling again continues.
    pub async fn delete_topic(&self, topic: &TopicName, topic_id: model::TopicId) -> Result<SweepReport, ArchiveError> {
        self.inner.orphans.lock().retain(|partition, _| partition.topic_id != topic_id);
        let mut report = SweepReport::default();
        for folder in self.inner.topic_folders(topic, topic_id) {
            report.add(self.inner.delete_topic_in(&folder).await?);
        }
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

/// True for the object that holds up the sweep of a partition; `folder` is the partition's or its topic's.
fn is_hold(folder: &str, name: &str) -> bool {
    let below = name.strip_prefix(folder).and_then(|below| below.strip_prefix('/'));
    below.and_then(|below| below.strip_suffix(HOLD)).is_some_and(|place| place.matches('/').count() <= 1)
}

/// What the ledger's manifest and its children name.
struct Held {
    names: HashSet<String>,
    /// Leader epochs of the records in the archive, and where each begins.
    epochs: Vec<EpochStart>,
}

impl Held {
    /// True unless the archive has newer records at the range's end than its writer can have known.
    fn may_be_of(&self, named: Named) -> bool {
        let at = self.epochs.partition_point(|epoch| epoch.start_offset < named.next);
        at.checked_sub(1).is_none_or(|at| self.epochs[at].leader_epoch <= named.leader_epoch)
    }
}

/// One listing of a partition's folder, judged object by object.
struct Look<'a> {
    live: &'a ManifestPointer,
    held: Held,
    by: SweepBy,
    /// What was written or found later than this must wait.
    youngest: TimestampMs,
    known: Orphans,
    orphans: Orphans,
    doomed: Vec<ObjectMeta>,
    /// Something is ahead of the ledger, however young.
    is_ahead: bool,
    report: SweepReport,
}

impl Look<'_> {
    fn take(&mut self, folder: &str, object: ObjectMeta) {
        let name = object.location.as_ref();
        let Some(named) = parse(folder, name) else {
            if is_hold(folder, name) {
                self.report.held = Some(name.to_owned());
            }
            self.report.foreign += 1;
            return;
        };
        self.report.listed += 1;
        if self.held.names.contains(name) {
            return;
        }
        // A clock that was set back does not let an object wait for longer than the grace period from now on.
        let since = self.known.get(name).map_or(self.by.now, |since| self.by.now.min(*since));
        let is_old = object.last_modified.timestamp_millis() < self.youngest && since <= self.youngest;
        let (is_passed, is_above) = match named.kind {
            Kind::Data => (named.base < self.live.archived_end, false),
            Kind::Manifest(version) => (version <= self.live.version, version > self.live.version),
        };
        let is_ahead = is_above || named.leader_epoch > self.by.leader_epoch;
        self.is_ahead |= is_ahead;
        if is_ahead && is_old {
            self.report.ahead = Some(name.to_owned());
        }
        if is_passed && !self.held.may_be_of(named) {
            tracing::debug!(object = name, "kept an object that another history of this partition has written");
            self.report.foreign += 1;
            self.report.listed -= 1;
        } else if is_passed && is_old && self.doomed.len() < MAX_DELETIONS {
            self.doomed.push(object);
        } else {
            if is_passed || is_ahead {
                self.orphans.insert(name.to_owned(), since);
            }
            self.report.waiting += 1;
        }
    }
}

impl Inner {
    /// What the manifest and its children hold, their own names included.
    async fn held_by(&self, live: &ManifestPointer) -> Result<Held, ReadError> {
        let manifest = self.manifests.manifest(live).await?;
        let mut names = HashSet::from([live.object.clone()]);
        let mut children = manifest.list.children.clone();
        while let Some(child) = children.pop() {
            let node = self.manifests.node(&child).await?;
            names.insert(child.object);
            children.extend(node.children.iter().cloned());
        }
        let mut epochs: Vec<EpochStart> = Vec::new();
        let visit = |segment: &ArchivedSegment| {
            names.insert(segment.object.clone());
            let newest = epochs.last().map(|epoch| epoch.leader_epoch);
            epochs
                .extend(segment.epochs.iter().filter(|epoch| newest.is_none_or(|newest| newest < epoch.leader_epoch)));
            ControlFlow::Continue(())
        };
        self.manifests.each(live, i64::MIN, |_| true, visit).await?;
        Ok(Held { names, epochs })
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

    /// Deletes every object of ours in a topic's folder, its table first.
    async fn delete_topic_in(&self, folder: &str) -> Result<SweepReport, StoreError> {
        let mut report = self.delete_table(folder).await?;
        // A topic may have any number of objects: they go batch by batch.
        loop {
            let (mut doomed, mut batch) = (Vec::new(), SweepReport::default());
            let take = |object: ObjectMeta| {
                let name = object.location.as_ref();
                if parse(folder, name).is_none() && table_file(folder, name).is_none() && !is_hold(folder, name) {
                    batch.foreign += 1;
                } else if doomed.len() < MAX_DELETIONS {
                    doomed.push(object);
                }
            };
            self.each_in(folder, take).await?;
            batch.listed = doomed.len() as u64;
            let is_full = doomed.len() == MAX_DELETIONS;
            self.delete_all(doomed, &mut batch).await?;
            report.add(SweepReport { foreign: if is_full { 0 } else { batch.foreign }, ..batch });
            if !is_full {
                break;
            }
        }
        self.sweep_staged(folder, Duration::ZERO, &mut report).await?;
        Ok(report)
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

    /// Shows every object below a folder.
    async fn each_in(&self, folder: &str, mut take: impl FnMut(ObjectMeta)) -> Result<(), StoreError> {
        let mut listing = self.store.list(folder);
        while let Some(object) = listing.next().await {
            take(object?);
        }
        Ok(())
    }

    async fn delete_all(&self, doomed: Vec<ObjectMeta>, report: &mut SweepReport) -> Result<(), StoreError> {
        for object in doomed {
            self.store.delete(object.location.as_ref()).await?;
            tracing::info!(object = %object.location, "deleted an archived object");
            report.deleted += 1;
            report.deleted_bytes += object.size;
            metrics::counter!("firn_archive_swept_objects_total").increment(1);
        }
        Ok(())
    }
}
