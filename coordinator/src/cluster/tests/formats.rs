//! The JSON forms that stand on disk: old logs and snapshots must stay readable. See `docs/formats/metadata.md`.

use serde_json::Value;

use super::*;

/// What a story is made of, as it stands in files.
struct Golden {
    name: &'static str,
    submissions: &'static str,
    records: &'static str,
    state: &'static str,
}

macro_rules! golden {
    ($name:literal) => {
        Golden {
            name: $name,
            submissions: include_str!(concat!("../../../tests/golden/submissions-", $name, ".json")),
            records: include_str!(concat!("../../../tests/golden/records-", $name, ".json")),
            state: include_str!(concat!("../../../tests/golden/state-", $name, ".json")),
        }
    };
}

/// One of everything that a cluster of one has; written by the first builds.
const ALONE: Golden = golden!("v1");
/// What came with clusters of several.
const SEVERAL: Golden = golden!("v1-several");

/// What came with metadata version 2.
const SECOND: Golden = golden!("v2");

/// What came with metadata version 3.
const THIRD: Golden = golden!("v3");

/// What came with metadata version 4.
const FOURTH: Golden = golden!("v4");

const SUBMISSIONS: &str = ALONE.submissions;
const STATE: &str = ALONE.state;

#[test]
fn commands_records_and_state_keep_their_form() {
    for (golden, commands) in stories() {
        let (records, state) = story(&commands);
        let Golden { name, submissions, .. } = golden;
        assert_eq!(
            written(&commands),
            submissions,
            "{name}: commands changed: do they still mean the same to a neighbouring version?"
        );
        assert_eq!(written(&records), golden.records, "{name}: records changed: may old logs still be read?");
        assert_eq!(written(&state), golden.state, "{name}: the snapshot changed: may old snapshots still be read?");
    }
}

#[test]
fn the_golden_records_replay_to_the_golden_state() {
    for golden in [ALONE, SEVERAL, SECOND, THIRD, FOURTH] {
        let records: Vec<Record> = serde_json::from_str(golden.records).unwrap();
        let mut state = Cluster::new();
        records.into_iter().for_each(|record| state.apply(record));
        assert_eq!(state, serde_json::from_str::<Cluster>(golden.state).unwrap().restored(), "{}", golden.name);
    }
}

#[test]
fn fields_of_newer_builds_are_passed_over_and_unknown_variants_are_not() {
    let mut submissions: Value = serde_json::from_str(SUBMISSIONS).unwrap();
    add_fields(&mut submissions);
    let read: Vec<Submission> = serde_json::from_value(submissions).unwrap();
    assert_eq!(read, serde_json::from_str::<Vec<Submission>>(SUBMISSIONS).unwrap());
    let mut state: Value = serde_json::from_str(STATE).unwrap();
    state["from_the_future"] = Value::Null;
    assert_eq!(serde_json::from_value::<Cluster>(state).unwrap(), serde_json::from_str::<Cluster>(STATE).unwrap());
    assert!(serde_json::from_str::<Submission>(r#"{"command":{"explode":{}}}"#).is_err());
    assert!(serde_json::from_str::<Record>(r#"{"exploded":{}}"#).is_err());
}

#[test]
fn a_snapshot_of_an_older_build_without_some_fields_is_read() {
    let state: Cluster = serde_json::from_str(r#"{"cluster_id":"x","metadata_version":1}"#).unwrap();
    assert_eq!((state.cluster_id(), state.topic_count()), ("x", 0));
}

/// Every object with more than one field, or a field that is no variant's name, gets one more.
fn add_fields(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(add_fields),
        Value::Object(fields) => {
            fields.values_mut().for_each(add_fields);
            if fields.len() > 1 {
                fields.insert("from_the_future".to_owned(), Value::Null);
            }
        }
        _ => {}
    }
}

fn story(commands: &[Submission]) -> (Vec<Record>, Cluster) {
    let mut scene = Scene { state: Cluster::new(), replayed: Cluster::new() };
    let mut records = Vec::new();
    for submission in commands {
        let decision = scene.submit(submission);
        assert!(!matches!(decision.reply, Reply::Refused(_)), "{submission:?}: {:?}", decision.reply);
        records.extend(decision.records);
    }
    (records, scene.state)
}

fn stories() -> [(Golden, Vec<Submission>); 5] {
    [(ALONE, alone()), (SEVERAL, several()), (SECOND, second()), (THIRD, third()), (FOURTH, fourth())]
}

/// As the first builds registered: they did not say which versions they know.
fn registration(id: NodeId, process: u128) -> RegisterBroker {
    RegisterBroker { metadata_versions: MetadataVersions::default(), ..super::registration(id, process) }
}

/// As builds register that know these versions.
fn registration_until(max: u16, id: NodeId) -> Command {
    let metadata_versions = MetadataVersions { min: 1, max };
    Command::RegisterBroker(RegisterBroker { metadata_versions, ..registration(id, id.unsigned_abs().into()) })
}

fn set_version(version: u16, change: VersionChange) -> Command {
    Command::SetMetadataVersion { version, change, validate_only: false }
}

fn alone() -> Vec<Submission> {
    let broker = |broker_id, broker_epoch| BrokerRef { broker_id, broker_epoch };
    let at = |name: &str| TopicPartition { topic_id: topic_id(name), partition: 0 };
    let text = |text: &str| Some(text.to_owned());
    let configured = NewTopic { configs: vec![("retention.ms".to_owned(), text("1000"))], ..placed("orders", 2, 1) };
    let op = |kind, value| ConfigOp { name: "segment.ms".to_owned(), kind, value };
    let on = |resource, edit| ConfigChange { resource, edit };
    let edits = vec![
        on(ConfigResource::Topic("orders".to_owned()), ConfigEdit::Incremental(vec![op(ConfigOpKind::Set, text("5"))])),
        on(ConfigResource::Broker(1), ConfigEdit::Replace(vec![("log.retention.ms".to_owned(), text("7"))])),
        on(ConfigResource::Cluster, ConfigEdit::Incremental(vec![op(ConfigOpKind::Delete, None)])),
    ];
    let more = MorePartitions { name: "orders".to_owned(), total: 3, assignment: Some(vec![vec![2]]) };
    let isr = IsrChange { partition: at("pairs"), leader_epoch: 0, partition_epoch: 0, isr: vec![broker(1, 0)] };
    let commit = |name: &str| {
        let pointer = pointer(1, 0, 100);
        Command::ArchiveCommit(ArchiveCommit {
            partition: at(name),
            leader_epoch: 0,
            replaces: 0,
            pointer,
            adopts: false,
        })
    };
    let deletes = vec![TopicRef::Name("gone".to_owned()), TopicRef::Id(topic_id("purged"))];
    let ids = Submission {
        id: Some(CommandId { node_id: 1, broker_epoch: 0, sequence: 1 }),
        command: Command::AllocateProducerIds(broker(1, 0)),
    };
    let commands = vec![
        Command::CreateCluster { cluster_id: "Q2x1c3RlcklkRm9yVGVzdA".to_owned(), metadata_version: 1 },
        set_version(1, VersionChange::Upgrade),
        Command::RegisterBroker(registration(1, 1)),
        Command::RegisterBroker(RegisterBroker { rack: text("east"), is_fenced: true, ..registration(2, 2) }),
        Command::UnfenceBroker(broker(2, 1)),
        Command::CreateTopics { topics: vec![configured, assigned("pairs", &[&[1, 2]])], validate_only: false },
        Command::CreateTopics { topics: vec![placed("gone", 1, 1), placed("purged", 1, 1)], validate_only: false },
        Command::CreatePartitions { topics: vec![more], validate_only: false },
        Command::AlterConfigs { changes: edits, validate_only: false },
        Command::AlterPartitions { broker: broker(1, 0), changes: vec![isr] },
        commit("pairs"),
        commit("gone"),
        commit("purged"),
        Command::DeleteTopics { topics: deletes },
        Command::ArchivePurged { topic_id: topic_id("purged") },
        Command::FenceBroker(broker(2, 1)),
        Command::UnregisterBroker { broker_id: 2 },
    ];
    commands.into_iter().map(Submission::from).chain([ids]).collect()
}

fn several() -> Vec<Submission> {
    let broker = |broker_id, broker_epoch| BrokerRef { broker_id, broker_epoch };
    let partition = TopicPartition { topic_id: topic_id("pairs"), partition: 0 };
    let onto = |replicas| Reassignment { partition, replicas };
    let register = |id, process: u8| {
        Command::RegisterBroker(RegisterBroker {
            internal: format!("host-{id}:9093"),
            log_id: Some(Uuid::from_u128(0xfeed)),
            topic_defaults: SettingsMap::from([("min.insync.replicas".to_owned(), "2".to_owned())]),
            is_fenced: true,
            ..registration(id, u128::from(process))
        })
    };
    let commands = vec![
        Command::CreateCluster { cluster_id: "Q2x1c3RlcklkRm9yVGVzdA".to_owned(), metadata_version: 1 },
        register(1, 1),
        Command::UnfenceBroker(broker(1, 0)),
        register(2, 2),
        register(3, 3),
        Command::UnfenceBroker(broker(2, 1)),
        Command::CreateTopics { topics: vec![assigned("pairs", &[&[1, 2]])], validate_only: false },
        Command::ShutDownBroker(broker(1, 0)),
        Command::ElectLeaders { kind: ElectionKind::Unclean, partitions: None },
        Command::BalanceLeaders { at_most: 100 },
        Command::PassOverLostNumbers,
        Command::AlterReassignments { changes: vec![onto(Some(vec![2, 3]))], keep_replication_factor: true },
        Command::AlterReassignments { changes: vec![onto(None)], keep_replication_factor: false },
        Command::AlterReassignments { changes: vec![onto(Some(vec![3, 1]))], keep_replication_factor: false },
    ];
    commands.into_iter().map(Submission::from).collect()
}

fn second() -> Vec<Submission> {
    let partition = |name: &str| TopicPartition { topic_id: topic_id(name), partition: 0 };
    let waiting = |name: &str| NewTopic { wanted_replicas: Some(2), ..placed(name, 1, 1) };
    let reassigned = vec![Reassignment { partition: partition("decided"), replicas: Some(vec![2, 1]) }];
    let commands = vec![
        Command::CreateCluster { cluster_id: "Q2x1c3RlcklkRm9yVGVzdA".to_owned(), metadata_version: 1 },
        registration_until(2, 1),
        Command::CreateTopics { topics: vec![waiting("too-early")], validate_only: false },
        Command::SetMetadataVersion { version: 2, change: VersionChange::Upgrade, validate_only: true },
        set_version(2, VersionChange::Upgrade),
        Command::CreateTopics { topics: vec![waiting("waits"), waiting("decided")], validate_only: false },
        registration_until(2, 2),
        Command::AlterReassignments { changes: reassigned, keep_replication_factor: false },
        Command::AddWantedReplicas { at_most: 2 },
        Command::CreateTopics {
            topics: vec![NewTopic { wanted_replicas: Some(3), ..placed("forgotten", 1, 2) }],
            validate_only: false,
        },
        set_version(1, VersionChange::UnsafeDowngrade),
        set_version(2, VersionChange::Upgrade),
        Command::CreateTopics {
            topics: vec![NewTopic { wanted_replicas: Some(3), ..placed("kept", 1, 2) }],
            validate_only: false,
        },
    ];
    commands.into_iter().map(Submission::from).collect()
}

fn third() -> Vec<Submission> {
    let partition = TopicPartition { topic_id: topic_id("trimmed"), partition: 0 };
    let move_to = |log_start| Command::MoveLogStarts {
        broker: BrokerRef { broker_id: 1, broker_epoch: 0 },
        moves: vec![LogStartMove { partition, leader_epoch: 0, log_start }],
    };
    let commands = vec![
        Command::CreateCluster { cluster_id: "Q2x1c3RlcklkRm9yVGVzdA".to_owned(), metadata_version: 2 },
        registration_until(3, 1),
        Command::CreateTopics { topics: vec![placed("trimmed", 1, 1)], validate_only: false },
        move_to(5),
        set_version(3, VersionChange::Upgrade),
        move_to(7),
        set_version(2, VersionChange::SafeDowngrade),
        set_version(3, VersionChange::Upgrade),
        move_to(9),
        move_to(8),
    ];
    commands.into_iter().map(Submission::from).collect()
}

fn fourth() -> Vec<Submission> {
    let id = |n| Uuid::from_u128(n);
    let commands = vec![
        Command::CreateCluster { cluster_id: "Q2x1c3RlcklkRm9yVGVzdA".to_owned(), metadata_version: 3 },
        registration_until(4, 1),
        set_version(4, VersionChange::Upgrade),
        Command::SetStoreId { store_id: id(1), replaces: None },
        Command::SetStoreId { store_id: id(2), replaces: Some(id(1)) },
        set_version(3, VersionChange::SafeDowngrade),
        set_version(4, VersionChange::Upgrade),
        Command::SetStoreId { store_id: id(2), replaces: None },
    ];
    commands.into_iter().map(Submission::from).collect()
}

fn written<T: Serialize>(value: &T) -> String {
    let text = serde_json::to_string_pretty(value).unwrap();
    format!("{text}\n")
}

/// Writes the golden files anew: only for a new version of the format.
#[test]
#[ignore = "writes the golden files"]
#[expect(clippy::disallowed_methods, reason = "a tool, run by hand")]
fn write_golden_files() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    for (golden, commands) in stories() {
        let (records, state) = story(&commands);
        let write = |kind: &str, text: String| {
            std::fs::write(format!("{folder}/{kind}-{}.json", golden.name), text).unwrap();
        };
        write("submissions", written(&commands));
        write("records", written(&records));
        write("state", written(&state));
    }
}
