//! Settings of Kafka's brokers that mean nothing here. A configuration that was made for Kafka is taken with them. A setting
//! by which a cluster would be less safe than its configuration says, or elsewhere, is refused with any other value than
//! Kafka's default. Names, types and defaults are those of Apache Kafka 4.3.1; `kafka.txt` has them.

use std::sync::LazyLock;

use super::kind::{Kind, SettingSpec, ValueType};

/// A setting of Kafka's brokers that means nothing here.
#[derive(Debug)]
pub struct KafkaSetting {
    /// Its name, type, default and description.
    pub spec: SettingSpec,
    /// Kafka takes it while the broker runs.
    pub is_dynamic: bool,
}

pub(super) const TABLE: &str = include_str!("kafka.txt");

const NO_EFFECT: &str = "A setting of Kafka's that has no effect here.";
const ONLY_DEFAULT: &str = "A setting of Kafka's that has only this value here.";

/// The settings, by name.
pub static KAFKA_SETTINGS: LazyLock<Vec<KafkaSetting>> = LazyLock::new(|| TABLE.lines().filter_map(setting).collect());

/// A line of the table; None for a comment.
fn setting(line: &'static str) -> Option<KafkaSetting> {
    let mut words = line.splitn(5, ' ');
    let (name, value_type) = (words.next()?, value_type(words.next()?)?);
    let is_dynamic = words.next()? == "dynamic";
    let has_only_default = words.next()? == "default";
    let default = words.next().unwrap_or_default();
    let (kind, documentation) = if has_only_default {
        (Kind::Only(value_type, default), ONLY_DEFAULT)
    } else {
        (Kind::Any(value_type), NO_EFFECT)
    };
    Some(KafkaSetting { spec: SettingSpec { name, kind, default, synonyms: &[], documentation }, is_dynamic })
}

fn value_type(name: &str) -> Option<ValueType> {
    Some(match name {
        "BOOLEAN" => ValueType::Bool,
        "STRING" => ValueType::Text,
        "INT" => ValueType::Int,
        "SHORT" => ValueType::Short,
        "LONG" => ValueType::Long,
        "DOUBLE" => ValueType::Double,
        "LIST" => ValueType::List,
        "CLASS" => ValueType::Class,
        "PASSWORD" => ValueType::Password,
        _ => return None,
    })
}
