//! Writing as fast as the broker acknowledges.
//!
//! Values lie in memory before the clock starts and librdkafka takes them in batches by reference (`rd_kafka_produce_batch`); only
//! failures are reported back, so that the client costs little per record. The clock stops when everything is acknowledged.

use std::ffi::{CString, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientContext, Message};
use serde_json::{Value, json};

use crate::Outcome;
use crate::settings::{Target, Writing, cpu_s_per_gb, cpu_time, mb_per_s};
use crate::values::Values;

/// Bytes of the records that one call hands over, all to one partition.
const CALL_BYTES: u64 = 64 << 10;
/// How long to let the broker work when every producer's queue is full.
const FULL_PAUSE: Duration = Duration::from_micros(500);
const FLUSH_DEADLINE: Duration = Duration::from_secs(600);

/// Of the sub-command.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) writing: Writing,
    /// Records to write.
    #[arg(long)]
    records: Option<u64>,
    /// Or how long to write.
    #[arg(long)]
    pub(crate) seconds: Option<f64>,
    /// Producers with a connection of their own.
    #[arg(long, default_value_t = 1)]
    pub(crate) producers: usize,
    /// Records per second, all producers together.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Seconds at the beginning whose times do not count (with --rate).
    #[arg(long, default_value_t = 2.0)]
    pub(crate) warmup_seconds: f64,
    /// Records that one call hands to one partition before the next partition's turn; by default 64 KiB of them.
    #[arg(long)]
    call_records: Option<u64>,
    /// Of the values.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// Counts what was not acknowledged.
#[derive(Default)]
struct Failures(AtomicU64);

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result
            && self.0.fetch_add(1, Ordering::Relaxed) == 0
        {
            eprintln!("partition {}: {error}", message.partition());
        }
    }
}

/// Writes, and says how fast.
pub(crate) fn run(arguments: &Arguments) -> Outcome<Value> {
    let limit = match (arguments.records, arguments.seconds) {
        (Some(records), None) => records,
        (None, Some(_)) => u64::MAX,
        _ => return Err("either --records or --seconds".into()),
    };
    let values = Values::new(arguments.writing.value_bytes, limit, arguments.seed);
    let mut settings = arguments.writing.settings();
    settings.push(("delivery.report.only.error", "true".to_owned()));
    let config = arguments.target.config(&settings)?;
    let mut writers = Vec::new();
    for number in 0..arguments.producers {
        let producer: BaseProducer<Failures> = config.create_with_context(Failures::default())?;
        writers.push(Writer::new(producer, &arguments.target, number)?);
    }
    let deadline = arguments.seconds.map(Duration::from_secs_f64);
    let (start, cpu_start) = (Instant::now(), cpu_time());
    let per_call = arguments.call_records.unwrap_or(CALL_BYTES / values.record_bytes()).max(1);
    let records =
        write(&mut writers, &values, per_call, limit, || deadline.is_some_and(|limit| start.elapsed() >= limit))?;
    for writer in &writers {
        writer.finish()?;
    }
    let (time, cpu) = (start.elapsed(), cpu_time() - cpu_start);
    let bytes = records * values.record_bytes();
    Ok(json!({ "records": records, "bytes": bytes, "seconds": time.as_secs_f64(), "mb_s": mb_per_s(bytes, time),
               "client_cpu_s": cpu.as_secs_f64(), "client_cpu_s_per_gb": cpu_s_per_gb(cpu, bytes) }))
}

/// Hands records to the writers in turn until `limit` or until `over`; the number of records.
fn write<'v>(
    writers: &mut [Writer<'v>],
    values: &'v Values,
    per_call: u64,
    limit: u64,
    over: impl Fn() -> bool,
) -> Outcome<u64> {
    let mut written = 0;
    while written < limit && !over() {
        let mut taken_by_all = 0;
        for writer in writers.iter_mut() {
            let taken = writer.write(values, written, per_call.min(limit - written))?;
            written += taken;
            taken_by_all += taken;
        }
        if taken_by_all == 0 {
            std::thread::sleep(FULL_PAUSE);
        }
    }
    Ok(written)
}

/// One producer and the partition that it fills next.
struct Writer<'v> {
    topic: *mut rd::rd_kafka_topic_t,
    producer: BaseProducer<Failures>,
    partitions: i32,
    next_partition: i32,
    call: Vec<rd::rd_kafka_message_t>,
    /// The values that librdkafka refers to outlive the writer.
    _values: std::marker::PhantomData<&'v Values>,
}

impl<'v> Writer<'v> {
    fn new(producer: BaseProducer<Failures>, target: &Target, number: usize) -> Outcome<Self> {
        let name = CString::new(target.topic.as_str())?;
        // SAFETY: the producer's handle is alive, the name is copied, no configuration means the default.
        let topic = unsafe { rd::rd_kafka_topic_new(producer.client().native_ptr(), name.as_ptr(), ptr::null_mut()) };
        if topic.is_null() {
            return Err(format!("topic {}: librdkafka refuses the name", target.topic).into());
        }
        let partitions = target.partitions.max(1);
        // Several producers start at different partitions.
        let next_partition = i32::try_from(number).unwrap_or_default() % partitions;
        Ok(Self { topic, producer, partitions, next_partition, call: Vec::new(), _values: std::marker::PhantomData })
    }

    /// Hands up to `count` records from `first` on to the next partition; how many fitted into the queue.
    fn write(&mut self, values: &'v Values, first: u64, count: u64) -> Outcome<u64> {
        self.call.clear();
        for number in first..first + count {
            let (key, value) = values.at(number);
            self.call.push(rd::rd_kafka_message_t {
                err: rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
                rkt: ptr::null_mut(),
                partition: self.next_partition,
                payload: value.as_ptr().cast_mut().cast::<c_void>(),
                len: value.len(),
                key: key.as_ptr().cast_mut().cast::<c_void>(),
                key_len: key.len(),
                offset: 0,
                _private: ptr::null_mut(),
            });
        }
        let entries = self.call.as_mut_ptr();
        let length = i32::try_from(self.call.len())?;
        // SAFETY: the entries are valid for the call; keys are copied; values are only read, and outlive the producer ('v).
        let taken = unsafe { rd::rd_kafka_produce_batch(self.topic, self.next_partition, 0, entries, length) };
        let taken = u64::try_from(taken)?;
        if taken < count {
            // The queue may refuse some in the middle only if it is full: then it refuses all behind it.
            let refused =
                self.call.iter().find(|entry| entry.err != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
            match refused.map(|entry| entry.err) {
                Some(rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__QUEUE_FULL) | None => {}
                Some(error) => return Err(format!("not taken by librdkafka: {error:?}").into()),
            }
        }
        self.producer.poll(Duration::ZERO);
        self.next_partition = (self.next_partition + 1) % self.partitions;
        Ok(taken)
    }

    /// Waits for every acknowledgement.
    fn finish(&self) -> Outcome<()> {
        self.producer.flush(FLUSH_DEADLINE)?;
        match self.producer.context().0.load(Ordering::Relaxed) {
            0 => Ok(()),
            failed => Err(format!("{failed} records were not acknowledged").into()),
        }
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_topic_new` and given back once, before the producer goes.
        unsafe { rd::rd_kafka_topic_destroy(self.topic) };
    }
}
