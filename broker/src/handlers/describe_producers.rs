//! DescribeProducers (KIP-664): who is writing to a partition.

use protocol::Str;
use protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use protocol::messages::{DescribeProducersRequest, DescribeProducersResponse};

use super::RequestContext;

pub(super) async fn handle(
    context: &RequestContext<'_>,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let describe =
        |name: &Str, partition_index: i32| match context.broker.partitions.leader_by_name(name, partition_index) {
            Ok(partition) => PartitionResponse {
                partition_index,
                active_producers: partition.log.producers().iter().map(state).collect(),
                ..PartitionResponse::default()
            },
            Err(code) => PartitionResponse { partition_index, error_code: code.code(), ..PartitionResponse::default() },
        };
    let topics = request.topics.into_iter().map(|topic| TopicResponse {
        partitions: topic.partition_indexes.iter().map(|index| describe(&topic.name, *index)).collect(),
        name: topic.name,
        ..TopicResponse::default()
    });
    DescribeProducersResponse { topics: topics.collect(), ..DescribeProducersResponse::default() }
}

fn state(producer: &hot_tier::ActiveProducer) -> ProducerState {
    ProducerState {
        producer_id: producer.producer_id,
        producer_epoch: i32::from(producer.producer_epoch),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_timestamp,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.current_txn_start_offset.unwrap_or(-1),
        ..ProducerState::default()
    }
}
