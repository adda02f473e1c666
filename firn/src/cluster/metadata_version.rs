//! `firn cluster metadata-version`: by which rules the metadata are kept. They stay as they are while nodes are replaced by a newer
//! build one after the other; once all of them know newer rules, these can be made valid.

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::client::features::UpgradeType;
use crate::client::{Client, Endpoint};
use crate::connect::ConnectArgs;
use crate::output::{print_json, print_line, table};

/// Arguments of `firn cluster metadata-version`.
#[derive(Debug, Args)]
pub(crate) struct MetadataVersionArgs {
    #[command(subcommand)]
    command: VersionCommand,
}

#[derive(Debug, Subcommand)]
enum VersionCommand {
    /// Show the cluster's version and which versions each broker knows.
    Show(ShowArgs),
    /// Make newer rules valid, which all brokers must know.
    Raise(RaiseArgs),
    /// Go back to older rules.
    Lower(LowerArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
struct RaiseArgs {
    /// The new version; without it, the newest that all brokers know.
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(i16).range(1..))]
    to: Option<i16>,
    /// Ask whether it can be done, change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
struct LowerArgs {
    /// The new version.
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(i16).range(1..))]
    to: i16,
    /// Also when something is kept that the older rules do not know: it is forgotten.
    #[arg(long = "unsafe")]
    is_unsafe: bool,
    /// Ask whether it can be done, change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// What `show` tells.
#[derive(Debug, Serialize)]
struct Shown {
    metadata_version: i16,
    /// The newest version that all brokers which answer know.
    newest_known_by_all: i16,
    brokers: Vec<Known>,
}

/// A broker and the versions that it knows; none where it does not answer.
#[derive(Debug, Serialize)]
struct Known {
    id: i32,
    min: Option<i16>,
    max: Option<i16>,
}

/// Runs the command.
pub(crate) async fn run(args: MetadataVersionArgs) -> anyhow::Result<()> {
    match args.command {
        VersionCommand::Show(args) => show(&look(&mut args.connect.client()).await?, args.json),
        VersionCommand::Raise(args) => raise(args).await,
        VersionCommand::Lower(args) => lower(args).await,
    }
}

async fn look(client: &mut Client) -> anyhow::Result<Shown> {
    let overview = client.overview().await?;
    let (mut brokers, mut current) = (Vec::new(), None);
    for broker in &overview.brokers {
        let endpoint: Endpoint = broker.endpoint();
        let answer = if broker.is_fenced { None } else { client.metadata_versions(&endpoint).await.ok() };
        let known = answer.and_then(|versions| versions.known);
        current = current.max(answer.and_then(|versions| versions.current));
        brokers.push(Known { id: broker.id, min: known.map(|(min, _)| min), max: known.map(|(_, max)| max) });
    }
    let metadata_version = current.context("no broker tells the metadata version of the cluster")?;
    let newest_known_by_all = brokers.iter().filter_map(|broker| broker.max).min().unwrap_or(metadata_version);
    Ok(Shown { metadata_version, newest_known_by_all, brokers })
}

fn show(shown: &Shown, is_json: bool) -> anyhow::Result<()> {
    if is_json {
        return Ok(print_json(shown)?);
    }
    let mut lines = table(&[">broker", "knows"]);
    for Known { id, min, max } in &shown.brokers {
        let known = match min.zip(*max) {
            Some((min, max)) if min == max => min.to_string(),
            Some((min, max)) => format!("{min} to {max}"),
            None => "does not answer".to_owned(),
        };
        lines.add_row([id.to_string(), known]);
    }
    print_line(lines)?;
    let (current, newest) = (shown.metadata_version, shown.newest_known_by_all);
    let more = if newest > current {
        format!(", can be raised to {newest}: `firn cluster metadata-version raise`")
    } else {
        String::new()
    };
    Ok(print_line(format_args!("metadata version {current}{more}"))?)
}

async fn raise(args: RaiseArgs) -> anyhow::Result<()> {
    let mut client = args.connect.client();
    let shown = look(&mut client).await?;
    let to = args.to.unwrap_or(shown.newest_known_by_all);
    if to == shown.metadata_version {
        return Ok(print_line(format_args!("the cluster is at metadata version {to}"))?);
    }
    if args.to.is_none() && to < shown.metadata_version {
        bail!("a broker knows metadata versions up to {to} only, and the cluster is at {}", shown.metadata_version);
    }
    client.change_metadata_version(to, UpgradeType::Upgrade, args.dry_run).await?;
    say(shown.metadata_version, to, args.dry_run)
}

async fn lower(args: LowerArgs) -> anyhow::Result<()> {
    let mut client = args.connect.client();
    let shown = look(&mut client).await?;
    if args.to == shown.metadata_version {
        return Ok(print_line(format_args!("the cluster is at metadata version {}", args.to))?);
    }
    let how = if args.is_unsafe { UpgradeType::UnsafeDowngrade } else { UpgradeType::SafeDowngrade };
    client.change_metadata_version(args.to, how, args.dry_run).await?;
    say(shown.metadata_version, args.to, args.dry_run)
}

fn say(from: i16, to: i16, is_dry_run: bool) -> anyhow::Result<()> {
    let said = if is_dry_run {
        format!("the metadata version can go from {from} to {to}; nothing was changed")
    } else {
        format!("the metadata version is {to}, it was {from}")
    };
    Ok(print_line(said)?)
}
