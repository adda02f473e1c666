//! What the cluster knows of a broker.

use model::NodeId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A registered broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// Its id: one data directory, for ever.
    pub id: NodeId,
    /// Number of this registration. It rises with every registration in the cluster and fences older processes.
    pub epoch: i64,
    /// The process that registered, by a random id of its own.
    pub incarnation: Uuid,
    /// Where clients and other brokers reach it.
    pub listeners: Vec<Listener>,
    /// Where it stands: replicas of a partition are spread over racks.
    #[serde(default)]
    pub rack: Option<String>,
    /// True while it may not lead: it starts, it is lost.
    #[serde(default)]
    pub is_fenced: bool,
}

impl Broker {
    /// The listener of that name, else the first one.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<&Listener> {
        self.listeners.iter().find(|listener| listener.name == name).or_else(|| self.listeners.first())
    }
}

/// An address under which a broker answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Name of the listener: `PLAINTEXT`, `INTERNAL`, ….
    pub name: String,
    /// The advertised host: a name or an address.
    pub host: String,
    /// The advertised port.
    pub port: u16,
}
