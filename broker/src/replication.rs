//! Follows the leaders of the partitions that this node keeps as a follower (D4).
//!
//! ```text
//! image of the metadata ─▶ supervisor ─▶ one fetcher per leader ─▶ Fetch on its Kafka listener
//!                                            │ answer: append, one flush for all of it, then the next fetch
//!                                            └ nothing at that offset: the leader's state over the internal listener
//! ```
//!
//! The offset of a fetch is what is flushed here: the leader counts it for the high watermark. What a leader says counts
//! only in its epoch. A partition that cannot be followed rests by itself, for longer each time.
//!
//! Rooms: `fetcher` (the task for one leader), `session` (what the leader remembers of it), `apply` (answers
//! into logs), `narrowing` (which partition spoils an answer), `alignment` (where to go on when the leader has nothing there),
//! `pause`, `mending` (what the disk has changed).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hot_tier::HotTier;
use model::batch::MAX_BATCH_BYTES;
use model::{LeaderEpoch, NodeId};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::broker::{Broker, LISTENER};
use crate::config::{BrokerSettings, HostPort};
use crate::internal::client::Client;
use crate::machine::blocking;
use crate::metadata::ClusterImage;
use crate::partition::Partition;
use crate::throttle::Throttles;

pub(crate) mod alignment;
mod apply;
mod fetcher;
pub(crate) mod mending;
mod narrowing;
mod pause;
mod session;
mod told;

use fetcher::Fetcher;

/// What an answer holds beside records, at most.
const ANSWER_OVERHEAD_BYTES: usize = 16 << 20;
/// How a follower calls itself on its connection to a leader, in front of and behind its node id.
const NAME_PARTS: (&str, &str) = ("broker-", "-fetcher-");
/// Pause between two looks at what followers may drop from their local disks.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The client id of a follower's requests to a leader. Leaders of other versions know it, too.
pub(crate) fn follower_name(node_id: NodeId, leader: NodeId) -> String {
    let (before, behind) = NAME_PARTS;
    format!("{before}{node_id}{behind}{leader}")
}

/// True for the client id of a follower.
pub(crate) fn is_follower(client_id: &str) -> bool {
    let (before, behind) = NAME_PARTS;
    let ids = client_id.strip_prefix(before).and_then(|rest| rest.split_once(behind));
    ids.is_some_and(|(node_id, leader)| node_id.parse::<NodeId>().is_ok() && leader.parse::<NodeId>().is_ok())
}

/// What all fetchers share.
#[derive(Debug)]
pub(crate) struct Shared {
    node_id: NodeId,
    cluster_id: String,
    hot: HotTier,
    internal: Client,
    limits: Limits,
    throttles: Arc<Throttles>,
}

/// Bounds of a fetch.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Bytes per partition.
    max_bytes: i32,
    /// Bytes of an answer, except that one batch may exceed it.
    response_max_bytes: i32,
    /// Bytes for which the leader waits.
    min_bytes: i32,
    /// How long it does.
    max_wait: Duration,
    /// How much longer an answer may take.
    patience: Duration,
    /// A longer answer is none of ours.
    frame_max_bytes: usize,
}

impl From<&BrokerSettings> for Limits {
    fn from(settings: &BrokerSettings) -> Self {
        let int = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
        Limits {
            max_bytes: int(settings.replica_fetch_max_bytes),
            response_max_bytes: int(settings.replica_fetch_response_max_bytes),
            min_bytes: int(settings.replica_fetch_min_bytes),
            max_wait: settings.replica_fetch_wait_max,
            patience: settings.replica_socket_timeout,
            // A first batch may be as large as any that a log takes, whatever this node would take from a client.
            frame_max_bytes: settings
                .replica_fetch_response_max_bytes
                .saturating_add(MAX_BATCH_BYTES + ANSWER_OVERHEAD_BYTES),
        }
    }
}

/// A partition, and the leader epoch in which it is followed.
type Followed = (Arc<Partition>, LeaderEpoch);

/// What one leader is asked for, and how.
#[derive(Debug, Default)]
struct Assignment {
    address: Option<HostPort>,
    internal: Option<HostPort>,
    broker_epoch: i64,
    followed: Vec<Followed>,
}

/// Follows all leaders, until `stop`.
pub(crate) async fn replicate(broker: Arc<Broker>, stop: CancellationToken) {
    let shared = Arc::new(Shared {
        node_id: broker.config.node_id,
        cluster_id: broker.metadata.image().cluster_id().to_owned(),
        hot: broker.hot.clone(),
        internal: Client::new(),
        limits: Limits::from(&broker.config.settings.broker),
        throttles: Arc::clone(&broker.throttles),
    });
    let (mut layout, mut images) = (broker.partitions.watch_layout(), broker.metadata.watch());
    let mut supervisor = Supervisor { shared, assignments: BTreeMap::new(), fetchers: JoinSet::new() };
    loop {
        layout.borrow_and_update();
        let image = Arc::clone(&images.borrow_and_update());
        supervisor.follow(&broker, &image);
        tokio::select! {
            () = stop.cancelled() => break,
            _ = layout.changed() => {}
            changed = images.changed() => if changed.is_err() { break },
            Some(ended) = supervisor.fetchers.join_next() => if let Err(error) = ended && error.is_panic() {
                std::panic::resume_unwind(error.into_panic());
            },
        }
    }
    supervisor.fetchers.shutdown().await;
}

/// Keeps local logs small where this node follows, until `stop`.
pub(crate) async fn upkeep(broker: Arc<Broker>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(UPKEEP_INTERVAL) => {}
        }
        let (now, followed) = (broker.clock.settled_ms(), broker.partitions.followed());
        blocking::run(move || {
            for (partition, _) in followed {
                if let Err(error) = partition.keep_as_follower(now) {
                    warn!(topic = %partition.topic, partition = partition.id.partition, %error, "cannot tidy the local log of a follower");
                }
            }
        })
        .await;
    }
}

/// Gives each leader's fetcher its partitions.
struct Supervisor {
    shared: Arc<Shared>,
    assignments: BTreeMap<NodeId, watch::Sender<Arc<Assignment>>>,
    fetchers: JoinSet<()>,
}

impl Supervisor {
    fn follow(&mut self, broker: &Broker, image: &ClusterImage) {
        let mut by_leader: BTreeMap<NodeId, Vec<Followed>> = BTreeMap::new();
        for (partition, leadership) in broker.partitions.followed() {
            partition.follow_ledger(image.archive(partition.id));
            by_leader.entry(leadership.leader).or_default().push((partition, leadership.leader_epoch));
        }
        // Without partitions, a fetcher ends as its assignment goes.
        self.assignments.retain(|leader, _| by_leader.contains_key(leader));
        for (leader, mut followed) in by_leader {
            followed.sort_by_key(|(partition, _)| partition.id);
            let node = image.broker(leader);
            let listener = node.and_then(|node| node.listener(LISTENER));
            let assignment = Assignment {
                address: listener.map(|l| HostPort { host: l.host.clone(), port: l.port }),
                internal: node.and_then(|node| node.internal.parse().ok()),
                broker_epoch: broker.metadata.broker().broker_epoch,
                followed,
            };
            self.assign(leader, assignment);
        }
    }

    fn assign(&mut self, leader: NodeId, assignment: Assignment) {
        if let Some(assigned) = self.assignments.get(&leader) {
            if !assigned.borrow().says_the_same(&assignment) {
                assigned.send_replace(Arc::new(assignment));
            }
            return;
        }
        let (assigned, assignments) = watch::channel(Arc::new(assignment));
        self.fetchers.spawn(Fetcher::new(Arc::clone(&self.shared), leader, assignments).run());
        self.assignments.insert(leader, assigned);
    }
}

impl Assignment {
    fn says_the_same(&self, other: &Assignment) -> bool {
        let same = |(a, b): (&Followed, &Followed)| Arc::ptr_eq(&a.0, &b.0) && a.1 == b.1;
        (&self.address, &self.internal, self.broker_epoch) == (&other.address, &other.internal, other.broker_epoch)
            && self.followed.len() == other.followed.len()
            && self.followed.iter().zip(&other.followed).all(same)
    }
}

#[cfg(test)]
mod tests;
