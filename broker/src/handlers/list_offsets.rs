//! ListOffsets: offsets by timestamp and the named points of a partition, over both tiers.

use std::sync::Arc;

use futures::{FutureExt, StreamExt, stream};
use indexmap::IndexMap;
use model::NO_LEADER_EPOCH;
use protocol::messages::list_offsets_request::ListOffsetsPartition;
use protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use protocol::{ErrorCode, Str};
use tracing::warn;

use super::RequestContext;
use super::once_each::once_each_counted;
use crate::partition::{LookupError, Partition, Point};

/// Asks any broker, to see the log of that one.
const DEBUGGING_REPLICA: i32 = -2;
/// Partitions that are searched at the same time: each may wait for the object store.
const LOOKUP_CONCURRENCY: usize = 16;
/// First version whose response can carry a leader epoch.
const LEADER_EPOCHS: i16 = 4;

/// First version whose clients know OFFSET_NOT_AVAILABLE.
const OFFSET_NOT_AVAILABLE: i16 = 5;

pub(super) async fn handle(context: &RequestContext<'_>, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let mut by_topic: IndexMap<Str, Vec<ListOffsetsPartition>> = IndexMap::new();
    for topic in request.topics {
        by_topic.entry(topic.name).or_default().extend(topic.partitions);
    }
    let mut lookups: Vec<Lookup> = Vec::new();
    for (name, wanted) in by_topic {
        let once_each = once_each_counted(wanted, |partition| partition.partition_index).into_iter();
        lookups.extend(once_each.map(|(wanted, is_repeated)| Lookup { topic: name.clone(), wanted, is_repeated }));
    }
    // Begun when its turn comes: under way, a lookup takes many times what it takes in the request.
    let begin = |lookup: Lookup| answer(context, request.replica_id, lookup).boxed();
    let mut answers = stream::iter(lookups).map(begin).buffered(LOOKUP_CONCURRENCY);
    let mut topics: IndexMap<Str, Vec<ListOffsetsPartitionResponse>> = IndexMap::new();
    while let Some((name, partition)) = answers.next().await {
        topics.entry(name).or_default().push(partition);
    }
    drop(answers);
    let of_topic = |(name, partitions)| ListOffsetsTopicResponse { name, partitions, ..Default::default() };
    ListOffsetsResponse { topics: topics.into_iter().map(of_topic).collect(), ..ListOffsetsResponse::default() }
}

/// One partition to look up.
struct Lookup {
    topic: Str,
    wanted: ListOffsetsPartition,
    /// The request names the partition more than once.
    is_repeated: bool,
}

async fn answer(context: &RequestContext<'_>, replica_id: i32, lookup: Lookup) -> (Str, ListOffsetsPartitionResponse) {
    let (local, partition_index) = (&context.broker.partitions, lookup.wanted.partition_index);
    let partition = match replica_id {
        // Two answers about one partition may contradict each other: refused, as in Kafka.
        _ if lookup.is_repeated => Err(ErrorCode::InvalidRequest),
        DEBUGGING_REPLICA => local.replica_by_name(&lookup.topic, partition_index),
        _ => local.leader_by_name(&lookup.topic, partition_index),
    };
    let found = match partition {
        Ok(partition) => look_up(context, &partition, &lookup.wanted).await,
        Err(code) => Err(code),
    };
    let answer = match found {
        Ok(Some(point)) => ListOffsetsPartitionResponse {
            partition_index,
            timestamp: point.timestamp,
            offset: point.offset,
            leader_epoch: if context.version >= LEADER_EPOCHS { point.leader_epoch } else { NO_LEADER_EPOCH },
            ..ListOffsetsPartitionResponse::default()
        },
        // "No such offset" is an answer, not an error.
        Ok(None) => ListOffsetsPartitionResponse { partition_index, ..ListOffsetsPartitionResponse::default() },
        Err(code) => ListOffsetsPartitionResponse {
            partition_index,
            error_code: code.code(),
            ..ListOffsetsPartitionResponse::default()
        },
    };
    (lookup.topic, answer)
}

async fn look_up(
    context: &RequestContext<'_>,
    partition: &Arc<Partition>,
    wanted: &ListOffsetsPartition,
) -> Result<Option<Point>, ErrorCode> {
    partition.leadership().check_epoch(wanted.current_leader_epoch)?;
    let Some(target) = Target::of(wanted.timestamp, context.version) else {
        return Err(ErrorCode::UnsupportedVersion);
    };
    // What is below the high watermark of the leader before may not be committed yet as far as this one knows (KIP-207).
    if matches!(target, Target::Latest | Target::At(_) | Target::MaxTimestamp) && partition.is_settling_in() {
        return Err(match context.version {
            OFFSET_NOT_AVAILABLE.. => ErrorCode::OffsetNotAvailable,
            _ => ErrorCode::LeaderNotAvailable,
        });
    }
    let found = match target {
        Target::Latest => Ok(Some(partition.end_point())),
        Target::Earliest => Ok(Some(partition.named_point(partition.log_start()))),
        Target::EarliestLocal => Ok(Some(partition.named_point(partition.local_start()))),
        Target::LatestTiered => Ok(partition.latest_tiered()),
        Target::EarliestPendingUpload => Ok(partition.earliest_pending_upload()),
        Target::MaxTimestamp => partition.max_timestamp().await,
        Target::At(timestamp) => partition.offset_at(timestamp).await,
    };
    found.map_err(|error| {
        warn!(topic = %partition.topic, partition = partition.id.partition, %error, "cannot look up an offset");
        match error {
            LookupError::Hot(_) | LookupError::Missing(..) => ErrorCode::KafkaStorageError,
            LookupError::Damaged(_) => ErrorCode::CorruptMessage,
            // Retriable: the object store may answer the next time.
            LookupError::Cold(_) | LookupError::Slow(_) | LookupError::Moving => ErrorCode::LeaderNotAvailable,
        }
    })
}

enum Target {
    Latest,
    Earliest,
    MaxTimestamp,
    EarliestLocal,
    LatestTiered,
    EarliestPendingUpload,
    At(i64),
}

impl Target {
    /// The protocol's sentinel timestamps, each from the version that brought it (KIP-734, 405, 1005, 1023).
    fn of(timestamp: i64, version: i16) -> Option<Self> {
        match timestamp {
            -1 => Some(Target::Latest),
            -2 => Some(Target::Earliest),
            -3 if version >= 7 => Some(Target::MaxTimestamp),
            -4 if version >= 8 => Some(Target::EarliestLocal),
            -5 if version >= 9 => Some(Target::LatestTiered),
            -6 if version >= 11 => Some(Target::EarliestPendingUpload),
            ..0 => None,
            timestamp => Some(Target::At(timestamp)),
        }
    }
}
