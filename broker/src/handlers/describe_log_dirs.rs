//! DescribeLogDirs (KIP-113): how much local disk each partition takes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use protocol::{ApiKey, ErrorCode, Str};

use super::{BadRequest, RequestContext};
use crate::disk_watch::{self, UnopenedPartition};
use crate::metadata::DiskFault;
use crate::partition::Partition;

/// What a partition takes in a response, in memory and encoded, and its topic's name.
const PARTITION_BYTES: usize = 512;
/// The size of a partition that cannot be opened.
const UNOPENED_BYTES: i64 = -1;

pub(super) async fn handle(
    context: &RequestContext<'_>,
    request: DescribeLogDirsRequest,
) -> Result<DescribeLogDirsResponse, BadRequest> {
    let (partitions, unopened) = (context.broker.partitions.all(), disk_watch::unopened(context.broker));
    context.claim_reply(ApiKey::DescribeLogDirs, (partitions.len() + unopened.len()) * PARTITION_BYTES).await?;
    let wanted: Option<BTreeSet<(Str, i32)>> = request.topics.map(|topics| {
        let pairs = |topic: protocol::messages::describe_log_dirs_request::DescribableLogDirTopic| {
            let name = topic.topic;
            topic.partitions.into_iter().map(move |index| (name.clone(), index))
        };
        topics.into_iter().flat_map(pairs).collect()
    });
    let mut topics: BTreeMap<String, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for partition in partitions {
        let key = (Str::from(partition.topic.to_string()), partition.id.partition);
        if wanted.as_ref().is_none_or(|wanted| wanted.contains(&key)) {
            topics.entry(partition.topic.to_string()).or_default().push(describe(&partition));
        }
    }
    // One who asks for no partition learns whether all can be served.
    for UnopenedPartition { topic, partition, .. } in unopened {
        let key = (Str::from(topic.clone()), partition);
        if wanted.as_ref().is_none_or(|wanted| wanted.is_empty() || wanted.contains(&key)) {
            topics.entry(topic).or_default().push(DescribeLogDirsPartition {
                partition_index: partition,
                partition_size: UNOPENED_BYTES,
                ..DescribeLogDirsPartition::default()
            });
        }
    }
    let topics = topics.into_iter().map(|(name, mut partitions)| {
        partitions.sort_by_key(|partition| partition.partition_index);
        DescribeLogDirsTopic { name: Str::from(name), partitions, ..DescribeLogDirsTopic::default() }
    });
    let (total_bytes, usable_bytes) = disk_watch::space(context.broker).unwrap_or((-1, -1));
    let error = match context.broker.metadata.disk_fault() {
        Some(DiskFault::Failed) => ErrorCode::KafkaStorageError,
        Some(DiskFault::Slow) => ErrorCode::RequestTimedOut,
        // What it holds is served, and no byte of it is usable.
        Some(DiskFault::Full) | None => ErrorCode::None,
    };
    let result = DescribeLogDirsResult {
        error_code: error.code(),
        log_dir: Str::from(context.broker.config.data_dir.display().to_string()),
        topics: topics.collect(),
        total_bytes,
        usable_bytes,
        ..DescribeLogDirsResult::default()
    };
    Ok(DescribeLogDirsResponse { results: vec![result], ..DescribeLogDirsResponse::default() })
}

fn describe(partition: &Arc<Partition>) -> DescribeLogDirsPartition {
    DescribeLogDirsPartition {
        partition_index: partition.id.partition,
        partition_size: i64::try_from(partition.log.size_bytes()).unwrap_or(i64::MAX),
        ..DescribeLogDirsPartition::default()
    }
}
