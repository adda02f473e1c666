//! Random commands in random order: the invariants hold after each.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// A command whose open ends (epochs, versions) are filled in from the state, sometimes wrongly.
#[derive(Debug, Clone)]
enum Step {
    Register { broker: i32, process: u8, disk: u8, is_fenced: bool },
    Fence { broker: i32, is_stale: bool },
    Unfence { broker: i32 },
    ShutDown { broker: i32 },
    Unregister { broker: i32 },
    Elect { is_unclean: bool },
    Reassign { name: u8, replicas: Option<Vec<i32>>, keep_replication_factor: bool },
    Balance { at_most: usize },
    AllowUnclean { name: u8, is_allowed: bool },
    AddWanted { at_most: usize },
    SetVersion { version: u16, is_downgrade: bool },
    Create { name: u8, id: u8, partitions: i32, replicas: i16, wanted: Option<usize>, validate_only: bool },
    Delete { name: u8 },
    Grow { name: u8, total: i32 },
    Configure { name: u8, value: i64 },
    SetMin { name: u8, value: u8 },
    Allocate { broker: i32, sequence: u64 },
    Alter { name: u8, isr: Vec<i32>, is_stale: bool },
    MoveStart { name: u8, is_stale: bool, log_start: i64 },
    Commit { name: u8, version_error: i8, is_stale: bool, log_start: i64, archived_end: i64 },
    Purge { id: u8 },
    PassOver,
}

fn step() -> impl Strategy<Value = Step> {
    let broker = 1..5_i32;
    let name = 0..4_u8;
    prop_oneof![
        (broker.clone(), 0..3_u8, 0..2_u8, prop::bool::weighted(0.4))
            .prop_map(|(broker, process, disk, is_fenced)| { Step::Register { broker, process, disk, is_fenced } }),
        (broker.clone(), prop::bool::weighted(0.2)).prop_map(|(broker, is_stale)| Step::Fence { broker, is_stale }),
        broker.clone().prop_map(|broker| Step::Unfence { broker }),
        broker.clone().prop_map(|broker| Step::ShutDown { broker }),
        broker.clone().prop_map(|broker| Step::Unregister { broker }),
        prop::bool::ANY.prop_map(|is_unclean| Step::Elect { is_unclean }),
        (name.clone(), prop::option::weighted(0.8, prop::collection::vec(1..5_i32, 0..4)), prop::bool::ANY).prop_map(
            |(name, replicas, keep_replication_factor)| Step::Reassign { name, replicas, keep_replication_factor }
        ),
        (0..3_usize).prop_map(|at_most| Step::Balance { at_most }),
        (0..4_usize).prop_map(|at_most| Step::AddWanted { at_most }),
        (0..5_u16, prop::bool::ANY).prop_map(|(version, is_downgrade)| Step::SetVersion { version, is_downgrade }),
        (name.clone(), prop::bool::weighted(0.3))
            .prop_map(|(name, is_allowed)| Step::AllowUnclean { name, is_allowed }),
        (name.clone(), 0..20_u8, 0..4_i32, 0..4_i16, prop::option::of(1..5_usize), prop::bool::weighted(0.1)).prop_map(
            |(name, id, partitions, replicas, wanted, validate_only)| Step::Create {
                name,
                id,
                partitions,
                replicas,
                wanted,
                validate_only
            }
        ),
        name.clone().prop_map(|name| Step::Delete { name }),
        (name.clone(), 0..6_i32).prop_map(|(name, total)| Step::Grow { name, total }),
        (name.clone(), -2..5_i64).prop_map(|(name, value)| Step::Configure { name, value }),
        (name.clone(), 1..4_u8).prop_map(|(name, value)| Step::SetMin { name, value }),
        (broker, 0..400_u64).prop_map(|(broker, sequence)| Step::Allocate { broker, sequence }),
        (name.clone(), prop::collection::vec(1..5_i32, 0..4), prop::bool::weighted(0.2))
            .prop_map(|(name, isr, is_stale)| Step::Alter { name, isr, is_stale }),
        (name.clone(), prop::bool::weighted(0.2), -1..100_i64)
            .prop_map(|(name, is_stale, log_start)| Step::MoveStart { name, is_stale, log_start }),
        (name, -1..2_i8, prop::bool::weighted(0.2), 0..50_i64, 0..100_i64).prop_map(
            |(name, version_error, is_stale, log_start, archived_end)| Step::Commit {
                name,
                version_error,
                is_stale,
                log_start,
                archived_end
            }
        ),
        (0..20_u8).prop_map(|id| Step::Purge { id }),
        Just(Step::PassOver),
    ]
}

/// Two of the names collide.
fn name(index: u8) -> String {
    ["plain", "a.b", "a_b", "other"][usize::from(index) % 4].to_owned()
}

fn id(index: u8) -> TopicId {
    TopicId(Uuid::from_u128(u128::from(index) + 2))
}

fn submission(state: &Cluster, step: Step) -> Submission {
    let epoch = |broker| state.broker(broker).map_or(0, |broker| broker.epoch);
    let broker_ref =
        |broker, is_stale| BrokerRef { broker_id: broker, broker_epoch: epoch(broker) - i64::from(is_stale) };
    let topic_of = |name: &str| state.topic(name).map_or(TopicId::ZERO, |topic| topic.id);
    let command = match step {
        Step::Register { broker, process, disk, is_fenced } => {
            let log_id = Some(Uuid::from_u128(u128::from(disk)));
            Command::RegisterBroker(RegisterBroker { is_fenced, log_id, ..registration(broker, u128::from(process)) })
        }
        Step::Fence { broker, is_stale } => Command::FenceBroker(broker_ref(broker, is_stale)),
        Step::Unfence { broker } => Command::UnfenceBroker(broker_ref(broker, false)),
        Step::ShutDown { broker } => Command::ShutDownBroker(broker_ref(broker, false)),
        Step::Unregister { broker } => Command::UnregisterBroker { broker_id: broker },
        Step::Elect { is_unclean } => {
            let kind = if is_unclean { ElectionKind::Unclean } else { ElectionKind::Preferred };
            Command::ElectLeaders { kind, partitions: None }
        }
        Step::Reassign { name: n, replicas, keep_replication_factor } => {
            let partition = TopicPartition { topic_id: topic_of(&name(n)), partition: 0 };
            let changes = vec![Reassignment { partition, replicas }];
            Command::AlterReassignments { changes, keep_replication_factor }
        }
        Step::Balance { at_most } => Command::BalanceLeaders { at_most },
        Step::AllowUnclean { name: n, is_allowed } => {
            set(&name(n), "unclean.leader.election.enable", is_allowed.to_string())
        }
        Step::AddWanted { at_most } => Command::AddWantedReplicas { at_most },
        Step::SetVersion { version, is_downgrade } => {
            let change = if is_downgrade { VersionChange::UnsafeDowngrade } else { VersionChange::Upgrade };
            Command::SetMetadataVersion { version, change, validate_only: false }
        }
        Step::Create { name: n, id: i, partitions, replicas, wanted: wanted_replicas, validate_only } => {
            let topic = NewTopic { id: id(i), wanted_replicas, ..placed(&name(n), partitions, replicas) };
            Command::CreateTopics { topics: vec![topic], validate_only }
        }
        Step::Delete { name: n } => Command::DeleteTopics { topics: vec![TopicRef::Name(name(n))] },
        Step::Grow { name: n, total } => {
            let topics = vec![MorePartitions { name: name(n), total, assignment: None }];
            Command::CreatePartitions { topics, validate_only: false }
        }
        Step::Configure { name: n, value } => set(&name(n), "retention.ms", value.to_string()),
        Step::SetMin { name: n, value } => set(&name(n), "min.insync.replicas", value.to_string()),
        Step::Allocate { broker, sequence } => {
            let id = CommandId { node_id: broker, broker_epoch: epoch(broker), sequence };
            return Submission { id: Some(id), command: Command::AllocateProducerIds(broker_ref(broker, false)) };
        }
        Step::Alter { name: n, isr, is_stale } => {
            let id = TopicPartition { topic_id: topic_of(&name(n)), partition: 0 };
            let (leader, leader_epoch, partition_epoch) =
                state.partition(id).map_or((1, 0, 0), |p| (p.leader, p.leader_epoch, p.partition_epoch));
            let partition_epoch = partition_epoch - i32::from(is_stale);
            let isr = members(state, &isr);
            let change = IsrChange { partition: id, leader_epoch, partition_epoch, isr };
            Command::AlterPartitions { broker: broker_ref(leader, false), changes: vec![change] }
        }
        Step::MoveStart { name: n, is_stale, log_start } => move_start(state, topic_of(&name(n)), is_stale, log_start),
        Step::Commit { name: n, version_error, is_stale, log_start, archived_end } => {
            let id = TopicPartition { topic_id: topic_of(&name(n)), partition: 0 };
            let leader_epoch = state.partition(id).map_or(0, |p| p.leader_epoch) - i32::from(is_stale);
            let current = state.archive(id).map_or(0, |pointer| pointer.version);
            let replaces = current.saturating_add_signed(i64::from(version_error));
            let pointer = ManifestPointer { leader_epoch, ..pointer(replaces + 1, log_start, archived_end) };
            Command::ArchiveCommit(ArchiveCommit { partition: id, leader_epoch, replaces, pointer, adopts: false })
        }
        Step::PassOver => Command::PassOverLostNumbers,
        Step::Purge { id: i } => Command::ArchivePurged { topic_id: id(i) },
    };
    command.into()
}

fn move_start(state: &Cluster, topic_id: TopicId, is_stale: bool, log_start: i64) -> Command {
    let partition = TopicPartition { topic_id, partition: 0 };
    let (leader, leader_epoch) = state.partition(partition).map_or((1, 0), |p| (p.leader, p.leader_epoch));
    let leader_epoch = leader_epoch - i32::from(is_stale);
    let broker_epoch = state.broker(leader).map_or(0, |broker| broker.epoch);
    let moves = vec![LogStartMove { partition, leader_epoch, log_start }];
    Command::MoveLogStarts { broker: BrokerRef { broker_id: leader, broker_epoch }, moves }
}

fn set(topic: &str, name: &str, value: String) -> Command {
    let op = ConfigOp { name: name.to_owned(), kind: ConfigOpKind::Set, value: Some(value) };
    let resource = ConfigResource::Topic(topic.to_owned());
    let change = ConfigChange { resource, edit: ConfigEdit::Incremental(vec![op]) };
    Command::AlterConfigs { changes: vec![change], validate_only: false }
}

fn check(state: &Cluster) {
    let names: BTreeSet<_> = state.topics().map(|topic| topic.name.replace('.', "_")).collect();
    assert_eq!(names.len(), state.topic_count(), "names or ids are not unique");
    assert_eq!(state.topics.len(), state.names.len());
    let mut partitions = 0;
    for topic in state.topics() {
        let indexes: Vec<i32> = state.partitions_of(topic.id).map(|(id, _)| id.partition).collect();
        assert_eq!(indexes, (0..topic.partitions).collect::<Vec<_>>());
        assert!(topic.partitions >= 1);
        assert!(state.deleted_topic(topic.id).is_none());
        partitions += indexes.len();
    }
    assert_eq!(partitions, state.partition_count());
    for (id, partition) in state.partitions() {
        check_partition(state, id, partition);
    }
    for (id, pointer) in state.archives() {
        assert!(pointer.log_start <= pointer.archived_end);
        assert!(state.topic_by_id(id.topic_id).is_some() || state.deleted_topic(id.topic_id).is_some());
    }
}

fn check_partition(state: &Cluster, id: TopicPartition, partition: &Partition) {
    let members: Vec<NodeId> = partition.isr.iter().chain(&partition.elr).copied().collect();
    let distinct: BTreeSet<NodeId> = members.iter().copied().collect();
    assert_eq!(distinct.len(), members.len(), "{id} has a member twice: {partition:?}");
    assert!(members.iter().all(|broker| partition.replicas.contains(broker)), "{id} {partition:?}");
    let moving: BTreeSet<&NodeId> = partition.adding.iter().chain(&partition.removing).collect();
    assert_eq!(moving.len(), partition.adding.len() + partition.removing.len(), "{id} {partition:?}");
    assert!(moving.iter().all(|broker| partition.replicas.contains(broker)), "{id} {partition:?}");
    let target = partition.target_replicas();
    assert!(partition.replicas.starts_with(&target) && !target.is_empty(), "{id} {partition:?}");
    assert!(partition.wanted_replicas.is_none_or(|wanted| wanted > target.len()), "{id} has enough: {partition:?}");
    let keeps_start = partition.log_start > 0;
    assert!(partition.log_start >= 0 && (!keeps_start || state.keeps_log_starts()), "{id} is ahead: {partition:?}");
    assert!(partition.wanted_replicas.is_none() || state.metadata_version() >= 2, "{id} is ahead: {partition:?}");
    if partition.has_leader() {
        let is_done = partition.is_reassigning() && target.iter().all(|broker| state.is_active(*broker));
        let is_in_sync = target.iter().all(|broker| partition.isr.contains(broker));
        assert!(!(is_done && is_in_sync), "{id} has moved and does not know: {partition:?}");
        assert!(partition.isr.contains(&partition.leader) && state.is_alive(partition.leader), "{id} {partition:?}");
        let is_full = partition.isr.len() >= state.min_insync_replicas(id);
        assert!(!is_full || partition.elr.is_empty(), "{id} keeps an ELR: {partition:?}");
    } else {
        assert!(members.iter().all(|broker| !state.is_active(*broker)), "{id} waits in vain: {partition:?}");
        let may_any_lead = state.is_unclean_election_enabled(id.topic_id, &partition.replicas);
        let can_any_lead = partition.replicas.iter().any(|broker| state.is_active(*broker));
        assert!(!(may_any_lead && can_any_lead), "{id} waits for a clean election: {partition:?}");
    }
}

/// What only grows, from one state to the next.
fn check_progress(before: &Cluster, after: &Cluster) {
    assert!(before.next_producer_id <= after.next_producer_id);
    assert!(before.next_broker_epoch <= after.next_broker_epoch);
    for (id, old) in before.partitions() {
        let Some(new) = after.partition(id) else { continue };
        assert!(old.leader_epoch <= new.leader_epoch && old.partition_epoch <= new.partition_epoch);
        assert!(old == new || old.partition_epoch < new.partition_epoch);
        assert!(old.log_start <= new.log_start || !after.keeps_log_starts());
        assert!(old.leader == new.leader || old.leader_epoch < new.leader_epoch);
    }
    for (id, old) in before.archives() {
        let Some(new) = after.archive(id) else { continue };
        assert!(old == new || old.version + 1 == new.version);
        assert!(old.log_start <= new.log_start && old.archived_end <= new.archived_end);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn invariants_hold_and_replay_equals_live(steps in prop::collection::vec(step(), 1..80)) {
        let mut scene = Scene::with_brokers(3);
        let image = scene.state.clone();
        let first = serde_json::to_string(&image).unwrap();
        for step in steps {
            let before = scene.state.clone();
            let submission = submission(&scene.state, step);
            let decision = scene.submit(&submission);
            if matches!(decision.reply, Reply::Refused(_)) {
                prop_assert_eq!(&before, &scene.state);
            }
            check(&scene.state);
            check_progress(&before, &scene.state);
        }
        let text = serde_json::to_string(&scene.state).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Cluster>(&text).unwrap().restored(), &scene.state);
        prop_assert_eq!(serde_json::to_string(&image).unwrap(), first, "an old image changed");
    }
}
