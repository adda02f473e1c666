//! The archive as one value: the store, the caches and the threads.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use model::{TopicId, TopicName, TopicPartition};
use object_store::{ObjectStore, PutPayload};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::config::{Config, MIN_PART_BYTES};
use crate::error::OpenError;
use crate::flight::Flight;
use crate::footer::Footer;
use crate::manifest::cache::Manifests;
use crate::names::{MARKER_PREFIX, Names};
use crate::read::ahead::Streams;
use crate::read::chunks::ChunkKey;
use crate::replay::Replayed;
use crate::store::durable::DurableLocal;
use crate::store::open::{Opened, open_store, redacted};
use crate::store::probe::probe;
use crate::store::{Store, StoreTrouble};
use crate::sweep::Orphans;
use crate::workers::Workers;

/// Bytes of in-flight memory that one permit stands for.
pub(crate) const PERMIT_BYTES: u64 = 4 << 10;

/// The archive. Cheap to clone; the threads end with the last clone.
#[derive(Debug, Clone)]
pub struct ColdTier {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) store: Store,
    /// Where the objects lie when the store is a folder.
    pub(crate) root: Option<PathBuf>,
    pub(crate) names: Names,
    pub(crate) manifests: Manifests,
    pub(crate) footers: Flight<String, Arc<Footer>>,
    pub(crate) chunks: Flight<ChunkKey, Arc<Replayed>>,
    pub(crate) streams: Streams,
    /// What sweeps found unnamed, while it waits.
    pub(crate) orphans: Mutex<HashMap<TopicPartition, Orphans>>,
    /// How other engines reach the store.
    pub(crate) access: BTreeMap<String, String>,
    pub(crate) decoders: Workers,
    pub(crate) archivers: Workers,
    /// Memory of chunks in the making, in permits of [`PERMIT_BYTES`].
    pub(crate) in_flight: Arc<Semaphore>,
    pub(crate) in_flight_permits: u32,
}

/// What the caches hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Decoded chunks in the cache.
    pub chunks: u64,
    /// Their bytes.
    pub chunk_bytes: u64,
    /// Chunks that are being fetched or decoded.
    pub chunks_loading: u64,
    /// Bytes of memory reserved for those.
    pub in_flight_bytes: u64,
    /// Object footers in the cache.
    pub footers: u64,
    /// Their bytes.
    pub footer_bytes: u64,
}

impl ColdTier {
    /// An archive in the store that `config` names: [`Self::connect`], then [`Self::welcome`].
    ///
    /// # Errors
    /// [`OpenError`]; a store that breaks a promise is refused by name and reason.
    pub async fn open(config: Config) -> Result<ColdTier, OpenError> {
        let tier = ColdTier::connect(config).await?;
        tier.welcome().await?;
        Ok(tier)
    }

    /// An archive in the store that `config` names, which is not asked anything yet.
    ///
    /// # Errors
    /// [`OpenError`], but [`OpenError::Unfit`] and [`OpenError::Unreachable`].
    pub async fn connect(config: Config) -> Result<ColdTier, OpenError> {
        // A bad id must not cost a call to the store.
        Names::new(&config.cluster_id).ok_or_else(|| OpenError::ClusterId(config.cluster_id.clone()))?;
        let opened = open_store(&config).await?;
        ColdTier::build(config, opened)
    }

    /// As [`Self::open`], over a store that is there already; `config.url` only names it in errors.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_with(config: Config, store: Arc<dyn ObjectStore>) -> Result<ColdTier, OpenError> {
        let tier = ColdTier::with_store(config, store)?;
        tier.welcome().await?;
        Ok(tier)
    }

    /// [`Self::probe`], then [`Self::mark`].
    ///
    /// # Errors
    /// As these.
    pub async fn welcome(&self) -> Result<(), OpenError> {
        self.probe().await?;
        self.mark().await
    }

    /// Asks whether the store keeps the promises that the archive rests on.
    ///
    /// # Errors
    /// [`OpenError::Unfit`] for a store that breaks a promise, [`OpenError::Unreachable`] for one that does not answer.
    pub async fn probe(&self) -> Result<(), OpenError> {
        probe(&self.inner.store, &self.inner.config.url, Uuid::new_v4()).await
    }

    /// Leaves the cluster's marker in the store.
    ///
    /// # Errors
    /// [`OpenError::Unreachable`].
    pub async fn mark(&self) -> Result<(), OpenError> {
        let unreachable = |call| OpenError::Unreachable { url: self.url(), call };
        self.leave_marker().await.map_err(unreachable)
    }

    /// An archive over `store`, unprobed.
    ///
    /// # Errors
    /// [`OpenError::ClusterId`] and [`OpenError::Threads`].
    pub fn with_store(config: Config, store: Arc<dyn ObjectStore>) -> Result<ColdTier, OpenError> {
        ColdTier::build(config, Opened::from(store))
    }

    /// As [`Self::with_store`], in a folder.
    ///
    /// # Errors
    /// As [`Self::with_store`].
    pub fn with_folder(config: Config, folder: DurableLocal) -> Result<ColdTier, OpenError> {
        ColdTier::build(config, Opened::from(folder))
    }

    fn build(mut config: Config, opened: Opened) -> Result<ColdTier, OpenError> {
        config.upload_part_bytes = config.upload_part_bytes.max(MIN_PART_BYTES);
        let names = Names::new(&config.cluster_id).ok_or_else(|| OpenError::ClusterId(config.cluster_id.clone()))?;
        let threads = |e: std::io::Error| OpenError::Threads(e.to_string());
        let (access, root) = (opened.access.clone(), opened.folder.clone());
        let store = opened.into_store(&config);
        let permits = (config.in_flight_bytes() / PERMIT_BYTES).clamp(1, u64::from(u32::MAX >> 4));
        let in_flight_permits = u32::try_from(permits).unwrap_or(1);
        let inner = Inner {
            manifests: Manifests::new(store.clone(), &config),
            footers: Flight::new(config.metadata_cache_bytes(), |footer: &Arc<Footer>| footer.memory_bytes()),
            chunks: Flight::new(config.chunk_cache_bytes(), |chunk: &Arc<Replayed>| chunk.memory_bytes()),
            streams: Streams::new(),
            orphans: Mutex::default(),
            access,
            decoders: Workers::start("cold-decode", config.decode_threads).map_err(threads)?,
            archivers: Workers::start("cold-archive", config.archive_threads).map_err(threads)?,
            in_flight: Arc::new(Semaphore::new(in_flight_permits as usize)),
            in_flight_permits,
            store,
            root,
            names,
            config,
        };
        Ok(ColdTier { inner: Arc::new(inner) })
    }

    /// Where the archive lies, for people: without credentials.
    #[must_use]
    pub fn url(&self) -> String {
        redacted(&self.inner.config.url).to_owned()
    }

    /// Where the archive lies as other engines name it, without a slash at its end: `s3://bucket/prefix`, or
    /// `file:///absolute/path` with the path as it is, not percent-encoded.
    #[must_use]
    pub fn root_url(&self) -> String {
        let url = match &self.inner.root {
            Some(root) => {
                let absolute = std::path::absolute(root).unwrap_or_else(|_| root.clone());
                format!("file://{}", absolute.display())
            }
            None => self.url(),
        };
        url.trim_end_matches('/').to_owned()
    }

    /// What other engines must know to reach the store, under the names of Iceberg's `FileIO` properties (`s3.endpoint`,
    /// `s3.region`, `s3.path-style-access`). Never credentials; empty for a store that its URL says everything about.
    #[must_use]
    pub fn access(&self) -> &BTreeMap<String, String> {
        &self.inner.access
    }

    /// A topic's folder below the root, without a slash at its end.
    #[must_use]
    pub fn topic_folder(&self, topic: &TopicName, topic_id: TopicId) -> String {
        self.inner.names.topic(topic, topic_id)
    }

    /// The object store, for what lies beside the archive: names are relative to its root.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The calls to the store that failed since one went right.
    #[must_use]
    pub fn store_trouble(&self) -> Option<StoreTrouble> {
        self.inner.store.trouble()
    }

    /// What the caches hold now; counts lag behind a little.
    #[must_use]
    pub fn cache_stats(&self) -> CacheStats {
        let Inner { chunks, footers, in_flight, in_flight_permits, .. } = &*self.inner;
        let ((chunk_count, chunk_bytes), (footer_count, footer_bytes)) = (chunks.size(), footers.size());
        let free = in_flight.available_permits() as u64;
        CacheStats {
            chunks: chunk_count,
            chunk_bytes,
            chunks_loading: chunks.loads() as u64,
            in_flight_bytes: u64::from(*in_flight_permits).saturating_sub(free) * PERMIT_BYTES,
            footers: footer_count,
            footer_bytes,
        }
    }

    /// Marks the store as holding this cluster's archive, and says so when it holds another's too: names begin with
    /// the cluster's id, so the two do not touch.
    async fn leave_marker(&self) -> Result<(), crate::StoreError> {
        let Inner { store, names, .. } = &*self.inner;
        let marker = names.marker();
        let content = serde_json::json!({ "format": 1, "cluster_id": names.cluster_id() }).to_string();
        store.put_new(&marker, PutPayload::from(content.into_bytes())).await?;
        // Markers lie at the root, so a listing by folder shows them without walking the archive.
        let listed = store.inner().list_with_delimiter(None);
        let root = store.once("list", "", store.deadline(0), listed).await?;
        for object in root.objects {
            let name = object.location.as_ref();
            if name.starts_with(MARKER_PREFIX) && name != marker {
                tracing::warn!(marker = name, "the object store also holds the archive of another cluster");
            }
        }
        Ok(())
    }
}

impl Inner {
    /// The folders in which a topic's objects may lie; new ones go into the first.
    pub(crate) fn topic_folders(&self, topic: &TopicName, topic_id: TopicId) -> Vec<String> {
        // A file system has never taken the long one.
        let whole = self.names.whole_topic(topic, topic_id).filter(|_| self.root.is_none());
        std::iter::once(self.names.topic(topic, topic_id)).chain(whole).collect()
    }

    /// As [`Self::topic_folders`], those of a partition.
    pub(crate) fn partition_folders(&self, topic: &TopicName, partition: TopicPartition) -> Vec<String> {
        let folders = self.topic_folders(topic, partition.topic_id);
        folders.into_iter().map(|folder| format!("{folder}/{}", partition.partition)).collect()
    }
}
