//! Which table it is, and its state before the first commit.

use std::collections::HashMap;

use iceberg::spec::{FormatVersion, SortOrder, TableMetadata, TableMetadataBuilder};
use model::{TimestampMs, TopicId, TopicName};
use uuid::Uuid;

use super::{TableError, schema};

/// A topic as a table. Two topics of one name are two tables, because the id is part of both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The topic.
    pub topic: TopicName,
    /// Its id, which is also the table's.
    pub topic_id: TopicId,
    /// URL of the object store's root, without a slash at its end, such as `s3://bucket/prefix` or `file:///srv/archive`.
    /// Not percent-encoded: engines take it as it is.
    pub root: String,
    /// The topic's folder below the root, without a slash at its end.
    pub folder: String,
}

impl Table {
    /// The table's location, which its metadata state.
    #[must_use]
    pub fn location(&self) -> String {
        format!("{}/{}/iceberg", self.root, self.folder)
    }

    /// URL of an archived object.
    #[must_use]
    pub fn object_url(&self, object: &str) -> String {
        format!("{}/{object}", self.root)
    }

    /// URL of the metadata that commit `version` creates; 1 is the first.
    #[must_use]
    pub fn metadata_url(&self, version: u64) -> String {
        format!("{}/metadata/v{version}.metadata.json", self.location())
    }

    /// URL of the object that holds the newest version's number: a hint, which may lag behind.
    #[must_use]
    pub fn hint_url(&self) -> String {
        format!("{}/metadata/version-hint.text", self.location())
    }

    /// URL of what a commit's try says that the table shows of the ledger. It lies outside of the table's location: only we know
    /// it, and engines that remove orphan files remove what their metadata do not name.
    pub(crate) fn state_url(&self, attempt: Uuid) -> String {
        format!("{}/{}/table-state/{attempt}-state.json", self.root, self.folder)
    }

    /// The state before the first commit: columns and partitioning, no snapshot. Never stored by itself.
    pub(crate) fn empty(&self, now: TimestampMs) -> Result<TableMetadata, TableError> {
        let properties = HashMap::from(PROPERTIES.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let making = TableError::making("metadata");
        let (columns, whole, partitioning) = (schema::every_object()?, schema::whole()?, schema::partitioning()?);
        let unsorted = SortOrder::unsorted_order();
        let location = self.location();
        let built = TableMetadataBuilder::new(columns, partitioning, unsorted, location, FormatVersion::V2, properties)
            .and_then(|builder| builder.add_current_schema(whole))
            .and_then(|builder| builder.assign_uuid(self.topic_id.0).build())
            .map_err(&making)?;
        Table::dated(&built.metadata, now)
    }

    /// The metadata with another time of their last change: the builder asks the clock, and the caller has one of its own.
    pub(crate) fn dated(metadata: &TableMetadata, updated: TimestampMs) -> Result<TableMetadata, TableError> {
        let failed = |error: serde_json::Error| TableError::Inconsistent(format!("the metadata are no JSON: {error}"));
        let mut json = serde_json::to_value(metadata).map_err(failed)?;
        json["last-updated-ms"] = updated.into();
        serde_json::from_value(json).map_err(failed)
    }
}

/// No other writer may delete what the log still names; old metadata are counted, not kept for ever.
const PROPERTIES: [(&str, &str); 3] =
    [("gc.enabled", "false"), ("write.metadata.previous-versions-max", "20"), ("firn.format", "1")];
