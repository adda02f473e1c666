//! Nodes whose local disk has failed, is full or does not answer: others take over what they lead.
//!
//! A node reports the fault with its heartbeats (`sessions`), which need neither its disk nor the metadata log. The
//! controller then acts for it:
//!
//! - *failed*: the broker is fenced. It serves nothing; only a new process does.
//! - *full* or *slow*: the broker hands over, as one that is about to stop: partitions that another in-sync replica can lead
//!   move there, and it leaves their ISRs. It keeps what no other can lead, for its readers. When the fault has been gone for
//!   [`REJOIN_AFTER`], it registers again, as another incarnation, and gets its places back as a restarted broker does.
//!
//! Invariant: of the brokers that may lead, one that is healthy is always left; where every disk is full, nobody is moved.
//! A report names the registration that it is about: one of before says nothing about the next.

use std::fmt;
use std::time::Duration;

use coordinator::cluster::{Broker, BrokerRef, Cluster, Command};
use model::NodeId;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::liveness::{LOOK_AGAIN_AFTER, PATIENCE};
use super::succession::Succession;
use super::{Metadata, node_id};

/// How long a disk must have been free of faults before its broker takes part again.
const REJOIN_AFTER: Duration = Duration::from_secs(3);

/// What is wrong with a node's local disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DiskFault {
    /// A write or flush failed, of the log or of the metadata.
    Failed,
    /// It has no space left.
    Full,
    /// A flush has not returned for `firn.disk.stall.ms`.
    Slow,
}

impl fmt::Display for DiskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DiskFault::Failed => "failed",
            DiskFault::Full => "full",
            DiskFault::Slow => "slow",
        })
    }
}

/// A fault, and the error or the observation behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Impairment {
    pub(crate) fault: DiskFault,
    pub(crate) reason: String,
}

/// The fault that a node reports with a heartbeat; a heartbeat without one is an empty line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) fault: DiskFault,
    pub(super) reason: String,
    /// Its registration.
    pub(super) broker_epoch: i64,
}

/// What the controller has done for impaired brokers.
#[derive(Debug, Default)]
pub(super) struct Relief {
    /// Nothing more can be done in this state of the cluster for these brokers.
    done: Option<(u64, Vec<(NodeId, DiskFault)>)>,
    /// The term in which this node last offered the leadership of the log to others.
    offered_in: Option<u64>,
}

impl Metadata {
    /// Reports what is wrong with this node's disk. True when that is news.
    pub(crate) fn set_impairment(&self, impairment: Option<Impairment>) -> bool {
        let set = self.inner.impairment.send_if_modified(|current| {
            let is_news = *current != impairment;
            *current = impairment;
            is_news
        });
        if set {
            self.inner.sessions.ring();
        }
        set
    }

    /// What is wrong with this node's disk.
    pub(crate) fn impairment(&self) -> Option<Impairment> {
        self.inner.impairment.borrow().clone()
    }

    /// The fault of this node's disk.
    pub(crate) fn disk_fault(&self) -> Option<DiskFault> {
        self.inner.impairment.borrow().as_ref().map(|impairment| impairment.fault)
    }

    /// The report that goes out with a heartbeat.
    pub(super) fn report(&self) -> Option<Report> {
        let broker_epoch = self.broker().broker_epoch;
        if let Err(error) = self.health() {
            return Some(Report { fault: DiskFault::Failed, reason: error.to_string(), broker_epoch });
        }
        let Impairment { fault, reason } = self.impairment()?;
        Some(Report { fault, reason, broker_epoch })
    }

    pub(super) fn watch_impairment(&self) -> watch::Receiver<Option<Impairment>> {
        self.inner.impairment.subscribe()
    }

    /// As the controller: fences brokers whose disk has failed, and has those hand over whose disk is full or slow.
    pub(super) async fn relieve_impaired(&self, relief: &mut Relief) {
        let image = self.image();
        let fault = |broker: &Broker| Some((broker.id, self.fault_of(broker)?));
        let impaired: Vec<_> = image.brokers().filter(|broker| !broker.is_fenced).filter_map(fault).collect();
        let state = (image.version(), impaired);
        if !state.1.is_empty() && relief.done.as_ref() != Some(&state) {
            relief.done = self.relieve_all(&image, &state.1).await.then_some(state);
        }
        self.offer_leadership(relief).await;
    }

    /// True when nothing is left to try again.
    async fn relieve_all(&self, image: &Cluster, impaired: &[(NodeId, DiskFault)]) -> bool {
        let mut is_done = true;
        for (id, fault) in impaired {
            let Some(broker) = image.broker(*id) else { continue };
            if !self.has_healthy_other(image, *id) {
                is_done = false;
            } else if *fault == DiskFault::Failed {
                self.fence(broker, "its local disk has failed").await;
                is_done = false;
            } else if !broker.is_shutting_down || has_takers(image, *id) {
                is_done &= self.relieve(broker, *fault).await;
            }
        }
        is_done
    }

    /// The fault of a broker's disk, as its present registration reports it.
    fn fault_of(&self, broker: &Broker) -> Option<DiskFault> {
        if broker.id == self.node_id() {
            return self.disk_fault();
        }
        self.inner.sessions.of(broker.id)?.fault_of(broker.epoch)
    }

    /// Another broker could lead, is heard, and has a sound disk.
    fn has_healthy_other(&self, image: &Cluster, id: NodeId) -> bool {
        let is_here = |other: NodeId| other == self.node_id() || self.hears(other);
        let is_fit = |other: &Broker| other.is_active() && is_here(other.id) && self.fault_of(other).is_none();
        image.brokers().any(|other| other.id != id && is_fit(other))
    }

    /// Moves what others can lead and takes the broker out of their ISRs. False when that has to be tried again.
    async fn relieve(&self, broker: &Broker, fault: DiskFault) -> bool {
        let before = self.image();
        let known = BrokerRef { broker_id: broker.id, broker_epoch: broker.epoch };
        match self.submit_within(Command::ShutDownBroker(known), PATIENCE).await {
            Ok(_) => {
                let succession = Succession::between(&before, &self.image(), broker.id);
                tracing::warn!(broker = broker.id, disk = %fault, "an impaired broker hands over: {succession}");
                true
            }
            Err(error) => {
                tracing::debug!(broker = broker.id, %error, "an impaired broker has not handed over yet");
                false
            }
        }
    }

    /// An impaired leader of the log lets a healthy voter lead, once per term.
    async fn offer_leadership(&self, relief: &mut Relief) {
        let (term, voters) = {
            let metrics = self.inner.raft.metrics();
            let metrics = metrics.borrow();
            let voters: Vec<u64> = metrics.membership_config.membership().voter_ids().collect();
            (metrics.current_term, voters)
        };
        if self.disk_fault().is_none() || !self.leads() || relief.offered_in == Some(term) {
            return;
        }
        let is_fit = |id: NodeId| self.hears(id) && self.inner.sessions.of(id).is_some_and(|s| s.impaired.is_none());
        if voters.into_iter().map(node_id).any(|id| id != self.node_id() && is_fit(id)) {
            relief.offered_in = Some(term);
            self.resign().await;
            // It only paused for the election, and may lead another time.
            self.inner.raft.runtime_config().heartbeat(true);
        }
    }

    /// Takes part again, once a fault that made this broker hand over has been gone for a while.
    pub(super) async fn rejoin_when_healthy(&self) {
        let (mut images, mut serving) = (self.watch(), self.inner.is_serving.subscribe());
        let mut impairment = self.watch_impairment();
        loop {
            images.borrow_and_update();
            let is_impaired = impairment.borrow_and_update().is_some();
            if !self.has_handed_over() || is_impaired || !*serving.borrow_and_update() {
                tokio::select! {
                    changed = images.changed() => if changed.is_err() { return },
                    changed = serving.changed() => if changed.is_err() { return },
                    changed = impairment.changed() => if changed.is_err() { return },
                }
                continue;
            }
            let is_well = timeout(REJOIN_AFTER, impairment.changed()).await.is_err();
            // A registration whose answer was lost may be known by now.
            if is_well && *serving.borrow() && self.has_handed_over() {
                self.rejoin().await;
            }
        }
    }

    /// The cluster knows this broker as one that is about to stop.
    fn has_handed_over(&self) -> bool {
        let image = self.image();
        let known = image.broker(self.node_id());
        known.is_some_and(|known| known.epoch == self.broker().broker_epoch && known.is_shutting_down)
    }

    /// Registers as another incarnation of this broker. Its leaderships begin new epochs; it stays unfenced, for it serves.
    async fn rejoin(&self) {
        let incarnation = Uuid::new_v4();
        *self.inner.incarnation.lock() = incarnation;
        if let Err(error) = self.register_as(false).await {
            tracing::debug!(%error, "registering again was not answered");
        }
        // The answer may have been lost.
        let image = self.image();
        match image.broker(self.node_id()).filter(|known| known.incarnation == incarnation) {
            Some(known) => {
                self.inner.identity.set_broker_epoch(known.epoch);
                tracing::info!(broker = known.id, "the local disk is well again: this broker takes part again");
            }
            None => sleep(LOOK_AGAIN_AFTER).await,
        }
    }
}

/// The broker is in an ISR of which another active member can take over.
fn has_takers(image: &Cluster, id: NodeId) -> bool {
    let mut partitions = image.partitions();
    partitions.any(|(_, partition)| {
        let is_taker = |other: &NodeId| *other != id && image.is_active(*other);
        partition.has_leader() && partition.isr.contains(&id) && partition.isr.iter().any(is_taker)
    })
}
