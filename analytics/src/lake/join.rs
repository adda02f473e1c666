//! Which manifests are written anew: those that name dropped objects, and small ones that are joined.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use iceberg::spec::{ManifestEntryRef, ManifestFile, PrimitiveLiteral};
use model::Offset;

use super::error::Unusable;
use super::files::{Files, absent};
use super::plan::NoPlan;
use crate::iceberg::advance::MAX_MANIFEST_FILES;
use crate::iceberg::schema::OFFSET;
use crate::iceberg::{Rewrite, Standing};

/// Manifests that are at most half full, above which they are joined: any two of them fit into one.
const MAX_SMALL: usize = 32;

/// Where the data files of manifests begin, by the manifests' URLs: `(partition, base offset)`. Manifests never change, so
/// what was read once stays true; those that the table names no more are forgotten.
pub(super) type Index = HashMap<String, Vec<(i32, Offset)>>;

/// The manifests to write anew, and the objects that are dropped from them.
#[derive(Debug, Default)]
pub(super) struct Rewrites {
    pub(super) manifests: Vec<Rewrite>,
    pub(super) dropped: BTreeSet<String>,
}

/// Finds what must be written anew when the objects below `dropped` leave the table, and what should be joined.
pub(super) async fn rewrites(
    files: &Files,
    standing: &Standing,
    index: &mut Index,
    dropped: &BTreeMap<i32, Offset>,
) -> Result<Rewrites, NoPlan> {
    let data: Vec<_> = standing.data_manifests().collect();
    index.retain(|url, _| data.iter().any(|manifest| manifest.manifest_path == *url));
    let mut read: HashMap<String, Rewrite> = HashMap::new();
    if !dropped.is_empty() {
        let touched = data.iter().filter(|manifest| may_hold(manifest, dropped));
        let unknown = touched.clone().map(|manifest| &manifest.manifest_path).filter(|url| !index.contains_key(*url));
        for rewrite in parse_all(files, unknown.cloned().collect()).await? {
            index.insert(rewrite.url.clone(), places(&rewrite.entries));
            read.insert(rewrite.url.clone(), rewrite);
        }
    }
    let is_dropped = |partition: i32, base: Offset| dropped.get(&partition).is_some_and(|first| base < *first);
    let names_dropped = |manifest: &ManifestFile| {
        let places = index.get(&manifest.manifest_path);
        places.is_some_and(|places| places.iter().any(|(partition, base)| is_dropped(*partition, *base)))
    };
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    wanted
        .extend(data.iter().filter(|manifest| names_dropped(manifest)).map(|manifest| manifest.manifest_path.clone()));
    wanted.extend(to_join(&data));
    let missing = wanted.iter().filter(|url| !read.contains_key(*url)).cloned().collect();
    for rewrite in parse_all(files, missing).await? {
        read.insert(rewrite.url.clone(), rewrite);
    }
    let mut found = Rewrites::default();
    for manifest in &data {
        if let Some(rewrite) =
            wanted.contains(&manifest.manifest_path).then(|| read.remove(&manifest.manifest_path)).flatten()
        {
            let gone = rewrite.entries.iter().filter(|entry| entry.is_alive());
            let gone = gone.filter(|entry| place(entry).is_some_and(|(partition, base)| is_dropped(partition, base)));
            found.dropped.extend(gone.filter_map(|entry| files.key(entry.file_path()).map(str::to_owned)));
            found.manifests.push(rewrite);
        }
    }
    Ok(found)
}

/// Reads a manifest of the table.
pub(super) async fn parse_all(files: &Files, urls: Vec<String>) -> Result<Vec<Rewrite>, NoPlan> {
    let unusable = |reason: String| NoPlan::Unusable(Unusable::Manifest(reason));
    let Some(read) = absent(files.get_all(urls).await)? else {
        return Err(unusable("the table names one that is not there".to_owned()));
    };
    let parse = |(url, bytes): (String, bytes::Bytes)| {
        Rewrite::parse(url.clone(), &bytes).map_err(|error| unusable(format!("{url}: {error}")))
    };
    read.into_iter().map(parse).collect()
}

/// Once there are many small manifests, the oldest of them, as many as fit into one.
fn to_join(data: &[&ManifestFile]) -> Vec<String> {
    let mut small: Vec<_> = data.iter().filter(|manifest| alive(manifest) <= MAX_MANIFEST_FILES / 2).collect();
    if small.len() <= MAX_SMALL {
        return Vec::new();
    }
    small.sort_by_key(|manifest| manifest.min_sequence_number);
    let mut sum = 0;
    let fitting = small.iter().take_while(|manifest| {
        sum += alive(manifest);
        sum <= MAX_MANIFEST_FILES
    });
    fitting.map(|manifest| manifest.manifest_path.clone()).collect()
}

fn alive(manifest: &ManifestFile) -> usize {
    let count = manifest.added_files_count.unwrap_or(0) + manifest.existing_files_count.unwrap_or(0);
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Whether the manifest's own bounds allow that it names a file of one of the partitions.
fn may_hold(manifest: &ManifestFile, partitions: &BTreeMap<i32, Offset>) -> bool {
    let bound = |bytes: Option<&[u8]>| bytes.and_then(|bytes| Some(i32::from_le_bytes(bytes.try_into().ok()?)));
    let summary = manifest.partitions.as_ref().and_then(|summaries| summaries.first());
    let range = summary.and_then(|summary| {
        let lower = bound(summary.lower_bound.as_ref().map(|bytes| &bytes[..]))?;
        let upper = bound(summary.upper_bound.as_ref().map(|bytes| &bytes[..]))?;
        Some(lower..=upper)
    });
    range.is_none_or(|range| !range.is_empty() && partitions.range(range).next().is_some())
}

fn places(entries: &[ManifestEntryRef]) -> Vec<(i32, Offset)> {
    entries.iter().filter(|entry| entry.is_alive()).filter_map(place).collect()
}

/// The partition and base offset of a data file.
fn place(entry: &ManifestEntryRef) -> Option<(i32, Offset)> {
    let file = entry.data_file();
    let PrimitiveLiteral::Int(partition) = file.partition()[0].as_ref()?.as_primitive_literal()? else { return None };
    let PrimitiveLiteral::Long(base) = file.lower_bounds().get(&OFFSET)?.literal().clone() else { return None };
    Some((partition, base))
}
