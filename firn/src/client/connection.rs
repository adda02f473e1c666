//! One connection to one broker: a request, then its answer, never two at a time.
//!
//! After any error but a refusal the stream's state is unknown: drop the connection.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use protocol::frame::{self, FrameSplitter};
use protocol::messages::api_versions_response::ApiVersion;
use protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use protocol::{ApiKey, ErrorCode, Message, Reader, Request, Str};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

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
    stream: TcpStream,
    buffer: BytesMut,
    versions: Vec<ApiVersion>,
    correlation_id: i32,
}

impl Connection {
    /// Connects and asks for the versions that the broker speaks.
    pub(crate) async fn open(endpoint: &Endpoint, deadline: Instant) -> Result<Self, ClientError> {
        let failed = |source| ClientError::Connect { endpoint: endpoint.clone(), source };
        let until = deadline.min(Instant::now() + CONNECT_TIMEOUT);
        let connecting = TcpStream::connect((endpoint.host.as_str(), endpoint.port));
        let slow = || failed(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"));
        let stream = timeout_at(until, connecting).await.map_err(|_| slow())?.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let endpoint = endpoint.clone();
        let mut connection =
            Connection { endpoint, stream, buffer: BytesMut::new(), versions: Vec::new(), correlation_id: 0 };
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
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let request = frame::request(body, version, self.correlation_id, Some(Str::from_static("firn")))?;
        let send_and_receive = async {
            for segment in &request.segments {
                self.stream.write_all(segment).await.map_err(|e| broken(&self.endpoint, R::KEY, e))?;
            }
            self.receive(R::KEY).await
        };
        let received = timeout_at(deadline, send_and_receive).await;
        let timed_out = || ClientError::TimedOut { endpoint: self.endpoint.clone(), api: R::KEY };
        let bytes = received.map_err(|_| timed_out())??;
        let (correlation_id, reader) = frame::open_response(R::KEY, version, bytes)
            .map_err(|e| ClientError::decode(&self.endpoint, R::KEY, &e))?;
        if correlation_id == self.correlation_id {
            return Ok(reader);
        }
        let reason = format!("it belongs to request {correlation_id}, not to {}", self.correlation_id);
        Err(ClientError::Decode { endpoint: self.endpoint.clone(), api: R::KEY, reason })
    }

    async fn receive(&mut self, api: ApiKey) -> Result<bytes::Bytes, ClientError> {
        let splitter = FrameSplitter::new(MAX_RESPONSE_BYTES);
        let not_kafka = |endpoint: &Endpoint, source| ClientError::Frame { endpoint: endpoint.clone(), source };
        loop {
            if let Some(frame) = splitter.next_frame(&mut self.buffer).map_err(|e| not_kafka(&self.endpoint, e))? {
                return Ok(frame);
            }
            let missing = splitter.missing_bytes(&self.buffer).map_err(|e| not_kafka(&self.endpoint, e))?;
            self.buffer.reserve(missing.max(8 << 10));
            let read = self.stream.read_buf(&mut self.buffer).await.map_err(|e| broken(&self.endpoint, api, e))?;
            if read == 0 {
                let closed = io::Error::new(io::ErrorKind::UnexpectedEof, "the broker closed it");
                return Err(broken(&self.endpoint, api, closed));
            }
        }
    }
}

fn broken(endpoint: &Endpoint, api: ApiKey, source: io::Error) -> ClientError {
    ClientError::Broken { endpoint: endpoint.clone(), api, source }
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
