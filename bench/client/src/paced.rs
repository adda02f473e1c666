//! Writing at a fixed rate, and how long each acknowledgement takes: from the call that hands the record to librdkafka to its
//! delivery report.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use serde_json::{Value, json};

use crate::Outcome;
use crate::latency::Latencies;
use crate::produce::Arguments;
use crate::settings::{cpu_time, mb_per_s};
use crate::values::Values;

const FLUSH_DEADLINE: Duration = Duration::from_secs(600);

/// Where the times go; a record carries the nanosecond of its call since `start`.
struct Report {
    start: Instant,
    /// Nanosecond from which on times count.
    counted_from: u64,
    times: Mutex<Latencies>,
    failed: AtomicU64,
}

/// One producer's share of the report.
struct Context(Arc<Report>);

impl ClientContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: usize) {
        let report = &self.0;
        if let Err((error, _)) = result {
            if report.failed.fetch_add(1, Ordering::Relaxed) == 0 {
                eprintln!("{error}");
            }
        } else if sent as u64 >= report.counted_from {
            let time = report.start.elapsed().saturating_sub(Duration::from_nanos(sent as u64));
            report.times.lock().unwrap_or_else(PoisonError::into_inner).add(time);
        }
    }
}

/// Writes for `--seconds` after the warm-up, and says how long acknowledgements took.
pub(crate) fn run(arguments: &Arguments) -> Outcome<Value> {
    let rate = arguments.rate.unwrap_or(1.0);
    let seconds = arguments.seconds.ok_or("--rate needs --seconds")? + arguments.warmup_seconds;
    let count = (rate * seconds) as u64;
    let values = Values::new(arguments.writing.value_bytes, count, arguments.seed);
    let config = arguments.target.config(&arguments.writing.settings())?;
    let start = Instant::now();
    let report = Arc::new(Report {
        start,
        counted_from: Duration::from_secs_f64(arguments.warmup_seconds).as_nanos() as u64,
        times: Mutex::default(),
        failed: AtomicU64::new(0),
    });
    let mut producers: Vec<ThreadedProducer<Context>> = Vec::new();
    for _ in 0..arguments.producers {
        producers.push(config.create_with_context(Context(report.clone()))?);
    }
    let cpu_start = cpu_time();
    let mut behind = Duration::ZERO;
    for number in 0..count {
        behind = behind.max(wait_until(start, Duration::from_secs_f64(number as f64 / rate)));
        let (key, value) = values.at(number);
        let partition = i32::try_from(number % arguments.target.partitions.max(1) as u64)?;
        let sent = usize::try_from(start.elapsed().as_nanos())?;
        let record =
            BaseRecord::with_opaque_to(&arguments.target.topic, sent).partition(partition).key(key).payload(value);
        let producer = &producers[usize::try_from(number)? % producers.len()];
        producer.send(record).map_err(|(error, _)| error)?;
    }
    for producer in &producers {
        producer.flush(FLUSH_DEADLINE)?;
    }
    let (time, cpu) = (start.elapsed(), cpu_time() - cpu_start);
    drop(producers);
    let failed = report.failed.load(Ordering::Relaxed);
    if failed > 0 {
        return Err(format!("{failed} records were not acknowledged").into());
    }
    let times = std::mem::take(&mut *report.times.lock().unwrap_or_else(PoisonError::into_inner));
    let bytes = count * values.record_bytes();
    Ok(json!({ "records": count, "bytes": bytes, "seconds": time.as_secs_f64(), "mb_s": mb_per_s(bytes, time),
               "client_cpu_s": cpu.as_secs_f64(), "behind_max_ms": behind.as_secs_f64() * 1e3, "latency": times.figures() }))
}

/// Sleeps until `due` after `start`; how late it is then.
pub(crate) fn wait_until(start: Instant, due: Duration) -> Duration {
    if let Some(left) = due.checked_sub(start.elapsed()) {
        std::thread::sleep(left);
    }
    start.elapsed().saturating_sub(due)
}
