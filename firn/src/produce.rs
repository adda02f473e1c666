//! `firn produce`: lines from standard input become records, acknowledged by all in-sync replicas, each exactly once.
//!
//! A thread reads and parses lines; this side packs them into one batch per partition and sends a round of batches when
//! one is full, or when no line came for [`LINGER`]. What cannot be read or delivered ends the run; the summary then says
//! what was acknowledged before.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::Args;
use model::batch::Compression;
use serde::Serialize;
use tokio::time::timeout;

use crate::client::cluster::IfMissing;
use crate::client::records::Produced;
use crate::client::{Client, ClientError};
use crate::connect::{ConnectArgs, assignment};
use crate::json_record::InputRecord;
use crate::output::{count, print_json, print_line, tell};
use crate::progress::Progress;

mod batcher;
mod input;
mod partitioner;

use batcher::{Batcher, Round};
use input::{InputFormat, Lines};

/// How long records wait for company before they are sent.
const LINGER: Duration = Duration::from_millis(20);
/// The topic settings that limit a batch, in bytes.
const LIMITS: [&str; 2] = ["max.message.bytes", "segment.bytes"];

/// Arguments of `firn produce`.
#[derive(Debug, Args)]
pub(crate) struct ProduceArgs {
    /// The topic; created when it does not exist and the cluster allows that.
    topic: String,
    /// What separates key and value; without it, lines are values and keys are null.
    #[arg(long, value_name = "TEXT", conflicts_with = "json")]
    key_separator: Option<String>,
    /// Read JSON lines as `firn consume --json` prints them, and print the summary as JSON.
    #[arg(long)]
    json: bool,
    /// Send everything to this partition; without it, the key decides as in Kafka's Java client.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Codec of the batches: none, gzip, snappy, lz4 or zstd.
    #[arg(long, value_name = "CODEC", default_value = "none", value_parser = codec)]
    compression: Compression,
    /// A header for every record.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = assignment)]
    headers: Vec<(String, String)>,
    #[command(flatten)]
    connect: ConnectArgs,
}

fn codec(name: &str) -> Result<Compression, String> {
    Compression::from_name(name).ok_or_else(|| {
        let nearest = model::settings::nearest(name, Compression::ALL.iter().map(|codec| codec.name()));
        let hint = nearest.map(|nearest| format!(", did you mean {nearest:?}?")).unwrap_or_default();
        format!("no such codec{hint}")
    })
}

/// What was acknowledged.
#[derive(Debug, Default, Serialize)]
struct Summary {
    topic: String,
    records: u64,
    partitions: BTreeMap<i32, Acknowledged>,
}

/// Of one partition; offsets are null where the broker acknowledged a repeated batch without saying where it lies.
#[derive(Debug, Default, Serialize)]
struct Acknowledged {
    records: u64,
    first_offset: Option<i64>,
    last_offset: Option<i64>,
}

/// Runs the command.
pub(crate) async fn run(args: ProduceArgs) -> anyhow::Result<()> {
    let format = match (args.json, &args.key_separator) {
        (true, _) => InputFormat::Json,
        (false, Some(separator)) => InputFormat::KeyAndValue(separator.clone()),
        (false, None) => InputFormat::Value,
    };
    let lines = Lines::from_stdin(format);
    let mut summary = Summary { topic: args.topic.clone(), ..Summary::default() };
    let result = Producer::new(&args).run(lines, &mut summary).await;
    if args.json {
        print_json(&summary)?
    } else {
        print_summary(&summary)?
    }
    result
}

fn print_summary(summary: &Summary) -> anyhow::Result<()> {
    print_line(format_args!("{} records to topic {}", summary.records, summary.topic))?;
    for (partition, part) in &summary.partitions {
        let offsets = match (part.first_offset, part.last_offset) {
            (Some(first), Some(last)) => format!("offsets {first} to {last}"),
            _ => "offsets unknown".to_owned(),
        };
        print_line(format_args!("  partition {partition}: {} records, {offsets}", part.records))?;
    }
    Ok(())
}

struct Producer<'a> {
    args: &'a ProduceArgs,
    client: Client,
    batcher: Option<Batcher>,
    /// Records that named a partition which the topic does not have.
    misplaced: usize,
    progress: Progress,
}

impl<'a> Producer<'a> {
    fn new(args: &'a ProduceArgs) -> Self {
        Producer { args, client: args.connect.client(), batcher: None, misplaced: 0, progress: Progress::counter() }
    }

    async fn run(mut self, mut lines: Lines, summary: &mut Summary) -> anyhow::Result<()> {
        let result = loop {
            let next = match timeout(LINGER, lines.next()).await {
                Ok(next) => next,
                Err(_quiet) => {
                    self.send(summary).await?;
                    lines.next().await
                }
            };
            let chunk = match next {
                None => break Ok(()),
                // Lines before the one that cannot be read were taken: they are sent still.
                Some(Err(error)) => break Err(error),
                Some(Ok(chunk)) => chunk,
            };
            for record in chunk {
                let headers = self.args.headers.iter().map(|(k, v)| (k.clone(), Some(v.clone().into_bytes())));
                let mut record = record;
                record.headers.extend(headers);
                record.timestamp.get_or_insert_with(now_ms);
                self.place(&mut record).await?;
                if self.batcher().await?.is_full_with(&record)? {
                    self.send(summary).await?;
                }
                self.batcher().await?.add(&record)?;
            }
        };
        self.send(summary).await?;
        if let (misplaced @ 1.., Some(batcher)) = (self.misplaced, &self.batcher) {
            tell(format_args!(
                "{} named a partition that topic {} does not have, which has {}: they were placed like records that name \
                 none; to keep partitions, create the topic with as many first",
                count(misplaced, "record"),
                self.args.topic,
                batcher.partitions()
            ));
        }
        self.progress.finish();
        result
    }

    /// Chooses the partition, where that is not left to the key. A line that was copied from a topic with more partitions
    /// names one that this topic does not have.
    async fn place(&mut self, record: &mut InputRecord) -> anyhow::Result<()> {
        if self.args.partition.is_some() {
            record.partition = self.args.partition;
            return Ok(());
        }
        let partitions = self.batcher().await?.partitions();
        if record.partition.is_some_and(|partition| partition >= partitions) {
            record.partition = None;
            self.misplaced += 1;
        }
        Ok(())
    }

    /// The batcher, made when the first record comes.
    async fn batcher(&mut self) -> anyhow::Result<&mut Batcher> {
        let batcher = match self.batcher.take() {
            Some(batcher) => batcher,
            None => {
                let view = self.client.topic(&self.args.topic, IfMissing::Create).await?;
                let topic = view.topics.get(&self.args.topic).context("the broker answered with another topic")?;
                let partitions = i32::try_from(topic.partitions.len())?;
                let limit_bytes = self.batch_limit_bytes().await;
                let (producer_id, producer_epoch) = self.client.producer_id().await?;
                Batcher::new(partitions, limit_bytes, self.args.compression, (producer_id, producer_epoch))
            }
        };
        Ok(self.batcher.insert(batcher))
    }

    /// The largest batch that the topic takes, as far as it lets us know.
    async fn batch_limit_bytes(&mut self) -> usize {
        let configs = self.client.topic_configs(&self.args.topic).await.unwrap_or_default();
        let limits = configs.iter().filter(|config| LIMITS.contains(&config.name.as_str()));
        let limits = limits.filter_map(|config| config.value.as_deref()?.parse().ok());
        limits.min().unwrap_or(usize::MAX)
    }

    async fn send(&mut self, summary: &mut Summary) -> anyhow::Result<()> {
        let Some(Round { batches, counts }) = self.batcher.as_mut().map(Batcher::take_round).transpose()? else {
            return Ok(());
        };
        let produced = self.client.produce(&self.args.topic, batches).await.map_err(explain)?;
        for (partition, count) in counts {
            let part = summary.partitions.entry(partition).or_default();
            part.records += count;
            summary.records += count;
            self.progress.add(count);
            match produced.get(&partition) {
                Some(Produced::At(base)) => {
                    part.first_offset.get_or_insert(*base);
                    part.last_offset = Some(base.saturating_add_unsigned(count).saturating_sub(1));
                }
                Some(Produced::Earlier) => part.last_offset = None,
                None => bail!("the broker did not acknowledge the batch for partition {partition}"),
            }
        }
        Ok(())
    }
}

fn explain(error: ClientError) -> anyhow::Error {
    let hint = match &error {
        e if e.has_code(protocol::ErrorCode::MessageTooLarge) => {
            Some("a record is larger than the topic's max.message.bytes allows")
        }
        e if e.has_code(protocol::ErrorCode::UnknownTopicOrPartition) => {
            Some("the topic does not exist; create it with `firn topic create`")
        }
        _ => None,
    };
    match hint {
        Some(hint) => anyhow::Error::new(error).context(hint),
        None => error.into(),
    }
}

fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
