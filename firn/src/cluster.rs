//! `firn cluster`: the state of the cluster, what is wrong with it, and the changes that an operator makes.

use anyhow::bail;
use clap::{Args, Subcommand};

use crate::client::overview::Overview;
use crate::connect::ViewArgs;

mod check;
mod decommission;
mod elect;
mod metadata_version;
mod moving;
mod reassign;
mod recover;
mod status;
mod voters;

/// Arguments of `firn cluster`.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    /// Show brokers, the metadata quorum, and how many partitions are in trouble.
    Status(ViewArgs),
    /// Say in plain words what is wrong and what to do; exit status 1 if anything is.
    Check(check::CheckArgs),
    /// Bring leaderships back to preferred replicas, or elect an unclean leader.
    Elect(elect::ElectArgs),
    /// Move everything off a broker, so that it can be taken away.
    Decommission(decommission::DecommissionArgs),
    /// Even out replicas and leaderships over brokers and racks.
    Rebalance(decommission::RebalanceArgs),
    /// Give the partitions of a topic other replicas, or more or fewer of them.
    Reassign(reassign::ReassignArgs),
    /// Show and change which nodes vote on the metadata log.
    Voters(voters::VotersArgs),
    /// Show, raise and lower the version of the rules by which the metadata are kept.
    MetadataVersion(metadata_version::MetadataVersionArgs),
    /// Forget a broker that will not come back.
    Unregister(voters::NodeArgs),
    /// Make a stopped node the only voter on the metadata log, when most voters are lost for good.
    RecoverMetadata(recover::RecoverArgs),
}

/// Runs the command.
pub(crate) async fn run(args: ClusterArgs) -> anyhow::Result<()> {
    match args.command {
        ClusterCommand::Status(args) => status::run(args).await,
        ClusterCommand::Check(args) => check::run(args).await,
        ClusterCommand::Elect(args) => elect::run(args).await,
        ClusterCommand::Decommission(args) => decommission::run(args).await,
        ClusterCommand::Rebalance(args) => decommission::rebalance(args).await,
        ClusterCommand::Reassign(args) => reassign::run(args).await,
        ClusterCommand::Voters(args) => voters::run(args).await,
        ClusterCommand::MetadataVersion(args) => metadata_version::run(args).await,
        ClusterCommand::Unregister(args) => voters::unregister(args).await,
        ClusterCommand::RecoverMetadata(args) => recover::run(&args),
    }
}

/// Fails when the cluster has no such topic, with the nearest name.
fn known_topic(overview: &Overview, name: &str) -> anyhow::Result<()> {
    if overview.topics.iter().any(|topic| topic.name == name) {
        return Ok(());
    }
    let nearest = model::settings::nearest(name, overview.topics.iter().map(|topic| topic.name.as_str()));
    let hint = nearest.map(|nearest| format!(", did you mean {nearest:?}?")).unwrap_or_default();
    bail!("there is no topic {name:?}{hint}");
}

/// `1, 2, 3`, or `none`.
fn list(ids: &[i32]) -> String {
    if ids.is_empty() { "none".to_owned() } else { ids.iter().map(i32::to_string).collect::<Vec<_>>().join(", ") }
}
