//! Dynamic settings.

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
    let cluster = |kind, value| ConfigEdit::Incremental(vec![op("words", kind, value)]);
    alter(&mut scene, ConfigResource::Cluster, cluster(ConfigOpKind::Append, "a, b")).unwrap();
    alter(&mut scene, ConfigResource::Cluster, cluster(ConfigOpKind::Append, "b,c")).unwrap();
    alter(&mut scene, ConfigResource::Cluster, cluster(ConfigOpKind::Subtract, "a,x")).unwrap();
    assert_eq!(scene.state.cluster_configs().get("words").unwrap(), "b,c");
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
    let long = vec![op("words", ConfigOpKind::Set, &"x".repeat(40_000))];
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
