//! The groups of one partition of `__consumer_offsets`, as one machine.

use std::collections::{BTreeMap, BTreeSet};

use model::{PartitionIndex, TimestampMs};

use super::command::{Command, Heartbeat, JoinGroup, JoinRefused, Reply, RequestToken, SyncGroup};
use super::describe::{GroupDescription, GroupListing, ListFilter, describe};
use super::draft::Draft;
use super::error::GroupError;
use super::membership::{GroupState, Membership};
use super::now::Now;
use super::offsets;
use super::record::{CommittedOffset, GroupId, GroupImage, GroupRecord, MemberId, OffsetsByTopic};
use super::settings::GroupSettings;
use super::sync::check_heartbeat;
use super::uncommitted::{Appended, Uncommitted};
use super::unused_ids::UnusedIds;
use super::weight::{self, Weight};

/// All groups of one shard. Invariants: `deadlines` names, for each group with a deadline, an instant no later than it;
/// `bytes` is the sum of what the groups weigh.
#[derive(Debug)]
pub struct Groups {
    pub(super) settings: GroupSettings,
    pub(super) groups: BTreeMap<GroupId, Group>,
    pub(super) deadlines: BTreeSet<(TimestampMs, GroupId)>,
    next_offset_sweep: TimestampMs,
    pub(super) bytes: usize,
    pub(super) unused_ids: UnusedIds,
}

#[derive(Debug)]
pub(super) struct Group {
    /// As the last record said.
    pub(super) image: Option<GroupImage>,
    pub(super) offsets: OffsetsByTopic,
    pub(super) membership: Membership,
    uncommitted: Uncommitted,
    pub(super) weight: Weight,
    /// The group's entry in [`Groups::deadlines`].
    pub(super) indexed: Option<TimestampMs>,
}

impl Group {
    pub(super) fn without_members() -> Self {
        Self {
            image: None,
            offsets: OffsetsByTopic::new(),
            membership: Membership::empty(0),
            uncommitted: Uncommitted::default(),
            weight: Weight::default(),
            indexed: None,
        }
    }

    /// Nothing is persisted or under way, and no member is about to join.
    pub(super) fn is_void(&self) -> bool {
        let idle = self.membership.state == GroupState::Empty && self.membership.pending_joins.is_empty();
        idle && self.image.is_none() && self.offsets.is_empty() && self.uncommitted.is_empty()
    }

    /// The next instant at which time alone changes the group. Time does not judge members that wait for the log.
    fn next_deadline(&self) -> Option<TimestampMs> {
        if self.uncommitted.holds_metadata() { None } else { self.membership.next_deadline() }
    }
}

/// What a request or the passing of time leads to. To be appended whole or not at all, then handed to [`Groups::take`]
/// before the next decision. The replies leave when the records are committed.
#[derive(Debug, Default)]
pub struct Decision {
    /// To append to the log, as one.
    pub records: Vec<GroupRecord>,
    /// To the part of the state that is not persisted.
    pub(super) changes: Vec<Change>,
    /// To this request and to others that were waiting. A request without a reply here waits on.
    pub replies: Vec<(RequestToken, Reply)>,
    /// The members that are answered.
    pub(super) answered: Vec<(GroupId, MemberId)>,
}

/// A change of what is kept in memory only, as a value.
#[derive(Debug)]
pub(super) enum Change {
    Membership(GroupId, Box<Membership>),
    Alive { group: GroupId, member: MemberId, at: TimestampMs },
    OffsetsSwept { next: TimestampMs },
    HandedOut { group: GroupId, member: MemberId, at: TimestampMs },
}

impl Groups {
    /// An empty shard. To load one, apply its records in order, then call [`Groups::activate`].
    #[must_use]
    pub fn new(settings: GroupSettings) -> Self {
        Self {
            settings,
            groups: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            next_offset_sweep: TimestampMs::MAX,
            bytes: 0,
            unused_ids: UnusedIds::default(),
        }
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
            group.weight.members = weight::members(&group.membership);
        }
        self.bytes = self.groups.iter().map(|(id, group)| group.weight.total(id)).sum();
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

    /// The assignments of `sync` cannot be stored: the group has to rebalance instead. Writes nothing.
    #[must_use]
    pub fn refuse_assignments(
        &self,
        token: RequestToken,
        sync: &SyncGroup,
        error: GroupError,
        now: impl Into<Now>,
    ) -> Decision {
        let refused = Decision { replies: vec![(token, Reply::Sync(Err(error)))], ..Decision::default() };
        let group = self.groups.get(&sync.group);
        let is_due = |group: &&Group| group.membership.state == GroupState::CompletingRebalance;
        group.filter(is_due).map_or(refused, |group| {
            self.draft(&sync.group, group, now.into(), |draft| draft.refuse_assignments(token, error))
        })
    }

    /// What time alone leads to at `now`: decisions on different groups, each to be stored by itself. One that cannot be
    /// stored may be dropped; it comes again.
    #[must_use]
    pub fn tick(&self, now: impl Into<Now>) -> Vec<Decision> {
        let now = now.into();
        let due = self.deadlines.iter().take_while(|(at, _)| *at <= now.steady_ms);
        let groups = due.filter_map(|(_, id)| self.groups.get(id).map(|group| (id, group)));
        let mut decisions: Vec<_> =
            groups.map(|(id, group)| self.draft(id, group, now, |draft| draft.tick())).collect();
        if self.next_offset_sweep <= now.steady_ms {
            self.sweep_offsets(now, &mut decisions);
        }
        decisions
    }

    /// The next instant at which [`Groups::tick`] may have something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<TimestampMs> {
        let groups = self.deadlines.first().map(|(at, _)| *at);
        let sweep = Some(self.next_offset_sweep).filter(|at| *at != TimestampMs::MAX);
        groups.into_iter().chain(sweep).min()
    }

    /// Takes over a decision whose records have been appended. Returns the replies, and the handle by which the records are
    /// settled; without records, the replies may leave at once.
    pub fn take(&mut self, decision: Decision) -> (Vec<(RequestToken, Reply)>, Appended) {
        let Decision { records, changes, replies, mut answered } = decision;
        for record in &records {
            let group = self.entry(record.group());
            group.uncommitted.begin(record, &group.offsets);
            self.apply(record);
        }
        for change in changes {
            self.adopt(change);
        }
        if records.is_empty() {
            answered.clear();
        }
        for (group, member) in &answered {
            let group = self.groups.get_mut(group);
            if let Some(member) = group.and_then(|group| group.membership.members.get_mut(member)) {
                member.withheld += 1;
            }
        }
        (replies, Appended { records, withheld: answered })
    }

    /// The records are committed: shows them, and begins the sessions of the members whose answers leave now. In the order of
    /// the log.
    pub fn settle(&mut self, appended: Appended, now: impl Into<Now>) {
        let now = now.into();
        let (mut touched, mut ended) = (BTreeSet::new(), BTreeSet::new());
        for record in appended.records {
            let id = record.group().clone();
            if matches!(record, GroupRecord::Metadata { image: None, .. }) {
                ended.insert(id.clone());
            }
            if let Some(group) = self.groups.get_mut(&id) {
                group.uncommitted.settle(record);
                touched.insert(id);
            }
        }
        for (id, member) in appended.withheld {
            let group = self.groups.get_mut(&id);
            if let Some(member) = group.and_then(|group| group.membership.members.get_mut(&member)) {
                member.withheld = member.withheld.saturating_sub(1);
                member.expect_heartbeat(now.steady_ms);
            }
        }
        touched.iter().for_each(|id| self.index_deadline(id));
        ended.iter().for_each(|id| self.drop_if_void(id));
    }

    /// True while a record of the group itself is appended but not committed. Until it is settled, commands of the group must
    /// wait, except heartbeats.
    #[must_use]
    pub fn is_unsettled(&self, group: &str) -> bool {
        self.groups.get(group).is_some_and(|group| group.uncommitted.holds_metadata())
    }

    /// True while any record of the group is appended but not committed.
    #[must_use]
    pub fn has_uncommitted(&self, group: &str) -> bool {
        self.groups.get(group).is_some_and(|group| !group.uncommitted.is_empty())
    }

    /// Takes over a record while loading.
    pub fn apply(&mut self, record: &GroupRecord) {
        if record.is_tombstone() && !self.groups.contains_key(record.group()) {
            return;
        }
        match record {
            GroupRecord::Metadata { group, image } => {
                self.change(group, |entry| {
                    entry.weight.image = image.as_ref().map_or(0, weight::image);
                    entry.image.clone_from(image);
                });
                self.drop_if_void(group);
            }
            GroupRecord::Offset { group, topic, partition, committed: Some(committed) } => {
                self.change(group, |entry| {
                    let of_topic = entry.offsets.entry(topic.clone()).or_default();
                    let replaced = of_topic.insert(*partition, committed.clone());
                    entry.weight.offsets += weight::offset(topic, committed);
                    entry.weight.offsets -= replaced.map_or(0, |replaced| weight::offset(topic, &replaced));
                })
            }
            GroupRecord::Offset { group, topic, partition, committed: None } => {
                self.change(group, |entry| {
                    let Some(of_topic) = entry.offsets.get_mut(topic) else { return };
                    let removed = of_topic.remove(partition);
                    entry.weight.offsets -= removed.map_or(0, |removed| weight::offset(topic, &removed));
                    if of_topic.is_empty() {
                        entry.offsets.remove(topic);
                    }
                });
            }
        }
    }

    fn adopt(&mut self, change: Change) {
        match change {
            Change::Membership(id, membership) => {
                self.change(&id, |group| {
                    group.weight.members = weight::members(&membership);
                    group.weight.pending = weight::pending(&membership);
                    group.membership = *membership;
                });
                self.index_deadline(&id);
                self.drop_if_void(&id);
            }
            Change::Alive { group, member, at } => {
                let Some(entry) = self.groups.get_mut(&group) else { return };
                let Some(member) = entry.membership.members.get_mut(&member) else { return };
                member.expect_heartbeat(at);
                // Mostly the deadline moves away: the index is then early, and put right by the tick that it causes.
                if entry.indexed.is_none_or(|indexed| member.session_deadline.is_some_and(|at| at < indexed)) {
                    self.index_deadline(&group);
                }
            }
            Change::OffsetsSwept { next } => {
                self.next_offset_sweep = next;
                self.drop_all_void();
            }
            Change::HandedOut { group, member, at } => self.hand_out(group, member, at),
        }
    }

    /// Gives the shard up: refuses all who wait.
    #[must_use]
    pub fn unload(self) -> Vec<(RequestToken, Reply)> {
        let error = GroupError::NotCoordinator;
        let mut replies = Vec::new();
        for (id, member) in self.groups.values().flat_map(|group| group.membership.members.iter()) {
            let refused = || JoinRefused { member_id: id.clone(), error };
            let join = member.awaiting_join.map(|token| (token, Reply::Join(Err(refused()))));
            let sync = member.awaiting_sync.map(|token| (token, Reply::Sync(Err(error))));
            replies.extend(join.into_iter().chain(sync));
        }
        replies
    }

    /// Committed offsets of a group, nothing if there is no such group.
    #[must_use]
    pub fn offsets(&self, group: &str) -> OffsetsByTopic {
        self.groups.get(group).map(|group| group.uncommitted.committed(&group.offsets)).unwrap_or_default()
    }

    /// The committed offsets of a group, one by one and without a copy.
    pub fn each_offset(&self, group: &str) -> impl Iterator<Item = &CommittedOffset> {
        let group = self.groups.get(group).into_iter();
        group.flat_map(|group| group.uncommitted.each(&group.offsets)).map(|(_, _, offset)| offset)
    }

    /// One committed offset.
    #[must_use]
    pub fn offset(&self, group: &str, topic: &str, partition: PartitionIndex) -> Option<&CommittedOffset> {
        let group = self.groups.get(group)?;
        group.uncommitted.offset(&group.offsets, topic, partition)
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
                let alive = Change::Alive { group, member, at: now.steady_ms };
                let replies = vec![(token, Reply::CommitOffsets(Ok(results)))];
                let answered = vec![(commit.group.clone(), commit.member.member_id.clone())];
                Decision { records, changes: vec![alive], replies, answered }
            }
            Command::DeleteOffsets(delete) => {
                let Some(group) = group else { return refusal(token, command, GroupError::GroupIdNotFound) };
                match offsets::delete_records(&group.membership, &group.offsets, delete) {
                    Err(error) => refusal(token, command, error),
                    Ok((results, records)) => {
                        let replies = vec![(token, Reply::DeleteOffsets(Ok(results)))];
                        Decision { records, replies, ..Decision::default() }
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
                    let void = Change::Membership(id.clone(), Box::new(Membership::empty(now.calendar_ms)));
                    Decision {
                        records,
                        changes: vec![void],
                        replies: vec![(token, Reply::DeleteGroup(Ok(())))],
                        answered: Vec::new(),
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

    pub(super) fn index_deadline(&mut self, id: &GroupId) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let next = group.next_deadline();
        if let Some(old) = std::mem::replace(&mut group.indexed, next) {
            self.deadlines.remove(&(old, id.clone()));
        }
        self.deadlines.extend(next.map(|at| (at, id.clone())));
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
        decision.changes.push(Change::Alive { group, member, at: now });
    }
    decision
}

fn finish(draft: Draft<'_>) -> Decision {
    let answered = draft.answered.into_iter().map(|member| (draft.group.clone(), member)).collect();
    let (group, at) = (draft.group.clone(), draft.now);
    let handed_out = draft.handed_out.map(|member| Change::HandedOut { group, member, at });
    let change = Change::Membership(draft.group, Box::new(draft.membership));
    let changes = std::iter::once(change).chain(handed_out).collect();
    Decision { records: draft.records, changes, replies: draft.replies, answered }
}

/// A command refused as a whole.
fn refusal(token: RequestToken, command: &Command, error: GroupError) -> Decision {
    Decision { replies: vec![(token, command.refused(error))], ..Decision::default() }
}
