//! The read side of an Apache Iceberg REST catalog: the topics' tables.
//!
//! ```text
//! GET  /iceberg/v1/config                                  what the catalog can do
//! GET  /iceberg/v1/namespaces                              topics, and topics_escaped with the second form of names
//! GET  /iceberg/v1/namespaces/topics            also HEAD
//! GET  /iceberg/v1/namespaces/topics/views                 none
//! GET  /iceberg/v1/namespaces/topics/tables                names, in pages
//! GET  /iceberg/v1/namespaces/topics/tables/T   also HEAD  the newest metadata
//! POST /iceberg/v1/namespaces/topics/tables/T/metrics      taken, and forgotten
//! ```
//!
//! Everything else that the specification knows would change something, and is refused: a table is what the log holds, and
//! only producers, retention and DeleteRecords change that. Terms:
//! <https://github.com/apache/iceberg/blob/main/open-api/rest-catalog-open-api.yaml>.
//!
//! A table is called as its topic is ([`names`]). The answers come from the bucket, so every node gives the same.

mod answers;
pub mod names;
mod routes;

use std::sync::Arc;

use cold_tier::ColdTier;
use model::archive::TopicArchive;

pub use routes::router;

/// Finds a topic by its name; `None` while the node is not open.
pub type FindTopic = dyn Fn(&str) -> Option<Option<TopicArchive>> + Send + Sync;

/// What the catalog sees of its node: `None` while that is not open.
#[derive(Clone)]
pub struct Node {
    /// All topics.
    pub topics: Arc<dyn Fn() -> Option<Vec<TopicArchive>> + Send + Sync>,
    /// The topic of that name, if there is one.
    pub topic: Arc<FindTopic>,
    /// The archive.
    pub cold: Arc<dyn Fn() -> Option<ColdTier> + Send + Sync>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
