//! One file per Kafka API: the list of files is the list of what works.
//!
//! [`start`] decodes a request, runs its handler and encodes the reply. Handlers translate: wire structs in, a question
//! to the module that knows, wire structs out. Errors become Kafka's codes in [`errors`], nowhere else.
//!
//! What a request may cost is claimed before it is spent (see [`crate::memory`]): by [`Call::decode`] for its items, by
//! the handler for a reply that grows with the state of the broker.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use protocol::frame::{self, HeaderError, RequestHeader};
use protocol::versions::{Support, api_versions_fallback, support};
use protocol::{ApiKey, DecodeError, DecodeProblem, EncodeError, ErrorCode, Frame, Message, Reader, Request, Str};

use crate::broker::Broker;
use crate::memory::{Claims, Held, Holds, NoMemory, bytes_per_element};
use crate::metadata::OutOfDate;

pub(crate) mod errors;
pub(crate) mod topics;

mod alter_configs;
mod api_versions;
mod certainty;
mod create_partitions;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_topic_partitions;
mod elect_leaders;
pub(crate) mod fetch;
mod groups;
mod incremental_alter_configs;
mod init_producer_id;
mod leader_hints;
mod list_offsets;
mod metadata;
mod offset_for_leader_epoch;
mod once_each;
mod partition_outcomes;
mod produce;
mod raft_voters;
mod reassignments;
mod unregister_broker;
mod update_features;

/// A client's connection, as handlers see it.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Where the client is.
    pub(crate) peer: SocketAddr,
}

/// What a handler knows besides the request itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestContext<'a> {
    /// The broker.
    pub(crate) broker: &'a Arc<Broker>,
    /// The connection that the request came on.
    pub(crate) connection: &'a Connection,
    /// Version of the request.
    pub(crate) version: i16,
    /// How the client calls itself, or empty.
    pub(crate) client_id: &'a str,
    /// What the request holds of the broker's memory.
    pub(crate) claims: &'a Claims,
}

impl RequestContext<'_> {
    /// Claims memory for a reply of about `bytes`, in memory and encoded; to be called before it is built.
    ///
    /// # Errors
    /// [`BadRequest::NoMemory`] when it is too large, or no memory came free in time.
    pub(crate) async fn claim_reply(&self, api: ApiKey, bytes: usize) -> Result<(), BadRequest> {
        let claimed = self.claims.claim_reply(&self.broker.memory, bytes).await;
        claimed.map_err(|source| BadRequest::NoMemory { api, version: self.version, source })
    }
}

/// A reply on its way to the client.
pub(crate) enum Reply {
    /// Ready.
    Now(Frame),
    /// Ready; holds memory for replies until it is written.
    Held(Frame, Held),
    /// Ready when what it promises is true. Everything that must happen in order has happened.
    Later(BoxFuture<'static, Result<Frame, BadRequest>>),
    /// The client wants none: produce with acks=0.
    Nothing,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Reply::Now(_) => "Now",
            Reply::Held(..) => "Held",
            Reply::Later(_) => "Later",
            Reply::Nothing => "Nothing",
        })
    }
}

/// A request that was started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) api_key: ApiKey,
    pub(crate) reply: Reply,
    /// What stays claimed until the reply is written.
    pub(crate) holds: Holds,
}

/// A request that ends its connection: Kafka has no other answer to it either.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadRequest {
    /// The header cannot be read, or names an API that does not exist.
    #[error("{0}")]
    Header(#[from] HeaderError),
    /// An API, or a version of one, that is not served.
    #[error("a request for {api} version {version}, which is not served")]
    NotServed {
        /// Which API.
        api: ApiKey,
        /// The version.
        version: i16,
    },
    /// The request is malformed.
    #[error("malformed {api} request of version {version}: {source}")]
    Malformed {
        /// Which API.
        api: ApiKey,
        /// Which version.
        version: i16,
        /// What is wrong, and where.
        source: DecodeError,
    },
    /// A produce request with acks=0 failed: closing is the only way to tell (as in Apache Kafka).
    #[error("a produce request with acks=0 failed: {0}")]
    Unanswerable(ErrorCode),
    /// There is no memory for the reply. The client would take silence on an open connection for a slow broker.
    #[error("cannot answer {api} version {version}: {source}")]
    NoMemory {
        /// Which API.
        api: ApiKey,
        /// Which version.
        version: i16,
        /// How much, and how much there may be.
        source: NoMemory,
    },
    /// This broker does not know who leads. A client asks another one when the connection ends.
    #[error(transparent)]
    OutOfDate(#[from] OutOfDate),
    /// The reply does not fit into the version: a bug of its handler, or more than two gigabytes.
    #[error("cannot encode the reply to {api} version {version}: {source}")]
    Unencodable {
        /// Which API.
        api: ApiKey,
        /// Which version.
        version: i16,
        /// What is wrong, and where.
        source: EncodeError,
    },
}

impl BadRequest {
    /// True when the broker is at fault, not the client.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, BadRequest::Unencodable { .. })
    }
}

/// Starts a request that was received under `claims`; what must happen in the order of a connection's requests has happened
/// when this returns.
///
/// # Errors
/// [`BadRequest`]: the connection must be closed.
pub(crate) async fn start(
    broker: &Arc<Broker>,
    connection: &Arc<Connection>,
    request: Bytes,
    claims: Claims,
) -> Result<Started, BadRequest> {
    let frame_bytes = request.len();
    let (header, body) = RequestHeader::decode(request)?;
    let api_key = header.key;
    match support(api_key, header.version) {
        Support::Served => {}
        // A client that is newer than the broker asks in a version that the broker does not know: it is told the
        // broker's, in the oldest form (KIP-511).
        Support::ApiVersionsFallback => {
            let frame = encode(api_key, 0, header.correlation_id, &api_versions_fallback())?;
            return Ok(Started { api_key, holds: claims.for_reply(&frame), reply: Reply::Now(frame) });
        }
        Support::UnsupportedVersion { .. } | Support::UnsupportedApi => {
            return Err(BadRequest::NotServed { api: api_key, version: header.version });
        }
    }
    // Text of its own: a request that is parked must not keep its frame.
    let client_id = header.client_id.as_ref().map(|id| Str::from(&**id)).unwrap_or_default();
    let context =
        RequestContext { broker, connection, version: header.version, client_id: &client_id, claims: &claims };
    let call = Call { context: &context, correlation_id: header.correlation_id, body, frame_bytes };
    drop(header.client_id);
    let reply = dispatch(api_key, call).await?;
    let holds = match &reply {
        Reply::Now(frame) | Reply::Held(frame, _) => claims.for_reply(frame),
        Reply::Later(_) => claims.all(),
        Reply::Nothing => Holds::default(),
    };
    Ok(Started { api_key, reply, holds })
}

/// Most that the elements of a request count while its decoding needs no claim of its own beyond a moment's.
const DECODED_AT_ONCE_BYTES: usize = 128 << 10;
/// A decoded request that takes no more than this beyond its frame counts with its connection.
const DECODED_FREE_BYTES: usize = 2 << 10;
/// Each further attempt to decode a request claims so many times as much as the one before.
const DECODED_FACTOR: usize = 16;

/// A request on its way to its handler.
struct Call<'a> {
    context: &'a RequestContext<'a>,
    correlation_id: i32,
    body: Reader,
    frame_bytes: usize,
}

impl<'a> Call<'a> {
    /// Decodes the request, awaits its handler, encodes the response.
    async fn answer<R, F>(self, handler: impl FnOnce(&'a RequestContext<'a>, R) -> F) -> Result<Reply, BadRequest>
    where
        R: Request,
        F: Future<Output = R::Response>,
    {
        self.answer_within(|context, request| async { Ok(handler(context, request).await) }).await
    }

    /// As [`Call::answer`], for a handler that claims the memory for its response and may get none.
    async fn answer_within<R, F>(
        self,
        handler: impl FnOnce(&'a RequestContext<'a>, R) -> F,
    ) -> Result<Reply, BadRequest>
    where
        R: Request,
        F: Future<Output = Result<R::Response, BadRequest>>,
    {
        let (context, correlation_id) = (self.context, self.correlation_id);
        let request = self.decode::<R>().await?;
        let response = Box::pin(handler(context, request)).await?;
        Ok(Reply::Now(encode(R::KEY, context.version, correlation_id, &response)?))
    }

    /// Decodes the request under a claim for all that its items may lead to. Bytes behind the last known field are left
    /// alone, as Apache Kafka does.
    ///
    /// What it will take is only known when it is decoded. So a small allowance is tried first; a request that needs more,
    /// or more than is free, is dropped, waits for the memory holding nothing but its frame, and is decoded again.
    async fn decode<R: Request>(self) -> Result<R, BadRequest> {
        let Call { context, body, frame_bytes, .. } = self;
        let (memory, claims, version) = (&context.broker.memory, context.claims, context.version);
        let malformed = |source| BadRequest::Malformed { api: R::KEY, version, source };
        let is_short = |error: &DecodeError| matches!(error.problem(), DecodeProblem::TooManyElements { .. });
        // Handlers copy texts and bytes, except records.
        let copied_bytes = if matches!(R::KEY, ApiKey::Produce | ApiKey::Fetch) { 0 } else { frame_bytes };
        let whole = |elements: usize| frame_bytes + copied_bytes + elements;
        let mut allowance = DECODED_AT_ONCE_BYTES;
        loop {
            let mut reader = body.clone().with_element_budget(allowance, bytes_per_element(R::KEY));
            match R::decode(&mut reader, version) {
                Ok(request) => {
                    let elements = reader.element_bytes();
                    if allowance > DECODED_AT_ONCE_BYTES {
                        claims.shrink(whole(elements));
                        return Ok(request);
                    }
                    if copied_bytes + elements <= DECODED_FREE_BYTES || claims.try_cover(memory, whole(elements)) {
                        return Ok(request);
                    }
                    drop(request);
                    allowance += 1;
                }
                Err(error) if is_short(&error) && allowance < memory.decoded_max_bytes() => {
                    allowance = allowance.saturating_mul(DECODED_FACTOR).min(memory.decoded_max_bytes());
                }
                Err(error) => return Err(malformed(error)),
            }
            claims.cover(memory, whole(allowance)).await;
        }
    }
}

async fn dispatch(api: ApiKey, call: Call<'_>) -> Result<Reply, BadRequest> {
    match api {
        ApiKey::Produce => {
            let (context, correlation_id) = (call.context, call.correlation_id);
            produce::start(context, correlation_id, call.decode().await?).await
        }
        ApiKey::Fetch => {
            let (context, correlation_id) = (call.context, call.correlation_id);
            Box::pin(fetch::start(context, correlation_id, call.decode().await?)).await
        }
        ApiKey::ApiVersions => call.answer(api_versions::handle).await,
        ApiKey::Metadata => call.answer_within(metadata::handle).await,
        ApiKey::DescribeTopicPartitions => call.answer_within(describe_topic_partitions::handle).await,
        ApiKey::DescribeCluster => call.answer(describe_cluster::handle).await,
        ApiKey::DescribeQuorum => call.answer(describe_quorum::handle).await,
        ApiKey::ElectLeaders => call.answer_within(elect_leaders::handle).await,
        ApiKey::AlterPartitionReassignments => call.answer(reassignments::alter).await,
        ApiKey::ListPartitionReassignments => call.answer_within(reassignments::list).await,
        ApiKey::AddRaftVoter => call.answer(raft_voters::add).await,
        ApiKey::RemoveRaftVoter => call.answer(raft_voters::remove).await,
        ApiKey::UpdateFeatures => call.answer(update_features::handle).await,
        ApiKey::UnregisterBroker => call.answer(unregister_broker::handle).await,
        ApiKey::ListOffsets => call.answer(list_offsets::handle).await,
        ApiKey::OffsetForLeaderEpoch => call.answer(offset_for_leader_epoch::handle).await,
        ApiKey::CreateTopics => call.answer_within(create_topics::handle).await,
        ApiKey::DeleteTopics => call.answer(delete_topics::handle).await,
        ApiKey::CreatePartitions => call.answer(create_partitions::handle).await,
        ApiKey::DeleteRecords => call.answer(delete_records::handle).await,
        ApiKey::DescribeConfigs => call.answer_within(describe_configs::handle).await,
        ApiKey::IncrementalAlterConfigs => call.answer(incremental_alter_configs::handle).await,
        ApiKey::AlterConfigs => call.answer(alter_configs::handle).await,
        ApiKey::DescribeLogDirs => call.answer_within(describe_log_dirs::handle).await,
        ApiKey::DescribeProducers => call.answer_within(describe_producers::handle).await,
        ApiKey::InitProducerId => call.answer(init_producer_id::handle).await,
        ApiKey::FindCoordinator => call.answer_within(groups::find_coordinator::handle).await,
        ApiKey::JoinGroup => call.answer_within(groups::join_group::handle).await,
        ApiKey::SyncGroup => call.answer(groups::sync_group::handle).await,
        ApiKey::Heartbeat => call.answer(groups::heartbeat::handle).await,
        ApiKey::LeaveGroup => call.answer(groups::leave_group::handle).await,
        ApiKey::OffsetCommit => call.answer(groups::offset_commit::handle).await,
        ApiKey::OffsetFetch => call.answer_within(groups::offset_fetch::handle).await,
        ApiKey::OffsetDelete => call.answer(groups::offset_delete::handle).await,
        ApiKey::ListGroups => call.answer_within(groups::list_groups::handle).await,
        ApiKey::DescribeGroups => call.answer_within(groups::describe_groups::handle).await,
        ApiKey::DeleteGroups => call.answer(groups::delete_groups::handle).await,
        // The version table announces nothing else, and a test sends a request of every API in it.
        api => Err(BadRequest::NotServed { api, version: call.context.version }),
    }
}

/// The frame of a response.
///
/// # Errors
/// [`BadRequest::Unencodable`]: the connection must be closed, for its client waits for an answer that never comes.
pub(crate) fn encode<M: Message>(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &M,
) -> Result<Frame, BadRequest> {
    frame::response(api, version, correlation_id, response).map_err(|source| BadRequest::Unencodable {
        api,
        version,
        source,
    })
}

#[cfg(test)]
mod tests {
    use protocol::messages::JoinGroupResponse;

    use super::*;

    #[test]
    fn a_reply_that_cannot_be_encoded_closes_its_connection_and_says_why() {
        let response = JoinGroupResponse { member_id: Str::from("x".repeat(40_000)), ..JoinGroupResponse::default() };
        let error = encode(ApiKey::JoinGroup, 9, 1, &response).unwrap_err();
        assert!(error.is_ours());
        let reason = "JoinGroupResponse.MemberId";
        assert!(error.to_string().starts_with("cannot encode the reply to JoinGroup version 9: "), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}
