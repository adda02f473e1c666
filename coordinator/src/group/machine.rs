//! The groups of one partition of `__consumer_offsets`, as one machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{PartitionIndex, TimestampMs};

use super::command::{Command, Heartbeat, JoinGroup, JoinRefused, Reply, RequestToken};
use super::describe::{GroupDescription, GroupListing, ListFilter, describe};
use super::draft::Draft;
use super::error::GroupError;
use super::membership::{GroupState, Membership};
use super::now::Now;
use super::offsets;
use super::record::{CommittedOffset, GroupId, GroupImage, GroupRecord, MemberId, OffsetsByTopic};
use super::settings::GroupSettings;
use super::sync::check_heartbeat;

/// All groups of one shard. Invariant: `deadlines` names, for each group with a deadline, an instant no later than it.
#[derive(Debug)]
pub struct Groups {
    settings: GroupSettings,
    groups: BTreeMap<GroupId, Group>,
    deadlines: BTreeSet<(TimestampMs, GroupId)>,
    next_offset_sweep: TimestampMs,
}

#[derive(Debug)]
struct Group {
    /// As the last record said.
    image: Option<GroupImage>,
    offsets: OffsetsByTopic,
    membership: Membership,
    /// The group's entry in [`Groups::deadlines`].
    indexed: Option<TimestampMs>,
}

impl Group {
    fn without_members() -> Self {
        Self { image: None, offsets: OffsetsByTopic::new(), membership: Membership::empty(0), indexed: None }
    }

    /// Nothing persisted, and nobody about to join.
    fn is_void(&self) -> bool {
        let idle = self.membership.state == GroupState::Empty && self.membership.pending_joins.is_empty();
        idle && self.image.is_none() && self.offsets.is_empty()
    }
}

/// What a request or the passing of time leads to. The records must be stored before any reply leaves; both records
/// ([`Groups::apply`]) and changes ([`Groups::adopt`]) must take effect, in this order, before the next decision.
#[derive(Debug, Default)]
pub struct Decision {
    /// To append to the log, together.
    pub records: Vec<GroupRecord>,
    /// To the part of the state that is not persisted.
    pub changes: Vec<Change>,
    /// To this request and to others that were waiting. A request without a reply here waits on.
    pub replies: Vec<(RequestToken, Reply)>,
}

/// A change of what is kept in memory only, as a value.
#[derive(Debug)]
pub struct Change(Effect);

#[derive(Debug)]
enum Effect {
    Membership(GroupId, Box<Membership>),
    Alive { group: GroupId, member: MemberId, at: TimestampMs },
    OffsetsSwept { next: TimestampMs },
}

impl Groups {
    /// An empty shard. To load one, apply its records in order, then call [`Groups::activate`].
    #[must_use]
    pub fn new(settings: GroupSettings) -> Self {
        Self { settings, groups: BTreeMap::new(), deadlines: BTreeSet::new(), next_offset_sweep: TimestampMs::MAX }
    }

    /// Ends loading: members known from the log get a full session from `now` on to come back.
    pub fn activate(&mut self, now: impl Into<Now>) {
        let now = now.into();
        self.groups.retain(|_, group| group.image.is_some() || !group.offsets.is_empty());
        for group in self.groups.values_mut() {
            group.membership = match &group.image {
                Some(image) => Membership::from_image(image, now),
                None => Membership::empty(0),
            };
        }
        self.next_offset_sweep = now.steady_ms.saturating_add(self.settings.offsets_retention_check_interval_ms);
        for id in self.groups.keys().cloned().collect::<Vec<_>>() {
            self.index_deadline(&id);
        }
    }

    /// What `command` leads to at `now`.
    #[must_use]
    pub fn decide(&self, token: RequestToken, command: &Command, now: impl Into<Now>) -> Decision {
        let now = now.into();
        let group = self.groups.get(command.group());
        match command {
            Command::Sync(_) | Command::Leave(_) | Command::DeleteOffsets(_) if command.group().is_empty() => {
                refusal(token, command, GroupError::InvalidGroupId)
            }
            Command::Join(join) => self.decide_join(token, join, now),
            Command::Heartbeat(heartbeat) => heartbeat_decision(group, token, heartbeat, now.steady_ms),
            Command::CommitOffsets(_) | Command::DeleteOffsets(_) | Command::DeleteGroup(_) => {
                self.decide_offsets(token, command, now)
            }
            Command::Sync(sync) => match group {
                None => refusal(token, command, GroupError::UnknownMemberId),
                Some(group) => self.draft(&sync.group, group, now, |draft| draft.sync(token, sync)),
            },
            Command::Leave(leave) => match group {
                None => {
                    let each = leave.members.iter().map(|_| Err(GroupError::UnknownMemberId)).collect();
                    Decision { replies: vec![(token, Reply::Leave(Ok(each)))], ..Decision::default() }
                }
                Some(group) => self.draft(&leave.group, group, now, |draft| draft.leave(token, leave)),
            },
        }
    }

    /// What time alone leads to at `now`.
    #[must_use]
    pub fn tick(&self, now: impl Into<Now>) -> Decision {
        let now = now.into();
        let mut decision = Decision::default();
        for (_, id) in self.deadlines.iter().take_while(|(at, _)| *at <= now.steady_ms) {
            if let Some(group) = self.groups.get(id) {
                let of_group = self.draft(id, group, now, |draft| draft.tick());
                decision.records.extend(of_group.records);
                decision.changes.extend(of_group.changes);
                decision.replies.extend(of_group.replies);
            }
        }
        if self.next_offset_sweep <= now.steady_ms {
            self.sweep_offsets(now, &mut decision);
        }
        decision
    }

    /// The next instant at which [`Groups::tick`] may have something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<TimestampMs> {
        let groups = self.deadlines.first().map(|(at, _)| *at);
        let sweep = Some(self.next_offset_sweep).filter(|at| *at != TimestampMs::MAX);
        groups.into_iter().chain(sweep).min()
    }

    /// Takes over a record, live or while loading.
    pub fn apply(&mut self, record: &GroupRecord) {
        match record {
            GroupRecord::Metadata { group, image } => {
                if let Some(image) = image {
                    self.entry(group).image = Some(image.clone());
                } else if let Some(existing) = self.groups.get_mut(group) {
                    existing.image = None;
                    self.drop_if_void(group);
                }
            }
            GroupRecord::Offset { group, topic, partition, committed: Some(committed) } => {
                let of_topic = self.entry(group).offsets.entry(topic.clone()).or_default();
                of_topic.insert(*partition, committed.clone());
            }
            GroupRecord::Offset { group, topic, partition, committed: None } => {
                let Some(existing) = self.groups.get_mut(group) else { return };
                if let Some(of_topic) = existing.offsets.get_mut(topic) {
                    of_topic.remove(partition);
                    existing.offsets.retain(|_, of_topic| !of_topic.is_empty());
                }
                self.drop_if_void(group);
            }
        }
    }

    /// Takes over a change of a decision, after its records.
    pub fn adopt(&mut self, change: Change) {
        match change.0 {
            Effect::Membership(id, membership) => {
                self.entry(&id).membership = *membership;
                self.index_deadline(&id);
                self.drop_if_void(&id);
            }
            Effect::Alive { group, member, at } => {
                let Some(entry) = self.groups.get_mut(&group) else { return };
                let Some(member) = entry.membership.members.get_mut(&member) else { return };
                member.expect_heartbeat(at);
                // Mostly the deadline moves away: the index is then early, and put right by the tick that it causes.
                if entry.indexed.is_none_or(|indexed| member.session_deadline.is_some_and(|at| at < indexed)) {
                    self.index_deadline(&group);
                }
            }
            Effect::OffsetsSwept { next } => self.next_offset_sweep = next,
        }
    }

    /// Gives the shard up: refuses all who wait.
    #[must_use]
    pub fn unload(self) -> Vec<(RequestToken, Reply)> {
        let error = GroupError::NotCoordinator;
        let mut replies = Vec::new();
        for (id, member) in self.groups.into_values().flat_map(|group| group.membership.members) {
            let join =
                member.awaiting_join.map(|token| (token, Reply::Join(Err(JoinRefused { member_id: id, error }))));
            let sync = member.awaiting_sync.map(|token| (token, Reply::Sync(Err(error))));
            replies.extend(join.into_iter().chain(sync));
        }
        replies
    }

    /// Committed offsets of a group, `None` if there is no such group.
    #[must_use]
    pub fn offsets(&self, group: &str) -> Option<&OffsetsByTopic> {
        self.groups.get(group).map(|group| &group.offsets)
    }

    /// One committed offset.
    #[must_use]
    pub fn offset(&self, group: &str, topic: &str, partition: PartitionIndex) -> Option<&CommittedOffset> {
        self.offsets(group)?.get(topic)?.get(&partition)
    }

    /// A group as administrators see it, `None` if there is no such group.
    #[must_use]
    pub fn describe(&self, group: &str) -> Option<GroupDescription> {
        self.groups.get(group).map(|group| describe(&group.membership))
    }

    /// The groups that pass `filter`, by id.
    #[must_use]
    pub fn list(&self, filter: &ListFilter) -> Vec<GroupListing> {
        let passing = self.groups.iter().filter(|(_, group)| filter.accepts(group.membership.state));
        let listing = passing.map(|(id, group)| GroupListing {
            group: id.clone(),
            protocol_type: group.membership.protocol_type.clone().unwrap_or_default(),
            state: group.membership.state,
        });
        listing.collect()
    }

    /// Removes all offsets of deleted topics.
    #[must_use]
    pub fn forget_topics(&self, topics: &BTreeSet<Arc<str>>) -> Decision {
        let mut decision = Decision::default();
        for (id, group) in &self.groups {
            for (topic, of_topic) in group.offsets.iter().filter(|(topic, _)| topics.contains(*topic)) {
                decision.records.extend(of_topic.keys().map(|partition| offsets::tombstone(id, topic, *partition)));
            }
        }
        decision
    }

    /// What the log holds of the shard: replaying its records gives the same, wherever it runs.
    #[must_use]
    pub fn persisted(&self) -> BTreeMap<&GroupId, (Option<&GroupImage>, &OffsetsByTopic)> {
        let kept = self.groups.iter().filter(|(_, group)| group.image.is_some() || !group.offsets.is_empty());
        kept.map(|(id, group)| (id, (group.image.as_ref(), &group.offsets))).collect()
    }

    #[cfg(test)]
    pub(super) fn membership(&self, group: &str) -> Option<&Membership> {
        self.groups.get(group).map(|group| &group.membership)
    }

    fn decide_join(&self, token: RequestToken, join: &JoinGroup, now: Now) -> Decision {
        let bounds = self.settings.min_session_timeout_ms..=self.settings.max_session_timeout_ms;
        let known = self.groups.get(&join.group);
        let error = if join.group.is_empty() {
            Some(GroupError::InvalidGroupId)
        } else if !bounds.contains(&join.session_timeout_ms) {
            Some(GroupError::InvalidSessionTimeout)
        } else if known.is_none() && !join.member_id.is_empty() {
            Some(GroupError::UnknownMemberId)
        } else if known.is_none() && self.groups.len() >= self.settings.max_groups {
            Some(GroupError::GroupMaxSizeReached)
        } else {
            None
        };
        if let Some(error) = error {
            let refused = Reply::Join(Err(JoinRefused { member_id: join.member_id.clone(), error }));
            return Decision { replies: vec![(token, refused)], ..Decision::default() };
        }
        let membership = known.map_or_else(|| Membership::empty(now.calendar_ms), |group| group.membership.clone());
        let mut draft = Draft::new(&self.settings, now, join.group.clone(), membership);
        draft.join(token, join);
        finish(draft)
    }

    fn decide_offsets(&self, token: RequestToken, command: &Command, now: Now) -> Decision {
        let group = self.groups.get(command.group());
        match command {
            Command::CommitOffsets(commit) => {
                if let Err(error) = offsets::check_commit(group.map(|group| &group.membership), commit) {
                    return refusal(token, command, error);
                }
                if group.is_none() && self.groups.len() >= self.settings.max_groups {
                    return refusal(token, command, GroupError::CoordinatorNotAvailable);
                }
                let (results, records) = offsets::commit_records(&self.settings, commit, now.calendar_ms);
                let (group, member) = (commit.group.clone(), commit.member.member_id.clone());
                let alive = Effect::Alive { group, member, at: now.steady_ms };
                let replies = vec![(token, Reply::CommitOffsets(Ok(results)))];
                Decision { records, changes: vec![Change(alive)], replies }
            }
            Command::DeleteOffsets(delete) => {
                let Some(group) = group else { return refusal(token, command, GroupError::GroupIdNotFound) };
                match offsets::delete_records(&group.membership, &group.offsets, delete) {
                    Err(error) => refusal(token, command, error),
                    Ok((results, records)) => {
                        let replies = vec![(token, Reply::DeleteOffsets(Ok(results)))];
                        Decision { records, changes: Vec::new(), replies }
                    }
                }
            }
            _ => match group {
                None => refusal(token, command, GroupError::GroupIdNotFound),
                Some(group) if group.membership.state != GroupState::Empty => {
                    refusal(token, command, GroupError::NonEmptyGroup)
                }
                Some(group) => {
                    let id = command.group();
                    let mut records = Vec::new();
                    for (topic, of_topic) in &group.offsets {
                        records.extend(of_topic.keys().map(|partition| offsets::tombstone(id, topic, *partition)));
                    }
                    records.push(GroupRecord::Metadata { group: id.clone(), image: None });
                    let void = Effect::Membership(id.clone(), Box::new(Membership::empty(now.calendar_ms)));
                    Decision {
                        records,
                        changes: vec![Change(void)],
                        replies: vec![(token, Reply::DeleteGroup(Ok(())))],
                    }
                }
            },
        }
    }

    fn draft(&self, id: &GroupId, group: &Group, now: Now, act: impl FnOnce(&mut Draft<'_>)) -> Decision {
        let mut draft = Draft::new(&self.settings, now, id.clone(), group.membership.clone());
        act(&mut draft);
        finish(draft)
    }

    /// Lapsed offsets go, and empty groups that keep none. A sweep that hits its bound goes on at the next tick.
    fn sweep_offsets(&self, now: Now, decision: &mut Decision) {
        let limit = self.settings.max_expired_per_sweep;
        let mut written = 0;
        for (id, group) in &self.groups {
            let left = limit.saturating_sub(written);
            if left == 0 {
                break;
            }
            let lapsed = offsets::lapsed(&self.settings, &group.membership, &group.offsets, (now.calendar_ms, left));
            let remaining = group.offsets.values().map(BTreeMap::len).sum::<usize>().saturating_sub(lapsed.len());
            written += lapsed.len();
            decision.records.extend(lapsed.iter().map(|(topic, partition)| offsets::tombstone(id, topic, *partition)));
            let idle = group.membership.state == GroupState::Empty && group.membership.pending_joins.is_empty();
            if remaining == 0 && idle && group.image.is_some() {
                written += 1;
                decision.records.push(GroupRecord::Metadata { group: id.clone(), image: None });
            }
        }
        let pause_ms = if written >= limit { 1 } else { self.settings.offsets_retention_check_interval_ms };
        decision.changes.push(Change(Effect::OffsetsSwept { next: now.steady_ms.saturating_add(pause_ms) }));
    }

    fn entry(&mut self, id: &GroupId) -> &mut Group {
        self.groups.entry(id.clone()).or_insert_with(Group::without_members)
    }

    fn index_deadline(&mut self, id: &GroupId) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let next = group.membership.next_deadline();
        if let Some(old) = std::mem::replace(&mut group.indexed, next) {
            self.deadlines.remove(&(old, id.clone()));
        }
        self.deadlines.extend(next.map(|at| (at, id.clone())));
    }

    fn drop_if_void(&mut self, id: &GroupId) {
        if self.groups.get(id).is_some_and(Group::is_void) {
            let dropped = self.groups.remove(id);
            if let Some(at) = dropped.and_then(|group| group.indexed) {
                self.deadlines.remove(&(at, id.clone()));
            }
        }
    }
}

/// A heartbeat moves one deadline, so it does without a copy of the membership.
fn heartbeat_decision(group: Option<&Group>, token: RequestToken, heartbeat: &Heartbeat, now: TimestampMs) -> Decision {
    let result = match group {
        _ if heartbeat.group.is_empty() => Err(GroupError::InvalidGroupId),
        None => Err(GroupError::UnknownMemberId),
        Some(group) => check_heartbeat(&group.membership, heartbeat),
    };
    let mut decision = Decision { replies: vec![(token, Reply::Heartbeat(result))], ..Decision::default() };
    if matches!(result, Ok(()) | Err(GroupError::RebalanceInProgress)) {
        let (group, member) = (heartbeat.group.clone(), heartbeat.member.member_id.clone());
        decision.changes.push(Change(Effect::Alive { group, member, at: now }));
    }
    decision
}

fn finish(draft: Draft<'_>) -> Decision {
    let change = Effect::Membership(draft.group, Box::new(draft.membership));
    Decision { records: draft.records, changes: vec![Change(change)], replies: draft.replies }
}

/// A command refused as a whole.
fn refusal(token: RequestToken, command: &Command, error: GroupError) -> Decision {
    Decision { replies: vec![(token, command.refused(error))], ..Decision::default() }
}
