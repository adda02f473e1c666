//! Watches the local disk: what is wrong with it is reported to the cluster (`metadata/impaired`), to `/health`, to metrics,
//! and to DescribeLogDirs.

use std::sync::Arc;
use std::time::Duration;

use model::{PartitionIndex, TopicPartition};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::broker::Broker;
use crate::machine::blocking;
use crate::metadata::{DiskFault, Impairment};
use crate::supervision;

/// Pause between two looks: a fault is reported that long after it shows at the latest.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The process itself was paused when a look comes that late: a flush that it took no part in is not slow.
const PAUSED: Duration = Duration::from_secs(1);

/// Watches until `stop`.
pub(crate) async fn watch(broker: Arc<Broker>, stop: CancellationToken) {
    let mut has_failed = false;
    let (mut awake_since, mut looked) = (Instant::now(), Instant::now());
    loop {
        if looked.elapsed() > PAUSED {
            awake_since = Instant::now();
        }
        looked = Instant::now();
        let impairment = examine(&broker, awake_since.elapsed());
        if broker.metadata.set_impairment(impairment.clone()) {
            match impairment {
                Some(Impairment { fault, reason }) => warn!(disk = %fault, reason, "the local disk is impaired"),
                None => info!("the local disk is well again"),
            }
        }
        if let Some(thread) = broker.hot.panicked() {
            supervision::lose(thread, "it has panicked");
        }
        if broker.metadata.has_panicked() {
            supervision::lose("raft", "it has panicked");
        }
        if let Some(failure) = broker.hot.failure()
            && !has_failed
        {
            has_failed = true;
            error!(%failure, "the local disk failed: no write is acknowledged any more; mend the disk and restart");
            let partitions = Arc::clone(&broker.partitions);
            blocking::run(move || partitions.fail_all()).await;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// What is wrong with the disk now; the worst first. `awake`: for how long this process has not been paused.
fn examine(broker: &Broker, awake: Duration) -> Option<Impairment> {
    let of = |fault, reason: String| Some(Impairment { fault, reason });
    if let Some(failure) = broker.hot.failure() {
        return of(DiskFault::Failed, failure.to_string());
    }
    if let Err(error) = broker.metadata.health() {
        return of(DiskFault::Failed, error.to_string());
    }
    if let Some(error) = broker.hot.full() {
        return of(DiskFault::Full, format!("{error}; writes are refused until there is space"));
    }
    if broker.metadata.is_disk_full() {
        return of(DiskFault::Full, "the disk of the metadata log is full; its changes wait for space".to_owned());
    }
    let limit = broker.config.settings.broker.disk_stall;
    let is_slow = |since: Option<Duration>| since.is_some_and(|since| since.min(awake) > limit);
    // The text stays the same while it lasts: each change is news to the cluster.
    let slow = |what: &str| of(DiskFault::Slow, format!("a flush of {what} has not returned for {limit:?}"));
    if is_slow(broker.hot.flushing_for()) {
        return slow("the local log");
    }
    if is_slow(broker.metadata.writing_for()) {
        return slow("the metadata log");
    }
    None
}

/// Sets the gauges of the disk; called for every scrape.
#[allow(clippy::cast_precision_loss, reason = "Prometheus has no integers")]
pub(crate) fn record_gauges(broker: &Broker) {
    let fault = broker.metadata.disk_fault();
    for one in [DiskFault::Failed, DiskFault::Full, DiskFault::Slow] {
        let is_so = if fault == Some(one) { 1.0 } else { 0.0 };
        metrics::gauge!("firn_disk_impaired", "fault" => one.to_string()).set(is_so);
    }
    let longest = broker.hot.flushing_for().max(broker.metadata.writing_for()).unwrap_or_default();
    metrics::gauge!("firn_disk_flush_age_seconds").set(longest.as_secs_f64());
    if let Some((total, usable)) = space(broker) {
        metrics::gauge!("firn_disk_total_bytes").set(total as f64);
        metrics::gauge!("firn_disk_usable_bytes").set(usable as f64);
    }
}

/// Bytes of the data folder's disk: all, and those that may be used. None is usable while the disk refuses writes for lack
/// of space, whatever the file system counts.
pub(crate) fn space(broker: &Broker) -> Option<(i64, i64)> {
    let disk = rustix::fs::statvfs(&broker.config.data_dir).ok()?;
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(disk.f_frsize)).ok();
    let is_full = broker.metadata.disk_fault() == Some(DiskFault::Full);
    Some((bytes(disk.f_blocks)?, if is_full { 0 } else { bytes(disk.f_bavail)? }))
}

/// A partition that this node should serve and cannot open.
#[derive(Debug)]
pub(crate) struct UnopenedPartition {
    pub(crate) topic: String,
    pub(crate) partition: PartitionIndex,
    pub(crate) reason: Arc<str>,
}

/// The partitions that this node should serve and cannot open.
pub(crate) fn unopened(broker: &Broker) -> Vec<UnopenedPartition> {
    let (image, node_id) = (broker.metadata.image(), broker.config.node_id);
    let of = |(id, reason): (TopicPartition, Arc<str>)| {
        let topic = image.topic_by_id(id.topic_id)?.name.to_string();
        image.partition(id)?.replicas.contains(&node_id).then_some(())?;
        Some(UnopenedPartition { topic, partition: id.partition, reason })
    };
    broker.hot.unopened().into_iter().filter_map(of).collect()
}
