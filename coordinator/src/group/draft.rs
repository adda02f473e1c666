//! One decision on one group in the making: a copy of its membership, the records and the replies so far.
//!
//! Here are the transitions between the phases of a rebalance, which every kind of request may set off.

use bytes::Bytes;
use model::TimestampMs;

use super::command::{JoinRefused, Joined, Reply, RequestToken, Synced};
use super::error::GroupError;
use super::membership::{GroupState, JoinDeadline, JoinExtension, Membership};
use super::now::Now;
use super::record::{GroupId, GroupRecord, MemberId};
use super::settings::GroupSettings;
use crate::shared_map::SharedMap;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) settings: &'a GroupSettings,
    /// For deadlines.
    pub(super) now: TimestampMs,
    /// For what is persisted.
    pub(super) calendar: TimestampMs,
    pub(super) group: GroupId,
    pub(super) membership: Membership,
    pub(super) records: Vec<GroupRecord>,
    pub(super) replies: Vec<(RequestToken, Reply)>,
    /// Members whose requests are answered.
    pub(super) answered: Vec<MemberId>,
    /// The id that is handed out to one who has to join again with it.
    pub(super) handed_out: Option<MemberId>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(settings: &'a GroupSettings, now: Now, group: GroupId, membership: Membership) -> Self {
        let Now { steady_ms: now, calendar_ms: calendar } = now;
        Self {
            settings,
            now,
            calendar,
            group,
            membership,
            records: Vec::new(),
            replies: Vec::new(),
            answered: Vec::new(),
            handed_out: None,
        }
    }

    pub(super) fn reply(&mut self, token: RequestToken, reply: Reply) {
        self.replies.push((token, reply));
    }

    pub(super) fn refuse_join(&mut self, token: RequestToken, member_id: MemberId, error: GroupError) {
        self.reply(token, Reply::Join(Err(JoinRefused { member_id, error })));
    }

    /// Writes the group down as it is now.
    pub(super) fn persist(&mut self) {
        let image = Some(self.membership.image());
        self.records.push(GroupRecord::Metadata { group: self.group.clone(), image });
    }

    /// Takes a member out; its waiting requests are refused, so that it joins again if it still lives.
    pub(super) fn remove_member(&mut self, id: &str) {
        let Some(removed) = self.membership.remove(id) else { return };
        if let Some(token) = removed.awaiting_join {
            self.refuse_join(token, MemberId::from(""), GroupError::UnknownMemberId);
        }
        if let Some(token) = removed.awaiting_sync {
            self.reply(token, Reply::Sync(Err(GroupError::UnknownMemberId)));
        }
    }

    /// After members changed or joined: begins a rebalance, or completes the one under way if no member is missing.
    pub(super) fn rebalance_or_complete_join(&mut self) {
        if self.membership.state == GroupState::PreparingRebalance {
            self.complete_join_if_all_joined();
        } else {
            self.prepare_rebalance();
        }
    }

    /// Does nothing outside the join phase, and lets an initial rebalance wait for its deadline.
    pub(super) fn complete_join_if_all_joined(&mut self) {
        let membership = &self.membership;
        let joining = membership.state == GroupState::PreparingRebalance && !membership.initial_rebalance;
        if joining && membership.has_all_joined() {
            self.complete_join();
        }
    }

    /// Begins the join phase. Members that wait for an assignment have to join again.
    pub(super) fn prepare_rebalance(&mut self) {
        if self.membership.state == GroupState::CompletingRebalance {
            for (_, member) in self.membership.members.iter_mut() {
                member.assignment = Bytes::new();
            }
            self.answer_syncs(Some(GroupError::RebalanceInProgress));
        }
        let now = self.now;
        let membership = &mut self.membership;
        membership.pending_syncs = SharedMap::new();
        membership.sync_deadline = None;
        let initial = membership.state == GroupState::Empty;
        membership.enter(GroupState::PreparingRebalance, self.calendar);
        let timeout_ms = membership.rebalance_timeout_ms();
        if initial {
            let delay_ms = i64::from(self.settings.initial_rebalance_delay_ms.max(0));
            let remaining_ms = (timeout_ms - delay_ms).max(0);
            let extension = Some(JoinExtension { delay_ms, remaining_ms });
            membership.newcomer_since_deadline = false;
            membership.join_deadline = Some(JoinDeadline { at: now.saturating_add(delay_ms), extension });
        } else if membership.has_all_joined() {
            self.complete_join();
        } else {
            membership.join_deadline = Some(JoinDeadline { at: now.saturating_add(timeout_ms), extension: None });
        }
    }

    /// The join deadline has passed: an initial rebalance is put off while newcomers keep turning up.
    pub(super) fn join_deadline_passed(&mut self, deadline: JoinDeadline) {
        let membership = &mut self.membership;
        match deadline.extension {
            Some(JoinExtension { delay_ms, remaining_ms })
                if membership.newcomer_since_deadline && remaining_ms > 0 =>
            {
                membership.newcomer_since_deadline = false;
                let next_delay_ms = i64::from(self.settings.initial_rebalance_delay_ms.max(0)).min(remaining_ms);
                let remaining_ms = (remaining_ms - delay_ms).max(0);
                let extension = Some(JoinExtension { delay_ms: next_delay_ms, remaining_ms });
                membership.join_deadline = Some(JoinDeadline { at: self.now.saturating_add(next_delay_ms), extension });
            }
            _ => self.complete_join(),
        }
    }

    /// Ends the join phase: dynamic members that did not join are out, the generation counts up, and each member
    /// learns of it; static members may return until their session ends.
    pub(super) fn complete_join(&mut self) {
        self.membership.join_deadline = None;
        let absent =
            self.membership.members.iter().filter(|(_, m)| m.awaiting_join.is_none() && m.instance_id.is_none());
        for id in absent.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.remove_member(&id);
        }
        if self.membership.members.is_empty() {
            self.become_empty();
        } else if self.elect_joined_leader() {
            self.begin_generation();
        } else {
            // Only absent static members are left: wait until their sessions end, or one of them returns.
            let at = self.now.saturating_add(self.membership.rebalance_timeout_ms());
            self.membership.join_deadline = Some(JoinDeadline { at, extension: None });
        }
    }

    fn become_empty(&mut self) {
        let membership = &mut self.membership;
        membership.generation = membership.generation.saturating_add(1);
        membership.protocol_name = None;
        membership.pending_syncs = SharedMap::new();
        membership.subscribed = membership.compute_subscribed();
        membership.enter(GroupState::Empty, self.calendar);
        self.persist();
    }

    /// Makes sure that the leader is a member that joined. False if none did.
    fn elect_joined_leader(&mut self) -> bool {
        let membership = &mut self.membership;
        let joined = |id: &MemberId| membership.members.get(id).is_some_and(|member| member.awaiting_join.is_some());
        if membership.leader.as_ref().is_some_and(joined) {
            return true;
        }
        let Some(successor) = membership.members.keys().find(|id| joined(id)).cloned() else { return false };
        membership.leader = Some(successor);
        true
    }

    fn begin_generation(&mut self) {
        let now = self.now;
        let membership = &mut self.membership;
        membership.generation = membership.generation.saturating_add(1);
        membership.protocol_name = membership.select_protocol();
        membership.subscribed = membership.compute_subscribed();
        membership.enter(GroupState::CompletingRebalance, self.calendar);
        membership.pending_syncs = membership.members.keys().map(|id| (id.clone(), ())).collect();
        membership.sync_deadline = Some(now.saturating_add(membership.rebalance_timeout_ms()));
        let mut answered = Vec::new();
        for (id, member) in membership.members.iter_mut() {
            member.expect_heartbeat(now);
            member.is_new = false;
            answered.extend(member.awaiting_join.take().map(|token| (token, id.clone())));
        }
        for (token, id) in answered {
            let joined = self.joined(&id);
            self.reply(token, Reply::Join(Ok(joined)));
            self.answered.push(id);
        }
    }

    /// The answer to a join in the current generation: the leader also learns who the members are.
    pub(super) fn joined(&self, member_id: &MemberId) -> Joined {
        let membership = &self.membership;
        let is_leader = membership.is_leader(member_id);
        Joined {
            generation: membership.generation,
            protocol_type: membership.protocol_type.clone(),
            protocol_name: membership.protocol_name.clone(),
            leader: membership.leader.clone().unwrap_or_default(),
            member_id: member_id.clone(),
            skip_assignment: false,
            members: if is_leader { membership.joined_members() } else { Vec::new() },
        }
    }

    /// Answers all who wait for their assignment, with it or with `error`, and expects their heartbeats from now on.
    pub(super) fn answer_syncs(&mut self, error: Option<GroupError>) {
        let mut answers = Vec::new();
        for (id, member) in self.membership.members.iter_mut() {
            let Some(token) = member.awaiting_sync.take() else { continue };
            self.answered.push(id.clone());
            member.expect_heartbeat(self.now);
            let reply = match error {
                Some(error) => Err(error),
                None => Ok(Synced {
                    protocol_type: self.membership.protocol_type.clone(),
                    protocol_name: self.membership.protocol_name.clone(),
                    assignment: member.assignment.clone(),
                }),
            };
            answers.push((token, Reply::Sync(reply)));
        }
        self.replies.extend(answers);
    }

    /// What time alone does to the group: lapsed sessions and the ends of the two phases.
    pub(super) fn tick(&mut self) {
        let overdue = self.membership.overdue_members(self.now);
        let waits = |draft: &Self, id: &MemberId| {
            draft.membership.members.get(id).is_some_and(|member| member.awaiting_join.is_some())
        };
        let (waiting, silent): (Vec<_>, Vec<_>) = overdue.into_iter().partition(|id| waits(self, id));
        self.expel(&silent);
        // An id that was never used is no member: without it a join phase may be complete, no other begins.
        self.membership.drop_lapsed_joins(self.now);
        self.complete_join_if_all_joined();
        // The others' departure may just have answered those that waited.
        let still_waiting: Vec<_> = waiting
            .into_iter()
            .filter(|id| self.membership.members.get(id).is_some_and(|member| member.is_overdue(self.now)))
            .collect();
        self.expel(&still_waiting);
        if let Some(deadline) = self.membership.join_deadline.filter(|deadline| deadline.at <= self.now) {
            self.join_deadline_passed(deadline);
        }
        if self.membership.sync_deadline.is_some_and(|deadline| deadline <= self.now) {
            self.sync_deadline_passed();
        }
    }

    /// Removes members whose sessions ended, and lets the rest rebalance.
    fn expel(&mut self, members: &[MemberId]) {
        if members.is_empty() {
            return;
        }
        for id in members {
            self.remove_member(id);
        }
        match self.membership.state {
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(),
            _ => self.complete_join_if_all_joined(),
        }
    }

    /// Members that never asked for their assignment are out.
    fn sync_deadline_passed(&mut self) {
        self.membership.sync_deadline = None;
        let missing = std::mem::take(&mut self.membership.pending_syncs);
        if missing.is_empty() {
            return;
        }
        for id in missing.keys() {
            self.remove_member(id);
        }
        self.prepare_rebalance();
    }
}
