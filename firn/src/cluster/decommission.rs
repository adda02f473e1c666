//! `firn cluster decommission` and `firn cluster rebalance`: plans over the whole cluster.

use anyhow::{Context, bail};
use clap::Args;
use coordinator::moves;

use super::moving::{MovingArgs, carry_out, layout, show, sites};
use crate::client::Client;
use crate::client::operations::{ElectionKind, Place};
use crate::client::overview::Overview;
use crate::output::{count, print_line, tell};

/// Plans for one broker: while it is emptied, new topics may still be placed on it.
const MOST_ROUNDS: usize = 5;

/// Arguments of `firn cluster decommission`.
#[derive(Debug, Args)]
pub(crate) struct DecommissionArgs {
    /// Id of the broker that shall keep nothing any more.
    #[arg(value_parser = clap::value_parser!(i32).range(0..))]
    node: i32,
    #[command(flatten)]
    moving: MovingArgs,
}

/// Arguments of `firn cluster rebalance`.
#[derive(Debug, Args)]
pub(crate) struct RebalanceArgs {
    #[command(flatten)]
    moving: MovingArgs,
}

/// Runs `firn cluster decommission`.
pub(crate) async fn run(args: DecommissionArgs) -> anyhow::Result<()> {
    let DecommissionArgs { node, moving } = args;
    let mut client = moving.connect.client();
    let mut overview = client.overview().await?;
    if !overview.brokers.iter().any(|broker| broker.id == node) {
        bail!("broker {node} is not registered; `firn cluster status` shows those that are");
    }
    for round in 0..MOST_ROUNDS {
        let before = layout(&overview);
        let plan = moves::decommission(&sites(&overview), &before, node)?;
        if round == 0 || !plan.is_empty() {
            show(&plan, &before, &moving)?;
        }
        if moving.dry_run {
            return Ok(());
        }
        if plan.is_empty() {
            return finish(&mut client, &overview, node).await;
        }
        carry_out(&mut client, &plan, &moving).await?;
        overview = client.overview().await?;
    }
    bail!(
        "new partitions are placed on broker {node} faster than they move away: stop creating topics, then repeat this"
    )
}

/// The broker keeps nothing: it loses its vote, and, when it is down, its registration.
async fn finish(client: &mut Client, overview: &Overview, node: i32) -> anyhow::Result<()> {
    let quorum = &overview.quorum;
    if quorum.voters.iter().any(|voter| voter.id == node) {
        if quorum.voters.len() == 1 {
            bail!(
                "broker {node} is empty, but it is the only voter: give another node a vote by `firn cluster voters add`"
            );
        }
        client.remove_voter(node).await.with_context(|| format!("broker {node} is empty, but keeps its vote"))?;
        tell(format_args!("took the vote of node {node}"));
    }
    if overview.is_alive(node) {
        tell(format_args!("broker {node} keeps nothing any more: stop it, then `firn cluster unregister {node}`"));
        return Ok(());
    }
    client.unregister_broker(node).await?;
    tell(format_args!("broker {node} keeps nothing any more, and is no longer registered"));
    Ok(())
}

/// Runs `firn cluster rebalance`.
pub(crate) async fn rebalance(args: RebalanceArgs) -> anyhow::Result<()> {
    let moving = args.moving;
    let mut client = moving.connect.client();
    let overview = client.overview().await?;
    let before = layout(&overview);
    let plan = moves::rebalance(&sites(&overview), &before);
    show(&plan, &before, &moving)?;
    if moving.dry_run {
        return Ok(());
    }
    if !plan.is_empty() {
        carry_out(&mut client, &plan, &moving).await?;
    }
    elect_preferred(&mut client, moving.json).await
}

/// Leaderships follow the new order of the replicas.
async fn elect_preferred(client: &mut Client, is_quiet: bool) -> anyhow::Result<()> {
    let overview = client.overview().await?;
    let movable = overview.partitions().filter(|(_, partition)| {
        let preferred = partition.replicas.first();
        partition.leader >= 0
            && preferred != Some(&partition.leader)
            && preferred.is_some_and(|id| partition.in_sync.contains(id) && overview.is_alive(*id))
    });
    let places: Vec<Place> = movable.map(|(topic, partition)| (topic.name.clone(), partition.index)).collect();
    if places.is_empty() {
        return Ok(());
    }
    let outcomes = client.elect_leaders(ElectionKind::Preferred, Some(&places)).await?;
    let elected = outcomes.iter().filter(|(_, failure)| failure.is_none()).count();
    if !is_quiet {
        print_line(format_args!("{} moved to the preferred replica", count(elected, "leadership")))?;
    }
    Ok(())
}
