//! A cluster of three nodes in one thread: started, worked on, hurt, healed, and judged.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use broker::config::{HostPort, Settings};
use broker::metadata::MetadataError;
use broker::simulated::{Machine, Observer};
use broker::{Config, Server, StartError};
use model::NodeId;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::{PORT, host};
use crate::faults::{Fault, Schedule};
use crate::history::History;
use crate::invariants::Invariants;
use crate::store::Store;
use crate::workload::groups::Group;
use crate::workload::moves::MOVING;
use crate::workload::trim::TRIMMED;
use crate::workload::{self, EVENTS, Log, NODES, churn, groups, moves, settings, trim};
use crate::{pinned, trace};

/// The host of all clients.
const CLIENTS: &str = "clients";
/// Producers of each partition of the events.
const WRITERS: i32 = 2;
/// Members of the consumer group.
const MEMBERS: usize = 2;
/// Longest that a message takes, and on a slow link.
const MESSAGE_WITHIN: Duration = Duration::from_millis(6);
const SLOW_MESSAGE_WITHIN: Duration = Duration::from_millis(400);
/// Where nodes listen for each other.
const INTERNAL_PORT: u16 = 9093;
/// One step of the simulated time.
const TICK: Duration = Duration::from_millis(2);
/// How long the cluster has to come about.
const START: Duration = Duration::from_secs(2);
/// How long it has after everything was healed: all are in sync then, and everything that was begun is acknowledged.
const HEALED_WITHIN: Duration = Duration::from_secs(60);
/// Pause before a process is started again that could not start.
const START_AGAIN_AFTER: Duration = Duration::from_millis(300);
/// Short times, so that much happens in a run.
const SETTINGS: [(&str, &str); 14] = [
    ("broker.session.timeout.ms", "2000"),
    ("replica.lag.time.max.ms", "1500"),
    ("replica.socket.timeout.ms", "2000"),
    ("firn.archive.interval.ms", "100"),
    ("firn.archive.retry.max.ms", "1000"),
    ("firn.object.store.timeout.ms", "2000"),
    ("firn.cold.fetch.timeout.ms", "2000"),
    ("log.retention.check.interval.ms", "300"),
    ("firn.sweep.interval.ms", "2000"),
    ("firn.sweep.grace.ms", "60000"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.min.session.timeout.ms", "1000"),
    // For the offsets of groups: a disk may be lost.
    ("min.insync.replicas", "2"),
    ("offsets.topic.num.partitions", "2"),
];

/// What a run is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// How long faults come, in simulated time.
    pub(crate) faults_for: Duration,
    /// Syncs are not worth their name: the checks must find out.
    pub(crate) disks_lie: bool,
    /// The log is printed as it comes.
    pub(crate) prints: bool,
}

/// How a run ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) violations: Vec<String>,
    /// Stands for everything that happened.
    pub(crate) digest: u64,
    pub(crate) faults: u64,
    pub(crate) acknowledged: u64,
    pub(crate) reads: u64,
    pub(crate) simulated_s: f64,
    pub(crate) last_lines: Vec<String>,
}

/// A node's place: its process may come and go.
struct Node {
    id: NodeId,
    folder: PathBuf,
    machine: Machine,
    observer: Rc<RefCell<Option<Observer>>>,
    /// Asks the process to stop.
    stop: Rc<Notify>,
    /// Its machine runs: a request to a process that is not there is refused.
    has_power: bool,
    /// The process may run.
    may_run: Rc<Cell<bool>>,
}

impl Outcome {
    /// Of a run that came to no end of its own, with what it said.
    pub(crate) fn without_end(said: &str) -> Self {
        Outcome { violations: vec![said.to_owned()], ..Outcome::default() }
    }
}

/// What the clients and the world tell each other.
#[derive(Default)]
struct Signs {
    /// Everything that was begun to be written is acknowledged.
    is_written: Cell<bool>,
    /// The cluster is whole again.
    is_settled: Cell<bool>,
}

struct World<'a> {
    plan: Plan,
    sim: turmoil::Sim<'a>,
    nodes: Vec<Node>,
    store: Store,
    history: History,
    invariants: Invariants,
    signs: Rc<Signs>,
    /// Faults that last, and until when.
    lasting: Vec<(Fault, Duration)>,
    faults: u64,
}

/// Runs a plan on this thread, which must be new.
pub(crate) fn run(plan: Plan) -> Outcome {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let folder = folder.expect("a temporary folder can be made");
    pinned::pin(plan.seed);
    let _log = trace::begin(plan.prints, folder.path());
    let mut world = World::new(plan, folder.path());
    world.live();
    let history = world.history.clone();
    let (faults, simulated_s) = (world.faults, pinned::elapsed().as_secs_f64());
    drop(world);
    let (acknowledged, reads) = history.counts();
    let (digest, last_lines) = trace::end();
    Outcome { violations: history.violations(), digest, faults, acknowledged, reads, simulated_s, last_lines }
}

impl World<'_> {
    fn new(plan: Plan, folder: &Path) -> Self {
        let mut sim = turmoil::Builder::new()
            .rng_seed(plan.seed)
            .epoch(SystemTime::now())
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(3_600))
            .min_message_latency(Duration::from_micros(100))
            .max_message_latency(MESSAGE_WITHIN)
            .tcp_capacity(4_096)
            .enable_random_order()
            .build();
        let (store, history) = (Store::default(), History::default());
        let nodes: Vec<Node> = (1..=NODES).map(|id| Node::new(id, folder, &store)).collect();
        for node in &nodes {
            node.place(&mut sim, &history);
        }
        let (invariants, signs) = (Invariants::default(), Rc::default());
        World { plan, sim, nodes, store, history, invariants, signs, lasting: Vec::new(), faults: 0 }
    }

    /// The whole of a run.
    fn live(&mut self) {
        let hurt_until = START + self.plan.faults_for;
        let clients = use_cluster(self.history.clone(), self.signs.clone(), hurt_until);
        self.sim.client(CLIENTS, clients);
        let mut schedule = Schedule::new(StdRng::seed_from_u64(self.plan.seed), START);
        let mut is_over = false;
        while !is_over && pinned::elapsed() < hurt_until {
            is_over = self.step();
            let now = pinned::elapsed();
            self.end_faults(now);
            if let Some((fault, lasts)) = schedule.due(now) {
                self.begin(fault, now + lasts, schedule.chance());
            }
        }
        self.end_faults(Duration::MAX);
        trace::note("everything is healed");
        let deadline = pinned::elapsed() + HEALED_WITHIN;
        while !is_over && pinned::elapsed() < deadline {
            is_over = self.step();
            if self.signs.is_written.get() && self.is_whole() {
                self.signs.is_settled.set(true);
            }
        }
        if !is_over {
            let (written, whole) = (self.signs.is_written.get(), self.is_whole());
            let what = format!("not over {HEALED_WITHIN:?} after the last fault: written {written}, whole {whole}");
            self.history.violation(what);
        }
    }

    /// One step. True when there is nothing more to see.
    fn step(&mut self) -> bool {
        pinned::set_time(self.sim.elapsed());
        let is_over = self.sim.step().unwrap_or_else(|error| {
            self.history.violation(format!("a process ended with an error: {error}"));
            true
        });
        let nodes = self.nodes.iter();
        let observers = nodes.filter_map(|node| Some((node.id, node.observer.borrow().clone()?))).collect();
        self.invariants.check(&observers, &self.history);
        is_over || !self.history.violations().is_empty()
    }

    /// True when all nodes know the same metadata, and all replicas are in sync.
    fn is_whole(&self) -> bool {
        let observers = self.nodes.iter().map(|node| node.observer.borrow().clone());
        let images: Option<Vec<_>> = observers.map(|observer| observer?.image()).collect();
        images.is_some_and(|images| {
            let same = images.windows(2).all(|pair| pair[0].version() == pair[1].version());
            let alive = (1..=NODES).all(|node| images.iter().all(|image| image.is_alive(node)));
            let mut partitions = images.iter().flat_map(|image| image.partitions());
            let is_full = partitions
                .all(|(_, partition)| partition.isr.len() == partition.replicas.len() && partition.adding.is_empty());
            same && alive && is_full
        })
    }

    fn begin(&mut self, fault: Fault, until: Duration, chance: &mut StdRng) {
        trace::note(&format!("FAULT {fault:?} until {:.3}", until.as_secs_f64()));
        self.faults += 1;
        match fault {
            Fault::Kill(node) => self.kill(node),
            Fault::PowerCut(node) => self.cut_power(node, chance),
            Fault::Stop(node) => {
                let node = self.node(node);
                node.may_run.set(false);
                node.stop.notify_one();
            }
            Fault::LostDisk(node) => self.lose_disk(node),
            Fault::Leap(seconds) => pinned::set_wrong_by(seconds),
            Fault::Blackout => (1..=NODES).for_each(|node| self.cut_power(node, chance)),
            _ => {}
        }
        self.lasting.push((fault, until));
        self.link();
    }

    fn node(&mut self, id: NodeId) -> &mut Node {
        let place = usize::try_from(id - 1).unwrap_or(0);
        &mut self.nodes[place]
    }

    fn crash(&mut self, node: NodeId) {
        self.sim.crash(host(node));
        self.invariants.forget(node);
        let node = self.node(node);
        node.may_run.set(false);
        node.observer.take();
    }

    fn kill(&mut self, node: NodeId) {
        let had_power = self.node(node).has_power;
        self.crash(node);
        self.node(node).machine.kill();
        if had_power {
            self.sim.bounce(host(node));
        }
    }

    fn cut_power(&mut self, node: NodeId, chance: &mut StdRng) {
        self.crash(node);
        let disks_lie = self.plan.disks_lie;
        let node = self.node(node);
        node.has_power = false;
        if disks_lie {
            node.machine.lose_disk();
        } else {
            node.machine.cut_power(&node.folder, chance).expect("the metadata's file can be written");
        }
    }

    fn lose_disk(&mut self, node: NodeId) {
        self.crash(node);
        let node = self.node(node);
        node.has_power = false;
        node.machine.lose_disk();
        if let Err(error) = std::fs::remove_dir_all(&node.folder) {
            assert!(
                error.kind() == std::io::ErrorKind::NotFound,
                "{} cannot be removed: {error}",
                node.folder.display()
            );
        }
    }

    /// Ends what has lasted long enough, and starts processes again that nothing keeps down.
    fn end_faults(&mut self, now: Duration) {
        let before = self.lasting.len();
        self.lasting.retain(|(_, until)| *until > now);
        if self.lasting.len() == before {
            return;
        }
        self.link();
        if !self.lasting.iter().any(|(fault, _)| matches!(fault, Fault::Leap(_))) {
            pinned::set_wrong_by(0);
        }
        for node in 1..=NODES {
            let is_kept =
                |wanted: fn(&Fault, NodeId) -> bool| self.lasting.iter().any(|(fault, _)| wanted(fault, node));
            let (off, down) = (is_kept(Fault::keeps_off), is_kept(Fault::keeps_down));
            let one = self.node(node);
            if !off && !one.has_power {
                one.has_power = true;
                self.sim.bounce(host(node));
            }
            let one = self.node(node);
            if !off && !down && !one.may_run.get() {
                trace::note(&format!("node {node} starts"));
                one.may_run.set(true);
            }
        }
    }

    /// Has the network and the store be as the lasting faults want them.
    fn link(&mut self) {
        self.store.set_out(self.lasting.iter().any(|(fault, _)| *fault == Fault::StoreOut));
        let names: Vec<String> = (1..=NODES).map(host).chain([CLIENTS.to_owned()]).collect();
        for (place, a) in names.iter().enumerate() {
            for b in &names[place + 1..] {
                self.sim.repair(a.as_str(), b.as_str());
                self.sim.release(a.as_str(), b.as_str());
                self.sim.set_link_max_message_latency(a.as_str(), b.as_str(), MESSAGE_WITHIN);
            }
        }
        let others = |node: NodeId| names.iter().filter(move |name| **name != host(node));
        for (fault, _) in &self.lasting {
            match fault {
                Fault::Cut(a, b) => self.sim.partition(host(*a), host(*b)),
                Fault::CutOneWay(a, b) => self.sim.partition_oneway(host(*a), host(*b)),
                Fault::Hold(a, b) => self.sim.hold(host(*a), host(*b)),
                Fault::Slow(a, b) => {
                    self.sim.set_link_max_message_latency(host(*a), host(*b), SLOW_MESSAGE_WITHIN);
                }
                Fault::Isolate(node) => others(*node).for_each(|name| self.sim.partition(host(*node), name.as_str())),
                Fault::Stall(node) => others(*node).for_each(|name| self.sim.hold(host(*node), name.as_str())),
                _ => {}
            }
        }
    }
}

impl Node {
    fn new(id: NodeId, folder: &Path, store: &Store) -> Self {
        Node {
            id,
            folder: folder.join(host(id)),
            machine: Machine::new(Arc::new(store.clone())),
            observer: Rc::default(),
            stop: Rc::default(),
            has_power: true,
            may_run: Rc::new(Cell::new(true)),
        }
    }

    /// Gives the node its host, and starts it.
    fn place(&self, sim: &mut turmoil::Sim<'_>, history: &History) {
        let process = Process {
            config: self.config(),
            observer: self.observer.clone(),
            stop: self.stop.clone(),
            may_run: self.may_run.clone(),
            history: history.clone(),
        };
        sim.host(host(self.id), move || Box::pin(process.clone().run()));
    }

    fn config(&self) -> Config {
        let any = |port| HostPort { host: "0.0.0.0".to_owned(), port };
        let given = SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let peers: Vec<String> = (1..=NODES).map(|node| format!("{node}@{}:{INTERNAL_PORT}", host(node))).collect();
        Config {
            node_id: self.id,
            data_dir: self.folder.clone(),
            listen: any(PORT),
            advertise: Some(HostPort { host: host(self.id), port: PORT }),
            admin: any(9644),
            internal: Some(any(INTERNAL_PORT)),
            rack: Some(format!("r{}", self.id)),
            peers: peers.join(",").parse().expect("a list of nodes"),
            object_store: Some("memory://".to_owned()),
            settings: Settings::resolve(&given).expect("settings that exist"),
            machine: self.machine.clone(),
            ..Config::default()
        }
    }
}

/// A node's process, while it may run and again when it may.
#[derive(Clone)]
struct Process {
    config: Config,
    observer: Rc<RefCell<Option<Observer>>>,
    stop: Rc<Notify>,
    may_run: Rc<Cell<bool>>,
    history: History,
}

impl Process {
    async fn run(self) -> turmoil::Result {
        loop {
            if !self.may_run.get() {
                sleep(TICK).await;
                continue;
            }
            match Box::pin(Server::start(self.config.clone())).await {
                Ok(server) => self.serve(server).await,
                Err(error) => self.fail(&error).await,
            }
        }
    }

    async fn serve(&self, server: Server) {
        self.observer.replace(Some(server.observer()));
        self.stop.notified().await;
        Box::pin(server.stop()).await;
        self.observer.take();
        // What it left running is not there any more in a real process's end.
        self.config.machine.kill();
    }

    async fn fail(&self, error: &StartError) {
        let node = self.config.node_id;
        if let StartError::Metadata(MetadataError::Damaged { path, detail }) = error {
            self.history.violation(format!("node {node}: {} is damaged: {detail}", path.display()));
        }
        tracing::info!(node, %error, "cannot start, trying again");
        sleep(START_AGAIN_AFTER).await;
    }
}

/// All clients, from the making of the topics to the last reading.
async fn use_cluster(history: History, signs: Rc<Signs>, stop: Duration) -> turmoil::Result {
    let events = workload::make_topic(&EVENTS).await;
    let trimmed = Log::new(TRIMMED.name, workload::make_topic(&TRIMMED).await, 0);
    let moving = Log::new(MOVING.name, workload::make_topic(&MOVING).await, 0);
    let mut logs: Vec<Log> = (0..EVENTS.partitions).map(|partition| Log::new(EVENTS.name, events, partition)).collect();
    let mut at_work = JoinSet::new();
    for (log, writers) in logs.iter().map(|log| (log, WRITERS)).chain([(&trimmed, 1), (&moving, 1)]) {
        for writer in 0..writers {
            at_work.spawn_local(workload::write(history.clone(), log.clone(), writer, stop));
        }
        tokio::task::spawn_local(workload::read(history.clone(), log.clone(), stop));
    }
    at_work.spawn_local(trim::trim(history.clone(), trimmed.clone(), stop));
    at_work.spawn_local(moves::wander(moving.clone(), stop));
    let group = Group::new(events, history.clone());
    for _ in 0..MEMBERS {
        at_work.spawn_local(groups::take_part(group.clone(), stop));
    }
    let churned = tokio::task::spawn_local(churn::churn(history.clone(), stop));
    let setting = tokio::task::spawn_local(settings::change(stop));
    while at_work.join_next().await.is_some() {}
    let (churned, setting) = (churned.await?, setting.await?);
    signs.is_written.set(true);
    while !signs.is_settled.get() {
        sleep(TICK).await;
    }
    logs.extend([trimmed, moving, churned]);
    for log in &logs {
        workload::judge(&history, log, HEALED_WITHIN).await;
    }
    group.judge(HEALED_WITHIN).await;
    settings::judge(&history, setting, HEALED_WITHIN).await;
    Ok(())
}
