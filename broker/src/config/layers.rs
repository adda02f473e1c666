//! Where the value of a topic setting comes from: the layers, the strongest first.
//!
//! ```text
//! the topic's own ▸ this broker's, dynamic ▸ all brokers', dynamic ▸ this broker's configuration ▸ the table
//! ```
//!
//! Dynamic broker settings are those of topic defaults only, under Kafka's broker-wide names (`log.segment.bytes`) or the
//! topic's; everything else of a broker is fixed while it runs.
//!
//! Values are checked when they are set, but another release may have stored them: one that cannot be read, or whose name
//! is not known, counts as not given on its layer, and touches no other setting ([`DefaultLayers::ignored`] names it).

use std::sync::Arc;

use coordinator::cluster::Cluster;
use model::NodeId;
use model::settings::{InvalidSetting, SettingSpec, SettingsMap, TOPIC_SETTINGS, TopicSettings, check, check_dynamic};

use super::Settings;
use super::settings::stated_default;

/// Which layer, by the number that DescribeConfigs has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum Source {
    /// The topic's own setting.
    Topic = 1,
    /// Set dynamically for this broker.
    Broker = 2,
    /// Set dynamically for all brokers.
    Cluster = 3,
    /// This broker's configuration.
    Static = 4,
    /// The table.
    Default = 5,
}

/// A value on one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Which layer.
    pub source: Source,
    /// The name under which the layer states it.
    pub name: &'static str,
    /// The value, in the topic setting's unit.
    pub value: String,
}

/// A setting that counts as not given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// It is the topic's own, else a dynamic one of brokers.
    pub is_topics: bool,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub reason: InvalidSetting,
}

/// The broker-wide layers of one broker at one time.
#[derive(Debug, Clone)]
pub struct DefaultLayers<'a> {
    broker: Option<&'a SettingsMap>,
    cluster: &'a SettingsMap,
    fixed: &'a SettingsMap,
}

impl<'a> DefaultLayers<'a> {
    /// The layers of node `node_id`.
    #[must_use]
    pub fn of(settings: &'a Settings, image: &'a Cluster, node_id: NodeId) -> Self {
        DefaultLayers {
            broker: image.broker_configs(node_id),
            cluster: image.cluster_configs(),
            fixed: settings.given(),
        }
    }

    /// The layers that state a value for `spec` that can be read, the strongest first; the table's default is always the
    /// last.
    #[must_use]
    pub fn of_setting(&self, spec: &'static SettingSpec, topic: &SettingsMap) -> Vec<Layer> {
        let own = topic.get(spec.name).map(|value| (spec.name, value.clone()));
        let stated = |map: &SettingsMap| stated_default(spec, map).ok().flatten();
        let default_name = spec.synonyms.first().map_or(spec.name, |synonym| synonym.name);
        let layers = [
            (Source::Topic, own),
            (Source::Broker, self.broker.and_then(stated)),
            (Source::Cluster, stated(self.cluster)),
            (Source::Static, stated(self.fixed)),
            (Source::Default, Some((default_name, spec.default.to_owned()))),
        ];
        let layer = |(source, stated): (Source, Option<(&'static str, String)>)| {
            stated.map(|(name, value)| Layer { source, name, value: spec.kind.normalised(&value) })
        };
        let is_readable = |layer: &Layer| spec.kind.check(spec.name, &layer.value).is_ok();
        layers.into_iter().filter_map(layer).filter(is_readable).collect()
    }

    /// What counts as not given among the settings of a topic whose own are `topic`: the name, the value and what is wrong
    /// with it; those that the brokers' dynamic layers state without a topic.
    #[must_use]
    pub fn ignored(&self, topic: &SettingsMap) -> Vec<Ignored> {
        let of_topic = topic.iter().map(|(name, value)| (true, name, value, check(name, value)));
        let dynamic = self.broker.into_iter().chain([self.cluster]).flatten();
        let of_brokers = dynamic.map(|(name, value)| (false, name, value, check_dynamic(name, value)));
        let ignored = of_topic.chain(of_brokers).filter_map(|(is_topics, name, value, checked)| {
            Some(Ignored { is_topics, name: name.clone(), value: value.clone(), reason: checked.err()? })
        });
        ignored.collect()
    }

    /// The settings of a topic whose own are `topic`.
    #[must_use]
    pub fn resolve(&self, topic: &SettingsMap) -> Arc<TopicSettings> {
        let nothing = SettingsMap::new();
        let strongest = |spec: &'static SettingSpec| {
            let layer = self.of_setting(spec, &nothing).into_iter().next()?;
            (layer.source != Source::Default).then(|| (spec.name.to_owned(), layer.value))
        };
        let defaults: SettingsMap = TOPIC_SETTINGS.iter().filter_map(strongest).collect();
        Arc::new(TopicSettings::effective(topic, &defaults))
    }
}

#[cfg(test)]
mod tests {
    use coordinator::cluster::Record;
    use model::batch::TimestampType;

    use super::*;

    #[test]
    fn a_default_that_contradicts_a_topics_retention_leaves_the_other_defaults() {
        let given = |pairs: &[(&str, &str)]| -> SettingsMap {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let settings =
            Settings::resolve(&given(&[("log.retention.ms", "1000"), ("log.segment.bytes", "4096")])).unwrap();
        let image = Cluster::new();
        let layers = DefaultLayers::of(&settings, &image, 1);
        let resolved = layers.resolve(&given(&[("local.retention.ms", "5000")]));
        assert_eq!((resolved.retention_ms, resolved.local_retention_ms), (None, Some(5000)));
        assert_eq!(resolved.segment_bytes, 4096);
    }

    #[test]
    fn a_setting_that_cannot_be_read_leaves_all_others() {
        let given = |pairs: &[(&str, &str)]| -> SettingsMap {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let settings = Settings::resolve(&given(&[("log.segment.bytes", "4096")])).unwrap();
        let mut image = Cluster::new();
        let configs = given(&[("max.message.bytes", "1,2"), ("log.retention.ms", "7000")]);
        image.apply(Record::BrokerConfigsSet { broker_id: None, configs });
        let layers = DefaultLayers::of(&settings, &image, 1);
        let topic = given(&[
            ("a.setting.of.a.later.release", "on"),
            ("max.message.bytes", "many"),
            ("message.timestamp.type", "LogAppendTime"),
        ]);
        let resolved = layers.resolve(&topic);
        assert_eq!(resolved.message_timestamp_type, TimestampType::LogAppendTime);
        assert_eq!((resolved.retention_ms, resolved.segment_bytes), (Some(7000), 4096));
        assert_eq!(resolved.max_message_bytes, TopicSettings::default().max_message_bytes);
        let ignored = layers.ignored(&topic);
        let names: Vec<_> = ignored.iter().map(|it| (it.is_topics, it.name.as_str(), it.value.as_str())).collect();
        assert_eq!(
            names,
            [
                (true, "a.setting.of.a.later.release", "on"),
                (true, "max.message.bytes", "many"),
                (false, "max.message.bytes", "1,2"),
            ]
        );
    }
}
