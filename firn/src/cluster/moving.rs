//! Carries a plan out: asks for the reassignments, a bounded number at a time, and waits until each is done.
//!
//! The cluster does the work; the command only asks and watches. Ended in the middle, it leaves what it asked for under way
//! and the rest untouched, and the same command again goes on from there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use coordinator::moves::{Layout, Site};
use serde::Serialize;

use super::list;
use crate::client::operations::Place;
use crate::client::overview::Overview;
use crate::client::{Backoff, Client, ClientError};
use crate::connect::ConnectArgs;
use crate::output::{count, print_json, print_line};
use crate::progress::Progress;

/// Pause between two queries of what is under way.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Most moves that a plan shows to people; `--json` has all.
const SHOWN: usize = 20;

/// How a plan is carried out.
#[derive(Debug, Args)]
pub(crate) struct MovingArgs {
    /// Show the plan, change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Partitions that move at the same time.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    at_once: u32,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// One partition of a plan.
#[derive(Debug, Serialize)]
struct Move<'a> {
    topic: &'a str,
    partition: i32,
    from: &'a [i32],
    to: &'a [i32],
}

/// Brokers as places for replicas.
pub(super) fn sites(overview: &Overview) -> Vec<Site> {
    let site = |broker: &crate::client::overview::BrokerState| Site {
        id: broker.id,
        rack: broker.rack.clone().unwrap_or_default(),
        takes_replicas: !broker.is_fenced,
    };
    overview.brokers.iter().map(site).collect()
}

/// The replicas of all partitions.
pub(super) fn layout(overview: &Overview) -> Layout<Place> {
    let entry =
        |(topic, partition): (&crate::client::overview::TopicState, &crate::client::overview::PartitionState)| {
            ((topic.name.clone(), partition.index), partition.replicas.clone())
        };
    overview.partitions().map(entry).collect()
}

/// Prints the plan.
pub(super) fn show(plan: &Layout<Place>, before: &Layout<Place>, args: &MovingArgs) -> anyhow::Result<()> {
    let none: &[i32] = &[];
    let all: Vec<Move<'_>> = plan
        .iter()
        .map(|((topic, partition), to)| {
            let from = before.get(&(topic.clone(), *partition)).map_or(none, Vec::as_slice);
            Move { topic, partition: *partition, from, to }
        })
        .collect();
    if args.json {
        return Ok(print_json(&all)?);
    }
    for Move { topic, partition, from, to } in all.iter().take(SHOWN) {
        print_line(format_args!("{topic}-{partition}: replicas {} → {}", list(from), list(to)))?;
    }
    if all.len() > SHOWN {
        print_line(format_args!("… and {} more (--json lists all)", all.len() - SHOWN))?;
    }
    let copies: usize = all.iter().map(|m| m.to.iter().filter(|id| !m.from.contains(id)).count()).sum();
    let verb = if args.dry_run { "would change, nothing was changed" } else { "change" };
    Ok(print_line(format_args!("{} {verb}; {} to make", count(all.len(), "partition"), copy_count(copies)))?)
}

fn copy_count(copies: usize) -> String {
    match copies {
        0 => "no copies".to_owned(),
        1 => "1 copy".to_owned(),
        copies => format!("{copies} copies"),
    }
}

/// Asks for the plan's reassignments and waits until all are done.
///
/// # Errors
/// The first partitions that were refused, or whose move was cancelled by somebody else.
pub(super) async fn carry_out(client: &mut Client, plan: &Layout<Place>, args: &MovingArgs) -> anyhow::Result<()> {
    let mut waiting: VecDeque<Place> = plan.keys().cloned().collect();
    let mut under_way: BTreeSet<Place> = BTreeSet::new();
    let mut progress = Progress::partitions(u64::try_from(plan.len()).unwrap_or(u64::MAX));
    let at_once = usize::try_from(args.at_once).unwrap_or(usize::MAX);
    while !(waiting.is_empty() && under_way.is_empty()) {
        let room = at_once.saturating_sub(under_way.len()).min(waiting.len());
        let next: BTreeMap<Place, Option<Vec<i32>>> =
            waiting.drain(..room).map(|place| (place.clone(), plan.get(&place).cloned())).collect();
        if !next.is_empty() {
            start(client, &next).await?;
            under_way.extend(next.into_keys());
        }
        tokio::time::sleep(LOOK_EVERY).await;
        let moving: BTreeSet<Place> =
            patiently(client, async |client| client.reassignments().await).await?.into_iter().map(place_of).collect();
        let before = under_way.len();
        under_way.retain(|place| moving.contains(place));
        progress.add(u64::try_from(before - under_way.len()).unwrap_or(0));
    }
    progress.finish();
    check(client, plan).await
}

fn place_of(moving: crate::client::overview::Reassignment) -> Place {
    (moving.topic, moving.partition)
}

async fn start(client: &mut Client, moves: &BTreeMap<Place, Option<Vec<i32>>>) -> anyhow::Result<()> {
    let outcomes = patiently(client, async |client| client.reassign(moves).await).await?;
    let failed: Vec<String> = outcomes
        .into_iter()
        .filter_map(|((topic, partition), failure)| Some(format!("{topic}-{partition}: {}", failure?.reason)))
        .collect();
    match failed.as_slice() {
        [] => Ok(()),
        [first] => bail!("refused: {first}"),
        [first, rest @ ..] => bail!("refused: {first}; and {} more", rest.len()),
    }
}

/// Every partition has the replicas of the plan now.
async fn check(client: &mut Client, plan: &Layout<Place>) -> anyhow::Result<()> {
    let now = layout(&client.overview().await?);
    // A topic that was deleted meanwhile has nothing left to move.
    let is_other = |(place, wanted): &(&Place, &Vec<i32>)| now.get(*place).is_some_and(|found| found != *wanted);
    let others: Vec<String> =
        plan.iter().filter(is_other).map(|((topic, index), _)| format!("{topic}-{index}")).collect();
    if others.is_empty() {
        return Ok(());
    }
    bail!(
        "{} did not end where planned, because somebody changed them meanwhile: {}",
        count(others.len(), "partition"),
        others.join(", ")
    )
}

/// Tries again while a broker that was asked is lost, until the deadline.
async fn patiently<T>(
    client: &mut Client,
    mut ask: impl AsyncFnMut(&mut Client) -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let mut backoff = Backoff::until(client.deadline());
    loop {
        match ask(client).await {
            Err(error) => backoff.pause_after(error).await?,
            done => return done,
        }
    }
}
