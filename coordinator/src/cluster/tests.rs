//! What the cluster decides, step by step.

use super::*;

mod answers;
mod archive;
mod brokers;
mod configs;
mod elections;
mod eligible;
mod formats;
mod log_starts;
mod random;
mod reassignments;
mod replication;
mod shutdown;
mod topics;
mod versions;
mod waiting;

/// A time; its value does not matter.
const NOW: TimestampMs = 1_700_000_000_000;

/// ISR, leader, leader epoch.
type Standing = (Vec<NodeId>, NodeId, i32);

/// A cluster under test: every command is decided, applied, and its records replayed on a second copy.
struct Scene {
    state: Cluster,
    replayed: Cluster,
}

impl Scene {
    /// A cluster with these brokers, alive, without racks.
    fn with_brokers(count: i32) -> Scene {
        let mut scene = Scene { state: Cluster::new(), replayed: Cluster::new() };
        let cluster_id = "Q2x1c3RlcklkRm9yVGVzdA".to_owned();
        scene.run(Command::CreateCluster { cluster_id, metadata_version: METADATA_VERSION });
        for id in 1..=count {
            scene.register(id, 1);
        }
        scene
    }

    fn run(&mut self, command: Command) -> Reply {
        self.submit(&Submission::from(command)).reply
    }

    fn submit(&mut self, submission: &Submission) -> Decision {
        let text = serde_json::to_string(submission).unwrap();
        assert_eq!(&serde_json::from_str::<Submission>(&text).unwrap(), submission);
        let decision = self.state.decide(submission, NOW);
        assert_eq!(decision, self.state.decide(submission, NOW), "a decision depends on more than its arguments");
        for record in &decision.records {
            self.state.apply(record.clone());
            let text = serde_json::to_string(record).unwrap();
            self.replayed.apply(serde_json::from_str(&text).unwrap());
        }
        assert_eq!(self.state, self.replayed);
        decision
    }

    fn register(&mut self, id: NodeId, process: u128) -> i64 {
        match self.run(Command::RegisterBroker(registration(id, process))) {
            Reply::BrokerRegistered { broker_epoch } => broker_epoch,
            other => panic!("{other:?}"),
        }
    }

    fn broker(&self, id: NodeId) -> BrokerRef {
        BrokerRef { broker_id: id, broker_epoch: self.state.broker(id).unwrap().epoch }
    }

    /// Brokers with their present epochs.
    fn members(&self, ids: &[NodeId]) -> Vec<BrokerRef> {
        members(&self.state, ids)
    }

    fn fence(&mut self, id: NodeId) {
        let broker = self.broker(id);
        assert_eq!(self.run(Command::FenceBroker(broker)), Reply::Done);
    }

    fn unfence(&mut self, id: NodeId) {
        let broker = self.broker(id);
        assert_eq!(self.run(Command::UnfenceBroker(broker)), Reply::Done);
    }

    fn alter(&mut self, broker: BrokerRef, change: IsrChange) -> Result<AlteredPartition, ClusterError> {
        match self.run(Command::AlterPartitions { broker, changes: vec![change] }) {
            Reply::PartitionsAltered(mut outcomes) => outcomes.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn create(&mut self, topic: NewTopic) -> Result<CreatedTopic, ClusterError> {
        match self.run(Command::CreateTopics { topics: vec![topic], validate_only: false }) {
            Reply::TopicsCreated(mut outcomes) => outcomes.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn delete(&mut self, name: &str) -> Result<RemovedTopic, ClusterError> {
        match self.run(Command::DeleteTopics { topics: vec![TopicRef::Name(name.to_owned())] }) {
            Reply::TopicsDeleted(mut outcomes) => outcomes.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn partition(&self, name: &str, partition: i32) -> &Partition {
        self.state.partition(self.id(name, partition)).unwrap()
    }

    /// ISR, leader and leader epoch of partition 0.
    fn standing(&self, name: &str) -> Standing {
        let partition = self.partition(name, 0);
        (partition.isr.clone(), partition.leader, partition.leader_epoch)
    }

    fn id(&self, name: &str, partition: i32) -> TopicPartition {
        TopicPartition { topic_id: self.state.topic(name).unwrap().id, partition }
    }
}

fn members(state: &Cluster, ids: &[NodeId]) -> Vec<BrokerRef> {
    let member = |id: &NodeId| BrokerRef { broker_id: *id, broker_epoch: state.broker(*id).map_or(0, |b| b.epoch) };
    ids.iter().map(member).collect()
}

fn registration(id: NodeId, process: u128) -> RegisterBroker {
    let port = 9092 + u16::try_from(id).unwrap();
    RegisterBroker {
        broker_id: id,
        incarnation: Uuid::from_u128(process),
        listeners: vec![Listener { name: "PLAINTEXT".to_owned(), host: "localhost".to_owned(), port }],
        metadata_versions: MetadataVersions::OF_THIS_BUILD,
        ..RegisterBroker::default()
    }
}

/// Topics of the same name get the same id, which tells them apart from others well enough.
fn topic_id(name: &str) -> TopicId {
    let number = name.bytes().fold(0_u128, |sum, byte| sum * 131 + u128::from(byte));
    TopicId(Uuid::from_u128(number + 2))
}

fn placed(name: &str, partitions: i32, replication_factor: i16) -> NewTopic {
    let layout = Layout::Placed { partitions, replication_factor };
    NewTopic { id: topic_id(name), name: name.to_owned(), layout, configs: Vec::new(), wanted_replicas: None }
}

fn assigned(name: &str, assignment: &[&[NodeId]]) -> NewTopic {
    let layout = Layout::Assigned(assignment.iter().map(|replicas| replicas.to_vec()).collect());
    NewTopic { id: topic_id(name), name: name.to_owned(), layout, configs: Vec::new(), wanted_replicas: None }
}

fn pointer(version: u64, log_start: i64, archived_end: i64) -> ManifestPointer {
    ManifestPointer {
        object: format!("manifests/{version}"),
        version,
        leader_epoch: 0,
        log_start,
        archived_end,
        bytes: 1000,
        record_bytes: 4000,
        objects: 1,
        max_timestamp: NOW,
    }
}
