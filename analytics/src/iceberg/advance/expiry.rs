//! Forgetting old snapshots: with a commit that adds one, or by a commit of its own when nothing else changes.

use iceberg::spec::TableMetadata;
use model::TimestampMs;

use super::{Commit, File, Standing, encode};
use crate::iceberg::{Table, TableError};

/// Snapshots to forget: those made before `before`, and the oldest ones when more than `keep` would stay.
pub(super) fn expired(metadata: &TableMetadata, before: TimestampMs, keep: usize) -> Vec<i64> {
    let mut snapshots: Vec<_> = metadata.snapshots().collect();
    snapshots.sort_by_key(|snapshot| snapshot.sequence_number());
    let surplus = snapshots.len().saturating_sub(keep);
    let is_old = |(place, old): (usize, i64)| place < surplus || old < before;
    let old = snapshots.iter().enumerate().filter(|(place, snapshot)| is_old((*place, snapshot.timestamp_ms())));
    old.map(|(_, snapshot)| snapshot.snapshot_id()).collect()
}

/// Whether the table tells of snapshots made before `before` besides the newest.
#[must_use]
pub fn has_expired(standing: &Standing, before: TimestampMs) -> bool {
    let current = standing.metadata.current_snapshot_id();
    let mut others = standing.metadata.snapshots().filter(|snapshot| Some(snapshot.snapshot_id()) != current);
    others.any(|snapshot| snapshot.timestamp_ms() < before)
}

/// Makes the commit that only forgets the snapshots made before `before`; the newest stays. Its only file is the metadata.
///
/// # Errors
/// When the specification's types refuse.
pub fn expire(table: &Table, standing: &Standing, before: TimestampMs, now: TimestampMs) -> Result<Commit, TableError> {
    let mut expired = expired(&standing.metadata, before, usize::MAX);
    expired.retain(|snapshot| Some(*snapshot) != standing.metadata.current_snapshot_id());
    let metadata = standing.metadata.clone();
    let built = metadata
        .into_builder(Some(table.metadata_url(standing.version)))
        .remove_snapshots(&expired)
        .build()
        .map_err(TableError::making("metadata"))?;
    // The builder asks the clock when no snapshot is added; the caller has one of its own.
    let updated = now.max(standing.metadata.last_updated_ms() + 1);
    let metadata = Table::dated(&built.metadata, updated)?;
    let version = standing.version + 1;
    let files = vec![File { url: table.metadata_url(version), bytes: encode(&metadata)? }];
    Ok(Commit { files, standing: Standing { version, metadata, manifests: standing.manifests.clone() } })
}
