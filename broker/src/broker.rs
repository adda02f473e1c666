//! The broker: what all handlers and background tasks share.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cold_tier::ColdTier;
use coordinator::group::DeletedTopics;
use hot_tier::HotTier;
use model::topic_name::GROUP_OFFSETS_TOPIC;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::config::Config;
use crate::groups::GroupCoordinator;
use crate::groups::log::OffsetsLog;
use crate::handlers::fetch::session::FetchSessions;
use crate::machine::blocking;
use crate::memory::Memory;
use crate::metadata::{ClusterImage, Metadata};
use crate::partitions::{Partitions, Rooms};
use crate::producer_ids::ProducerIds;
use crate::store_identity::StoreIdentity;
use crate::throttle::Throttles;
use crate::timing::Clock;

/// Name of the one listener, in the metadata and in Kafka's settings.
pub(crate) const LISTENER: &str = "PLAINTEXT";

/// One node.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) metadata: Metadata,
    pub(crate) hot: HotTier,
    pub(crate) cold: ColdTier,
    pub(crate) store: Arc<StoreIdentity>,
    pub(crate) partitions: Arc<Partitions>,
    /// Rung when the ISRs of led partitions should be looked at.
    pub(crate) isr_bell: Arc<Notify>,
    pub(crate) groups: GroupCoordinator,
    /// The image that group coordination follows.
    pub(crate) following_groups: Mutex<Option<Arc<ClusterImage>>>,
    pub(crate) fetch_sessions: FetchSessions,
    pub(crate) memory: Memory,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) throttles: Arc<Throttles>,
    pub(crate) is_ready: AtomicBool,
}

impl Broker {
    /// Brings partitions and group coordination in step with the cluster's metadata, on a thread that may block: opening,
    /// truncating and moving logs waits for the disk. Cheap when nothing changed.
    pub(crate) async fn follow_metadata(self: &Arc<Self>) {
        let broker = Arc::clone(self);
        blocking::run(move || broker.follow_metadata_blocking()).await;
    }

    fn follow_metadata_blocking(&self) {
        // The leaderships that the image gives to this node id are another process's.
        if self.metadata.is_replaced() {
            return;
        }
        let rooms = Rooms {
            node_id: self.config.node_id,
            hot: &self.hot,
            cold: &self.cold,
            settings: &self.config.settings,
            isr_bell: &self.isr_bell,
        };
        self.partitions.follow(|| self.metadata.image(), &rooms);
        self.throttles.follow(&self.metadata.image(), self.config.node_id);
        self.follow_group_offsets();
    }

    /// Serves the groups of the partitions that this node leads, and no others. Removes the offsets of deleted topics,
    /// whether or not this node kept a replica of them.
    fn follow_group_offsets(&self) {
        // The newest image is taken under the lock: an older one must not undo a newer one.
        let mut followed = self.following_groups.lock();
        let image = self.metadata.image();
        let before = followed.replace(Arc::clone(&image));
        if let Some(before) = before.filter(|before| !image.shares_layout_with(before)) {
            let deleted = deleted_since(&before, &image);
            if !deleted.is_empty() {
                self.groups.forget_topics(&deleted);
            }
        }
        let Some(topic) = image.topic(GROUP_OFFSETS_TOPIC) else { return };
        self.groups.set_partition_count(topic.partitions);
        for partition in 0..topic.partitions {
            let led = self.partitions.leader_by_id(topic.id, partition).ok();
            match led.and_then(|led| led.term().map(|term| (term, led))) {
                Some((term, led)) => {
                    let log = OffsetsLog::Partition(led, term);
                    self.groups.lead(partition, term, log, || known_deleted(&image));
                }
                None => self.groups.resign(partition),
            }
        }
    }

    /// True once requests are served.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }
}

/// Topics of an image that a newer one no longer has. An id is never used again, so it was deleted.
fn deleted_since(before: &ClusterImage, image: &ClusterImage) -> DeletedTopics {
    let mut deleted = DeletedTopics::default();
    let current: BTreeSet<_> = image.topics().map(|topic| topic.id).collect();
    for topic in before.topics().filter(|topic| !current.contains(&topic.id)) {
        deleted.insert(&topic.name, topic.id, image.deleted_topic(topic.id).map(|known| known.deleted_ms));
    }
    deleted
}

/// Deleted topics that the metadata still names.
fn known_deleted(image: &ClusterImage) -> DeletedTopics {
    let mut deleted = DeletedTopics::default();
    for topic in image.deleted_topics() {
        deleted.insert(&topic.name, topic.id, Some(topic.deleted_ms));
    }
    deleted
}
