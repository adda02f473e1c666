//! The environment as a source of configuration.
//!
//! `FIRN_LISTEN` and the like are the options of the command line; `FIRN_SETTING_SEGMENT_BYTES` is the setting
//! `segment.bytes`: capitals, and `_` for every other sign. No two settings share such a name, which a test asserts. An
//! empty variable counts as not set. A variable that starts with `FIRN_` and means nothing is refused, except those that
//! Kubernetes makes for a service named firn, and those that start with `FIRN_TEST_`, which belong to the tests.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::str::FromStr;

use broker::config::BROKER_SETTINGS;
use broker::{ConfigError, Overrides};
use model::settings::{KAFKA_SETTINGS, TOPIC_SETTINGS, nearest};

const PREFIX: &str = "FIRN_";
const SETTING_PREFIX: &str = "FIRN_SETTING_";
const TEST_PREFIX: &str = "FIRN_TEST_";
const OPTIONS: [&str; 11] = [
    "FIRN_NODE_ID",
    "FIRN_DATA_DIR",
    "FIRN_LISTEN",
    "FIRN_ADVERTISE",
    "FIRN_ADMIN",
    "FIRN_INTERNAL",
    "FIRN_RACK",
    "FIRN_PEERS",
    "FIRN_JOIN",
    "FIRN_OBJECT_STORE",
    "FIRN_ACCEPT_OBJECT_STORE",
];
/// Read elsewhere in this program.
const OTHERS: [&str; 5] = ["FIRN_CONFIG", "FIRN_LOG", "FIRN_LOG_FORMAT", "FIRN_BOOTSTRAP", "FIRN_ADMIN_ADDRESS"];

/// A variable of this process that is read by itself; nothing when it is empty.
pub(super) fn value(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What the variables say.
///
/// # Errors
/// [`ConfigError`] names the variable, and the nearest valid one when there is no such variable.
pub(super) fn overrides(variables: impl Iterator<Item = (OsString, OsString)>) -> Result<Overrides, ConfigError> {
    let settings = settings_by_variable();
    let mut overrides = Overrides::default();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        let is_foreign = is_service_link(name) || name.starts_with(TEST_PREFIX);
        if OTHERS.contains(&name) || is_foreign || value.is_empty() {
            continue;
        }
        let value = value.into_string().map_err(|_| invalid(name, "it is not UTF-8".to_owned()))?;
        if let Some(setting) = settings.get(name) {
            overrides.settings.insert((*setting).to_owned(), value);
            continue;
        }
        match name {
            "FIRN_NODE_ID" => overrides.node_id = Some(parsed(name, &value)?),
            "FIRN_DATA_DIR" => overrides.data_dir = Some(value.into()),
            "FIRN_LISTEN" => overrides.listen = Some(parsed(name, &value)?),
            "FIRN_ADVERTISE" => overrides.advertise = Some(parsed(name, &value)?),
            "FIRN_ADMIN" => overrides.admin = Some(parsed(name, &value)?),
            "FIRN_INTERNAL" => overrides.internal = Some(parsed(name, &value)?),
            "FIRN_RACK" => overrides.rack = Some(value),
            "FIRN_PEERS" => overrides.peers = Some(parsed(name, &value)?),
            "FIRN_JOIN" => overrides.join = Some(parsed(name, &value)?),
            "FIRN_OBJECT_STORE" => overrides.object_store = Some(value),
            "FIRN_ACCEPT_OBJECT_STORE" => overrides.accept_object_store = Some(parsed(name, &value)?),
            _ => return Err(unknown(name, &settings)),
        }
    }
    Ok(overrides)
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(name: &str, value: &str) -> Result<T, ConfigError> {
    value.parse().map_err(|e: T::Err| invalid(name, e.to_string()))
}

fn invalid(name: &str, reason: String) -> ConfigError {
    ConfigError::Value { place: format!("environment variable {name}"), reason }
}

fn unknown(name: &str, settings: &BTreeMap<String, &'static str>) -> ConfigError {
    let names = settings.keys().map(String::as_str).chain(OPTIONS).chain(OTHERS);
    let nearest = nearest(name, names).map(str::to_owned);
    ConfigError::UnknownKey { place: "environment variable".to_owned(), name: name.to_owned(), nearest }
}

fn setting_names() -> impl Iterator<Item = &'static str> {
    let of_topics =
        TOPIC_SETTINGS.iter().flat_map(|s| std::iter::once(s.name).chain(s.synonyms.iter().map(|y| y.name)));
    let of_kafka = KAFKA_SETTINGS.iter().map(|setting| setting.spec.name);
    BROKER_SETTINGS.iter().map(|s| s.name).chain(of_topics).chain(of_kafka)
}

/// The variable of a setting.
fn variable(setting: &str) -> String {
    let sign = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    SETTING_PREFIX.chars().chain(setting.chars().map(sign)).collect()
}

fn settings_by_variable() -> BTreeMap<String, &'static str> {
    setting_names().map(|name| (variable(name), name)).collect()
}

/// Kubernetes puts such variables into every container of a namespace, for each service by its name.
fn is_service_link(name: &str) -> bool {
    let has_port_number =
        name.split("_PORT_").nth(1).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") || name.ends_with("_PORT") || has_port_number
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use broker::Config;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Overrides, String> {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        overrides(variables).map_err(|e| e.to_string())
    }

    #[test]
    fn options_and_settings_come_from_the_environment() {
        let overrides = read(&[
            ("FIRN_LISTEN", "[::]:1"),
            ("FIRN_SETTING_SEGMENT_BYTES", "4096"),
            ("FIRN_LOG", "debug"),
            ("HOME", "/"),
        ])
        .unwrap();
        let config = Config::compose([overrides]).unwrap();
        assert_eq!(config.listen.to_string(), "[::]:1");
        assert_eq!(config.settings.topic_defaults["segment.bytes"], "4096");
    }

    #[test]
    fn an_unknown_variable_is_refused_with_the_nearest() {
        let reason = |name| read(&[(name, "1")]).unwrap_err();
        assert_eq!(reason("FIRN_LISTN"), "unknown environment variable \"FIRN_LISTN\", did you mean \"FIRN_LISTEN\"?");
        assert!(reason("FIRN_SETTING_SEGMENT_BYTE").contains("\"FIRN_SETTING_SEGMENT_BYTES\""));
        assert!(reason("FIRN_LISTEN").contains("HOST:PORT"));
    }

    #[test]
    fn what_is_empty_or_comes_from_kubernetes_is_read_over() {
        for name in ["FIRN_SERVICE_HOST", "FIRN_SERVICE_PORT_KAFKA", "FIRN_PORT", "FIRN_PORT_9092_TCP_ADDR"] {
            assert_eq!(read(&[(name, "tcp://10.0.0.1:9092")]), Ok(Overrides::default()), "{name}");
        }
        assert_eq!(read(&[("FIRN_OBJECT_STORE", "")]), Ok(Overrides::default()));
    }

    #[test]
    fn no_two_settings_share_a_variable() {
        let names: BTreeSet<_> = setting_names().collect();
        assert_eq!(names.len(), settings_by_variable().len());
        assert!(settings_by_variable().keys().all(|name| !is_service_link(name)));
    }
}
