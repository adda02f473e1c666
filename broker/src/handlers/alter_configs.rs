//! AlterConfigs: replaces all settings of a resource. Deprecated by Kafka, still used by older tools.

use coordinator::cluster::{ConfigChange, ConfigEdit};
use protocol::Str;
use protocol::messages::alter_configs_request::AlterConfigsResource;
use protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::RequestContext;
use super::errors::{Refusal, code_and_message};
use super::incremental_alter_configs::{alter, to_resource};

pub(super) async fn handle(context: &RequestContext<'_>, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let names: Vec<(i8, Str)> = request.resources.iter().map(|r| (r.resource_type, r.resource_name.clone())).collect();
    let changes = request.resources.into_iter().map(to_change).collect();
    let outcomes = alter(context, changes, request.validate_only).await;
    let answer = |((resource_type, resource_name), outcome): ((i8, Str), Result<(), Refusal>)| {
        let (error_code, error_message) = code_and_message(outcome);
        AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type,
            resource_name,
            ..AlterConfigsResourceResponse::default()
        }
    };
    let responses = names.into_iter().zip(outcomes).map(answer).collect();
    AlterConfigsResponse { responses, ..AlterConfigsResponse::default() }
}

fn to_change(resource: AlterConfigsResource) -> Result<ConfigChange, Refusal> {
    let target = to_resource(resource.resource_type, &resource.resource_name)?;
    let all = resource.configs.into_iter().map(|c| (c.name.to_string(), c.value.map(|v| v.to_string()))).collect();
    Ok(ConfigChange { resource: target, edit: ConfigEdit::Replace(all) })
}
