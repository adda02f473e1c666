//! Metrics of the process: one recorder, described once, rendered for Prometheus.

use std::sync::OnceLock;

use metrics::Unit;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds of the latency histograms, in seconds.
const LATENCY_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// The process's metrics.
#[derive(Debug, Clone, Default)]
pub(crate) struct Telemetry {
    handle: Option<PrometheusHandle>,
}

impl Telemetry {
    /// Installs the recorder, the first time; a process has one.
    pub(crate) fn install() -> Self {
        if cfg!(feature = "simulation") {
            // Its clock measures itself against the system's, and nobody scrapes.
            return Telemetry::default();
        }
        let handle = RECORDER.get_or_init(|| {
            let builder =
                PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &LATENCY_BUCKETS);
            let installed = builder.and_then(|builder| builder.install_recorder());
            if let Err(error) = &installed {
                tracing::warn!(%error, "metrics are not recorded");
            }
            describe();
            installed.ok()
        });
        Telemetry { handle: handle.clone() }
    }

    /// The metrics as Prometheus text.
    pub(crate) fn render(&self) -> String {
        self.handle.as_ref().map(PrometheusHandle::render).unwrap_or_default()
    }

    /// Housekeeping that keeps histograms bounded between scrapes.
    pub(crate) fn upkeep(&self) {
        if let Some(handle) = &self.handle {
            handle.run_upkeep();
        }
    }
}

fn describe() {
    use metrics::{describe_counter as counter, describe_gauge as gauge, describe_histogram as histogram};
    counter!("firn_requests_total", "Requests, by API.");
    counter!("firn_request_bytes_total", Unit::Bytes, "Bytes of requests, by API.");
    counter!("firn_response_bytes_total", Unit::Bytes, "Bytes of responses, by API.");
    histogram!("firn_request_seconds", Unit::Seconds, "Time from a request's last byte to its reply's, by API.");
    gauge!(
        "firn_iceberg_commit_lag_seconds",
        Unit::Seconds,
        "How long a topic's Iceberg table has not shown the ledger."
    );
    counter!("firn_iceberg_commits_total", "Commits to Iceberg tables, by outcome.");
    gauge!("firn_connections", "Open client connections.");
    counter!("firn_admin_connections_cut_total", "Connections to the admin port that were closed for want of places.");
    gauge!("firn_fetch_sessions", "Incremental fetch sessions.");
    gauge!("firn_group_memory_bytes", Unit::Bytes, "What the consumer groups coordinated here keep in memory.");
    gauge!("firn_group_partitions_loading", "Partitions of __consumer_offsets whose groups are being loaded.");
    gauge!("firn_partitions", "Partitions of which this node keeps a replica.");
    gauge!("firn_leader_partitions", "Partitions that this node leads.");
    gauge!("firn_under_replicated_partitions", "Partitions led here that have replicas out of sync.");
    gauge!("firn_at_min_isr_partitions", "Partitions led here with just as many replicas in sync as acks=all needs.");
    gauge!("firn_under_min_isr_partitions", "Partitions led here with too few replicas in sync for acks=all.");
    gauge!(
        "firn_damaged_partitions",
        "Partitions with local records that the disk has changed and no replica has restored."
    );
    gauge!("firn_unopened_partitions", "Partitions that this node should serve and cannot open until a restart.");
    counter!("firn_damage_mended_total", "Places of local logs that were restored from another replica.");
    counter!("firn_isr_shrinks_total", "Replicas that left the in-sync replicas of partitions led here, by change.");
    counter!("firn_isr_expands_total", "Replicas that joined the in-sync replicas of partitions led here, by change.");
    counter!("firn_produced_bytes_total", Unit::Bytes, "Bytes of record batches appended for producers.");
    counter!("firn_produced_records_total", "Records appended for producers.");
    gauge!("firn_log_bytes", Unit::Bytes, "Bytes of a topic, by tier (hot: record batches, cold: Parquet objects).");
    gauge!("firn_archive_backlog_bytes", Unit::Bytes, "Bytes of closed segments that are not archived, by topic.");
    gauge!(
        "firn_archive_backlog_seconds",
        Unit::Seconds,
        "Waiting time of the oldest closed segment that is not archived, by topic."
    );
    gauge!("firn_archive_failing_partitions", "Partitions whose last attempt to archive failed, by topic.");
    counter!("firn_archive_failures_total", "Passes of the archiver that failed.");
    counter!("firn_replication_bytes_total", Unit::Bytes, "Bytes of record batches taken from leaders.");
    counter!(
        "firn_replication_fetch_failures_total",
        "Fetches from leaders that failed, and partitions that could not be followed."
    );
    gauge!(
        "firn_replication_lag_offsets",
        "Offsets that the leader has committed and this follower lacks, by topic and partition."
    );
    gauge!("firn_disk_impaired", "1 when the local disk has that fault (failed, full or slow), by fault.");
    gauge!("firn_disk_flush_age_seconds", Unit::Seconds, "How long the flush under way has taken; 0 without one.");
    gauge!("firn_disk_total_bytes", Unit::Bytes, "Size of the data folder's disk.");
    gauge!("firn_disk_usable_bytes", Unit::Bytes, "Space left on the data folder's disk; 0 while it refuses writes.");
    gauge!("firn_metadata_has_leader", "1 when this node knows a leader of the metadata log.");
    gauge!("firn_metadata_is_leader", "1 when this node is the leader of the metadata log.");
    gauge!("firn_metadata_term", "Number of the leadership of the metadata log.");
    gauge!("firn_metadata_last_applied", "The last entry of the metadata log that this node shows.");
    gauge!("firn_metadata_voters", "Nodes that vote on the metadata log.");
    gauge!("firn_metadata_learners", "Nodes that only follow the metadata log.");
    gauge!("firn_metadata_follower_lag", "Entries that a node lacks, as the leader knows it, by node; NaN elsewhere.");
    counter!("firn_evicted_bytes_total", Unit::Bytes, "Bytes of archived segments dropped from local disk.");
}
