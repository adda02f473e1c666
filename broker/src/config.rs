//! All settings of a broker, in one place.
//!
//! A [`Config`] is composed from three sources, the strongest first: the command line, the environment, the file. Settings
//! that Kafka has too keep Kafka's names ([`table`]); an unknown name is refused together with the nearest one
//! that exists. Nothing is validated later than here.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use model::NodeId;
use model::settings::{InvalidSetting, SettingsMap};

pub mod layers;
mod members;
pub mod settings;
pub mod table;

pub use members::{Member, MemberList};
pub use settings::{BrokerSettings, ConfigSource, Settings};
pub use table::BROKER_SETTINGS;

/// A host and a port, such as `127.0.0.1:9092` or `[::1]:9092`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port; 0 lets the system choose where we listen.
    pub port: u16,
}

impl FromStr for HostPort {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let invalid = || ConfigError::Address(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(invalid());
        }
        Ok(HostPort { host: host.to_owned(), port: port.parse().map_err(|_| invalid())? })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A broker's configuration, complete and checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// This node's id in the cluster, from 0.
    pub node_id: NodeId,
    /// Folder of the log, the metadata and, by default, the archive.
    pub data_dir: PathBuf,
    /// Where Kafka clients connect to.
    pub listen: HostPort,
    /// Address that clients connect to; the listening address when not given.
    pub advertise: Option<HostPort>,
    /// Where metrics, health and the admin API are served.
    pub admin: HostPort,
    /// Where other nodes of the cluster connect to; see [`Config::internal_address`] for the default.
    pub internal: Option<HostPort>,
    /// Rack of this node: replicas of a partition are spread over racks.
    pub rack: Option<String>,
    /// The first voters of the cluster, this node among them, by their internal listeners. Empty: see `join`.
    pub peers: MemberList,
    /// Internal listener of any node of a cluster that this node shall join. None, and no peers: a cluster of one.
    pub join: Option<HostPort>,
    /// Where the archive lives, as a URL; a folder inside `data_dir` when not given.
    pub object_store: Option<String>,
    /// The object store is taken for the cluster's, whatever its identity and its contents are: for one that was moved.
    pub accept_object_store: bool,
    /// Broker settings and topic defaults.
    pub settings: Settings,
    /// The platform of a simulated node.
    #[cfg(feature = "simulation")]
    pub machine: crate::machine::simulated::Machine,
}

impl Default for Config {
    /// Node 1 on 127.0.0.1:9092, admin on 127.0.0.1:9644, data in `./firn-data`.
    fn default() -> Self {
        let local = |port| HostPort { host: "127.0.0.1".to_owned(), port };
        Config {
            node_id: 1,
            data_dir: PathBuf::from("firn-data"),
            listen: local(9092),
            advertise: None,
            admin: local(9644),
            internal: None,
            rack: None,
            peers: MemberList::default(),
            join: None,
            object_store: None,
            accept_object_store: false,
            settings: Settings::default(),
            #[cfg(feature = "simulation")]
            machine: crate::machine::simulated::Machine::default(),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not `HOST:PORT`.
    #[error("{0:?} is not an address, expected HOST:PORT, for example 127.0.0.1:9092")]
    Address(String),
    /// Not a list of nodes.
    #[error("{0:?} is not a list of nodes, expected ID@HOST:PORT,ID@HOST:PORT,… without an id twice")]
    Members(String),
    /// Options that exclude each other.
    #[error("{0}")]
    Contradiction(String),
    /// Not `NAME=VALUE`.
    #[error("{0:?} is not a setting, expected NAME=VALUE, for example segment.bytes=1048576")]
    Assignment(String),
    /// A key that does not exist.
    #[error("unknown {place} {name:?}{}", nearest.as_ref().map(|n| format!(", did you mean {n:?}?")).unwrap_or_default())]
    UnknownKey {
        /// Where it is, for example `setting` or `key in firn.toml`.
        place: String,
        /// The key.
        name: String,
        /// The valid key that is nearest to it.
        nearest: Option<String>,
    },
    /// A value that its setting cannot take.
    #[error("{0}")]
    Setting(#[from] InvalidSetting),
    /// A value of the wrong type in the file.
    #[error("{place}: {reason}")]
    Value {
        /// Which key, where.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("the configuration file {path} is not valid TOML: {source}")]
    Toml {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
}

/// What a source says; unset fields leave the word to a weaker source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// See [`Config::node_id`].
    pub node_id: Option<NodeId>,
    /// See [`Config::data_dir`].
    pub data_dir: Option<PathBuf>,
    /// See [`Config::listen`].
    pub listen: Option<HostPort>,
    /// See [`Config::advertise`].
    pub advertise: Option<HostPort>,
    /// See [`Config::admin`].
    pub admin: Option<HostPort>,
    /// See [`Config::internal`].
    pub internal: Option<HostPort>,
    /// See [`Config::rack`].
    pub rack: Option<String>,
    /// See [`Config::peers`].
    pub peers: Option<MemberList>,
    /// See [`Config::join`].
    pub join: Option<HostPort>,
    /// See [`Config::object_store`].
    pub object_store: Option<String>,
    /// See [`Config::accept_object_store`]. Not in a file: it is said once.
    pub accept_object_store: Option<bool>,
    /// Settings by the name that the source uses.
    pub settings: SettingsMap,
}

/// Top-level keys of the file, next to the table `[settings]`.
const FILE_KEYS: [&str; 11] = [
    "node-id",
    "data-dir",
    "listen",
    "advertise",
    "admin",
    "internal",
    "rack",
    "peers",
    "join",
    "object-store",
    "settings",
];

impl Overrides {
    /// Reads a TOML file: the keys of the command line without dashes in front, and a table `[settings]`.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, the key and the nearest valid one.
    pub fn from_file(path: &std::path::Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
        Self::from_toml(&text, &path.display().to_string())
            .map_err(|e| e.unwrap_or_else(|source| ConfigError::Toml { path: path.to_owned(), source }))
    }

    fn from_toml(text: &str, file: &str) -> Result<Self, Result<ConfigError, Box<toml::de::Error>>> {
        let table: toml::Table = text.parse().map_err(|e| Err(Box::new(e)))?;
        let mut overrides = Overrides::default();
        for (key, value) in table {
            overrides.take(&key, value, file).map_err(Ok)?;
        }
        Ok(overrides)
    }

    fn take(&mut self, key: &str, value: toml::Value, file: &str) -> Result<(), ConfigError> {
        let place = format!("{key} in {file}");
        if key == "settings" {
            let toml::Value::Table(table) = value else {
                return Err(ConfigError::Value { place, reason: "a table [settings] is needed".to_owned() });
            };
            return flatten("", table, file, &mut self.settings);
        }
        let text = scalar(&place, value)?;
        match key {
            "node-id" => {
                let reason = "a whole number from 0 is needed".to_owned();
                self.node_id = Some(text.parse().map_err(|_| ConfigError::Value { place, reason })?);
            }
            "data-dir" => self.data_dir = Some(PathBuf::from(text)),
            "listen" => self.listen = Some(text.parse()?),
            "advertise" => self.advertise = Some(text.parse()?),
            "admin" => self.admin = Some(text.parse()?),
            "internal" => self.internal = Some(text.parse()?),
            "rack" => self.rack = Some(text),
            "peers" => self.peers = Some(text.parse()?),
            "join" => self.join = Some(text.parse()?),
            "object-store" => self.object_store = Some(text),
            _ => {
                let nearest = model::settings::nearest(key, FILE_KEYS.into_iter()).map(str::to_owned);
                let place = format!("key in {file}");
                return Err(ConfigError::UnknownKey { place, name: key.to_owned(), nearest });
            }
        }
        Ok(())
    }

    /// Adds `NAME=VALUE`, as `--set` takes it.
    ///
    /// # Errors
    /// [`ConfigError::Assignment`] when there is no `=`. The name is checked when the configuration is composed.
    pub fn set(&mut self, assignment: &str) -> Result<(), ConfigError> {
        let (name, value) = assignment.split_once('=').ok_or_else(|| ConfigError::Assignment(assignment.to_owned()))?;
        self.settings.insert(name.trim().to_owned(), value.trim().to_owned());
        Ok(())
    }
}

/// `a.b.c = 1` and `[a.b] c = 1` are the same TOML: both become the setting `a.b.c`.
fn flatten(prefix: &str, table: toml::Table, file: &str, into: &mut SettingsMap) -> Result<(), ConfigError> {
    for (key, value) in table {
        let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) => flatten(&name, inner, file, into)?,
            value => {
                let text = scalar(&format!("{name} in {file}"), value)?;
                into.insert(name, text);
            }
        }
    }
    Ok(())
}

fn scalar(place: &str, value: toml::Value) -> Result<String, ConfigError> {
    match value {
        toml::Value::String(text) => Ok(text),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Boolean(word) => Ok(word.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        _ => Err(ConfigError::Value {
            place: place.to_owned(),
            reason: "a text, number or boolean is needed".to_owned(),
        }),
    }
}

impl Config {
    /// Composes a configuration; of `sources`, the later ones are stronger.
    ///
    /// # Errors
    /// [`ConfigError`] for the first setting that is unknown or malformed.
    pub fn compose(sources: impl IntoIterator<Item = Overrides>) -> Result<Self, ConfigError> {
        let mut config = Config::default();
        let mut settings = SettingsMap::new();
        for source in sources {
            config.node_id = source.node_id.unwrap_or(config.node_id);
            config.data_dir = source.data_dir.unwrap_or(config.data_dir);
            config.listen = source.listen.unwrap_or(config.listen);
            config.advertise = source.advertise.or(config.advertise);
            config.admin = source.admin.unwrap_or(config.admin);
            config.internal = source.internal.or(config.internal);
            config.rack = source.rack.or(config.rack);
            config.peers = source.peers.unwrap_or(config.peers);
            config.join = source.join.or(config.join);
            config.object_store = source.object_store.or(config.object_store);
            config.accept_object_store = source.accept_object_store.unwrap_or(config.accept_object_store);
            settings.extend(source.settings);
        }
        config.settings = Settings::resolve(&settings)?;
        config.check_membership()?;
        config.check_advertised()?;
        Ok(config)
    }

    /// Where the internal listener listens: as given, else this node's own entry among the peers, else the host of `listen`
    /// and the port after its own.
    #[must_use]
    pub fn internal_address(&self) -> HostPort {
        let own = || self.peers.get(self.node_id).cloned();
        self.internal.clone().or_else(own).unwrap_or_else(|| HostPort {
            host: self.listen.host.clone(),
            // Port 0 lets the system choose, here as there.
            port: if self.listen.port == 0 { 0 } else { self.listen.port.wrapping_add(1) },
        })
    }

    /// Clients connect to what is advertised.
    fn check_advertised(&self) -> Result<(), ConfigError> {
        let Some(advertise) = &self.advertise else { return Ok(()) };
        let host = advertise.host.trim_start_matches('[').trim_end_matches(']');
        let is_any = host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        let reason = match (is_any, advertise.port) {
            (true, _) => "stands for all addresses of a machine, and names none of them",
            (false, 0) => "has the port 0, which stands for any",
            (false, _) => return Ok(()),
        };
        let advice = "give --advertise what clients connect to, or leave it out";
        Err(ConfigError::Contradiction(format!("the advertised address {advertise} {reason}: {advice}")))
    }

    fn check_membership(&self) -> Result<(), ConfigError> {
        let contradiction = |reason: String| Err(ConfigError::Contradiction(reason));
        if self.join.is_some() && !self.peers.is_empty() {
            return contradiction("a node starts with its peers or joins a cluster: give peers or join".to_owned());
        }
        if !self.peers.is_empty() && self.peers.get(self.node_id).is_none() {
            let (id, peers) = (self.node_id, &self.peers);
            return contradiction(format!("node {id} is not among the peers {peers}: add it, or let the node join"));
        }
        let has_others = self.join.is_some() || self.peers.iter().any(|(id, _)| id != self.node_id);
        if has_others && self.object_store.is_none() {
            return contradiction(
                "the nodes of a cluster share one object store, and the default is a folder of this node alone: give all of \
                 them the same --object-store (object-store in a file, FIRN_OBJECT_STORE), for example s3://bucket/prefix, or \
                 file:///folder where that folder is shared"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// The archive's URL: the one that was given, or the folder `archive` in the data folder.
    #[must_use]
    pub fn object_store_url(&self) -> String {
        self.object_store.clone().unwrap_or_else(|| self.data_dir.join("archive").display().to_string())
    }
}

#[cfg(test)]
mod tests;
