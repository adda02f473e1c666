//! What administrators see: descriptions and listings of groups.

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

/// What ListGroups asks for. Empty lists ask for everything; names are compared without regard to case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Names of states.
    pub states: Vec<String>,
    /// Names of group types; see [`GROUP_TYPE`].
    pub types: Vec<String>,
}

impl ListFilter {
    pub(super) fn accepts(&self, state: GroupState) -> bool {
        let names =
            |list: &[String], name: &str| list.is_empty() || list.iter().any(|it| it.eq_ignore_ascii_case(name));
        names(&self.states, state.name()) && names(&self.types, GROUP_TYPE)
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
