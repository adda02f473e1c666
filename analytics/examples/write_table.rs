//! Writes a topic's Iceberg metadata into a folder that holds archived objects: what the tests with outside readers run.
//!
//! ```text
//! write_table STEPS.json
//! {"topic": …, "topic_id": …, "root": "file:///…", "folder": …, "commits": [{"now": ms, "expire_before": ms,
//!   "added": [[partition, entry of the manifest], …], "dropped": [object, …], "cuts": [[partition, object, rows], …]}, …]}
//! ```
//!
//! All commits are made one after another, each from what the one before has left in the folder.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use analytics::iceberg::{Change, Cut, DataObject, File, Rewrite, Stamp, Standing, Table, advance};
use model::{TimestampMs, TopicId, TopicName};
use serde::Deserialize;
use uuid::Uuid;

#[derive(Deserialize)]
struct Steps {
    topic: String,
    topic_id: TopicId,
    root: String,
    folder: String,
    commits: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    now: TimestampMs,
    expire_before: TimestampMs,
    added: Vec<(i32, DataObject)>,
    dropped: BTreeSet<String>,
    cuts: Vec<(i32, String, u64)>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("which steps?")?;
    let steps: Steps = serde_json::from_slice(&fs::read(path)?)?;
    let topic = TopicName::new(&steps.topic).map_err(|_| "the topic's name is not legal")?;
    let table = Table { topic, topic_id: steps.topic_id, root: steps.root, folder: steps.folder };
    let mut version = 0;
    for step in steps.commits {
        let standing = if version == 0 { None } else { Some(read(&table, version)?) };
        let (change, now) = change(standing.as_ref(), step)?;
        let stamp = Stamp { now, attempt: Uuid::new_v4() };
        let commit = advance(&table, standing.as_ref(), &change, stamp).await?;
        commit.files.iter().try_for_each(store)?;
        version = commit.standing.version;
        fs::write(local(&table.hint_url())?, version.to_string())?;
    }
    Ok(())
}

fn read(table: &Table, version: u64) -> Result<Standing, Box<dyn Error>> {
    let metadata = fs::read(local(&table.metadata_url(version))?)?;
    let json: serde_json::Value = serde_json::from_slice(&metadata)?;
    let current = &json["current-snapshot-id"];
    let snapshots = json["snapshots"].as_array().ok_or("no snapshots")?;
    let snapshot = snapshots.iter().find(|one| &one["snapshot-id"] == current).ok_or("no current snapshot")?;
    let list = fs::read(local(snapshot["manifest-list"].as_str().ok_or("no manifest list")?)?)?;
    Ok(Standing::parse(version, &metadata, &list)?)
}

fn change(standing: Option<&Standing>, step: Step) -> Result<(Change, TimestampMs), Box<dyn Error>> {
    let parse = |url: &String| Ok::<_, Box<dyn Error>>(Rewrite::parse(url.clone(), &fs::read(local(url)?)?)?);
    let data = standing.into_iter().flat_map(Standing::data_manifests);
    let rewrites = if step.dropped.is_empty() {
        Vec::new()
    } else {
        data.map(|manifest| parse(&manifest.manifest_path)).collect::<Result<_, _>>()?
    };
    let standing_cuts = standing.and_then(Standing::delete_manifest);
    let standing_cuts = standing_cuts.map(|manifest| parse(&manifest.manifest_path)).transpose()?;
    let cuts = step.cuts.into_iter().map(|(partition, object, rows)| Cut { partition, object, rows }).collect();
    let Step { now, expire_before, added, dropped, .. } = step;
    Ok((Change { added, dropped, rewrites, cuts, standing_cuts, expire_before, ..Change::default() }, now))
}

/// A commit is made by whoever creates the metadata: a file that is there already is an error.
fn store(file: &File) -> Result<(), Box<dyn Error>> {
    let path = local(&file.url)?;
    fs::create_dir_all(Path::new(path).parent().ok_or("no folder")?)?;
    OpenOptions::new().write(true).create_new(true).open(path)?.write_all(&file.bytes)?;
    Ok(())
}

fn local(url: &str) -> Result<&str, Box<dyn Error>> {
    Ok(url.strip_prefix("file://").ok_or_else(|| format!("{url} is not in a folder"))?)
}
