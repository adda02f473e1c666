//! Dynamic settings.

use model::settings::{self, TOPIC_SETTINGS, dynamic_broker_settings};

use super::*;

fn alter(scene: &mut Scene, resource: ConfigResource, edit: ConfigEdit) -> Result<(), ClusterError> {
    let changes = vec![ConfigChange { resource, edit }];
    match scene.run(Command::AlterConfigs { changes, validate_only: false }) {
        Reply::ConfigsAltered(mut outcomes) => outcomes.remove(0),
        other => panic!("{other:?}"),
    }
}

fn topic() -> ConfigResource {
    ConfigResource::Topic("a".to_owned())
}

fn op(name: &str, kind: ConfigOpKind, value: &str) -> ConfigOp {
    let value = (kind != ConfigOpKind::Delete).then(|| value.to_owned());
    ConfigOp { name: name.to_owned(), kind, value }
}

fn scene() -> Scene {
    let mut scene = Scene::with_brokers(1);
    scene.create(placed("a", 1, 1)).unwrap();
    scene
}

fn configs(scene: &Scene) -> Vec<(&str, &str)> {
    let topic = scene.state.topic("a").unwrap();
    topic.configs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[test]
fn settings_are_set_and_returned_to_their_defaults() {
    let mut scene = scene();
    let set = vec![op("retention.ms", ConfigOpKind::Set, "1000"), op("local.retention.ms", ConfigOpKind::Set, "10")];
    alter(&mut scene, topic(), ConfigEdit::Incremental(set)).unwrap();
    assert_eq!(configs(&scene), [("local.retention.ms", "10"), ("retention.ms", "1000")]);
    let delete = vec![op("local.retention.ms", ConfigOpKind::Delete, "")];
    alter(&mut scene, topic(), ConfigEdit::Incremental(delete)).unwrap();
    assert_eq!(configs(&scene), [("retention.ms", "1000")]);
}

#[test]
fn replacing_drops_what_is_not_named() {
    let mut scene = scene();
    let replace = |name: &str| ConfigEdit::Replace(vec![(name.to_owned(), Some("1000".to_owned()))]);
    alter(&mut scene, topic(), replace("retention.ms")).unwrap();
    alter(&mut scene, topic(), replace("segment.ms")).unwrap();
    assert_eq!(configs(&scene), [("segment.ms", "1000")]);
}

#[test]
fn words_are_appended_to_a_list_once_and_subtracted() {
    let mut scene = scene();
    let append = vec![op("cleanup.policy", ConfigOpKind::Append, "delete")];
    alter(&mut scene, topic(), ConfigEdit::Incremental(append)).unwrap();
    assert_eq!(configs(&scene), [("cleanup.policy", "delete")]);
    let not_a_list = vec![op("retention.ms", ConfigOpKind::Append, "1")];
    let error = alter(&mut scene, topic(), ConfigEdit::Incremental(not_a_list)).unwrap_err();
    assert!(matches!(error, ClusterError::InvalidConfig { name, .. } if name == "retention.ms"));
    const REPLICAS: &str = "leader.replication.throttled.replicas";
    let cluster = |kind, value| ConfigEdit::Incremental(vec![op(REPLICAS, kind, value)]);
    alter(&mut scene, ConfigResource::Cluster, cluster(ConfigOpKind::Append, "1:1, 2:1")).unwrap();
    alter(&mut scene, ConfigResource::Cluster, cluster(ConfigOpKind::Append, "2:1,3:1")).unwrap();
    alter(&mut scene, ConfigResource::Cluster, cluster(ConfigOpKind::Subtract, "1:1,9:9")).unwrap();
    assert_eq!(scene.state.cluster_configs().get(REPLICAS).unwrap(), "2:1,3:1");
    let without_effect = vec![op("metric.reporters", ConfigOpKind::Append, "a.Reporter")];
    alter(&mut scene, ConfigResource::Broker(1), ConfigEdit::Incremental(without_effect)).unwrap();
    let reporters = "org.apache.kafka.common.metrics.JmxReporter,a.Reporter";
    assert_eq!(scene.state.broker_configs(1).unwrap().get("metric.reporters").unwrap(), reporters);
}

/// Every operation × every setting × every kind of resource: what is stored can be read.
#[test]
fn whatever_is_stored_can_be_read() {
    let of_topics =
        TOPIC_SETTINGS.iter().flat_map(|spec| spec.synonyms.iter().map(|synonym| synonym.name).chain([spec.name]));
    let of_brokers = dynamic_broker_settings().map(|spec| spec.name);
    let kinds = [ConfigOpKind::Set, ConfigOpKind::Append, ConfigOpKind::Subtract, ConfigOpKind::Append];
    for name in of_topics.chain(of_brokers).chain(["no.such.setting"]) {
        for resource in [topic(), ConfigResource::Broker(1), ConfigResource::Cluster] {
            let mut scene = scene();
            for kind in kinds {
                for value in
                    ["1", "2", "1048576", "true", "delete", "compact", "zstd", "durable", "1:1", "*", "", "x,y"]
                {
                    let edit = ConfigEdit::Incremental(vec![op(name, kind, value)]);
                    let outcome = alter(&mut scene, resource.clone(), edit);
                    let stored = match &resource {
                        ConfigResource::Topic(_) => &scene.state.topic("a").unwrap().configs,
                        ConfigResource::Broker(id) => scene.state.broker_configs(*id).unwrap_or(&EMPTY),
                        ConfigResource::Cluster => scene.state.cluster_configs(),
                    };
                    let check = if resource == topic() { settings::check } else { settings::check_dynamic };
                    let bad = stored.iter().find_map(|(name, value)| check(name, value).err());
                    assert_eq!(bad, None, "{kind:?} {value:?} on {resource:?} ended {outcome:?}");
                }
            }
        }
    }
}

static EMPTY: SettingsMap = SettingsMap::new();

#[test]
fn nothing_is_appended_to_a_number_of_brokers() {
    let mut scene = scene();
    for (kind, word) in [(ConfigOpKind::Append, "append"), (ConfigOpKind::Subtract, "subtract")] {
        for resource in [ConfigResource::Broker(1), ConfigResource::Cluster] {
            let edit = ConfigEdit::Incremental(vec![op("min.insync.replicas", kind, "2")]);
            let reason = format!("Config value {word} is not allowed for config key: min.insync.replicas");
            let name = "min.insync.replicas".to_owned();
            assert_eq!(alter(&mut scene, resource, edit), Err(ClusterError::InvalidConfig { name, reason }));
        }
    }
}

/// As stored by a release that knows more settings, or checked less.
fn store(scene: &mut Scene, configs: &[(&str, &str)]) {
    let topic_id = scene.state.topic("a").unwrap().id;
    let configs = configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let record = Record::TopicConfigsSet { topic_id, configs };
    scene.state.apply(record.clone());
    scene.replayed.apply(record);
}

#[test]
fn what_another_release_has_stored_stays_and_keeps_nobody_from_changing_the_rest() {
    let mut scene = scene();
    store(&mut scene, &[("a.later.setting", "on"), ("segment.bytes", "1,2")]);
    let set = vec![op("retention.ms", ConfigOpKind::Set, "1000")];
    alter(&mut scene, topic(), ConfigEdit::Incremental(set)).unwrap();
    assert_eq!(configs(&scene), [("a.later.setting", "on"), ("retention.ms", "1000"), ("segment.bytes", "1,2")]);
    let mend = vec![op("segment.bytes", ConfigOpKind::Delete, ""), op("a.later.setting", ConfigOpKind::Delete, "")];
    alter(&mut scene, topic(), ConfigEdit::Incremental(mend)).unwrap();
    assert_eq!(configs(&scene), [("retention.ms", "1000")]);
    let change = vec![op("a.later.setting", ConfigOpKind::Set, "off")];
    assert!(alter(&mut scene, topic(), ConfigEdit::Incremental(change)).is_err(), "it cannot be checked here");
}

#[test]
fn a_minimum_beside_a_setting_of_a_later_release_counts() {
    let mut scene = Scene::with_brokers(2);
    scene.create(placed("a", 1, 2)).unwrap();
    store(&mut scene, &[("a.later.setting", "on"), ("min.insync.replicas", "2")]);
    let id = scene.id("a", 0);
    assert_eq!(scene.state.min_insync_replicas(id), 2);
    store(&mut scene, &[("min.insync.replicas", "1,2")]);
    let set = vec![op("min.insync.replicas", ConfigOpKind::Set, "2")];
    alter(&mut scene, ConfigResource::Cluster, ConfigEdit::Incremental(set)).unwrap();
    assert_eq!(scene.state.min_insync_replicas(id), 2, "the layer that cannot be read does not count");
}

#[test]
fn a_change_with_one_bad_setting_changes_nothing() {
    let mut scene = scene();
    let before = scene.state.clone();
    let mixed = vec![op("segment.ms", ConfigOpKind::Set, "1000"), op("retention.ms", ConfigOpKind::Set, "-7")];
    assert!(matches!(
        alter(&mut scene, topic(), ConfigEdit::Incremental(mixed)),
        Err(ClusterError::InvalidConfig { .. })
    ));
    let twice = vec![op("segment.ms", ConfigOpKind::Set, "1"), op("segment.ms", ConfigOpKind::Delete, "")];
    assert!(matches!(
        alter(&mut scene, topic(), ConfigEdit::Incremental(twice)),
        Err(ClusterError::InvalidRequest { .. })
    ));
    let valueless = vec![ConfigOp { name: "segment.ms".to_owned(), kind: ConfigOpKind::Set, value: None }];
    assert!(matches!(
        alter(&mut scene, topic(), ConfigEdit::Incremental(valueless)),
        Err(ClusterError::InvalidRequest { .. })
    ));
    let long = vec![op("log.cleanup.policy", ConfigOpKind::Set, &"x".repeat(40_000))];
    let error = alter(&mut scene, ConfigResource::Cluster, ConfigEdit::Incremental(long)).unwrap_err();
    assert!(matches!(error, ClusterError::InvalidConfig { .. }));
    assert_eq!(scene.state, before);
}

#[test]
fn brokers_have_settings_of_their_own() {
    let mut scene = scene();
    let set = || ConfigEdit::Incremental(vec![op("log.retention.ms", ConfigOpKind::Set, "1")]);
    alter(&mut scene, ConfigResource::Broker(1), set()).unwrap();
    assert_eq!(scene.state.broker_configs(1).unwrap().get("log.retention.ms").unwrap(), "1");
    assert!(scene.state.cluster_configs().is_empty());
    let unknown = alter(&mut scene, ConfigResource::Broker(9), set());
    assert_eq!(unknown, Err(ClusterError::UnknownBroker { broker_id: 9 }));
    alter(&mut scene, ConfigResource::Broker(1), ConfigEdit::Replace(Vec::new())).unwrap();
    assert_eq!(scene.state.broker_configs(1), None);
}

#[test]
fn a_resource_named_twice_is_refused_both_times() {
    let mut scene = scene();
    let change = |resource| ConfigChange { resource, edit: ConfigEdit::Replace(Vec::new()) };
    let changes = vec![change(topic()), change(ConfigResource::Cluster), change(topic())];
    let Reply::ConfigsAltered(outcomes) = scene.run(Command::AlterConfigs { changes, validate_only: false }) else {
        panic!("not a reply to AlterConfigs");
    };
    assert_eq!(outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, false]);
}
