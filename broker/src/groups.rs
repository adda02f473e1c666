//! Consumer groups: the driver of `coordinator::group`.
//!
//! Each partition of `__consumer_offsets` that this node leads is a [`shard`]: one task that owns the machine of the
//! groups that hash to it, so that all commands of a group run one after the other. Records go to the partition in
//! Kafka's own formats ([`records`]); a reply leaves only when what it promises is committed ([`serving`]). When this node
//! becomes leader of a partition, its records are read back first; meanwhile requests are refused with "loading".
//!
//! Bounds: commands waiting per shard ([`shard::QUEUE_COMMANDS`]), commands per round ([`shard::BATCH_COMMANDS`]), bytes of
//! one decision (the topic's `max.message.bytes`), decisions and bytes that are not committed ([`serving`]), groups per
//! shard, members per group and protocols per member (`GroupSettings`), the bytes of all groups ([`memory`]).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI32, Ordering};

use coordinator::group::{
    Command, CommitOffsets, DeleteOffsets, DeletedTopics, GroupDescription, GroupError, GroupId, GroupListing,
    GroupSettings, Groups, Heartbeat, JoinGroup, JoinRefused, Joined, LeaveGroup, ListFilter, MemberId, OffsetsByTopic,
    Reply, SyncGroup, Synced,
};
use model::topic_name::GROUP_OFFSETS_TOPIC;
use model::{LeaderEpoch, PartitionIndex};
use parking_lot::RwLock;
use tracing::debug;
use uuid::Uuid;

pub(crate) mod log;

mod deletions;
mod memory;
mod records;
mod serving;
mod shard;
#[cfg(test)]
pub(crate) mod tests;

use self::log::OffsetsLog;
pub(crate) use self::memory::GroupMemory;
use self::shard::{Shard, ShardSetup};
use crate::timing::Clock;

/// Outcomes per item of a request, in its order, or the refusal of the whole.
pub(crate) type Outcomes = Result<Vec<Result<(), GroupError>>, GroupError>;

/// All groups that this node coordinates. Cheap to share; every method may be called from any task.
#[derive(Debug)]
pub(crate) struct GroupCoordinator {
    settings: GroupSettings,
    memory: GroupMemory,
    clock: Clock,
    /// Partitions of the offsets topic, 0 while it does not exist.
    partitions: AtomicI32,
    /// Each with the leader epoch in which this node leads it.
    shards: RwLock<BTreeMap<PartitionIndex, (LeaderEpoch, Shard)>>,
}

impl GroupCoordinator {
    /// Coordinates nothing yet: see [`GroupCoordinator::lead`].
    pub(crate) fn new(settings: GroupSettings, memory: GroupMemory, clock: Clock) -> Self {
        Self { settings, memory, clock, partitions: AtomicI32::new(0), shards: RwLock::default() }
    }

    /// Follows the cluster's metadata: how many partitions the offsets topic has, 0 if there is no such topic.
    pub(crate) fn set_partition_count(&self, count: i32) {
        self.partitions.store(count.max(0), Ordering::Release);
    }

    /// This node leads a partition of the offsets topic in an epoch: loads its groups, then serves them. Does nothing if it
    /// does so already. A newer epoch is a new beginning: what was decided in the one before may be lost. `deleted` names the
    /// topics that were deleted before and may still have offsets. Needs a tokio runtime.
    pub(crate) fn lead(
        &self,
        partition: PartitionIndex,
        term: LeaderEpoch,
        log: OffsetsLog,
        deleted: impl FnOnce() -> DeletedTopics,
    ) {
        let mut shards = self.shards.write();
        if shards.get(&partition).is_some_and(|(since, shard)| *since == term && !shard.has_ended()) {
            return;
        }
        debug!(partition, term, "taking over the groups of a partition of {GROUP_OFFSETS_TOPIC}");
        let count = self.partitions.load(Ordering::Acquire);
        let settings = GroupSettings { max_pending_bytes: self.memory.pending_bytes(count), ..self.settings.clone() };
        let shard = Shard::start(ShardSetup { partition, log, settings, memory: self.memory.clone() }, &self.clock);
        shard.forget_topics(&deleted());
        shards.insert(partition, (term, shard));
    }

    /// This node no longer leads the partition: whoever waits is sent to look for the new coordinator.
    pub(crate) fn resign(&self, partition: PartitionIndex) {
        if self.shards.write().remove(&partition).is_some() {
            debug!(partition, "gave up the groups of a partition of {GROUP_OFFSETS_TOPIC}");
        }
    }

    /// Gives up all partitions.
    pub(crate) fn resign_all(&self) {
        self.shards.write().clear();
    }

    /// What all groups take in memory, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory.used_bytes()
    }

    /// Partitions of the offsets topic that are being loaded.
    pub(crate) fn loading(&self) -> usize {
        self.shards.read().values().filter(|(_, shard)| shard.is_loading()).count()
    }

    /// The partition that a group lives in, `None` while the topic does not exist.
    pub(crate) fn partition_of(&self, group: &str) -> Option<PartitionIndex> {
        let count = self.partitions.load(Ordering::Acquire);
        (count > 0).then(|| group_partition(group, count))
    }

    /// JoinGroup. Answers when the join phase is over, which may take the rebalance timeout.
    pub(crate) async fn join(&self, join: JoinGroup) -> Result<Joined, JoinRefused> {
        let member_id = join.member_id.clone();
        match self.execute(Command::Join(join)).await {
            Ok(Reply::Join(result)) => result,
            other => Err(JoinRefused { member_id, error: unanswered(other) }),
        }
    }

    /// SyncGroup. Answers when the leader has assigned.
    pub(crate) async fn sync(&self, sync: SyncGroup) -> Result<Synced, GroupError> {
        match self.execute(Command::Sync(sync)).await {
            Ok(Reply::Sync(result)) => result,
            other => Err(unanswered(other)),
        }
    }

    /// Heartbeat. While its group is being loaded a member is left in peace, as in Kafka.
    pub(crate) async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<(), GroupError> {
        match self.execute(Command::Heartbeat(heartbeat)).await {
            Ok(Reply::Heartbeat(result)) => result,
            Err(GroupError::CoordinatorLoadInProgress) => Ok(()),
            other => Err(unanswered(other)),
        }
    }

    /// LeaveGroup.
    pub(crate) async fn leave(&self, leave: LeaveGroup) -> Outcomes {
        match self.execute(Command::Leave(leave)).await {
            Ok(Reply::Leave(result)) => result,
            other => Err(unanswered(other)),
        }
    }

    /// OffsetCommit. That topics and partitions exist is the caller's to check.
    pub(crate) async fn commit(&self, commit: CommitOffsets) -> Outcomes {
        match self.execute(Command::CommitOffsets(commit)).await {
            Ok(Reply::CommitOffsets(result)) => result,
            other => Err(unanswered(other)),
        }
    }

    /// OffsetDelete.
    pub(crate) async fn delete_offsets(&self, delete: DeleteOffsets) -> Outcomes {
        match self.execute(Command::DeleteOffsets(delete)).await {
            Ok(Reply::DeleteOffsets(result)) => result,
            other => Err(unanswered(other)),
        }
    }

    /// DeleteGroups, one group.
    pub(crate) async fn delete_group(&self, group: GroupId) -> Result<(), GroupError> {
        match self.execute(Command::DeleteGroup(group)).await {
            Ok(Reply::DeleteGroup(result)) => result,
            other => Err(unanswered(other)),
        }
    }

    /// Asks the machine of a group's partition.
    pub(crate) async fn query<T, F>(&self, group: &str, question: F) -> Result<T, GroupError>
    where
        T: Send + 'static,
        F: FnOnce(&Groups, &GroupId) -> T + Send + 'static,
    {
        let shard = self.shard_of(group)?;
        let group = GroupId::from(group);
        shard.query(move |groups: &Groups| question(groups, &group)).await
    }

    /// OffsetFetch: what the group has committed, nothing if there is no such group.
    pub(crate) async fn offsets(&self, group: &str) -> Result<OffsetsByTopic, GroupError> {
        self.query(group, |groups, group| groups.offsets(group)).await
    }

    /// DescribeGroups, one group; `None` if there is no such group.
    pub(crate) async fn describe(&self, group: &str) -> Result<Option<GroupDescription>, GroupError> {
        self.query(group, |groups, group| groups.describe(group)).await
    }

    /// The sum of `weight` over all machines that answer: what a list of their groups may take.
    pub(crate) async fn weigh_list(&self, weight: fn(&Groups) -> usize) -> usize {
        let shards: Vec<Shard> = self.shards.read().values().map(|(_, shard)| shard.clone()).collect();
        let mut bytes = 0;
        for shard in shards {
            bytes += shard.query(weight).await.unwrap_or(0);
        }
        bytes
    }

    /// ListGroups: the groups that this node coordinates.
    ///
    /// # Errors
    /// [`GroupError::CoordinatorLoadInProgress`] while a partition is being loaded: the list would be incomplete.
    pub(crate) async fn list(&self, filter: ListFilter) -> Result<Vec<GroupListing>, GroupError> {
        let shards: Vec<Shard> = self.shards.read().values().map(|(_, shard)| shard.clone()).collect();
        let mut listings = Vec::new();
        for shard in shards {
            let filter = filter.clone();
            match shard.query(move |groups: &Groups| groups.list(&filter)).await {
                Ok(mut of_shard) => listings.append(&mut of_shard),
                Err(GroupError::NotCoordinator) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(listings)
    }

    /// Topics were deleted: offsets that were committed for them are removed in the background. Identity is the topic's id,
    /// so offsets of a new topic of the same name stay.
    pub(crate) fn forget_topics(&self, topics: &DeletedTopics) {
        for (_, shard) in self.shards.read().values() {
            shard.forget_topics(topics);
        }
    }

    async fn execute(&self, command: Command) -> Result<Reply, GroupError> {
        let shard = self.shard_of(command.group())?;
        shard.execute(command).await
    }

    fn shard_of(&self, group: &str) -> Result<Shard, GroupError> {
        let partition = self.partition_of(group).ok_or(GroupError::NotCoordinator)?;
        self.shards.read().get(&partition).map(|(_, shard)| shard.clone()).ok_or(GroupError::NotCoordinator)
    }
}

/// What went wrong, or that the shard broke its word, which cannot be.
fn unanswered(reply: Result<Reply, GroupError>) -> GroupError {
    reply.err().unwrap_or(GroupError::CoordinatorNotAvailable)
}

/// Kafka's mapping of groups to partitions: Java's hash of the name in UTF-16, its sign dropped, modulo the count.
pub(crate) fn group_partition(group: &str, count: i32) -> PartitionIndex {
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Kafka's `Utils.abs`: the smallest number has no positive twin and counts as zero.
    hash.checked_abs().unwrap_or(0) % count.max(1)
}

/// A member id as Kafka makes it: the instance id or else the client's name, and a random number.
pub(crate) fn new_member_id(client_id: &str, instance_id: Option<&str>) -> MemberId {
    format!("{}-{}", instance_id.unwrap_or(client_id), Uuid::new_v4()).into()
}
