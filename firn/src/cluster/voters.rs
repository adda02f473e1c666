//! `firn cluster voters`: which nodes vote on the metadata log; and `firn cluster unregister`.

use clap::{Args, Subcommand};

use crate::client::overview::QuorumState;
use crate::connect::{ConnectArgs, ViewArgs};
use crate::output::{count, offset, print_json, print_line, table};

/// Arguments of `firn cluster voters`.
#[derive(Debug, Args)]
pub(crate) struct VotersArgs {
    #[command(subcommand)]
    command: VotersCommand,
}

#[derive(Debug, Subcommand)]
enum VotersCommand {
    /// List voters and learners with how far each has got.
    List(ViewArgs),
    /// Give a node that follows the metadata log a vote.
    Add(NodeArgs),
    /// Take a node's vote; it goes on as a learner if it runs.
    Remove(NodeArgs),
}

/// Arguments of a command about one node.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// Id of the node.
    #[arg(value_parser = clap::value_parser!(i32).range(0..))]
    node: i32,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
pub(crate) async fn run(args: VotersArgs) -> anyhow::Result<()> {
    match args.command {
        VotersCommand::List(args) => {
            let quorum = args.connect.client().quorum().await?;
            if args.json { Ok(print_json(&quorum)?) } else { print(&quorum) }
        }
        VotersCommand::Add(args) => {
            let mut client = args.connect.client();
            client.add_voter(args.node).await?;
            say_voters(&client.quorum().await?)
        }
        VotersCommand::Remove(args) => {
            let mut client = args.connect.client();
            client.remove_voter(args.node).await?;
            say_voters(&client.quorum().await?)
        }
    }
}

/// Runs `firn cluster unregister`.
pub(crate) async fn unregister(args: NodeArgs) -> anyhow::Result<()> {
    args.connect.client().unregister_broker(args.node).await?;
    Ok(print_line(format_args!("broker {} is no longer registered", args.node))?)
}

fn print(quorum: &QuorumState) -> anyhow::Result<()> {
    let mut shown = table(&[">node", "part", ">log end", "internal listener"]);
    for (members, part) in [(&quorum.voters, "voter"), (&quorum.learners, "learner")] {
        for member in members {
            let part = if member.id == quorum.leader { "leader" } else { part };
            let address = member.address.clone().unwrap_or_else(|| "-".to_owned());
            shown.add_row([member.id.to_string(), part.to_owned(), offset(member.log_end), address]);
        }
    }
    print_line(shown)?;
    say_voters(quorum)
}

/// How many losses the quorum survives.
fn say_voters(quorum: &QuorumState) -> anyhow::Result<()> {
    let voters = quorum.voters.len();
    let losses = voters.saturating_sub(1) / 2;
    Ok(print_line(format_args!(
        "{}, {} may be lost without stopping changes",
        count(voters, "voter"),
        if losses == 0 { "none".to_owned() } else { losses.to_string() },
    ))?)
}
