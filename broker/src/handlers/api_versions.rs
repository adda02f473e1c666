//! ApiVersions (KIP-35, KIP-511): what this broker speaks.

use protocol::ErrorCode;
use protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use protocol::versions::announced;

use super::RequestContext;

pub(super) async fn handle(context: &RequestContext<'_>, request: ApiVersionsRequest) -> ApiVersionsResponse {
    // From version 3 on, clients must say who they are (KIP-511).
    let is_named = is_valid_name(&request.client_software_name) && is_valid_name(&request.client_software_version);
    if context.version >= 3 && !is_named {
        return ApiVersionsResponse { error_code: ErrorCode::InvalidRequest.code(), ..ApiVersionsResponse::default() };
    }
    ApiVersionsResponse { api_keys: announced(), ..ApiVersionsResponse::default() }
}

/// Kafka's rule: letters and digits at both ends, with `-` and `.` between.
fn is_valid_name(name: &str) -> bool {
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    is_end(name.chars().next())
        && is_end(name.chars().next_back())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
}
