//! UnregisterBroker (KIP-631): a broker that will not come back is forgotten.

use coordinator::cluster::Command;
use protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};

use super::RequestContext;
use super::errors::{Refusal, told};

pub(super) async fn handle(context: &RequestContext<'_>, request: UnregisterBrokerRequest) -> UnregisterBrokerResponse {
    let command = Command::UnregisterBroker { broker_id: request.broker_id };
    let outcome = context.broker.metadata.submit(command).await.map(|_done| ());
    let (error_code, error_message) = told(outcome.map_err(Refusal::from));
    UnregisterBrokerResponse { error_code, error_message, ..UnregisterBrokerResponse::default() }
}
