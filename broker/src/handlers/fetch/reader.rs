//! Who fetches, a consumer or a follower, and what each waits for.

use std::sync::Arc;

use model::{LeaderEpoch, NO_LEADER_EPOCH, NodeId, Offset};
use protocol::ErrorCode;
use protocol::messages::FetchRequest;
use tokio::sync::watch;

use super::super::RequestContext;
use super::read::PartitionToRead;
use super::session::{Target, Wanted};
use crate::partition::{Ends, FollowerFetch, NotAdmitted, Partition, Progress, State};

/// First version in which a consumer may read from a follower (KIP-392).
const ANY_REPLICA: i16 = 11;
/// First version that names topics by their id.
const TOPIC_IDS: i16 = 13;

/// Who fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// It sees what is committed.
    Consumer,
    /// It sees everything that the leader has, and tells how far it is.
    Follower {
        /// Its node id.
        node_id: NodeId,
        /// Its broker epoch, or −1.
        broker_epoch: i64,
    },
}

impl Reader {
    pub(super) fn of(request: &FetchRequest) -> Self {
        // Two places for the same, one per range of versions.
        let node_id = request.replica_id.max(request.replica_state.replica_id);
        match node_id {
            0.. => Reader::Follower { node_id, broker_epoch: request.replica_state.replica_epoch },
            _ => Reader::Consumer,
        }
    }

    pub(super) fn is_follower(self) -> bool {
        self != Reader::Consumer
    }

    /// What an older process of a broker had flushed says nothing of the one that runs now (KIP-903).
    pub(super) fn check_process(self, context: &RequestContext<'_>) -> Result<(), ErrorCode> {
        let Reader::Follower { node_id, broker_epoch } = self else { return Ok(()) };
        let image = context.broker.metadata.image();
        let is_stale = image.broker(node_id).is_some_and(|broker| broker_epoch != -1 && broker_epoch < broker.epoch);
        if is_stale { Err(ErrorCode::NotLeaderOrFollower) } else { Ok(()) }
    }

    /// Finds what is to be read by a `process` that was checked. A follower's place is noted, once per fetch.
    pub(super) fn find(
        self,
        context: &RequestContext<'_>,
        process: Result<(), ErrorCode>,
        target: &Target,
        wanted: Wanted,
    ) -> PartitionToRead {
        let (partitions, index) = (&context.broker.partitions, target.partition);
        let partition = match (self, context.version) {
            (Reader::Follower { .. }, TOPIC_IDS..) => partitions.leader_by_id(target.topic_id, index),
            (Reader::Consumer, TOPIC_IDS..) => partitions.replica_by_id(target.topic_id, index),
            (Reader::Consumer, ANY_REPLICA..) => partitions.replica_by_name(&target.topic, index),
            _ => partitions.leader_by_name(&target.topic, index),
        };
        let partition = partition.map_err(NotAdmitted::Refused).and_then(|partition| {
            if let Reader::Follower { node_id, broker_epoch } = self {
                process?;
                let (offset, log_start) = (wanted.fetch_offset, wanted.log_start);
                let fetch = FollowerFetch { node_id, broker_epoch, offset, log_start };
                partition.admit(fetch, wanted.current_leader_epoch, wanted.last_fetched_epoch)?;
            }
            Ok(partition)
        });
        let throttles = match (self, &partition) {
            (Reader::Follower { node_id, .. }, Ok(partition)) if partition.may_hold_back(node_id) => {
                Some(Arc::clone(&context.broker.throttles))
            }
            _ => None,
        };
        PartitionToRead { partition, wanted, reader: self, preferred: None, throttles }
    }
}

/// What a waiting fetch waits for in one partition.
#[derive(Debug)]
pub(super) enum Moves {
    /// Anything that consumers see.
    Committed(watch::Receiver<Progress>),
    /// Records, or the end of the term; and what is committed, where the follower waits for that, too.
    Appended {
        /// Where the local log ends.
        ends: watch::Receiver<Ends>,
        /// What is committed.
        progress: watch::Receiver<Progress>,
        /// From where the follower reads.
        from: Offset,
        /// What it knows to be committed.
        known: Offset,
        /// In which term.
        term: LeaderEpoch,
    },
}

impl Moves {
    /// To be subscribed before the attempt whose outcome is waited upon.
    pub(super) fn of(partition: &Partition, target: &PartitionToRead) -> Self {
        let mut progress = partition.watch();
        let term = progress.borrow_and_update().term;
        match target.reader {
            Reader::Consumer => Moves::Committed(progress),
            Reader::Follower { .. } => Moves::Appended {
                ends: partition.watch_ends(),
                progress,
                from: target.wanted.fetch_offset,
                known: target.wanted.high_watermark,
                term,
            },
        }
    }

    /// Returns when there is something new to see.
    pub(super) async fn moved(&mut self) {
        match self {
            Moves::Committed(progress) => drop(progress.changed().await),
            Moves::Appended { ends, progress, from, known, term } => {
                let is_over = |now: LeaderEpoch, state| now != *term || now == NO_LEADER_EPOCH || state != State::Open;
                tokio::select! {
                    _ = ends.wait_for(|e| e.log_end > *from || is_over(e.term, e.state)) => {}
                    _ = progress.wait_for(|p| p.high_watermark > *known || is_over(p.term, p.state)) => {}
                }
            }
        }
    }
}
