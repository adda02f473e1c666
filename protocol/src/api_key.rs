//! [`ApiKey`]: the APIs of Kafka by number, those that we do not speak included, so that a log line or a metric can name
//! what a client asked for. Generated from `schemas/apis.table`.

use std::fmt::{self, Display};

include!(concat!(env!("OUT_DIR"), "/api_key.rs"));

#[derive(Debug)]
struct ApiFacts {
    key: ApiKey,
    name: &'static str,
    kafka: Option<(i16, i16)>,
    flexible_from: Option<i16>,
    on_brokers: bool,
}

impl ApiKey {
    /// The API of that number, if Kafka has one.
    pub fn from_id(id: i16) -> Option<Self> {
        FACTS.get(usize::try_from(id).ok()?).map(|facts| facts.key)
    }

    /// All APIs, by number.
    pub fn all() -> impl Iterator<Item = Self> {
        FACTS.iter().map(|facts| facts.key)
    }

    /// The number on the wire.
    pub const fn id(self) -> i16 {
        self as i16
    }

    /// Kafka's name, for instance `Fetch`.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The first and last version that a release of Kafka announces; none where Kafka 4 removed the API.
    pub fn kafka_versions(self) -> Option<(i16, i16)> {
        self.facts().kafka
    }

    /// Whether Kafka's brokers answer it: the others are between controllers.
    pub fn is_on_brokers(self) -> bool {
        self.facts().on_brokers
    }

    /// Whether the version has compact lengths and tagged fields.
    pub fn is_flexible(self, version: i16) -> bool {
        self.facts().flexible_from.is_some_and(|first| version >= first)
    }

    /// The version of the header in front of a request of this version.
    pub fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The version of the header in front of a response of this version. That of `ApiVersions` is always 0: a client
    /// reads it before it can know what the broker speaks (KIP-511).
    pub fn response_header_version(self, version: i16) -> i16 {
        i16::from(self != Self::ApiVersions && self.is_flexible(version))
    }

    fn facts(self) -> &'static ApiFacts {
        // The discriminants are the indexes of the table, which a test below asserts.
        &FACTS[self as usize]
    }
}

impl Display for ApiKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_finds_its_own_key() {
        for (index, facts) in FACTS.iter().enumerate() {
            assert_eq!(facts.key as usize, index, "{}", facts.name);
            assert_eq!(ApiKey::from_id(facts.key.id()), Some(facts.key));
        }
        assert_eq!(ApiKey::from_id(-1), None);
        assert_eq!(ApiKey::from_id(i16::MAX), None);
    }

    #[test]
    fn header_versions_follow_the_flexible_ones() {
        assert_eq!(ApiKey::Produce.request_header_version(8), 1);
        assert_eq!(ApiKey::Produce.request_header_version(9), 2);
        assert_eq!(ApiKey::Produce.response_header_version(9), 1);
        assert_eq!(ApiKey::OffsetDelete.request_header_version(0), 1);
    }

    #[test]
    fn the_response_header_of_api_versions_stays_at_0() {
        assert_eq!(ApiKey::ApiVersions.request_header_version(3), 2);
        assert_eq!(ApiKey::ApiVersions.response_header_version(3), 0);
    }
}
