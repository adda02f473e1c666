//! Where the other nodes are, and how to ask them.
//!
//! A node's address stands in its registration, in the membership of the metadata log, and perhaps on our command line. All
//! three may be out of date after a move: when one leads nowhere, the next call tries the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::NodeId;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::image::{ClusterImage, Images};
use crate::config::{HostPort, MemberList};
use crate::internal::client::{Addressee, CallError, Client, Said};

/// The other nodes of the cluster. Share it.
#[derive(Debug)]
pub(crate) struct Peers {
    client: Client,
    images: Arc<Images>,
    given: MemberList,
    learned: Mutex<BTreeMap<NodeId, HostPort>>,
    /// How often an address of a node was wrong.
    misses: Mutex<BTreeMap<NodeId, usize>>,
}

/// Where a call goes, and in whose name.
struct Way {
    node: NodeId,
    address: HostPort,
    image: Arc<ClusterImage>,
}

impl Way {
    fn to(&self) -> Addressee<'_> {
        Addressee { address: &self.address, node: Some(self.node), cluster: self.image.cluster_id() }
    }
}

impl Peers {
    /// `given`: what the configuration says.
    pub(super) fn new(images: Arc<Images>, given: MemberList) -> Arc<Self> {
        Arc::new(Peers { client: Client::new(), images, given, learned: Mutex::default(), misses: Mutex::default() })
    }

    /// Takes note of an address that the membership of the log states.
    pub(super) fn learn(&self, node: NodeId, address: &str) {
        if let Ok(address) = address.parse() {
            self.learned.lock().insert(node, address);
        }
    }

    /// Where the node should be.
    pub(crate) fn address(&self, node: NodeId) -> Option<HostPort> {
        let mut known = self.addresses(node);
        let misses = self.misses.lock().get(&node).copied().unwrap_or_default();
        (!known.is_empty()).then(|| known.swap_remove(misses % known.len()))
    }

    /// Everywhere that the node may be.
    pub(super) fn addresses(&self, node: NodeId) -> Vec<HostPort> {
        let image = self.images.current();
        let registered = image.broker(node).and_then(|broker| broker.internal.parse().ok());
        let learned = self.learned.lock().get(&node).cloned();
        let mut known: Vec<HostPort> =
            [registered, learned, self.given.get(node).cloned()].into_iter().flatten().collect();
        known.dedup();
        known
    }

    /// Asks a node, with a JSON body.
    pub(crate) async fn call<A: DeserializeOwned>(
        &self,
        node: NodeId,
        path: &str,
        question: &impl Serialize,
        deadline: Duration,
    ) -> Result<A, CallError> {
        let body = serde_json::to_vec(question).map_err(|error| CallError::Nonsense(error.to_string()))?;
        self.send(node, path, body.into(), deadline).await
    }

    /// Asks a node, with a body as it is.
    pub(crate) async fn send<A: DeserializeOwned>(
        &self,
        node: NodeId,
        path: &str,
        body: Bytes,
        deadline: Duration,
    ) -> Result<A, CallError> {
        let way = self.way(node)?;
        self.noted(node, self.client.send(way.to(), path, body, deadline).await)
    }

    /// Opens a stream of what the node has to say. `within`: how long it may take to begin.
    pub(super) async fn listen(&self, node: NodeId, path: &str, within: Duration) -> Result<Said, CallError> {
        let way = self.way(node)?;
        self.noted(node, self.client.listen(way.to(), path, within).await)
    }

    fn way(&self, node: NodeId) -> Result<Way, CallError> {
        let unknown = || CallError::Broken(format!("the internal listener of node {node} is not known"));
        let address = self.address(node).ok_or_else(unknown)?;
        Ok(Way { node, address, image: self.images.current() })
    }

    /// After a miss, the next call tries the next address.
    fn noted<A>(&self, node: NodeId, answer: Result<A, CallError>) -> Result<A, CallError> {
        if answer.as_ref().is_err_and(CallError::is_wrong_address) {
            *self.misses.lock().entry(node).or_default() += 1;
        }
        answer
    }

    /// The broker epoch of a node, if it is registered.
    pub(super) fn broker_epoch(&self, node: NodeId) -> Option<i64> {
        self.images.current().broker(node).map(|broker| broker.epoch)
    }

    /// True when the node has said that it is about to stop.
    pub(super) fn is_stopping(&self, node: NodeId) -> bool {
        self.images.current().broker(node).is_some_and(|broker| broker.is_shutting_down)
    }

    /// Asks whoever is at an address.
    pub(super) async fn call_address<A: DeserializeOwned>(
        &self,
        address: &HostPort,
        path: &str,
        question: &impl Serialize,
        deadline: Duration,
    ) -> Result<A, CallError> {
        let image = self.images.current();
        self.client.call(Addressee { address, node: None, cluster: image.cluster_id() }, path, question, deadline).await
    }
}
