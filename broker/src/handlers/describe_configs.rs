//! DescribeConfigs: the settings of topics and brokers with their sources, synonyms and documentation (KIP-226, KIP-569).

use std::collections::HashSet;

use model::settings::{
    KAFKA_SETTINGS, Kind, SettingSpec, SettingsMap, TOPIC_SETTINGS, ValueType, dynamic_broker_settings,
};
use protocol::messages::describe_configs_request::DescribeConfigsResource;
use protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use protocol::{ApiKey, ErrorCode, Str};

use super::errors::Refusal;
use super::once_each::once_each;
use super::topics::check_topic_name;
use super::{BadRequest, RequestContext};
use crate::broker::{Broker, LISTENER};
use crate::config::layers::{DefaultLayers, Layer, Source};
use crate::config::{BROKER_SETTINGS, ConfigSource};

/// Kafka's numbers of the kinds of resources.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;

/// A setting, with everything there is to say about it.
pub(super) struct Entry {
    pub(super) name: &'static str,
    spec: &'static SettingSpec,
    pub(super) value: String,
    pub(super) source: Source,
    layers: Vec<Layer>,
    is_read_only: bool,
}

/// What a setting takes in a response beyond its values and documentation, in memory and encoded, and one of its synonyms.
const ROW_BYTES: usize = 384;
const SYNONYM_BYTES: usize = 192;

/// What is asked of every resource.
#[derive(Debug, Clone, Copy)]
struct Detail {
    synonyms: bool,
    documentation: bool,
}

pub(super) async fn handle(
    context: &RequestContext<'_>,
    request: DescribeConfigsRequest,
) -> Result<DescribeConfigsResponse, BadRequest> {
    let detail = Detail { synonyms: request.include_synonyms, documentation: request.include_documentation };
    let identity =
        |it: &DescribeConfigsResource| (it.resource_type, it.resource_name.clone(), it.configuration_keys.clone());
    let resources = once_each(request.resources, identity);
    let of_resource = |resource: &DescribeConfigsResource| {
        let entries = wanted_entries(context.broker, resource).unwrap_or_default();
        entries.iter().map(|entry| weight(entry, detail)).sum::<usize>()
    };
    context.claim_reply(ApiKey::DescribeConfigs, resources.iter().map(of_resource).sum()).await?;
    let results = resources.into_iter().map(|resource| describe(context.broker, resource, detail)).collect();
    Ok(DescribeConfigsResponse { results, ..DescribeConfigsResponse::default() })
}

fn describe(broker: &Broker, resource: DescribeConfigsResource, detail: Detail) -> DescribeConfigsResult {
    let found = wanted_entries(broker, &resource);
    let DescribeConfigsResource { resource_type, resource_name, .. } = resource;
    let result = DescribeConfigsResult { resource_type, resource_name, ..DescribeConfigsResult::default() };
    match found {
        Ok(entries) => {
            let rows = entries.into_iter().map(|entry| row(entry, detail));
            DescribeConfigsResult { configs: rows.collect(), ..result }
        }
        Err(refusal) => DescribeConfigsResult {
            error_code: refusal.code.code(),
            error_message: refusal.message.map(Str::from),
            ..result
        },
    }
}

fn wanted_entries(broker: &Broker, resource: &DescribeConfigsResource) -> Result<Vec<Entry>, Refusal> {
    let mut entries = entries(broker, resource.resource_type, &resource.resource_name)?;
    // An empty list asks for everything, as null does.
    if let Some(keys) = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty()) {
        let keys: HashSet<&str> = keys.iter().map(|key| &**key).collect();
        entries.retain(|entry| keys.contains(entry.name));
    }
    Ok(entries)
}

/// What a setting takes in a response, in memory and encoded.
fn weight(entry: &Entry, detail: Detail) -> usize {
    let synonyms = entry.layers.iter().map(|layer| SYNONYM_BYTES + 2 * layer.value.len()).sum::<usize>();
    ROW_BYTES
        + 2 * entry.value.len()
        + if detail.synonyms { synonyms } else { 0 }
        + if detail.documentation { entry.spec.documentation.len() } else { 0 }
}

/// What the settings of a new topic take in a response, in memory and encoded, where it has none of its own.
pub(super) fn topic_weight(broker: &Broker) -> usize {
    let detail = Detail { synonyms: false, documentation: false };
    topic_entries(broker, &SettingsMap::new()).iter().map(|entry| weight(entry, detail)).sum()
}

fn entries(broker: &Broker, resource_type: i8, name: &str) -> Result<Vec<Entry>, Refusal> {
    match resource_type {
        TOPIC => {
            check_topic_name(name)?;
            let image = broker.metadata.image();
            let topic = image.topic(name).ok_or_else(|| {
                Refusal::new(ErrorCode::UnknownTopicOrPartition, format!("there is no topic {name:?}"))
            })?;
            Ok(topic_entries(broker, &topic.configs))
        }
        // The empty name means the dynamic defaults of all brokers.
        BROKER if name.is_empty() => Ok(cluster_entries(broker)),
        BROKER if name.parse() == Ok(broker.config.node_id) => Ok(broker_entries(broker)),
        BROKER => {
            let reason = format!("this is broker {}, ask broker {name:?} itself", broker.config.node_id);
            Err(Refusal::new(ErrorCode::InvalidRequest, reason))
        }
        other => {
            let reason =
                format!("resources of type {other} have no settings here, only topics (2) and brokers (4) have");
            Err(Refusal::new(ErrorCode::InvalidRequest, reason))
        }
    }
}

/// The settings of a topic whose own are `configs`.
pub(super) fn topic_entries(broker: &Broker, configs: &SettingsMap) -> Vec<Entry> {
    let image = broker.metadata.image();
    let layers = DefaultLayers::of(&broker.config.settings, &image, broker.config.node_id);
    TOPIC_SETTINGS.iter().filter_map(|spec| entry(spec, layers.of_setting(spec, configs))).collect()
}

/// The strongest layer is the value.
fn entry(spec: &'static SettingSpec, layers: Vec<Layer>) -> Option<Entry> {
    let Layer { source, value, .. } = layers.first()?.clone();
    Some(Entry { name: spec.name, spec, value, source, layers, is_read_only: false })
}

/// Settings of the command line about a broker's place, under Kafka's names.
const PLACE: [SettingSpec; 4] = [
    place("advertised.listeners", ValueType::List, "Where clients connect to (--advertise)."),
    place("listeners", ValueType::List, "Where clients are served (--listen)."),
    place("log.dirs", ValueType::List, "Folder of the local log (--data-dir)."),
    place("node.id", ValueType::Int, "This node's id (--node-id)."),
];

const fn place(name: &'static str, value_type: ValueType, documentation: &'static str) -> SettingSpec {
    SettingSpec { name, kind: Kind::Any(value_type), default: "", synonyms: &[], documentation }
}

fn place_entries(broker: &Broker) -> impl Iterator<Item = Entry> {
    let image = broker.metadata.image();
    let advertised = image.broker(broker.config.node_id).and_then(|own| own.listener(LISTENER).cloned());
    let listener = |host: &str, port: u16| format!("{LISTENER}://{host}:{port}");
    let values = [
        advertised.map(|l| listener(&l.host, l.port)).unwrap_or_default(),
        listener(&broker.config.listen.host, broker.config.listen.port),
        broker.config.data_dir.display().to_string(),
        broker.config.node_id.to_string(),
    ];
    PLACE.iter().zip(values).map(|(spec, value)| {
        let layer = Layer { source: Source::Static, name: spec.name, value: value.clone() };
        Entry { name: spec.name, spec, value, source: Source::Static, layers: vec![layer], is_read_only: true }
    })
}

fn broker_entries(broker: &Broker) -> Vec<Entry> {
    let settings = &broker.config.settings;
    let without_effect = KAFKA_SETTINGS.iter().filter(|setting| !setting.is_dynamic).map(|setting| &setting.spec);
    let fixed = BROKER_SETTINGS.iter().chain(without_effect).map(|spec| {
        let (value, source) = settings.value(spec);
        let source = if source == ConfigSource::Static { Source::Static } else { Source::Default };
        let value = spec.kind.normalised(value);
        let layer = Layer { source, name: spec.name, value: value.clone() };
        Entry { name: spec.name, spec, value, source, layers: vec![layer], is_read_only: true }
    });
    place_entries(broker).chain(fixed).chain(dynamic_entries(broker)).chain(topic_defaults(broker)).collect()
}

/// What can be changed while the broker runs.
fn dynamic_entries(broker: &Broker) -> impl Iterator<Item = Entry> {
    let image = broker.metadata.image();
    let given = broker.config.settings.given();
    dynamic_broker_settings().filter_map(move |spec| {
        let stated = |source, configs: Option<&SettingsMap>| {
            let value = spec.kind.normalised(configs?.get(spec.name)?);
            Some(Layer { source, name: spec.name, value })
        };
        let layers = [
            stated(Source::Broker, image.broker_configs(broker.config.node_id)),
            stated(Source::Cluster, Some(image.cluster_configs())),
            stated(Source::Static, Some(given)),
            Some(Layer { source: Source::Default, name: spec.name, value: spec.default.to_owned() }),
        ];
        entry(spec, layers.into_iter().flatten().collect())
    })
}

/// The topic settings as a broker knows them: under Kafka's broker-wide names.
fn topic_defaults(broker: &Broker) -> impl Iterator<Item = Entry> {
    topic_entries(broker, &SettingsMap::new()).into_iter().map(|entry| {
        let name = entry.spec.synonyms.first().map_or(entry.name, |synonym| synonym.name);
        Entry { name, ..entry }
    })
}

fn cluster_entries(broker: &Broker) -> Vec<Entry> {
    let is_dynamic = |entry: &Entry| entry.source == Source::Cluster;
    dynamic_entries(broker).chain(topic_defaults(broker)).filter(is_dynamic).collect()
}

fn row(entry: Entry, detail: Detail) -> DescribeConfigsResourceResult {
    let value_type = entry.spec.kind.value_type();
    let is_sensitive = value_type == ValueType::Password;
    let shown = |value: String| (!is_sensitive).then(|| Str::from(value));
    let synonym = |layer: Layer| DescribeConfigsSynonym {
        name: Str::from_static(layer.name),
        value: shown(layer.value),
        source: layer.source as i8,
        ..DescribeConfigsSynonym::default()
    };
    DescribeConfigsResourceResult {
        name: Str::from_static(entry.name),
        value: shown(entry.value),
        is_sensitive,
        read_only: entry.is_read_only,
        config_source: entry.source as i8,
        synonyms: if detail.synonyms { entry.layers.into_iter().map(synonym).collect() } else { Vec::new() },
        config_type: config_type(value_type),
        documentation: detail.documentation.then(|| Str::from_static(entry.spec.documentation)),
        ..DescribeConfigsResourceResult::default()
    }
}

/// Kafka's number of a type.
fn config_type(value_type: ValueType) -> i8 {
    match value_type {
        ValueType::Bool => 1,
        ValueType::Text => 2,
        ValueType::Int => 3,
        ValueType::Short => 4,
        ValueType::Long => 5,
        ValueType::Double => 6,
        ValueType::List => 7,
        ValueType::Class => 8,
        ValueType::Password => 9,
    }
}
