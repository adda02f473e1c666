//! The archive ledger: which manifest describes a partition's archive (D7).

use model::TopicId;
use model::archive::ManifestPointer;

use super::draft::Draft;
use super::{ArchiveCommit, ArchiveReply, ClusterError, Record, Reply};

/// Longest key of a manifest object, in bytes: the shortest limit among the stores we speak to.
const MAX_OBJECT_KEY_LEN: usize = 1024;

/// Moves a partition's pointer, for the newest leadership and from the version that the committer saw.
///
/// A pointer that the ledger holds already is committed again without effect: so an uncertain commit may be repeated.
pub(super) fn commit(draft: &mut Draft, commit: &ArchiveCommit) -> Result<ArchiveReply, ClusterError> {
    let id = commit.partition;
    if draft.state.topic_by_id(id.topic_id).is_none() {
        return Err(ClusterError::UnknownTopicId { id: id.topic_id });
    }
    let partition = draft.state.partition(id).ok_or(ClusterError::UnknownPartition { partition: id })?;
    let current = draft.state.archive(id).map(AsRef::as_ref);
    if current == Some(&commit.pointer) {
        return Ok(ArchiveReply::Committed);
    }
    if commit.leader_epoch != partition.leader_epoch {
        return Ok(ArchiveReply::Fenced { current: partition.leader_epoch });
    }
    if commit.replaces != current.map_or(0, |pointer| pointer.version) {
        return Ok(ArchiveReply::VersionConflict { current: current.cloned() });
    }
    check(commit, current)?;
    draft.push(Record::ArchiveCommitted { partition: id, pointer: commit.pointer.clone() });
    Ok(ArchiveReply::Committed)
}

/// Forgets a deleted topic. Saying it twice is no error.
pub(super) fn purged(draft: &mut Draft, topic_id: TopicId) -> Result<Reply, ClusterError> {
    if draft.state.topic_by_id(topic_id).is_some() {
        return Err(ClusterError::InvalidRequest {
            reason: format!("topic {topic_id} exists: its archive cannot have been purged"),
        });
    }
    if draft.state.deleted_topic(topic_id).is_some() {
        draft.push(Record::ArchivePurged { topic_id });
    }
    Ok(Reply::Done)
}

fn check(commit: &ArchiveCommit, current: Option<&ManifestPointer>) -> Result<(), ClusterError> {
    let new = &commit.pointer;
    let (log_start, archived_end) = current.map_or((0, 0), |pointer| (pointer.log_start, pointer.archived_end));
    let follows =
        Some(new.version) == commit.replaces.checked_add(1) || (commit.adopts && new.version > commit.replaces);
    let reason = if !follows {
        format!("its version {} does not follow {}", new.version, commit.replaces)
    } else if new.leader_epoch != commit.leader_epoch {
        format!("it carries leader epoch {}, the commit {}", new.leader_epoch, commit.leader_epoch)
    } else if new.log_start > new.archived_end {
        "its log start lies beyond its archived end".to_owned()
    } else if new.log_start < log_start || new.archived_end < archived_end {
        format!("it goes back behind log start {log_start} or archived end {archived_end}")
    } else if new.object.is_empty() || new.object.len() > MAX_OBJECT_KEY_LEN {
        format!("its object key has {} bytes, not 1 to {MAX_OBJECT_KEY_LEN}", new.object.len())
    } else {
        return Ok(());
    };
    let (log_start, archived_end) = (new.log_start, new.archived_end);
    Err(ClusterError::InvalidPointer { partition: commit.partition, log_start, archived_end, reason })
}
