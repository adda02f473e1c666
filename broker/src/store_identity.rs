//! Whether this node's object store is the cluster's, and holds what the archive's ledger names.
//!
//! The store has an identity, which the metadata keep (from metadata version 4 on). A node whose store answers with another
//! one, or lacks the manifests that the ledger names, does not start; some that are missing in the cluster's own store
//! concern their partitions alone. While it runs, it neither archives, deletes nor evicts.
//! `--accept-object-store` is the way to a store that was moved.
//!
//! ```text
//! metadata   store       the node
//! A          A           checks the manifests of its partitions, once in its life
//! A          B, or none  does not start; told to accept: B becomes the cluster's, or the store gets A
//! none       B, or none  checks the manifests; then the metadata get B, or both get a new identity
//! ```
//!
//! A new store is probed, and one that does not answer is refused. The file `archive-store` in the data folder then holds
//! its URL, without credentials: a restart that finds it there starts without an answer, so that what is on local disks is
//! served during an outage of the store. The checks are made up for as soon as the store answers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cold_tier::{ColdTier, LedgerEntry, OpenError, ReadError};
use coordinator::cluster::Command;
use model::TopicPartition;
use model::archive::ManifestPointer;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::config::Config;
use crate::disk_id::write_line;
use crate::metadata::{ClusterImage, Metadata, SubmitError};

const FILE: &str = "archive-store";
/// How long a known store has to answer at the start.
const KNOWN_STORE_WITHIN: Duration = Duration::from_secs(3);
/// How often a start says that it waits for its object store.
const SAY_EVERY: Duration = Duration::from_secs(4);
/// How long an answer of the store counts for work that can be repeated.
const VALID_FOR: Duration = Duration::from_secs(10);
/// Pause between two looks at a store that has not been checked, or has no identity yet.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Manifests that a start looks for.
const MAX_MANIFESTS: usize = 256;
/// Ledgers that a start compares with the store before it believes that manifests are missing: they may have moved on.
const LEDGERS: usize = 3;

/// Why the archive is not used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreRefused {
    /// It is another store.
    #[error(
        "object store {url} has the identity {found}, the cluster's object store has {known}: give this node the cluster's \
         store by --object-store; if the cluster's archive was moved here, with all its objects, start each node once with \
         --accept-object-store"
    )]
    Other {
        /// Which store.
        url: String,
        /// Its identity.
        found: Uuid,
        /// The cluster's.
        known: Uuid,
    },
    /// It is no store of this cluster.
    #[error(
        "object store {url} does not hold this cluster's archive: it has no identity, the cluster's object store has {known}. \
         All nodes must share one store: give this node the cluster's by --object-store; if the cluster's archive was moved \
         here, with all its objects, start each node once with --accept-object-store"
    )]
    Unknown {
        /// Which store.
        url: String,
        /// The cluster's identity.
        known: Uuid,
    },
    /// It lacks objects.
    #[error(
        "object store {url} lacks {object}, which the archive's ledger names: it is another store than the cluster's, or \
         objects were removed. Give this node the cluster's store by --object-store, or restore the objects; to start without \
         them, start with --accept-object-store: what only they hold cannot be read"
    )]
    Lacks {
        /// Which store.
        url: String,
        /// The first manifest that is missing.
        object: String,
    },
    /// The store does not say who it is.
    #[error("cannot check the identity of the object store: {0}")]
    NoAnswer(#[from] ReadError),
    /// The metadata do not take the identity.
    #[error("cannot keep the identity of the object store in the metadata: {0}")]
    NotKept(#[from] SubmitError),
}

impl StoreRefused {
    /// True when asking again may help.
    fn is_temporary(&self) -> bool {
        matches!(self, StoreRefused::NoAnswer(_) | StoreRefused::NotKept(_))
    }
}

/// The identity of this node's store, and of the cluster's.
#[derive(Debug)]
pub(crate) struct StoreIdentity {
    cold: ColdTier,
    metadata: Metadata,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The manifests were there once.
    has_manifests: bool,
    /// When the store answered with the cluster's identity last.
    confirmed_at: Option<Instant>,
    /// Why it must not be used now.
    refused: Option<(Instant, StoreRefused)>,
}

impl StoreIdentity {
    /// Probes and checks the store. One that this node has used before need not answer now.
    ///
    /// # Errors
    /// [`OpenError`] for a store that breaks a promise, and for a new one that does not answer; [`StoreRefused`] for one
    /// that is not the cluster's.
    pub(crate) async fn open(
        cold: ColdTier,
        metadata: Metadata,
        config: &Config,
    ) -> Result<Arc<StoreIdentity>, StoreNotOpened> {
        let (path, url) = (config.data_dir.join(FILE), cold.url());
        let identity = Arc::new(StoreIdentity { cold, metadata, state: Mutex::default() });
        if !is_known(&path, &url) {
            saying_so(&url, Box::pin(identity.welcome(config.accept_object_store))).await?;
            note(&config.data_dir, &path, &url);
            return Ok(identity);
        }
        match tokio::time::timeout(KNOWN_STORE_WITHIN, identity.welcome(config.accept_object_store)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if !error.is_temporary() => return Err(error),
            Ok(Err(error)) => starting_without(&error.to_string()),
            Err(_) => starting_without(&format!("object store {url} does not answer")),
        }
        Ok(identity)
    }

    async fn welcome(&self, accept: bool) -> Result<(), StoreNotOpened> {
        self.cold.probe().await?;
        if accept {
            warn!(
                store = self.cold.url(),
                "told to accept the object store, whatever its identity and its contents are"
            );
        }
        self.identify(accept).await?;
        self.cold.mark().await?;
        Ok(())
    }

    /// Succeeds when the store is the cluster's, by an answer of the last seconds.
    ///
    /// # Errors
    /// [`StoreRefused`].
    pub(crate) async fn check(&self) -> Result<(), StoreRefused> {
        let confirmed_at = self.state.lock().confirmed_at;
        if confirmed_at.is_some_and(|at| at.elapsed() < VALID_FOR) { Ok(()) } else { self.check_now().await }
    }

    /// Succeeds when the store is the cluster's, by an answer of now.
    ///
    /// # Errors
    /// [`StoreRefused`].
    pub(crate) async fn check_now(&self) -> Result<(), StoreRefused> {
        self.identify(false).await
    }

    /// Why the store must not be used, when that is certain.
    pub(crate) fn refused(&self) -> Option<StoreRefused> {
        self.state.lock().refused.as_ref().map(|(_, refused)| refused.clone())
    }

    /// For how long the store must not be used, and why.
    pub(crate) fn refused_for(&self) -> Option<(Duration, StoreRefused)> {
        self.state.lock().refused.as_ref().map(|(since, refused)| (since.elapsed(), refused.clone()))
    }

    /// Makes up for the checks that a start could not make, repeats those that failed, and gives the metadata the identity
    /// that they do not have yet, until `stop`.
    pub(crate) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(CHECK_INTERVAL) => {}
            }
            let image = self.metadata.image();
            let is_new = image.keeps_store_id() && image.store_id().is_none();
            let is_unsure = {
                let state = self.state.lock();
                // A call that goes right ends the trouble, also where nothing else calls.
                !state.has_manifests || state.refused.is_some() || self.cold.store_trouble().is_some()
            };
            if (is_new || is_unsure)
                && let Err(error) = self.check_now().await
            {
                // One that is certain was logged when it was found.
                tracing::debug!(%error, "the object store is not confirmed");
            }
        }
    }

    async fn identify(&self, accept: bool) -> Result<(), StoreRefused> {
        let outcome = self.compare(accept).await;
        let mut state = self.state.lock();
        match &outcome {
            Ok(()) => {
                if state.refused.take().is_some() {
                    info!(store = self.cold.url(), "the object store is the cluster's again");
                }
                state.has_manifests = true;
                state.confirmed_at = Some(Instant::now());
            }
            Err(error) if error.is_temporary() => {}
            Err(error) => {
                let since = state.refused.as_ref().map_or_else(Instant::now, |(since, _)| *since);
                if state.refused.is_none() {
                    error!(%error, "this node neither archives, deletes nor evicts until its object store is the cluster's");
                }
                state.confirmed_at = None;
                state.refused = Some((since, error.clone()));
            }
        }
        outcome
    }

    async fn compare(&self, accept: bool) -> Result<(), StoreRefused> {
        let found = self.cold.store_id().await?;
        let image = self.metadata.image();
        match (image.store_id(), found) {
            (Some(known), Some(found)) if known == found => {}
            (Some(_), _) if accept => {}
            (Some(known), Some(found)) => return Err(StoreRefused::Other { url: self.cold.url(), found, known }),
            (Some(known), None) => return Err(StoreRefused::Unknown { url: self.cold.url(), known }),
            (None, _) => {}
        }
        let has_manifests = accept || self.state.lock().has_manifests;
        if !has_manifests {
            self.look_for_manifests(&image, found).await?;
        }
        if image.keeps_store_id() { self.settle_on(&image, found).await } else { Ok(()) }
    }

    /// Makes the store's identity and that of the metadata one.
    async fn settle_on(&self, image: &ClusterImage, found: Option<Uuid>) -> Result<(), StoreRefused> {
        let replaces = image.store_id();
        if found.is_some() && found == replaces {
            return Ok(());
        }
        let store_id = match found {
            Some(found) => found,
            None => self.cold.create_store_id(replaces.unwrap_or_else(Uuid::new_v4)).await?,
        };
        if Some(store_id) == replaces {
            return Ok(());
        }
        match self.metadata.submit(Command::SetStoreId { store_id, replaces }).await {
            Ok(_) => {
                info!(store = self.cold.url(), %store_id, "the cluster keeps the identity of its object store");
                Ok(())
            }
            // Another node came first, with its own store.
            Err(error @ SubmitError::Refused(_)) => match self.metadata.image().store_id() {
                Some(known) if known != store_id => {
                    Err(StoreRefused::Other { url: self.cold.url(), found: store_id, known })
                }
                _ => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Looks for manifests of partitions of this node, at most [`MAX_MANIFESTS`], spread evenly. In a store that is certainly
    /// the cluster's, one that is missing concerns its partition alone; where all are missing, the store was emptied.
    async fn look_for_manifests(&self, image: &ClusterImage, found: Option<Uuid>) -> Result<(), StoreRefused> {
        let mut entries = self.entries(image);
        for _ in 0..LEDGERS {
            let looked_for = entries.len();
            let missing = self.cold.missing_manifests(entries).await?;
            // A manifest that was replaced meanwhile may be swept.
            entries = self.entries(&self.metadata.image());
            let is_named = |object: &&String| entries.iter().any(|entry| entry.pointer.object == **object);
            let Some(object) = missing.iter().find(is_named) else {
                if missing.is_empty() {
                    return Ok(());
                }
                continue;
            };
            let is_ours = found.is_some() && found == image.store_id();
            if !is_ours || missing.len() == looked_for {
                return Err(StoreRefused::Lacks { url: self.cold.url(), object: object.clone() });
            }
            error!(
                store = self.cold.url(), missing = missing.len(), looked_for, %object,
                "the object store lacks manifests that the archive's ledger names: what only they name cannot be read, and \
                 nothing of their partitions is archived, evicted or removed, until they are restored"
            );
            return Ok(());
        }
        Ok(())
    }

    fn entries(&self, image: &ClusterImage) -> Vec<LedgerEntry> {
        let node = self.metadata.broker().broker_id;
        let keeps = |id| image.partition(id).is_some_and(|partition| partition.replicas.contains(&node));
        let kept: Vec<_> = image.archives().filter(|(id, _)| keeps(*id)).collect();
        let step = kept.len().div_ceil(MAX_MANIFESTS).max(1);
        let entry = |(partition, pointer): (TopicPartition, &Arc<ManifestPointer>)| {
            let topic = image.topic_by_id(partition.topic_id)?.name.clone();
            Some(LedgerEntry { topic, partition, pointer: Arc::clone(pointer) })
        };
        kept.into_iter().step_by(step).filter_map(entry).collect()
    }
}

/// Why a start does without its archive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreNotOpened {
    /// It does not answer, or is unfit.
    #[error("{0}")]
    Cold(#[from] OpenError),
    /// It is not the cluster's.
    #[error("{0}")]
    Refused(#[from] StoreRefused),
}

impl StoreNotOpened {
    fn is_temporary(&self) -> bool {
        match self {
            StoreNotOpened::Cold(error) => !matches!(error, OpenError::Unfit { .. }),
            StoreNotOpened::Refused(error) => error.is_temporary(),
        }
    }
}

/// The result of `work`, which waits for the object store; the log says so now and then.
pub(crate) async fn saying_so<T>(store: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let began = Instant::now();
    loop {
        match tokio::time::timeout(SAY_EVERY, &mut work).await {
            Ok(done) => return done,
            Err(_) => info!(store, seconds = began.elapsed().as_secs(), "waiting for an answer of the object store"),
        }
    }
}

fn starting_without(reason: &str) {
    warn!(
        reason,
        "the object store was used before but cannot be used now: starting without it; nothing is archived or evicted, and \
         what only the store holds cannot be read until that is mended"
    );
}

fn is_known(path: &Path, url: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|known| known.trim_end() == url)
}

/// A store that could not be noted is probed again at the next start.
fn note(data_dir: &Path, path: &Path, url: &str) {
    if let Err(error) = write_line(data_dir, path, url) {
        warn!(path = %path.display(), %error, "cannot note which object store is in use: the next start needs it to answer");
    }
}
