//! Where the value of a topic setting comes from: the layers, the strongest first.
//!
//! ```text
//! the topic's own ▸ this broker's, dynamic ▸ all brokers', dynamic ▸ this broker's configuration ▸ the table
//! ```
//!
//! Dynamic broker settings are those of topic defaults only, under Kafka's broker-wide names (`log.segment.bytes`) or the
//! topic's; everything else of a broker is fixed while it runs.

use std::sync::Arc;

use coordinator::cluster::Cluster;
use model::NodeId;
use model::settings::{SettingSpec, SettingsMap, TOPIC_SETTINGS, TopicSettings};

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

    /// The layers that state a value for `spec`, the strongest first; the table's default is always the last.
    #[must_use]
    pub fn of_setting(&self, spec: &'static SettingSpec, topic: &SettingsMap) -> Vec<Layer> {
        let own = topic.get(spec.name).map(|value| (spec.name, value.clone()));
        // Values were checked when they were given: one that cannot be read any more counts as not given.
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
            stated.map(|(name, value)| Layer { source, name, value })
        };
        layers.into_iter().filter_map(layer).collect()
    }

    /// The settings of a topic whose own are `topic`.
    #[must_use]
    pub fn resolve(&self, topic: &SettingsMap) -> Arc<TopicSettings> {
        let nothing = SettingsMap::new();
        let strongest = |spec: &'static SettingSpec| {
            let layer = self.of_setting(spec, &nothing).into_iter().next()?;
            (layer.source != Source::Default).then(|| (spec.name.to_owned(), layer.value))
        };
        let mut defaults: SettingsMap = TOPIC_SETTINGS.iter().filter_map(strongest).collect();
        let resolved = TopicSettings::resolve(topic, &defaults).or_else(|_| {
            // A default that came later can contradict a topic's own setting: then the topic's own retention counts alone.
            defaults.retain(|name, _| !name.contains("retention"));
            TopicSettings::resolve(topic, &defaults)
        });
        Arc::new(resolved.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_that_contradicts_a_topics_retention_leaves_the_other_defaults() {
        let given = |pairs: &[(&str, &str)]| -> SettingsMap {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let settings =
            Settings::resolve(&given(&[("log.retention.ms", "1000"), ("min.insync.replicas", "2")])).unwrap();
        let image = Cluster::new();
        let layers = DefaultLayers::of(&settings, &image, 1);
        let resolved = layers.resolve(&given(&[("local.retention.ms", "5000")]));
        assert_eq!((resolved.retention_ms, resolved.local_retention_ms), (None, Some(5000)));
        assert_eq!(resolved.min_insync_replicas, 2);
    }
}
