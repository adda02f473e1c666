//! Background work on partitions: settling into the archive, retention, and the sweep of orphaned objects.
//!
//! Each is a loop with a pause; a partition whose pass fails waits by itself and holds up no other. Missing or uncertain
//! state never deletes anything: objects go only when the ledger says that no manifest names them.

mod slots;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cold_tier::{ArchiveError, SweepBy, SweepReport};
use coordinator::cluster::{Command, DeletedTopic};
use futures::{StreamExt, stream};
use model::LeaderEpoch;
use model::archive::ManifestPointer;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::slots::Slots;
use crate::broker::Broker;
use crate::crash_point::crash_point;
use crate::machine::blocking;
use crate::metadata::ClusterImage;
use crate::partition::{Activity, Partition, SettleError, Upkeep};

/// Partitions whose retention is looked at together: each may read a manifest.
const RETENTION_CONCURRENCY: usize = 8;
/// Pause between two checks for what waited for a checkpoint or for the archive.
const FOLLOW_UP_INTERVAL: Duration = Duration::from_secs(1);
/// Partitions whose archived objects are looked for together: a store that comes back must not meet a crowd.
const EVICTION_CONCURRENCY: usize = 1;
/// Partitions whose manifests are read together to verify their lineage.
const LINEAGE_CONCURRENCY: usize = 16;
/// How long the metadata have to confirm that this node leads a partition.
const UP_TO_DATE_WITHIN: Duration = Duration::from_secs(5);

/// Archives closed segments and evicts local copies, until `stop`.
pub(crate) async fn settle(broker: Arc<Broker>, stop: CancellationToken) {
    let slots = Arc::new(Slots::new(broker.config.settings.broker.archive_concurrency));
    let mut passes = JoinSet::new();
    while pause(&stop, broker.config.settings.broker.archive_interval).await {
        while passes.try_join_next().is_some() {}
        for partition in broker.partitions.led() {
            if !partition.needs_settling(broker.clock.settled_ms()) {
                continue;
            }
            let Ok(turn) = Arc::clone(&partition.background).try_lock_owned() else { continue };
            let (broker, slots, stop) = (Arc::clone(&broker), Arc::clone(&slots), stop.clone());
            passes.spawn(async move {
                let Some(_slot) = slots.take().await else { return };
                if !stop.is_cancelled() {
                    let max_pause = broker.config.settings.broker.archive_retry_max;
                    let upkeep =
                        Upkeep { metadata: &broker.metadata, store: &broker.store, now: broker.clock.settled_ms() };
                    // A partition whose segments keep closing leaves its slot to those that wait for one.
                    let others_wait = || slots.are_awaited();
                    partition.settle(&upkeep, max_pause, &others_wait).await;
                }
                drop(turn);
            });
        }
    }
    // A pass may be cut off anywhere: the next start continues from the ledger.
    passes.shutdown().await;
}

/// Evicts what local retention wants gone, once this node has seen it in the object store, until `stop`.
pub(crate) async fn evict(broker: Arc<Broker>, stop: CancellationToken) {
    while pause(&stop, broker.config.settings.broker.archive_interval).await {
        let now = broker.clock.settled_ms();
        let evicting = stream::iter(broker.partitions.all()).for_each_concurrent(EVICTION_CONCURRENCY, |partition| {
            let broker = Arc::clone(&broker);
            async move { partition.evict_seen(&broker.store, now).await }
        });
        tokio::select! {
            () = stop.cancelled() => return,
            () = evicting => {}
        }
    }
}

/// Enforces total and local retention, until `stop`.
///
/// Each partition waits for its own turn: one whose settling hangs on the object store does not keep the others' local
/// disks from being relieved.
pub(crate) async fn retain(broker: Arc<Broker>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(RETENTION_CONCURRENCY));
    let mut passes = JoinSet::new();
    while pause(&stop, broker.config.settings.broker.retention_check_interval).await {
        while passes.try_join_next().is_some() {}
        for partition in broker.partitions.led() {
            let Ok(only) = Arc::clone(&partition.retention).try_lock_owned() else { continue };
            let (broker, slots) = (Arc::clone(&broker), Arc::clone(&slots));
            passes.spawn(async move {
                let _only = only;
                let _turn = partition.background.lock().await;
                // What is only local needs no store, and waits for no pass that does.
                let _slot = if partition.is_tiered() { slots.acquire().await.ok() } else { None };
                let outcome = match broker.store.refused().filter(|_| partition.is_tiered()) {
                    None => partition.retain(&broker.metadata, broker.clock.settled_ms()).await,
                    Some(refused) => Err(refused.into()),
                };
                partition.note_upkeep(Activity::Retention, &outcome);
                if let Err(error) = outcome
                    && partition.term().is_some()
                {
                    warn!(topic = %partition.topic, partition = partition.id.partition, %error, "retention failed and is tried again");
                }
            });
        }
    }
    passes.shutdown().await;
}

/// Finds out whether the logs of new leaders continue the archive, until `stop`. One whose manifest does not come holds up no
/// other one.
pub(crate) async fn verify_lineages(broker: Arc<Broker>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(LINEAGE_CONCURRENCY));
    let mut passes = JoinSet::new();
    while pause(&stop, FOLLOW_UP_INTERVAL).await {
        while passes.try_join_next().is_some() {}
        for partition in broker.partitions.led().into_iter().filter(|partition| partition.is_lineage_open()) {
            let Ok(only) = Arc::clone(&partition.verifying).try_lock_owned() else { continue };
            let slots = Arc::clone(&slots);
            passes.spawn(async move {
                let (_only, _slot) = (only, slots.acquire().await.ok());
                partition.verify_lineage().await;
            });
        }
    }
    passes.shutdown().await;
}

/// Evicts what had to wait for a checkpoint as soon as there is one, until `stop`.
pub(crate) async fn follow_up(broker: Arc<Broker>, stop: CancellationToken) {
    while pause(&stop, FOLLOW_UP_INTERVAL).await {
        for partition in broker.partitions.led() {
            if !partition.log.can_evict_more() {
                continue;
            }
            let Ok(turn) = Arc::clone(&partition.background).try_lock_owned() else { continue };
            let (now, evicting) = (broker.clock.settled_ms(), Arc::clone(&partition));
            if let Err(error) = blocking::run(move || evicting.evict(now)).await {
                warn!(topic = %partition.topic, partition = partition.id.partition, %error, "cannot evict archived segments");
            }
            drop(turn);
        }
    }
}

/// Removes objects that no manifest names and the archives of deleted topics, until `stop`.
pub(crate) async fn sweep(broker: Arc<Broker>, stop: CancellationToken) {
    let mut has_told = false;
    while pause(&stop, broker.config.settings.broker.sweep_interval).await {
        // Another store's objects are none of this cluster's to delete.
        if let Err(error) = broker.store.check().await {
            warn!(%error, "the sweep waits until the object store is known to be the cluster's");
            continue;
        }
        let image = broker.metadata.image();
        if image.was_recovered() && !std::mem::replace(&mut has_told, true) {
            warn!(
                "the metadata were recovered from a copy that may lack changes: objects that no manifest names are kept"
            );
        }
        for partition in broker.partitions.led() {
            let is_due = partition.is_unswept.load(Ordering::Acquire) && !image.was_recovered();
            if is_due && !stop.is_cancelled() {
                sweep_partition(&broker, &partition).await;
            }
        }
        // One node is enough.
        let purger = image.brokers().find(|broker| !broker.is_fenced).map(|broker| broker.id);
        for topic in image.deleted_topics().filter(|_| purger == Some(broker.config.node_id)) {
            if !stop.is_cancelled() {
                purge(&broker, topic).await;
            }
        }
    }
}

async fn sweep_partition(broker: &Broker, partition: &Partition) {
    let _turn = partition.background.lock().await;
    let Some(term) = partition.term() else { return };
    // Set before the listing: what a later commit leaves behind is found by the next sweep.
    partition.is_unswept.store(false, Ordering::Release);
    let pointer = partition.ledger();
    crash_point("sweep.begun");
    let by = SweepBy { leader_epoch: term, now: broker.clock.settled_ms() };
    let swept = broker.cold.sweep_partition(&partition.topic, partition.id, pointer.as_deref(), by).await;
    let outcome = settle_ahead(broker, partition, term, pointer.as_deref(), swept.map_err(SettleError::from)).await;
    if partition.term() == Some(term) {
        partition.note_upkeep(Activity::Sweep, &outcome);
    }
    match outcome {
        Ok(report) => {
            if report.waiting > 0 || partition.awaits_orphans(broker.config.settings.broker.sweep_grace) {
                partition.is_unswept.store(true, Ordering::Release);
            }
            if report.deleted > 0 {
                crash_point("sweep.deleted");
                info!(topic = %partition.topic, partition = partition.id.partition, objects = report.deleted, bytes = report.deleted_bytes, "swept orphaned objects");
            }
        }
        Err(error) => {
            partition.is_unswept.store(true, Ordering::Release);
            warn!(topic = %partition.topic, partition = partition.id.partition, %error, "the sweep failed and is tried again");
        }
    }
}

/// A bucket that knows more than the ledger: its newest manifest is adopted, or the sweep is held up until a person decides.
/// Nothing was deleted.
async fn settle_ahead(
    broker: &Broker,
    partition: &Partition,
    term: LeaderEpoch,
    pointer: Option<&ManifestPointer>,
    swept: Result<SweepReport, SettleError>,
) -> Result<SweepReport, SettleError> {
    let report = swept?;
    if let Some(object) = report.held {
        return Err(SettleError::SweepHeld { object });
    }
    let Some(object) = report.ahead.clone() else { return Ok(report) };
    // A leader that is cut off sees what its successor has written.
    let leads = |image: &ClusterImage| {
        image.partition(partition.id).is_some_and(|p| p.leader == broker.config.node_id && p.leader_epoch == term)
    };
    if !broker.metadata.is_up_to_date(UP_TO_DATE_WITHIN).await || !leads(&broker.metadata.image()) {
        return Err(SettleError::NotLeader);
    }
    let refused = match partition.adopt_newer(&broker.metadata, term).await {
        Ok(true) => return Ok(SweepReport { waiting: report.waiting.max(1), ..report }),
        Ok(false) if partition.ledger().as_deref() != pointer => {
            return Ok(SweepReport { waiting: report.waiting.max(1), ..report });
        }
        Ok(false) => {
            let reason = "it was written in a leader epoch above this leader's".to_owned();
            SettleError::Ahead { object, reason }
        }
        Err(error) => error,
    };
    if let SettleError::Ahead { object, .. } = &refused {
        broker.cold.hold_sweep(&partition.topic, partition.id, object).await.map_err(ArchiveError::from)?;
    }
    Err(refused)
}

/// Removes what a deleted topic left in the archive, then tells the cluster that nothing is left.
///
/// Not before the grace period is over: queries and readers that have begun are to end, as with all that no manifest names.
/// An upload that was under way when the topic went may arrive later: the cluster remembers the topic, and its folder is
/// looked at again, until it was found empty.
async fn purge(broker: &Broker, topic: &DeletedTopic) {
    let grace_ms = i64::try_from(broker.config.settings.broker.sweep_grace.as_millis()).unwrap_or(i64::MAX);
    if broker.clock.settled_ms() <= topic.deleted_ms.saturating_add(grace_ms) {
        return;
    }
    let report = match broker.cold.delete_topic(&topic.name, topic.id).await {
        Ok(report) => report,
        Err(error) => {
            warn!(topic = %topic.name, %error, "cannot remove the archive of a deleted topic, it is tried again");
            return;
        }
    };
    crash_point("purge.deleted");
    if report.listed > 0 {
        return;
    }
    match broker.metadata.submit(Command::ArchivePurged { topic_id: topic.id }).await {
        Ok(_) => info!(topic = %topic.name, topic_id = %topic.id, "removed the archive of a deleted topic"),
        Err(error) => warn!(topic = %topic.name, %error, "cannot report that an archive is removed, it is tried again"),
    }
}

/// Waits; `false` when it is time to stop.
async fn pause(stop: &CancellationToken, pause: Duration) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(pause) => true,
    }
}
