//! Topic names, under the rules of Apache Kafka (`org.apache.kafka.common.internals.Topic`).

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest topic name, in bytes; with a partition number it must still fit a file name.
pub const MAX_TOPIC_NAME_LEN: usize = 249;

/// The topics that the platform keeps for itself; clients see them marked as internal.
pub const INTERNAL_TOPICS: [&str; 2] = [GROUP_OFFSETS_TOPIC, TRANSACTION_STATE_TOPIC];
/// Committed offsets and group metadata.
pub const GROUP_OFFSETS_TOPIC: &str = "__consumer_offsets";
/// Transaction state.
pub const TRANSACTION_STATE_TOPIC: &str = "__transaction_state";
/// The name under which Kafka's tools ask about the metadata log. No topic: it has no records that a client could read.
pub const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";

/// A name that Kafka would accept for a topic: 1 to 249 of `[a-zA-Z0-9._-]`, not `.` or `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicName(Arc<str>);

/// Why a text cannot name a topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopicName {
    /// The empty name.
    #[error("a topic name must not be empty")]
    Empty,
    /// `.` or `..`, which would be folders.
    #[error("a topic cannot be named {0:?}")]
    Dots(String),
    /// More than [`MAX_TOPIC_NAME_LEN`] bytes.
    #[error("the topic name {name:?} has {len} bytes, at most {MAX_TOPIC_NAME_LEN} are allowed")]
    TooLong {
        /// The name's first characters.
        name: String,
        /// Its whole length in bytes.
        len: usize,
    },
    /// A character outside `[a-zA-Z0-9._-]`.
    #[error("the topic name {name:?} contains {found:?}: only ASCII letters, digits, '.', '_' and '-' are allowed")]
    Character {
        /// The name.
        name: String,
        /// The first character that is not allowed.
        found: char,
    },
}

impl TopicName {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`InvalidTopicName`] says which rule the name breaks.
    pub fn new(name: &str) -> Result<Self, InvalidTopicName> {
        if name.is_empty() {
            return Err(InvalidTopicName::Empty);
        }
        if name == "." || name == ".." {
            return Err(InvalidTopicName::Dots(name.to_owned()));
        }
        if name.len() > MAX_TOPIC_NAME_LEN {
            return Err(InvalidTopicName::TooLong { name: name.chars().take(40).collect(), len: name.len() });
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        match name.chars().find(|&c| !legal(c)) {
            Some(found) => Err(InvalidTopicName::Character { name: name.to_owned(), found }),
            None => Ok(TopicName(Arc::from(name))),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for the platform's own topics, see [`INTERNAL_TOPICS`].
    #[must_use]
    pub fn is_internal(&self) -> bool {
        INTERNAL_TOPICS.contains(&self.as_str())
    }

    /// True for a name that is none of a topic, though it could be: [`CLUSTER_METADATA_TOPIC`].
    #[must_use]
    pub fn is_reserved(name: &str) -> bool {
        name == CLUSTER_METADATA_TOPIC
    }

    /// True when both names become the same metric name: Kafka turns '.' into '_' there and refuses such twins.
    #[must_use]
    pub fn collides_with(&self, other: &TopicName) -> bool {
        let unify = |name: &TopicName| name.replace('.', "_");
        self != other && unify(self) == unify(other)
    }
}

impl Deref for TopicName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl TryFrom<String> for TopicName {
    type Error = InvalidTopicName;

    fn try_from(name: String) -> Result<Self, InvalidTopicName> {
        TopicName::new(&name)
    }
}

impl From<TopicName> for String {
    fn from(name: TopicName) -> String {
        name.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_kafka_takes_are_taken() {
        for name in ["a", "orders", "orders.eu-west_1", "__consumer_offsets", "...", &"x".repeat(249)] {
            assert!(TopicName::new(name).is_ok(), "{name} was refused");
        }
    }

    #[test]
    fn names_that_kafka_refuses_are_refused_with_the_reason() {
        let reason = |name: &str| TopicName::new(name).unwrap_err().to_string();
        assert_eq!(reason(""), "a topic name must not be empty");
        assert_eq!(reason(".."), "a topic cannot be named \"..\"");
        assert!(reason("a/b").contains("'/'"));
        assert!(reason("größe").contains("'ö'"));
        assert!(reason(&"x".repeat(250)).contains("250 bytes"));
    }

    #[test]
    fn a_dot_and_an_underscore_collide() {
        let name = |text| TopicName::new(text).unwrap();
        assert!(name("a.b").collides_with(&name("a_b")));
        assert!(!name("a.b").collides_with(&name("a.b")));
        assert!(!name("a.b").collides_with(&name("a-b")));
    }
}
