//! The reading of one fetch: hot partitions in order, cold ones side by side, one budget for all.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use hot_tier::{ReadError, StorageError};
use model::{LeaderEpoch, NO_LEADER_EPOCH, NodeId, Offset};
use protocol::ErrorCode;
use tokio::time::Instant;
use tracing::warn;

use super::reader::Reader;
use super::session::{Told, Wanted};
use crate::metadata::ClusterImage;
use crate::partition::{NotAdmitted, Partition, PartitionRead, ReadFailure, ReadRequest, State};
use crate::throttle::Throttles;

/// A partition to read, or why it cannot be read.
#[derive(Debug)]
pub(super) struct PartitionToRead {
    pub(super) partition: Result<Arc<Partition>, NotAdmitted>,
    pub(super) wanted: Wanted,
    pub(super) reader: Reader,
    /// The replica that a consumer should ask instead.
    pub(super) preferred: Option<NodeId>,
    /// What a follower may be held back by.
    pub(super) throttles: Option<Arc<Throttles>>,
}

impl PartitionToRead {
    /// True while a follower is held back.
    fn is_held_back(&self) -> bool {
        self.throttles
            .as_ref()
            .is_some_and(|throttles| throttles.leader.closed_for(std::time::Instant::now()).is_some())
    }

    /// Takes note of what goes out.
    pub(super) fn note_sent(&self, bytes: usize) {
        if let Some(throttles) = &self.throttles {
            throttles.leader.note(bytes, std::time::Instant::now());
        }
    }

    /// The outcome of not looking.
    pub(super) fn unread(&self) -> Outcome {
        match &self.partition {
            Ok(partition) => Outcome { partition: Some(Arc::clone(partition)), ..Outcome::default() },
            Err(refusal) => Outcome::refused(*refusal),
        }
    }
}

/// What came of one partition.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) error: Option<ErrorCode>,
    /// The newest epoch that reader and leader may have in common, and where it ends, when they do not fit together.
    pub(super) diverging: Option<(LeaderEpoch, Offset)>,
    /// The reader does not know yet how much is committed, and wants to.
    has_news: bool,
    /// The replica to ask instead.
    pub(super) preferred: Option<NodeId>,
    /// The reader has more than this leader.
    is_past_end: bool,
    partition: Option<Arc<Partition>>,
    read: PartitionRead,
}

impl Outcome {
    fn failed(error: ErrorCode) -> Self {
        Outcome { error: Some(error), ..Outcome::default() }
    }

    fn refused(refusal: NotAdmitted) -> Self {
        match refusal {
            NotAdmitted::Refused(code) => Outcome::failed(code),
            NotAdmitted::Diverging { epoch, end } => Outcome { diverging: Some((epoch, end)), ..Outcome::default() },
        }
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.read.size_bytes()
    }

    /// True when the client must hear of it at once.
    pub(super) fn is_urgent(&self) -> bool {
        self.error.is_some() || self.diverging.is_some() || self.preferred.is_some() || self.has_news
    }

    /// True when the answer says that the reader has read more than there is.
    pub(super) fn is_past_end(&self) -> bool {
        self.is_past_end
    }

    /// Takes that back unless this node leads by what the cluster has decided.
    pub(super) fn doubt_end(&mut self, decided: Option<&ClusterImage>, own: NodeId) {
        let id = self.partition.as_ref().map(|partition| partition.id);
        let leads = id.is_some_and(|id| decided.and_then(|image| image.partition(id)).is_some_and(|p| p.leader == own));
        if self.is_past_end && !leads {
            self.error = Some(ErrorCode::NotLeaderOrFollower);
        }
    }

    /// The partition's high watermark and log start, when it can be read.
    pub(super) fn told(&self) -> Option<Told> {
        let partition = self.partition.as_ref().filter(|_| self.error.is_none())?;
        Some(Told { high_watermark: partition.high_watermark(), log_start: partition.log_start() })
    }

    /// The records, from where they lie.
    pub(super) fn into_records(self) -> Vec<Bytes> {
        self.read.records
    }
}

/// Reads every target within `max_bytes`, except that the first one with records may exceed it by one batch.
pub(super) async fn read_all(targets: &[PartitionToRead], max_bytes: usize, deadline: Instant) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    outcomes.resize_with(targets.len(), Outcome::default);
    let mut left = max_bytes;
    let mut has_records = false;
    let mut cold = Vec::new();
    for (i, target) in targets.iter().enumerate() {
        let partition = match &target.partition {
            Ok(partition) => partition,
            Err(refusal) => {
                outcomes[i] = Outcome::refused(*refusal);
                continue;
            }
        };
        if target.preferred.is_some() || target.is_held_back() {
            outcomes[i] = Outcome { preferred: target.preferred, ..target.unread() };
            continue;
        }
        // Once the budget is spent, a partition is still looked at, for its errors and its watermarks.
        let max_bytes = target.wanted.max_bytes.min(left);
        let min_one = !has_records;
        let request = ReadRequest { from: target.wanted.fetch_offset, max_bytes, min_one, deadline };
        if target.reader == Reader::Consumer && partition.is_cold(request.from) {
            if max_bytes > 0 || min_one {
                // What a cold read may bring is taken off the budget in advance: all of them together stay within it.
                left -= max_bytes;
                has_records |= min_one;
                cold.push(async move { (i, read_one(target, partition, request).await) });
            }
            outcomes[i].partition = Some(Arc::clone(partition));
            continue;
        }
        outcomes[i] = read_one(target, partition, request).await;
        let bytes = outcomes[i].size_bytes();
        has_records |= bytes > 0;
        left = left.saturating_sub(bytes);
    }
    for (i, outcome) in join_all(cold).await {
        outcomes[i] = outcome;
    }
    outcomes
}

async fn read_one(target: &PartitionToRead, partition: &Arc<Partition>, request: ReadRequest) -> Outcome {
    match partition.state() {
        State::Open => {}
        State::Moved => return Outcome::failed(ErrorCode::NotLeaderOrFollower),
        State::Failed => return Outcome::failed(ErrorCode::KafkaStorageError),
        State::Deleted => return Outcome::failed(ErrorCode::UnknownTopicOrPartition),
    }
    let wanted = &target.wanted;
    // Checked at every attempt: the epoch may have changed while the fetch waited.
    // Any negative epoch is none here, as in Kafka.
    if let Err(code) = partition.leadership().check_epoch(wanted.current_leader_epoch.max(NO_LEADER_EPOCH)) {
        return Outcome::failed(code);
    }
    let has_news = target.reader.is_follower() && partition.high_watermark() > wanted.high_watermark;
    let read = match target.reader {
        Reader::Follower { .. } if partition.term().is_none() => {
            return Outcome::failed(ErrorCode::NotLeaderOrFollower);
        }
        Reader::Follower { .. } => partition.read_for_follower(&request).await,
        Reader::Consumer => {
            if let Some((epoch, end)) = partition.divergence(wanted.fetch_offset, wanted.last_fetched_epoch) {
                return Outcome::refused(NotAdmitted::Diverging { epoch, end });
            }
            partition.read(request).await
        }
    };
    let partition = Arc::clone(partition);
    match read {
        Ok(read) => Outcome { has_news, partition: Some(partition), read, ..Outcome::default() },
        Err(error) => {
            let is_past_end = matches!(error, ReadFailure::OutOfRange { from, log_end, .. } if from > log_end);
            let code = code_of(&partition, &error);
            Outcome { error: Some(code), is_past_end, partition: Some(partition), ..Outcome::default() }
        }
    }
}

fn code_of(partition: &Partition, error: &ReadFailure) -> ErrorCode {
    let (topic, index) = (&partition.topic, partition.id.partition);
    match error {
        ReadFailure::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        // Not out of range: a client that believes so, because it takes us for the leader still, would begin elsewhere.
        ReadFailure::Behind { .. } => ErrorCode::NotLeaderOrFollower,
        // Logged where it was met. Trying again will not help, and the client says so to its user.
        ReadFailure::Damaged(_) => ErrorCode::CorruptMessage,
        // That too many files are open has been logged, once for many.
        ReadFailure::Hot(ReadError::Storage(StorageError::NoDescriptor { .. })) => ErrorCode::KafkaStorageError,
        ReadFailure::Hot(_) => {
            warn!(%topic, partition = index, %error, "a fetch failed");
            ErrorCode::KafkaStorageError
        }
        // The partition has logged it, once for many. Not out of range: the client would skip what may be found again.
        ReadFailure::Missing { .. } | ReadFailure::Cold(_) => ErrorCode::KafkaStorageError,
    }
}
