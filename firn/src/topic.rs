//! `firn topic`: create, list, describe, alter, delete.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use serde::Serialize;

use crate::client::cluster::IfMissing;
use crate::client::topics::{ConfigChange, NewTopic};
use crate::client::{Client, TopicView};
use crate::connect::{ConnectArgs, ViewArgs, assignment};
use crate::output::{offset, print_json, print_line, table};

mod delete;

/// The number by which DescribeConfigs names a topic's own settings.
const SOURCE_TOPIC: i8 = 1;

/// Arguments of `firn topic`.
#[derive(Debug, Args)]
pub(crate) struct TopicArgs {
    #[command(subcommand)]
    command: TopicCommand,
}

#[derive(Debug, Subcommand)]
enum TopicCommand {
    /// Create a topic.
    Create(CreateArgs),
    /// List all topics.
    List(ViewArgs),
    /// Show partitions, offsets and settings of one topic, or of all.
    Describe(DescribeArgs),
    /// Change settings, or add partitions.
    Alter(AlterArgs),
    /// Delete a topic with everything in it, in both tiers.
    Delete(delete::DeleteArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Name of the topic.
    name: String,
    /// How many partitions; without it, the cluster's num.partitions.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// How many replicas; without it, the cluster's default.replication.factor.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A setting of the topic, see `firn settings`.
    #[arg(long = "config", value_name = "NAME=VALUE", value_parser = assignment)]
    configs: Vec<(String, String)>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

#[derive(Debug, Args)]
struct DescribeArgs {
    /// Name of the topic.
    name: Option<String>,
    #[command(flatten)]
    view: ViewArgs,
}

#[derive(Debug, Args)]
struct AlterArgs {
    /// Name of the topic.
    name: String,
    /// Set a setting, see `firn settings`.
    #[arg(long = "config", value_name = "NAME=VALUE", value_parser = assignment)]
    configs: Vec<(String, String)>,
    /// Take a setting back to its default.
    #[arg(long = "delete-config", value_name = "NAME")]
    delete_configs: Vec<String>,
    /// Raise the number of partitions to this.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
pub(crate) async fn run(args: TopicArgs) -> anyhow::Result<()> {
    match args.command {
        TopicCommand::Create(args) => create(args).await,
        TopicCommand::List(args) => list(args).await,
        TopicCommand::Describe(args) => describe(args).await,
        TopicCommand::Alter(args) => alter(args).await,
        TopicCommand::Delete(args) => delete::run(args).await,
    }
}

#[derive(Debug, Serialize)]
struct Created {
    name: String,
    id: String,
    partitions: i32,
    replication_factor: i16,
}

async fn create(args: CreateArgs) -> anyhow::Result<()> {
    let CreateArgs { name, partitions, replication_factor, configs, json, connect } = args;
    let topic = NewTopic { name, partitions, replication_factor, configs };
    let made = connect.client().create_topic(&topic).await?;
    let created = Created {
        name: topic.name,
        id: made.id.to_string(),
        partitions: made.partitions,
        replication_factor: made.replication_factor,
    };
    if json {
        return Ok(print_json(&created)?);
    }
    let Created { name, id, partitions, replication_factor } = created;
    Ok(print_line(format_args!(
        "created topic {name}, partitions {partitions}, replication factor {replication_factor}, id {id}"
    ))?)
}

#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    id: String,
    partitions: usize,
    replication_factor: usize,
    internal: bool,
}

impl From<&TopicView> for Listed {
    fn from(topic: &TopicView) -> Self {
        Listed {
            name: topic.name.clone(),
            id: topic.id.to_string(),
            partitions: topic.partitions.len(),
            replication_factor: topic.partitions.values().map(|p| p.replicas.len()).max().unwrap_or(0),
            internal: topic.is_internal,
        }
    }
}

async fn list(args: ViewArgs) -> anyhow::Result<()> {
    let view = args.connect.client().all_topics().await?;
    let topics: Vec<Listed> = view.topics.values().map(Listed::from).collect();
    if args.json {
        return Ok(print_json(&topics)?);
    }
    let mut shown = table(&["topic", ">partitions", ">replicas", "id", ""]);
    for topic in topics {
        let kind = if topic.internal { "internal" } else { "" };
        let (partitions, replicas) = (topic.partitions.to_string(), topic.replication_factor.to_string());
        shown.add_row([topic.name, partitions, replicas, topic.id, kind.to_owned()]);
    }
    Ok(print_line(shown)?)
}

#[derive(Debug, Serialize)]
struct Described {
    #[serde(flatten)]
    topic: Listed,
    partition_list: Vec<DescribedPartition>,
    configs: BTreeMap<String, DescribedConfig>,
}

#[derive(Debug, Serialize)]
struct DescribedPartition {
    partition: i32,
    leader: i32,
    leader_epoch: i32,
    replicas: Vec<i32>,
    in_sync: Vec<i32>,
    log_start: i64,
    high_watermark: i64,
}

#[derive(Debug, Serialize)]
struct DescribedConfig {
    value: Option<String>,
    source: &'static str,
}

async fn describe(args: DescribeArgs) -> anyhow::Result<()> {
    let mut client = args.view.connect.client();
    let names = match args.name {
        Some(name) => vec![name],
        None => client.all_topics().await?.topics.into_keys().collect(),
    };
    let mut topics = Vec::new();
    for name in names {
        topics.push(describe_one(&mut client, &name).await?);
    }
    if args.view.json {
        return Ok(print_json(&topics)?);
    }
    for topic in topics {
        print_topic(&topic)?;
    }
    Ok(())
}

async fn describe_one(client: &mut Client, name: &str) -> anyhow::Result<Described> {
    let view = client.topic(name, IfMissing::Fail).await?;
    let topic = view.topics.get(name).context("the broker answered with another topic than asked for")?;
    let indexes: Vec<i32> = topic.partitions.keys().copied().collect();
    let (starts, ends) = client.bounds(name, &indexes).await?;
    let at = |offsets: &BTreeMap<i32, i64>, index| offsets.get(&index).copied().unwrap_or(-1);
    let partition = |p: &crate::client::PartitionView| DescribedPartition {
        partition: p.index,
        leader: p.leader,
        leader_epoch: p.leader_epoch,
        replicas: p.replicas.clone(),
        in_sync: p.in_sync.clone(),
        log_start: at(&starts, p.index),
        high_watermark: at(&ends, p.index),
    };
    let config = |config: DescribeConfigsResourceResult| {
        let source = source_name(config.config_source);
        (String::from(config.name), DescribedConfig { value: config.value.map(String::from), source })
    };
    Ok(Described {
        topic: Listed::from(topic),
        partition_list: topic.partitions.values().map(partition).collect(),
        configs: client.topic_configs(name).await?.into_iter().map(config).collect(),
    })
}

fn source_name(source: i8) -> &'static str {
    match source {
        SOURCE_TOPIC => "topic",
        2 => "broker",
        3 => "cluster",
        4 => "configuration",
        5 => "default",
        _ => "unknown",
    }
}

fn print_topic(described: &Described) -> anyhow::Result<()> {
    let Described { topic, partition_list, configs } = described;
    let kind = if topic.internal { ", internal" } else { "" };
    print_line(format_args!("topic {}, id {}{kind}", topic.name, topic.id))?;
    let changed = configs.iter().filter(|(_, config)| config.source != "default");
    for (name, config) in changed {
        print_line(format_args!("  {name} = {} ({})", config.value.as_deref().unwrap_or("-"), config.source))?;
    }
    let mut shown =
        table(&[">partition", ">leader", ">epoch", "replicas", "in sync", ">log start", ">high watermark", ">records"]);
    let list = |nodes: &[i32]| nodes.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    for p in partition_list {
        let range = p.high_watermark.saturating_sub(p.log_start).max(0);
        shown.add_row([
            p.partition.to_string(),
            p.leader.to_string(),
            p.leader_epoch.to_string(),
            list(&p.replicas),
            list(&p.in_sync),
            offset(p.log_start),
            offset(p.high_watermark),
            range.to_string(),
        ]);
    }
    Ok(print_line(shown)?)
}

async fn alter(args: AlterArgs) -> anyhow::Result<()> {
    let sets = args.configs.into_iter().map(|(name, value)| ConfigChange::Set(name, value));
    let changes: Vec<_> = sets.chain(args.delete_configs.into_iter().map(ConfigChange::Delete)).collect();
    if changes.is_empty() && args.partitions.is_none() {
        bail!("nothing to change: give --config, --delete-config or --partitions");
    }
    let mut client = args.connect.client();
    if !changes.is_empty() {
        client.alter_topic(&args.name, &changes).await?;
    }
    if let Some(count) = args.partitions {
        client.create_partitions(&args.name, count).await?;
    }
    Ok(print_line(format_args!("altered topic {}", args.name))?)
}
