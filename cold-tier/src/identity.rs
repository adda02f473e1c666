//! Is this the store that holds the archive, and does it hold what it should?
//!
//! A store has an identity: a random UUID in the object `<cluster id>/store-identity.json`, created once and never replaced.
//! Who knows it notices another store, and an empty one. Copying all objects of a cluster copies the identity with them.
//! The checks here ask the store, never a cache.

use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use model::archive::ManifestPointer;
use model::{Offset, TopicName, TopicPartition};
use object_store::PutPayload;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{ReadError, StoreError, StoreErrorKind};
use crate::manifest::ArchivedSegment;
use crate::tier::ColdTier;

/// Version of the object.
const FORMAT: u32 = 1;
/// Largest identity object that is read, in bytes.
const MAX_BYTES: u64 = 4 << 10;
/// Manifests that a start looks for side by side.
const CONCURRENCY: usize = 8;
/// Objects that are looked for side by side before they are evicted.
const EVICTION_CONCURRENCY: usize = 2;
/// Objects that one check of a partition looks for.
const MAX_OBJECTS: usize = 256;

#[derive(Debug, Serialize, Deserialize)]
struct StoreIdentity {
    format: u32,
    cluster_id: String,
    store_id: Uuid,
}

/// A partition with its entry in the archive ledger.
#[derive(Debug, Clone)]
pub struct LedgerEntry {
    /// The topic's name.
    pub topic: TopicName,
    /// Which partition.
    pub partition: TopicPartition,
    /// The entry.
    pub pointer: Arc<ManifestPointer>,
}

impl ColdTier {
    /// The store's identity; none when it has none.
    ///
    /// # Errors
    /// When the store does not answer, or the object is not what was written.
    pub async fn store_id(&self) -> Result<Option<Uuid>, ReadError> {
        let (store, name) = (&self.inner.store, self.inner.names.store_identity());
        let bytes = match store.get(&name, MAX_BYTES).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let corrupt = |reason: String| ReadError::Corrupt { object: name.clone(), offset: 0, reason };
        let identity: StoreIdentity = serde_json::from_slice(&bytes).map_err(|e| corrupt(e.to_string()))?;
        if identity.format != FORMAT {
            return Err(corrupt(format!("its format is {}, this build knows {FORMAT}", identity.format)));
        }
        if identity.cluster_id != self.inner.names.cluster_id() {
            return Err(corrupt(format!("it belongs to the cluster {}", identity.cluster_id)));
        }
        Ok(Some(identity.store_id))
    }

    /// Gives the store the identity `wanted` unless it has one already; answers the one that it has, durably.
    ///
    /// # Errors
    /// As [`Self::store_id`].
    pub async fn create_store_id(&self, wanted: Uuid) -> Result<Uuid, ReadError> {
        match self.put_store_id(wanted).await {
            Err(error) if error.kind == StoreErrorKind::AlreadyExists => {}
            done => return Ok(done.map(|()| wanted)?),
        }
        let present = self.store_id().await?.unwrap_or(wanted);
        // Another node may have made it without having made it durable: success says that it is.
        self.put_store_id(present).await?;
        Ok(present)
    }

    async fn put_store_id(&self, store_id: Uuid) -> Result<(), StoreError> {
        let (store, names) = (&self.inner.store, &self.inner.names);
        let cluster_id = names.cluster_id();
        let content =
            serde_json::json!({ "format": FORMAT, "cluster_id": cluster_id, "store_id": store_id }).to_string();
        store.put_new(&names.store_identity(), PutPayload::from(content.into_bytes())).await.map(drop)
    }

    /// The manifests of these entries of a ledger that the store lacks. A newer manifest of the partition is as good: the one
    /// that a ledger from an older copy names may have been replaced and swept.
    ///
    /// # Errors
    /// When the store does not answer, or a newer manifest is damaged.
    pub async fn missing_manifests(&self, entries: Vec<LedgerEntry>) -> Result<Vec<String>, ReadError> {
        let missing = |entry: LedgerEntry| async move {
            match self.inner.store.head(&entry.pointer.object).await {
                Ok(_) => return Ok(None),
                Err(error) if error.kind == StoreErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
            let newest = self.newest_manifest(&entry.topic, entry.partition).await?;
            let is_newer = newest.is_some_and(|newest| newest.pointer.version > entry.pointer.version);
            Ok::<_, ReadError>((!is_newer).then(|| entry.pointer.object.clone()))
        };
        let found: Vec<Option<String>> = stream::iter(entries).map(missing).buffered(CONCURRENCY).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Looks in the store for the manifest and for the objects that cover `[from, to)`, each with its size. Answers up to
    /// which offset they are there: at least to the end of the first, and to `to` where no more than 256 are needed.
    ///
    /// # Errors
    /// [`ReadError`] for the first that is missing or has another size, and when the store does not answer.
    pub async fn seen_until(&self, pointer: &ManifestPointer, from: Offset, to: Offset) -> Result<Offset, ReadError> {
        self.inner.store.head(&pointer.object).await?;
        let mut entries = self.entries_from(pointer, from).await?;
        entries.retain(|entry| entry.base_offset < to);
        entries.truncate(MAX_OBJECTS);
        let end = entries.last().map_or(to, |entry| entry.next_offset).min(to);
        stream::iter(entries).map(|entry| self.see(entry)).buffered(EVICTION_CONCURRENCY).try_collect::<()>().await?;
        Ok(end)
    }

    async fn see(&self, entry: ArchivedSegment) -> Result<(), ReadError> {
        let size = self.inner.store.head(&entry.object).await?.size;
        if size == entry.bytes {
            return Ok(());
        }
        let reason = format!("the store has {size} bytes of it, the manifest says {}", entry.bytes);
        Err(ReadError::Corrupt { object: entry.object, offset: entry.base_offset, reason })
    }
}
