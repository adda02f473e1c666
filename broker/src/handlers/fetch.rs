//! Fetch: records from whichever tier has them, with long polls and incremental sessions.
//!
//! A fetch reads all its partitions against one byte budget: hot ones in order, cold ones side by side, the first
//! partition that has anything answers at least one batch (KIP-74). When less than `min_bytes` came together, it waits
//! for the partitions to move, at most `max_wait_ms`. The reply holds its part of the memory for replies until it is
//! written (see [`crate::memory`]). Followers fetch as consumers do, see more, and tell how far they are.

use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use indexmap::IndexMap;
use model::TopicId;
use protocol::messages::fetch_request::{FetchPartition, ForgottenTopic};
use protocol::messages::fetch_response::{
    EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use protocol::messages::{FetchRequest, FetchResponse};
use protocol::{ApiKey, ErrorCode, Records, Str};
use tokio::time::Instant;

use self::read::{Outcome, PartitionToRead, read_all};
use self::reader::{Moves, Reader};
use self::session::{FetchContext, SessionRequest, Target, Told, Wanted};
use super::certainty::certain_image;
use super::leader_hints::{Endpoint, LeaderHints};
use super::{BadRequest, Reply, RequestContext, encode};
use crate::memory::{FETCHED_PARTITION_BYTES, Held, MEMORY_WAIT, ReplyMemory};

mod read;
mod reader;
pub(crate) mod session;

/// First version whose response can name the leader and its address.
const LEADERS_SINCE: i16 = 16;
/// The isolation level whose readers get the aborted transactions; there are none.
const READ_COMMITTED: i8 = 1;
/// Where there is no partition, Kafka has an empty list at every isolation level.
const UNKNOWN: [ErrorCode; 2] = [ErrorCode::UnknownTopicOrPartition, ErrorCode::UnknownTopicId];
/// Longest that a fetch waits, whatever the client asks for.
const MAX_WAIT: Duration = Duration::from_secs(300);
/// Pause between two attempts of a fetch that wants many bytes and gets few at a time.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// Answers with records, and with the memory that they hold.
pub(super) async fn start(
    context: &RequestContext<'_>,
    correlation_id: i32,
    request: FetchRequest,
) -> Result<Reply, BadRequest> {
    let (response, held) = handle(context, request).await?;
    let frame = encode(ApiKey::Fetch, context.version, correlation_id, &response)?;
    Ok(match held {
        Some(held) => Reply::Held(frame, held),
        None => Reply::Now(frame),
    })
}

async fn handle(
    context: &RequestContext<'_>,
    request: FetchRequest,
) -> Result<(FetchResponse, Option<Held>), BadRequest> {
    let refuse = |code: ErrorCode| Ok((FetchResponse { error_code: code.code(), ..FetchResponse::default() }, None));
    let reader = Reader::of(&request);
    let rack = consumer_rack(context, reader, &request);
    let isolation_level = request.isolation_level;
    let max_wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(MAX_WAIT);
    let deadline = Instant::now() + max_wait;
    let max_bytes =
        usize::try_from(request.max_bytes).unwrap_or(0).min(context.broker.config.settings.broker.fetch_max_bytes);
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes);
    let mut session = match context.broker.fetch_sessions.enter(
        session_request(request),
        rand::random_range(1..i32::MAX),
        std::time::Instant::now(),
    ) {
        Ok(session) => session,
        Err(code) => return refuse(code),
    };
    park(context, reader, session.size()).await?;
    session.list_partitions();
    let (mut outcomes, held) =
        long_poll(context, (reader, &rack), &session, Limits { max_bytes, min_bytes, deadline }).await;
    if outcomes.iter().any(Outcome::is_past_end) {
        let image = certain_image(context.broker).await;
        outcomes.iter_mut().for_each(|outcome| outcome.doubt_end(image.as_deref(), context.broker.config.node_id));
    }
    Ok((respond(context, &session, outcomes, isolation_level), held))
}

/// From here on a fetch holds memory for its partitions, not for its request: it may wait for long, and a session has more
/// partitions than the request names.
async fn park(context: &RequestContext<'_>, reader: Reader, partitions: usize) -> Result<(), BadRequest> {
    let (memory, bytes) = (&context.broker.memory, partitions.saturating_mul(FETCHED_PARTITION_BYTES));
    let deadline = Instant::now() + MEMORY_WAIT;
    let parked = if reader.is_follower() {
        context.claims.park_follower(memory, bytes, deadline).await
    } else {
        context.claims.park(memory, bytes, deadline).await
    };
    parked.map_err(|source| BadRequest::NoMemory { api: ApiKey::Fetch, version: context.version, source })
}

/// The rack whose replicas a consumer should read from; empty when it has none, or the leader serves all consumers.
fn consumer_rack(context: &RequestContext<'_>, reader: Reader, request: &FetchRequest) -> Str {
    let is_wanted = context.broker.config.settings.broker.closest_replica && reader == Reader::Consumer;
    if is_wanted { request.rack_id.clone() } else { Str::default() }
}

/// Bounds of one fetch.
#[derive(Debug, Clone, Copy)]
struct Limits {
    max_bytes: usize,
    min_bytes: usize,
    deadline: Instant,
}

fn session_request(request: FetchRequest) -> SessionRequest {
    // A partition that is named twice is read once, as in Kafka.
    let mut wanted = IndexMap::new();
    for topic in request.topics {
        // Text of its own, once for all partitions: a session must not keep the request's frame.
        let (topic_id, name) = (TopicId(topic.topic_id), Str::from(topic.topic.as_str()));
        let target = |partition| Target { topic_id, topic: name.clone(), partition };
        wanted.extend(topic.partitions.iter().map(|p| (target(p.partition), wanted_of(p))));
    }
    let forget = |topic: ForgottenTopic| {
        let (topic_id, name) = (TopicId(topic.topic_id), Str::from(topic.topic.as_str()));
        topic.partitions.into_iter().map(move |partition| Target { topic_id, topic: name.clone(), partition })
    };
    SessionRequest {
        session_id: request.session_id,
        epoch: request.session_epoch,
        wanted: wanted.into_iter().collect(),
        forgotten: request.forgotten_topics_data.into_iter().flat_map(forget).collect(),
    }
}

fn wanted_of(partition: &FetchPartition) -> Wanted {
    Wanted {
        current_leader_epoch: partition.current_leader_epoch,
        fetch_offset: partition.fetch_offset,
        last_fetched_epoch: partition.last_fetched_epoch,
        log_start: partition.log_start_offset,
        high_watermark: partition.high_watermark,
        max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
    }
}

async fn long_poll(
    context: &RequestContext<'_>,
    (reader, rack): (Reader, &str),
    session: &FetchContext,
    limits: Limits,
) -> (Vec<Outcome>, Option<Held>) {
    let image = (!rack.is_empty()).then(|| context.broker.metadata.image());
    let process = reader.check_process(context);
    let find = |(target, wanted): &(Target, Wanted)| {
        let mut found = reader.find(context, process, target, *wanted);
        if let (Some(image), Ok(partition)) = (&image, &found.partition) {
            found.preferred = partition.closest_replica(rack, wanted.fetch_offset, image);
        }
        found
    };
    let targets: Vec<PartitionToRead> = session.partitions.iter().map(find).collect();
    // What replicas hold back is held back from everybody: consumers cannot take their memory.
    let memory = if reader.is_follower() { &context.broker.memory.followers } else { &context.broker.memory.fetches };
    let mut was_woken = false;
    loop {
        // Subscribed before the attempt: later moves wake the fetch.
        let subscribe = |t: &PartitionToRead| t.partition.as_ref().ok().map(|partition| Moves::of(partition, t));
        let mut moves: Vec<Moves> = targets.iter().filter_map(subscribe).collect();
        let Some(look) = look(memory, &targets, limits).await else {
            // No memory came free: the client asks again, its next fetch goes to the end of the line.
            return (targets.iter().map(PartitionToRead::unread).collect(), None);
        };
        let bytes = look.held.bytes();
        let is_done = bytes >= limits.min_bytes.min(look.granted).max(1)
            || limits.min_bytes == 0
            || look.outcomes.iter().any(Outcome::is_urgent);
        if is_done || Instant::now() >= limits.deadline {
            targets.iter().zip(&look.outcomes).for_each(|(target, outcome)| target.note_sent(outcome.size_bytes()));
            return (look.outcomes, Some(look.held));
        }
        // What waits holds no memory; it reads again.
        drop(look);
        let mut moved: FuturesUnordered<_> = moves.iter_mut().map(Moves::moved).collect();
        let wait = async {
            if moved.next().await.is_none() {
                std::future::pending::<()>().await;
            }
        };
        // At the deadline, what there is goes out.
        let _ = tokio::time::timeout_at(limits.deadline, wait).await;
        // A follower that was woken for records and got none would be woken again at once.
        if limits.min_bytes > 1 || (was_woken && reader.is_follower()) {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        was_woken = true;
    }
}

/// One reading of all partitions, and the memory that it holds.
struct Look {
    outcomes: Vec<Outcome>,
    granted: usize,
    held: Held,
}

/// Reads within the memory there is. `None` when none came free in time.
async fn look(memory: &ReplyMemory, targets: &[PartitionToRead], limits: Limits) -> Option<Look> {
    let patience = limits.deadline.max(Instant::now() + MEMORY_WAIT);
    let mut deadline = limits.deadline;
    let mut held = memory.take(limits.max_bytes, patience).await?;
    loop {
        let granted = held.bytes();
        let outcomes = read_all(targets, granted, deadline).await;
        let bytes = outcomes.iter().map(Outcome::size_bytes).sum();
        if held.fit(bytes) {
            return Some(Look { outcomes, granted, held });
        }
        // The first batch is larger than what was granted. While it waits for room, it holds none.
        drop((outcomes, held));
        held = memory.take_all(bytes, patience).await?;
        deadline = patience;
    }
}

fn respond(
    context: &RequestContext<'_>,
    session: &FetchContext,
    outcomes: Vec<Outcome>,
    isolation_level: i8,
) -> FetchResponse {
    let mut hints = LeaderHints::new(context.broker.metadata.image());
    let mut responses: Vec<FetchableTopicResponse> = Vec::new();
    for ((target, _), outcome) in session.partitions.iter().zip(outcomes) {
        let has_records = outcome.size_bytes() > 0;
        let told = outcome.told();
        // A reader that waits for news gets them, also when nothing is new to the session.
        if !session.note(target, told) && !has_records && !outcome.is_urgent() {
            continue;
        }
        let mut data = partition_data(target.partition, outcome, told);
        let is_unknown = UNKNOWN.map(ErrorCode::code).contains(&data.error_code);
        let lists_aborted = isolation_level == READ_COMMITTED || is_unknown;
        data.aborted_transactions = lists_aborted.then(Vec::new);
        if context.version >= LEADERS_SINCE && is_about_the_leader(data.error_code) {
            let (leader_id, leader_epoch) = hints.leader(target.topic_id, &target.topic, target.partition);
            data.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch, ..LeaderIdAndEpoch::default() };
        }
        match responses.last_mut() {
            Some(last) if last.topic_id == target.topic_id.0 && last.topic == target.topic => {
                last.partitions.push(data)
            }
            _ => responses.push(FetchableTopicResponse {
                topic: Str::clone(&target.topic),
                topic_id: target.topic_id.0,
                partitions: vec![data],
                ..FetchableTopicResponse::default()
            }),
        }
    }
    let node =
        |(node_id, host, port, rack): Endpoint| NodeEndpoint { node_id, host, port, rack, ..NodeEndpoint::default() };
    let node_endpoints = hints.nodes().into_iter().map(node).collect();
    FetchResponse { session_id: session.session_id, responses, node_endpoints, ..FetchResponse::default() }
}

/// The client should find another leader; the response names it if it can (KIP-951).
fn is_about_the_leader(error_code: i16) -> bool {
    [ErrorCode::NotLeaderOrFollower, ErrorCode::FencedLeaderEpoch].map(ErrorCode::code).contains(&error_code)
}

fn partition_data(partition_index: i32, outcome: Outcome, told: Option<Told>) -> PartitionData {
    let unknown = Told { high_watermark: -1, log_start: -1 };
    let Told { high_watermark, log_start } = told.unwrap_or(unknown);
    PartitionData {
        partition_index,
        error_code: outcome.error.map_or(0, ErrorCode::code),
        high_watermark,
        last_stable_offset: high_watermark,
        log_start_offset: log_start,
        diverging_epoch: outcome.diverging.map_or_else(EpochEndOffset::default, |(epoch, end_offset)| EpochEndOffset {
            epoch,
            end_offset,
            ..EpochEndOffset::default()
        }),
        preferred_read_replica: outcome.preferred.unwrap_or(-1),
        records: Some(Records::from(outcome.into_records())),
        ..PartitionData::default()
    }
}
