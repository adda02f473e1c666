//! Composition of sources, Kafka's names, and what a wrong key is answered with.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn from_toml(text: &str) -> Overrides {
    Overrides::from_toml(text, "firn.toml").unwrap()
}

fn with(assignments: &[&str]) -> Result<Config, ConfigError> {
    let mut overrides = Overrides::default();
    for assignment in assignments {
        overrides.set(assignment)?;
    }
    Config::compose([overrides])
}

#[test]
fn the_defaults_are_valid_and_local() {
    let config = Config::compose([]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:9092");
    assert_eq!(config.object_store_url(), "firn-data/archive");
    assert!(BROKER_SETTINGS.is_sorted_by(|a, b| a.name < b.name));
    for spec in BROKER_SETTINGS {
        spec.kind.check(spec.name, spec.default).unwrap();
    }
}

#[test]
fn a_stronger_source_wins_key_by_key() {
    let file =
        from_toml("listen = \"0.0.0.0:1\"\nnode-id = 7\n[settings]\nnum.partitions = 3\n\"segment.bytes\" = 4096");
    let line = Overrides { listen: Some("[::1]:2".parse().unwrap()), ..Overrides::default() };
    let config = Config::compose([file, line]).unwrap();
    assert_eq!((config.listen.to_string().as_str(), config.node_id), ("[::1]:2", 7));
    assert_eq!(config.settings.broker.num_partitions, 3);
    assert_eq!(config.settings.topic_defaults["segment.bytes"], "4096");
}

#[test]
fn kafkas_broker_names_set_topic_defaults() {
    let config = with(&["log.retention.hours=2", "log.roll.ms=5", "log.roll.hours=9"]).unwrap();
    assert_eq!(config.settings.topic_defaults["retention.ms"], "7200000");
    assert_eq!(config.settings.topic_defaults["segment.ms"], "5");
    assert_eq!(
        with(&["connections.max.idle.ms=5"]).unwrap().settings.broker.connections_max_idle,
        Duration::from_millis(5)
    );
    assert_eq!(with(&["log.retention.hours=-1"]).unwrap().settings.topic_defaults["retention.ms"], "-1");
}

#[test]
fn a_wrong_key_is_named_with_its_nearest() {
    let reason = |assignment| with(&[assignment]).unwrap_err().to_string();
    assert_eq!(reason("segment.byte=1"), "unknown setting \"segment.byte\", did you mean \"segment.bytes\"?");
    assert_eq!(reason("zzz=1"), "unknown setting \"zzz\"");
    assert!(reason("num.partitions=x").contains("whole number"));
    assert!(reason("num.partitions").contains("NAME=VALUE"));
    let error = Overrides::from_toml("lissten = \"a:1\"", "firn.toml").unwrap_err().unwrap();
    assert_eq!(error.to_string(), "unknown key in firn.toml \"lissten\", did you mean \"listen\"?");
}

#[test]
fn addresses_without_a_port_are_refused() {
    for text in ["localhost", ":9092", "host:x", "host:70000"] {
        assert!(text.parse::<HostPort>().is_err(), "{text}");
    }
}

/// A piece of a configuration file, right or wrong.
fn piece() -> impl Strategy<Value = String> {
    let words: &[&str] = &[
        "listen",
        "node-id",
        "settings",
        "segment.bytes",
        "[settings]",
        "[a.b]",
        "=",
        "\n",
        "\"x:1\"",
        "-1",
        "true",
        "[1, 2]",
        "1e9",
    ];
    prop_oneof![proptest::sample::select(words).prop_map(str::to_owned), ".{0,6}"]
}

proptest! {
    #[test]
    fn no_text_in_a_file_makes_the_configuration_panic(pieces in proptest::collection::vec(piece(), 0..12)) {
        if let Ok(overrides) = Overrides::from_toml(&pieces.join(" "), "firn.toml") {
            let _ = Config::compose([overrides]);
        }
    }

    #[test]
    fn no_value_of_a_setting_makes_the_configuration_panic(index in 0..BROKER_SETTINGS.len(), value in ".{0,12}|-?[0-9]{1,25}") {
        let mut overrides = Overrides::default();
        overrides.settings.insert(BROKER_SETTINGS[index].name.to_owned(), value);
        let _ = Config::compose([overrides]);
    }
}

#[test]
fn a_node_listens_to_its_cluster_where_the_peers_say_and_next_to_its_clients_without_them() {
    let compose = |text: &str| Config::compose([from_toml(&format!("object-store = \"s3://shared\"\n{text}"))]);
    let internal = |text: &str| compose(text).unwrap().internal_address().to_string();
    assert_eq!(internal("listen = \"a:9092\""), "a:9093");
    assert_eq!(internal("listen = \"a:0\""), "a:0");
    assert_eq!(internal("listen = \"a:1\"\nnode-id = 2\npeers = \"1@a:7,2@b:8\""), "b:8");
    assert_eq!(internal("internal = \"c:9\"\nnode-id = 2\npeers = \"1@a:7,2@b:8\""), "c:9");
    assert!(compose("node-id = 3\npeers = \"1@a:7,2@b:8\"").is_err());
    assert!(compose("join = \"a:7\"\npeers = \"1@a:7,2@b:8\"").is_err());
}

#[test]
fn nodes_of_a_cluster_are_told_which_store_they_share() {
    let compose = |text: &str| Config::compose([from_toml(text)]).map(|config| config.object_store_url());
    for place in ["join = \"a:7\"", "peers = \"1@a:7,2@b:8\""] {
        let refused = compose(place).unwrap_err().to_string();
        assert!(refused.contains("share one object store") && refused.contains("--object-store"), "{refused}");
        assert_eq!(compose(&format!("object-store = \"file:///mnt/firn\"\n{place}")).unwrap(), "file:///mnt/firn");
    }
    assert_eq!(compose("").unwrap(), "firn-data/archive");
    assert_eq!(compose("peers = \"1@a:7\"").unwrap(), "firn-data/archive", "no other node is named");
}

#[test]
fn an_advertised_address_is_one_that_clients_can_connect_to() {
    let advertise = |text: &str| {
        let advertise = Some(text.parse().unwrap());
        Config::compose([Overrides { advertise, ..Overrides::default() }]).map_err(|error| error.to_string())
    };
    for (wrong, reason) in
        [("0.0.0.0:9092", "all addresses"), ("[::]:9092", "all addresses"), ("broker-1:0", "the port 0")]
    {
        let error = advertise(wrong).unwrap_err();
        assert!(error.contains(reason) && error.contains(wrong), "{error}");
    }
    for right in ["broker-1:9092", "127.0.0.1:1", "[::1]:9092"] {
        advertise(right).unwrap();
    }
}
