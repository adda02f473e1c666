//! Asks other nodes, on their internal listeners. Connections are kept and shared; every call has a deadline.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use model::NodeId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{CLUSTER, TO};
use crate::config::HostPort;

/// How long a connection may take to come about.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// Idle connections kept per node.
const MAX_IDLE: usize = 8;

/// Copies share the connections.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
}

/// Whom to ask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addressee<'a> {
    /// Where it should be.
    pub(crate) address: &'a HostPort,
    /// Which node it must be, if that is known.
    pub(crate) node: Option<NodeId>,
    /// The cluster that we belong to; empty when we do not know yet.
    pub(crate) cluster: &'a str,
}

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody listens there: the process is gone.
    #[error("nobody listens there")]
    NobodyThere,
    /// The connection failed or did not come about.
    #[error("the connection failed: {0}")]
    Broken(String),
    /// No answer within the deadline.
    #[error("no answer within the deadline")]
    TimedOut,
    /// The node answered that it will not.
    #[error("{reason} ({status})")]
    Refused {
        /// How it says so.
        status: StatusCode,
        /// Why.
        reason: String,
    },
    /// The answer makes no sense.
    #[error("the answer cannot be read: {0}")]
    Nonsense(String),
}

impl CallError {
    /// True when another address may be the right one.
    pub(crate) fn is_wrong_address(&self) -> bool {
        match self {
            CallError::NobodyThere | CallError::Broken(_) | CallError::TimedOut => true,
            CallError::Refused { status, .. } => *status == StatusCode::MISDIRECTED_REQUEST,
            CallError::Nonsense(_) => false,
        }
    }
}

impl Client {
    /// Without connections yet.
    pub(crate) fn new() -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map(|tls| tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth());
        let builder = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_WITHIN)
            .tcp_nodelay(true)
            .pool_max_idle_per_host(MAX_IDLE);
        // Neither can fail: the provider has TLS 1.2 and 1.3, and nothing is read from the system.
        let http = tls.ok().and_then(|tls| builder.use_preconfigured_tls(tls).build().ok());
        Client { http: http.unwrap_or_default() }
    }

    /// Asks, with a JSON body.
    pub(crate) async fn call<A: DeserializeOwned>(
        &self,
        to: Addressee<'_>,
        path: &str,
        question: &impl Serialize,
        deadline: Duration,
    ) -> Result<A, CallError> {
        let body = serde_json::to_vec(question).map_err(|error| CallError::Nonsense(error.to_string()))?;
        self.send(to, path, body.into(), deadline).await
    }

    /// Asks, with a body as it is. The answer is JSON.
    pub(crate) async fn send<A: DeserializeOwned>(
        &self,
        to: Addressee<'_>,
        path: &str,
        body: Bytes,
        deadline: Duration,
    ) -> Result<A, CallError> {
        let asked = async {
            let response = self.request(to, path).body(body).send().await.map_err(of_http)?;
            let status = response.status();
            let answer = response.bytes().await.map_err(of_http)?;
            if status.is_success() {
                return serde_json::from_slice(&answer).map_err(|error| CallError::Nonsense(error.to_string()));
            }
            Err(CallError::Refused { status, reason: String::from_utf8_lossy(&answer).into_owned() })
        };
        tokio::time::timeout(deadline, Box::pin(asked)).await.unwrap_or(Err(CallError::TimedOut))
    }

    /// Opens a stream of bytes.
    pub(crate) async fn listen(
        &self,
        to: Addressee<'_>,
        path: &str,
        within: Duration,
    ) -> Result<reqwest::Response, CallError> {
        let asking = Box::pin(self.request(to, path).send());
        let response = tokio::time::timeout(within, asking).await.map_err(|_| CallError::TimedOut)?.map_err(of_http)?;
        let status = response.status();
        if status.is_success() { Ok(response) } else { Err(CallError::Refused { status, reason: String::new() }) }
    }

    fn request(&self, to: Addressee<'_>, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.post(format!("http://{}{path}", to.address));
        let request = request.header(CONTENT_TYPE, "application/json").header(CLUSTER, to.cluster);
        match to.node {
            Some(node) => request.header(TO, node),
            None => request,
        }
    }
}

fn of_http(error: reqwest::Error) -> CallError {
    if error.is_timeout() {
        return CallError::TimedOut;
    }
    let mut cause: &(dyn Error + 'static) = &error;
    loop {
        if cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
            return CallError::NobodyThere;
        }
        match cause.source() {
            Some(deeper) => cause = deeper,
            None => return CallError::Broken(cause.to_string()),
        }
    }
}
