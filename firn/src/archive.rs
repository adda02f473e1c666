//! `firn archive`: how partitions settle into the archive, from a broker's admin port.

use std::time::Duration;

use anyhow::{Context, anyhow};
use broker::admin::status::{Activity, PartitionStatus, StoreTrouble, Trouble};
use clap::{Args, Subcommand};
use cold_tier::ArchivedSegment;
use model::TimestampMs;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::Endpoint;
use crate::output::{age, count, print_json, print_line, size, table, time};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an admin port may take to accept a connection.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_ADDRESS: &str = "127.0.0.1:9644";
/// How the names of internal topics begin.
const INTERNAL_PREFIX: &str = "__";

/// Arguments of `firn archive`.
#[derive(Debug, Args)]
pub(crate) struct ArchiveArgs {
    #[command(subcommand)]
    command: ArchiveCommand,
}

#[derive(Debug, Subcommand)]
enum ArchiveCommand {
    /// Show offsets, sizes and backlog of every partition.
    Status(StatusArgs),
    /// List the archived objects of a topic.
    List(ListArgs),
}

#[derive(Debug, Args)]
struct StatusArgs {
    /// Only this topic.
    topic: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// The topic.
    topic: String,
    /// Only this partition.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// How to reach a broker's admin port.
#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    /// The broker's admin port [default: FIRN_ADMIN, else 127.0.0.1:9644].
    #[arg(long, env = "FIRN_ADMIN_ADDRESS", value_name = "HOST:PORT")]
    admin: Option<Endpoint>,
}

impl AdminArgs {
    /// The address, also when it is given elsewhere.
    pub(crate) fn address(&self) -> anyhow::Result<Endpoint> {
        if let Some(address) = &self.admin {
            return Ok(address.clone());
        }
        let listening = std::env::var("FIRN_ADMIN").ok().filter(|text| !text.is_empty());
        let text = listening.as_deref().unwrap_or(DEFAULT_ADDRESS);
        text.parse().map_err(|reason| crate::WrongUse(format!("FIRN_ADMIN: {reason}")).into())
    }

    /// The JSON behind a path.
    async fn get(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<Value> {
        get(&self.address()?, path, query).await
    }
}

async fn get(address: &Endpoint, path: &str, query: &[(&str, String)]) -> anyhow::Result<Value> {
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
        .no_proxy()
        .build()
        .context("cannot make an HTTP client")?;
    let asked = client.get(format!("http://{address}{path}")).query(query).send().await;
    let response = asked.with_context(|| unreachable(address))?;
    let status = response.status();
    let body: Value = response
        .json()
        .await
        .with_context(|| format!("{address} answered {status} without JSON; is it an admin port of firn?"))?;
    if status.is_success() {
        return Ok(body);
    }
    let reason = body.get("error").and_then(Value::as_str).unwrap_or_default();
    Err(anyhow!("{reason} ({status})"))
}

/// What to say when nothing answers at an address.
pub(crate) fn unreachable(address: &Endpoint) -> String {
    format!("the admin port {address} does not answer; is the server running? Give its --admin or FIRN_ADMIN_ADDRESS")
}

/// Runs the command.
pub(crate) async fn run(args: ArchiveArgs) -> anyhow::Result<()> {
    match args.command {
        ArchiveCommand::Status(args) => status(args).await,
        ArchiveCommand::List(args) => list(args).await,
    }
}

/// What an admin port tells of the archive.
#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    object_store: String,
    store_trouble: Option<StoreTrouble>,
    now_ms: TimestampMs,
    partitions: Vec<PartitionStatus>,
}

async fn status(args: StatusArgs) -> anyhow::Result<()> {
    let mut answer = args.admin.get("/v1/archive/status", &[]).await?;
    if let Some(topic) = &args.topic {
        narrow(&mut answer, topic)?;
    }
    if args.json {
        return Ok(print_json(&answer)?);
    }
    let mut status = read(answer)?;
    let hidden = if args.topic.is_some() { 0 } else { hide_unused(&mut status) };
    print_line(store_trouble(&status).unwrap_or_else(|| format!("object store {}", status.object_store)))?;
    let mut shown = table(&[
        "topic",
        ">partition",
        ">log start",
        ">local start",
        ">archived end",
        ">last stable",
        ">high watermark",
        ">log end",
        ">hot",
        ">cold",
        ">objects",
        ">backlog",
        ">age",
        "",
    ]);
    let troubles = partition_troubles(&status);
    for p in status.partitions {
        let backlog = if p.remote_storage_enable { size(p.backlog_bytes) } else { "off".to_owned() };
        shown.add_row([
            p.topic,
            p.partition.to_string(),
            p.log_start.to_string(),
            p.local_start.to_string(),
            p.archived_end.to_string(),
            p.last_stable.to_string(),
            p.high_watermark.to_string(),
            p.log_end.to_string(),
            size(p.local_bytes),
            size(p.archived_bytes),
            p.archived_objects.to_string(),
            backlog,
            age(p.backlog_seconds),
            // Sentences below the table say what.
            if p.last_error.is_some() { "fails".to_owned() } else { String::new() },
        ]);
    }
    print_line(shown)?;
    if hidden > 0 {
        print_line(format_args!("not shown: {} of internal topics", count(hidden, "empty partition")))?;
    }
    for trouble in troubles {
        print_line(trouble)?;
    }
    Ok(())
}

/// Leaves the partitions of one topic.
fn narrow(answer: &mut Value, topic: &str) -> anyhow::Result<()> {
    let partitions = answer.get_mut("partitions").and_then(Value::as_array_mut);
    let partitions = partitions.context("the answer is not that of this version of firn")?;
    partitions.retain(|partition| partition.get("topic").and_then(Value::as_str) == Some(topic));
    if partitions.is_empty() {
        return Err(anyhow!("this broker has no replica of a topic {topic:?}; `firn topic list` shows the topics"));
    }
    Ok(())
}

/// Leaves out partitions of internal topics that nothing was ever written to; answers how many.
fn hide_unused(status: &mut Status) -> usize {
    let before = status.partitions.len();
    let is_unused =
        |p: &PartitionStatus| p.topic.starts_with(INTERNAL_PREFIX) && p.log_end == 0 && p.troubles.is_empty();
    status.partitions.retain(|partition| !is_unused(partition));
    before - status.partitions.len()
}

/// Asks an admin port.
pub(crate) async fn status_of(admin: &Endpoint) -> anyhow::Result<Status> {
    read(get(admin, "/v1/archive/status", &[]).await?)
}

fn read(answer: Value) -> anyhow::Result<Status> {
    serde_json::from_value(answer).context("the answer is not that of this version of firn")
}

/// All troubles, a sentence each.
pub(crate) fn partition_troubles(status: &Status) -> Vec<String> {
    let now = status.now_ms;
    status.partitions.iter().flat_map(|p| p.troubles.iter().map(move |t| words(p, t, now))).collect()
}

/// What is wrong with the store, if anything is.
pub(crate) fn store_trouble(status: &Status) -> Option<String> {
    let (store, trouble) = (&status.object_store, status.store_trouble.as_ref()?);
    let since = u64::try_from(status.now_ms.saturating_sub(trouble.since_ms)).unwrap_or(0) / 1000;
    let (since, calls, error) = (age(since), trouble.calls, &trouble.error);
    Some(format!("object store {store} fails since {since}, {calls} calls in a row: {error}"))
}

/// One trouble as a sentence.
fn words(partition: &PartitionStatus, trouble: &Trouble, now: TimestampMs) -> String {
    let seconds = |from: TimestampMs, to: TimestampMs| u64::try_from(to.saturating_sub(from)).unwrap_or(0) / 1000;
    let what = match trouble.activity {
        Activity::Archive => format!("archiving fails, {} wait", size(partition.backlog_bytes)),
        Activity::Read => {
            format!("reading the archive fails at offset {}", trouble.offset.unwrap_or(partition.log_start))
        }
        Activity::Retention => "retention fails, nothing is deleted".to_owned(),
        Activity::Sweep => "the sweep fails, nothing is swept".to_owned(),
        Activity::Evict => "archived segments stay on the local disk".to_owned(),
    };
    let times = if trouble.attempts == 1 { "once".to_owned() } else { format!("{} times", trouble.attempts) };
    let next = match trouble.next_attempt_ms {
        Some(at) if at > now => format!(", tried again in {}", age(seconds(now, at))),
        Some(_) => ", tried again now".to_owned(),
        None => format!(", last {} ago", age(seconds(trouble.last_ms, now))),
    };
    let (topic, index) = (&partition.topic, partition.partition);
    let since = age(seconds(trouble.since_ms, now));
    format!("{topic}-{index}: {what}; since {since}, {times}{next}: {}", trouble.error)
}

#[derive(Debug, Serialize, Deserialize)]
struct PartitionObjects {
    topic: String,
    partition: i32,
    objects: Vec<ArchivedSegment>,
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let mut query = vec![("topic", args.topic)];
    query.extend(args.partition.map(|partition| ("partition", partition.to_string())));
    let answer = args.admin.get("/v1/archive/objects", &query).await?;
    if args.json {
        return Ok(print_json(&answer)?);
    }
    let partitions: Vec<PartitionObjects> =
        serde_json::from_value(answer).context("the answer is not that of this version of firn")?;
    let mut shown = table(&[
        ">partition",
        ">first offset",
        ">next offset",
        ">records",
        ">size",
        ">of",
        "oldest",
        "newest",
        "object",
    ]);
    for PartitionObjects { partition, objects, .. } in partitions {
        for object in objects {
            shown.add_row([
                partition.to_string(),
                object.base_offset.to_string(),
                object.next_offset.to_string(),
                object.records.to_string(),
                size(object.bytes),
                size(object.record_bytes),
                time(object.min_timestamp),
                time(object.max_timestamp),
                object.object,
            ]);
        }
    }
    Ok(print_line(shown)?)
}
