//! Removing what no kept snapshot leads to: leftovers of crashes and lost races, what expired snapshots named, old metadata.
//!
//! Only in the table's own folders, `iceberg/` and `table-state/`, and only what was found unnamed for as long as readers of an
//! older snapshot may need it. In `iceberg/` that is everything: some engines write files before their commit is refused, and
//! nothing will ever name those. Data objects are the archive's own: they are never touched here.
//!
//! Metadata go in the order of their versions, none before its predecessor: a committer that finds the metadata that it
//! follows knows from this that no successor was swept.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use cold_tier::TableFile;
use iceberg::spec::{FormatVersion, ManifestList};
use model::TimestampMs;

use super::error::LakeError;
use super::files::{Files, absent};
use super::state::STATE;
use super::topic_table::TopicTable;
use crate::iceberg::{Rewrite, Standing};

/// What waits to be removed, and what is known of the immutable files that lead to others.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    /// When a sweep first found that nothing names a file.
    since: HashMap<String, TimestampMs>,
    /// What manifest lists and delete manifests name, by their own URLs.
    leads_to: HashMap<String, Vec<String>>,
    /// The version of metadata that are not the table's, once that was logged.
    told: Option<u64>,
}

fn version_of(file: &TableFile) -> Option<u64> {
    if let TableFile::Metadata(Reverse(version)) = file { Some(*version) } else { None }
}

impl TopicTable {
    /// Whether there may be something to sweep.
    pub(super) fn has_orphans(&self) -> bool {
        !self.orphans.since.is_empty()
    }

    /// Removes what has been unnamed for `wait_ms`; how many files.
    ///
    /// # Errors
    /// When a list or manifest of the table cannot be read, or the store fails: then nothing more is removed.
    pub async fn sweep(&mut self, now: TimestampMs, wait_ms: i64) -> Result<u64, LakeError> {
        let Some(known) = &self.known else { return Ok(0) };
        let Some(named) = reachable(&self.files, &known.standing, &mut self.orphans.leads_to).await? else {
            return Ok(0);
        };
        let mut listed = self.files.list().await?;
        // Metadata first, the oldest of them first.
        listed.sort_by_key(|(file, ..)| version_of(file).unwrap_or(u64::MAX));
        let standing = known.standing.version;
        let versions = || listed.iter().filter_map(|(file, ..)| version_of(file));
        if let Some(above) = versions().filter(|version| *version > standing).min() {
            // Its predecessors go before a version does: a gap above one that is there was always one.
            if above == standing.saturating_add(1) || !versions().any(|version| version == standing) {
                // Another node has committed: what is known here says nothing about what may go.
                return Ok(0);
            }
            if self.orphans.told.replace(above) != Some(above) {
                tracing::warn!(
                    topic = %self.files.table.topic, version = above, newest = standing,
                    "metadata in the table's folder continue no version of it: they are swept as what nothing names"
                );
            }
        }
        let mut since = HashMap::new();
        let mut swept = 0;
        let mut has_older_metadata = false;
        for (file, name, written) in listed {
            if file == TableFile::Hint || named.contains(&name) {
                continue;
            }
            let first = self.orphans.since.get(&name).map_or(now, |first| now.min(*first));
            let is_metadata = matches!(file, TableFile::Metadata(_));
            let is_next = !(is_metadata && has_older_metadata);
            if is_next && first.max(written) <= now.saturating_sub(wait_ms) {
                self.files.cold.store().delete(&name).await?;
                swept += 1;
            } else {
                has_older_metadata |= is_metadata;
                since.insert(name, first);
            }
        }
        self.orphans.since = since;
        Ok(swept)
    }
}

/// The names of all files that the metadata lead to, data objects aside; `None` when a part of them is missing already.
async fn reachable(
    files: &Files,
    standing: &Standing,
    leads_to: &mut HashMap<String, Vec<String>>,
) -> Result<Option<HashSet<String>>, LakeError> {
    let mut urls = vec![files.table.metadata_url(standing.version)];
    let mut lists = HashSet::new();
    for snapshot in standing.metadata.snapshots() {
        lists.insert(snapshot.manifest_list().to_owned());
        urls.extend(snapshot.summary().additional_properties.get(STATE).cloned());
    }
    let mut kept = HashMap::new();
    let mut pending: Vec<(String, Kind)> = lists.into_iter().map(|url| (url, Kind::List)).collect();
    while let Some((url, kind)) = pending.pop() {
        let found = match leads_to.get(&url) {
            Some(found) => found.clone(),
            None => match absent(files.get(&url).await)? {
                Some(bytes) => kind.names(&url, &bytes)?,
                None => return Ok(None),
            },
        };
        let deletes = found.iter().filter(|url| kind == Kind::List && url.ends_with("-cuts.avro"));
        pending.extend(deletes.map(|url| (url.clone(), Kind::Deletes)));
        urls.extend(found.iter().cloned());
        urls.push(url.clone());
        kept.insert(url, found);
    }
    *leads_to = kept;
    Ok(Some(urls.iter().filter_map(|url| files.key(url).map(str::to_owned)).collect()))
}

/// A file that leads to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    List,
    Deletes,
}

impl Kind {
    fn names(self, url: &str, bytes: &[u8]) -> Result<Vec<String>, LakeError> {
        let malformed = crate::iceberg::TableError::making("list of what a table keeps");
        Ok(match self {
            Kind::List => {
                let list = ManifestList::parse_with_version(bytes, FormatVersion::V2).map_err(malformed)?;
                list.entries().iter().map(|manifest| manifest.manifest_path.clone()).collect()
            }
            Kind::Deletes => {
                let entries = Rewrite::parse(url.to_owned(), bytes)?.entries;
                entries.iter().filter(|entry| entry.is_alive()).map(|entry| entry.file_path().to_owned()).collect()
            }
        })
    }
}
