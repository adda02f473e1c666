//! Committed offsets of a group: who may commit, reading them, deleting them, and when they lapse.

use std::sync::Arc;

use model::{PartitionIndex, TimestampMs};

use super::command::{CommitOffsets, DeleteOffsets};
use super::error::GroupError;
use super::membership::{GroupState, Membership};
use super::record::{CommittedOffset, GroupId, GroupRecord, OffsetsByTopic};
use super::settings::GroupSettings;

/// A commit's outcome: one result per offset, and the records of those accepted.
pub(super) type CommitOutcome = (Vec<Result<(), GroupError>>, Vec<GroupRecord>);

/// Whether the member may commit. `membership` is `None` for a group that is not there: then only a simple consumer
/// (generation −1) may, which makes the group.
pub(super) fn check_commit(membership: Option<&Membership>, commit: &CommitOffsets) -> Result<(), GroupError> {
    let Some(membership) = membership else {
        return if commit.generation < 0 { Ok(()) } else { Err(GroupError::GroupIdNotFound) };
    };
    let empty = membership.state == GroupState::Empty;
    if commit.generation < 0 && empty {
        return Ok(());
    }
    let speaks_as_member =
        commit.generation >= 0 || !commit.member.member_id.is_empty() || commit.member.instance_id.is_some();
    if speaks_as_member {
        membership.check_member(&commit.member)?;
        if commit.generation != membership.generation {
            return Err(GroupError::IllegalGeneration);
        }
    } else if !empty {
        return Err(GroupError::UnknownMemberId);
    }
    // The member knows the new generation, but not yet what it is assigned there.
    if membership.state == GroupState::CompletingRebalance {
        return Err(GroupError::RebalanceInProgress);
    }
    Ok(())
}

/// Records of an accepted commit.
pub(super) fn commit_records(settings: &GroupSettings, commit: &CommitOffsets, now: TimestampMs) -> CommitOutcome {
    let mut records = Vec::new();
    let mut results = Vec::new();
    for item in &commit.offsets {
        // Kafka counts as Java does, in UTF-16 units, whatever the setting is called.
        if item.metadata.encode_utf16().count() > settings.offset_metadata_max_bytes {
            results.push(Err(GroupError::OffsetMetadataTooLarge));
            continue;
        }
        let committed = CommittedOffset {
            offset: item.offset,
            leader_epoch: item.leader_epoch,
            metadata: item.metadata.clone(),
            commit_timestamp: now,
            topic_id: item.topic_id,
            expire_timestamp: commit.retention_ms.map(|retention_ms| now.saturating_add(retention_ms.max(0))),
        };
        records.push(GroupRecord::Offset {
            group: commit.group.clone(),
            topic: item.topic.clone(),
            partition: item.partition,
            committed: Some(committed),
        });
        results.push(Ok(()));
    }
    (results, records)
}

/// Outcome of OffsetDelete: topics that a member consumes are refused, offsets that are not there are fine.
pub(super) fn delete_records(
    membership: &Membership,
    offsets: &OffsetsByTopic,
    delete: &DeleteOffsets,
) -> Result<CommitOutcome, GroupError> {
    if membership.state != GroupState::Empty && !membership.uses_consumer_protocol() {
        return Err(GroupError::NonEmptyGroup);
    }
    let mut records = Vec::new();
    let mut results = Vec::new();
    for (topic, partition) in &delete.partitions {
        if membership.is_subscribed_to(topic) {
            results.push(Err(GroupError::GroupSubscribedToTopic));
            continue;
        }
        if offsets.get(topic).is_some_and(|of_topic| of_topic.contains_key(partition)) {
            records.push(tombstone(&delete.group, topic, *partition));
        }
        results.push(Ok(()));
    }
    Ok((results, records))
}

/// Removes one offset.
pub(super) fn tombstone(group: &GroupId, topic: &Arc<str>, partition: PartitionIndex) -> GroupRecord {
    GroupRecord::Offset { group: group.clone(), topic: topic.clone(), partition, committed: None }
}

/// Offsets that have lapsed at `now`, at most `limit`. Offsets of topics that members consume never do; those of an
/// empty group count from when it became empty, those of a simple consumer from their commit (KIP-211).
pub(super) fn lapsed(
    settings: &GroupSettings,
    membership: &Membership,
    offsets: &OffsetsByTopic,
    (now, limit): (TimestampMs, usize),
) -> Vec<(Arc<str>, PartitionIndex)> {
    let from_commit = match (&membership.protocol_type, membership.state) {
        (None, _) => true,
        (Some(_), GroupState::Empty) => false,
        (Some(_), GroupState::Stable) if membership.uses_consumer_protocol() && membership.subscribed.is_some() => true,
        (Some(_), _) => return Vec::new(),
    };
    let is_lapsed = |committed: &CommittedOffset| match committed.expire_timestamp {
        Some(expire) => expire <= now,
        None => {
            let since = if from_commit { committed.commit_timestamp } else { membership.since };
            now.saturating_sub(since) >= settings.offsets_retention_ms
        }
    };
    let unread = offsets.iter().filter(|(topic, _)| !membership.is_subscribed_to(topic));
    let each = unread.flat_map(|(topic, of_topic)| of_topic.iter().map(move |(index, offset)| (topic, index, offset)));
    each.filter(|(_, _, offset)| is_lapsed(offset))
        .map(|(topic, index, _)| (topic.clone(), *index))
        .take(limit)
        .collect()
}
