//! A thin Kafka client over the `protocol` package: what the commands need, and no more.
//!
//! One [`Connection`] per broker, one request at a time on each. Every call has a deadline. Errors that Kafka calls
//! retriable are tried again with a growing pause until the deadline ([`Backoff`]); the last error is the one reported.
//! Why this is our own: `docs/decisions/0002-own-thin-kafka-client.md`.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use protocol::Request;
use tokio::time::Instant;

mod connection;
mod error;

pub(crate) mod cluster;
pub(crate) mod features;
pub(crate) mod groups;
pub(crate) mod operations;
pub(crate) mod overview;
pub(crate) mod records;
pub(crate) mod topics;

pub(crate) use cluster::{ClusterView, PartitionView, TopicView};
pub(crate) use error::ClientError;

use connection::Connection;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    /// Name or address, without brackets.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("{text:?} is not an address, expected HOST:PORT, for example 127.0.0.1:9092");
        let (host, port) = text.trim().rsplit_once(':').ok_or_else(invalid)?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok().filter(|_| !host.is_empty()).ok_or_else(invalid)?;
        Ok(Endpoint { host: host.to_owned(), port })
    }
}

/// A client of one cluster.
#[derive(Debug)]
pub(crate) struct Client {
    bootstrap: Vec<Endpoint>,
    timeout: Duration,
    connections: HashMap<Endpoint, Connection>,
    /// The topic of the last produce request that succeeded, with its leaders.
    producing_to: Option<ClusterView>,
}

impl Client {
    /// A client that finds the cluster at any of `bootstrap`. Each operation takes `timeout` at most.
    pub(crate) fn new(bootstrap: Vec<Endpoint>, timeout: Duration) -> Self {
        Client { bootstrap, timeout, connections: HashMap::new(), producing_to: None }
    }

    /// A client of the same cluster with connections of its own.
    pub(crate) fn another(&self) -> Self {
        Client::new(self.bootstrap.clone(), self.timeout)
    }

    /// When an operation that starts now has to be done.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Sends a request to one broker.
    pub(crate) async fn call_at<R: Request>(
        &mut self,
        endpoint: &Endpoint,
        request: &R,
        deadline: Instant,
    ) -> Result<R::Response, ClientError> {
        // A connection that was idle may have been closed by the broker: that shows only when it is used.
        if let Some(mut connection) = self.connections.remove(endpoint) {
            let result = connection.call(request, deadline).await;
            let is_stale = matches!(result, Err(ClientError::Broken { .. }));
            if result.is_ok() {
                self.connections.insert(endpoint.clone(), connection);
            }
            if !is_stale {
                return result;
            }
        }
        let mut connection = Connection::open(endpoint, deadline).await?;
        let response = connection.call(request, deadline).await?;
        self.connections.insert(endpoint.clone(), connection);
        Ok(response)
    }

    /// Connects to a broker and asks it for the versions that it speaks.
    pub(crate) async fn ping(&mut self, endpoint: &Endpoint, within: Duration) -> Result<(), ClientError> {
        Connection::open(endpoint, Instant::now() + within).await.map(drop)
    }

    /// Sends a request to the first broker that answers.
    pub(crate) async fn call_any<R: Request>(
        &mut self,
        request: &R,
        deadline: Instant,
    ) -> Result<R::Response, ClientError> {
        let mut reasons = Vec::new();
        let endpoints = self.bootstrap.clone();
        for (index, endpoint) in endpoints.iter().enumerate() {
            // One that hangs must leave time for the others.
            let left = u32::try_from(endpoints.len() - index).unwrap_or(u32::MAX);
            let share = Instant::now() + deadline.saturating_duration_since(Instant::now()) / left;
            match self.call_at(endpoint, request, share).await {
                Err(error @ ClientError::Connect { .. }) => reasons.push(error.to_string()),
                Err(error @ (ClientError::Broken { .. } | ClientError::TimedOut { .. })) => {
                    reasons.push(error.to_string())
                }
                settled => return settled,
            }
        }
        Err(ClientError::NoBroker { reasons: reasons.join("; ") })
    }
}

/// Growing pauses between tries, up to a deadline.
#[derive(Debug)]
pub(crate) struct Backoff {
    deadline: Instant,
    pause: Duration,
}

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl Backoff {
    /// The first pause is 50 ms, each further one twice as long, up to a second.
    pub(crate) fn until(deadline: Instant) -> Self {
        Backoff { deadline, pause: FIRST_PAUSE }
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// Gives `error` back when trying again cannot help, or the deadline would pass meanwhile.
    pub(crate) async fn pause_after(&mut self, error: ClientError) -> Result<(), ClientError> {
        let wake = Instant::now() + self.pause;
        if !error.is_retriable() || wake >= self.deadline {
            return Err(error);
        }
        tokio::time::sleep_until(wake).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_a_port_are_taken() {
        for text in ["127.0.0.1:9092", "broker-1.example:1", "[::1]:65535"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for text in ["localhost", ":9092", "host:x", "host:70000", ""] {
            assert!(text.parse::<Endpoint>().unwrap_err().contains("HOST:PORT"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_refusal_that_will_not_change_is_not_tried_again() {
        let mut backoff = Backoff::until(Instant::now() + Duration::from_secs(1));
        let refused = |code| ClientError::Refused { doing: "x".into(), code, message: None };
        assert!(backoff.pause_after(refused(17)).await.is_err());
        assert!(backoff.pause_after(refused(6)).await.is_ok());
    }

    #[tokio::test]
    async fn trying_again_ends_at_the_deadline() {
        let start = Instant::now();
        let mut backoff = Backoff::until(start + Duration::from_millis(300));
        let busy = || ClientError::Refused { doing: "x".into(), code: 6, message: None };
        while backoff.pause_after(busy()).await.is_ok() {}
        // The last pause would have passed the deadline: it was not begun.
        assert!(Instant::now() + backoff.pause >= backoff.deadline);
    }
}
