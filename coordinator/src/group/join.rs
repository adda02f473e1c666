//! JoinGroup: who may join, under which id, and whether that sets off a rebalance.
//!
//! Follows Kafka 4's `GroupMetadataManager` for classic groups; KIP-394 (member id first), KIP-345 (static members),
//! KIP-814 (a returning static leader skips the assignment).

use bytes::Bytes;

use super::command::{JoinGroup, MemberIdentity, Reply, RequestToken};
use super::draft::Draft;
use super::error::GroupError;
use super::membership::{GroupState, Member};
use super::record::MemberId;

impl Draft<'_> {
    /// Answers or parks a join. The group may be a fresh, empty one.
    pub(super) fn join(&mut self, token: RequestToken, join: &JoinGroup) {
        let unknown = join.member_id.is_empty();
        if !self.accepts(join) {
            self.remove_member(&join.member_id);
            self.complete_join_if_all_joined();
            self.refuse_join(token, MemberId::from(""), GroupError::GroupMaxSizeReached);
        } else if join.protocols.len() > self.settings.max_protocols
            || !self.membership.supports(&join.protocol_type, &join.protocols)
        {
            self.refuse_join(token, join.member_id.clone(), GroupError::InconsistentGroupProtocol);
        } else if unknown {
            self.join_as_new(token, join);
        } else {
            self.join_as_known(token, join);
        }
    }

    /// Whether there is room. While members rejoin, those who already wait are counted: latecomers of a group that
    /// is over its bound are turned away.
    fn accepts(&self, join: &JoinGroup) -> bool {
        let membership = &self.membership;
        let member = membership.members.get(&join.member_id);
        let max = self.settings.max_size;
        let room = match membership.state {
            GroupState::Empty | GroupState::Dead => true,
            GroupState::PreparingRebalance => {
                member.is_some_and(|member| member.awaiting_join.is_some()) || membership.awaiting_joins() < max
            }
            GroupState::CompletingRebalance | GroupState::Stable => member.is_some() || membership.members.len() < max,
        };
        room && (!join.member_id.is_empty() || membership.pending_joins.len() < self.settings.max_pending_members)
    }

    fn join_as_new(&mut self, token: RequestToken, join: &JoinGroup) {
        let id = join.new_member_id.clone();
        let holder =
            join.instance_id.as_ref().and_then(|instance| self.membership.static_members.get(instance).cloned());
        if let Some(old_id) = holder {
            self.replace_static_member(token, join, &old_id);
        } else if join.instance_id.is_none() && join.abilities.member_id_required {
            let deadline = self.now.saturating_add(i64::from(join.session_timeout_ms));
            self.membership.pending_joins.insert(id.clone(), deadline);
            self.handed_out = Some(id.clone());
            self.refuse_join(token, id, GroupError::MemberIdRequired);
        } else {
            self.add_member(token, join, id);
        }
    }

    fn join_as_known(&mut self, token: RequestToken, join: &JoinGroup) {
        let id = join.member_id.clone();
        if join.instance_id.is_none() && self.membership.pending_joins.contains_key(&id) {
            return self.add_member(token, join, id);
        }
        let identity = MemberIdentity { member_id: id.clone(), instance_id: join.instance_id.clone() };
        if let Err(error) = self.membership.check_member(&identity) {
            return self.refuse_join(token, id, error);
        }
        let unchanged = self.membership.members.get(&id).is_some_and(|member| member.protocols == join.protocols);
        let current_generation_stands = match self.membership.state {
            // The reply to its join was lost: nothing to do but to repeat it.
            GroupState::CompletingRebalance => unchanged,
            // A leader that joins again wants a new assignment, for example because topics changed.
            GroupState::Stable => unchanged && !self.membership.is_leader(&id),
            GroupState::PreparingRebalance | GroupState::Empty | GroupState::Dead => false,
        };
        if current_generation_stands {
            let joined = self.joined(&id);
            self.reply(token, Reply::Join(Ok(joined)));
        } else {
            self.update_member(token, join, &id);
            self.rebalance_or_complete_join();
        }
    }

    fn add_member(&mut self, token: RequestToken, join: &JoinGroup, id: MemberId) {
        let timeout_ms = i64::from(self.settings.new_member_join_timeout_ms);
        let member = Member {
            instance_id: join.instance_id.clone(),
            client_id: join.client_id.clone(),
            client_host: join.client_host.clone(),
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            session_timeout_ms: join.session_timeout_ms,
            protocols: join.protocols.clone(),
            topics: 0,
            assignment: Bytes::new(),
            is_new: true,
            awaiting_join: Some(token),
            awaiting_sync: None,
            withheld: 0,
            session_deadline: Some(self.now.saturating_add(timeout_ms)),
        };
        let membership = &mut self.membership;
        if membership.initial_rebalance {
            membership.newcomer_since_deadline = true;
        }
        if membership.members.is_empty() {
            membership.protocol_type = Some(join.protocol_type.clone());
        }
        membership.insert(id, member);
        self.rebalance_or_complete_join();
    }

    /// Lets a member wait with what it says of itself now. A request of the same member that still waits is a
    /// duplicate, sent before a reconnect: it is refused, to join again, so that nothing waits for ever.
    fn update_member(&mut self, token: RequestToken, join: &JoinGroup, id: &str) {
        self.membership.set_protocols(id, join.protocols.clone());
        let Some(member) = self.membership.members.get_mut(id) else { return };
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.session_timeout_ms = join.session_timeout_ms;
        if let Some(duplicate) = member.awaiting_join.replace(token) {
            self.refuse_join(duplicate, MemberId::from(id), GroupError::RebalanceInProgress);
        }
    }

    /// A static member is back under a new member id: the old id is fenced. In a stable group whose chosen protocol
    /// stays, no other member notices.
    fn replace_static_member(&mut self, token: RequestToken, join: &JoinGroup, old_id: &MemberId) {
        let new_id = join.new_member_id.clone();
        let old_leader = self.membership.leader.clone();
        let Some(mut member) = self.membership.detach(old_id) else { return };
        if let Some(waiting) = member.awaiting_join.take() {
            self.refuse_join(waiting, old_id.clone(), GroupError::FencedInstanceId);
        }
        if let Some(waiting) = member.awaiting_sync.take() {
            self.reply(waiting, Reply::Sync(Err(GroupError::FencedInstanceId)));
        }
        if self.membership.is_leader(old_id) {
            self.membership.leader = Some(new_id.clone());
        }
        // Answers that wait for the log are to the former holder.
        member.withheld = 0;
        member.is_new = false;
        member.expect_heartbeat(self.now);
        self.membership.insert(new_id.clone(), member);
        self.update_member(token, join, &new_id);
        match self.membership.state {
            GroupState::Stable if self.membership.select_protocol() == self.membership.protocol_name => {
                self.keep_generation_for(token, join, old_leader);
            }
            // The leader may have got the old id already, so its assignment would miss the new one.
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(),
            _ => self.complete_join_if_all_joined(),
        }
    }

    /// Answers a returning static member of a stable group at once. A client that cannot skip the assignment gets
    /// the leader's former id, so that it does not take itself for the leader.
    fn keep_generation_for(&mut self, token: RequestToken, join: &JoinGroup, old_leader: Option<MemberId>) {
        let id = join.new_member_id.clone();
        if let Some(member) = self.membership.members.get_mut(&id) {
            member.awaiting_join = None;
            member.expect_heartbeat(self.now);
        }
        self.persist();
        self.answered.push(id.clone());
        let mut joined = self.joined(&id);
        if join.abilities.skip_assignment {
            joined.skip_assignment = self.membership.is_leader(&id);
        } else {
            joined.leader = old_leader.unwrap_or_default();
            joined.members.clear();
        }
        self.reply(token, Reply::Join(Ok(joined)));
    }
}
