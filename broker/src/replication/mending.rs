//! Puts damaged local records right with what another replica holds in their place.
//!
//! Damage is met by readers, followers and the archiver; here it is looked at again, whichever role this node has for the
//! partition: the leader is asked first, then the other replicas, as a consumer asks. What they send is taken when it
//! certainly is what was written here. Until then the damaged records are refused, and everything around them is served.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use coordinator::cluster::NO_LEADER;
use hot_tier::DamagedRange;
use model::batch::Batches;
use model::{NodeId, TopicPartition};
use protocol::messages::FetchRequest;
use protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use protocol::{ErrorCode, Str};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::Limits;
use super::fetcher::{CONNECT_WITHIN, FETCH_VERSION};
use crate::broker::{Broker, LISTENER};
use crate::machine::blocking;
use crate::partition::Partition;
use crate::wire::{CallError, Connection};

/// Pause between two looks for damage that was met.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Most damaged bytes that are asked for at a time.
const MEND_BYTES_MAX: u64 = 64 << 20;
/// Bytes that are asked for at a time where a file was lost: it is restored in pieces.
const PIECE_BYTES: u64 = 8 << 20;
/// Damaged places of a partition that are put right in one pass.
const MENDED_PER_PASS: usize = 100;
/// How long a replica may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Why damage stays.
#[derive(Debug, thiserror::Error)]
enum NotMended {
    #[error("the local log: {0}")]
    Local(#[from] hot_tier::ReadError),
    #[error("{bytes} bytes from offset {from} are damaged, more than are fetched at a time")]
    TooMuch { from: i64, bytes: u64 },
    #[error("no other replica answers with the {bytes} bytes that were at offsets {from} to {to}")]
    Nowhere { from: i64, to: i64, bytes: u64 },
    #[error("the disk changes what is written to it")]
    Again,
}

/// Mends what was found damaged, until `stop`.
pub(crate) async fn mend(broker: Arc<Broker>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
        for partition in broker.partitions.all() {
            let Some(from) = partition.damage_to_mend(Instant::now()) else { continue };
            let mended = tokio::select! {
                () = stop.cancelled() => return,
                mended = mend_segment(&broker, &partition, from) => mended,
            };
            let (topic, index) = (&partition.topic, partition.id.partition);
            match &mended {
                Ok(0) => debug!(%topic, partition = index, from, "no damage is left"),
                Ok(places) => {
                    info!(%topic, partition = index, from, places, "damaged records were restored from another replica")
                }
                Err(error) => warn!(%topic, partition = index, from, %error, "damaged records cannot be restored yet"),
            }
            partition.note_mended(from, mended.is_ok(), Instant::now());
        }
    }
}

/// Mends the segment that contains `from`, and answers how many places were damaged.
async fn mend_segment(broker: &Broker, partition: &Arc<Partition>, from: i64) -> Result<usize, NotMended> {
    for mended in 0..MENDED_PER_PASS {
        let log = Arc::clone(&partition.log);
        let Some(damaged) = blocking::run(move || log.damaged_range(from)).await? else { return Ok(mended) };
        mend_range(broker, partition, damaged).await?;
        metrics::counter!("firn_damage_mended_total").increment(1);
    }
    Err(NotMended::Again)
}

async fn mend_range(broker: &Broker, partition: &Arc<Partition>, damaged: DamagedRange) -> Result<(), NotMended> {
    let DamagedRange { from, to, bytes, is_cut_off } = damaged;
    if bytes > MEND_BYTES_MAX && !is_cut_off {
        return Err(NotMended::TooMuch { from, bytes });
    }
    for node in others(partition) {
        let records = match fetch_range(broker, node, partition.id, damaged).await {
            Ok(records) => records,
            Err(error) => {
                debug!(topic = %partition.topic, partition = partition.id.partition, node, %error, "a replica does not help with damage");
                continue;
            }
        };
        let log = Arc::clone(&partition.log);
        if blocking::run(move || log.mend(damaged, &records)).await.map_err(hot_tier::ReadError::from)? {
            return Ok(());
        }
    }
    Err(NotMended::Nowhere { from, to, bytes })
}

/// The other replicas, those first that certainly have what is committed.
fn others(partition: &Partition) -> Vec<NodeId> {
    let leadership = partition.leadership();
    let mut nodes = Vec::with_capacity(leadership.replicas.len());
    for &node in std::iter::once(&leadership.leader).chain(&leadership.isr).chain(&leadership.replicas) {
        if node != NO_LEADER && node != partition.node_id() && !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    nodes
}

/// Fetches the batches of the damaged offsets, as far as the node shows them to consumers.
async fn fetch_range(
    broker: &Broker,
    node: NodeId,
    id: TopicPartition,
    damaged: DamagedRange,
) -> Result<Bytes, CallError> {
    let image = broker.metadata.image();
    let listener = image.broker(node).filter(|node| !node.is_fenced).and_then(|node| node.listener(LISTENER));
    let Some(listener) = listener else { return Err(std::io::Error::other("it is not alive").into()) };
    let limits = Limits::from(&broker.config.settings.broker);
    let client_id = Str::from(format!("broker-{}-mending", broker.config.node_id).as_str());
    let address = (listener.host.as_str(), listener.port);
    let mut connection = Connection::open(address, CONNECT_WITHIN, client_id, limits.frame_max_bytes).await?;
    let mut records = BytesMut::new();
    let mut offset = damaged.from;
    let bytes_max = if damaged.is_cut_off { PIECE_BYTES } else { damaged.bytes };
    while offset < damaged.to && (records.len() as u64) < bytes_max {
        let request = request(id, offset, limits.max_bytes);
        let deadline = tokio::time::Instant::now() + ANSWER_WITHIN;
        let response = Box::pin(connection.call(&request, FETCH_VERSION, deadline)).await?;
        let data = response.responses.into_iter().next().and_then(|topic| topic.partitions.into_iter().next());
        let Some(data) = data.filter(|data| ErrorCode::from_code(data.error_code) == Some(ErrorCode::None)) else {
            break;
        };
        let sent = data.records.unwrap_or_default().into_bytes();
        let Some(Ok(last)) = Batches::new(&sent).last() else { break };
        offset = last.header.next_offset();
        records.extend_from_slice(&sent);
    }
    Ok(records.freeze())
}

fn request(id: TopicPartition, fetch_offset: i64, max_bytes: i32) -> FetchRequest {
    let (partition, partition_max_bytes) = (id.partition, max_bytes);
    let partition = FetchPartition { partition, fetch_offset, partition_max_bytes, ..FetchPartition::default() };
    let topic = FetchTopic { topic_id: id.topic_id.0, partitions: vec![partition], ..FetchTopic::default() };
    FetchRequest { max_bytes, topics: vec![topic], ..FetchRequest::default() }
}
