//! DeleteGroups.

use protocol::messages::delete_groups_response::DeletableGroupResult;
use protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::{code_of, owned};
use crate::handlers::RequestContext;

pub(crate) async fn handle(context: &RequestContext<'_>, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group_id in request.groups_names {
        let deleted = context.broker.groups.delete_group(owned(&group_id)).await;
        results.push(DeletableGroupResult {
            group_id,
            error_code: code_of(&deleted),
            ..DeletableGroupResult::default()
        });
    }
    DeleteGroupsResponse { results, ..DeleteGroupsResponse::default() }
}
