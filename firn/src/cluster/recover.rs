//! `firn cluster recover-metadata`: makes a node the only voter when most voters are lost for good. Offline.

use std::path::PathBuf;

use anyhow::Context;
use broker::metadata::{Recovery, examine, recover};
use clap::Args;

use super::list;
use crate::output::print_line;

/// Arguments of `firn cluster recover-metadata`.
#[derive(Debug, Args)]
pub(super) struct RecoverArgs {
    /// Data folder of the node, which must be stopped.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Id of the node.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    node_id: i32,
    /// Do it; without this, only say how far this node's copy goes.
    #[arg(long)]
    yes: bool,
}

/// Runs the command.
pub(super) fn run(args: &RecoverArgs) -> anyhow::Result<()> {
    let at = || format!("cannot recover the metadata in {}", args.data_dir.display());
    let recovery = if args.yes { recover(&args.data_dir, args.node_id) } else { examine(&args.data_dir, args.node_id) };
    let Recovery { last_entry, last_term, voters, is_done } = recovery.with_context(at)?;
    let node = args.node_id;
    print_line(format!("last entry: {last_entry} of term {last_term}; voters so far: {}", list(&voters)))?;
    if is_done {
        print_line(format!(
            "Node {node} is the only voter now. Start it, then start the other nodes with --join, after removing the folder \
             metadata/ in each of their data folders: with it, two of them could make a cluster of their own."
        ))?;
    } else {
        print_line(format!(
            "Nothing was changed. If most voters are lost for good, run this on every node that is left, and repeat it with \
             --yes where the term, then the entry, is highest. It makes node {node} the only voter."
        ))?;
    }
    Ok(())
}
