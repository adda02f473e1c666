//! How every partition stands in both tiers, for the admin port and for the gauges of Prometheus.

use std::collections::BTreeMap;
use std::time::Duration;

use model::TimestampMs;
use serde::{Deserialize, Serialize};

use crate::broker::Broker;
use crate::disk_watch;
pub use crate::partition::{Activity, Trouble};
use crate::partition::{Partition, Replication};

/// One partition; offsets as in the architecture's picture, sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// The topic's name.
    pub topic: String,
    /// The topic's id.
    pub topic_id: String,
    /// The partition's index.
    pub partition: i32,
    /// First offset that readers may see.
    pub log_start: i64,
    /// First offset on local disk.
    pub local_start: i64,
    /// First offset that is not archived.
    pub archived_end: i64,
    /// First offset that may be part of an open transaction.
    pub last_stable: i64,
    /// First offset that consumers may not read yet.
    pub high_watermark: i64,
    /// First offset that is free.
    pub log_end: i64,
    /// Bytes on local disk.
    pub local_bytes: u64,
    /// Bytes of archived objects.
    pub archived_bytes: u64,
    /// Bytes that the archived records had on local disk.
    pub archived_record_bytes: u64,
    /// Archived objects.
    pub archived_objects: u64,
    /// Name of the manifest that counts, as the ledger says; none before the first commit.
    #[serde(default)]
    pub manifest: Option<String>,
    /// Bytes of closed segments that are not archived.
    pub backlog_bytes: u64,
    /// For how long the oldest of them has waited, in seconds; counted anew after a restart.
    pub backlog_seconds: u64,
    /// Whether the topic is archived at all.
    pub remote_storage_enable: bool,
    /// Why the last attempt to archive failed, until one succeeds; also among the troubles.
    pub last_error: Option<String>,
    /// Everything that goes wrong with the partition's archive now: since when, how often, and when it is tried again.
    #[serde(default)]
    pub troubles: Vec<Trouble>,
}

/// Calls to the object store that failed in a row; times in ms since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreTrouble {
    /// When the first of them failed.
    pub since_ms: TimestampMs,
    /// How many.
    pub calls: u64,
    /// The last failure.
    pub error: String,
}

/// What is wrong with the object store, unless its last call went right.
pub(crate) fn store_trouble(broker: &Broker, now: TimestampMs) -> Option<StoreTrouble> {
    let since = |elapsed: Duration| now.saturating_sub(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX));
    if let Some((elapsed, refused)) = broker.store.refused_for() {
        return Some(StoreTrouble { since_ms: since(elapsed), calls: 1, error: refused.to_string() });
    }
    let trouble = broker.cold.store_trouble()?;
    let since_ms = since(trouble.since.elapsed());
    Some(StoreTrouble { since_ms, calls: trouble.calls, error: trouble.error.to_string() })
}

/// Every partition of this node, by topic and index.
pub(crate) fn partitions(broker: &Broker, now: TimestampMs) -> Vec<PartitionStatus> {
    let mut all: Vec<_> = broker.partitions.all().iter().map(|partition| of(partition, now)).collect();
    all.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    all
}

fn of(partition: &Partition, now: TimestampMs) -> PartitionStatus {
    let ledger = partition.ledger();
    let archived_end = partition.archived_end();
    let backlog: Vec<_> = partition
        .log
        .segments()
        .into_iter()
        .filter(|s| partition.is_tiered() && s.closed && s.next_offset > archived_end)
        .collect();
    let troubles = partition.archive_troubles(now);
    let archiving = troubles.iter().find(|trouble| trouble.activity == Activity::Archive);
    PartitionStatus {
        topic: partition.topic.to_string(),
        topic_id: partition.id.topic_id.to_string(),
        partition: partition.id.partition,
        log_start: partition.log_start(),
        local_start: partition.local_start(),
        archived_end,
        last_stable: partition.last_stable_offset(),
        high_watermark: partition.high_watermark(),
        log_end: partition.log.log_end(),
        local_bytes: partition.log.size_bytes(),
        archived_bytes: ledger.as_ref().map_or(0, |p| p.bytes),
        archived_record_bytes: ledger.as_ref().map_or(0, |p| p.record_bytes),
        archived_objects: ledger.as_ref().map_or(0, |p| p.objects),
        manifest: ledger.as_ref().map(|p| p.object.clone()),
        backlog_bytes: backlog.iter().map(|s| s.size_bytes).sum(),
        backlog_seconds: partition.waiting_ms(now) / 1000,
        remote_storage_enable: partition.is_tiered(),
        last_error: archiving.map(|trouble| trouble.error.clone()),
        troubles,
    }
}

/// Sums of one topic.
#[derive(Debug, Default)]
struct TopicSums {
    local_bytes: u64,
    archived_bytes: u64,
    backlog_bytes: u64,
    backlog_seconds: u64,
    failing: u32,
}

/// Sets the gauges that follow from the partitions' state; called for every scrape.
#[allow(clippy::cast_precision_loss, reason = "Prometheus has no integers")]
pub(crate) fn record_gauges(broker: &Broker) {
    let mut topics: BTreeMap<String, TopicSums> = BTreeMap::new();
    let all = partitions(broker, broker.clock.settled_ms());
    metrics::gauge!("firn_partitions").set(all.len() as f64);
    for partition in all {
        let sums = topics.entry(partition.topic).or_default();
        sums.local_bytes += partition.local_bytes;
        sums.archived_bytes += partition.archived_bytes;
        sums.backlog_bytes += partition.backlog_bytes;
        sums.backlog_seconds = sums.backlog_seconds.max(partition.backlog_seconds);
        sums.failing += u32::from(partition.last_error.is_some());
    }
    for (topic, sums) in topics {
        metrics::gauge!("firn_log_bytes", "topic" => topic.clone(), "tier" => "hot").set(sums.local_bytes as f64);
        metrics::gauge!("firn_log_bytes", "topic" => topic.clone(), "tier" => "cold").set(sums.archived_bytes as f64);
        metrics::gauge!("firn_archive_backlog_bytes", "topic" => topic.clone()).set(sums.backlog_bytes as f64);
        metrics::gauge!("firn_archive_backlog_seconds", "topic" => topic.clone()).set(sums.backlog_seconds as f64);
        metrics::gauge!("firn_archive_failing_partitions", "topic" => topic).set(f64::from(sums.failing));
    }
    let all = broker.partitions.all();
    metrics::gauge!("firn_damaged_partitions")
        .set(all.iter().filter(|partition| partition.is_damaged()).count() as f64);
    let led: Vec<_> = all.iter().filter_map(|partition| partition.replication()).collect();
    let count = |is_so: fn(&Replication) -> bool| led.iter().filter(|r| is_so(r)).count() as f64;
    metrics::gauge!("firn_unopened_partitions").set(disk_watch::unopened(broker).len() as f64);
    metrics::gauge!("firn_leader_partitions").set(led.len() as f64);
    metrics::gauge!("firn_under_replicated_partitions").set(count(|r| r.in_sync < r.replicas));
    metrics::gauge!("firn_at_min_isr_partitions").set(count(|r| r.in_sync == r.least));
    metrics::gauge!("firn_under_min_isr_partitions").set(count(|r| r.in_sync < r.least));
    broker.metadata.record_gauges();
    disk_watch::record_gauges(broker);
    metrics::gauge!("firn_group_memory_bytes").set(broker.groups.memory_bytes() as f64);
    metrics::gauge!("firn_group_partitions_loading").set(broker.groups.loading() as f64);
    metrics::gauge!("firn_fetch_sessions").set(broker.fetch_sessions.len() as f64);
}
