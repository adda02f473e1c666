//! What the cluster knows of a broker.

use model::NodeId;
use model::settings::SettingsMap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::versions::MetadataVersions;

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
    /// Its rack: replicas of a partition are spread over racks.
    #[serde(default)]
    pub rack: Option<String>,
    /// Where other nodes reach it for the cluster's own calls, `HOST:PORT`; empty when they cannot.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub internal: String,
    /// Random id of what its disk holds: another one means that the disk was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_id: Option<Uuid>,
    /// The defaults for topic settings that its own configuration states, under the topic settings' names.
    #[serde(default, skip_serializing_if = "SettingsMap::is_empty")]
    pub topic_defaults: SettingsMap,
    /// The metadata versions that its build knows.
    #[serde(default, skip_serializing_if = "MetadataVersions::is_default")]
    pub metadata_versions: MetadataVersions,
    /// True while it may not lead: it starts, it is lost.
    #[serde(default)]
    pub is_fenced: bool,
    /// True from [`ShutDownBroker`](super::Command::ShutDownBroker) to its next registration: it gets no leaderships and
    /// no places in ISRs any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_shutting_down: bool,
}

impl Broker {
    /// True when it can be given leaderships, and places in ISRs.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.is_fenced && !self.is_shutting_down
    }

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
