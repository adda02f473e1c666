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
    /// A fraction from 0 to 1.
    Ratio,
    /// `true` or `false`.
    Bool,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A comma-separated list of these words, which may be empty.
    List(&'static [&'static str]),
    /// A comma-separated list of `PARTITION:NODE`, or `*` for all.
    Replicas,
    /// Anything of this type.
    Any(ValueType),
}

/// Kafka's types of values, as far as no other kind says them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the types")]
pub enum ValueType {
    Text,
    Short,
    Double,
    List,
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
            Kind::Bool => ["true", "false"].iter().any(|word| value.trim().eq_ignore_ascii_case(word)),
            Kind::Choice(words) => words.contains(&value.trim()),
            Kind::List(words) => value.trim().is_empty() || value.split(',').all(|word| words.contains(&word.trim())),
            Kind::Ratio => value.trim().parse().is_ok_and(|fraction: f64| (0.0..=1.0).contains(&fraction)),
            Kind::Replicas => ThrottledReplicas::parse(value).is_some(),
            Kind::Any(ValueType::Short) => value.trim().parse::<i16>().is_ok(),
            Kind::Any(ValueType::Double) => value.trim().parse::<f64>().is_ok(),
            Kind::Any(_) => true,
        };
        if is_valid {
            return Ok(());
        }
        Err(InvalidSetting::Value { name, value: value.to_owned(), expected: self.expectation() })
    }

    /// The value as Kafka reports it: numbers, words and lists without spaces around them, `true` and `false` in small
    /// letters. What this kind does not take stays as it is.
    #[must_use]
    pub fn normalised(self, value: &str) -> String {
        let trimmed = value.trim();
        match self {
            Kind::Number { .. } => {
                trimmed.parse::<i64>().map_or_else(|_| value.to_owned(), |number| number.to_string())
            }
            Kind::Ratio => trimmed.parse::<f64>().map_or_else(|_| value.to_owned(), |fraction| format!("{fraction:?}")),
            Kind::Bool => trimmed.to_ascii_lowercase(),
            Kind::Choice(_) | Kind::Any(_) => trimmed.to_owned(),
            Kind::List(_) | Kind::Replicas => trimmed.split(',').map(str::trim).collect::<Vec<_>>().join(","),
        }
    }

    fn expectation(self) -> String {
        match self {
            Kind::Number { min, max: i64::MAX, .. } => format!("a whole number of at least {min} is needed"),
            Kind::Number { min, max, .. } => format!("a whole number from {min} to {max} is needed"),
            Kind::Ratio => "a number from 0 to 1 is needed".to_owned(),
            Kind::Bool => "true or false is needed".to_owned(),
            Kind::Choice([only]) => format!("only {only:?} is possible here"),
            Kind::Choice(words) => format!("one of {} is needed", words.join(", ")),
            Kind::List(words) => format!("a comma-separated list of {} is needed", words.join(", ")),
            Kind::Replicas => "* or a comma-separated list of PARTITION:NODE is needed".to_owned(),
            Kind::Any(_) => "a number is needed".to_owned(),
        }
    }
}
