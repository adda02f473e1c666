//! UnregisterBroker (KIP-631): a broker that will not come back is forgotten.

use coordinator::cluster::Command;
use protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};

use super::RequestContext;
use super::errors::{Refusal, code_and_message};
use crate::metadata::{VoterChange, VoterError};

pub(super) async fn handle(context: &RequestContext<'_>, request: UnregisterBrokerRequest) -> UnregisterBrokerResponse {
    let command = Command::UnregisterBroker { broker_id: request.broker_id };
    let outcome = context.broker.metadata.submit(command).await.map(|_done| ());
    if outcome.is_ok() {
        forget(context, request.broker_id).await;
    }
    let (error_code, error_message) = code_and_message(outcome.map_err(Refusal::from));
    UnregisterBrokerResponse { error_code, error_message, ..UnregisterBrokerResponse::default() }
}

/// Leaves a node without a vote out of the metadata log: it gets no more entries. A voter stays one, as in Apache
/// Kafka: its vote is taken by RemoveRaftVoter.
async fn forget(context: &RequestContext<'_>, node: i32) {
    match context.broker.metadata.change_voters(VoterChange::Forget(node)).await {
        Ok(()) | Err(VoterError::Unknown(_) | VoterError::VotesAlready(_)) => {}
        Err(error) => tracing::warn!(node, %error, "the metadata log is still sent to a node that is not registered"),
    }
}
