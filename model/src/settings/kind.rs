//! What a setting is: its names, what values it takes, what it means.

use super::{InvalidSetting, ThrottledReplicas};

/// One setting of a topic.
#[derive(Debug)]
pub struct SettingSpec {
    /// Its name, as in Kafka's topic configuration.
    pub name: &'static str,
    /// The values that it takes.
    pub kind: Kind,
    /// The default, where neither topic nor broker says otherwise.
    pub default: &'static str,
    /// The broker-wide names that set its default, the strongest first.
    pub synonyms: &'static [Synonym],
    /// What it means, for a person.
    pub documentation: &'static str,
}

/// A broker-wide setting that gives a topic setting its default.
#[derive(Debug)]
pub struct Synonym {
    /// Kafka's name for it.
    pub name: &'static str,
    /// What to multiply its value with: Kafka has the same setting in ms, minutes and hours.
    pub factor: i64,
}

/// The values that a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number in this range, both ends included.
    Number {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
        /// Kafka types it as a 32-bit INT, else as a LONG.
        is_int: bool,
    },
    /// `true` or `false`.
    Bool,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A comma-separated list of these words.
    List(&'static [&'static str]),
    /// A comma-separated list of `PARTITION:NODE`, or `*` for all.
    Replicas,
}

impl Kind {
    /// A 64-bit number from `min`.
    pub const fn long(min: i64) -> Kind {
        Kind::Number { min, max: i64::MAX, is_int: false }
    }

    /// A 32-bit number from `min`.
    pub const fn int(min: i64) -> Kind {
        Kind::Number { min, max: i32::MAX as i64, is_int: true }
    }

    /// Checks a value.
    ///
    /// # Errors
    /// [`InvalidSetting::Value`] says what the setting `name` takes.
    pub fn check(self, name: &'static str, value: &str) -> Result<(), InvalidSetting> {
        let is_valid = match self {
            Kind::Number { min, max, .. } => value.trim().parse().is_ok_and(|n: i64| (min..=max).contains(&n)),
            Kind::Bool => value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false"),
            Kind::Choice(words) => words.contains(&value),
            Kind::List(words) => value.split(',').all(|word| words.contains(&word.trim())),
            Kind::Replicas => ThrottledReplicas::parse(value).is_some(),
        };
        if is_valid {
            return Ok(());
        }
        Err(InvalidSetting::Value { name, value: value.to_owned(), expected: self.expectation() })
    }

    fn expectation(self) -> String {
        match self {
            Kind::Number { min, max: i64::MAX, .. } => format!("a whole number of at least {min} is needed"),
            Kind::Number { min, max, .. } => format!("a whole number from {min} to {max} is needed"),
            Kind::Bool => "true or false is needed".to_owned(),
            Kind::Choice(words) => format!("one of {} is needed", words.join(", ")),
            Kind::List(words) => format!("a comma-separated list of {} is needed", words.join(", ")),
            Kind::Replicas => "* or a comma-separated list of PARTITION:NODE is needed".to_owned(),
        }
    }
}
