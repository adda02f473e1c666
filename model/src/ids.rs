//! Identifiers and the numbers of the log, with the sentinels that the Kafka protocol gives them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Position of a record in its partition: 0, 1, 2, …; negative values are the protocol's sentinels.
pub type Offset = i64;
/// Milliseconds since the Unix epoch, or [`NO_TIMESTAMP`].
pub type TimestampMs = i64;
/// Generation of a partition's leadership, or [`NO_LEADER_EPOCH`].
pub type LeaderEpoch = i32;
/// Identity of an idempotent producer, or [`NO_PRODUCER_ID`].
pub type ProducerId = i64;
/// Generation of an idempotent producer, or [`NO_PRODUCER_EPOCH`].
pub type ProducerEpoch = i16;
/// Identity of a Firn node (Kafka: broker id), from 0.
pub type NodeId = i32;
/// Number of a partition within its topic, from 0.
pub type PartitionIndex = i32;

/// "This record carries no timestamp."
pub const NO_TIMESTAMP: TimestampMs = -1;
/// "The leader epoch is unknown or does not matter."
pub const NO_LEADER_EPOCH: LeaderEpoch = -1;
/// "This batch comes from a producer that is not idempotent."
pub const NO_PRODUCER_ID: ProducerId = -1;
/// Goes with [`NO_PRODUCER_ID`].
pub const NO_PRODUCER_EPOCH: ProducerEpoch = -1;
/// Goes with [`NO_PRODUCER_ID`].
pub const NO_SEQUENCE: i32 = -1;

/// Identity of a topic: a deleted and recreated topic has the same name but another id (KIP-516).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicId(pub Uuid);

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl TopicId {
    /// "No topic id": what old protocol versions send.
    pub const ZERO: TopicId = TopicId(Uuid::nil());

    /// Number of characters of a topic id's text form.
    pub const TEXT_LEN: usize = 22;

    /// True for [`TopicId::ZERO`].
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0.is_nil()
    }
}

impl fmt::Display for TopicId {
    /// Kafka's form: URL-safe base64 of the 16 bytes without padding, 22 characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0.as_u128();
        let mut text = [0_u8; Self::TEXT_LEN];
        for (i, slot) in text.iter_mut().enumerate() {
            // 22 digits of 6 bits hold 132 bits: the last digit carries 2 bits and 4 zeros.
            let sextet = if i == 21 { (value << 4) & 0x3f } else { (value >> (122 - 6 * i)) & 0x3f };
            *slot = BASE64_URL[usize::try_from(sextet).unwrap_or(0)];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a topic id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a topic id: expected 22 characters of URL-safe base64")]
pub struct InvalidTopicId(String);

impl FromStr for TopicId {
    type Err = InvalidTopicId;

    fn from_str(text: &str) -> Result<Self, InvalidTopicId> {
        let invalid = || InvalidTopicId(text.to_owned());
        if text.len() != Self::TEXT_LEN {
            return Err(invalid());
        }
        let mut value: u128 = 0;
        for (i, byte) in text.bytes().enumerate() {
            let sextet = BASE64_URL.iter().position(|&c| c == byte).ok_or_else(invalid)? as u128;
            value = match (i, sextet & 0x0f) {
                (21, 0) => (value << 2) | (sextet >> 4),
                (21, _) => return Err(invalid()),
                _ => (value << 6) | sextet,
            };
        }
        Ok(TopicId(Uuid::from_u128(value)))
    }
}

impl TryFrom<String> for TopicId {
    type Error = InvalidTopicId;

    fn try_from(text: String) -> Result<Self, InvalidTopicId> {
        text.parse()
    }
}

impl From<TopicId> for String {
    fn from(id: TopicId) -> String {
        id.to_string()
    }
}

/// One partition of one topic, by the topic's id: names can be reused, ids cannot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// Which topic.
    pub topic_id: TopicId,
    /// Which of its partitions, from 0.
    pub partition: PartitionIndex,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic_id, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_topic_id_prints_as_kafka_prints_it() {
        // Made by org.apache.kafka.common.Uuid.toString for the same 128 bits.
        let id = TopicId(Uuid::from_u128(1));
        assert_eq!(id.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        let id = TopicId(Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
        assert_eq!(id.to_string(), "ASNFZ4mrze8BI0VniavN7w");
    }

    #[test]
    fn texts_that_are_no_topic_id_are_refused() {
        for text in ["", "short", "AAAAAAAAAAAAAAAAAAAAAR", "AAAAAAAAAAAAAAAAAAAA+Q", "AAAAAAAAAAAAAAAAAAAAAQ="] {
            assert!(text.parse::<TopicId>().is_err(), "{text:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn a_topic_id_survives_its_text_form(value: u128) {
            let id = TopicId(Uuid::from_u128(value));
            prop_assert_eq!(id.to_string().parse::<TopicId>().unwrap(), id);
        }
    }
}
