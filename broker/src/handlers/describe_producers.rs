//! DescribeProducers (KIP-664): who is writing to a partition.

use indexmap::{IndexMap, IndexSet};
use protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use protocol::messages::{DescribeProducersRequest, DescribeProducersResponse};
use protocol::{ApiKey, Str};

use super::topics::check_topic_name;
use super::{BadRequest, RequestContext};

/// What a producer takes in a response, in memory and encoded.
const PRODUCER_BYTES: usize = 256;

pub(super) async fn handle(
    context: &RequestContext<'_>,
    request: DescribeProducersRequest,
) -> Result<DescribeProducersResponse, BadRequest> {
    let mut by_topic: IndexMap<Str, IndexSet<i32>> = IndexMap::new();
    for topic in request.topics {
        by_topic.entry(topic.name).or_default().extend(topic.partition_indexes);
    }
    let local = &context.broker.partitions;
    let producers = |(name, indexes): (&Str, &IndexSet<i32>)| {
        let led = indexes.iter().filter_map(|index| local.leader_by_name(name, *index).ok());
        led.map(|partition| partition.log.producers().len()).sum::<usize>()
    };
    let bytes = by_topic.iter().map(producers).sum::<usize>() * PRODUCER_BYTES;
    context.claim_reply(ApiKey::DescribeProducers, bytes).await?;
    let describe = |name: &Str, partition_index: i32| match local.leader_by_name(name, partition_index) {
        Ok(partition) => PartitionResponse {
            partition_index,
            active_producers: partition.log.producers().iter().map(state).collect(),
            ..PartitionResponse::default()
        },
        Err(code) => {
            let error_code = check_topic_name(name).err().map_or(code, |refusal| refusal.code).code();
            PartitionResponse { partition_index, error_code, ..PartitionResponse::default() }
        }
    };
    let topics = by_topic.into_iter().map(|(name, indexes)| TopicResponse {
        partitions: indexes.iter().map(|index| describe(&name, *index)).collect(),
        name,
        ..TopicResponse::default()
    });
    Ok(DescribeProducersResponse { topics: topics.collect(), ..DescribeProducersResponse::default() })
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
