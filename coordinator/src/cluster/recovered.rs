//! After a recovery the metadata are a copy that may lack its newest changes. Numbers that these gave out must not be given
//! out again: a leader epoch that two brokers had would hide that their logs differ.

use model::TopicPartition;

use super::draft::Draft;
use super::{ClusterError, Partition, Record, Reply};

/// Leader and partition epochs that are passed over, of each partition.
const PARTITION_EPOCHS: i32 = 10_000;
/// Broker epochs that are passed over.
const BROKER_EPOCHS: i64 = 1_000_000;
/// Producer ids that are passed over.
const PRODUCER_IDS: i64 = 1_000_000_000;

pub(super) fn pass_over(draft: &mut Draft) -> Result<Reply, ClusterError> {
    let state = &draft.state;
    let exhausted = || ClusterError::LimitExceeded { reason: "no producer ids are left".to_owned() };
    let producer_ids = state.next_producer_id.checked_add(PRODUCER_IDS).ok_or_else(exhausted)?;
    let broker_epoch = state.next_broker_epoch.saturating_add(BROKER_EPOCHS);
    let raised = |(id, old): (TopicPartition, &Partition)| {
        let leader_epoch = old.leader_epoch.saturating_add(PARTITION_EPOCHS);
        let partition_epoch = old.partition_epoch.saturating_add(PARTITION_EPOCHS);
        (id, Partition { leader_epoch, partition_epoch, ..old.clone() })
    };
    let partitions: Vec<(TopicPartition, Partition)> = state.partitions().map(raised).collect();
    draft.push(Record::BrokerEpochsRaised { next: broker_epoch });
    draft.push(Record::ProducerIdsAllocated { next: producer_ids });
    for (id, partition) in partitions {
        draft.put_partition(id, partition);
    }
    Ok(Reply::Done)
}
