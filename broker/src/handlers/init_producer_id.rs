//! InitProducerId, for idempotent producers without transactions.

use protocol::ErrorCode;
use protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::RequestContext;

pub(super) async fn handle(context: &RequestContext<'_>, request: InitProducerIdRequest) -> InitProducerIdResponse {
    if request.transactional_id.is_some() {
        // No transaction coordinator yet: clients are told so by FindCoordinator before they come here.
        return refused(ErrorCode::NotCoordinator);
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
