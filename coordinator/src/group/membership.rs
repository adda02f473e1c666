//! Members of one group, and the state of its rebalance: the part that Kafka keeps in memory only.
//!
//! Invariants: a leader exists exactly while there are members; `static_members` names members only; join requests
//! wait only in `PreparingRebalance`, sync requests only in `CompletingRebalance`.
//!
//! ```text
//! Empty ──join──▶ PreparingRebalance ──all joined, or time is up──▶ CompletingRebalance ──leader's sync──▶ Stable
//!   ▲                 │   ▲                                             │                                   │
//!   └──none is left───┘   └──────────── join with a change, leave, death of a member ─────────────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use model::TimestampMs;

use super::command::{JoinedMember, MemberIdentity, Protocol, RequestToken};
use super::error::GroupError;
use super::now::Now;
use super::record::{GroupImage, MemberId, MemberImage};
use super::subscription::subscribed_topics;
use super::weight::most_topics;
use crate::shared_map::SharedMap;

/// State of a group, under Kafka's names. `Dead` is what a group that is not there is described as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupState {
    /// No members; offsets may remain.
    Empty,
    /// Waiting for members to join the next generation.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    /// Every member has, or can ask for, its assignment.
    Stable,
    /// Not there.
    Dead,
}

impl GroupState {
    pub(super) const ALL: [GroupState; 5] = [
        GroupState::Empty,
        GroupState::PreparingRebalance,
        GroupState::CompletingRebalance,
        GroupState::Stable,
        GroupState::Dead,
    ];

    /// Kafka's name of the state.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A member, as long as it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) instance_id: Option<Arc<str>>,
    pub(super) client_id: Arc<str>,
    pub(super) client_host: Arc<str>,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
    pub(super) protocols: Arc<[Protocol]>,
    /// See [`most_topics`].
    pub(super) topics: usize,
    pub(super) assignment: Bytes,
    /// True until its first join is answered: such a member may be given up while it waits.
    pub(super) is_new: bool,
    pub(super) awaiting_join: Option<RequestToken>,
    pub(super) awaiting_sync: Option<RequestToken>,
    /// Answers to the member that wait for the log. The member may be waiting for them, so it owes no heartbeat.
    pub(super) withheld: usize,
    /// When the member counts as dead; `None` while a waiting request proves that it lives.
    pub(super) session_deadline: Option<TimestampMs>,
}

impl Member {
    /// The member's metadata for `protocol`, empty if it does not offer it.
    pub(super) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let offered = self.protocols.iter().find(|offer| Some(offer.name.as_ref()) == protocol);
        offered.map(|offer| offer.metadata.clone()).unwrap_or_default()
    }

    /// A waiting request counts as a heartbeat, except that of a brand-new member, which may have gone unnoticed.
    fn has_satisfied_heartbeat(&self) -> bool {
        self.withheld > 0 || (!self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some()))
    }

    /// True when its session ended and no request of it waits.
    pub(super) fn is_overdue(&self, now: TimestampMs) -> bool {
        self.session_deadline.is_some_and(|deadline| deadline <= now) && !self.has_satisfied_heartbeat()
    }

    pub(super) fn expect_heartbeat(&mut self, now: TimestampMs) {
        self.session_deadline = Some(now.saturating_add(i64::from(self.session_timeout_ms)));
    }
}

/// When the join phase ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JoinDeadline {
    pub(super) at: TimestampMs,
    /// In an initial rebalance: by how much newcomers may still put the deadline off, and by how much at a time.
    pub(super) extension: Option<JoinExtension>,
}

/// How far an initial rebalance may still be put off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JoinExtension {
    pub(super) delay_ms: i64,
    pub(super) remaining_ms: i64,
}

/// See the head of this file. Every decision is made on a copy, which shares what it does not change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) state: GroupState,
    pub(super) since: TimestampMs,
    /// In `PreparingRebalance`: the group was empty before, so it waits for more members to turn up.
    pub(super) initial_rebalance: bool,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<Arc<str>>,
    pub(super) protocol_name: Option<Arc<str>>,
    pub(super) leader: Option<MemberId>,
    pub(super) members: SharedMap<MemberId, Member>,
    pub(super) static_members: SharedMap<Arc<str>, MemberId>,
    /// How many members offer each protocol.
    offered: SharedMap<Arc<str>, usize>,
    /// Member ids handed out that have not joined yet, and when they lapse.
    pub(super) pending_joins: SharedMap<MemberId, TimestampMs>,
    /// Members of this generation that have not asked for their assignment yet.
    pub(super) pending_syncs: SharedMap<MemberId, ()>,
    pub(super) newcomer_since_deadline: bool,
    pub(super) join_deadline: Option<JoinDeadline>,
    pub(super) sync_deadline: Option<TimestampMs>,
    /// Topics that the members of a `consumer` group consume; `None` if unknown.
    pub(super) subscribed: Option<Arc<BTreeSet<Arc<str>>>>,
}

impl Membership {
    /// A group without members.
    pub(super) fn empty(since: TimestampMs) -> Self {
        Self {
            state: GroupState::Empty,
            since,
            initial_rebalance: false,
            generation: 0,
            protocol_type: None,
            protocol_name: None,
            leader: None,
            members: SharedMap::new(),
            static_members: SharedMap::new(),
            offered: SharedMap::new(),
            pending_joins: SharedMap::new(),
            pending_syncs: SharedMap::new(),
            newcomer_since_deadline: false,
            join_deadline: None,
            sync_deadline: None,
            subscribed: None,
        }
    }

    /// The group as its last record left it; members get a fresh session from `now` on.
    pub(super) fn from_image(image: &GroupImage, now: Now) -> Self {
        let mut membership = Self::empty(image.state_timestamp.unwrap_or(now.calendar_ms));
        membership.generation = image.generation;
        membership.protocol_type.clone_from(&image.protocol_type);
        membership.protocol_name.clone_from(&image.protocol_name);
        for (id, member) in &image.members {
            let metadata = member.subscription.clone();
            let offered =
                image.protocol_name.iter().map(|name| Protocol { name: name.clone(), metadata: metadata.clone() });
            let mut loaded = Member {
                instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: member.session_timeout_ms,
                protocols: offered.collect(),
                topics: 0,
                assignment: member.assignment.clone(),
                is_new: false,
                awaiting_join: None,
                awaiting_sync: None,
                withheld: 0,
                session_deadline: None,
            };
            loaded.expect_heartbeat(now.steady_ms);
            membership.insert(id.clone(), loaded);
            membership.state = GroupState::Stable;
        }
        if let Some(leader) = image.leader.as_ref().filter(|leader| membership.members.contains_key(*leader)) {
            membership.leader = Some(leader.clone());
        }
        membership.subscribed = membership.compute_subscribed();
        membership
    }

    /// What is to be persisted of the group.
    pub(super) fn image(&self) -> GroupImage {
        let name = self.protocol_name.as_deref();
        let members = self.members.iter().map(|(id, member)| {
            let image = MemberImage {
                instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: member.session_timeout_ms,
                subscription: member.metadata(name),
                assignment: member.assignment.clone(),
            };
            (id.clone(), image)
        });
        GroupImage {
            protocol_type: self.protocol_type.clone(),
            generation: self.generation,
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone(),
            state_timestamp: Some(self.since),
            members: members.collect(),
        }
    }

    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    pub(super) fn enter(&mut self, state: GroupState, now: TimestampMs) {
        self.initial_rebalance = state == GroupState::PreparingRebalance && self.state == GroupState::Empty;
        self.state = state;
        self.since = now;
    }

    /// Adds a member; the first one becomes leader.
    pub(super) fn insert(&mut self, id: MemberId, mut member: Member) {
        member.topics = most_topics(&member.protocols);
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), id.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(id.clone());
        }
        self.pending_joins.remove(&id);
        self.count_in(&member.protocols);
        if let Some(replaced) = self.members.insert(id, member) {
            self.count_out(&replaced.protocols);
        }
    }

    /// Replaces the protocols that a member offers.
    pub(super) fn set_protocols(&mut self, id: &str, protocols: Arc<[Protocol]>) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.topics = most_topics(&protocols);
        let before = std::mem::replace(&mut member.protocols, protocols.clone());
        self.count_in(&protocols);
        self.count_out(&before);
    }

    /// Takes a member out that comes back under another id; leadership and static identity are the caller's to pass on.
    pub(super) fn detach(&mut self, id: &str) -> Option<Member> {
        self.pending_syncs.remove(id);
        let member = self.members.remove(id)?;
        self.count_out(&member.protocols);
        Some(member)
    }

    fn count_in(&mut self, protocols: &[Protocol]) {
        for name in names(protocols) {
            let count = self.offered.get(name).copied().unwrap_or_default();
            self.offered.insert(name.clone(), count + 1);
        }
    }

    fn count_out(&mut self, protocols: &[Protocol]) {
        for name in names(protocols) {
            if let Some(count) = self.offered.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.offered.remove(name);
                }
            }
        }
    }

    fn is_offered_by_all(&self, name: &str) -> bool {
        self.members.is_empty() || self.offered.get(name).is_some_and(|count| *count == self.members.len())
    }

    /// Takes a member out, pending or full; leadership passes on.
    pub(super) fn remove(&mut self, id: &str) -> Option<Member> {
        self.pending_joins.remove(id);
        let removed = self.detach(id)?;
        if let Some(instance_id) = &removed.instance_id {
            self.static_members.remove(instance_id);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(removed)
    }

    pub(super) fn awaiting_joins(&self) -> usize {
        self.members.values().filter(|member| member.awaiting_join.is_some()).count()
    }

    pub(super) fn has_all_joined(&self) -> bool {
        self.pending_joins.is_empty() && self.members.values().all(|member| member.awaiting_join.is_some())
    }

    /// The longest that any member may take to join or to sync, in milliseconds.
    pub(super) fn rebalance_timeout_ms(&self) -> i64 {
        i64::from(self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0).max(0))
    }

    /// Whether a member with these protocols can share a generation with all others.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|offer| self.is_offered_by_all(&offer.name))
    }

    /// The protocol with the most votes among those that every member offers: each member votes for the first such one
    /// of its list, a tie goes to the one that the leader likes best.
    pub(super) fn select_protocol(&self) -> Option<Arc<str>> {
        let leader = self.members.get(self.leader.as_ref()?)?;
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(choice) = member.protocols.iter().find(|offer| self.is_offered_by_all(&offer.name)) {
                *votes.entry(&choice.name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        let winner = leader.protocols.iter().find(|offer| votes.get(offer.name.as_ref()) == Some(&most));
        winner.map(|offer| offer.name.clone())
    }

    /// Refuses who is not a member, or holds a static identity that another one has taken over.
    pub(super) fn check_member(&self, identity: &MemberIdentity) -> Result<(), GroupError> {
        if let Some(instance_id) = &identity.instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(GroupError::UnknownMemberId),
                Some(holder) if *holder != identity.member_id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(&identity.member_id) { Ok(()) } else { Err(GroupError::UnknownMemberId) }
    }

    /// What the leader learns when a join completes.
    pub(super) fn joined_members(&self) -> Vec<JoinedMember> {
        let name = self.protocol_name.as_deref();
        let members = self.members.iter().map(|(id, member)| JoinedMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(name),
        });
        members.collect()
    }

    pub(super) fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some("consumer")
    }

    /// Whether a member consumes `topic`; a consumer group whose subscriptions cannot be read is taken to.
    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        self.subscribed.as_ref().map_or(self.uses_consumer_protocol(), |topics| topics.contains(topic))
    }

    pub(super) fn compute_subscribed(&self) -> Option<Arc<BTreeSet<Arc<str>>>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        if self.members.is_empty() {
            return Some(Arc::default());
        }
        let name = self.protocol_name.as_deref()?;
        let mut all = BTreeSet::new();
        for member in self.members.values() {
            all.append(&mut subscribed_topics(&member.metadata(Some(name)))?);
        }
        Some(Arc::new(all))
    }

    /// Lets members off whose waiting requests prove them alive; names those whose sessions have ended at `now`.
    pub(super) fn overdue_members(&mut self, now: TimestampMs) -> Vec<MemberId> {
        let ended = self.members.iter().filter(|(_, member)| member.session_deadline.is_some_and(|at| at <= now));
        let ended = ended.map(|(id, member)| (id.clone(), member.is_overdue(now)));
        let (overdue, waiting): (Vec<_>, Vec<_>) = ended.partition(|(_, is_overdue)| *is_overdue);
        for (id, _) in waiting {
            if let Some(member) = self.members.get_mut(&id) {
                member.session_deadline = None;
            }
        }
        overdue.into_iter().map(|(id, _)| id).collect()
    }

    /// Forgets member ids that were handed out and not used in time.
    pub(super) fn drop_lapsed_joins(&mut self, now: TimestampMs) {
        let has_lapsed = self.pending_joins.iter().filter(|(_, deadline)| **deadline <= now);
        for id in has_lapsed.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.pending_joins.remove(&id);
        }
    }

    /// Forgets a member id that was handed out and not used. A join phase that waited for nothing else ends with the next tick.
    pub(super) fn forget_pending(&mut self, id: &str, now: TimestampMs) {
        self.pending_joins.remove(id);
        let waits_no_more = self.state == GroupState::PreparingRebalance && !self.initial_rebalance;
        if waits_no_more && self.has_all_joined() {
            self.join_deadline = Some(JoinDeadline { at: now, extension: None });
        }
    }

    /// The next instant at which time alone changes the group.
    pub(super) fn next_deadline(&self) -> Option<TimestampMs> {
        let sessions = self.members.values().filter_map(|member| member.session_deadline);
        let pending = self.pending_joins.values().copied();
        let phases = self.join_deadline.map(|deadline| deadline.at).into_iter().chain(self.sync_deadline);
        sessions.chain(pending).chain(phases).min()
    }
}

/// Each name once.
fn names(protocols: &[Protocol]) -> BTreeSet<&Arc<str>> {
    protocols.iter().map(|offer| &offer.name).collect()
}
