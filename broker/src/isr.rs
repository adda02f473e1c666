//! Keeps the in-sync replicas of the partitions that this node leads (KIP-497).
//!
//! One loop asks for all changes that are due in one command: when a follower has caught up, when the metadata tell of a
//! broker that is lost, and every so often for followers that have fallen behind. An answer that is not certain is asked
//! for again; until it is known, the high watermark waits for everybody who may be in the ISR.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator::cluster::{AlteredPartition, ClusterError, Command, IsrChange, Reply};
use model::NodeId;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::broker::Broker;
use crate::metadata::{DiskFault, SubmitError};
use crate::partition::{Asked, Partition, WantedIsr};
use crate::places::Places;

/// Longest pause between two looks for followers that have fallen behind.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Pause after an attempt without a certain answer.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How long a look waits for more to look at.
const GATHERING: Duration = Duration::from_millis(2);
/// Changes in one command: so few that the cluster remembers its answer.
const MAX_CHANGES: usize = 250;

/// A change that is asked for.
struct Change {
    partition: Arc<Partition>,
    wanted: WantedIsr,
    change: IsrChange,
}

/// Keeps the ISRs until `stop`.
pub(crate) async fn keep(broker: Arc<Broker>, stop: CancellationToken) {
    let mut layout = broker.partitions.watch_layout();
    let max_lag = broker.config.settings.broker.replica_lag_max;
    let pause = (max_lag / 2).clamp(Duration::from_millis(10), LONGEST_PAUSE);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = broker.isr_bell.notified() => {}
            changed = layout.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
        // Many may have rung for the same.
        tokio::time::sleep(GATHERING).await;
        let wanted = wanted(&broker, max_lag);
        for changes in wanted.chunks(MAX_CHANGES) {
            tokio::select! {
                () = stop.cancelled() => return,
                is_certain = ask(&broker, changes) => if !is_certain {
                    tokio::time::sleep(RETRY_PAUSE).await;
                },
            }
        }
    }
}

/// The changes to ask for. A leader whose disk is impaired takes no follower out of an ISR for its lag: the followers may be
/// behind because of the leader, and are needed to take over.
fn wanted(broker: &Broker, max_lag: Duration) -> Vec<Change> {
    let max_lag = match broker.metadata.disk_fault() {
        Some(DiskFault::Failed) => return Vec::new(),
        Some(DiskFault::Full | DiskFault::Slow) => Duration::MAX,
        None => max_lag,
    };
    let (image, own_epoch, now) = (broker.metadata.image(), broker.metadata.broker().broker_epoch, Instant::now());
    let of = |partition: Arc<Partition>| {
        let (wanted, change) = partition.want_isr(&image, own_epoch, max_lag, now)?;
        Some(Change { partition, wanted, change })
    };
    broker.partitions.led().into_iter().filter_map(of).collect()
}

/// Asks for the changes, and makes the answers true here. `false` when no certain answer came.
async fn ask(broker: &Arc<Broker>, changes: &[Change]) -> bool {
    let command = Command::AlterPartitions {
        broker: broker.metadata.broker(),
        changes: changes.iter().map(|change| change.change.clone()).collect(),
    };
    let outcome = broker.metadata.submit(command).await;
    // The image may tell more than the answer.
    broker.follow_metadata().await;
    let now = Instant::now();
    match outcome {
        Ok(Reply::PartitionsAltered(altered)) if altered.len() == changes.len() => {
            let mut moves = Moves::default();
            for (change, altered) in changes.iter().zip(altered) {
                change.answered(altered, now, &mut moves);
            }
            moves.tell();
            true
        }
        Err(error @ (SubmitError::Refused(_) | SubmitError::NotApplied { .. })) => {
            warn!(%error, partitions = changes.len(), "cannot change in-sync replicas, it is tried again");
            changes.iter().for_each(|change| change.partition.isr_asked(&change.wanted, Asked::Refused, now));
            false
        }
        outcome => {
            warn!(
                ?outcome,
                partitions = changes.len(),
                "whether in-sync replicas have changed is unknown, it is asked again"
            );
            changes.iter().for_each(|change| change.partition.isr_asked(&change.wanted, Asked::Open, now));
            false
        }
    }
}

impl Change {
    fn answered(&self, altered: Result<AlteredPartition, ClusterError>, now: Instant, moves: &mut Moves) {
        let (topic, partition) = (&self.partition.topic, self.partition.id.partition);
        match altered {
            Ok(altered) => {
                self.report(&altered.partition.isr, moves);
                self.partition.isr_asked(&self.wanted, Asked::Answered, now);
            }
            Err(error) => {
                debug!(%topic, partition, %error, "a change of the in-sync replicas was refused");
                self.partition.isr_asked(&self.wanted, Asked::Refused, now);
            }
        }
    }

    fn report(&self, isr: &[NodeId], moves: &mut Moves) {
        let (topic, partition) = (&self.partition.topic, self.partition.id.partition);
        let lacks = |those: &[NodeId], these: &[NodeId]| -> Vec<NodeId> {
            these.iter().copied().filter(|id| !those.contains(id)).collect()
        };
        let (left, joined) = (lacks(isr, &self.wanted.old), lacks(&self.wanted.old, isr));
        debug!(%topic, partition, ?left, ?joined, ?isr, "the in-sync replicas have changed");
        if !left.is_empty() {
            metrics::counter!("firn_isr_shrinks_total").increment(1);
            moves.left.entry(left).or_default().add(topic, partition);
        }
        if !joined.is_empty() {
            metrics::counter!("firn_isr_expands_total").increment(1);
            moves.joined.entry(joined).or_default().add(topic, partition);
        }
    }
}

/// Who left and who joined the ISRs of which partitions, by one answer.
#[derive(Debug, Default)]
struct Moves {
    left: BTreeMap<Vec<NodeId>, Places>,
    joined: BTreeMap<Vec<NodeId>, Places>,
}

impl Moves {
    fn tell(&self) {
        for (left, places) in &self.left {
            let partitions = places.count();
            warn!(?left, partitions, first = %places, "replicas are no longer in sync: they are down, or too far behind");
        }
        for (joined, places) in &self.joined {
            info!(?joined, partitions = places.count(), first = %places, "replicas are in sync again");
        }
    }
}
