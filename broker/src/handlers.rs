//! One file per Kafka API: the list of files is the list of what works.
//!
//! [`start`] decodes a request, runs its handler and encodes the reply. Handlers translate: wire structs in, a question
//! to the room that knows, wire structs out. Errors become Kafka's codes in [`errors`], nowhere else.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use protocol::frame::{self, HeaderError, RequestHeader};
use protocol::versions::{Support, api_versions_fallback, support};
use protocol::{ApiKey, DecodeError, ErrorCode, Frame, Message, Reader, Request};
use tracing::error;

use crate::broker::Broker;

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
}

/// A reply on its way to the client.
pub(crate) enum Reply {
    /// Ready.
    Now(Frame),
    /// Ready; holds memory for replies until it is written.
    Held(Frame, fetch::memory::Held),
    /// Ready when what it promises is true. Everything that must happen in order has happened.
    Later(BoxFuture<'static, Frame>),
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
}

/// Starts a request; what must happen in the order of a connection's requests has happened when this returns.
///
/// # Errors
/// [`BadRequest`]: the connection must be closed.
pub(crate) async fn start(
    broker: &Arc<Broker>,
    connection: &Arc<Connection>,
    request: Bytes,
) -> Result<Started, BadRequest> {
    let (header, body) = RequestHeader::decode(request)?;
    let api_key = header.key;
    match support(api_key, header.version) {
        Support::Served => {}
        // A client that is newer than the broker asks in a version that the broker does not know: it is told the
        // broker's, in the oldest form (KIP-511).
        Support::ApiVersionsFallback => {
            let reply = Reply::Now(encode(api_key, 0, header.correlation_id, &api_versions_fallback()));
            return Ok(Started { api_key, reply });
        }
        Support::UnsupportedVersion { .. } | Support::UnsupportedApi => {
            return Err(BadRequest::NotServed { api: api_key, version: header.version });
        }
    }
    let client_id = header.client_id.as_deref().unwrap_or_default();
    let context = RequestContext { broker, connection, version: header.version, client_id };
    let call = Call { context: &context, correlation_id: header.correlation_id, body };
    let reply = dispatch(api_key, call).await?;
    Ok(Started { api_key, reply })
}

/// A request on its way to its handler.
struct Call<'a> {
    context: &'a RequestContext<'a>,
    correlation_id: i32,
    body: Reader,
}

impl<'a> Call<'a> {
    /// Decodes the request, awaits its handler, encodes the response.
    async fn answer<R, F>(self, handler: impl FnOnce(&'a RequestContext<'a>, R) -> F) -> Result<Reply, BadRequest>
    where
        R: Request,
        F: Future<Output = R::Response>,
    {
        let Call { context, correlation_id, mut body } = self;
        let request = decode::<R>(&mut body, context.version)?;
        let response = Box::pin(handler(context, request)).await;
        Ok(Reply::Now(encode(R::KEY, context.version, correlation_id, &response)))
    }
}

async fn dispatch(api: ApiKey, call: Call<'_>) -> Result<Reply, BadRequest> {
    match api {
        ApiKey::Produce => {
            let Call { context, correlation_id, mut body } = call;
            let request = decode(&mut body, context.version)?;
            produce::start(context, correlation_id, request).await
        }
        ApiKey::Fetch => {
            let Call { context, correlation_id, mut body } = call;
            let request = decode(&mut body, context.version)?;
            Ok(Box::pin(fetch::start(context, correlation_id, request)).await)
        }
        ApiKey::ApiVersions => call.answer(api_versions::handle).await,
        ApiKey::Metadata => call.answer(metadata::handle).await,
        ApiKey::DescribeTopicPartitions => call.answer(describe_topic_partitions::handle).await,
        ApiKey::DescribeCluster => call.answer(describe_cluster::handle).await,
        ApiKey::DescribeQuorum => call.answer(describe_quorum::handle).await,
        ApiKey::ElectLeaders => call.answer(elect_leaders::handle).await,
        ApiKey::AlterPartitionReassignments => call.answer(reassignments::alter).await,
        ApiKey::ListPartitionReassignments => call.answer(reassignments::list).await,
        ApiKey::AddRaftVoter => call.answer(raft_voters::add).await,
        ApiKey::RemoveRaftVoter => call.answer(raft_voters::remove).await,
        ApiKey::UpdateFeatures => call.answer(update_features::handle).await,
        ApiKey::UnregisterBroker => call.answer(unregister_broker::handle).await,
        ApiKey::ListOffsets => call.answer(list_offsets::handle).await,
        ApiKey::OffsetForLeaderEpoch => call.answer(offset_for_leader_epoch::handle).await,
        ApiKey::CreateTopics => call.answer(create_topics::handle).await,
        ApiKey::DeleteTopics => call.answer(delete_topics::handle).await,
        ApiKey::CreatePartitions => call.answer(create_partitions::handle).await,
        ApiKey::DeleteRecords => call.answer(delete_records::handle).await,
        ApiKey::DescribeConfigs => call.answer(describe_configs::handle).await,
        ApiKey::IncrementalAlterConfigs => call.answer(incremental_alter_configs::handle).await,
        ApiKey::AlterConfigs => call.answer(alter_configs::handle).await,
        ApiKey::DescribeLogDirs => call.answer(describe_log_dirs::handle).await,
        ApiKey::DescribeProducers => call.answer(describe_producers::handle).await,
        ApiKey::InitProducerId => call.answer(init_producer_id::handle).await,
        ApiKey::FindCoordinator => call.answer(groups::find_coordinator::handle).await,
        ApiKey::JoinGroup => call.answer(groups::join_group::handle).await,
        ApiKey::SyncGroup => call.answer(groups::sync_group::handle).await,
        ApiKey::Heartbeat => call.answer(groups::heartbeat::handle).await,
        ApiKey::LeaveGroup => call.answer(groups::leave_group::handle).await,
        ApiKey::OffsetCommit => call.answer(groups::offset_commit::handle).await,
        ApiKey::OffsetFetch => call.answer(groups::offset_fetch::handle).await,
        ApiKey::OffsetDelete => call.answer(groups::offset_delete::handle).await,
        ApiKey::ListGroups => call.answer(groups::list_groups::handle).await,
        ApiKey::DescribeGroups => call.answer(groups::describe_groups::handle).await,
        ApiKey::DeleteGroups => call.answer(groups::delete_groups::handle).await,
        // The version table announces nothing else, and a test sends a request of every API in it.
        api => Err(BadRequest::NotServed { api, version: call.context.version }),
    }
}

/// Bytes behind the last known field are left alone, as Apache Kafka does.
fn decode<R: Request>(body: &mut Reader, version: i16) -> Result<R, BadRequest> {
    R::decode(body, version).map_err(|source| BadRequest::Malformed { api: R::KEY, version, source })
}

/// The frame of a response.
pub(crate) fn encode<M: Message>(api: ApiKey, version: i16, correlation_id: i32, response: &M) -> Frame {
    match frame::response(api, version, correlation_id, response) {
        Ok(frame) => frame,
        // A bug of a handler: the client gets nothing and asks again after its timeout.
        Err(error) => {
            error!(%api, version, %error, "cannot encode a response, the client gets none");
            Frame::default()
        }
    }
}
