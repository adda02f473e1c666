//! LeaveGroup: one member up to version 2, any number of them later.

use coordinator::group::{LeaveGroup, MemberIdentity};
use protocol::messages::leave_group_request;
use protocol::messages::leave_group_response::MemberResponse;
use protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::{code_of, error_code, owned, owned_option};
use crate::handlers::RequestContext;

/// First version with several members.
const BATCHED: i16 = 3;

pub(crate) async fn handle(context: &RequestContext<'_>, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let is_batched = context.version >= BATCHED;
    let members = if is_batched {
        request.members
    } else {
        let member_id = request.member_id;
        vec![leave_group_request::MemberIdentity { member_id, ..leave_group_request::MemberIdentity::default() }]
    };
    let identities = members.iter().map(|member| MemberIdentity {
        member_id: owned(&member.member_id),
        instance_id: owned_option(member.group_instance_id.as_ref()),
    });
    let leave = LeaveGroup { group: owned(&request.group_id), members: identities.collect() };
    match context.broker.groups.leave(leave).await {
        Err(error) => LeaveGroupResponse { error_code: error_code(error).code(), ..LeaveGroupResponse::default() },
        Ok(results) if is_batched => {
            let answered = members.into_iter().zip(&results).map(|(member, result)| MemberResponse {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                error_code: code_of(result),
                ..MemberResponse::default()
            });
            LeaveGroupResponse { members: answered.collect(), ..LeaveGroupResponse::default() }
        }
        Ok(results) => {
            let error_code = results.first().map_or(0, code_of);
            LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() }
        }
    }
}
