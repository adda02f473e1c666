//! Records to and from partitions: an idempotent producer's id, batches to leaders, fetches from them.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::batch::Batches;
use protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use protocol::messages::fetch_response::PartitionData;
use protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use protocol::messages::{FetchRequest, InitProducerIdRequest, ProduceRequest};
use protocol::{ErrorCode, Records, Str};
use tokio::time::{Duration, Instant};

use super::cluster::IfMissing;
use super::{Backoff, Client, ClientError, ClusterView, Endpoint};

/// How long a broker may hold a fetch back that has nothing to answer with.
const FETCH_WAIT: Duration = Duration::from_millis(500);
/// Bytes that one fetch asks for, over all its partitions.
const FETCH_BYTES: i32 = 32 << 20;
/// Bytes that one fetch asks for, of one partition.
const FETCH_PARTITION_BYTES: i32 = 4 << 20;
/// How long the broker may wait for replicas before it answers a produce request.
const PRODUCE_TIMEOUT_MS: i32 = 20_000;

/// Which records are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// All that are safe on the in-sync replicas.
    Uncommitted,
    /// Those before the last stable offset.
    #[cfg_attr(not(feature = "sql"), expect(dead_code, reason = "only SQL reads so"))]
    Committed,
}

impl Isolation {
    /// As requests say it.
    pub(super) fn level(self) -> i8 {
        match self {
            Isolation::Uncommitted => 0,
            Isolation::Committed => 1,
        }
    }
}

/// The whole batches at the front of an answer, and the offset after them. An answer may end within a batch.
pub(crate) fn whole_batches(records: &Bytes) -> Option<(Bytes, i64)> {
    let (mut len, mut next) = (0, None);
    for batch in Batches::new(records).map_while(Result::ok) {
        len += batch.bytes.len();
        next = Some(batch.header.next_offset());
    }
    Some((records.slice(..len), next?))
}

/// What a broker said about a batch.
#[derive(Debug)]
pub(crate) enum Produced {
    /// Durable from this offset on.
    At(i64),
    /// Durable from an earlier try, whose answer was lost; the offset is not known any more.
    Earlier,
}

impl Client {
    /// Id and epoch for an idempotent producer (KIP-98).
    pub(crate) async fn producer_id(&mut self) -> Result<(i64, i16), ClientError> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            ..InitProducerIdRequest::default()
        };
        let mut backoff = Backoff::until(self.deadline());
        loop {
            let answer = self.call_any(&request, self.deadline()).await;
            let checked = answer.and_then(|answer| {
                ClientError::check(answer.error_code, None, || "asking for a producer id".to_owned())?;
                Ok((answer.producer_id, answer.producer_epoch))
            });
            match checked {
                Err(error) => backoff.pause_after(error).await?,
                Ok(id) => return Ok(id),
            }
        }
    }

    /// Appends one batch to each of these partitions of `topic` with acks=all; tries again until the deadline. Batches must
    /// carry a producer id, so that a repeated one is not appended twice.
    pub(crate) async fn produce(
        &mut self,
        topic: &str,
        mut batches: BTreeMap<i32, Bytes>,
    ) -> Result<BTreeMap<i32, Produced>, ClientError> {
        let deadline = self.deadline();
        let mut backoff = Backoff::until(deadline);
        let mut produced = BTreeMap::new();
        while !batches.is_empty() {
            if let Err(error) = self.try_produce(topic, &mut batches, &mut produced, deadline).await {
                backoff.pause_after(error).await?;
            }
        }
        Ok(produced)
    }

    /// Moves what is acknowledged from `batches` to `produced`.
    async fn try_produce(
        &mut self,
        topic: &str,
        batches: &mut BTreeMap<i32, Bytes>,
        produced: &mut BTreeMap<i32, Produced>,
        deadline: Instant,
    ) -> Result<(), ClientError> {
        let view = match self.producing_to.take().filter(|view| view.topics.contains_key(topic)) {
            Some(view) => view,
            None => self.topic(topic, IfMissing::Create).await?,
        };
        let mut refusal = Ok(());
        for (endpoint, partitions) in view.by_leader(topic, batches.keys().copied())? {
            let part = |index: i32| PartitionProduceData {
                index,
                records: batches.get(&index).cloned().map(Records::from),
                ..PartitionProduceData::default()
            };
            let data = TopicProduceData {
                name: Str::from(topic),
                partition_data: partitions.into_iter().map(part).collect(),
                ..TopicProduceData::default()
            };
            let request = ProduceRequest {
                acks: -1,
                timeout_ms: PRODUCE_TIMEOUT_MS,
                topic_data: vec![data],
                ..ProduceRequest::default()
            };
            let answer = self.call_at(&endpoint, &request, deadline).await?;
            for part in answer.responses.into_iter().flat_map(|topic| topic.partition_responses) {
                let doing = || format!("producing to {topic} partition {}", part.index);
                let result = if part.error_code == ErrorCode::DuplicateSequenceNumber.code() {
                    Produced::Earlier
                } else if let Err(error) = ClientError::check(part.error_code, part.error_message.as_deref(), doing) {
                    refusal = Err(error);
                    continue;
                } else {
                    Produced::At(part.base_offset)
                };
                batches.remove(&part.index);
                produced.insert(part.index, result);
            }
        }
        refusal?;
        // Kept as long as all goes well: whatever is refused may be due to a leader that has moved.
        self.producing_to = Some(view);
        Ok(())
    }

    /// What lies at `positions` (partition → offset) of partitions that `endpoint` leads. Waits half a second when that is
    /// nothing.
    pub(crate) async fn fetch(
        &mut self,
        endpoint: &Endpoint,
        topic: &str,
        positions: &BTreeMap<i32, i64>,
        isolation: Isolation,
    ) -> Result<Vec<PartitionData>, ClientError> {
        let part = |(&partition, &fetch_offset): (&i32, &i64)| FetchPartition {
            partition,
            fetch_offset,
            partition_max_bytes: FETCH_PARTITION_BYTES,
            ..FetchPartition::default()
        };
        let wanted = FetchTopic {
            topic: Str::from(topic),
            partitions: positions.iter().map(part).collect(),
            ..FetchTopic::default()
        };
        let request = FetchRequest {
            max_wait_ms: i32::try_from(FETCH_WAIT.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes: FETCH_BYTES,
            isolation_level: isolation.level(),
            topics: vec![wanted],
            ..FetchRequest::default()
        };
        let answer = self.call_at(endpoint, &request, self.deadline()).await?;
        ClientError::check(answer.error_code, None, || format!("fetching from {topic}"))?;
        Ok(answer.responses.into_iter().flat_map(|topic| topic.partitions).collect())
    }

    /// The topic's present leaders, for a reader that goes on after an error.
    pub(crate) async fn leaders(&mut self, topic: &str) -> Result<ClusterView, ClientError> {
        self.topic(topic, IfMissing::Fail).await
    }
}

#[cfg(test)]
mod tests {
    use model::batch::{BatchBuilder, BatchFacts, NewRecord};

    use super::*;

    #[test]
    fn what_is_cut_off_at_the_end_of_an_answer_is_left_for_the_next() {
        let batch = |offset| {
            let mut builder = BatchBuilder::new(BatchFacts::default());
            builder.append(&NewRecord { offset, timestamp: 0, key: None, value: Some(b"v"), headers: &[] });
            builder.finish().unwrap()
        };
        let both = [batch(4), batch(5)].concat();
        let len = both.len();
        let whole = |bytes: &[u8]| whole_batches(&Bytes::copy_from_slice(bytes)).map(|(b, next)| (b.len(), next));
        assert_eq!(whole(&both), Some((len, 6)));
        assert_eq!(whole(&both[..len - 1]), Some((len / 2, 5)));
        assert_eq!(whole(&both[..10]), None);
        assert_eq!(whole(&[]), None);
    }
}
