//! ListGroups: the groups that this broker coordinates.

use coordinator::group::{GROUP_TYPE, ListFilter};
use protocol::Str;
use protocol::messages::list_groups_response::ListedGroup;
use protocol::messages::{ListGroupsRequest, ListGroupsResponse};

use super::{error_code, wire};
use crate::handlers::RequestContext;

pub(crate) async fn handle(context: &RequestContext<'_>, request: ListGroupsRequest) -> ListGroupsResponse {
    let filter = ListFilter::new(&request.states_filter, &request.types_filter);
    match context.broker.groups.list(filter).await {
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
    }
}
