//! What a snapshot says of itself: the specification's counts, from the manifests.

use std::collections::HashMap;

use iceberg::spec::ManifestContentType::{Data, Deletes};
use iceberg::spec::{ManifestContentType, ManifestFile, Operation, Summary};

use super::{Change, of};

/// The summary of the snapshot that `after` belongs to.
pub(super) fn summary(before: &[ManifestFile], after: &[ManifestFile], change: &Change, snapshot_id: i64) -> Summary {
    let removed_cuts = removed(after, Deletes, snapshot_id).0;
    let touches_nothing =
        change.dropped.is_empty() && removed_cuts == 0 && total(before, Deletes) == total(after, Deletes);
    let operation = match (change.added.is_empty(), touches_nothing) {
        (_, true) => Operation::Append,
        (true, false) => Operation::Delete,
        (false, false) => Operation::Overwrite,
    };
    let (files, records) = total(after, Data);
    let (cut_files, cut_rows) = total(after, Deletes);
    let (removed_files, removed_records) = removed(after, Data, snapshot_id);
    let added_records = change.added.iter().map(|(_, object)| object.records).sum();
    let added_bytes = change.added.iter().map(|(_, object)| object.bytes).sum();
    let counts = [
        ("added-data-files", change.added.len() as u64),
        ("added-records", added_records),
        ("added-files-size", added_bytes),
        ("deleted-data-files", removed_files),
        ("deleted-records", removed_records),
        ("removed-position-delete-files", removed_cuts),
        ("total-data-files", files),
        ("total-records", records),
        ("total-delete-files", cut_files),
        ("total-position-deletes", cut_rows),
        ("total-equality-deletes", 0),
    ];
    let is_total = |name: &str| name.starts_with("total");
    let told = counts.into_iter().filter(|(name, count)| *count > 0 || is_total(name));
    let told = told.map(|(name, count)| (name.to_owned(), count.to_string()));
    let additional_properties: HashMap<_, _> = told.chain(change.properties.clone()).collect();
    Summary { operation, additional_properties }
}

/// Living files and their rows.
fn total(manifests: &[ManifestFile], content: ManifestContentType) -> (u64, u64) {
    of(manifests, content).fold((0, 0), |(files, rows), one| {
        let of_one = one.added_files_count.unwrap_or(0) + one.existing_files_count.unwrap_or(0);
        let rows_of_one = one.added_rows_count.unwrap_or(0) + one.existing_rows_count.unwrap_or(0);
        (files + u64::from(of_one), rows + rows_of_one)
    })
}

/// Files that this snapshot removes, and their rows.
fn removed(manifests: &[ManifestFile], content: ManifestContentType, snapshot_id: i64) -> (u64, u64) {
    let ours = manifests.iter().filter(|one| one.content == content && one.added_snapshot_id == snapshot_id);
    ours.fold((0, 0), |(files, rows), one| {
        (files + u64::from(one.deleted_files_count.unwrap_or(0)), rows + one.deleted_rows_count.unwrap_or(0))
    })
}
