//! Drives the cluster's metadata: the machine `coordinator::cluster` behind one Raft log (D5), on disk under
//! `<data_dir>/metadata/`.
//!
//! Readers take an immutable image, or wait for the next. Writers submit commands; a command is acknowledged when its log
//! entry is durable and applied, so that it survives SIGKILL and power cuts, and its effect is in the image by then.
//! A command is applied once, however often the log is asked to take it.
//!
//! Rooms, from the command down: `proposer` (decides, in batches), `entry` (what stands in the log), `machine` (applies it),
//! `log` and `writer` (keep it), `disk` (the file's layout) on `backend` (a disk that may be full), `image` (what readers
//! see), `quorum` (who leads and votes), `network` (other nodes: none yet).

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use coordinator::cluster::{BrokerRef, Command, Listener, METADATA_VERSION, RegisterBroker, Reply};
use model::{NodeId, TimestampMs, TopicId};
use openraft::{BasicNode, Config, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::watch;
use uuid::Uuid;

mod backend;
mod disk;
mod entry;
mod error;
mod image;
mod log;
mod machine;
mod network;
mod proposer;
mod quorum;
mod writer;

pub use error::{MetadataError, SubmitError};
pub use image::ClusterImage;
pub use quorum::{Quorum, QuorumMember};

use disk::RaftFile;
use entry::Raft;
use image::Images;
use log::LogStore;
use machine::{Disk, StateMachine};
use network::NoPeers;
use proposer::{Identity, Log, Proposer};
use writer::Writer;

/// Where the time comes from: ms since the Unix epoch.
pub type NowSource = Arc<dyn Fn() -> TimestampMs + Send + Sync>;

/// How long a command may take by default.
pub const SUBMIT_DEADLINE: Duration = Duration::from_secs(10);
/// Log entries between two snapshots by default.
pub const SNAPSHOT_EVERY: u64 = 2_000;
/// Log entries that stay behind a snapshot: a node that is a little behind needs no snapshot.
const KEPT_BEHIND_SNAPSHOT: u64 = 20;
/// How long the log may take to become ready at start.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long closing may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// What the metadata need to start.
#[derive(Clone)]
pub struct MetadataConfig {
    /// The broker's data directory; the metadata live in `metadata/` in it.
    pub data_dir: PathBuf,
    /// This node, from 0.
    pub node_id: NodeId,
    /// Id of the cluster, if the data directory is new: 22 characters of URL-safe base64. None: a random one.
    pub cluster_id_if_new: Option<String>,
    /// Where clients reach this broker.
    pub listeners: Vec<Listener>,
    /// Where this broker stands.
    pub rack: Option<String>,
    /// Log entries between two snapshots, at least 1; usually [`SNAPSHOT_EVERY`].
    pub snapshot_every: u64,
}

/// The cluster's metadata on this broker. Copies share it.
#[derive(Clone)]
pub struct Metadata {
    inner: Arc<Inner>,
}

struct Inner {
    raft: Raft,
    images: Arc<Images>,
    proposer: Mutex<Option<Proposer>>,
    writer: Writer,
    writer_thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    identity: Arc<Identity>,
    incarnation: Uuid,
    rack: Option<String>,
}

impl Metadata {
    /// Opens the metadata, or makes a new cluster of one node, and registers this broker.
    ///
    /// Every start is a new process of the broker: it gets a new broker epoch, and the partitions that it leads a new
    /// leader epoch (see `coordinator::cluster`).
    ///
    /// # Errors
    /// [`MetadataError`] says what is wrong with which file, and what to do.
    pub async fn open(config: MetadataConfig, now: NowSource) -> Result<Metadata, MetadataError> {
        let raft_id = u64::try_from(config.node_id)
            .map_err(|_| MetadataError::Invalid(format!("the node id {} is negative", config.node_id)))?;
        let folder = config.data_dir.join("metadata");
        let node_id = config.node_id;
        let opened = tokio::task::spawn_blocking({
            let folder = folder.clone();
            move || RaftFile::open(&folder, node_id)
        });
        let (file, mut contents) = opened.await.map_err(|error| MetadataError::Stopped(error.to_string()))??;
        let (writer, file, thread) = Writer::start(file).map_err(|source| MetadataError::Io {
            doing: "start a thread for",
            path: folder.clone(),
            source,
        })?;
        let images = Arc::new(Images::new());
        let disk = Disk { file, writer: writer.clone() };
        let machine = StateMachine::new(contents.snapshot.take(), images.clone(), disk)
            .map_err(|detail| MetadataError::Damaged { path: folder.join("raft.redb"), detail })?;
        let last = contents.entries.last_key_value().map(|(index, _)| *index);
        let raft = start_raft(raft_id, config.snapshot_every, LogStore::new(contents, writer.clone()), machine).await?;
        let identity = Arc::new(Identity { node_id, broker_epoch: AtomicI64::new(-1) });
        let log = Log { raft: raft.clone(), images: images.clone(), now };
        let metadata = Metadata {
            inner: Arc::new(Inner {
                proposer: Mutex::new(Some(Proposer::start(log, identity.clone()))),
                raft,
                images,
                writer,
                writer_thread: Mutex::new(Some(thread)),
                identity,
                incarnation: Uuid::new_v4(),
                rack: config.rack,
            }),
        };
        metadata.become_ready(raft_id, last).await?;
        metadata.create_cluster(config.cluster_id_if_new).await?;
        metadata.register(config.listeners).await?;
        metadata.inner.writer.wait_for_room(true);
        Ok(metadata)
    }

    /// The newest image. Cheap; take it once per request, so that all of it speaks of the same state.
    #[must_use]
    pub fn image(&self) -> Arc<ClusterImage> {
        self.inner.images.current()
    }

    /// Tells of every new image; images that come fast may be skipped, the last one never is.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.inner.images.watch()
    }

    /// This broker as the cluster knows it.
    #[must_use]
    pub fn broker(&self) -> BrokerRef {
        let identity = &self.inner.identity;
        BrokerRef { broker_id: identity.node_id, broker_epoch: identity.broker_epoch.load(Ordering::Acquire) }
    }

    /// Hands in a command and waits up to [`SUBMIT_DEADLINE`].
    ///
    /// # Errors
    /// See [`Metadata::submit_within`].
    pub async fn submit(&self, command: Command) -> Result<Reply, SubmitError> {
        self.submit_within(command, SUBMIT_DEADLINE).await
    }

    /// Hands in a command and waits for it to be durable and applied.
    ///
    /// The command keeps its place if the caller drops the future: it may be applied all the same.
    ///
    /// # Errors
    /// [`SubmitError`] tells whether the command was certainly not applied; refusals of the cluster are errors, too.
    pub async fn submit_within(&self, command: Command, patience: Duration) -> Result<Reply, SubmitError> {
        let proposer = self.inner.proposer.lock().clone();
        match proposer {
            Some(proposer) => proposer.submit(command, patience).await,
            None => Err(SubmitError::NotApplied { reason: "the metadata log is closed".to_owned() }),
        }
    }

    /// Announces other addresses of this broker. Epochs and leaderships stay.
    ///
    /// # Errors
    /// [`MetadataError::Refused`] or [`MetadataError::Stopped`].
    pub async fn register(&self, listeners: Vec<Listener>) -> Result<(), MetadataError> {
        let request = RegisterBroker {
            broker_id: self.inner.identity.node_id,
            incarnation: self.inner.incarnation,
            listeners,
            rack: self.inner.rack.clone(),
            ..RegisterBroker::default()
        };
        let reply = self.submit(Command::RegisterBroker(request)).await;
        if let Reply::BrokerRegistered { broker_epoch } = reply.map_err(at_start)? {
            self.inner.identity.broker_epoch.store(broker_epoch, Ordering::Release);
        }
        Ok(())
    }

    /// Whether the log still takes commands.
    ///
    /// # Errors
    /// [`MetadataError::Stopped`] after a failure of the disk: the broker must be started again.
    pub fn health(&self) -> Result<(), MetadataError> {
        let state = self.inner.raft.metrics().borrow().running_state.clone();
        state.map_err(|fatal| MetadataError::Stopped(fatal.to_string()))
    }

    /// Ends the log and lets go of its file. What was acknowledged is durable without it.
    pub async fn close(&self) {
        drop(self.inner.proposer.lock().take());
        self.inner.writer.wait_for_room(false);
        let shutdown = Box::pin(self.inner.raft.shutdown());
        if !matches!(tokio::time::timeout(CLOSE_WITHIN, shutdown).await, Ok(Ok(()))) {
            tracing::warn!("the metadata log did not end in good order");
        }
        self.inner.writer.stop();
        let thread = self.inner.writer_thread.lock().take();
        if let Some(thread) = thread {
            // A panic of the thread was logged when it happened.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    /// Leads the log, and has applied everything that was in it.
    async fn become_ready(&self, raft_id: u64, last: Option<u64>) -> Result<(), MetadataError> {
        let stopped = |error: String| MetadataError::Stopped(error);
        let raft = &self.inner.raft;
        if !raft.is_initialized().await.map_err(|error| stopped(error.to_string()))? {
            let members = BTreeMap::from([(raft_id, BasicNode::default())]);
            Box::pin(raft.initialize(members)).await.map_err(|error| stopped(error.to_string()))?;
        } else if raft.current_leader().await.is_none() {
            raft.trigger().elect().await.map_err(|error| stopped(error.to_string()))?;
        }
        let wait = raft.wait(Some(READY_WITHIN));
        let is_ready = move |metrics: &openraft::RaftMetrics<u64, BasicNode>| {
            metrics.current_leader == Some(raft_id) && metrics.last_applied.map(|id| id.index) >= last
        };
        match Box::pin(wait.metrics(is_ready, "this node leads and has applied its log")).await {
            Ok(_) => Ok(()),
            Err(openraft::metrics::WaitError::Timeout(waited, detail)) => {
                Err(MetadataError::NotReady { waited, detail })
            }
            Err(error) => Err(stopped(error.to_string())),
        }
    }

    async fn create_cluster(&self, wanted: Option<String>) -> Result<(), MetadataError> {
        if !self.image().cluster_id().is_empty() {
            return Ok(());
        }
        let cluster_id = wanted.unwrap_or_else(|| new_topic_id().to_string());
        let command = Command::CreateCluster { cluster_id, metadata_version: METADATA_VERSION };
        self.submit(command).await.map(|_| ()).map_err(at_start)
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata").field("broker", &self.broker()).finish_non_exhaustive()
    }
}

impl fmt::Debug for MetadataConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetadataConfig")
            .field("data_dir", &self.data_dir)
            .field("node_id", &self.node_id)
            .finish_non_exhaustive()
    }
}

/// A random id for a topic, none of those that Kafka reserves. Like Kafka's, its text does not start with a dash, which a
/// command line would take for an option.
#[must_use]
pub fn new_topic_id() -> TopicId {
    loop {
        let id = TopicId(Uuid::new_v4());
        if !id.to_string().starts_with('-') {
            return id;
        }
    }
}

async fn start_raft(
    raft_id: u64,
    snapshot_every: u64,
    log: LogStore,
    machine: StateMachine,
) -> Result<Raft, MetadataError> {
    let config = Config {
        cluster_name: "firn".to_owned(),
        heartbeat_interval: 500,
        election_timeout_min: 1_500,
        election_timeout_max: 3_000,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(snapshot_every),
        max_in_snapshot_log_to_keep: KEPT_BEHIND_SNAPSHOT,
        ..Config::default()
    };
    let config = config.validate().map_err(|error| MetadataError::Invalid(error.to_string()))?;
    let raft = Box::pin(Raft::new(raft_id, Arc::new(config), NoPeers, log, machine)).await;
    raft.map_err(|error| MetadataError::Stopped(error.to_string()))
}

fn at_start(error: SubmitError) -> MetadataError {
    match error {
        SubmitError::Refused(error) => MetadataError::Refused(error),
        error => MetadataError::Stopped(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
