//! AddRaftVoter and RemoveRaftVoter (KIP-853): who votes on the metadata log.
//!
//! A node has one data folder, so that its id alone names the voter, with the directory id zero; any other names a voter that
//! does not exist. The listeners have no effect: the node gave its own when it joined.

use protocol::messages::{AddRaftVoterRequest, AddRaftVoterResponse, RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use protocol::{ErrorCode, Str};
use uuid::Uuid;

use super::RequestContext;
use super::errors::{Refusal, code_and_message};
use crate::metadata::{VoterChange, VoterError};

pub(super) async fn add(context: &RequestContext<'_>, request: AddRaftVoterRequest) -> AddRaftVoterResponse {
    let (cluster_id, directory_id) = (request.cluster_id, request.voter_directory_id);
    let outcome = change(context, cluster_id, directory_id, VoterChange::Add(request.voter_id)).await;
    let (error_code, error_message) = code_and_message(outcome);
    AddRaftVoterResponse { error_code, error_message, ..AddRaftVoterResponse::default() }
}

pub(super) async fn remove(context: &RequestContext<'_>, request: RemoveRaftVoterRequest) -> RemoveRaftVoterResponse {
    let (cluster_id, directory_id) = (request.cluster_id, request.voter_directory_id);
    let outcome = change(context, cluster_id, directory_id, VoterChange::Remove(request.voter_id)).await;
    let (error_code, error_message) = code_and_message(outcome);
    RemoveRaftVoterResponse { error_code, error_message, ..RemoveRaftVoterResponse::default() }
}

async fn change(
    context: &RequestContext<'_>,
    cluster_id: Option<Str>,
    directory_id: Uuid,
    change: VoterChange,
) -> Result<(), Refusal> {
    let ours = context.broker.metadata.image().cluster_id().to_owned();
    if let Some(theirs) = cluster_id.filter(|id| **id != *ours) {
        let reason = format!("this cluster is {ours}, not {theirs}");
        return Err(Refusal::new(ErrorCode::InconsistentClusterId, reason));
    }
    if !directory_id.is_nil() {
        let reason = format!("no voter has the directory id {directory_id}: all of them are zero");
        return Err(Refusal::new(ErrorCode::VoterNotFound, reason));
    }
    Ok(context.broker.metadata.change_voters(change).await?)
}

impl From<VoterError> for Refusal {
    fn from(error: VoterError) -> Self {
        let code = match &error {
            VoterError::VotesAlready(_) => ErrorCode::DuplicateVoter,
            VoterError::NoVoter(_) | VoterError::Unknown(_) => ErrorCode::VoterNotFound,
            VoterError::OnlyVoter(_) => ErrorCode::InvalidRequest,
            VoterError::Behind { .. } | VoterError::Later(_) => ErrorCode::RequestTimedOut,
        };
        Refusal::new(code, error.to_string())
    }
}
