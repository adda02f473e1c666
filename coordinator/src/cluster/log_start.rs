//! A leader moves its partition's log start, for DeleteRecords and total retention.
//!
//! What readers have been shown as gone must stay gone, whichever replica leads next, and a replica may not have heard of the
//! move: so it is written here first, and a leader shows nothing that is not. A leader of a later term begins where this
//! says, or later.

use super::draft::Draft;
use super::isr::check_term;
use super::versions::WITH_LOG_STARTS;
use super::{AlteredPartition, Cluster, ClusterError, LogStartMove};
use model::NodeId;

impl Cluster {
    /// Whether log starts are kept here, by the rules that are valid.
    #[must_use]
    pub fn keeps_log_starts(&self) -> bool {
        self.metadata_version() >= WITH_LOG_STARTS
    }
}

/// A leader moves the log start of one partition.
pub(super) fn advance(
    draft: &mut Draft,
    broker_id: NodeId,
    wanted: LogStartMove,
) -> Result<AlteredPartition, ClusterError> {
    let id = wanted.partition;
    if draft.state.topic_by_id(id.topic_id).is_none() {
        return Err(ClusterError::UnknownTopicId { id: id.topic_id });
    }
    let old = draft.state.partition(id).ok_or(ClusterError::UnknownPartition { partition: id })?;
    check_term(id, old, broker_id, wanted.leader_epoch)?;
    let mut partition = old.clone();
    if wanted.log_start > old.log_start && draft.state.keeps_log_starts() {
        partition.log_start = wanted.log_start;
        partition.partition_epoch = old.partition_epoch.saturating_add(1);
        draft.put_partition(id, partition.clone());
    }
    Ok(AlteredPartition { id, partition })
}
