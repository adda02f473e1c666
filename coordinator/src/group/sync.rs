//! SyncGroup, Heartbeat and LeaveGroup.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::command::{Heartbeat, LeaveGroup, MemberIdentity, Reply, RequestToken, SyncGroup, Synced};
use super::draft::Draft;
use super::error::GroupError;
use super::membership::{GroupState, Membership};
use super::record::MemberId;

impl Draft<'_> {
    /// Answers a sync, or parks it until the leader's assignment is there.
    pub(super) fn sync(&mut self, token: RequestToken, sync: &SyncGroup) {
        if let Err(error) = self.check_sync(sync) {
            return self.reply(token, Reply::Sync(Err(error)));
        }
        let id = &sync.member.member_id;
        self.membership.pending_syncs.remove(id);
        if self.membership.pending_syncs.is_empty() {
            self.membership.sync_deadline = None;
        }
        if self.membership.state == GroupState::Stable {
            let now = self.now;
            let assignment = self.membership.members.get_mut(id).map(|member| {
                member.expect_heartbeat(now);
                member.assignment.clone()
            });
            let synced = Synced {
                protocol_type: self.membership.protocol_type.clone(),
                protocol_name: self.membership.protocol_name.clone(),
                assignment: assignment.unwrap_or_default(),
            };
            return self.reply(token, Reply::Sync(Ok(synced)));
        }
        let member = self.membership.members.get_mut(id);
        if let Some(duplicate) = member.and_then(|member| member.awaiting_sync.replace(token)) {
            self.reply(duplicate, Reply::Sync(Err(GroupError::RebalanceInProgress)));
        }
        if self.membership.is_leader(id) {
            self.take_assignments(&sync.assignments);
        }
    }

    fn check_sync(&self, sync: &SyncGroup) -> Result<(), GroupError> {
        let membership = &self.membership;
        membership.check_member(&sync.member)?;
        let conflicts = |said: &Option<_>, own: &Option<_>| said.is_some() && said != own;
        if sync.generation != membership.generation {
            Err(GroupError::IllegalGeneration)
        } else if conflicts(&sync.protocol_type, &membership.protocol_type)
            || conflicts(&sync.protocol_name, &membership.protocol_name)
        {
            Err(GroupError::InconsistentGroupProtocol)
        } else if membership.state == GroupState::PreparingRebalance {
            Err(GroupError::RebalanceInProgress)
        } else {
            Ok(())
        }
    }

    /// The leader has spoken: the generation is complete, written down, and everyone who waits gets its part.
    fn take_assignments(&mut self, assignments: &[(MemberId, Bytes)]) {
        let by_member: BTreeMap<_, _> = assignments.iter().map(|(id, bytes)| (id, bytes)).collect();
        for (id, member) in self.membership.members.iter_mut() {
            member.assignment = by_member.get(id).map(|bytes| (*bytes).clone()).unwrap_or_default();
        }
        self.membership.enter(GroupState::Stable, self.calendar);
        self.persist();
        self.answer_syncs(None);
    }

    /// The leader's assignments cannot be stored: all who wait for one learn it, and the members join again.
    pub(super) fn refuse_assignments(&mut self, token: RequestToken, error: GroupError) {
        self.answer_syncs(Some(error));
        self.reply(token, Reply::Sync(Err(error)));
        self.prepare_rebalance();
    }

    /// Takes members out, then rebalances the rest.
    pub(super) fn leave(&mut self, token: RequestToken, leave: &LeaveGroup) {
        let before = self.membership.members.len();
        let results: Vec<_> = leave.members.iter().map(|identity| self.leave_one(identity)).collect();
        let lost_members = self.membership.members.len() < before;
        if results.iter().any(Result::is_ok) {
            match self.membership.state {
                GroupState::Stable | GroupState::CompletingRebalance if lost_members => self.prepare_rebalance(),
                _ => self.complete_join_if_all_joined(),
            }
        }
        self.reply(token, Reply::Leave(Ok(results)));
    }

    fn leave_one(&mut self, identity: &MemberIdentity) -> Result<(), GroupError> {
        let id = if identity.member_id.is_empty() {
            let holder = identity.instance_id.as_ref().and_then(|id| self.membership.static_members.get(id));
            holder.cloned().ok_or(GroupError::UnknownMemberId)?
        } else {
            if !self.membership.pending_joins.contains_key(&identity.member_id) {
                self.membership.check_member(identity)?;
            }
            identity.member_id.clone()
        };
        self.remove_member(&id);
        Ok(())
    }
}

/// The answer to a heartbeat, which counts as a sign of life if it is `Ok` or `RebalanceInProgress`.
pub(super) fn check_heartbeat(membership: &Membership, heartbeat: &Heartbeat) -> Result<(), GroupError> {
    membership.check_member(&heartbeat.member)?;
    if heartbeat.generation != membership.generation {
        Err(GroupError::IllegalGeneration)
    } else if membership.state == GroupState::PreparingRebalance {
        Err(GroupError::RebalanceInProgress)
    } else {
        Ok(())
    }
}
