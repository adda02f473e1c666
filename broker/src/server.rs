//! A whole node: opened from its configuration, served, and stopped.
//!
//! Start: admin port → internal listener → metadata (in the cluster, registered) → archive (probed) → local log (recovered) → partitions → listener.
//! Stop: leaderships (to others) → listener and connections → groups → background work → local log → leadership of the
//! metadata log (to another) → metadata → internal listener. A kill at any point loses nothing that
//! was acknowledged; a stop only makes the next start faster.
//!
//! Every task that the node needs is supervised; which runtime it runs on: `machine/runtimes`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use coordinator::cluster::{Listener, MetadataVersions};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::admin::{self, Admin, Routes};
use crate::broker::{Broker, LISTENER};
use crate::config::{BrokerSettings, Config, HostPort};
use crate::groups::{GroupCoordinator, GroupMemory};
use crate::handlers::fetch::session::FetchSessions;
use crate::internal::{self, Internal};
use crate::machine::runtimes::{Dedicated, Runtimes};
use crate::machine::sockets::{TcpListener, bind};
use crate::machine::{self, blocking};
use crate::memory::Memory;
use crate::metadata::{Metadata, MetadataConfig, MetadataError, Place, SNAPSHOT_EVERY};
use crate::partitions::Partitions;
use crate::producer_ids::ProducerIds;
use crate::store_identity::{StoreIdentity, StoreNotOpened, StoreRefused, saying_so};
use crate::telemetry::Telemetry;
use crate::throttle::Throttles;
use crate::timing::Clock;
use crate::view::View;
use crate::{archiver, descriptors, disk_id, disk_watch, isr, net, replication, supervision};

/// How long open requests may take to finish when the node stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a start waits for the cluster to let the broker lead.
const UNFENCED_WITHIN: Duration = Duration::from_secs(10);
/// How long a stop waits for others to take over the partitions that this broker leads.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(10);
/// Fetch sessions may take one part of so many of the memory for requests, in addition.
const FETCH_SESSIONS_PARTS: usize = 8;
/// Pause between two housekeeping rounds.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be made or written.
    #[error("cannot use the data folder {path}: {source}")]
    DataDir {
        /// Which folder.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The system gives no more threads.
    #[error("cannot start a runtime: {0}")]
    Runtime(#[source] std::io::Error),
    /// A port is taken or an address does not exist.
    #[error("{0}")]
    Listen(#[source] std::io::Error),
    /// The cluster's metadata cannot be opened.
    #[error("cannot open the cluster's metadata: {0}")]
    Metadata(#[from] MetadataError),
    /// The local log cannot be opened.
    #[error("cannot open the local log: {0}")]
    Hot(#[from] hot_tier::OpenError),
    /// The object store does not answer or does not do what is needed.
    #[error("{0}")]
    Cold(#[from] cold_tier::OpenError),
    /// The object store is not the cluster's.
    #[error("{0}")]
    Store(#[from] StoreRefused),
}

impl From<StoreNotOpened> for StartError {
    fn from(error: StoreNotOpened) -> Self {
        match error {
            StoreNotOpened::Cold(error) => error.into(),
            StoreNotOpened::Refused(error) => error.into(),
        }
    }
}

/// What the binary adds to a node: leaves of the tree that nothing here waits for.
#[derive(Default)]
pub struct Extras {
    /// What they see of the node; it is filled by the start.
    pub view: View,
    /// Routes of the admin port besides its own.
    pub routes: Routes,
    /// Lines that `/health` shows below its verdict.
    pub notes: Vec<Note>,
    /// Work in the background, begun once the node serves. Each must end soon after its token is cancelled.
    pub tasks: Vec<Task>,
}

/// See [`Extras::notes`].
pub type Note = Arc<dyn Fn() -> String + Send + Sync>;

/// See [`Extras::tasks`].
pub type Task = Box<dyn FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send>;

impl std::fmt::Debug for Extras {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Extras").field("view", &self.view).field("tasks", &self.tasks.len()).finish_non_exhaustive()
    }
}

/// A running node.
#[derive(Debug)]
pub struct Server {
    broker: Arc<Broker>,
    listen: SocketAddr,
    admin: SocketAddr,
    internal: SocketAddr,
    stop_serving: CancellationToken,
    stop_background: CancellationToken,
    /// Of the admin port and the internal listener: they go last.
    stop_ports: CancellationToken,
    serving: Mutex<Option<JoinHandle<()>>>,
    background: TaskTracker,
    runtimes: Runtimes,
}

impl Server {
    /// Opens everything and serves: a node without [`Extras`].
    ///
    /// # Errors
    /// [`StartError`] names what is in the way.
    pub async fn start(config: Config) -> Result<Server, StartError> {
        Box::pin(Server::start_with(config, Extras::default())).await
    }

    /// Opens everything and serves.
    ///
    /// # Errors
    /// [`StartError`] names what is in the way.
    pub async fn start_with(config: Config, extras: Extras) -> Result<Server, StartError> {
        let started = Instant::now();
        descriptors::raise_limit(config.settings.broker.max_connections);
        std::fs::create_dir_all(&config.data_dir)
            .map_err(|source| StartError::DataDir { path: config.data_dir.clone(), source })?;
        let telemetry = Telemetry::install();
        let stop_ports = CancellationToken::new();
        // A start that fails leaves no port behind.
        let on_failure = stop_ports.clone().drop_guard();
        let runtimes = Runtimes::start().map_err(StartError::Runtime)?;
        let admin_listener = bind_on(&runtimes.admin, &config.admin).await?;
        let admin_address = admin_listener.local_addr().map_err(StartError::Listen)?;
        let Extras { view, routes, notes, tasks } = extras;
        let (notes, main) = (notes.into(), Handle::current());
        let admin = Admin { telemetry: telemetry.clone(), broker: Arc::clone(&view.0), main, notes };
        let serving = admin::serve(admin.clone(), routes, admin_listener, stop_ports.clone());
        runtimes.admin.handle().spawn(supervision::until(stop_ports.clone(), "admin-port", serving));

        let listener = bind(&config.listen).await.map_err(StartError::Listen)?;
        let listen = listener.local_addr().map_err(StartError::Listen)?;
        let internal_listener = bind_internal(&runtimes.control, &config).await?;
        let internal_address = internal_listener.local_addr().map_err(StartError::Listen)?;
        let internal = Internal::new(config.node_id, stop_ports.clone());
        let serving = internal::serve(internal.clone(), internal_listener);
        runtimes.control.handle().spawn(supervision::until(stop_ports.clone(), "internal-listener", serving));
        let addresses = Addresses { listen, internal: internal_address };
        let broker = open(config, &addresses, &internal, &runtimes.control).await?;
        let _ = admin.broker.set(Arc::clone(&broker));
        let server = Server {
            broker,
            listen,
            admin: admin_address,
            internal: internal_address,
            stop_serving: CancellationToken::new(),
            stop_background: CancellationToken::new(),
            stop_ports: on_failure.disarm(),
            serving: Mutex::new(None),
            background: TaskTracker::new(),
            runtimes,
        };
        server.serve(listener, telemetry);
        for task in tasks {
            server.start_task("extra", task(server.stop_background.clone()));
        }
        server.broker.metadata.set_serving();
        if !server.broker.metadata.wait_until_unfenced(UNFENCED_WITHIN).await {
            warn!(waited = ?UNFENCED_WITHIN, "the cluster does not let this broker lead yet");
        }
        info!(
            %listen, admin = %admin_address, internal = %internal_address, node_id = server.broker.config.node_id,
            cluster_id = server.broker.metadata.image().cluster_id(), partitions = server.broker.partitions.all().len(),
            took = ?started.elapsed(), "ready"
        );
        Ok(server)
    }

    fn serve(&self, listener: TcpListener, telemetry: Telemetry) {
        let (broker, stop) = (&self.broker, &self.stop_background);
        self.start_task("metadata-follower", follow_metadata(Arc::clone(broker), stop.clone()));
        self.start_task("isr", isr::keep(Arc::clone(broker), stop.clone()));
        self.start_task("archiver", archiver::settle(Arc::clone(broker), stop.clone()));
        self.start_task("eviction", archiver::evict(Arc::clone(broker), stop.clone()));
        self.start_task("store-identity", Arc::clone(&broker.store).keep(stop.clone()));
        self.start_task("retention", archiver::retain(Arc::clone(broker), stop.clone()));
        self.start_task("archive-follow-up", archiver::follow_up(Arc::clone(broker), stop.clone()));
        self.start_task("lineage", archiver::verify_lineages(Arc::clone(broker), stop.clone()));
        self.start_task("sweep", archiver::sweep(Arc::clone(broker), stop.clone()));
        self.start_task("replication", replication::replicate(Arc::clone(broker), stop.clone()));
        self.start_task("mending", replication::mending::mend(Arc::clone(broker), stop.clone()));
        self.start_task("follower-upkeep", replication::upkeep(Arc::clone(broker), stop.clone()));
        self.start_task("upkeep", upkeep(telemetry, stop.clone()));
        let watching = disk_watch::watch(Arc::clone(broker), stop.clone());
        let watching = supervision::until(stop.clone(), "disk-watch", watching);
        self.background.spawn_on(watching, self.runtimes.control.handle());
        let serving = net::serve(Arc::clone(broker), listener, self.stop_serving.clone());
        let serving = tokio::spawn(supervision::until(self.stop_serving.clone(), "kafka-listener", serving));
        *self.serving.lock() = Some(serving);
        broker.is_ready.store(true, Ordering::Release);
    }

    /// Starts work in the background that must not end before the node stops.
    fn start_task(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.background.spawn(supervision::until(self.stop_background.clone(), name, task));
    }

    /// Where Kafka clients are served.
    #[must_use]
    pub fn listen_address(&self) -> SocketAddr {
        self.listen
    }

    /// Where the admin API is served.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Where the other nodes of the cluster are served.
    #[must_use]
    pub fn internal_address(&self) -> SocketAddr {
        self.internal
    }

    #[cfg(feature = "simulation")]
    pub(crate) fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Returns when another process was registered in the place of this one, which must end then.
    pub async fn replaced(&self) {
        self.broker.metadata.replaced().await;
    }

    /// Stops: finishes what was begun, flushes, and closes.
    pub async fn stop(self) {
        let started = Instant::now();
        self.broker.is_ready.store(false, Ordering::Release);
        self.broker.metadata.hand_over(HANDED_OVER_WITHIN).await;
        self.stop_serving.cancel();
        self.broker.groups.resign_all();
        let serving = self.serving.lock().take();
        if let Some(serving) = serving
            && tokio::time::timeout(DRAIN_TIMEOUT, serving).await.is_err()
        {
            warn!(waited = ?DRAIN_TIMEOUT, "some connections did not finish and are cut off");
        }
        self.stop_background.cancel();
        self.background.close();
        if tokio::time::timeout(DRAIN_TIMEOUT, self.background.wait()).await.is_err() {
            warn!(waited = ?DRAIN_TIMEOUT, "some background work did not finish and is cut off");
        }
        let hot = self.broker.hot.clone();
        match blocking::spawn(move || hot.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!(%error, "the local log could not be closed cleanly, the next start recovers it"),
            Err(error) => error!(%error, "closing the local log failed"),
        }
        self.broker.metadata.resign().await;
        self.broker.metadata.close().await;
        self.stop_ports.cancel();
        info!(took = ?started.elapsed(), "stopped");
    }
}

/// Where this node really listens.
struct Addresses {
    listen: SocketAddr,
    internal: SocketAddr,
}

fn group_coordinator(settings: &BrokerSettings, clock: &Clock) -> GroupCoordinator {
    let memory = GroupMemory::new(settings.group_memory_bytes);
    GroupCoordinator::new(settings.group_settings(), memory, clock.clone())
}

async fn open(
    config: Config,
    addresses: &Addresses,
    internal: &Internal,
    control: &Dedicated,
) -> Result<Arc<Broker>, StartError> {
    let clock = Clock::default();
    let wall = clock.clone();
    let data_dir = |source| StartError::DataDir { path: config.data_dir.clone(), source };
    let disk_id = disk_id::of_folder(&config.data_dir).map_err(data_dir)?;
    let metadata_config = MetadataConfig { disk_id: Some(disk_id), ..metadata_config(&config, addresses) };
    let metadata = control.run(Metadata::start(metadata_config, Arc::new(move || wall.now_ms()))).await?;
    internal.set_metadata(metadata.clone());
    let settings = &config.settings.broker;
    let watching = internal.stopped().child_token();
    if let Some(interval) = settings.leader_balance_interval {
        let balancing = metadata.clone().keep_balanced(interval, watching.clone());
        tokio::spawn(supervision::without_panic("leader-balance", balancing));
    }
    let widening = metadata.clone().keep_widening(watching.clone());
    tokio::spawn(supervision::without_panic("replication-factor", widening));
    let liveness = metadata.clone().watch_over(settings.broker_session_timeout, watching);
    control.handle().spawn(supervision::without_panic("liveness", liveness));
    metadata.enter().await?;
    let cold_config = cold_tier::Config {
        url: config.object_store_url(),
        cluster_id: metadata.image().cluster_id().to_owned(),
        cache_bytes: settings.cold_cache_bytes,
        decode_threads: settings.cold_threads,
        archive_threads: settings.archive_concurrency,
        call_timeout: settings.object_store_timeout,
        sweep_grace: settings.sweep_grace,
        upload_part_bytes: settings.archive_part_bytes,
        ..cold_tier::Config::default()
    };
    let store_url = cold_tier::redacted(&cold_config.url).to_owned();
    let cold = saying_so(&store_url, Box::pin(machine::connect_cold(&config, cold_config))).await?;
    let store = StoreIdentity::open(cold.clone(), metadata.clone(), &config).await?;
    let partitions = Arc::new(Partitions::new());
    let flushed = Arc::clone(&partitions);
    let hot_config = hot_tier::Config {
        data_dir: config.data_dir.clone(),
        journal_bytes: settings.journal_bytes,
        max_open_files: descriptors::log_files_max(),
        producer_id_expiration_ms: u64::try_from(settings.producer_id_expiration.as_millis()).unwrap_or(u64::MAX),
        ..hot_tier::Config::default()
    };
    let on_flush = Arc::new(move |id, _end| flushed.flushed(id));
    let hot = machine::open_hot(&config, hot_config, clock.now_ms(), on_flush).await?;
    let broker = Arc::new(Broker {
        groups: group_coordinator(settings, &clock),
        following_groups: Mutex::new(None),
        isr_bell: Arc::default(),
        fetch_sessions: FetchSessions::new(
            settings.fetch_session_slots,
            settings.request_memory_bytes / FETCH_SESSIONS_PARTS,
        ),
        memory: Memory::new(settings.request_memory_bytes, settings.reply_memory_bytes),
        producer_ids: ProducerIds::default(),
        throttles: Arc::new(Throttles::new()),
        is_ready: false.into(),
        clock,
        metadata,
        hot,
        cold,
        store,
        partitions,
        config,
    });
    broker.follow_metadata().await;
    internal.set_partitions(Arc::clone(&broker.partitions));
    Ok(broker)
}

fn metadata_config(config: &Config, addresses: &Addresses) -> MetadataConfig {
    let own = || advertised(&config.listen, addresses.listen);
    let advertise = config.advertise.clone().unwrap_or_else(own);
    let listed = config.peers.get(config.node_id).cloned();
    let internal = listed.unwrap_or_else(|| advertised(&config.internal_address(), addresses.internal));
    MetadataConfig {
        data_dir: config.data_dir.clone(),
        node_id: config.node_id,
        cluster_id_if_new: None,
        listeners: vec![Listener { name: LISTENER.to_owned(), host: advertise.host, port: advertise.port }],
        rack: config.rack.clone(),
        disk_id: None,
        topic_defaults: config.settings.topic_defaults.clone(),
        metadata_versions: MetadataVersions::OF_THIS_BUILD,
        snapshot_every: SNAPSHOT_EVERY,
        place: Place { internal: internal.to_string(), peers: config.peers.clone(), join: config.join.clone() },
    }
}

/// Nobody knows the address of a node yet that starts a cluster of one: when the port that it would take is taken, another
/// one is as good.
async fn bind_internal(control: &Dedicated, config: &Config) -> Result<TcpListener, StartError> {
    let address = config.internal_address();
    let is_free = config.internal.is_none() && config.peers.is_empty() && config.join.is_none();
    match bind_on(control, &address).await {
        Err(StartError::Listen(error)) if is_free && error.kind() == std::io::ErrorKind::AddrInUse => {
            let other = bind_on(control, &HostPort { port: 0, ..address }).await?;
            let got = other.local_addr().map_err(StartError::Listen)?;
            warn!(%error, internal = %got, "the internal listener takes another port; give --internal to choose one");
            Ok(other)
        }
        bound => bound,
    }
}

/// Opens a listening socket that belongs to that runtime.
async fn bind_on(runtime: &Dedicated, address: &HostPort) -> Result<TcpListener, StartError> {
    let address = address.clone();
    runtime.run(async move { bind(&address).await }).await.map_err(StartError::Listen)
}

/// What to tell clients: the configured host, the port that we really got, and this machine's name when we listen on all
/// addresses, which no client could connect to.
fn advertised(configured: &HostPort, listen: SocketAddr) -> HostPort {
    let is_any = configured.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    let host = if is_any { host_name() } else { configured.host.clone() };
    HostPort { host, port: listen.port() }
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

async fn follow_metadata(broker: Arc<Broker>, stop: CancellationToken) {
    let mut images = broker.metadata.watch();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = images.changed() => if changed.is_err() { return },
            // A partition that could not be opened, on a full disk or with too many files open, is tried again.
            () = tokio::time::sleep(UPKEEP_INTERVAL), if broker.hot.failure().is_none() => {}
        }
        images.borrow_and_update();
        broker.follow_metadata().await;
    }
}

async fn upkeep(telemetry: Telemetry, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(UPKEEP_INTERVAL) => {}
        }
        telemetry.upkeep();
    }
}
