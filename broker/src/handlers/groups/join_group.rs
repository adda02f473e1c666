//! JoinGroup.

use bytes::Bytes;
use coordinator::group::{GroupError, JoinAbilities, JoinGroup, JoinRefused, Joined, JoinedMember, Protocol};
use protocol::messages::join_group_response::JoinGroupResponseMember;
use protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use protocol::{ApiKey, BY_REFERENCE_MIN_BYTES, Str};
use tokio::time::Instant;
use tracing::debug;

use super::{error_code, owned, owned_option, wire, wire_option};
use crate::groups::new_member_id;
use crate::handlers::{BadRequest, RequestContext};

/// First version with a rebalance timeout of its own.
const REBALANCE_TIMEOUT: i16 = 1;
/// First version in which a dynamic member joins with an id that it was given (KIP-394).
const MEMBER_ID_REQUIRED: i16 = 4;
/// First version in which the protocol's name may be null.
const NULLABLE_PROTOCOL: i16 = 7;
/// First version that can tell a returning leader to skip the assignment (KIP-814).
const SKIP_ASSIGNMENT: i16 = 9;

/// What a member takes in a response beyond its texts and small metadata, in memory and encoded.
const MEMBER_BYTES: usize = 384;
/// What a protocol takes while its request is parked, beyond its name and metadata.
const PROTOCOL_BYTES: usize = 96;
/// Longest client id or instance id in a member id, which has `-` and a UUID behind it.
const MAX_NAME_BYTES: usize = i16::MAX as usize - 37;

pub(crate) async fn handle(
    context: &RequestContext<'_>,
    request: JoinGroupRequest,
) -> Result<JoinGroupResponse, BadRequest> {
    if let Some(reason) = &request.reason {
        debug!(group = %request.group_id, member = %request.member_id, %reason, "a member joins");
    }
    let join = domain(context, &request);
    drop(request);
    // A join may wait for as long as its client says: it keeps what the group needs, and that is counted.
    let parked = context.claims.park(&context.broker.memory, parked_bytes(&join), Instant::now()).await;
    let joined = match parked {
        Ok(()) => context.broker.groups.join(join).await,
        Err(_) => Err(JoinRefused { member_id: join.member_id, error: GroupError::CoordinatorLoadInProgress }),
    };
    Ok(match joined {
        Ok(joined) => {
            context.claim_reply(ApiKey::JoinGroup, joined.members.iter().map(weight).sum()).await?;
            completed(joined, context.version)
        }
        Err(JoinRefused { member_id, error }) => JoinGroupResponse {
            error_code: error_code(error).code(),
            member_id: wire(&member_id),
            protocol_name: nullable_protocol(None, context.version),
            ..JoinGroupResponse::default()
        },
    })
}

fn parked_bytes(join: &JoinGroup) -> usize {
    let protocol = |protocol: &Protocol| PROTOCOL_BYTES + protocol.name.len() + protocol.metadata.len();
    join.protocols.iter().map(protocol).sum()
}

/// What a member takes in the leader's response. Metadata is written from where it lies, unless it is small.
fn weight(member: &JoinedMember) -> usize {
    let texts = member.member_id.len() + member.instance_id.as_ref().map_or(0, |id| id.len());
    let metadata = Some(member.metadata.len()).filter(|bytes| *bytes < BY_REFERENCE_MIN_BYTES);
    MEMBER_BYTES + 2 * texts + metadata.unwrap_or(0)
}

fn name_for_id(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME_BYTES)]
}

fn nullable_protocol(name: Option<Str>, version: i16) -> Option<Str> {
    if version < NULLABLE_PROTOCOL { Some(name.unwrap_or_default()) } else { name }
}

fn domain(context: &RequestContext<'_>, request: &JoinGroupRequest) -> JoinGroup {
    let protocols = request
        .protocols
        .iter()
        .map(|protocol| Protocol { name: owned(&protocol.name), metadata: Bytes::copy_from_slice(&protocol.metadata) });
    let has_own_timeout = context.version >= REBALANCE_TIMEOUT;
    JoinGroup {
        group: owned(&request.group_id),
        member_id: owned(&request.member_id),
        new_member_id: new_member_id(
            name_for_id(context.client_id),
            request.group_instance_id.as_deref().map(name_for_id),
        ),
        instance_id: owned_option(request.group_instance_id.as_ref()),
        client_id: context.client_id.into(),
        client_host: format!("/{}", context.connection.peer.ip()).into(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: if has_own_timeout { request.rebalance_timeout_ms } else { request.session_timeout_ms },
        protocol_type: owned(&request.protocol_type),
        protocols: protocols.collect(),
        abilities: JoinAbilities {
            member_id_required: context.version >= MEMBER_ID_REQUIRED,
            skip_assignment: context.version >= SKIP_ASSIGNMENT,
        },
    }
}

fn completed(joined: Joined, version: i16) -> JoinGroupResponse {
    let members = joined.members.iter().map(|member| JoinGroupResponseMember {
        member_id: wire(&member.member_id),
        group_instance_id: wire_option(member.instance_id.as_ref()),
        metadata: member.metadata.clone(),
        ..JoinGroupResponseMember::default()
    });
    JoinGroupResponse {
        generation_id: joined.generation,
        protocol_type: wire_option(joined.protocol_type.as_ref()),
        protocol_name: nullable_protocol(wire_option(joined.protocol_name.as_ref()), version),
        leader: wire(&joined.leader),
        skip_assignment: joined.skip_assignment,
        member_id: wire(&joined.member_id),
        members: members.collect(),
        ..JoinGroupResponse::default()
    }
}
