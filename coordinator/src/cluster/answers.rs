//! Commands apply once, even when an answer was lost and the command is handed in again.

use std::ops::Bound;
use std::sync::Arc;

use super::{Cluster, ClusterError, CommandId, Reply};

/// Answers kept per broker: a command older than that many numbers is refused instead of applied twice.
pub const REMEMBERED_ANSWERS: u64 = 256;
/// A larger answer is not kept, in bytes of JSON: it would double its entry in the log, and stay in every snapshot.
const MAX_ANSWER_BYTES: usize = 128 << 10;

/// What is kept of an answer. Instead of a large one, only that the command was applied and its answer is no longer known.
pub(super) fn to_remember(id: CommandId, reply: &Reply) -> Reply {
    let bytes = serde_json::to_vec(reply).map_or(usize::MAX, |json| json.len());
    if bytes > MAX_ANSWER_BYTES {
        return Reply::Refused(ClusterError::Forgotten { node_id: id.node_id, sequence: id.sequence });
    }
    reply.clone()
}

impl Cluster {
    /// The answer that the command got before; none if it is new.
    pub(super) fn answer_before(&self, id: Option<CommandId>) -> Result<Option<Reply>, ClusterError> {
        let Some(id) = id else { return Ok(None) };
        let current = self.broker(id.node_id).ok_or(ClusterError::UnknownBroker { broker_id: id.node_id })?.epoch;
        if id.broker_epoch != current {
            return Err(ClusterError::StaleBrokerEpoch { broker_id: id.node_id, given: id.broker_epoch, current });
        }
        if let Some(reply) = self.answers.get(&id) {
            return Ok(Some(reply.as_ref().clone()));
        }
        let newest = self.answers_of(id).last().map_or(0, |(newest, _)| newest.sequence);
        if id.sequence.saturating_add(REMEMBERED_ANSWERS) <= newest {
            return Err(ClusterError::Forgotten { node_id: id.node_id, sequence: id.sequence });
        }
        Ok(None)
    }

    /// Keeps an answer, and drops those that it makes too old.
    pub(super) fn remember(&mut self, id: CommandId, reply: Reply) {
        self.answers.insert(id, Arc::new(reply));
        let newest = self.answers_of(id).last().map_or(id.sequence, |(newest, _)| newest.sequence);
        let is_old = |old: &CommandId| {
            old.broker_epoch < id.broker_epoch || old.sequence.saturating_add(REMEMBERED_ANSWERS) <= newest
        };
        let first = CommandId { node_id: id.node_id, broker_epoch: i64::MIN, sequence: 0 };
        let old: Vec<CommandId> =
            self.answers.range(first..=id).map(|(old, _)| *old).take_while(|old| is_old(old)).collect();
        for id in old {
            self.answers.remove(&id);
        }
    }

    /// The answers to the commands of one broker process.
    fn answers_of(&self, id: CommandId) -> impl Iterator<Item = (&CommandId, &Arc<Reply>)> {
        let first = CommandId { sequence: 0, ..id };
        let last = CommandId { sequence: u64::MAX, ..id };
        self.answers.range((Bound::Included(first), Bound::Included(last)))
    }
}
