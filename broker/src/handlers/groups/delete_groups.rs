//! DeleteGroups.

use protocol::Str;
use protocol::messages::delete_groups_response::DeletableGroupResult;
use protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::{code_of, owned};
use crate::handlers::RequestContext;
use crate::handlers::once_each::once_each;

pub(crate) async fn handle(context: &RequestContext<'_>, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let groups = once_each(request.groups_names, Str::clone);
    let mut results = Vec::with_capacity(groups.len());
    for group_id in groups {
        let deleted = context.broker.groups.delete_group(owned(&group_id)).await;
        results.push(DeletableGroupResult {
            group_id,
            error_code: code_of(&deleted),
            ..DeletableGroupResult::default()
        });
    }
    DeleteGroupsResponse { results, ..DeleteGroupsResponse::default() }
}
