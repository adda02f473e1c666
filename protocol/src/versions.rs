//! What we speak: the APIs and their versions, as announced to clients.

use crate::api_key::ApiKey;
use crate::error_code::ErrorCode;
use crate::messages::ApiVersionsResponse;
use crate::messages::api_versions_response::ApiVersion;

/// One API that we speak, and its versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServedApi {
    /// Which API.
    pub key: ApiKey,
    /// The first version spoken.
    pub min: i16,
    /// The last version spoken.
    pub max: i16,
}

const fn served(key: ApiKey, min: i16, max: i16) -> ServedApi {
    ServedApi { key, min, max }
}

/// Everything that a broker announces, sorted by key. The ranges are those of Apache Kafka unless a comment says why
/// not; `docs/kafka-compatibility.md` is generated from this table.
pub const SERVED: &[ServedApi] = &[
    served(ApiKey::Produce, 3, 13),
    served(ApiKey::Fetch, 4, 18),
    served(ApiKey::ListOffsets, 1, 11),
    served(ApiKey::Metadata, 0, 13),
    served(ApiKey::OffsetCommit, 2, 10),
    served(ApiKey::OffsetFetch, 1, 10),
    served(ApiKey::FindCoordinator, 0, 6),
    served(ApiKey::JoinGroup, 0, 9),
    served(ApiKey::Heartbeat, 0, 4),
    served(ApiKey::LeaveGroup, 0, 5),
    served(ApiKey::SyncGroup, 0, 5),
    served(ApiKey::DescribeGroups, 0, 6),
    served(ApiKey::ListGroups, 0, 5),
    served(ApiKey::ApiVersions, 0, 4),
    served(ApiKey::CreateTopics, 2, 7),
    served(ApiKey::DeleteTopics, 1, 6),
    served(ApiKey::DeleteRecords, 0, 2),
    served(ApiKey::InitProducerId, 0, 5),
    served(ApiKey::OffsetForLeaderEpoch, 2, 4),
    served(ApiKey::DescribeConfigs, 1, 4),
    served(ApiKey::AlterConfigs, 0, 2),
    served(ApiKey::DescribeLogDirs, 1, 5),
    served(ApiKey::CreatePartitions, 0, 3),
    served(ApiKey::DeleteGroups, 0, 2),
    served(ApiKey::ElectLeaders, 0, 2),
    served(ApiKey::IncrementalAlterConfigs, 0, 1),
    served(ApiKey::AlterPartitionReassignments, 0, 1),
    served(ApiKey::ListPartitionReassignments, 0, 0),
    served(ApiKey::OffsetDelete, 0, 0),
    served(ApiKey::DescribeQuorum, 0, 2),
    served(ApiKey::UpdateFeatures, 0, 2),
    served(ApiKey::DescribeCluster, 0, 2),
    served(ApiKey::DescribeProducers, 0, 0),
    served(ApiKey::UnregisterBroker, 0, 0),
    served(ApiKey::DescribeTopicPartitions, 0, 0),
    served(ApiKey::AddRaftVoter, 0, 1),
    served(ApiKey::RemoveRaftVoter, 0, 0),
];

/// The first version of Produce that is announced. Kafka announces 0 as well, although it refuses all below 3: librdkafka
/// compresses nothing for a broker whose list does not start there (KAFKA-18659).
pub const PRODUCE_ANNOUNCED_MIN: i16 = 0;

/// What a broker does with a request of some API and version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Spoken.
    Served,
    /// `ApiVersions` of a version we do not speak: answer with [`api_versions_fallback`] in version 0 (KIP-511).
    ApiVersionsFallback,
    /// We speak the API, but not this version: close the connection, as Kafka does.
    UnsupportedVersion {
        /// The first version spoken.
        min: i16,
        /// The last version spoken.
        max: i16,
    },
    /// We do not speak the API: close the connection, as Kafka does.
    UnsupportedApi,
}

/// Looks an API up in [`SERVED`].
pub fn served_api(key: ApiKey) -> Option<ServedApi> {
    SERVED.iter().copied().find(|api| api.key == key)
}

/// Whether [`SERVED`] has the version.
pub fn support(key: ApiKey, version: i16) -> Support {
    match served_api(key) {
        None => Support::UnsupportedApi,
        Some(api) if (api.min..=api.max).contains(&version) => Support::Served,
        Some(_) if key == ApiKey::ApiVersions => Support::ApiVersionsFallback,
        Some(ServedApi { min, max, .. }) => Support::UnsupportedVersion { min, max },
    }
}

/// All of [`SERVED`] as the list in an `ApiVersions` response; see [`PRODUCE_ANNOUNCED_MIN`].
pub fn announced() -> Vec<ApiVersion> {
    SERVED.iter().map(announcement).collect()
}

/// The answer to an `ApiVersions` request of an unknown version, to be encoded in version 0: the error, and the range of
/// `ApiVersions` itself, from which the client picks the version of its second attempt (KIP-511).
pub fn api_versions_fallback() -> ApiVersionsResponse {
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: served_api(ApiKey::ApiVersions).iter().map(announcement).collect(),
        ..ApiVersionsResponse::default()
    }
}

fn announcement(api: &ServedApi) -> ApiVersion {
    let min = if api.key == ApiKey::Produce { PRODUCE_ANNOUNCED_MIN } else { api.min };
    ApiVersion { api_key: api.key.id(), min_version: min, max_version: api.max, ..ApiVersion::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MessageKind;
    use crate::messages;

    #[test]
    fn what_is_announced_can_be_decoded_and_encoded() {
        for api in SERVED {
            for kind in [MessageKind::Request, MessageKind::Response] {
                let found = messages::ALL.iter().find(|info| info.kind == kind && info.api == Some(api.key.id()));
                let info = found.unwrap_or_else(|| panic!("no table for {kind:?} of {}", api.key));
                assert!(info.min <= api.min && api.max <= info.max, "{info:?} against {api:?}");
                for version in api.min..=api.max {
                    let flexible = info.flexible_from.is_some_and(|first| version >= first);
                    assert_eq!(flexible, api.key.is_flexible(version), "{info:?} {version}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_announced_that_kafka_does_not_announce() {
        for api in SERVED {
            let (min, max) = api.key.kafka_versions().unwrap();
            assert!(min <= api.min && api.max <= max, "{api:?}");
        }
        assert!(SERVED.is_sorted_by_key(|api| api.key));
    }

    #[test]
    fn produce_is_announced_from_0_on_but_served_from_3_on() {
        let produce = announced().into_iter().find(|api| api.api_key == 0).unwrap();
        assert_eq!((produce.min_version, produce.max_version), (0, 13));
        assert_eq!(support(ApiKey::Produce, 2), Support::UnsupportedVersion { min: 3, max: 13 });
    }

    #[test]
    fn an_unknown_version_of_api_versions_falls_back() {
        assert_eq!(support(ApiKey::ApiVersions, 4), Support::Served);
        assert_eq!(support(ApiKey::ApiVersions, 99), Support::ApiVersionsFallback);
        assert_eq!(support(ApiKey::Fetch, 3), Support::UnsupportedVersion { min: 4, max: 18 });
        assert_eq!(support(ApiKey::Vote, 0), Support::UnsupportedApi);
        let reply = api_versions_fallback();
        assert_eq!(reply.error_code, 35);
        assert_eq!(reply.api_keys.len(), 1);
    }
}
