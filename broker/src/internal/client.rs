//! Asks other nodes, on their internal listeners. Connections are kept and shared; every call has a deadline.

use std::error::Error;
use std::io;
use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use axum::http::{Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use model::NodeId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::connector::Connector;
use super::{CLUSTER, PROCESS, TO};
use crate::config::HostPort;

/// Idle connections kept per node.
const MAX_IDLE: usize = 8;

/// Copies share the connections, which belong to the runtime on which the first was made: one that a task of another runtime
/// asks for does not depend on that runtime.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: legacy::Client<Connector, Full<Bytes>>,
}

/// Runs the tasks of connections on one runtime.
#[derive(Debug, Clone)]
struct On(Handle);

impl<F> hyper::rt::Executor<F> for On
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

/// What a node says bit by bit.
#[derive(Debug)]
pub(crate) struct Said {
    body: Incoming,
    process: Option<Uuid>,
}

impl Said {
    /// The process that says it; none when its build does not tell.
    pub(crate) fn process(&self) -> Option<Uuid> {
        self.process
    }

    /// The next bit; `None` at the end.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            match self.body.frame().await.transpose().map_err(|error| of_http(&error))? {
                // Trailers say nothing.
                Some(frame) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
                None => return Ok(None),
            }
        }
    }
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
    /// Without connections yet; they will belong to the runtime of the caller.
    pub(crate) fn new() -> Self {
        let runtime = Handle::current();
        let mut builder = legacy::Client::builder(On(runtime.clone()));
        Client { http: builder.pool_max_idle_per_host(MAX_IDLE).build(Connector(runtime)) }
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
            let response = self.post(to, path, body).await?;
            let status = response.status();
            let answer = response.into_body().collect().await.map_err(|error| of_http(&error))?.to_bytes();
            if status.is_success() {
                return serde_json::from_slice(&answer).map_err(|error| CallError::Nonsense(error.to_string()));
            }
            Err(CallError::Refused { status, reason: String::from_utf8_lossy(&answer).into_owned() })
        };
        tokio::time::timeout(deadline, Box::pin(asked)).await.unwrap_or(Err(CallError::TimedOut))
    }

    /// Opens a stream of bytes.
    pub(crate) async fn listen(&self, to: Addressee<'_>, path: &str, within: Duration) -> Result<Said, CallError> {
        let asking = Box::pin(self.post(to, path, Bytes::new()));
        let response = tokio::time::timeout(within, asking).await.map_err(|_| CallError::TimedOut)??;
        let status = response.status();
        let refused = || CallError::Refused { status, reason: String::new() };
        if !status.is_success() {
            return Err(refused());
        }
        let process = response.headers().get(PROCESS).and_then(|id| id.to_str().ok()?.parse().ok());
        Ok(Said { body: response.into_body(), process })
    }

    async fn post(&self, to: Addressee<'_>, path: &str, body: Bytes) -> Result<Response<Incoming>, CallError> {
        let mut request = Request::post(format!("http://{}{path}", to.address));
        request = request.header(CONTENT_TYPE, "application/json").header(CLUSTER, to.cluster);
        if let Some(node) = to.node {
            request = request.header(TO, node);
        }
        let request = request.body(Full::new(body)).map_err(|error| CallError::Nonsense(error.to_string()))?;
        self.http.request(request).await.map_err(|error| of_http(&error))
    }
}

fn of_http(error: &(dyn Error + 'static)) -> CallError {
    let mut cause = error;
    loop {
        match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => return CallError::NobodyThere,
            Some(io::ErrorKind::TimedOut) => return CallError::TimedOut,
            _ => {}
        }
        match cause.source() {
            Some(deeper) => cause = deeper,
            None => return CallError::Broken(cause.to_string()),
        }
    }
}
