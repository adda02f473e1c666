//! What administrators see: descriptions and listings of groups.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::membership::{GroupState, Membership};
use super::record::{GroupId, MemberId};

/// Kafka's name of the one type of group there is here.
pub const GROUP_TYPE: &str = "classic";

/// Answer to DescribeGroups for one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// State, under Kafka's name.
    pub state: GroupState,
    /// `consumer`, `connect`, …, or empty.
    pub protocol_type: Arc<str>,
    /// The chosen protocol of a stable group, else empty.
    pub protocol_name: Arc<str>,
    /// Members in the order of their ids.
    pub members: Vec<MemberDescription>,
}

/// One member of a [`GroupDescription`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    /// The member.
    pub member_id: MemberId,
    /// Set for a static member.
    pub instance_id: Option<Arc<str>>,
    /// The client's own name for itself.
    pub client_id: Arc<str>,
    /// Where it connects from.
    pub client_host: Arc<str>,
    /// Metadata for the chosen protocol; empty unless the group is stable.
    pub metadata: Bytes,
    /// What the leader assigned.
    pub assignment: Bytes,
}

/// Answer to ListGroups, one per group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// The group.
    pub group: GroupId,
    /// `consumer`, `connect`, …, or empty.
    pub protocol_type: Arc<str>,
    /// State, under Kafka's name.
    pub state: GroupState,
}

/// What ListGroups asks for. The default asks for everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// `None` for every state.
    states: Option<BTreeSet<GroupState>>,
    /// True if other types of groups are asked for, and not ours.
    is_for_others: bool,
}

impl ListFilter {
    /// A filter by names of states and of types (see [`GROUP_TYPE`]), compared without regard to case. An empty list asks for
    /// everything; names that nothing has find nothing.
    #[must_use]
    pub fn new<N: AsRef<str>>(states: &[N], types: &[N]) -> Self {
        let known = |name: &str| GroupState::ALL.into_iter().find(|state| state.name().eq_ignore_ascii_case(name));
        let named = states.iter().filter_map(|name| known(name.as_ref())).collect();
        let is_ours = |name: &N| name.as_ref().eq_ignore_ascii_case(GROUP_TYPE);
        let is_for_others = !types.is_empty() && !types.iter().any(is_ours);
        ListFilter { states: (!states.is_empty()).then_some(named), is_for_others }
    }

    pub(super) fn accepts(&self, state: GroupState) -> bool {
        !self.is_for_others && self.states.as_ref().is_none_or(|states| states.contains(&state))
    }
}

pub(super) fn describe(membership: &Membership) -> GroupDescription {
    let protocol_name = membership.protocol_name.clone().filter(|_| membership.state == GroupState::Stable);
    let members = membership.members.iter().map(|(id, member)| MemberDescription {
        member_id: id.clone(),
        instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        metadata: protocol_name.as_deref().map(|name| member.metadata(Some(name))).unwrap_or_default(),
        assignment: member.assignment.clone(),
    });
    GroupDescription {
        state: membership.state,
        protocol_type: membership.protocol_type.clone().unwrap_or_default(),
        members: members.collect(),
        protocol_name: protocol_name.unwrap_or_default(),
    }
}
