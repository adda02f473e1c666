//! The partitions of this node, by name and by id, kept in step with the cluster's metadata.
//!
//! Invariants: a partition is here exactly when the metadata names this node among its replicas; a log on disk that the
//! metadata does not know is left alone unless the metadata says that its topic was deleted.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use cold_tier::ColdTier;
use coordinator::cluster::{Cluster, NO_LEADER, Topic};
use hot_tier::{HotTier, PartitionLog, StorageError};
use model::settings::{SettingsMap, TopicSettings};
use model::{NodeId, PartitionIndex, TopicId, TopicName, TopicPartition};
use parking_lot::Mutex;
use protocol::ErrorCode;
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use crate::config::Settings;
use crate::config::layers::{DefaultLayers, Ignored};
use crate::crash_point::crash_point;
use crate::metadata::ClusterImage;
use crate::partition::{Leadership, Partition, State};

mod turns;

use turns::Turns;

/// A topic's partitions by index; a hole is a partition that only other nodes keep.
#[derive(Debug)]
struct Entry {
    id: TopicId,
    partitions: Vec<Option<Arc<Partition>>>,
}

#[derive(Debug, Default)]
struct Directory {
    by_name: HashMap<TopicName, Arc<Entry>>,
    by_id: HashMap<TopicId, Arc<Entry>>,
}

/// What the last look at the metadata found.
#[derive(Debug, Default)]
struct Followed {
    open: HashMap<TopicPartition, Arc<Partition>>,
    settings: HashMap<TopicId, (SettingsMap, Arc<TopicSettings>)>,
    defaults: Option<(SettingsMap, Option<SettingsMap>)>,
    strays: HashSet<TopicPartition>,
    /// Partitions that the local disk could not open: told once.
    unopened: HashSet<TopicPartition>,
    /// Stored settings that count as not given, with their topic if it is the topic's own: told once.
    ignored: HashSet<(Option<String>, String, String)>,
    /// The image that everything else here follows; none while a partition could not be opened.
    image: Option<Arc<ClusterImage>>,
}

/// All partitions of this node.
#[derive(Debug)]
pub(crate) struct Partitions {
    directory: ArcSwap<Directory>,
    // Held while the metadata is followed: a change is seen by one follower at a time.
    followed: Mutex<Followed>,
    /// Version of the image that the directory shows.
    layout: watch::Sender<u64>,
}

/// What is needed to open partitions.
#[derive(Debug)]
pub(crate) struct Rooms<'a> {
    pub(crate) node_id: NodeId,
    pub(crate) hot: &'a HotTier,
    pub(crate) cold: &'a ColdTier,
    pub(crate) settings: &'a Settings,
    pub(crate) isr_bell: &'a Arc<Notify>,
}

impl Rooms<'_> {
    fn cold_timeout(&self) -> Duration {
        self.settings.broker.cold_fetch_timeout
    }
}

impl Partitions {
    pub(crate) fn new() -> Self {
        Partitions { directory: ArcSwap::default(), followed: Mutex::default(), layout: watch::Sender::new(0) }
    }

    /// The partition of that topic name, which this node leads.
    ///
    /// # Errors
    /// As [`Partitions::replica_by_name`], and `NOT_LEADER_OR_FOLLOWER` when another node leads it.
    pub(crate) fn leader_by_name(&self, topic: &str, partition: PartitionIndex) -> Result<Arc<Partition>, ErrorCode> {
        led(self.replica_by_name(topic, partition)?)
    }

    /// The partition of that topic id, which this node leads.
    ///
    /// # Errors
    /// As [`Partitions::replica_by_id`], and `NOT_LEADER_OR_FOLLOWER` when another node leads it.
    pub(crate) fn leader_by_id(&self, topic: TopicId, partition: PartitionIndex) -> Result<Arc<Partition>, ErrorCode> {
        led(self.replica_by_id(topic, partition)?)
    }

    /// The partition of that topic name, whoever leads it.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION`, or `NOT_LEADER_OR_FOLLOWER` when this node keeps no replica of it.
    pub(crate) fn replica_by_name(&self, topic: &str, partition: PartitionIndex) -> Result<Arc<Partition>, ErrorCode> {
        let directory = self.directory.load();
        find(directory.by_name.get(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?, partition)
    }

    /// The partition of that topic id, whoever leads it.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_ID` for an id that does not exist (any more), else as [`Partitions::replica_by_name`].
    pub(crate) fn replica_by_id(&self, topic: TopicId, partition: PartitionIndex) -> Result<Arc<Partition>, ErrorCode> {
        let directory = self.directory.load();
        find(directory.by_id.get(&topic).ok_or(ErrorCode::UnknownTopicId)?, partition)
    }

    /// Every partition that this node keeps a replica of, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<Partition>> {
        self.directory.load().by_id.values().flat_map(|entry| entry.partitions.iter().flatten().cloned()).collect()
    }

    /// Those that this node leads.
    pub(crate) fn led(&self) -> Vec<Arc<Partition>> {
        self.all().into_iter().filter(|partition| partition.term().is_some()).collect()
    }

    /// Those that this node copies from a leader, with what the metadata say of each.
    pub(crate) fn followed(&self) -> Vec<(Arc<Partition>, Arc<Leadership>)> {
        let with_leader = |partition: Arc<Partition>| {
            let leadership = partition.leadership();
            let is_followed = leadership.leader != NO_LEADER && leadership.leader != partition.node_id();
            is_followed.then_some((partition, leadership))
        };
        self.all().into_iter().filter_map(with_leader).collect()
    }

    /// Tells when the answer of [`Partitions::followed`] may be another.
    pub(crate) fn watch_layout(&self) -> watch::Receiver<u64> {
        self.layout.subscribe()
    }

    /// Called by the hot tier after each flush.
    pub(crate) fn flushed(&self, id: TopicPartition) {
        if let Ok(partition) = self.replica_by_id(id.topic_id, id.partition) {
            partition.advance();
        }
    }

    /// The local disk failed: whoever waits for an acknowledgement learns it.
    pub(crate) fn fail_all(&self) {
        for partition in self.all() {
            partition.close(State::Failed);
        }
    }

    /// Opens, updates and closes partitions until they are what the metadata says. `newest` gives the newest image: it is
    /// asked under the lock, because an image older than the last one followed would delete the topics that are new.
    pub(crate) fn follow(&self, newest: impl FnOnce() -> Arc<ClusterImage>, rooms: &Rooms<'_>) {
        let mut followed = self.followed.lock();
        let newest = newest();
        // Most images only tell of the archive or of producer ids. A partition's own archiver knows its ledger first.
        if followed.image.as_ref().is_some_and(|last| newest.shares_layout_with(last)) {
            return;
        }
        followed.image = Some(Arc::clone(&newest));
        let image: &Cluster = &newest;
        followed.refresh_defaults(image, rooms);
        let mut turns = Turns::default();
        for topic in image.topics() {
            followed.follow_topic(image, topic, rooms, &mut turns);
        }
        turns.tell();
        followed.close_departed(image, rooms);
        followed.report_strays(image, rooms);
        remove_unopened(image, rooms);
        self.directory.store(Arc::new(directory(image, &followed.open)));
        // What was flushed before the directory knew the partition.
        for partition in followed.open.values() {
            partition.advance();
        }
        self.layout.send_replace(newest.version());
    }
}

fn find(entry: &Entry, partition: PartitionIndex) -> Result<Arc<Partition>, ErrorCode> {
    let index = usize::try_from(partition).map_err(|_| ErrorCode::UnknownTopicOrPartition)?;
    let slot = entry.partitions.get(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    slot.clone().ok_or(ErrorCode::NotLeaderOrFollower)
}

fn led(partition: Arc<Partition>) -> Result<Arc<Partition>, ErrorCode> {
    if partition.term().is_some() { Ok(partition) } else { Err(ErrorCode::NotLeaderOrFollower) }
}

fn directory(image: &Cluster, open: &HashMap<TopicPartition, Arc<Partition>>) -> Directory {
    let mut directory = Directory::default();
    for topic in image.topics() {
        let at = |partition| open.get(&TopicPartition { topic_id: topic.id, partition }).cloned();
        let entry = Arc::new(Entry { id: topic.id, partitions: (0..topic.partitions).map(at).collect() });
        directory.by_id.insert(entry.id, Arc::clone(&entry));
        directory.by_name.insert(topic.name.clone(), entry);
    }
    directory
}

impl Followed {
    /// Forgets resolved settings when the defaults below them have changed.
    fn refresh_defaults(&mut self, image: &Cluster, rooms: &Rooms<'_>) {
        let now = (image.cluster_configs().clone(), image.broker_configs(rooms.node_id).cloned());
        if self.defaults.as_ref() != Some(&now) {
            self.settings.clear();
            self.defaults = Some(now);
        }
    }

    fn settings(&mut self, image: &Cluster, topic: &Topic, rooms: &Rooms<'_>) -> (Arc<TopicSettings>, bool) {
        if let Some((configs, settings)) = self.settings.get(&topic.id)
            && *configs == topic.configs
        {
            return (Arc::clone(settings), false);
        }
        let layers = DefaultLayers::of(rooms.settings, image, rooms.node_id);
        let settings = layers.resolve(&topic.configs);
        for Ignored { is_topics, name, value, reason } in layers.ignored(&topic.configs) {
            let topic = is_topics.then_some(&*topic.name);
            if self.ignored.insert((topic.map(str::to_owned), name.clone(), value.clone())) {
                warn!(topic, name, value, %reason, "ignoring a stored setting: it counts as not given");
            }
        }
        self.settings.insert(topic.id, (topic.configs.clone(), Arc::clone(&settings)));
        (settings, true)
    }

    fn follow_topic(&mut self, image: &Cluster, topic: &Topic, rooms: &Rooms<'_>, turns: &mut Turns) {
        let (settings, is_new) = self.settings(image, topic, rooms);
        // Few sets of nodes keep all partitions of a topic.
        let mut minimums: HashMap<&[NodeId], usize> = HashMap::new();
        for (id, state) in image.partitions_of(topic.id) {
            if !state.replicas.contains(&rooms.node_id) {
                continue;
            }
            let ledger = image.archive(id);
            let replicas = state.replicas.as_slice();
            let minimum = *minimums.entry(replicas).or_insert_with(|| image.min_insync(topic.id, replicas));
            if let Some(partition) = self.open.get(&id) {
                if is_new {
                    apply_settings(&partition.log, &settings);
                }
                partition.follow_ledger(ledger);
                let turn = partition.follow(Leadership::of(state, minimum));
                turn.into_iter().for_each(|turn| turns.add(&topic.name, id.partition, turn));
                continue;
            }
            if rooms.hot.partition(id).is_none() {
                crash_point("topic.created");
            }
            match rooms.hot.create(&topic.name, id, Arc::clone(&settings)) {
                Ok(log) => {
                    apply_settings(&log, &settings);
                    let partition = Partition::new(
                        log,
                        rooms.node_id,
                        rooms.cold.clone(),
                        rooms.cold_timeout(),
                        Arc::clone(rooms.isr_bell),
                    );
                    partition.follow_ledger(ledger);
                    let turn = partition.follow(Leadership::of(state, minimum));
                    turn.into_iter().for_each(|turn| turns.add(&topic.name, id.partition, turn));
                    self.open.insert(id, Arc::new(partition));
                }
                Err(error @ StorageError::Unopened { .. }) => {
                    // Trying again does not help.
                    if self.unopened.insert(id) {
                        error!(topic = %topic.name, partition = id.partition, %error, "a partition is not served by this broker");
                    }
                }
                Err(error) => {
                    self.image = None;
                    error!(topic = %topic.name, partition = id.partition, %error, "cannot open the partition's log; it is not served");
                }
            }
        }
    }

    /// Closes what belongs to deleted topics, and what other nodes keep from now on.
    fn close_departed(&mut self, image: &Cluster, rooms: &Rooms<'_>) {
        let is_kept = |id: &TopicPartition| image.partition(*id).is_some_and(|p| p.replicas.contains(&rooms.node_id));
        let gone: Vec<TopicPartition> = self.open.keys().filter(|id| !is_kept(id)).copied().collect();
        for id in gone {
            let Some(partition) = self.open.remove(&id) else { continue };
            if image.topic_by_id(id.topic_id).is_some() {
                info!(topic = %partition.topic, partition = id.partition, "other brokers keep the partition from now on");
                partition.close(State::Moved);
                // It is no replica of any term.
                let _ = partition.follow(Leadership::unknown());
                remove_log(rooms.hot, &partition.log, "that other brokers keep");
                continue;
            }
            partition.close(State::Deleted);
            crash_point("topic.deleted");
            remove_log(rooms.hot, &partition.log, "of a deleted topic");
            crash_point("topic.log-removed");
            self.settings.remove(&id.topic_id);
            self.ignored.retain(|(topic, ..)| topic.as_deref() != Some(&*partition.topic));
        }
    }

    /// Logs on disk that no metadata names: deleted when the metadata knows of the topic's deletion, else left alone.
    fn report_strays(&mut self, image: &Cluster, rooms: &Rooms<'_>) {
        for log in rooms.hot.partitions() {
            let id = log.id();
            if self.open.contains_key(&id) || image.partition(id).is_some() {
                continue;
            }
            if image.deleted_topic(id.topic_id).is_some() {
                remove_log(rooms.hot, &log, "of a deleted topic");
            } else if self.strays.insert(id) {
                warn!(
                    topic = %log.topic(), partition = id.partition, topic_id = %id.topic_id,
                    "the data folder holds a log that the cluster does not know; it is left alone, remove its folder if it is not needed"
                );
            }
        }
    }
}

fn apply_settings(log: &Arc<PartitionLog>, settings: &Arc<TopicSettings>) {
    if let Err(error) = log.update_settings(Arc::clone(settings)) {
        warn!(topic = %log.topic(), partition = log.id().partition, %error, "cannot apply changed settings");
    }
}

/// Folders of deleted topics that could not be opened.
fn remove_unopened(image: &Cluster, rooms: &Rooms<'_>) {
    for (id, _) in rooms.hot.unopened() {
        let Some(topic) = image.deleted_topic(id.topic_id).map(|topic| &topic.name) else { continue };
        match rooms.hot.remove(id) {
            Ok(()) => {
                info!(%topic, partition = id.partition, "removed a log of a deleted topic that could not be opened")
            }
            Err(error) => error!(%topic, partition = id.partition, %error, "cannot remove a log of a deleted topic"),
        }
    }
}

fn remove_log(hot: &HotTier, log: &PartitionLog, which: &str) {
    let id = log.id();
    match hot.remove(id) {
        Ok(()) => {
            info!(topic = %log.topic(), partition = id.partition, topic_id = %id.topic_id, "removed a log {which}");
        }
        Err(error) => {
            error!(topic = %log.topic(), partition = id.partition, %error, "cannot remove a log {which}");
        }
    }
}

#[cfg(test)]
mod tests;
