//! `firn settings`: every setting that a broker or a topic has, from the tables that validate them. The generated part of
//! `docs/configuration.md` comes from here too.

use broker::config::BROKER_SETTINGS;
use clap::Args;
use model::settings::{KAFKA_SETTINGS, Kind, SettingSpec, TOPIC_SETTINGS, ValueType};
use serde::Serialize;

use crate::output::{print_json, print_line, table};

/// Arguments of `firn settings`.
#[derive(Debug, Args)]
pub(crate) struct SettingsArgs {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Serialize)]
struct Reference {
    broker: Vec<Setting>,
    topic: Vec<Setting>,
    /// Kafka's, which mean nothing here.
    kafka: Vec<Setting>,
}

#[derive(Debug, Serialize)]
struct Setting {
    name: &'static str,
    default: &'static str,
    values: String,
    /// Broker settings that give a topic setting its default, the strongest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    broker_defaults: Vec<&'static str>,
    documentation: &'static str,
}

impl From<&'static SettingSpec> for Setting {
    fn from(spec: &'static SettingSpec) -> Self {
        Setting {
            name: spec.name,
            default: spec.default,
            values: values(spec.kind),
            broker_defaults: spec.synonyms.iter().map(|synonym| synonym.name).collect(),
            documentation: spec.documentation,
        }
    }
}

fn reference() -> Reference {
    Reference {
        broker: BROKER_SETTINGS.iter().map(Setting::from).collect(),
        topic: TOPIC_SETTINGS.iter().map(Setting::from).collect(),
        kafka: KAFKA_SETTINGS.iter().map(|setting| Setting::from(&setting.spec)).collect(),
    }
}

fn values(kind: Kind) -> String {
    match kind {
        Kind::Number { min, max: i64::MAX, .. } => format!("from {min}"),
        Kind::Number { min, max, .. } if max == i64::from(i32::MAX) => format!("from {min}"),
        Kind::Number { min, max, .. } => format!("{min} to {max}"),
        Kind::Ratio => "0 to 1".to_owned(),
        Kind::Choice(words) => words.join(", "),
        Kind::List(words) => format!("list of {}", words.join(", ")),
        Kind::Replicas => "*, list of PARTITION:NODE".to_owned(),
        Kind::Bool | Kind::Any(ValueType::Bool) => "true, false".to_owned(),
        Kind::Any(ValueType::Int | ValueType::Short | ValueType::Long | ValueType::Double) => "any number".to_owned(),
        Kind::Any(_) => "any".to_owned(),
        Kind::Only(_, only) => only.to_owned(),
    }
}

/// Runs the command.
pub(crate) fn run(args: &SettingsArgs) -> anyhow::Result<()> {
    let reference = reference();
    if args.json {
        return Ok(print_json(&reference)?);
    }
    print_line(
        "Broker settings: --set NAME=VALUE of `firn server`, FIRN_SETTING_…, or the table [settings] of the file.\n",
    )?;
    print_settings(&reference.broker)?;
    print_line(
        "\nTopic settings: --config NAME=VALUE of `firn topic`; as broker settings, under either name, the default of all topics.\n",
    )?;
    print_settings(&reference.topic)?;
    let ignored = reference.kafka.iter().map(|setting| setting.name).collect::<Vec<_>>().join(", ");
    Ok(print_line(format!("\nBroker settings of Kafka's without effect here, or with their default only: {ignored}"))?)
}

fn print_settings(settings: &[Setting]) -> anyhow::Result<()> {
    let mut shown = table(&["setting", ">default", "values", "meaning"]);
    for setting in settings {
        let name = std::iter::once(&setting.name).chain(&setting.broker_defaults).copied().collect::<Vec<_>>();
        let mut names: Vec<&str> = name;
        names.dedup();
        shown.add_row([&names.join("\n"), setting.default, &setting.values, setting.documentation]);
    }
    Ok(print_line(shown)?)
}

#[cfg(test)]
mod page;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_meaning() {
        let Reference { broker, topic, kafka } = reference();
        for setting in broker.iter().chain(&topic).chain(&kafka) {
            assert!(setting.documentation.ends_with('.'), "{}", setting.name);
        }
    }
}
