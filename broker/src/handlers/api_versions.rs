//! ApiVersions (KIP-35, KIP-511): what this broker speaks; and which metadata versions it knows and the cluster is at (KIP-584).

use coordinator::cluster::MetadataVersions;
use protocol::messages::api_versions_response::{FinalizedFeatureKey, SupportedFeatureKey};
use protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use protocol::versions::announced;
use protocol::{ErrorCode, Str};

use super::RequestContext;
use crate::metadata::{ClusterImage, METADATA_FEATURE};

pub(super) async fn handle(context: &RequestContext<'_>, request: ApiVersionsRequest) -> ApiVersionsResponse {
    // From version 3 on, clients must say who they are (KIP-511).
    let is_named = is_valid_name(&request.client_software_name) && is_valid_name(&request.client_software_version);
    if context.version >= 3 && !is_named {
        return ApiVersionsResponse { error_code: ErrorCode::InvalidRequest.code(), ..ApiVersionsResponse::default() };
    }
    with_features(&context.broker.metadata.image())
}

fn with_features(image: &ClusterImage) -> ApiVersionsResponse {
    let MetadataVersions { min, max } = MetadataVersions::OF_THIS_BUILD;
    let level = |version: u16| i16::try_from(version).unwrap_or(i16::MAX);
    let current = level(image.metadata_version());
    ApiVersionsResponse {
        api_keys: announced(),
        supported_features: vec![SupportedFeatureKey {
            name: Str::from_static(METADATA_FEATURE),
            min_version: level(min),
            max_version: level(max),
            ..SupportedFeatureKey::default()
        }],
        finalized_features_epoch: i64::try_from(image.version()).unwrap_or(i64::MAX),
        finalized_features: vec![FinalizedFeatureKey {
            name: Str::from_static(METADATA_FEATURE),
            max_version_level: current,
            min_version_level: current,
            ..FinalizedFeatureKey::default()
        }],
        ..ApiVersionsResponse::default()
    }
}

/// Kafka's rule: letters and digits at both ends, with `-` and `.` between.
fn is_valid_name(name: &str) -> bool {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    is_end(name.chars().next())
        && is_end(name.chars().next_back())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
}
