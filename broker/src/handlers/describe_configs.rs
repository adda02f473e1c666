//! DescribeConfigs: the settings of topics and brokers with their sources, synonyms and documentation (KIP-226, KIP-569).

use model::settings::{Kind, SettingSpec, SettingsMap, TOPIC_SETTINGS};
use protocol::messages::describe_configs_request::DescribeConfigsResource;
use protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use protocol::{ErrorCode, Str};

use super::RequestContext;
use super::errors::Refusal;
use crate::broker::{Broker, LISTENER};
use crate::config::layers::{DefaultLayers, Layer, Source};
use crate::config::{BROKER_SETTINGS, ConfigSource, DYNAMIC_SETTINGS};

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

pub(super) async fn handle(context: &RequestContext<'_>, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let (synonyms, documentation) = (request.include_synonyms, request.include_documentation);
    let describe = |resource: DescribeConfigsResource| {
        let DescribeConfigsResource { resource_type, resource_name, configuration_keys, .. } = resource;
        let result = DescribeConfigsResult { resource_type, resource_name, ..DescribeConfigsResult::default() };
        match entries(context.broker, resource_type, &result.resource_name) {
            Ok(entries) => {
                let wanted = |entry: &Entry| {
                    configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|key| &**key == entry.name))
                };
                let rows = entries.into_iter().filter(wanted).map(|entry| row(entry, synonyms, documentation));
                DescribeConfigsResult { configs: rows.collect(), ..result }
            }
            Err(refusal) => DescribeConfigsResult {
                error_code: refusal.code.code(),
                error_message: refusal.message.map(Str::from),
                ..result
            },
        }
    };
    let results = request.resources.into_iter().map(describe).collect();
    DescribeConfigsResponse { results, ..DescribeConfigsResponse::default() }
}

fn entries(broker: &Broker, resource_type: i8, name: &str) -> Result<Vec<Entry>, Refusal> {
    match resource_type {
        TOPIC => {
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

/// What the command line says of a broker's place, under Kafka's names.
const PLACE: [SettingSpec; 4] = [
    place("advertised.listeners", "Where clients are told to connect to (--advertise)."),
    place("listeners", "Where clients are served (--listen)."),
    place("log.dirs", "Folder of the local log (--data-dir)."),
    place("node.id", "This node's id (--node-id)."),
];

const fn place(name: &'static str, documentation: &'static str) -> SettingSpec {
    SettingSpec { name, kind: Kind::Choice(&[]), default: "", synonyms: &[], documentation }
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
    let fixed = BROKER_SETTINGS.iter().map(|spec| {
        let (value, source) = settings.value(spec);
        let source = if source == ConfigSource::Static { Source::Static } else { Source::Default };
        let layer = Layer { source, name: spec.name, value: value.to_owned() };
        Entry { name: spec.name, spec, value: value.to_owned(), source, layers: vec![layer], is_read_only: true }
    });
    place_entries(broker).chain(fixed).chain(dynamic_entries(broker)).chain(topic_defaults(broker)).collect()
}

/// What can be changed while the broker runs.
fn dynamic_entries(broker: &Broker) -> impl Iterator<Item = Entry> {
    let image = broker.metadata.image();
    DYNAMIC_SETTINGS.iter().filter_map(move |spec| {
        let stated = |source, configs: Option<&SettingsMap>| {
            let value = configs?.get(spec.name)?.clone();
            Some(Layer { source, name: spec.name, value })
        };
        let layers = [
            stated(Source::Broker, image.broker_configs(broker.config.node_id)),
            stated(Source::Cluster, Some(image.cluster_configs())),
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

fn row(entry: Entry, synonyms: bool, documentation: bool) -> DescribeConfigsResourceResult {
    let synonym = |layer: Layer| DescribeConfigsSynonym {
        name: Str::from_static(layer.name),
        value: Some(Str::from(layer.value)),
        source: layer.source as i8,
        ..DescribeConfigsSynonym::default()
    };
    DescribeConfigsResourceResult {
        name: Str::from_static(entry.name),
        value: Some(Str::from(entry.value)),
        read_only: entry.is_read_only,
        config_source: entry.source as i8,
        synonyms: if synonyms { entry.layers.into_iter().map(synonym).collect() } else { Vec::new() },
        config_type: config_type(entry.spec.kind),
        documentation: documentation.then(|| Str::from_static(entry.spec.documentation)),
        ..DescribeConfigsResourceResult::default()
    }
}

/// Kafka's number of a setting's type.
fn config_type(kind: Kind) -> i8 {
    match kind {
        Kind::Bool => 1,
        Kind::Choice(_) => 2,
        Kind::Number { is_int: true, .. } => 3,
        Kind::Number { is_int: false, .. } => 5,
        Kind::List(_) | Kind::Replicas => 7,
    }
}
