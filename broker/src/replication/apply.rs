//! Taking a leader's answer into the local logs, on a thread that may block: one flush for all partitions of an answer.

use std::sync::Arc;

use bytes::Bytes;
use hot_tier::{AppendError, HotTier};
use model::settings::FlushMode;
use protocol::ErrorCode;
use protocol::messages::fetch_response::PartitionData;

use super::pause::{BROKEN, Pace, WAITING};
use super::session::Wanted;
use crate::partition::{Partition, SameTerm};

/// What a leader answered for one partition.
#[derive(Debug)]
pub(super) struct Answer {
    /// Which.
    pub(super) partition: Arc<Partition>,
    /// What it was asked.
    pub(super) wanted: Wanted,
    /// What it said.
    pub(super) data: PartitionData,
}

/// What became of it.
#[derive(Debug, PartialEq)]
pub(super) enum Applied {
    /// The local log goes on; so many bytes were taken, and so many offsets are committed that it does not have yet.
    Followed {
        /// Bytes of batches.
        bytes: usize,
        /// Offsets up to the leader's high watermark.
        lag: u64,
    },
    /// The leader has nothing at this offset: its state tells where to go on.
    OutOfRange,
    /// The epoch in which this was asked is over.
    Over,
    /// It did not work.
    Trouble(Trouble),
}

/// Why a partition rests.
#[derive(Debug, PartialEq)]
pub(super) struct Trouble {
    /// For how long.
    pub(super) pace: Pace,
    /// For people; none when the next image of the metadata explains it.
    pub(super) reason: Option<String>,
}

impl Trouble {
    /// Somebody must mend something.
    pub(super) fn broken(reason: impl ToString) -> Self {
        Trouble { pace: BROKEN, reason: Some(reason.to_string()) }
    }

    /// The leader does not answer; the metadata may tell why.
    pub(super) fn asking(reason: String) -> Self {
        Trouble { pace: WAITING, reason: Some(reason) }
    }

    /// The metadata will tell.
    pub(super) fn waiting() -> Self {
        Trouble { pace: WAITING, reason: None }
    }
}

/// Takes all answers, then waits until what they brought is durable. In the order of `answers`.
pub(super) fn apply_all(hot: &HotTier, answers: Vec<Answer>) -> Vec<Applied> {
    let mut must_flush = false;
    let mut refused = None;
    let mut all: Vec<Applied> = Vec::with_capacity(answers.len());
    for answer in answers {
        let is_durable = answer.partition.log.settings().flush == FlushMode::Durable;
        // Before the partition is kept in its epoch: a change of its role must not wait for the disk.
        if refused.is_none() {
            refused = hot.wait_for_journal_space().err();
        }
        let applied = match &refused {
            None => apply(answer),
            Some(error) => Applied::Trouble(Trouble::broken(error)),
        };
        must_flush |= is_durable && matches!(applied, Applied::Followed { bytes: 1.., .. });
        all.push(applied);
    }
    if must_flush && let Err(error) = hot.wait_flushed() {
        // Nothing is told to any leader that may be lost.
        all.iter_mut().for_each(|applied| *applied = Applied::Trouble(Trouble::broken(&error)));
    }
    all
}

fn apply(answer: Answer) -> Applied {
    let Answer { partition, wanted, data } = answer;
    let Some(same) = partition.following(wanted.leader_epoch) else { return Applied::Over };
    match ErrorCode::from_code(data.error_code) {
        Some(ErrorCode::None) => {}
        Some(code) => return refused(code),
        None => return Applied::Trouble(Trouble::broken(format!("error {}", data.error_code))),
    }
    let diverging = &data.diverging_epoch;
    if diverging.end_offset >= 0 {
        return match partition.diverge_at(&same, diverging.epoch, diverging.end_offset) {
            Ok(true) => Applied::Followed { bytes: 0, lag: 0 },
            // The leader compares epochs that we do not have: its whole history tells.
            Ok(false) => Applied::OutOfRange,
            Err(error) => Applied::Trouble(Trouble::broken(error)),
        };
    }
    if partition.log.log_end() != wanted.fetch_offset {
        return Applied::Over;
    }
    match take(&partition, &same, data) {
        Ok(applied) => applied,
        Err(trouble) => Applied::Trouble(trouble),
    }
}

fn take(partition: &Partition, same: &SameTerm<'_>, data: PartitionData) -> Result<Applied, Trouble> {
    let records: Bytes = data.records.unwrap_or_default().into_bytes();
    let bytes = records.len();
    if bytes > 0 {
        partition.take_records(same, &records).map_err(|error| not_taken(&error))?;
    }
    partition.follow_log_start(same, data.log_start_offset).map_err(Trouble::broken)?;
    partition.learn_high_watermark(same, data.high_watermark);
    let lag = data.high_watermark.saturating_sub(partition.log.log_end());
    Ok(Applied::Followed { bytes, lag: u64::try_from(lag).unwrap_or(0) })
}

fn not_taken(error: &AppendError) -> Trouble {
    match error {
        AppendError::Invalid { .. } => {
            Trouble::broken(format!("{error}; it is not stored here, the leader's disk or memory is damaged"))
        }
        error => Trouble::broken(error),
    }
}

/// What a leader's refusal means.
fn refused(code: ErrorCode) -> Applied {
    match code {
        ErrorCode::OffsetOutOfRange | ErrorCode::OffsetMovedToTieredStorage => Applied::OutOfRange,
        ErrorCode::NotLeaderOrFollower
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::UnknownLeaderEpoch
        | ErrorCode::UnknownTopicId
        | ErrorCode::UnknownTopicOrPartition
        | ErrorCode::InconsistentTopicId
        | ErrorCode::LeaderNotAvailable
        | ErrorCode::OffsetNotAvailable => Applied::Trouble(Trouble::waiting()),
        ErrorCode::CorruptMessage => {
            Applied::Trouble(Trouble::broken("the leader's log is damaged there (CORRUPT_MESSAGE)"))
        }
        code => Applied::Trouble(Trouble::broken(code)),
    }
}
