//! SyncGroup.

use bytes::Bytes;
use coordinator::group::{GroupError, MemberIdentity, SyncGroup};
use protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use tokio::time::Instant;

use super::{error_code, owned, owned_option, wire_option};
use crate::handlers::RequestContext;

/// First version that must name protocol type and protocol (KIP-559).
const PROTOCOL_NAMED: i16 = 5;

pub(crate) async fn handle(context: &RequestContext<'_>, request: SyncGroupRequest) -> SyncGroupResponse {
    let is_complete = request.protocol_type.is_some() && request.protocol_name.is_some();
    let synced = if context.version >= PROTOCOL_NAMED && !is_complete {
        Err(GroupError::InconsistentGroupProtocol)
    } else {
        let sync = domain(&request);
        drop(request);
        // It may wait for the leader: it keeps what the group needs, and that is counted.
        let bytes = sync.assignments.iter().map(|(member, bytes)| member.len() + bytes.len()).sum();
        match context.claims.park(&context.broker.memory, bytes, Instant::now()).await {
            Ok(()) => context.broker.groups.sync(sync).await,
            Err(_) => Err(GroupError::CoordinatorLoadInProgress),
        }
    };
    match synced {
        Ok(synced) => SyncGroupResponse {
            protocol_type: wire_option(synced.protocol_type.as_ref()),
            protocol_name: wire_option(synced.protocol_name.as_ref()),
            assignment: synced.assignment,
            ..SyncGroupResponse::default()
        },
        Err(error) => SyncGroupResponse { error_code: error_code(error).code(), ..SyncGroupResponse::default() },
    }
}

fn domain(request: &SyncGroupRequest) -> SyncGroup {
    let assignments = request.assignments.iter();
    SyncGroup {
        group: owned(&request.group_id),
        member: MemberIdentity {
            member_id: owned(&request.member_id),
            instance_id: owned_option(request.group_instance_id.as_ref()),
        },
        generation: request.generation_id,
        protocol_type: owned_option(request.protocol_type.as_ref()),
        protocol_name: owned_option(request.protocol_name.as_ref()),
        assignments: assignments.map(|of| (owned(&of.member_id), Bytes::copy_from_slice(&of.assignment))).collect(),
    }
}
