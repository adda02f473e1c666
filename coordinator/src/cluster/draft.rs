//! A decision in the making: the state as it will be, and the records that lead to it.
//!
//! A command may hold many parts (topics, partitions) that see each other's effects. Each part checks first and pushes
//! records only when nothing can fail any more, so that a refused part leaves no trace.

use model::{TimestampMs, TopicPartition};

use super::{Cluster, ClusterError, Command, CommandId, Decision, PRODUCER_ID_BLOCK, Partition, Record, Reply};
use super::{
    answers, archive, configs, isr, log_start, on_request, reassignment, recovered, registration, store_identity,
    topics, versions, waiting,
};

/// See the module's page.
pub(super) struct Draft {
    /// The state after the records so far.
    pub(super) state: Cluster,
    /// When the command was handed in.
    pub(super) now: TimestampMs,
    records: Vec<Record>,
    is_trial: bool,
}

impl Draft {
    pub(super) fn new(state: &Cluster, now: TimestampMs) -> Self {
        Draft { state: state.clone(), now, records: Vec::new(), is_trial: false }
    }

    pub(super) fn push(&mut self, record: Record) {
        self.state.apply(record.clone());
        self.records.push(record);
    }

    pub(super) fn put_partition(&mut self, id: TopicPartition, partition: Partition) {
        self.push(Record::PartitionSet { id, partition });
    }

    /// From here on the command only looks what would happen.
    pub(super) fn try_only(&mut self, is_trial: bool) {
        self.is_trial = is_trial;
    }

    pub(super) fn into_decision(self, id: Option<CommandId>, reply: Reply) -> Decision {
        let mut records = if self.is_trial { Vec::new() } else { self.records };
        if let (Some(id), false) = (id, records.is_empty()) {
            records.push(Record::Answered { id, reply: answers::to_remember(id, &reply) });
        }
        Decision { records, reply }
    }

    pub(super) fn run(&mut self, command: &Command) -> Result<Reply, ClusterError> {
        if let Command::CreateCluster { cluster_id, metadata_version } = command {
            return self.create_cluster(cluster_id, *metadata_version);
        }
        if self.state.cluster_id.is_empty() {
            return Err(ClusterError::NoCluster);
        }
        match command {
            Command::CreateCluster { .. } => Err(ClusterError::NoCluster),
            Command::SetMetadataVersion { version, change, validate_only } => {
                self.try_only(*validate_only);
                versions::set(self, *version, *change)
            }
            Command::RegisterBroker(request) => registration::register(self, request),
            Command::FenceBroker(broker) => registration::fence(self, *broker),
            Command::UnfenceBroker(broker) => registration::unfence(self, *broker),
            Command::ShutDownBroker(broker) => registration::shut_down(self, *broker),
            Command::UnregisterBroker { broker_id } => registration::unregister(self, *broker_id),
            Command::PassOverLostNumbers => recovered::pass_over(self),
            Command::CreateTopics { topics, validate_only } => {
                self.try_only(*validate_only);
                Ok(Reply::TopicsCreated(topics::create_all(self, topics)?))
            }
            Command::DeleteTopics { topics } => {
                Ok(Reply::TopicsDeleted(topics.iter().map(|topic| topics::delete(self, topic)).collect()))
            }
            Command::CreatePartitions { topics, validate_only } => {
                self.try_only(*validate_only);
                Ok(Reply::PartitionsCreated(topics::grow_all(self, topics)?))
            }
            Command::AlterConfigs { changes, validate_only } => {
                self.try_only(*validate_only);
                Ok(Reply::ConfigsAltered(configs::alter_all(self, changes)))
            }
            Command::AllocateProducerIds(broker) => {
                registration::check_epoch(&self.state, *broker)?;
                self.allocate_producer_ids()
            }
            Command::AlterPartitions { broker, changes } => {
                registration::check_epoch(&self.state, *broker)?;
                let outcomes = changes.iter().map(|change| isr::alter(self, broker.broker_id, change));
                Ok(Reply::PartitionsAltered(outcomes.collect()))
            }
            Command::MoveLogStarts { broker, moves } => {
                registration::check_epoch(&self.state, *broker)?;
                let outcomes = moves.iter().map(|wanted| log_start::advance(self, broker.broker_id, *wanted));
                Ok(Reply::PartitionsAltered(outcomes.collect()))
            }
            Command::ElectLeaders { kind, partitions } => {
                Ok(Reply::LeadersElected(on_request::elect_leaders(self, *kind, partitions.as_deref())))
            }
            Command::BalanceLeaders { at_most } => Ok(on_request::balance(self, *at_most)),
            Command::AlterReassignments { changes, keep_replication_factor } => {
                let outcomes = changes.iter().map(|change| reassignment::alter(self, change, *keep_replication_factor));
                Ok(Reply::ReassignmentsAltered(outcomes.collect()))
            }
            Command::AddWantedReplicas { at_most } => Ok(waiting::add_replicas(self, *at_most)),
            Command::SetStoreId { store_id, replaces } => store_identity::set(self, *store_id, *replaces),
            Command::ArchiveCommit(commit) => Ok(Reply::Archive(archive::commit(self, commit)?)),
            Command::ArchivePurged { topic_id } => archive::purged(self, *topic_id),
        }
    }

    fn create_cluster(&mut self, cluster_id: &str, metadata_version: u16) -> Result<Reply, ClusterError> {
        if !self.state.cluster_id.is_empty() {
            return Err(ClusterError::ClusterExists { cluster_id: self.state.cluster_id.clone() });
        }
        if cluster_id.is_empty() {
            return Err(ClusterError::InvalidRequest { reason: "the cluster id must not be empty".to_owned() });
        }
        versions::check_first(metadata_version)?;
        let (cluster_id, created_ms) = (cluster_id.to_owned(), self.now);
        self.push(Record::ClusterCreated { cluster_id, created_ms, store_id: None });
        self.push(Record::MetadataVersionSet { version: metadata_version });
        Ok(Reply::Done)
    }

    fn allocate_producer_ids(&mut self) -> Result<Reply, ClusterError> {
        let first = self.state.next_producer_id;
        let next = first
            .checked_add(PRODUCER_ID_BLOCK)
            .ok_or_else(|| ClusterError::LimitExceeded { reason: format!("no producer ids are left after {first}") })?;
        self.push(Record::ProducerIdsAllocated { next });
        Ok(Reply::ProducerIds { first, count: PRODUCER_ID_BLOCK })
    }
}
