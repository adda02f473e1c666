//! What can go wrong between a broker and the metadata of its cluster.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use coordinator::cluster::ClusterError;
use serde::{Deserialize, Serialize};

/// Why the metadata cannot be opened, or has failed for good.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The operating system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// Another process has the file.
    #[error("{} is in use: another broker runs on this data directory, stop it first", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file's content is not what was written.
    #[error(
        "{} is damaged: {detail}. Where other nodes have the metadata too, move this file away and start again: the node \
         gets them from there. Otherwise restore it from a backup; do not delete it, since topics, settings and the \
         archive ledger stand only there", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The file is of a kind that this build does not know.
    #[error("{} has format {found}, this build reads {known}: use the build that wrote it, or a newer one", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What is known.
        known: &'static str,
    },
    /// The directory belongs to another node.
    #[error("{} belongs to node {found}, this is node {asked}: correct the node id or the data directory", path.display())]
    OtherNode {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who asked.
        asked: i32,
    },
    /// A setting makes no sense.
    #[error("invalid metadata settings: {0}")]
    Invalid(String),
    /// The node did not become ready in time.
    #[error("the metadata log was not ready after {waited:?}: {detail}")]
    NotReady {
        /// How long.
        waited: Duration,
        /// What was waited for.
        detail: String,
    },
    /// No cluster lets this node in.
    #[error("this node cannot join the cluster: {0}")]
    NotAdmitted(String),
    /// Another process with this node id is alive.
    #[error(
        "node {by} hears another live process with the node id {node_id}: stop that one, or give this one another id and an \
         empty data folder; never run a copy of a data folder beside the original"
    )]
    NodeIdInUse {
        /// The id of both.
        node_id: i32,
        /// The node that hears the other one.
        by: i32,
    },
    /// The cluster refused this broker.
    #[error("the cluster refuses this broker: {0}")]
    Refused(#[from] ClusterError),
    /// The metadata log has stopped; the process must be started again.
    #[error("the metadata log has stopped: {0}. Start the broker again; see the log for the cause")]
    Stopped(String),
}

/// Why a command got no reply that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum SubmitError {
    /// The cluster refused the command: certainly not applied, and asking again will not help.
    #[error(transparent)]
    Refused(ClusterError),
    /// The command never reached the log: certainly not applied.
    #[error("the command was not applied: {reason}")]
    NotApplied {
        /// Why.
        reason: String,
    },
    /// The command may have been applied or may yet be: read the image to find out.
    #[error("whether the command was applied is unknown: {reason}")]
    Uncertain {
        /// Why.
        reason: String,
    },
}

impl SubmitError {
    /// True when the command may have been applied.
    #[must_use]
    pub fn is_uncertain(&self) -> bool {
        matches!(self, SubmitError::Uncertain { .. })
    }
}
