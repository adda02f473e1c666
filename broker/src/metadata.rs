//! Drives the cluster's metadata: the machine `coordinator::cluster` behind one Raft log (D5), on disk under
//! `<data_dir>/metadata/`.
//!
//! Readers take an immutable image, or wait for the next. Writers submit commands; a command is acknowledged when its log
//! entry is durable and applied, so that it survives SIGKILL and power cuts, and its effect is in the image by then.
//! A command is applied once, however often the log is asked to take it.
//!
//! Rooms, from the command down: `parts` (large requests as several commands), `proposer` (batches, tried until they are
//! answered), `settling` (decided here, or by the node that leads the log), `entry` (what stands in the log), `machine`
//! (applies it), `log` and `writer` (keep it), `purging` (drops what a snapshot covers), `disk` (the file's layout) on `backend`
//! (a disk that may be full), `image` (what readers see), `quorum` and `gauges` (who leads and votes).
//! Other nodes: `peers` (where they are), `network` and `bulk` (ask them for Raft), `rpc` (answers them), `formation` (how a cluster
//! comes about), `entering` (how a node becomes part of it at start), `sessions` and `liveness` (who is alive), `processes` (one per node id), `impaired` (nodes whose disk is unfit), `confirming`
//! (whether that is still so), `succession` (who leads what a broker led), `leaving` (what comes before a stop), `balancing` (who should lead), `widening` (replicas
//! that are waited for), `recovery` (when most voters are lost).

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use coordinator::cluster::{BrokerRef, Command, Listener, MetadataVersions, Reply};
use model::settings::SettingsMap;
use model::{NodeId, TimestampMs, TopicId};
use openraft::{Config, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::{HostPort, MemberList};
use crate::machine::blocking;
use crate::supervision;

mod backend;
mod balancing;
mod bulk;
mod confirming;
mod disk;
mod entering;
mod entry;
mod error;
mod formation;
mod gauges;
mod image;
mod impaired;
mod leaving;
mod liveness;
mod log;
mod machine;
mod network;
pub(crate) mod parts;
mod peers;
mod processes;
mod proposer;
mod purging;
mod quorum;
mod recovery;
pub(crate) mod rpc;
mod sessions;
mod settling;
mod succession;
mod up_to_date;
mod voters;
mod widening;
mod writer;

pub use error::{MetadataError, SubmitError};
pub use image::ClusterImage;
pub use quorum::{Quorum, QuorumMember};
pub use recovery::{Recovery, examine, recover};
pub use voters::{VoterChange, VoterError};

use confirming::Looks;
pub(crate) use confirming::OutOfDate;
use disk::{Contents, RaftFile};
use entry::Raft;
pub(crate) use impaired::{DiskFault, Impairment};

use image::Images;
use log::LogStore;
use machine::{Disk, StateMachine};
use network::Network;
use peers::Peers;
use processes::Processes;
use proposer::{Identity, Proposer};
use sessions::Sessions;
use settling::Log;
use writer::{Writer, Writing};

/// Where the time comes from: ms since the Unix epoch.
pub type NowSource = Arc<dyn Fn() -> TimestampMs + Send + Sync>;

/// What the metadata versions are called among Kafka's features. Not `metadata.version`: Kafka's tools read its levels as
/// releases of Kafka.
pub const METADATA_FEATURE: &str = "firn.metadata.version";
/// How long a command may take by default.
pub const SUBMIT_DEADLINE: Duration = Duration::from_secs(10);
/// Log entries between two snapshots by default.
pub const SNAPSHOT_EVERY: u64 = 2_000;
/// Most log entries that another node is asked to take at once; their bytes have a limit, too (`log`).
const MAX_ENTRIES_AT_ONCE: u64 = 512;
/// How long a snapshot may be on its way to another node at least, in ms. A large one may take longer (`bulk`).
const SNAPSHOT_WITHIN_MS: u64 = 60_000;
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
    /// Id of what this broker's disk holds; see `coordinator::cluster::Broker`.
    pub disk_id: Option<Uuid>,
    /// The defaults for topic settings that this broker's configuration states.
    pub topic_defaults: SettingsMap,
    /// The metadata versions that this node takes part in; usually [`MetadataVersions::OF_THIS_BUILD`].
    pub metadata_versions: MetadataVersions,
    /// Log entries between two snapshots, at least 1; usually [`SNAPSHOT_EVERY`].
    pub snapshot_every: u64,
    /// Where this node comes from, if its data directory is new, and where it is reached.
    pub place: Place,
}

/// A node's place among others.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// Where other nodes reach this one's internal listener, as `HOST:PORT`.
    pub internal: String,
    /// The first voters of the cluster, this node among them; none for a cluster of one, and for a node that joins.
    pub peers: MemberList,
    /// A node of the cluster to join.
    pub join: Option<HostPort>,
}

/// The cluster's metadata on this broker. Copies share it.
#[derive(Clone)]
pub struct Metadata {
    inner: Arc<Inner>,
}

struct Inner {
    raft: Raft,
    raft_id: u64,
    images: Arc<Images>,
    peers: Arc<Peers>,
    sessions: Arc<Sessions>,
    looks: Looks,
    proposer: Mutex<Option<Proposer>>,
    writer: Writer,
    writing: Mutex<Option<Writing>>,
    identity: Arc<Identity>,
    /// Of this process, or of its latest registration after a fault of its disk.
    incarnation: Mutex<Uuid>,
    processes: Processes,
    rack: Option<String>,
    disk_id: Option<Uuid>,
    topic_defaults: SettingsMap,
    metadata_versions: MetadataVersions,
    listeners: Vec<Listener>,
    place: Place,
    cluster_id_if_new: Option<String>,
    /// Last entry in the log when it was opened.
    last_at_start: Option<u64>,
    /// No other process is alive under this node id, as far as others hear: this one may stand for election.
    may_stand: AtomicBool,
    /// When this node last had a quorum.
    had_quorum: Mutex<Option<Instant>>,
    /// What other nodes asked of Raft here.
    slots: rpc::Slots,
    /// Raft's questions are answered.
    is_admitted: AtomicBool,
    /// A file that is there after a recovery, until the numbers of what was lost are passed over.
    recovery_mark: PathBuf,
    /// This broker serves, and may lead.
    is_serving: watch::Sender<bool>,
    /// What is wrong with this node's disk.
    impairment: watch::Sender<Option<Impairment>>,
    closing: CancellationToken,
}

impl Metadata {
    /// Opens the metadata, becomes part of the cluster, and registers this broker: [`Metadata::start`], then
    /// [`Metadata::enter`]. A node with peers must have its internal listener served in between.
    ///
    /// # Errors
    /// [`MetadataError`] says what is wrong with which file, and what to do.
    pub async fn open(config: MetadataConfig, now: NowSource) -> Result<Metadata, MetadataError> {
        let metadata = Metadata::start(config, now).await?;
        metadata.enter().await?;
        Ok(metadata)
    }

    /// Opens the metadata of this node. They take part in nothing before [`Metadata::enter`].
    ///
    /// # Errors
    /// [`MetadataError`] says what is wrong with which file, and what to do.
    pub async fn start(config: MetadataConfig, now: NowSource) -> Result<Metadata, MetadataError> {
        if config.node_id < 0 {
            return Err(MetadataError::Invalid(format!("the node id {} is negative", config.node_id)));
        }
        let (raft_id, node_id) = (raft_id(config.node_id), config.node_id);
        let folder = config.data_dir.join("metadata");
        let (file, mut contents) = open_file(folder.clone(), node_id).await?;
        let (writer, file, writing) = Writer::start(file).map_err(|source| MetadataError::Io {
            doing: "start a thread for",
            path: folder.clone(),
            source,
        })?;
        let images = Arc::new(Images::new());
        let snapshot_bytes = Arc::new(AtomicUsize::new(0));
        let disk = Disk { file, writer: writer.clone(), snapshot_bytes: snapshot_bytes.clone() };
        let machine = StateMachine::new(contents.snapshot.take(), images.clone(), disk)
            .map_err(|detail| MetadataError::Damaged { path: folder.join("raft.redb"), detail })?;
        let last = contents.entries.last_key_value().map(|(index, _)| *index);
        let peers = Peers::new(images.clone(), config.place.peers.clone());
        let log = LogStore::new(contents, writer.clone());
        let network = Network { peers: peers.clone() };
        let raft = start_raft(raft_id, config.snapshot_every, network, log.clone(), machine).await?;
        let is_old = raft.is_initialized().await.map_err(|error| MetadataError::Stopped(error.to_string()))?;
        let identity = Arc::new(Identity { node_id, broker_epoch: AtomicI64::new(-1) });
        // It stands for election once it is known that no other process does so in its name (`processes`).
        raft.runtime_config().elect(false);
        let (metrics, entries, sessions) = (raft.metrics(), log, Sessions::new());
        let processes = Processes { node_id, own: Uuid::new_v4(), sessions: sessions.clone() };
        let log = Log {
            raft: raft.clone(),
            raft_id,
            images: images.clone(),
            peers: peers.clone(),
            now,
            processes: processes.clone(),
        };
        let inner = Inner {
            proposer: Mutex::new(Some(Proposer::start(log, identity.clone()))),
            raft,
            raft_id,
            images,
            peers,
            sessions,
            looks: Looks::new(),
            writer,
            writing: Mutex::new(Some(writing)),
            identity,
            incarnation: Mutex::new(processes.own),
            processes,
            rack: config.rack,
            disk_id: config.disk_id,
            topic_defaults: config.topic_defaults,
            metadata_versions: config.metadata_versions,
            listeners: config.listeners,
            place: config.place,
            cluster_id_if_new: config.cluster_id_if_new,
            last_at_start: last,
            may_stand: AtomicBool::new(false),
            had_quorum: Mutex::new(None),
            slots: rpc::Slots::new(),
            is_admitted: AtomicBool::new(is_old),
            recovery_mark: recovery::mark(&folder),
            is_serving: watch::Sender::new(false),
            impairment: watch::Sender::new(None),
            closing: CancellationToken::new(),
        };
        let inner = Arc::new(inner);
        let purging = purging::purge(Arc::downgrade(&inner), metrics, entries, snapshot_bytes);
        tokio::spawn(supervision::without_panic("metadata-purging", purging));
        Ok(Metadata { inner })
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

    /// This broker as the cluster knows it: an image that shows its registration may be here before the answer to it.
    #[must_use]
    pub fn broker(&self) -> BrokerRef {
        let identity = &self.inner.identity;
        let incarnation = *self.inner.incarnation.lock();
        let image = self.image();
        let known = image.broker(identity.node_id).filter(|known| known.incarnation == incarnation);
        let broker_epoch = known.map_or_else(|| identity.broker_epoch.load(Ordering::Acquire), |known| known.epoch);
        BrokerRef { broker_id: identity.node_id, broker_epoch }
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

    /// Whether the log still takes commands.
    ///
    /// # Errors
    /// [`MetadataError::Stopped`] after a failure of the disk: the broker must be started again.
    pub fn health(&self) -> Result<(), MetadataError> {
        let state = self.inner.raft.metrics().borrow().running_state.clone();
        state.map_err(|fatal| MetadataError::Stopped(fatal.to_string()))
    }

    /// True when the task of the metadata log has ended by a panic. The library does not report it; the task just ends.
    pub(crate) fn has_panicked(&self) -> bool {
        let metrics = self.inner.raft.metrics();
        metrics.has_changed().is_err() && metrics.borrow().running_state.is_ok() && !self.inner.closing.is_cancelled()
    }

    /// Has the task of the metadata log panic, for a test.
    async fn panic_when_wanted(&self) {
        if supervision::is_panic_wanted("raft").await {
            self.inner.raft.external_request(|_| panic!("a test wants raft to panic"));
        }
    }

    /// True while the disk has no space for the metadata log: its changes wait.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.inner.writer.is_full()
    }

    /// How long the metadata log's write under way has taken; `None` while there is none.
    pub(crate) fn writing_for(&self) -> Option<Duration> {
        self.inner.writer.committing_for()
    }

    /// Ends the log and lets go of its file. What was acknowledged is durable without it.
    pub async fn close(&self) {
        self.inner.closing.cancel();
        drop(self.inner.proposer.lock().take());
        self.inner.writer.wait_for_room(false);
        let shutdown = Box::pin(self.inner.raft.shutdown());
        if !matches!(tokio::time::timeout(CLOSE_WITHIN, shutdown).await, Ok(Ok(()))) {
            tracing::warn!("the metadata log did not end in good order");
        }
        self.inner.writer.stop();
        let writing = self.inner.writing.lock().take();
        if let Some(writing) = writing {
            writing.ended().await;
        }
    }

    fn node_id(&self) -> NodeId {
        self.inner.identity.node_id
    }

    /// True when this node leads the log.
    fn leads(&self) -> bool {
        self.inner.raft.metrics().borrow().current_leader == Some(self.inner.raft_id)
    }

    /// True when this node takes part in a cluster, or may.
    fn is_admitted(&self) -> bool {
        self.inner.is_admitted.load(Ordering::Acquire)
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

async fn open_file(folder: PathBuf, node_id: NodeId) -> Result<(RaftFile, Contents), MetadataError> {
    let opened = blocking::spawn(move || RaftFile::open(&folder, node_id));
    opened.await.map_err(|error| MetadataError::Stopped(error.to_string()))?
}

async fn start_raft(
    raft_id: u64,
    snapshot_every: u64,
    network: Network,
    log: LogStore,
    machine: StateMachine,
) -> Result<Raft, MetadataError> {
    let (election_timeout_min, election_timeout_max) = election_timeouts();
    let config = Config {
        cluster_name: "firn".to_owned(),
        heartbeat_interval: 300,
        election_timeout_min,
        election_timeout_max,
        max_payload_entries: MAX_ENTRIES_AT_ONCE,
        install_snapshot_timeout: SNAPSHOT_WITHIN_MS,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(snapshot_every),
        // Entries are dropped by their bytes (`purging`).
        max_in_snapshot_log_to_keep: u64::MAX,
        ..Config::default()
    };
    let config = config.validate().map_err(|error| MetadataError::Invalid(error.to_string()))?;
    let raft = Box::pin(Raft::new(raft_id, Arc::new(config), network, log, machine)).await;
    raft.map_err(|error| MetadataError::Stopped(error.to_string()))
}

/// Between how many ms and how many a voter that hears no leader waits until it stands for election.
fn election_timeouts() -> (u64, u64) {
    if cfg!(feature = "simulation") {
        // openraft draws from a generator that nobody can pin: it is left nothing to draw.
        let drawn = rand::random_range(1_000..2_000);
        return (drawn, drawn + 1);
    }
    (1_000, 2_000)
}

/// Raft's name for a node. Ids are never negative.
fn raft_id(node_id: NodeId) -> u64 {
    u64::try_from(node_id).unwrap_or_default()
}

/// The node of that name in Raft.
fn node_id(raft_id: u64) -> NodeId {
    NodeId::try_from(raft_id).unwrap_or(NodeId::MAX)
}

#[cfg(test)]
mod tests;
