//! From the producer's call to the consumer that holds the record: both in this process, on one clock, at a fixed rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::Outcome;
use crate::consume::Queue;
use crate::latency::Latencies;
use crate::paced::wait_until;
use crate::settings::{Target, Writing, cpu_time, reading};
use crate::values::Values;

const DEADLINE: Duration = Duration::from_secs(60);
const STAMP_BYTES: usize = size_of::<u64>();

/// Of the sub-command.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    writing: Writing,
    /// Records per second.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// How long times are taken.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds before that.
    #[arg(long, default_value_t = 2.0)]
    warmup_seconds: f64,
}

/// Writes and reads partition 0 from its end on.
pub(crate) fn run(arguments: &Arguments) -> Outcome<Value> {
    let count = (arguments.rate * (arguments.seconds + arguments.warmup_seconds)) as u64;
    let values = Values::new(arguments.writing.value_bytes, count, 1);
    let mut settings = reading(&format!("bench-{}", std::process::id()));
    settings.push(("fetch.wait.max.ms", "500".to_owned()));
    let consumer: BaseConsumer = arguments.target.config(&settings)?.create()?;
    let topic = &arguments.target.topic;
    let (_, end) = consumer.fetch_watermarks(topic, 0, DEADLINE)?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Offset(end))?;
    consumer.assign(&assignment)?;

    let start = Instant::now();
    let counted_from = Duration::from_secs_f64(arguments.warmup_seconds);
    let (seen, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let reader = std::thread::spawn({
        let (seen, failed) = (seen.clone(), failed.clone());
        move || {
            read(&consumer, count, start, counted_from, &seen).inspect_err(|_| failed.store(true, Ordering::Relaxed))
        }
    });
    let config = arguments.target.config(&arguments.writing.settings())?;
    let producer: ThreadedProducer<DefaultProducerContext> = config.create()?;
    let cpu_start = cpu_time();
    for number in 0..count {
        wait_until(start, Duration::from_secs_f64(number as f64 / arguments.rate));
        let (_, value) = values.at(number);
        let stamp = u64::try_from(start.elapsed().as_nanos())?.to_be_bytes();
        let record: BaseRecord<'_, [u8], [u8], ()> = BaseRecord::to(topic).partition(0).key(&stamp[..]).payload(value);
        producer.send(record).map_err(|(error, _)| error)?;
        if failed.load(Ordering::Relaxed) {
            break;
        }
    }
    producer.flush(DEADLINE)?;
    let times = reader.join().map_err(|_| "the consumer panicked")??;
    let cpu = cpu_time() - cpu_start;
    Ok(json!({ "records": count, "client_cpu_s": cpu.as_secs_f64(), "latency": times.figures() }))
}

/// Takes `count` records; the time of each since the stamp in its key.
fn read(
    consumer: &BaseConsumer,
    count: u64,
    start: Instant,
    counted_from: Duration,
    seen: &AtomicU64,
) -> Outcome<Latencies> {
    let mut queue = Queue::new(consumer);
    let mut times = Latencies::default();
    let mut last = Instant::now();
    while seen.load(Ordering::Relaxed) < count {
        let before = seen.load(Ordering::Relaxed);
        queue.take(1, |message| {
            let now = start.elapsed();
            if message.key.is_null() || message.key_len != STAMP_BYTES {
                return Err(format!("offset {} is not ours", message.offset).into());
            }
            // SAFETY: librdkafka says that so many bytes lie there while the message lives.
            let stamp = unsafe { std::slice::from_raw_parts(message.key.cast::<u8>(), STAMP_BYTES) };
            let sent = Duration::from_nanos(u64::from_be_bytes(stamp.try_into()?));
            if sent >= counted_from {
                times.add(now.saturating_sub(sent));
            }
            seen.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })?;
        if seen.load(Ordering::Relaxed) > before {
            last = Instant::now();
        } else if last.elapsed() > DEADLINE {
            return Err(format!("only {before} of {count} records arrived, {} timed", times.count()).into());
        }
    }
    Ok(times)
}
