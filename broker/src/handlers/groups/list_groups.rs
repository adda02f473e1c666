//! ListGroups: the groups that this broker coordinates.

use coordinator::group::{GROUP_TYPE, GroupListing, Groups, ListFilter};
use protocol::messages::list_groups_response::ListedGroup;
use protocol::messages::{ListGroupsRequest, ListGroupsResponse};
use protocol::{ApiKey, Str};

use super::{error_code, wire};
use crate::handlers::{BadRequest, RequestContext};

/// What a group takes in a response beyond its texts, in memory and encoded.
const GROUP_BYTES: usize = 256;

pub(crate) async fn handle(
    context: &RequestContext<'_>,
    request: ListGroupsRequest,
) -> Result<ListGroupsResponse, BadRequest> {
    let filter = ListFilter::new(&request.states_filter, &request.types_filter);
    context.claim_reply(ApiKey::ListGroups, context.broker.groups.weigh_list(weight).await).await?;
    Ok(match context.broker.groups.list(filter).await {
        Err(error) => ListGroupsResponse { error_code: error_code(error).code(), ..ListGroupsResponse::default() },
        Ok(listings) => {
            let groups = listings.iter().map(|listing| ListedGroup {
                group_id: wire(&listing.group),
                protocol_type: wire(&listing.protocol_type),
                group_state: Str::from_static(listing.state.name()),
                group_type: Str::from_static(GROUP_TYPE),
                ..ListedGroup::default()
            });
            ListGroupsResponse { groups: groups.collect(), ..ListGroupsResponse::default() }
        }
    })
}

fn weight(groups: &Groups) -> usize {
    let listing = |listing: &GroupListing| GROUP_BYTES + 2 * (listing.group.len() + listing.protocol_type.len());
    groups.list(&ListFilter::default()).iter().map(listing).sum()
}
