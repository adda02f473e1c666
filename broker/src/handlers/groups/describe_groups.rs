//! DescribeGroups.

use bytes::Bytes;
use coordinator::group::{GroupDescription, GroupState, MemberDescription};
use protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};
use protocol::{ApiKey, BY_REFERENCE_MIN_BYTES, ErrorCode, Str};

use super::{error_code, wire, wire_option};
use crate::handlers::errors::cut;
use crate::handlers::once_each::once_each;
use crate::handlers::{BadRequest, RequestContext};

/// First version that says that a group is not there (KIP-1043); before, it is described as dead.
const GROUP_ID_NOT_FOUND: i16 = 6;
/// Every operation on a group (read, delete, describe, and describe and alter its configs), as Kafka's bit set.
const ALL_GROUP_OPERATIONS: i32 = 0x0d48;

/// What a member takes in a response beyond its texts and small metadata, in memory and encoded.
const MEMBER_BYTES: usize = 512;

pub(crate) async fn handle(
    context: &RequestContext<'_>,
    request: DescribeGroupsRequest,
) -> Result<DescribeGroupsResponse, BadRequest> {
    let wanted = once_each(request.groups, Str::clone);
    let mut bytes = 0;
    for group_id in &wanted {
        let weight = context.broker.groups.query(group_id, |groups, group| groups.describe(group).as_ref().map(weight));
        bytes += weight.await.ok().flatten().unwrap_or(0);
    }
    context.claim_reply(ApiKey::DescribeGroups, bytes).await?;
    let mut groups = Vec::with_capacity(wanted.len());
    for group_id in wanted {
        let mut described = match context.broker.groups.describe(&group_id).await {
            Ok(Some(description)) => existing(group_id, description),
            Ok(None) => absent(group_id, context.version),
            Err(error) => {
                DescribedGroup { group_id, error_code: error_code(error).code(), ..DescribedGroup::default() }
            }
        };
        if request.include_authorized_operations && described.error_code == 0 {
            described.authorized_operations = ALL_GROUP_OPERATIONS;
        }
        groups.push(described);
    }
    Ok(DescribeGroupsResponse { groups, ..DescribeGroupsResponse::default() })
}

/// What the description takes in a response. Metadata and assignments are written from where they lie, unless they are
/// small.
fn weight(group: &GroupDescription) -> usize {
    let copied = |bytes: &Bytes| if bytes.len() < BY_REFERENCE_MIN_BYTES { bytes.len() } else { 0 };
    let member = |member: &MemberDescription| {
        let texts = member.member_id.len()
            + member.instance_id.as_ref().map_or(0, |id| id.len())
            + member.client_id.len()
            + member.client_host.len();
        MEMBER_BYTES + 2 * texts + copied(&member.metadata) + copied(&member.assignment)
    };
    group.members.iter().map(member).sum()
}

fn existing(group_id: Str, group: GroupDescription) -> DescribedGroup {
    DescribedGroup {
        group_id,
        group_state: Str::from_static(group.state.name()),
        protocol_type: wire(&group.protocol_type),
        protocol_data: wire(&group.protocol_name),
        members: group.members.into_iter().map(member).collect(),
        ..DescribedGroup::default()
    }
}

fn member(member: MemberDescription) -> DescribedGroupMember {
    DescribedGroupMember {
        member_id: wire(&member.member_id),
        group_instance_id: wire_option(member.instance_id.as_ref()),
        client_id: wire(&member.client_id),
        client_host: wire(&member.client_host),
        member_metadata: member.metadata,
        member_assignment: member.assignment,
        ..DescribedGroupMember::default()
    }
}

fn absent(group_id: Str, version: i16) -> DescribedGroup {
    let group_state = Str::from_static(GroupState::Dead.name());
    if version < GROUP_ID_NOT_FOUND {
        return DescribedGroup { group_id, group_state, ..DescribedGroup::default() };
    }
    DescribedGroup {
        error_code: ErrorCode::GroupIdNotFound.code(),
        error_message: Some(Str::from(cut(format!("Group {group_id} not found.")))),
        group_id,
        group_state,
        ..DescribedGroup::default()
    }
}
