//! `firn consume`: records to standard output, from any offset or time, to the end or for ever.
//!
//! One task per leader fetches ahead; this side prints. Everything that is in the log is shown, as Kafka's
//! `read_uncommitted` does; markers of transactions are not records and are left out.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::str::FromStr;

use anyhow::{Context, bail};
use chrono::DateTime;
use clap::Args;
use model::TimestampMs;
use model::batch::{Batches, RecordsBuffer};

use crate::client::Client;
use crate::client::cluster::{EARLIEST, IfMissing, LATEST};
use crate::connect::ConnectArgs;
use crate::progress::Progress;

mod fetcher;
mod print;

use fetcher::{Fetched, Fetcher, Range};
use print::Format;

/// Largest batch, in bytes after decompression.
const MAX_BATCH_BYTES: usize = 1 << 30;
const WRITE_BUFFER_BYTES: usize = 256 << 10;

/// Arguments of `firn consume`.
#[derive(Debug, Args)]
pub(crate) struct ConsumeArgs {
    /// The topic.
    topic: String,
    /// Only these partitions, separated by commas.
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(i32).range(0..))]
    partition: Vec<i32>,
    /// Where to begin: beginning, end, or an offset.
    #[arg(long, value_name = "WHERE", default_value = "beginning", conflicts_with = "from_time")]
    from: From,
    /// Begin with the first record that is not older: RFC 3339 such as 2026-01-31T08:00:00Z, or milliseconds since 1970.
    #[arg(long, value_name = "TIME", value_parser = time)]
    from_time: Option<TimestampMs>,
    /// Stop after so many records.
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// Go on when the end is reached, and print what comes.
    #[arg(long)]
    follow: bool,
    /// Print keys too, and this between key and value.
    #[arg(long, value_name = "TEXT", conflicts_with = "json")]
    key_separator: Option<String>,
    /// Print JSON lines with topic, partition, offset, timestamp, key, value and headers.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Beginning,
    End,
    Offset(i64),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "beginning" => Ok(From::Beginning),
            "end" => Ok(From::End),
            offset => match offset.parse() {
                Ok(offset) if offset >= 0 => Ok(From::Offset(offset)),
                _ => Err("expected beginning, end, or an offset from 0".to_owned()),
            },
        }
    }
}

fn time(text: &str) -> Result<TimestampMs, String> {
    if let Ok(milliseconds) = text.parse::<u64>() {
        return i64::try_from(milliseconds).map_err(|e| e.to_string());
    }
    let time = DateTime::parse_from_rfc3339(text);
    let time = time.map_err(|e| format!("expected milliseconds or RFC 3339 such as 2026-01-31T08:00:00Z: {e}"))?;
    Ok(time.timestamp_millis().max(0))
}

/// Runs the command.
pub(crate) async fn run(args: ConsumeArgs) -> anyhow::Result<()> {
    let mut client = args.connect.client();
    let ranges = ranges(&mut client, &args).await?;
    let format = match (args.json, args.key_separator) {
        (true, _) => Format::Json,
        (false, Some(separator)) => Format::KeyAndValue(separator),
        (false, None) => Format::Value,
    };
    let total = ranges.values().map(|range| range.end.map_or(0, |end| end.abs_diff(range.start))).sum::<u64>();
    let progress = if args.follow { None } else { Some(Progress::towards(total.min(args.max.unwrap_or(u64::MAX)))) };
    let mut fetcher = Fetcher::start(&mut client, &args.topic, ranges).await?;
    let out = BufWriter::with_capacity(WRITE_BUFFER_BYTES, io::stdout());
    let left = args.max.unwrap_or(u64::MAX);
    let mut printer =
        Printer { out, format, topic: args.topic, left, progress, buffer: RecordsBuffer::new(MAX_BATCH_BYTES) };
    while printer.left > 0 {
        if fetcher.is_idle() {
            printer.out.flush()?;
        }
        let Some(fetched) = fetcher.next().await else { break };
        match fetched {
            Ok(fetched) => printer.print(&fetched)?,
            Err(error) => {
                printer.out.flush()?;
                return Err(error);
            }
        }
    }
    printer.out.flush()?;
    if let Some(progress) = printer.progress {
        progress.finish();
    }
    Ok(())
}

/// What to read of each partition.
async fn ranges(client: &mut Client, args: &ConsumeArgs) -> anyhow::Result<BTreeMap<i32, Range>> {
    let topic = &args.topic;
    let view = client.topic(topic, IfMissing::Fail).await?;
    let existing = &view.topics.get(topic).context("the broker answered with another topic")?.partitions;
    let mut wanted: Vec<i32> =
        if args.partition.is_empty() { existing.keys().copied().collect() } else { args.partition.clone() };
    wanted.sort_unstable();
    wanted.dedup();
    if let Some(missing) = wanted.iter().find(|partition| !existing.contains_key(partition)) {
        bail!("there is no partition {missing}: {topic} has partitions 0 to {}", existing.len().saturating_sub(1));
    }
    let ends = client.offsets(topic, &wanted, LATEST).await?;
    let starts = match (args.from_time, args.from) {
        (Some(time), _) => client.offsets(topic, &wanted, time).await?,
        (None, From::End) => ends.clone(),
        (None, From::Beginning | From::Offset(_)) => client.offsets(topic, &wanted, EARLIEST).await?,
    };
    let mut ranges = BTreeMap::new();
    for (partition, end) in ends {
        let first = starts.get(&partition).copied().unwrap_or(0);
        let start = match args.from {
            From::Offset(offset) if args.from_time.is_none() => {
                if offset < first || offset > end {
                    bail!("offset {offset} is not in partition {partition} of {topic}, which has {first} to {end}");
                }
                offset
            }
            // No record is that young: begin with those to come.
            _ if first < 0 => end,
            _ => first,
        };
        ranges.insert(partition, Range { start, end: (!args.follow).then_some(end) });
    }
    Ok(ranges)
}

struct Printer {
    out: BufWriter<io::Stdout>,
    format: Format,
    topic: String,
    left: u64,
    progress: Option<Progress>,
    buffer: RecordsBuffer,
}

impl Printer {
    fn print(&mut self, fetched: &Fetched) -> anyhow::Result<()> {
        let Fetched { partition, range, records } = fetched;
        for batch in Batches::new(records) {
            // Only the last batch can be cut off, and the fetcher cut it away.
            let batch = batch?;
            let place =
                || format!("partition {partition} of {}, batch at offset {}", self.topic, batch.header.base_offset);
            batch.verify_crc().with_context(place)?;
            if batch.header.is_control() {
                continue;
            }
            let mut printed = 0;
            for record in batch.records(&mut self.buffer).with_context(place)? {
                let record = record.with_context(place)?;
                let is_wanted = record.offset >= range.start && range.end.is_none_or(|end| record.offset < end);
                if !is_wanted {
                    continue;
                }
                if self.left == 0 {
                    return Ok(());
                }
                self.left -= 1;
                printed += 1;
                self.format.print(&mut self.out, &self.topic, *partition, &record)?;
            }
            if let Some(progress) = &mut self.progress {
                progress.add(printed);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_times_are_read() {
        assert_eq!("beginning".parse(), Ok(From::Beginning));
        assert_eq!("17".parse(), Ok(From::Offset(17)));
        assert!("-1".parse::<From>().is_err() && "start".parse::<From>().is_err());
        assert_eq!(time("1700000000000"), Ok(1_700_000_000_000));
        assert_eq!(time("1970-01-01T01:00:00.5+01:00"), Ok(500));
        assert!(time("yesterday").unwrap_err().contains("RFC 3339"));
    }
}
