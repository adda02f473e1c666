//! `firn cluster`: how the cluster stands, what is wrong with it, and the changes that an operator makes.

use clap::{Args, Subcommand};

mod check;
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
    Status(status::StatusArgs),
    /// Say in plain words what is wrong and what to do; exit status 1 if anything is.
    Check(check::CheckArgs),
    /// Show which nodes vote on the metadata log.
    Voters(voters::VotersArgs),
    /// Forget a broker that will not come back.
    Unregister(voters::UnregisterArgs),
}

/// Runs the command.
pub(crate) async fn run(args: ClusterArgs) -> anyhow::Result<()> {
    match args.command {
        ClusterCommand::Status(args) => status::run(args).await,
        ClusterCommand::Check(args) => check::run(args).await,
        ClusterCommand::Voters(args) => voters::run(args).await,
        ClusterCommand::Unregister(args) => voters::unregister(args).await,
    }
}

/// `1, 2, 3`, or `nobody`.
fn list(ids: &[i32]) -> String {
    if ids.is_empty() { "nobody".to_owned() } else { ids.iter().map(i32::to_string).collect::<Vec<_>>().join(", ") }
}

/// `1 partition`, `2 partitions`.
fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
