//! InitProducerId, for idempotent producers without transactions.

use model::{NO_PRODUCER_EPOCH, NO_PRODUCER_ID};
use protocol::ErrorCode;
use protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::RequestContext;

pub(super) async fn handle(context: &RequestContext<'_>, request: InitProducerIdRequest) -> InitProducerIdResponse {
    if request.transactional_id.as_ref().is_some_and(|id| id.is_empty()) {
        return refused(ErrorCode::InvalidRequest);
    }
    // A producer continues with its id and its epoch, or begins without either.
    if (request.producer_id == NO_PRODUCER_ID) != (request.producer_epoch == NO_PRODUCER_EPOCH) {
        return refused(ErrorCode::InvalidRequest);
    }
    if request.transactional_id.is_some() {
        // There is no transaction coordinator: FindCoordinator says so to clients before they come here. An error that ends
        // the producer, as there.
        return refused(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    match context.broker.producer_ids.next(&context.broker.metadata).await {
        Ok(producer_id) => {
            InitProducerIdResponse { producer_id, producer_epoch: 0, ..InitProducerIdResponse::default() }
        }
        Err(error) => {
            tracing::warn!(%error, "cannot give out a producer id");
            refused(ErrorCode::CoordinatorLoadInProgress)
        }
    }
}

fn refused(code: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse { error_code: code.code(), producer_epoch: -1, ..InitProducerIdResponse::default() }
}
