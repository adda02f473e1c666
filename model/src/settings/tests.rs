//! Resolution and validation of topic settings.

use super::*;

fn map(pairs: &[(&str, &str)]) -> SettingsMap {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn resolve(topic: &[(&str, &str)], broker: &[(&str, &str)]) -> Result<TopicSettings, InvalidSetting> {
    TopicSettings::resolve(&map(topic), &map(broker))
}

#[test]
fn the_table_is_sorted_and_its_defaults_are_valid() {
    assert!(TOPIC_SETTINGS.is_sorted_by(|a, b| a.name < b.name));
    for spec in TOPIC_SETTINGS {
        spec.kind.check(spec.name, spec.default).unwrap();
        assert!(spec.documentation.ends_with('.'), "{}", spec.name);
    }
}

#[test]
fn a_topic_beats_the_broker_and_the_broker_beats_the_table() {
    let settings = resolve(&[("segment.bytes", "2048")], &[("segment.bytes", "4096"), ("segment.ms", "7")]).unwrap();
    assert_eq!((settings.segment_bytes, settings.segment_ms), (2048, 7));
    assert_eq!(TopicSettings::default().segment_bytes, 128 << 20);
}

#[test]
fn history_is_kept_for_ever_and_locally_for_a_day_by_default() {
    let settings = TopicSettings::default();
    assert_eq!((settings.retention_ms, settings.retention_bytes), (None, None));
    assert_eq!((settings.local_retention_ms, settings.local_retention_bytes), (Some(86_400_000), None));
    assert!(settings.remote_storage_enable);
}

#[test]
fn local_retention_never_exceeds_the_total() {
    let settings = resolve(&[("retention.ms", "1000"), ("retention.bytes", "500")], &[]).unwrap();
    assert_eq!((settings.local_retention_ms, settings.local_retention_bytes), (Some(1000), Some(500)));
    let error = resolve(&[("retention.ms", "1000"), ("local.retention.ms", "2000")], &[]).unwrap_err();
    assert_eq!(error.to_string(), "local.retention.ms=2000 must not exceed retention.ms=1000");
    assert!(resolve(&[("retention.bytes", "10"), ("local.retention.bytes", "-1")], &[]).is_err());
    assert!(resolve(&[("retention.ms", "1000"), ("local.retention.ms", "-2")], &[]).is_ok());
}

#[test]
fn bad_values_are_refused_with_what_is_needed() {
    let reason = |name, value| resolve(&[(name, value)], &[]).unwrap_err().to_string();
    assert_eq!(
        reason("segment.bytes", "12"),
        "segment.bytes=12 is invalid: a whole number from 1024 to 2147483647 is needed"
    );
    assert_eq!(reason("firn.flush", "fast"), "firn.flush=fast is invalid: one of durable, replicated is needed");
    assert_eq!(reason("retention.mss", "1"), "unknown topic setting \"retention.mss\", did you mean \"retention.ms\"?");
    assert!(reason("cleanup.policy", "compact").contains("comma-separated list of delete"));
    assert!(reason("retention.ms", "").contains("whole number"));
}

#[test]
fn settings_of_kafka_without_effect_are_stated_once_and_have_valid_defaults() {
    assert!(KAFKA_SETTINGS.is_sorted_by(|a, b| a.spec.name < b.spec.name));
    let of_topics: Vec<&str> =
        TOPIC_SETTINGS.iter().flat_map(|spec| spec.synonyms.iter().map(|s| s.name).chain([spec.name])).collect();
    assert_eq!(KAFKA_SETTINGS.len(), kafka::TABLE.lines().filter(|line| !line.starts_with('#')).count());
    for KafkaSetting { spec, .. } in KAFKA_SETTINGS.iter() {
        assert_eq!(spec.kind.normalised(spec.default), spec.default, "{}", spec.name);
        spec.kind.check(spec.name, spec.default).unwrap();
        assert!(!of_topics.contains(&spec.name), "{}", spec.name);
    }
}

#[test]
fn values_are_read_and_reported_as_kafka_does() {
    let normal = |name: &str, value| spec(name).unwrap().kind.normalised(value);
    assert_eq!(normal("retention.ms", " +604800000 "), "604800000");
    assert_eq!(normal("preallocate", " TRUE "), "true");
    assert_eq!(normal("compression.type", " gzip "), "gzip");
    assert_eq!(normal("cleanup.policy", " delete , delete "), "delete");
    assert_eq!(normal("min.cleanable.dirty.ratio", " .25 "), "0.25");
    let typed = [("retention.ms", " 5 "), ("remote.storage.enable", " FALSE "), ("compression.type", " gzip ")];
    let settings = resolve(&typed, &[]).unwrap();
    assert_eq!((settings.retention_ms, settings.remote_storage_enable), (Some(5), false));
    assert_eq!(settings.compression_type, CompressionSetting::Codec(Compression::Gzip));
}

fn of_kafka(name: &str) -> &'static SettingSpec {
    &KAFKA_SETTINGS.iter().find(|setting| setting.spec.name == name).unwrap().spec
}

#[test]
fn values_of_settings_without_effect_have_kafkas_types() {
    let takes = |name: &str, value| of_kafka(name).kind.check("it", value).is_ok();
    assert!(takes("num.io.threads", "2147483647") && !takes("num.io.threads", "2147483648"));
    assert!(takes("transaction.state.log.replication.factor", "1") && !takes("num.io.threads", "many"));
    assert!(takes("log.cleaner.enable", "FALSE") && !takes("log.cleaner.enable", "yes"));
    assert!(
        takes("transaction.two.phase.commit.enable", " FALSE ")
            && !takes("transaction.two.phase.commit.enable", "true")
    );
    assert!(takes("sasl.kerberos.ticket.renew.jitter", "0.050") && !takes("sasl.kerberos.ticket.renew.jitter", "0.5"));
    assert!(takes("ssl.enabled.protocols", "TLSv1.2, TLSv1.3") && !takes("ssl.enabled.protocols", "TLSv1.2"));
    let double = |value| of_kafka("log.cleaner.io.max.bytes.per.second").kind.normalised(value);
    assert_eq!(["52428800", "1e308", "0.0001", "100"].map(double), ["5.24288E7", "1.0E308", "1.0E-4", "100.0"]);
}

#[test]
fn a_password_is_refused_without_being_shown() {
    let refused = of_kafka("ssl.key.password").kind.check("ssl.key.password", "hunter2").unwrap_err().to_string();
    assert_eq!(refused, "ssl.key.password=[hidden] is invalid: only \"\" is possible here");
    let refused = check_dynamic("sasl.jaas.config", "password=hunter2").unwrap_err();
    assert!(!format!("{refused} {refused:?}").contains("hunter2"), "{refused:?}");
}

#[test]
fn without_a_cleanup_policy_records_are_kept() {
    let settings = resolve(&[("cleanup.policy", ""), ("retention.ms", "1"), ("retention.bytes", "1")], &[]).unwrap();
    assert_eq!((settings.retention_ms, settings.retention_bytes), (None, None));
    let settings = resolve(&[("cleanup.policy", "delete, delete"), ("retention.ms", "1")], &[]).unwrap();
    assert_eq!(settings.retention_ms, Some(1));
}

#[test]
fn a_topic_that_is_not_copied_is_not_archived() {
    assert!(!resolve(&[("remote.log.copy.disable", "true")], &[]).unwrap().remote_storage_enable);
}
