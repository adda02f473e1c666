//! `firn topic delete`: asks before the records of both tiers go.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use crate::client::Client;
use crate::client::cluster::IfMissing;
use crate::connect::ConnectArgs;
use crate::output::{age, count, print_line};

/// The settings that say when brokers remove what was deleted from the archive: how often they look, and how long they wait.
const SWEEP_INTERVAL: &str = "firn.sweep.interval.ms";
const SWEEP_GRACE: &str = "firn.sweep.grace.ms";

/// Arguments of `firn topic delete`.
#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    /// Name of the topic.
    name: String,
    /// Do not ask; without a terminal nothing is asked either.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
pub(super) async fn run(args: DeleteArgs) -> anyhow::Result<()> {
    let mut client = args.connect.client();
    let asks = !args.yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if asks && !is_wanted(&mut client, &args.name).await? {
        bail!("nothing was deleted");
    }
    client.delete_topic(&args.name).await?;
    let name = &args.name;
    let mut within = Some(Duration::ZERO);
    for setting in [SWEEP_INTERVAL, SWEEP_GRACE] {
        let given: Option<u64> = client.broker_setting(setting).await.and_then(|text| text.parse().ok());
        within = within.zip(given).map(|(within, millis)| within.saturating_add(Duration::from_millis(millis)));
    }
    let objects = match within {
        Some(within) => format!("a sweep, at most {} from now", age(within.as_secs())),
        None => format!("a sweep ({SWEEP_INTERVAL}, {SWEEP_GRACE})"),
    };
    Ok(print_line(format_args!("deleted topic {name}; its archived objects are removed by {objects}"))?)
}

async fn is_wanted(client: &mut Client, name: &str) -> anyhow::Result<bool> {
    let view = client.topic(name, IfMissing::Fail).await?;
    let topic = view.topics.get(name).context("the broker answered with another topic than asked for")?;
    let indexes: Vec<i32> = topic.partitions.keys().copied().collect();
    let (starts, ends) = client.bounds(name, &indexes).await?;
    let records: i64 = ends.iter().map(|(index, end)| end - starts.get(index).copied().unwrap_or(*end)).sum();
    let partitions = count(indexes.len(), "partition");
    let mut out = std::io::stderr().lock();
    write!(
        out,
        "Topic {name} has {partitions} with about {records} records, which go from the local disks and from the archive, for \
         good. Type its name to delete it: "
    )?;
    out.flush()?;
    drop(out);
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    Ok(answer.trim() == name)
}
