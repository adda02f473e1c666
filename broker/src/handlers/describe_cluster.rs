//! DescribeCluster (KIP-700).

use protocol::messages::describe_cluster_response::DescribeClusterBroker;
use protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};
use protocol::{ErrorCode, Str};

use super::RequestContext;
use super::topics::{ALL_CLUSTER_OPERATIONS, OPERATIONS_UNKNOWN, controller_id};
use crate::broker::LISTENER;

/// The brokers are asked for, in contrast to the controllers (KIP-919).
const ENDPOINT_BROKERS: i8 = 1;
/// The controllers are asked for.
const ENDPOINT_CONTROLLERS: i8 = 2;

pub(super) async fn handle(context: &RequestContext<'_>, request: DescribeClusterRequest) -> DescribeClusterResponse {
    if request.endpoint_type != ENDPOINT_BROKERS {
        let code = match request.endpoint_type {
            ENDPOINT_CONTROLLERS => ErrorCode::MismatchedEndpointType,
            _ => ErrorCode::UnsupportedEndpointType,
        };
        return DescribeClusterResponse {
            error_code: code.code(),
            error_message: Some(Str::from("this listener serves brokers only")),
            ..DescribeClusterResponse::default()
        };
    }
    // A broker that is behind answers, too: its list of brokers is worth having.
    let _ = context.broker.metadata.confirm().await;
    let (metadata, image) = (&context.broker.metadata, context.broker.metadata.image());
    // Without a majority no broker is fenced any more: those who want to see lost brokers see those that this node does not hear.
    let is_lost = |id| request.include_fenced_brokers && !metadata.has_quorum() && !metadata.is_heard(id);
    let entry = |broker: &coordinator::cluster::Broker| {
        let listener = broker.listener(LISTENER)?;
        Some(DescribeClusterBroker {
            broker_id: broker.id,
            host: Str::from(listener.host.clone()),
            port: i32::from(listener.port),
            rack: broker.rack.clone().map(Str::from),
            is_fenced: broker.is_fenced || is_lost(broker.id),
            ..DescribeClusterBroker::default()
        })
    };
    let wanted = |broker: &&coordinator::cluster::Broker| request.include_fenced_brokers || !broker.is_fenced;
    let operations = request.include_cluster_authorized_operations;
    DescribeClusterResponse {
        endpoint_type: ENDPOINT_BROKERS,
        cluster_id: Str::from(image.cluster_id().to_owned()),
        controller_id: controller_id(context.broker, &image),
        brokers: image.brokers().filter(wanted).filter_map(entry).collect(),
        cluster_authorized_operations: if operations { ALL_CLUSTER_OPERATIONS } else { OPERATIONS_UNKNOWN },
        ..DescribeClusterResponse::default()
    }
}
