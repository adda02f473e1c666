//! What a setting is: its names, what values it takes, what it means.

use std::collections::BTreeSet;

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
    /// Nothing but this value, which is of this type.
    Only(ValueType, &'static str),
}

/// Kafka's types of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// `true` or `false`.
    Bool,
    /// Any text.
    Text,
    /// A 32-bit number.
    Int,
    /// A 16-bit number.
    Short,
    /// A 64-bit number.
    Long,
    /// A floating-point number.
    Double,
    /// A comma-separated list.
    List,
    /// The name of a class of Java's.
    Class,
    /// A text that is never shown.
    Password,
}

impl ValueType {
    fn takes(self, value: &str) -> bool {
        let value = value.trim();
        match self {
            ValueType::Bool => ["true", "false"].iter().any(|word| value.eq_ignore_ascii_case(word)),
            ValueType::Int => value.parse::<i32>().is_ok(),
            ValueType::Short => value.parse::<i16>().is_ok(),
            ValueType::Long => value.parse::<i64>().is_ok(),
            ValueType::Double => value.parse::<f64>().is_ok(),
            ValueType::Text | ValueType::List | ValueType::Class | ValueType::Password => true,
        }
    }

    /// As [`Kind::normalised`].
    fn normalised(self, value: &str) -> String {
        let trimmed = value.trim();
        match self {
            ValueType::Int | ValueType::Short | ValueType::Long => {
                trimmed.parse::<i64>().map_or_else(|_| value.to_owned(), |number| number.to_string())
            }
            ValueType::Double => trimmed.parse().map_or_else(|_| value.to_owned(), as_java_writes),
            ValueType::Bool => trimmed.to_ascii_lowercase(),
            ValueType::Text | ValueType::Class | ValueType::Password => trimmed.to_owned(),
            ValueType::List => each_once(trimmed.split(',').map(str::trim)).join(","),
        }
    }
}

/// As Kafka since KIP-1161: of equal items the first stays.
fn each_once<'a>(items: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    items.filter(|item| seen.insert(*item)).collect()
}

/// As `Double.toString` of Java: numbers from 10⁻³ to 10⁷ in full, others with an exponent.
fn as_java_writes(number: f64) -> String {
    if number == 0.0 || (1e-3..1e7).contains(&number.abs()) {
        return format!("{number:?}");
    }
    let text = format!("{number:E}");
    match text.split_once('E') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => format!("{mantissa}.0E{exponent}"),
        _ => text,
    }
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

    /// Kafka's type of its values.
    #[must_use]
    pub fn value_type(self) -> ValueType {
        match self {
            Kind::Number { is_int: true, .. } => ValueType::Int,
            Kind::Number { is_int: false, .. } => ValueType::Long,
            Kind::Ratio => ValueType::Double,
            Kind::Bool => ValueType::Bool,
            Kind::Choice(_) => ValueType::Text,
            Kind::List(_) | Kind::Replicas => ValueType::List,
            Kind::Any(value_type) | Kind::Only(value_type, _) => value_type,
        }
    }

    /// Checks a value.
    ///
    /// # Errors
    /// [`InvalidSetting::Value`] says what the setting `name` takes, and shows the value unless it is a password.
    pub fn check(self, name: &'static str, value: &str) -> Result<(), InvalidSetting> {
        let is_valid = match self {
            Kind::Number { min, max, .. } => value.trim().parse().is_ok_and(|n: i64| (min..=max).contains(&n)),
            Kind::Choice(words) => words.contains(&value.trim()),
            Kind::List(words) => value.trim().is_empty() || value.split(',').all(|word| words.contains(&word.trim())),
            Kind::Ratio => value.trim().parse().is_ok_and(|fraction: f64| (0.0..=1.0).contains(&fraction)),
            Kind::Replicas => ThrottledReplicas::parse(value).is_some(),
            Kind::Bool | Kind::Any(_) => self.value_type().takes(value),
            Kind::Only(value_type, only) => value_type.normalised(value) == only,
        };
        if is_valid {
            return Ok(());
        }
        let shown = if self.value_type() == ValueType::Password { "[hidden]" } else { value };
        Err(InvalidSetting::Value { name, value: shown.to_owned(), expected: self.expectation() })
    }

    /// The value as Kafka reports it: numbers, words and lists without spaces around them, `true` and `false` in small
    /// letters. A value that this kind does not take stays as it is.
    #[must_use]
    pub fn normalised(self, value: &str) -> String {
        self.value_type().normalised(value)
    }

    fn expectation(self) -> String {
        match self {
            Kind::Number { min, max: i64::MAX, .. } => format!("a whole number of at least {min} is needed"),
            Kind::Number { min, max, .. } => format!("a whole number from {min} to {max} is needed"),
            Kind::Ratio => "a number from 0 to 1 is needed".to_owned(),
            Kind::Bool | Kind::Any(ValueType::Bool) => "true or false is needed".to_owned(),
            Kind::Choice(words) => format!("one of {} is needed", words.join(", ")),
            Kind::List(words) => format!("a comma-separated list of {} is needed", words.join(", ")),
            Kind::Replicas => "* or a comma-separated list of PARTITION:NODE is needed".to_owned(),
            Kind::Any(_) => "a number is needed".to_owned(),
            Kind::Only(_, only) => format!("only {only:?} is possible here"),
        }
    }
}
