//! `firn cluster elect`: back to the preferred leaders, or, when everything else is lost, an unclean election.

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::known_topic;
use crate::client::operations::{ElectionKind, Place};
use crate::client::overview::Overview;
use crate::connect::ConnectArgs;
use crate::output::{count, print_json, print_line};

/// Arguments of `firn cluster elect`.
#[derive(Debug, Args)]
pub(crate) struct ElectArgs {
    /// Only this topic.
    #[arg(long)]
    topic: Option<String>,
    /// Only this partition of the topic.
    #[arg(long, value_name = "N", requires = "topic", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Let a replica lead that is not in sync, where no other is left: acknowledged records may be lost for ever.
    #[arg(long, requires = "topic")]
    unclean: bool,
    /// Only say what would be asked for.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Serialize)]
struct Elected {
    topic: String,
    partition: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Runs the command.
pub(crate) async fn run(args: ElectArgs) -> anyhow::Result<()> {
    let mut client = args.connect.client();
    let overview = client.overview().await?;
    if let Some(name) = &args.topic {
        known_topic(&overview, name)?;
    }
    let places = wanted(&overview, &args);
    if args.dry_run {
        return show_plan(&overview, &args, &places);
    }
    let kind = if args.unclean { ElectionKind::Unclean } else { ElectionKind::Preferred };
    let outcomes = if places.is_empty() { Vec::new() } else { client.elect_leaders(kind, Some(&places)).await? };
    let elected: Vec<Elected> = outcomes
        .into_iter()
        .map(|((topic, partition), failure)| Elected { topic, partition, error: failure.map(|f| f.reason) })
        .collect();
    let failed = elected.iter().filter(|outcome| outcome.error.is_some()).count();
    if args.json {
        print_json(&elected)?;
    } else {
        for Elected { topic, partition, error } in &elected {
            match error {
                None => print_line(format_args!("{topic}-{partition}: elected"))?,
                Some(error) => print_line(format_args!("{topic}-{partition}: not elected: {error}"))?,
            }
        }
        if elected.is_empty() {
            print_line("no partition needs an election")?;
        }
    }
    if failed > 0 {
        bail!("{} could not be led as asked", count(failed, "partition"));
    }
    Ok(())
}

/// The partitions that an election would change: those not led by the preferred replica, or, unclean, those without a leader.
fn wanted(overview: &Overview, args: &ElectArgs) -> Vec<Place> {
    let chosen = overview.partitions().filter(|(topic, partition)| {
        args.topic.as_ref().is_none_or(|name| *name == topic.name)
            && args.partition.is_none_or(|index| index == partition.index)
    });
    let needing = chosen.filter(|(_, partition)| {
        if args.unclean { partition.leader < 0 } else { partition.replicas.first() != Some(&partition.leader) }
    });
    needing.map(|(topic, partition)| (topic.name.clone(), partition.index)).collect()
}

fn show_plan(overview: &Overview, args: &ElectArgs, places: &[Place]) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Planned<'a> {
        topic: &'a str,
        partition: i32,
        leader: i32,
        preferred: Option<i32>,
    }
    let planned = overview.partitions().filter(|(topic, partition)| {
        places.iter().any(|(name, index)| *name == topic.name && *index == partition.index)
    });
    let planned: Vec<Planned<'_>> = planned
        .map(|(topic, partition)| Planned {
            topic: &topic.name,
            partition: partition.index,
            leader: partition.leader,
            preferred: partition.replicas.first().copied(),
        })
        .collect();
    if args.json {
        return Ok(print_json(&planned)?);
    }
    for Planned { topic, partition, leader, preferred } in &planned {
        let to = match preferred.filter(|_| !args.unclean) {
            Some(preferred) => format!("broker {preferred}"),
            None => "any replica that is alive".to_owned(),
        };
        let from = if *leader < 0 { "no leader".to_owned() } else { format!("broker {leader}") };
        print_line(format_args!("{topic}-{partition}: from {from} to {to}"))?;
    }
    Ok(print_line(format_args!("{} would be asked for; nothing was changed", count(planned.len(), "election")))?)
}
