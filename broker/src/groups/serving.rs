//! One loaded shard: decides commands, appends what they write, and answers when that is committed.
//!
//! ```text
//! command ─▶ decide ─▶ nothing to write ─▶ answered at once
//!                 └──▶ records ─▶ batch under construction ─▶ appended ─▶ committed: shown, and answered
//! ```
//!
//! - One decision is in one batch, which is stored whole or not at all. Decisions of one round may share a batch.
//! - Whether a decision can be stored is asked before it takes effect: one that cannot be is refused, and nothing else
//!   changes. The state is ahead of the log only within a round.
//! - What writes nothing waits for nothing: heartbeats, descriptions, listings and committed offsets are answered while
//!   appends are outstanding. Offsets are shown once they are committed.
//! - While a record of the group itself (not an offset) is outstanding, the group's other commands wait in their order.
//! - Time that passed because the coordinator was busy or did not run is not held against members: a session is judged
//!   after all commands that arrived before its end.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use coordinator::group::{
    Appended, Command, Decision, DeletedTopics, GroupError, GroupId, Groups, Now, Reply, RequestToken,
};
use model::{Offset, PartitionIndex, TimestampMs};
use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::log::{LogFailure, OffsetsLog};
use super::memory::GroupShare;
use super::records::{self, KeyValue};
use super::shard::ShardSetup;
use crate::timing::Clock;

/// Batches are cut at this size, save that one decision is never cut.
const BATCH_TARGET_BYTES: usize = 512 << 10;
/// Commands of unsettled groups that may wait; more are refused as "not available".
const MAX_DEFERRED_COMMANDS: usize = 4_096;
/// Decisions that may be appended and not committed; more are refused as "not available".
const MAX_UNCOMMITTED_DECISIONS: usize = 4_096;
/// Bytes that may be appended and not committed.
const MAX_UNCOMMITTED_BYTES: usize = 16 << 20;
/// Pause after the log refused a decision that no client waits for.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// The clock is looked at again at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// A longer sleep or round means that the coordinator did not run.
const STALL_MS: TimestampMs = 2_000;

/// See the head of this file.
pub(super) struct Serving {
    partition: PartitionIndex,
    log: OffsetsLog,
    time: ServingTime,
    groups: Groups,
    /// What the groups take in memory, as of the last decision.
    share: GroupShare,
    next_token: u64,
    waiting: BTreeMap<RequestToken, oneshot::Sender<Reply>>,
    deferred: BTreeMap<GroupId, VecDeque<(RequestToken, Command)>>,
    deferred_count: usize,
    /// The batch under construction.
    batch: Batch,
    /// In the order of the log.
    outstanding: VecDeque<(Offset, Batch)>,
    uncommitted_decisions: usize,
    uncommitted_bytes: usize,
    forgetting: DeletedTopics,
    /// The log refused what no client waits for: not before then again.
    retry_at: Option<Instant>,
}

/// Decisions that are committed together.
#[derive(Default)]
struct Batch {
    records: Vec<KeyValue>,
    bytes: usize,
    appended: Vec<Appended>,
    replies: Vec<(RequestToken, Reply)>,
    /// Deleted topics of which this batch removes the last offsets, or one before it does.
    forgotten: DeletedTopics,
}

/// Why a decision did not take effect.
enum NotStored {
    Refused(GroupError),
    Failed(LogFailure),
}

impl From<LogFailure> for NotStored {
    fn from(failure: LogFailure) -> Self {
        match failure {
            LogFailure::Refused(reason) => {
                debug!(reason, "the offsets topic takes no records");
                NotStored::Refused(GroupError::CoordinatorNotAvailable)
            }
            failure => NotStored::Failed(failure),
        }
    }
}

impl Serving {
    pub(super) fn new(setup: &ShardSetup, clock: Clock, groups: Groups, share: GroupShare) -> Self {
        Serving {
            partition: setup.partition,
            log: setup.log.clone(),
            share,
            time: ServingTime { last_ms: clock.steady_ms(), clock, stalled_ms: 0 },
            groups,
            next_token: 0,
            waiting: BTreeMap::new(),
            deferred: BTreeMap::new(),
            deferred_count: 0,
            batch: Batch::default(),
            outstanding: VecDeque::new(),
            uncommitted_decisions: 0,
            uncommitted_bytes: 0,
            forgetting: DeletedTopics::default(),
            retry_at: None,
        }
    }

    pub(super) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The end of the oldest batch that is not committed.
    pub(super) fn oldest_outstanding(&self) -> Option<Offset> {
        self.outstanding.front().map(|(end, _)| *end)
    }

    /// How long there is nothing to do unless something arrives.
    pub(super) fn pause(&mut self) -> Duration {
        let now_ms = self.time.now().steady_ms;
        let left_ms = self.groups.next_deadline().map_or(TimestampMs::MAX, |at| at.saturating_sub(now_ms));
        let left = if self.forgetting.is_empty() { u64::try_from(left_ms).unwrap_or(0) } else { 0 };
        let retry = self.retry_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
        Duration::from_millis(left).max(retry).min(LONGEST_SLEEP)
    }

    /// Decides a command, or lets it wait for its group.
    pub(super) fn execute(&mut self, command: Command, reply: oneshot::Sender<Reply>) -> Result<(), LogFailure> {
        self.next_token += 1;
        let token = RequestToken(self.next_token);
        self.waiting.insert(token, reply);
        let group = command.group();
        let waits = self.groups.is_unsettled(group) || self.deferred.contains_key(group);
        if !waits || matches!(command, Command::Heartbeat(_)) {
            return self.decide(token, &command);
        }
        if self.deferred_count >= MAX_DEFERRED_COMMANDS {
            self.answer(token, command.refused(GroupError::CoordinatorNotAvailable));
            return Ok(());
        }
        self.deferred_count += 1;
        self.deferred.entry(group.clone()).or_default().push_back((token, command));
        Ok(())
    }

    /// What time leads to, as far as everything is decided that arrived before: `oldest_ms` is the arrival of the oldest
    /// command that still waits, by the clock's steady time.
    pub(super) fn tick(&mut self, oldest_ms: Option<TimestampMs>) -> Result<(), LogFailure> {
        let Now { steady_ms, .. } = self.time.now();
        let steady_ms = oldest_ms.map_or(steady_ms, |at| steady_ms.min(at.saturating_sub(self.time.stalled_ms)));
        if self.retry_at.is_some_and(|at| Instant::now() < at)
            || self.groups.next_deadline().is_none_or(|at| at > steady_ms)
        {
            return Ok(());
        }
        self.retry_at = None;
        // Time takes offsets away, so it must be a time that can be believed.
        let now = Now { steady_ms, calendar_ms: self.time.clock.settled_ms() };
        for decision in self.groups.tick(now) {
            self.store_unasked(decision)?;
        }
        Ok(())
    }

    /// Removes offsets of deleted topics, a bounded number of them at a time.
    pub(super) fn forget(&mut self, topics: DeletedTopics) -> Result<(), LogFailure> {
        self.forgetting.extend(topics);
        if self.forgetting.is_empty() || self.retry_at.is_some_and(|at| Instant::now() < at) {
            return Ok(());
        }
        let decision = self.groups.forget_topics(&self.forgetting);
        if decision.records.is_empty() {
            // Only what is committed is certainly removed: until then, the next load must know of it.
            let forgotten = std::mem::take(&mut self.forgetting);
            self.last_batch().forgotten.extend(forgotten);
            return Ok(());
        }
        self.store_unasked(decision)
    }

    /// Appends the batch under construction.
    pub(super) fn append(&mut self) -> Result<(), LogFailure> {
        if self.batch.appended.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        let now = self.time.clock.append_time();
        let bytes =
            records::batch(&batch.records, now.stamp_ms).map_err(|error| LogFailure::Failed(error.to_string()))?;
        let end = self.log.append(bytes, now)?;
        self.outstanding.push_back((end, Batch { records: Vec::new(), ..batch }));
        Ok(())
    }

    /// Shows what has been committed, answers for it, and decides the commands that waited for it.
    pub(super) fn settle(&mut self) -> Result<(), LogFailure> {
        let mut is_news = false;
        while self.oldest_outstanding().is_some_and(|end| self.log.is_committed(end)) {
            let Some((_, batch)) = self.outstanding.pop_front() else { break };
            self.uncommitted_decisions -= batch.appended.len();
            self.uncommitted_bytes -= batch.bytes;
            let now = self.time.now();
            for appended in batch.appended {
                self.groups.settle(appended, now);
            }
            for (token, reply) in batch.replies {
                self.answer(token, reply);
            }
            is_news = true;
        }
        if is_news {
            self.resume_deferred()?;
        }
        Ok(())
    }

    /// Refuses all that wait for the group to move; those that wait for the log learn it by the end of the channel. Returns the
    /// deleted topics that are not cleaned up after yet.
    pub(super) fn unload(self) -> DeletedTopics {
        let mut waiting = self.waiting;
        for (token, reply) in self.groups.unload() {
            if let Some(waiter) = waiting.remove(&token) {
                drop(waiter.send(reply));
            }
        }
        let mut left = self.forgetting;
        let batches = self.outstanding.into_iter().map(|(_, batch)| batch).chain([self.batch]);
        batches.for_each(|batch| left.extend(batch.forgotten));
        left
    }

    fn resume_deferred(&mut self) -> Result<(), LogFailure> {
        let settled: Vec<_> = self.deferred.keys().filter(|id| !self.groups.is_unsettled(id)).cloned().collect();
        for group in settled {
            let Some(mut commands) = self.deferred.remove(&group) else { continue };
            while !self.groups.is_unsettled(&group) {
                let Some((token, command)) = commands.pop_front() else { break };
                self.deferred_count -= 1;
                self.decide(token, &command)?;
            }
            if !commands.is_empty() {
                self.deferred.insert(group, commands);
            }
        }
        Ok(())
    }

    fn decide(&mut self, token: RequestToken, command: &Command) -> Result<(), LogFailure> {
        let now = self.time.now();
        let decision = self.groups.decide(token, command, now);
        if !self.share.grow(self.groups.growth_bytes(&decision)) {
            self.refuse(token, command, GroupError::CoordinatorNotAvailable);
            return Ok(());
        }
        let stored = self.carry_out(token, command, decision);
        self.share.set(self.groups.bytes());
        stored
    }

    fn carry_out(&mut self, token: RequestToken, command: &Command, decision: Decision) -> Result<(), LogFailure> {
        let is_of_offsets =
            matches!(command, Command::CommitOffsets(_) | Command::DeleteOffsets(_) | Command::DeleteGroup(_));
        let result = if !decision.records.is_empty() {
            self.store(decision)
        } else if is_of_offsets && self.groups.has_uncommitted(command.group()) {
            // "Nothing to do" rests on records that are not committed yet.
            let replies = self.take(decision);
            self.last_batch().replies.extend(replies);
            Ok(())
        } else {
            self.release(decision);
            Ok(())
        };
        match result {
            Ok(()) => Ok(()),
            Err(NotStored::Failed(failure)) => Err(failure),
            Err(NotStored::Refused(error)) => {
                self.refuse(token, command, error);
                Ok(())
            }
        }
    }

    fn refuse(&mut self, token: RequestToken, command: &Command, error: GroupError) {
        let (partition, group) = (self.partition, &**command.group());
        match (command, error) {
            (Command::Sync(sync), GroupError::RecordTooLarge) => {
                warn!(partition, group, %error, "refused the assignments of a consumer group");
                let now = self.time.now();
                let decision = self.groups.refuse_assignments(token, sync, error, now);
                self.release(decision);
            }
            (_, GroupError::RecordTooLarge) => {
                warn!(partition, group, %error, "refused a request of a consumer group");
                self.answer(token, command.refused(error));
            }
            _ => {
                debug!(partition, group, %error, "refused a request of a consumer group");
                self.answer(token, command.refused(error));
            }
        }
    }

    /// Stores what no client asked for; what cannot be stored now comes again.
    fn store_unasked(&mut self, decision: Decision) -> Result<(), LogFailure> {
        let stored = self.store_or_drop(decision);
        self.share.set(self.groups.bytes());
        stored
    }

    fn store_or_drop(&mut self, decision: Decision) -> Result<(), LogFailure> {
        if decision.records.is_empty() {
            self.release(decision);
            return Ok(());
        }
        match self.store(decision) {
            Ok(()) => Ok(()),
            Err(NotStored::Failed(failure)) => Err(failure),
            Err(NotStored::Refused(error)) => {
                debug!(partition = self.partition, %error, "cannot write down what time did to the groups");
                self.retry_at = Some(Instant::now() + RETRY_PAUSE);
                Ok(())
            }
        }
    }

    /// Lets a decision with records take effect, whole or not at all.
    fn store(&mut self, decision: Decision) -> Result<(), NotStored> {
        let encoded = decision.records.iter().map(records::encode).collect::<Result<Vec<_>, _>>();
        let encoded = encoded.map_err(|_| NotStored::Refused(GroupError::RecordTooLarge))?;
        let (bytes, max_bytes) = (records::batch_bytes(&encoded), self.log.max_batch_bytes());
        if bytes > max_bytes {
            return Err(NotStored::Refused(GroupError::RecordTooLarge));
        }
        if self.uncommitted_decisions >= MAX_UNCOMMITTED_DECISIONS
            || self.uncommitted_bytes.saturating_add(bytes) > MAX_UNCOMMITTED_BYTES.max(max_bytes)
        {
            return Err(NotStored::Refused(GroupError::CoordinatorNotAvailable));
        }
        self.log.admit()?;
        if self.batch.bytes.saturating_add(bytes) > BATCH_TARGET_BYTES.min(max_bytes) {
            self.append()?;
        }
        let (replies, appended) = self.groups.take(decision);
        self.uncommitted_decisions += 1;
        self.uncommitted_bytes += bytes;
        self.batch.bytes += bytes;
        self.batch.records.extend(encoded);
        self.batch.appended.push(appended);
        self.batch.replies.extend(replies);
        Ok(())
    }

    /// Lets a decision without records take effect, and answers at once.
    fn release(&mut self, decision: Decision) {
        for (token, reply) in self.take(decision) {
            self.answer(token, reply);
        }
    }

    fn take(&mut self, decision: Decision) -> Vec<(RequestToken, Reply)> {
        let (replies, appended) = self.groups.take(decision);
        let now = self.time.now();
        self.groups.settle(appended, now);
        replies
    }

    /// The last batch that is not committed yet. One without records when there is none.
    fn last_batch(&mut self) -> &mut Batch {
        match self.outstanding.back_mut() {
            Some((_, last)) if self.batch.appended.is_empty() => last,
            _ => &mut self.batch,
        }
    }

    fn answer(&mut self, token: RequestToken, reply: Reply) {
        if let Some(waiter) = self.waiting.remove(&token) {
            // The client may have hung up.
            drop(waiter.send(reply));
        }
    }
}

/// The steady time without the spans in which the coordinator did not run.
struct ServingTime {
    clock: Clock,
    last_ms: TimestampMs,
    stalled_ms: TimestampMs,
}

impl ServingTime {
    fn now(&mut self) -> Now {
        let (steady_ms, calendar_ms) = (self.clock.steady_ms(), self.clock.now_ms());
        let passed_ms = steady_ms.saturating_sub(std::mem::replace(&mut self.last_ms, steady_ms));
        if passed_ms > STALL_MS {
            warn!(passed_ms, "the coordinator of consumer groups did not run; sessions are prolonged by that time");
            self.stalled_ms = self.stalled_ms.saturating_add(passed_ms);
        }
        Now { steady_ms: steady_ms.saturating_sub(self.stalled_ms), calendar_ms }
    }
}
