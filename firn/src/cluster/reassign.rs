//! `firn cluster reassign`: other replicas for the partitions of a topic.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use coordinator::moves::{self, Layout};
use serde::Deserialize;

use super::moving::{MovingArgs, carry_out, layout, show, sites};
use super::{known_topic, list};
use crate::client::Client;
use crate::client::operations::Place;
use crate::client::overview::{Overview, Reassignment};
use crate::json_object::Object;
use crate::output::{count, print_json, print_line, tell};

/// Arguments of `firn cluster reassign`.
#[derive(Debug, Args)]
pub(crate) struct ReassignArgs {
    /// The topic.
    #[arg(required_unless_present_any = ["file", "list", "cancel"])]
    topic: Option<String>,
    /// Only this partition of it.
    #[arg(long, value_name = "N", requires = "topic", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// The brokers that shall keep each partition, the preferred leader first.
    #[arg(long, value_name = "ID", value_delimiter = ',', requires = "topic", group = "wanted")]
    replicas: Vec<i32>,
    /// How many replicas each partition shall have; where, is chosen.
    #[arg(long, value_name = "N", requires = "topic", group = "wanted", value_parser = clap::value_parser!(u16).range(1..))]
    replication_factor: Option<u16>,
    /// Kafka's JSON file of reassignments, as `kafka-reassign-partitions --generate` prints it.
    #[arg(long, value_name = "FILE", group = "wanted", conflicts_with = "topic")]
    file: Option<PathBuf>,
    /// Show what moves now.
    #[arg(long, group = "wanted")]
    list: bool,
    /// Take back what moves now: of the topic, or of all.
    #[arg(long, group = "wanted")]
    cancel: bool,
    #[command(flatten)]
    moving: MovingArgs,
}

/// Kafka's file.
#[derive(Debug, Deserialize)]
struct File {
    partitions: Vec<Object<FilePartition>>,
}

#[derive(Debug, Deserialize)]
struct FilePartition {
    topic: String,
    partition: i32,
    replicas: Vec<i32>,
}

/// Runs the command.
pub(crate) async fn run(args: ReassignArgs) -> anyhow::Result<()> {
    let mut client = args.moving.connect.client();
    if args.list || args.cancel {
        let chosen = under_way(&mut client, &args).await?;
        return if args.list { print(&chosen, args.moving.json) } else { cancel(&mut client, &chosen, &args).await };
    }
    let overview = client.overview().await?;
    let before = layout(&overview);
    let mut plan = wanted(&overview, &before, &args)?;
    plan.retain(|place, replicas| before.get(place) != Some(replicas));
    show(&plan, &before, &args.moving)?;
    if args.moving.dry_run || plan.is_empty() { Ok(()) } else { carry_out(&mut client, &plan, &args.moving).await }
}

fn wanted(overview: &Overview, before: &Layout<Place>, args: &ReassignArgs) -> anyhow::Result<Layout<Place>> {
    if let Some(file) = &args.file {
        return read(file);
    }
    let topic = args.topic.as_deref().unwrap_or_default();
    known_topic(overview, topic)?;
    let is_chosen = |(name, index): &Place| name == topic && args.partition.is_none_or(|wanted| wanted == *index);
    let chosen: Layout<Place> = before
        .iter()
        .filter(|(place, _)| is_chosen(place))
        .map(|(place, replicas)| (place.clone(), replicas.clone()))
        .collect();
    if chosen.is_empty() {
        bail!("topic {topic:?} has no partition {}", args.partition.unwrap_or_default());
    }
    if let Some(factor) = args.replication_factor {
        return moves::resize(&sites(overview), &chosen, usize::from(factor)).map_err(|brokers| {
            anyhow::anyhow!("{factor} replicas need {factor} brokers that are alive, and there are {brokers}")
        });
    }
    if args.replicas.is_empty() {
        bail!("nothing to do: give --replicas, --replication-factor, --file, --list or --cancel");
    }
    Ok(chosen.into_keys().map(|place| (place, args.replicas.clone())).collect())
}

fn read(path: &Path) -> anyhow::Result<Layout<Place>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let Object::<File>(file) =
        serde_json::from_str(&text).with_context(|| format!("{} is not a file of reassignments", path.display()))?;
    let entries = file.partitions.into_iter().map(|Object(entry)| entry);
    Ok(entries.map(|entry| ((entry.topic, entry.partition), entry.replicas)).collect())
}

async fn under_way(client: &mut Client, args: &ReassignArgs) -> anyhow::Result<Vec<Reassignment>> {
    let mut all = client.reassignments().await?;
    all.retain(|moving| args.topic.as_ref().is_none_or(|topic| *topic == moving.topic));
    all.retain(|moving| args.partition.is_none_or(|partition| partition == moving.partition));
    Ok(all)
}

fn print(moving: &[Reassignment], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return Ok(print_json(&moving)?);
    }
    for Reassignment { topic, partition, replicas, adding, removing } in moving {
        let (replicas, adding, removing) = (list(replicas), list(adding), list(removing));
        print_line(format_args!("{topic}-{partition}: replicas {replicas}; adding {adding}; removing {removing}"))?;
    }
    Ok(print_line(format_args!("{} under way", count(moving.len(), "reassignment")))?)
}

async fn cancel(client: &mut Client, moving: &[Reassignment], args: &ReassignArgs) -> anyhow::Result<()> {
    let places: BTreeMap<Place, Option<Vec<i32>>> =
        moving.iter().map(|moving| ((moving.topic.clone(), moving.partition), None)).collect();
    print(moving, args.moving.json)?;
    if args.moving.dry_run || places.is_empty() {
        return Ok(());
    }
    let outcomes = client.reassign(&places).await?;
    let failed: Vec<String> = outcomes
        .into_iter()
        .filter_map(|((topic, partition), failure)| Some(format!("{topic}-{partition}: {}", failure?.reason)))
        .collect();
    if failed.is_empty() {
        tell(format_args!("cancelled {}", count(places.len(), "reassignment")));
        return Ok(());
    }
    bail!("not cancelled: {}", failed.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_kafkas_tool_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text =
            r#"{"version":1,"partitions":[{"topic":"u","partition":1,"replicas":[3,2],"log_dirs":["any","any"]}]}"#;
        std::fs::write(file.path(), text).unwrap();
        assert_eq!(read(file.path()).unwrap(), Layout::from([(("u".to_owned(), 1), vec![3, 2])]));
        std::fs::write(file.path(), "{}").unwrap();
        assert!(format!("{:#}", read(file.path()).unwrap_err()).contains("not a file of reassignments"));
    }
}
