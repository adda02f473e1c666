//! One connection to one broker, and the versions that both sides speak.
//!
//! After any error but a refusal the stream's state is unknown: drop the connection.

use std::time::Duration;

use broker::wire;
use protocol::messages::api_versions_response::ApiVersion;
use protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use protocol::{ApiKey, ErrorCode, Message, Reader, Request, Str};
use tokio::time::Instant;

use super::{ClientError, Endpoint};

/// Largest answer that is read, in bytes: a fetch asks for less than half of it.
const MAX_RESPONSE_BYTES: usize = 128 << 20;
/// How long one address may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The version of the first request; a broker that lacks it answers in version 0 (KIP-511).
const API_VERSIONS_VERSION: i16 = 3;

/// An open connection whose broker's versions are known.
#[derive(Debug)]
pub(crate) struct Connection {
    endpoint: Endpoint,
    wire: wire::Connection,
    versions: Vec<ApiVersion>,
}

impl Connection {
    /// Connects and asks for the versions that the broker speaks.
    pub(crate) async fn open(endpoint: &Endpoint, deadline: Instant) -> Result<Self, ClientError> {
        let (address, client_id) = ((endpoint.host.as_str(), endpoint.port), Str::from_static("firn"));
        let within = CONNECT_TIMEOUT.min(deadline.saturating_duration_since(Instant::now()));
        let wire = wire::Connection::open(address, within, client_id, MAX_RESPONSE_BYTES).await;
        let wire = wire.map_err(|source| ClientError::Connect { endpoint: endpoint.clone(), source })?;
        let mut connection = Connection { endpoint: endpoint.clone(), wire, versions: Vec::new() };
        connection.negotiate(deadline).await?;
        Ok(connection)
    }

    /// Sends a request in the highest version that both sides speak and reads the answer.
    pub(crate) async fn call<R: Request>(
        &mut self,
        request: &R,
        deadline: Instant,
    ) -> Result<R::Response, ClientError> {
        let version = self.version::<R>()?;
        let mut body = self.exchange(request, version, deadline).await?;
        R::Response::decode(&mut body, version).map_err(|e| ClientError::decode(&self.endpoint, R::KEY, &e))
    }

    async fn negotiate(&mut self, deadline: Instant) -> Result<(), ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: Str::from_static("firn"),
            client_software_version: Str::from_static(env!("CARGO_PKG_VERSION")),
            ..ApiVersionsRequest::default()
        };
        let body = self.exchange(&request, API_VERSIONS_VERSION, deadline).await?;
        let refused = body.clone().i16("ApiVersionsResponse.ErrorCode") == Ok(ErrorCode::UnsupportedVersion.code());
        let (mut body, version) = if refused {
            (self.exchange(&ApiVersionsRequest::default(), 0, deadline).await?, 0)
        } else {
            (body, API_VERSIONS_VERSION)
        };
        let answer = ApiVersionsResponse::decode(&mut body, version)
            .map_err(|e| ClientError::decode(&self.endpoint, ApiKey::ApiVersions, &e))?;
        ClientError::check(answer.error_code, None, || format!("{} refuses to talk", self.endpoint))?;
        self.versions = answer.api_keys;
        Ok(())
    }

    fn version<R: Request>(&self) -> Result<i16, ClientError> {
        let (min, max) = (R::INFO.min, highest_version(R::KEY).min(R::INFO.max));
        let offered = self.versions.iter().find(|offered| offered.api_key == R::KEY.id());
        offered
            .map(|offered| (offered.min_version.max(min), offered.max_version.min(max)))
            .filter(|(first, last)| first <= last)
            .map(|(_, last)| last)
            .ok_or_else(|| ClientError::Unsupported { endpoint: self.endpoint.clone(), api: R::KEY, min, max })
    }

    async fn exchange<R: Request>(&mut self, body: &R, version: i16, deadline: Instant) -> Result<Reader, ClientError> {
        let answer = self.wire.exchange(body, version, deadline).await;
        answer.map_err(|error| ClientError::call(&self.endpoint, R::KEY, error))
    }
}

/// The last version that we use: later ones name topics by id only, or are not final.
fn highest_version(api: ApiKey) -> i16 {
    match api {
        ApiKey::Produce | ApiKey::Fetch => 12,
        ApiKey::OffsetFetch => 9,
        ApiKey::InitProducerId => 5,
        _ => i16::MAX,
    }
}
