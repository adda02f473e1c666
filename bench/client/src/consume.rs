//! Reading as fast as the broker serves, with the check that offsets have no hole.
//!
//! Each consumer has a thread and takes messages from librdkafka in batches. `--from spread` lets the consumers start at equal
//! distances over the topic, `same` all at its beginning.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rdkafka::bindings as rd;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::Outcome;
use crate::settings::{Target, cpu_s_per_gb, cpu_time, mb_per_s, reading};

const CALL_RECORDS: usize = 4096;
const CALL_WAIT_MS: i32 = 200;
const STALLED: Duration = Duration::from_secs(120);
const METADATA_DEADLINE: Duration = Duration::from_secs(60);

/// Where consumers start.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum From {
    /// All at the beginning.
    Same,
    /// At equal distances.
    Spread,
}

/// Of the sub-command.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// How many read, each with a connection of its own.
    #[arg(long, default_value_t = 1)]
    consumers: usize,
    /// Where they start.
    #[arg(long, value_enum, default_value = "same")]
    from: From,
    /// Records that each reads; without it, all that are there.
    #[arg(long)]
    records: Option<u64>,
    /// Read for so long instead, from the start again whenever the end is reached.
    #[arg(long)]
    seconds: Option<f64>,
    /// Bytes of one fetch answer per partition.
    #[arg(long, default_value_t = 8 << 20)]
    fetch_bytes: usize,
}

/// What all threads add to.
#[derive(Default)]
struct Totals {
    records: AtomicU64,
    bytes: AtomicU64,
    over: AtomicBool,
}

/// Reads, and says how fast.
pub(crate) fn run(arguments: &Arguments) -> Outcome<Value> {
    let totals = Arc::new(Totals::default());
    let mut readers = Vec::new();
    for number in 0..arguments.consumers {
        readers.push(Reader::new(arguments, number)?);
    }
    let (start, cpu_start) = (Instant::now(), cpu_time());
    let threads: Vec<_> = readers
        .into_iter()
        .map(|reader| {
            let totals = totals.clone();
            std::thread::spawn(move || reader.run(&totals).map(|()| start.elapsed()))
        })
        .collect();
    if let Some(seconds) = arguments.seconds {
        let end = Duration::from_secs_f64(seconds);
        while start.elapsed() < end && !threads.iter().any(std::thread::JoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(20));
        }
        totals.over.store(true, Ordering::Relaxed);
    }
    let mut each_s = Vec::new();
    for thread in threads {
        each_s.push(thread.join().map_err(|_| "a consumer panicked")??.as_secs_f64());
    }
    let cpu = cpu_time() - cpu_start;
    // Closing the consumers is not reading.
    let time = Duration::from_secs_f64(each_s.iter().copied().fold(0.0, f64::max));
    let (records, bytes) = (totals.records.load(Ordering::Relaxed), totals.bytes.load(Ordering::Relaxed));
    Ok(json!({ "records": records, "bytes": bytes, "seconds": time.as_secs_f64(), "mb_s": mb_per_s(bytes, time),
               "client_cpu_s": cpu.as_secs_f64(), "client_cpu_s_per_gb": cpu_s_per_gb(cpu, bytes), "each_s": each_s }))
}

/// One consumer over all partitions.
struct Reader {
    consumer: BaseConsumer,
    topic: String,
    /// By partition: from where, and how many.
    ranges: Vec<(i64, u64)>,
    again: bool,
}

impl Reader {
    fn new(arguments: &Arguments, number: usize) -> Outcome<Self> {
        let mut settings = reading(&format!("bench-{}-{number}", std::process::id()));
        settings.extend([
            ("fetch.message.max.bytes", arguments.fetch_bytes.to_string()),
            ("fetch.max.bytes", (64 << 20).to_string()),
            ("fetch.wait.max.ms", "100".to_owned()),
            ("fetch.queue.backoff.ms", "10".to_owned()),
            ("queued.max.messages.kbytes", "65536".to_owned()),
            ("queued.min.messages", "1000000".to_owned()),
        ]);
        let consumer: BaseConsumer = arguments.target.config(&settings)?.create()?;
        let topic = arguments.target.topic.clone();
        let mut ranges = Vec::new();
        for partition in 0..arguments.target.partitions {
            let (low, high) = consumer.fetch_watermarks(&topic, partition, METADATA_DEADLINE)?;
            let there = u64::try_from(high - low)?;
            let count = arguments.records.unwrap_or(there).min(there);
            let step = match arguments.from {
                From::Same => 0,
                From::Spread => (there - count) / (arguments.consumers as u64 - 1).max(1),
            };
            ranges.push((low + i64::try_from(step * number as u64)?, count));
        }
        Ok(Self { consumer, topic, ranges, again: arguments.seconds.is_some() })
    }

    fn run(self, totals: &Totals) -> Outcome<()> {
        loop {
            self.read_ranges(totals)?;
            if !self.again || totals.over.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }

    /// Reads every range once.
    fn read_ranges(&self, totals: &Totals) -> Outcome<()> {
        let mut assignment = TopicPartitionList::new();
        for (partition, (from, _)) in self.ranges.iter().enumerate() {
            assignment.add_partition_offset(&self.topic, i32::try_from(partition)?, Offset::Offset(*from))?;
        }
        self.consumer.assign(&assignment)?;
        let mut queue = Queue::new(&self.consumer);
        let mut next: Vec<i64> = self.ranges.iter().map(|(from, _)| *from).collect();
        let mut left: u64 = self.ranges.iter().map(|(_, count)| count).sum();
        let mut last = Instant::now();
        while left > 0 && !totals.over.load(Ordering::Relaxed) {
            let (mut records, mut bytes) = (0, 0);
            queue.take(left, |message| {
                let partition = usize::try_from(message.partition)?;
                let (from, count) = self.ranges[partition];
                if message.offset != next[partition] {
                    return Err(format!(
                        "partition {partition}: offset {} expected, {} came",
                        next[partition], message.offset
                    )
                    .into());
                }
                next[partition] += 1;
                // What is behind the range came along with the last batch.
                if message.offset < from + i64::try_from(count)? {
                    records += 1;
                    bytes += (message.len + message.key_len) as u64;
                }
                Ok(())
            })?;
            if records > 0 {
                last = Instant::now();
            } else if last.elapsed() > STALLED {
                return Err(format!("nothing came for {} s with {left} records left", STALLED.as_secs()).into());
            }
            left -= records;
            totals.records.fetch_add(records, Ordering::Relaxed);
            totals.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The consumer's own queue, read in batches.
pub(crate) struct Queue<'c> {
    queue: *mut rd::rd_kafka_queue_t,
    messages: Vec<*mut rd::rd_kafka_message_t>,
    _consumer: std::marker::PhantomData<&'c BaseConsumer>,
}

impl<'c> Queue<'c> {
    /// Of a consumer that outlives it.
    pub(crate) fn new(consumer: &'c BaseConsumer) -> Self {
        // SAFETY: the consumer's handle is alive; the reference to its queue is given back on drop.
        let queue = unsafe { rd::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        Self { queue, messages: vec![std::ptr::null_mut(); CALL_RECORDS], _consumer: std::marker::PhantomData }
    }

    /// Shows up to `limit` messages to `each`; waits a little when there are fewer.
    pub(crate) fn take(
        &mut self,
        limit: u64,
        mut each: impl FnMut(&rd::rd_kafka_message_t) -> Outcome<()>,
    ) -> Outcome<()> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(self.messages.len());
        let messages = self.messages.as_mut_ptr();
        // SAFETY: the queue is alive and the array has at least `limit` places.
        let count = unsafe { rd::rd_kafka_consume_batch_queue(self.queue, CALL_WAIT_MS, messages, limit) };
        let mut outcome = Ok(());
        for &pointer in &self.messages[..usize::try_from(count)?] {
            // SAFETY: a message that librdkafka just handed over; it is given back right after.
            let message = unsafe { &*pointer };
            if outcome.is_ok() {
                outcome = match message.err {
                    rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => each(message),
                    error => Err(format!("partition {}: {error:?}", message.partition).into()),
                };
            }
            // SAFETY: as above, once.
            unsafe { rd::rd_kafka_message_destroy(pointer) };
        }
        outcome
    }
}

impl Drop for Queue<'_> {
    fn drop(&mut self) {
        // SAFETY: taken in `new`, given back once.
        unsafe { rd::rd_kafka_queue_destroy(self.queue) };
    }
}
