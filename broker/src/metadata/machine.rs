//! Applies the log to the cluster's state, and keeps snapshots of it.
//!
//! The state lives in memory. At start it is read from the last snapshot, then the log behind that is applied again. A
//! snapshot is durable before the log that it covers is purged.

use std::io::Cursor;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use coordinator::cluster::Cluster;
use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder};
use serde::{Deserialize, Serialize};

use super::disk::{Change, RaftFile, StoredSnapshot};
use super::entry::{
    Decided, Effect, Entry, LogId, SnapshotMeta, StorageError, StorageIoError, StoredMembership, TypeConfig,
};
use super::image::Images;
use super::writer::Writer;
use crate::machine::blocking;

/// Version of the snapshot's form.
const SNAPSHOT_FORMAT: u32 = 1;

/// The cluster's state on this node.
pub(super) struct StateMachine {
    cluster: Cluster,
    /// Index of the last entry that changed `cluster`, plus one.
    version: u64,
    applied: Option<LogId>,
    membership: StoredMembership,
    images: Arc<Images>,
    disk: Disk,
}

/// Where snapshots are kept. The writer's thread owns the file, so that the file is let go of when the thread ends.
#[derive(Clone)]
pub(super) struct Disk {
    pub(super) file: Weak<RaftFile>,
    pub(super) writer: Writer,
    /// Bytes of the last snapshot.
    pub(super) snapshot_bytes: Arc<AtomicUsize>,
}

/// A snapshot's data.
#[derive(Serialize, Deserialize)]
struct SnapshotBody {
    format: u32,
    version: u64,
    cluster: Cluster,
}

/// Makes a snapshot of the state as it was when the builder was asked for.
pub(super) struct SnapshotBuilder {
    cluster: Cluster,
    version: u64,
    meta: SnapshotMeta,
    disk: Disk,
}

impl StateMachine {
    /// Starts from the snapshot, if there is one.
    ///
    /// # Errors
    /// Says why the snapshot cannot be read.
    pub(super) fn new(snapshot: Option<StoredSnapshot>, images: Arc<Images>, disk: Disk) -> Result<Self, String> {
        let ((cluster, version), meta) = match snapshot {
            None => ((Cluster::new(), 0), SnapshotMeta::default()),
            Some(snapshot) => {
                disk.snapshot_bytes.store(snapshot.data.len(), Ordering::Release);
                (decoded(&snapshot.data)?, snapshot.meta)
            }
        };
        let (applied, membership) = (meta.last_log_id, meta.last_membership);
        images.publish(&cluster, version);
        Ok(StateMachine { cluster, version, applied, membership, images, disk })
    }

    fn apply_decided(&mut self, decided: Decided, index: u64) -> Effect {
        if decided.base != self.version {
            return Effect::Void;
        }
        if !decided.records.is_empty() {
            for record in Arc::unwrap_or_clone(decided.records) {
                self.cluster.apply(record);
            }
            self.version = index + 1;
        }
        Effect::Applied
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Effect>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (mut effects, before) = (Vec::new(), self.version);
        for entry in entries {
            self.applied = Some(entry.log_id);
            effects.push(match entry.payload {
                EntryPayload::Blank => Effect::Applied,
                EntryPayload::Normal(decided) => self.apply_decided(decided, entry.log_id.index),
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Effect::Applied
                }
            });
        }
        // Before the replies leave: whoever gets one finds its effect in the image.
        if self.version != before {
            self.images.publish(&self.cluster, self.version);
        }
        Ok(effects)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let snapshot_id =
            self.applied.map_or_else(|| "empty".to_owned(), |id| format!("{}-{}", id.leader_id, id.index));
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone(), snapshot_id };
        SnapshotBuilder { cluster: self.cluster.clone(), version: self.version, meta, disk: self.disk.clone() }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::new(Cursor::new(Vec::new())))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let data = snapshot.into_inner();
        let (cluster, version) = decoded(&data)
            .map_err(|error| StorageIoError::read_snapshot(Some(meta.signature()), AnyError::error(error)))?;
        save(&self.disk, meta, data).await?;
        self.cluster = cluster;
        self.version = version;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.images.publish(&self.cluster, self.version);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        let failed = |error| StorageIoError::read_snapshot(None, error);
        let file = self.disk.file.upgrade().ok_or_else(|| failed(AnyError::error("the metadata log is closed")))?;
        let read = blocking::spawn(move || file.snapshot()).await;
        let stored = read.map_err(|error| failed(AnyError::new(&error)))?;
        let stored = stored.map_err(|error| failed(AnyError::new(&error)))?;
        Ok(stored.map(|stored| Snapshot { meta: stored.meta, snapshot: Box::new(Cursor::new(stored.data)) }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let body = SnapshotBody { format: SNAPSHOT_FORMAT, version: self.version, cluster: self.cluster.clone() };
        let encode = move || serde_json::to_vec(&body);
        let failed = |error| StorageIoError::write_snapshot(Some(self.meta.signature()), error);
        let encoded = blocking::spawn(encode).await.map_err(|error| failed(AnyError::new(&error)))?;
        let data = encoded.map_err(|error| failed(AnyError::new(&error)))?;
        save(&self.disk, &self.meta, data.clone()).await?;
        tracing::debug!(snapshot = self.meta.snapshot_id, bytes = data.len(), "saved a snapshot of the metadata");
        Ok(Snapshot { meta: self.meta.clone(), snapshot: Box::new(Cursor::new(data)) })
    }
}

async fn save(disk: &Disk, meta: &SnapshotMeta, data: Vec<u8>) -> Result<(), StorageError> {
    disk.snapshot_bytes.store(data.len(), Ordering::Release);
    let change = Change::Snapshot(StoredSnapshot { meta: meta.clone(), data });
    let written = disk.writer.write(change).await;
    Ok(written.map_err(|error| StorageIoError::write_snapshot(Some(meta.signature()), AnyError::new(&error)))?)
}

fn decoded(data: &[u8]) -> Result<(Cluster, u64), String> {
    let body: SnapshotBody =
        serde_json::from_slice(data).map_err(|error| format!("the snapshot cannot be read ({error})"))?;
    if body.format != SNAPSHOT_FORMAT {
        return Err(format!("the snapshot has format {}, this build reads {SNAPSHOT_FORMAT}", body.format));
    }
    Ok((body.cluster.restored(), body.version))
}
