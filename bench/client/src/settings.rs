//! What the sub-commands have in common: where the broker is, librdkafka's settings, the clock of the process's own CPU time.

use std::time::Duration;

use clap::Args;
use rdkafka::ClientConfig;

use crate::Outcome;

/// A broker and a topic on it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// HOST:PORT of the broker.
    #[arg(long)]
    pub(crate) bootstrap: String,
    /// An existing topic.
    #[arg(long)]
    pub(crate) topic: String,
    /// Partitions 0 to this, exclusive, are used.
    #[arg(long, default_value_t = 1)]
    pub(crate) partitions: i32,
    /// A setting of librdkafka by its own name; wins over everything else.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Target {
    /// These settings, the given ones below them.
    pub(crate) fn config(&self, settings: &[(&str, String)]) -> Outcome<ClientConfig> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        for (name, value) in settings {
            config.set(*name, value);
        }
        for pair in &self.set {
            let (name, value) = pair.split_once('=').ok_or_else(|| format!("--set {pair}: KEY=VALUE expected"))?;
            config.set(name, value);
        }
        Ok(config)
    }
}

/// How producers write.
#[derive(Debug, Clone, Args)]
pub(crate) struct Writing {
    /// Bytes of each value.
    #[arg(long, default_value_t = 1024)]
    pub(crate) value_bytes: usize,
    /// none, lz4, zstd, snappy.
    #[arg(long, default_value = "none")]
    codec: String,
    /// Milliseconds that a batch waits for more records.
    #[arg(long, default_value_t = 5.0)]
    linger_ms: f64,
    /// all, 1 or 0.
    #[arg(long, default_value = "all")]
    acks: String,
    /// Idempotent producers. librdkafka then keeps one batch of a partition in flight, and its thread spins until the answer comes.
    #[arg(long)]
    idempotence: bool,
    /// The largest batch.
    #[arg(long, default_value_t = 1_000_000)]
    batch_bytes: usize,
    /// Records and batches that wait in one producer, in KiB.
    #[arg(long, default_value_t = 65_536)]
    queue_kib: usize,
}

impl Writing {
    /// librdkafka's settings for it.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("compression.type", self.codec.clone()),
            ("linger.ms", self.linger_ms.to_string()),
            ("acks", self.acks.clone()),
            ("enable.idempotence", self.idempotence.to_string()),
            ("batch.size", self.batch_bytes.to_string()),
            ("batch.num.messages", "1000000".to_owned()),
            ("max.in.flight.requests.per.connection", "5".to_owned()),
            ("queue.buffering.max.messages", "0".to_owned()),
            ("queue.buffering.max.kbytes", self.queue_kib.to_string()),
            // A broker that is slow for minutes is a figure, not an error.
            ("message.timeout.ms", "600000".to_owned()),
            ("request.timeout.ms", "300000".to_owned()),
        ]
    }
}

/// librdkafka's settings of a consumer for throughput.
pub(crate) fn reading(group: &str) -> Vec<(&'static str, String)> {
    vec![
        ("group.id", group.to_owned()),
        ("enable.auto.commit", "false".to_owned()),
        ("enable.auto.offset.store", "false".to_owned()),
        ("auto.offset.reset", "error".to_owned()),
        ("check.crcs", "false".to_owned()),
    ]
}

/// CPU time of this process so far, all threads, user and system.
pub(crate) fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or_default(), time.tv_nsec.try_into().unwrap_or_default())
}

/// 10⁶ bytes per second.
pub(crate) fn mb_per_s(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64()
}

/// CPU seconds for 10⁹ bytes.
pub(crate) fn cpu_s_per_gb(cpu: Duration, bytes: u64) -> f64 {
    cpu.as_secs_f64() / (bytes as f64 / 1e9)
}
