//! Settings by name, resolved: the broker's own as typed values, the topics' defaults under topic setting names.

use std::time::Duration;

use coordinator::group::GroupSettings;
use model::settings::{KAFKA_SETTINGS, SettingSpec, SettingsMap, TOPIC_SETTINGS, TopicSettings, in_own_unit, nearest};

use super::table::RACK_AWARE;
use super::{BROKER_SETTINGS, ConfigError};

/// Where a setting's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// The command line, the environment or the file.
    Static,
    /// The table's default.
    Default,
}

/// All settings of a broker.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The broker's own, typed.
    pub broker: BrokerSettings,
    /// Defaults of topics that this broker's configuration gives, under topic setting names.
    pub topic_defaults: SettingsMap,
    given: SettingsMap,
}

impl Default for Settings {
    fn default() -> Self {
        let given = SettingsMap::new();
        Settings { broker: BrokerSettings::read(&given), topic_defaults: SettingsMap::new(), given }
    }
}

impl Settings {
    /// Checks and resolves settings as they were given: broker settings, topic settings (as defaults of all topics), and
    /// Kafka's broker-wide names for topic defaults such as `log.segment.bytes` or `log.retention.hours`.
    ///
    /// # Errors
    /// [`ConfigError`] for the first name that does not exist or value that does not fit.
    pub fn resolve(given: &SettingsMap) -> Result<Self, ConfigError> {
        let mut topic_defaults = SettingsMap::new();
        for (name, value) in given {
            let without_effect = KAFKA_SETTINGS.iter().map(|setting| &setting.spec);
            if let Some(spec) = BROKER_SETTINGS.iter().chain(without_effect).find(|spec| spec.name == name) {
                spec.kind.check(spec.name, value)?;
            } else if !TOPIC_SETTINGS.iter().any(|spec| is_called(spec, name)) {
                return Err(unknown(name));
            }
        }
        for spec in TOPIC_SETTINGS {
            if let Some((_, value)) = stated_default(spec, given)? {
                topic_defaults.insert(spec.name.to_owned(), value);
            }
        }
        TopicSettings::resolve(&SettingsMap::new(), &topic_defaults)?;
        Ok(Settings { broker: BrokerSettings::read(given), topic_defaults, given: given.clone() })
    }

    /// The settings as they were given.
    #[must_use]
    pub fn given(&self) -> &SettingsMap {
        &self.given
    }

    /// The value of a broker setting as text, and where it comes from.
    #[must_use]
    pub fn value<'a>(&'a self, spec: &'a SettingSpec) -> (&'a str, ConfigSource) {
        match self.given.get(spec.name) {
            Some(value) => (value, ConfigSource::Static),
            None => (spec.default, ConfigSource::Default),
        }
    }
}

fn is_called(spec: &SettingSpec, name: &str) -> bool {
    spec.name == name || spec.synonyms.iter().any(|synonym| synonym.name == name)
}

/// The default that `given` states for a topic setting, in the topic setting's unit, and the name under which it does:
/// the setting's own, else the strongest synonym.
///
/// # Errors
/// [`ConfigError::Value`] when a value in minutes or hours is no number.
pub fn stated_default<'a>(
    spec: &'a SettingSpec,
    given: &SettingsMap,
) -> Result<Option<(&'a str, String)>, ConfigError> {
    if let Some(value) = given.get(spec.name) {
        return Ok(Some((spec.name, value.clone())));
    }
    let Some((synonym, value)) = spec.synonyms.iter().find_map(|s| Some((s, given.get(s.name)?))) else {
        return Ok(None);
    };
    if synonym.factor != 1 && value.trim().parse::<i64>().is_err() {
        let place = format!("{}={value}", synonym.name);
        return Err(ConfigError::Value { place, reason: "a whole number is needed".to_owned() });
    }
    Ok(Some((synonym.name, in_own_unit(value, synonym.factor))))
}

fn unknown(name: &str) -> ConfigError {
    let topic_names =
        TOPIC_SETTINGS.iter().flat_map(|s| std::iter::once(s.name).chain(s.synonyms.iter().map(|y| y.name)));
    let of_kafka = KAFKA_SETTINGS.iter().map(|setting| setting.spec.name);
    let names = BROKER_SETTINGS.iter().map(|spec| spec.name).chain(topic_names).chain(of_kafka);
    let nearest = nearest(name, names).map(str::to_owned);
    ConfigError::UnknownKey { place: "setting".to_owned(), name: name.to_owned(), nearest }
}

/// Groups may keep one part of so many of the memory for requests, unless `firn.group.memory.bytes` says otherwise.
const GROUP_MEMORY_PARTS: usize = 4;

/// The broker's own settings, typed; [`BROKER_SETTINGS`] documents each.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the table documents every setting")]
pub struct BrokerSettings {
    pub auto_create_topics: bool,
    /// None: leaderships stay where they are.
    pub leader_balance_interval: Option<Duration>,
    pub broker_session_timeout: Duration,
    pub connections_max_idle: Duration,
    pub default_replication_factor: i16,
    pub delete_topic_enable: bool,
    pub fetch_max_bytes: usize,
    pub archive_concurrency: usize,
    pub archive_interval: Duration,
    pub archive_part_bytes: u64,
    pub archive_retry_max: Duration,
    pub cold_cache_bytes: u64,
    pub cold_fetch_timeout: Duration,
    pub cold_threads: usize,
    pub connection_stall: Duration,
    pub disk_stall: Duration,
    pub group_memory_bytes: usize,
    pub iceberg_commit_interval: Duration,
    pub iceberg_snapshot_max_age: Duration,
    pub journal_bytes: u64,
    pub object_store_timeout: Duration,
    pub reply_memory_bytes: usize,
    pub request_memory_bytes: usize,
    pub sql_concurrency: usize,
    pub sql_memory_bytes: usize,
    pub sql_threads: usize,
    pub sql_timeout: Duration,
    pub sweep_grace: Duration,
    pub sweep_interval: Duration,
    pub group_initial_rebalance_delay: Duration,
    pub group_max_session_timeout: Duration,
    pub group_max_size: usize,
    pub group_min_session_timeout: Duration,
    pub retention_check_interval: Duration,
    pub max_connections: usize,
    pub fetch_session_slots: usize,
    pub num_partitions: i32,
    pub offset_metadata_max_bytes: usize,
    pub offsets_retention: Duration,
    pub offsets_topic_partitions: i32,
    pub offsets_topic_replication_factor: i16,
    pub producer_id_expiration: Duration,
    pub replica_fetch_max_bytes: usize,
    pub replica_fetch_min_bytes: usize,
    pub replica_fetch_response_max_bytes: usize,
    pub replica_fetch_wait_max: Duration,
    pub closest_replica: bool,
    pub replica_socket_timeout: Duration,
    pub replica_lag_max: Duration,
    pub request_max_bytes: usize,
}

impl BrokerSettings {
    /// What the group coordinator needs to know.
    pub(crate) fn group_settings(&self) -> GroupSettings {
        let ms = |duration: Duration| i32::try_from(duration.as_millis()).unwrap_or(i32::MAX);
        GroupSettings {
            min_session_timeout_ms: ms(self.group_min_session_timeout),
            max_session_timeout_ms: ms(self.group_max_session_timeout),
            initial_rebalance_delay_ms: ms(self.group_initial_rebalance_delay),
            max_size: self.group_max_size,
            offset_metadata_max_bytes: self.offset_metadata_max_bytes,
            offsets_retention_ms: i64::try_from(self.offsets_retention.as_millis()).unwrap_or(i64::MAX),
            ..GroupSettings::default()
        }
    }

    /// Reads checked values.
    fn read(given: &SettingsMap) -> Self {
        let text = |name: &str| given.get(name).map_or_else(|| default_of(name), String::as_str).trim();
        let flag = |name| text(name).eq_ignore_ascii_case("true");
        let number = |name| text(name).trim().parse::<i64>().unwrap_or_default();
        let size = |name| usize::try_from(number(name)).unwrap_or(usize::MAX);
        let bytes = |name| u64::try_from(number(name)).unwrap_or_default();
        let count = |name| i32::try_from(number(name)).unwrap_or(i32::MAX);
        let replicas = |name| i16::try_from(number(name)).unwrap_or(i16::MAX);
        let ms = |name| Duration::from_millis(bytes(name));
        BrokerSettings {
            auto_create_topics: flag("auto.create.topics.enable"),
            leader_balance_interval: flag("auto.leader.rebalance.enable")
                .then(|| Duration::from_secs(bytes("leader.imbalance.check.interval.seconds"))),
            broker_session_timeout: ms("broker.session.timeout.ms"),
            connections_max_idle: ms("connections.max.idle.ms"),
            default_replication_factor: replicas("default.replication.factor"),
            delete_topic_enable: flag("delete.topic.enable"),
            fetch_max_bytes: size("fetch.max.bytes"),
            archive_concurrency: size("firn.archive.concurrency"),
            archive_interval: ms("firn.archive.interval.ms"),
            archive_part_bytes: bytes("firn.archive.part.bytes"),
            archive_retry_max: ms("firn.archive.retry.max.ms"),
            cold_cache_bytes: bytes("firn.cold.cache.bytes"),
            cold_fetch_timeout: ms("firn.cold.fetch.timeout.ms"),
            cold_threads: size("firn.cold.threads"),
            connection_stall: ms("firn.connection.stall.ms"),
            disk_stall: ms("firn.disk.stall.ms"),
            group_memory_bytes: match size("firn.group.memory.bytes") {
                0 => size("firn.request.memory.bytes") / GROUP_MEMORY_PARTS,
                bytes => bytes,
            },
            iceberg_commit_interval: ms("firn.iceberg.commit.interval.ms"),
            iceberg_snapshot_max_age: ms("firn.iceberg.snapshot.max.age.ms"),
            journal_bytes: bytes("firn.journal.bytes"),
            object_store_timeout: ms("firn.object.store.timeout.ms"),
            reply_memory_bytes: size("firn.reply.memory.bytes"),
            request_memory_bytes: size("firn.request.memory.bytes"),
            sql_concurrency: size("firn.sql.concurrency"),
            sql_memory_bytes: size("firn.sql.memory.bytes"),
            sql_threads: size("firn.sql.threads"),
            sql_timeout: ms("firn.sql.timeout.ms"),
            sweep_grace: ms("firn.sweep.grace.ms"),
            sweep_interval: ms("firn.sweep.interval.ms"),
            group_initial_rebalance_delay: ms("group.initial.rebalance.delay.ms"),
            group_max_session_timeout: ms("group.max.session.timeout.ms"),
            group_max_size: size("group.max.size"),
            group_min_session_timeout: ms("group.min.session.timeout.ms"),
            retention_check_interval: ms("log.retention.check.interval.ms"),
            max_connections: size("max.connections"),
            fetch_session_slots: size("max.incremental.fetch.session.cache.slots"),
            num_partitions: count("num.partitions"),
            offset_metadata_max_bytes: size("offset.metadata.max.bytes"),
            offsets_retention: Duration::from_secs(60 * bytes("offsets.retention.minutes")),
            offsets_topic_partitions: count("offsets.topic.num.partitions"),
            offsets_topic_replication_factor: replicas("offsets.topic.replication.factor"),
            producer_id_expiration: ms("producer.id.expiration.ms"),
            replica_fetch_max_bytes: size("replica.fetch.max.bytes"),
            replica_fetch_min_bytes: size("replica.fetch.min.bytes"),
            replica_fetch_response_max_bytes: size("replica.fetch.response.max.bytes"),
            replica_fetch_wait_max: ms("replica.fetch.wait.max.ms"),
            closest_replica: text("replica.selector.class") == RACK_AWARE,
            replica_socket_timeout: ms("replica.socket.timeout.ms"),
            replica_lag_max: ms("replica.lag.time.max.ms"),
            request_max_bytes: size("socket.request.max.bytes"),
        }
    }
}

fn default_of(name: &str) -> &'static str {
    BROKER_SETTINGS.iter().find(|spec| spec.name == name).map_or("", |spec| spec.default)
}
