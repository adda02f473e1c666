//! Four brokers of which some replicate a partition under what the cluster decides: whoever leads has all that was acknowledged.
//!
//! A model of the protocol, not of its code: a log is a list of numbers, a fetch cuts the follower to what it shares with
//! the leader and copies the rest, the high watermark is what every member of the ISR has confirmed. Brokers act on images of
//! any age, processes are killed, disks lost, fenced brokers are still running.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Number of the brokers, from 1.
const BROKERS: i32 = 4;

#[derive(Debug, Clone)]
enum Step {
    Kill(NodeId),
    Start {
        broker: NodeId,
        is_disk_lost: bool,
    },
    Fence(NodeId),
    Unfence(NodeId),
    ShutDown(NodeId),
    Observe(NodeId),
    Produce(NodeId),
    Fetch(NodeId),
    Alter {
        broker: NodeId,
        wanted: Vec<NodeId>,
    },
    SetMin(i32),
    /// None: cancels.
    Reassign(Option<Vec<NodeId>>),
}

fn step() -> impl Strategy<Value = Step> {
    let broker = 1..=BROKERS;
    prop_oneof![
        2 => broker.clone().prop_map(Step::Kill),
        3 => (broker.clone(), prop::bool::weighted(0.1))
            .prop_map(|(broker, is_disk_lost)| Step::Start { broker, is_disk_lost }),
        2 => broker.clone().prop_map(Step::Fence),
        4 => broker.clone().prop_map(Step::Unfence),
        1 => broker.clone().prop_map(Step::ShutDown),
        12 => broker.clone().prop_map(Step::Observe),
        12 => broker.clone().prop_map(Step::Produce),
        16 => broker.clone().prop_map(Step::Fetch),
        8 => (broker, prop::collection::vec(1..=BROKERS, 0..3))
            .prop_map(|(broker, wanted)| Step::Alter { broker, wanted }),
        1 => (1..=2_i32).prop_map(Step::SetMin),
        2 => prop::option::weighted(0.7, prop::collection::vec(1..=BROKERS, 1..4)).prop_map(Step::Reassign),
    ]
}

/// A broker: its disk, its process, and what it knows as a leader.
#[derive(Debug, Default)]
struct Node {
    log: Vec<u32>,
    disk: u128,
    process: u128,
    is_running: bool,
    epoch: i64,
    image: Cluster,
    led_epoch: i32,
    epoch_start: usize,
    high_watermark: usize,
    /// Broker epoch and confirmed length of each follower.
    fetched: BTreeMap<NodeId, (i64, usize)>,
    /// Members that the cluster accepted and the image does not show yet.
    pending: BTreeSet<NodeId>,
}

struct World {
    scene: Scene,
    nodes: BTreeMap<NodeId, Node>,
    id: TopicPartition,
    acknowledged: Vec<u32>,
    next: u32,
    has_lost_disks: bool,
}

impl World {
    fn new() -> World {
        let mut scene = Scene::with_brokers(0);
        let mut nodes = BTreeMap::new();
        for id in 1..=BROKERS {
            nodes.insert(id, Node { disk: 1, ..Node::default() });
            scene.run(Command::RegisterBroker(RegisterBroker { log_id: log_id(1), ..registration(id, 1) }));
        }
        scene.create(assigned("t", &[&[1, 2, 3]])).unwrap();
        let id = scene.id("t", 0);
        let mut world = World { scene, nodes, id, acknowledged: Vec::new(), next: 0, has_lost_disks: false };
        for broker in 1..=BROKERS {
            let epoch = world.scene.broker(broker).broker_epoch;
            let node = world.nodes.get_mut(&broker).unwrap();
            (node.process, node.is_running, node.epoch) = (1, true, epoch);
            world.observe(broker);
        }
        world
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Kill(broker) => self.nodes.get_mut(&broker).unwrap().is_running = false,
            Step::Start { broker, is_disk_lost } if !self.nodes[&broker].is_running => self.start(broker, is_disk_lost),
            Step::Fence(broker) => self.scene.fence(broker),
            Step::Unfence(broker) if self.is_current(broker) => self.scene.unfence(broker),
            Step::ShutDown(broker) if self.is_current(broker) => {
                let broker = self.scene.broker(broker);
                self.scene.run(Command::ShutDownBroker(broker));
            }
            Step::Observe(broker) if self.nodes[&broker].is_running => self.observe(broker),
            Step::Produce(broker) if self.leads(broker) => {
                self.next += 1;
                self.nodes.get_mut(&broker).unwrap().log.push(self.next);
            }
            Step::Fetch(broker) if self.nodes[&broker].is_running => self.fetch(broker),
            Step::Alter { broker, wanted } if self.leads(broker) => self.alter(broker, &wanted),
            Step::SetMin(value) => self.set_min(value),
            Step::Reassign(replicas) => {
                let changes = vec![Reassignment { partition: self.id, replicas }];
                self.scene.run(Command::AlterReassignments { changes, keep_replication_factor: false });
            }
            _ => {}
        }
        let leader = self.scene.partition("t", 0).leader;
        if let Some(node) = self.nodes.get(&leader) {
            let kept = &self.acknowledged;
            assert!(node.log.starts_with(kept), "{leader} leads with {:?} and lacks some of {kept:?}", node.log);
        }
    }

    fn start(&mut self, broker: NodeId, is_disk_lost: bool) {
        // The only replica goes on with what it finds: that is not what is asked here.
        let is_disk_lost = is_disk_lost && self.scene.partition("t", 0).replicas.len() > 1;
        self.has_lost_disks |= is_disk_lost;
        let old = &self.nodes[&broker];
        let (disk, log) = if is_disk_lost { (old.disk + 1, Vec::new()) } else { (old.disk, old.log.clone()) };
        let process = old.process + 1;
        let request = RegisterBroker { is_fenced: true, log_id: log_id(disk), ..registration(broker, process) };
        let Reply::BrokerRegistered { broker_epoch: epoch } = self.scene.run(Command::RegisterBroker(request)) else {
            panic!("broker {broker} was refused");
        };
        self.nodes.insert(broker, Node { log, disk, process, is_running: true, epoch, ..Node::default() });
        self.observe(broker);
    }

    /// All are started anew, whatever they were.
    fn restart_all(&mut self) {
        for broker in 1..=BROKERS {
            self.run(Step::Kill(broker));
            self.run(Step::Start { broker, is_disk_lost: false });
            self.run(Step::Unfence(broker));
        }
    }

    fn observe(&mut self, broker: NodeId) {
        let node = self.nodes.get_mut(&broker).unwrap();
        node.image = self.scene.state.clone();
        node.pending.clear();
        let partition = node.image.partition(self.id).unwrap();
        if partition.leader == broker && partition.leader_epoch != node.led_epoch {
            (node.led_epoch, node.epoch_start, node.high_watermark) = (partition.leader_epoch, node.log.len(), 0);
            node.fetched.clear();
        }
        self.advance(broker);
    }

    fn fetch(&mut self, follower: NodeId) {
        let seen = self.nodes[&follower].image.partition(self.id).unwrap().clone();
        if seen.leader == follower || !self.leads(seen.leader) {
            return;
        }
        let leader = &self.nodes[&seen.leader];
        if leader.image.partition(self.id).unwrap().leader_epoch != seen.leader_epoch {
            return;
        }
        let source = leader.log.clone();
        let node = self.nodes.get_mut(&follower).unwrap();
        let shared = source.iter().zip(&node.log).take_while(|(theirs, own)| theirs == own).count();
        let confirmed = (node.epoch, shared);
        node.log = source;
        self.nodes.get_mut(&seen.leader).unwrap().fetched.insert(follower, confirmed);
        self.advance(seen.leader);
    }

    fn alter(&mut self, broker: NodeId, wanted: &[NodeId]) {
        let node = &self.nodes[&broker];
        let partition = node.image.partition(self.id).unwrap();
        let is_caught_up = |id: &NodeId| {
            node.fetched.get(id).is_some_and(|(_, len)| *len >= node.high_watermark.max(node.epoch_start))
        };
        let wanted: BTreeSet<NodeId> = wanted.iter().copied().chain([broker]).collect();
        let can_be = |id: &NodeId| partition.isr.contains(id) || is_caught_up(id);
        let epoch_of = |id: &NodeId| if *id == broker { node.epoch } else { node.fetched.get(id).map_or(-1, |f| f.0) };
        let members = wanted.iter().filter(|id| can_be(id));
        let isr: Vec<BrokerRef> = members.map(|id| BrokerRef { broker_id: *id, broker_epoch: epoch_of(id) }).collect();
        let Partition { leader_epoch, partition_epoch, .. } = *partition;
        let change = IsrChange { partition: self.id, leader_epoch, partition_epoch, isr: isr.clone() };
        let leader = BrokerRef { broker_id: broker, broker_epoch: node.epoch };
        let reply = self.scene.run(Command::AlterPartitions { broker: leader, changes: vec![change] });
        if matches!(reply, Reply::PartitionsAltered(outcomes) if outcomes[0].is_ok()) {
            self.nodes.get_mut(&broker).unwrap().pending = isr.iter().map(|member| member.broker_id).collect();
        }
    }

    /// The leader moves its high watermark: everything below is acknowledged.
    fn advance(&mut self, broker: NodeId) {
        if !self.leads(broker) {
            return;
        }
        let node = self.nodes.get_mut(&broker).unwrap();
        let isr = &node.image.partition(self.id).unwrap().isr;
        if isr.len() < node.image.min_insync_replicas(self.id) {
            return;
        }
        let others = isr.iter().chain(&node.pending).filter(|id| **id != broker);
        let confirmed = others.map(|id| node.fetched.get(id).map_or(0, |(_, len)| *len)).min();
        node.high_watermark = node.high_watermark.max(confirmed.unwrap_or(node.log.len()).min(node.log.len()));
        let committed = &node.log[..node.high_watermark];
        let shared = committed.len().min(self.acknowledged.len());
        assert_eq!(committed[..shared], self.acknowledged[..shared], "{broker} acknowledges another history");
        if committed.len() > shared {
            self.acknowledged = committed.to_vec();
        }
    }

    fn set_min(&mut self, value: i32) {
        let op = ConfigOp {
            name: "min.insync.replicas".to_owned(),
            kind: ConfigOpKind::Set,
            value: Some(value.to_string()),
        };
        let change =
            ConfigChange { resource: ConfigResource::Topic("t".to_owned()), edit: ConfigEdit::Incremental(vec![op]) };
        self.scene.run(Command::AlterConfigs { changes: vec![change], validate_only: false });
    }

    fn leads(&self, broker: NodeId) -> bool {
        self.nodes.get(&broker).is_some_and(|node| {
            node.is_running && node.image.partition(self.id).is_some_and(|partition| partition.leader == broker)
        })
    }

    fn is_current(&self, broker: NodeId) -> bool {
        self.nodes[&broker].is_running && self.scene.broker(broker).broker_epoch == self.nodes[&broker].epoch
    }
}

fn log_id(disk: u128) -> Option<Uuid> {
    Some(Uuid::from_u128(disk))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whoever_leads_has_all_that_was_acknowledged_and_somebody_leads_when_all_are_back(steps in prop::collection::vec(step(), 1..150)) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.run(step));
        world.restart_all();
        let partition = world.scene.partition("t", 0);
        prop_assert!(partition.has_leader() || world.has_lost_disks, "all are back and nobody leads: {partition:?}");
    }
}
