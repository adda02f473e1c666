//! Heartbeat.

use coordinator::group::{Heartbeat, MemberIdentity};
use protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::{code_of, owned, owned_option};
use crate::handlers::RequestContext;

pub(crate) async fn handle(context: &RequestContext<'_>, request: HeartbeatRequest) -> HeartbeatResponse {
    let heartbeat = Heartbeat {
        group: owned(&request.group_id),
        member: MemberIdentity {
            member_id: owned(&request.member_id),
            instance_id: owned_option(request.group_instance_id.as_ref()),
        },
        generation: request.generation_id,
    };
    let result = context.broker.groups.heartbeat(heartbeat).await;
    HeartbeatResponse { error_code: code_of(&result), ..HeartbeatResponse::default() }
}
