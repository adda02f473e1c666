//! What a node does at its start until the cluster knows it: forms or finds the cluster, catches up with its log, registers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use coordinator::cluster::{ClusterError, Command, Listener, RegisterBroker, Reply};
use openraft::BasicNode;
use openraft::metrics::WaitError;
use tokio::time::{Instant, sleep, timeout};

use super::formation::tell;
use super::processes::REGISTERED_WITHIN;
use super::{Metadata, MetadataError, SubmitError, new_topic_id};

/// How long the log of a cluster of one may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Pause between two looks at a cluster that is not there yet.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(250);

type Metrics = openraft::RaftMetrics<u64, BasicNode>;

impl Metadata {
    /// Becomes part of the cluster, and registers this broker. Waits for the cluster as long as it takes.
    ///
    /// Every start is a new process of the broker: it gets a new broker epoch, and the partitions that it leads a new
    /// leader epoch (see `coordinator::cluster`).
    ///
    /// # Errors
    /// [`MetadataError`]: the log has stopped, or the cluster does not want this node.
    pub async fn enter(&self) -> Result<(), MetadataError> {
        let stopped = |error: openraft::error::Fatal<u64>| MetadataError::Stopped(error.to_string());
        if self.inner.last_at_start.is_some() {
            self.wait_for_other_process().await?;
        }
        self.inner.may_stand.store(true, Ordering::Release);
        if !self.inner.raft.is_initialized().await.map_err(stopped)? {
            Box::pin(self.form()).await?;
        }
        if self.is_alone() {
            self.lead_alone().await?;
            self.create_cluster().await?;
            self.pass_over_lost_numbers().await?;
        } else {
            self.wait_for_cluster().await?;
        }
        self.register(self.inner.listeners.clone()).await?;
        self.inner.writer.wait_for_room(true);
        Ok(())
    }

    /// Announces other addresses of this broker. Epochs and leaderships stay.
    ///
    /// # Errors
    /// [`MetadataError::Refused`] or [`MetadataError::Stopped`].
    pub async fn register(&self, listeners: Vec<Listener>) -> Result<(), MetadataError> {
        // Others may lead what this one led, until it serves.
        let is_fenced = self.image().brokers().any(|broker| broker.id != self.node_id()) || !self.is_alone();
        self.register_with(listeners, is_fenced).await
    }

    /// Registers as `incarnation` says, fenced or not.
    ///
    /// # Errors
    /// As [`Metadata::register`].
    pub(super) async fn register_as(&self, is_fenced: bool) -> Result<(), MetadataError> {
        self.register_with(self.inner.listeners.clone(), is_fenced).await
    }

    async fn register_with(&self, listeners: Vec<Listener>, is_fenced: bool) -> Result<(), MetadataError> {
        let request = RegisterBroker {
            broker_id: self.node_id(),
            incarnation: *self.inner.incarnation.lock(),
            listeners,
            internal: self.inner.place.internal.clone(),
            rack: self.inner.rack.clone(),
            log_id: self.inner.disk_id,
            topic_defaults: self.inner.topic_defaults.clone(),
            metadata_versions: self.inner.metadata_versions,
            is_fenced,
        };
        let (mut told, began) = (None, Instant::now());
        loop {
            match self.submit(Command::RegisterBroker(request.clone())).await {
                Ok(Reply::BrokerRegistered { broker_epoch }) => {
                    self.inner.identity.set_broker_epoch(broker_epoch);
                    return Ok(());
                }
                Ok(_) => return Ok(()),
                // The process before this one may be just ending, or silent and not fenced yet.
                Err(SubmitError::Refused(error @ ClusterError::BrokerIsAlive { .. }))
                    if began.elapsed() < REGISTERED_WITHIN =>
                {
                    tell(&mut told, || tracing::warn!(%error, "waiting for the end of the other process"));
                    sleep(LOOK_AGAIN_AFTER).await;
                }
                Err(SubmitError::Refused(error)) => return Err(MetadataError::Refused(error)),
                // The same process may ask again: it is registered once.
                Err(error) => {
                    self.health()?;
                    tell(&mut told, || tracing::warn!(%error, "waiting for the cluster, to register with it"));
                }
            }
        }
    }

    /// True when nobody else votes in the log.
    fn is_alone(&self) -> bool {
        let metrics = self.inner.raft.metrics().borrow().clone();
        metrics.membership_config.membership().voter_ids().eq([self.inner.raft_id])
    }

    /// Leads the log, and has applied everything that was in it.
    async fn lead_alone(&self) -> Result<(), MetadataError> {
        let stopped = |error: String| MetadataError::Stopped(error);
        let (raft, raft_id, last) = (&self.inner.raft, self.inner.raft_id, self.inner.last_at_start);
        if raft.current_leader().await.is_none() {
            raft.trigger().elect().await.map_err(|error| stopped(error.to_string()))?;
        }
        let is_ready = move |metrics: &Metrics| {
            metrics.current_leader == Some(raft_id) && metrics.last_applied.map(|id| id.index) >= last
        };
        let wait = raft.wait(Some(READY_WITHIN));
        match Box::pin(wait.metrics(is_ready, "this node leads and has applied its log")).await {
            Ok(_) => Ok(()),
            Err(WaitError::Timeout(waited, detail)) => Err(MetadataError::NotReady { waited, detail }),
            Err(error) => Err(stopped(error.to_string())),
        }
    }

    /// Waits until there is a cluster, and makes it as the one that leads the log.
    async fn wait_for_cluster(&self) -> Result<(), MetadataError> {
        let (mut images, mut metrics) = (self.watch(), self.inner.raft.metrics());
        let mut told = Some(Instant::now());
        while images.borrow_and_update().cluster_id().is_empty() {
            self.health()?;
            let leader = metrics.borrow_and_update().current_leader;
            if leader == Some(self.inner.raft_id) {
                self.create_cluster().await?;
                continue;
            }
            if leader.is_none() && self.inner.raft.is_initialized().await.unwrap_or(false) {
                // A peer that was started anew since has forgotten that it was asked before.
                self.ask_to_take_part().await;
            }
            tell(&mut told, || tracing::info!(?leader, "waiting for the cluster"));
            // Raft tells its metrics anew after every question, also when nothing has changed.
            let changed = async {
                tokio::select! { _ = images.changed() => {}, _ = metrics.wait_for(|now| now.current_leader != leader) => {} }
            };
            let _ = timeout(LOOK_AGAIN_AFTER, changed).await;
        }
        Ok(())
    }

    async fn create_cluster(&self) -> Result<(), MetadataError> {
        if !self.image().cluster_id().is_empty() {
            return Ok(());
        }
        let cluster_id = self.inner.cluster_id_if_new.clone().unwrap_or_else(|| new_topic_id().to_string());
        let metadata_version = self.inner.metadata_versions.max;
        match self.submit(Command::CreateCluster { cluster_id, metadata_version }).await {
            Ok(_) => Ok(()),
            Err(SubmitError::Refused(error)) if self.image().cluster_id().is_empty() => {
                Err(MetadataError::Refused(error))
            }
            Err(SubmitError::Refused(_)) => Ok(()),
            Err(error) if self.is_alone() => Err(MetadataError::Stopped(error.to_string())),
            Err(_) => Ok(()),
        }
    }
}
