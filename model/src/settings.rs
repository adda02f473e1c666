//! How a topic behaves: Kafka's settings under Kafka's names, and Firn's own under `firn.`.
//!
//! [`table`] states every setting once: name, kind, default, the broker-wide names that give its default, and what it
//! means; `DescribeConfigs`, validation and the reference page all read it. [`TopicSettings`] is the resolved, typed form.
//! A value comes from the topic, else from the broker's default for it, else from the table.
//!
//! `min.insync.replicas` is not in the resolved form: leaders and the cluster must go by one value, which the cluster's
//! metadata says for each partition.

use std::collections::BTreeMap;

pub mod table;

mod kafka;
mod kind;
mod throttled;

pub use kafka::{KAFKA_SETTINGS, KafkaSetting};
pub use kind::{Kind, SettingSpec, Synonym, ValueType};
pub use table::{DYNAMIC_BROKER_SETTINGS, TOPIC_SETTINGS};
pub use throttled::ThrottledReplicas;

use crate::batch::{Compression, TimestampType};

/// Settings by name, as they travel: from a client, in the metadata log, on the command line.
pub type SettingsMap = BTreeMap<String, String>;

/// When an acknowledgement counts as durable: the topic setting `firn.flush`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FlushMode {
    /// On stable storage of every in-sync replica.
    #[default]
    Durable,
    /// In the memory of every in-sync replica, as in Apache Kafka.
    Replicated,
}

/// The topic setting `compression.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CompressionSetting {
    /// Batches stay as the producer made them.
    #[default]
    Producer,
    /// Batches in another codec are recompressed at append.
    Codec(Compression),
}

/// A topic's settings, typed. Limits are `None` when unlimited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    /// `retention.ms`: age at which records leave both tiers.
    pub retention_ms: Option<u64>,
    /// `retention.bytes`: size of a partition over both tiers.
    pub retention_bytes: Option<u64>,
    /// `local.retention.ms`: age at which archived segments leave the local disk; never above `retention_ms`.
    pub local_retention_ms: Option<u64>,
    /// `local.retention.bytes`: size of a partition on the local disk; never above `retention_bytes`.
    pub local_retention_bytes: Option<u64>,
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.ms`.
    pub segment_ms: u64,
    /// `segment.jitter.ms`.
    pub segment_jitter_ms: u64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u64,
    /// `max.message.bytes`.
    pub max_message_bytes: u64,
    /// `remote.storage.enable` without `remote.log.copy.disable`.
    pub remote_storage_enable: bool,
    /// `message.timestamp.type`.
    pub message_timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub message_timestamp_before_max_ms: u64,
    /// `message.timestamp.after.max.ms`.
    pub message_timestamp_after_max_ms: u64,
    /// `compression.type`.
    pub compression_type: CompressionSetting,
    /// `leader.replication.throttled.replicas`.
    pub leader_throttled: ThrottledReplicas,
    /// `follower.replication.throttled.replicas`.
    pub follower_throttled: ThrottledReplicas,
    /// `firn.flush`.
    pub flush: FlushMode,
    /// `firn.iceberg.enable`.
    pub iceberg_enable: bool,
    /// `firn.archive.compression.type`: zstd, lz4 or none.
    pub archive_compression: Compression,
}

/// Why a setting is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSetting {
    /// No such setting.
    #[error("unknown topic setting {name:?}{}", nearest.as_ref().map(|n| format!(", did you mean {n:?}?")).unwrap_or_default())]
    Unknown {
        /// The name that was given.
        name: String,
        /// The valid name that is nearest to it.
        nearest: Option<&'static str>,
    },
    /// A value that the setting cannot take.
    #[error("{name}={value} is invalid: {expected}")]
    Value {
        /// Which setting.
        name: &'static str,
        /// The value that was given.
        value: String,
        /// What it takes.
        expected: String,
    },
    /// Two settings that contradict each other.
    #[error("{0}")]
    Conflict(String),
}

impl Default for TopicSettings {
    /// The table's defaults.
    fn default() -> Self {
        Resolver { topic: &SettingsMap::new(), broker: &SettingsMap::new() }.resolve()
    }
}

impl TopicSettings {
    /// Checks a topic's own settings and resolves them over the broker's defaults (both under topic setting names).
    ///
    /// # Errors
    /// [`InvalidSetting`] for the first setting that is unknown, malformed or contradicts another.
    pub fn resolve(topic: &SettingsMap, broker: &SettingsMap) -> Result<Self, InvalidSetting> {
        broker.iter().chain(topic).try_for_each(|(name, value)| check(name, value))?;
        check_together(topic, broker)?;
        Ok(Resolver { topic, broker }.resolve())
    }

    /// Resolves settings that were stored or configured, maybe by another release. Whatever is wrong with one of them
    /// touches no other: a setting that this release does not know, and a value that it cannot read, count as not given
    /// on their layer. A default that contradicts the topic's own retention does not count for that topic.
    #[must_use]
    pub fn effective(topic: &SettingsMap, broker: &SettingsMap) -> Self {
        let readable = |settings: &SettingsMap| -> SettingsMap {
            settings.iter().filter(|(name, value)| check(name, value).is_ok()).map(owned).collect()
        };
        let (topic, mut broker) = (readable(topic), readable(broker));
        if check_together(&topic, &broker).is_err() {
            broker.retain(|name, _| !name.contains("retention"));
        }
        Resolver { topic: &topic, broker: &broker }.resolve()
    }
}

fn owned((name, value): (&String, &String)) -> (String, String) {
    (name.clone(), value.clone())
}

/// Checks one setting of a topic.
///
/// # Errors
/// [`InvalidSetting`] when it is unknown or malformed.
pub fn check(name: &str, value: &str) -> Result<(), InvalidSetting> {
    let spec = spec(name)?;
    spec.kind.check(spec.name, value)
}

/// Checks that a topic's own settings do not contradict each other or its defaults.
///
/// # Errors
/// [`InvalidSetting::Conflict`].
pub fn check_together(topic: &SettingsMap, broker: &SettingsMap) -> Result<(), InvalidSetting> {
    Resolver { topic, broker }.check_conflicts()
}

/// Checks a setting that a running broker takes: a default of topics, under the topic setting's name or a broker-wide one, or
/// one of [`dynamic_broker_settings`].
///
/// # Errors
/// [`InvalidSetting`] when it is unknown or malformed.
pub fn check_dynamic(name: &str, value: &str) -> Result<(), InvalidSetting> {
    let (spec, factor) = dynamic_spec(name)?;
    spec.kind.check(spec.name, &in_own_unit(value, factor))
}

/// The specification of a setting that a running broker takes, and the factor of the name's unit.
///
/// # Errors
/// [`InvalidSetting::Unknown`].
pub fn dynamic_spec(name: &str) -> Result<(&'static SettingSpec, i64), InvalidSetting> {
    let synonym = |spec: &'static SettingSpec| {
        spec.synonyms.iter().find(|synonym| synonym.name == name).map(|synonym| (spec, synonym.factor))
    };
    let own = || dynamic_broker_settings().find(|spec| spec.name == name).map(|spec| (spec, 1));
    match TOPIC_SETTINGS.iter().find_map(synonym).or_else(own) {
        Some(found) => Ok(found),
        None => spec(name).map(|spec| (spec, 1)),
    }
}

/// The settings that a running broker takes, apart from the topics' defaults, with or without effect.
pub fn dynamic_broker_settings() -> impl Iterator<Item = &'static SettingSpec> {
    let of_kafka = KAFKA_SETTINGS.iter().filter(|setting| setting.is_dynamic).map(|setting| &setting.spec);
    DYNAMIC_BROKER_SETTINGS.iter().chain(of_kafka)
}

/// A value that is stated in a unit `factor` times as large; as it is, when it is no number.
pub fn in_own_unit(value: &str, factor: i64) -> String {
    match value.trim().parse::<i64>() {
        // −1 is "no limit" in any unit.
        Ok(number) if factor != 1 && number >= 0 => number.saturating_mul(factor).to_string(),
        _ => value.to_owned(),
    }
}

/// The specification of the topic setting `name`.
///
/// # Errors
/// [`InvalidSetting::Unknown`] with the nearest valid name.
pub fn spec(name: &str) -> Result<&'static SettingSpec, InvalidSetting> {
    TOPIC_SETTINGS.iter().find(|spec| spec.name == name).ok_or_else(|| InvalidSetting::Unknown {
        name: name.to_owned(),
        nearest: nearest(name, TOPIC_SETTINGS.iter().map(|spec| spec.name)),
    })
}

/// The candidate that looks most like `name`, when any looks like it at all.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const ALIKE: f64 = 0.75;
    candidates
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Reads checked values; a value that slipped through unchecked falls back to the table's default.
struct Resolver<'a> {
    topic: &'a SettingsMap,
    broker: &'a SettingsMap,
}

impl Resolver<'_> {
    fn text(&self, name: &str) -> &str {
        let own = self.topic.get(name).or_else(|| self.broker.get(name)).map(String::as_str);
        own.unwrap_or_else(|| default_of(name)).trim()
    }

    fn number(&self, name: &str) -> i64 {
        let parse = |text: &str| text.trim().parse().ok();
        parse(self.text(name)).or_else(|| parse(default_of(name))).unwrap_or(0)
    }

    fn flag(&self, name: &str) -> bool {
        self.text(name).eq_ignore_ascii_case("true")
    }

    fn unsigned(&self, name: &str) -> u64 {
        u64::try_from(self.number(name)).unwrap_or(0)
    }

    fn replicas(&self, name: &str) -> ThrottledReplicas {
        ThrottledReplicas::parse(self.text(name)).unwrap_or_default()
    }

    /// −1 is unlimited.
    fn limit(&self, name: &str) -> Option<u64> {
        u64::try_from(self.number(name)).ok()
    }

    /// −2 is "as the total", and no local limit exceeds the total.
    fn local_limit(&self, name: &str, total: Option<u64>) -> Option<u64> {
        match (self.limit(name), total) {
            (Some(local), Some(total)) => Some(local.min(total)),
            (local, total) => local.or(total),
        }
    }

    fn check_conflicts(&self) -> Result<(), InvalidSetting> {
        for (local, total) in [("local.retention.ms", "retention.ms"), ("local.retention.bytes", "retention.bytes")] {
            let (l, t) = (self.number(local), self.number(total));
            if self.topic.contains_key(local) && t >= 0 && (l > t || l == -1) {
                return Err(InvalidSetting::Conflict(format!("{local}={l} must not exceed {total}={t}")));
            }
        }
        Ok(())
    }

    fn resolve(&self) -> TopicSettings {
        let deletes = self.text("cleanup.policy").split(',').any(|word| word.trim() == "delete");
        let retention_ms = self.limit("retention.ms").filter(|_| deletes);
        let retention_bytes = self.limit("retention.bytes").filter(|_| deletes);
        TopicSettings {
            retention_ms,
            retention_bytes,
            local_retention_ms: self.local_limit("local.retention.ms", retention_ms),
            local_retention_bytes: self.local_limit("local.retention.bytes", retention_bytes),
            segment_bytes: self.unsigned("segment.bytes"),
            segment_ms: self.unsigned("segment.ms"),
            segment_jitter_ms: self.unsigned("segment.jitter.ms"),
            index_interval_bytes: self.unsigned("index.interval.bytes"),
            max_message_bytes: self.unsigned("max.message.bytes"),
            remote_storage_enable: self.flag("remote.storage.enable") && !self.flag("remote.log.copy.disable"),
            message_timestamp_type: match self.text("message.timestamp.type") {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            message_timestamp_before_max_ms: self.unsigned("message.timestamp.before.max.ms"),
            message_timestamp_after_max_ms: self.unsigned("message.timestamp.after.max.ms"),
            compression_type: Compression::from_name(self.text("compression.type"))
                .map_or(CompressionSetting::Producer, CompressionSetting::Codec),
            leader_throttled: self.replicas("leader.replication.throttled.replicas"),
            follower_throttled: self.replicas("follower.replication.throttled.replicas"),
            flush: if self.text("firn.flush") == "replicated" { FlushMode::Replicated } else { FlushMode::Durable },
            iceberg_enable: self.flag("firn.iceberg.enable"),
            archive_compression: Compression::from_name(self.text("firn.archive.compression.type"))
                .unwrap_or(Compression::Zstd),
        }
    }
}

fn default_of(name: &str) -> &'static str {
    spec(name).map_or("", |spec| spec.default)
}

#[cfg(test)]
mod tests;
