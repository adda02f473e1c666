//! The memory that requests and replies may take, over all connections.
//!
//! ```text
//! bytes come ─▶ requests: the frame ─▶ decoded, and what its items lead to ─▶ handled ─▶ reply ─▶ written
//!               └───────── a request's claim, until its reply is written ────────────────────┘
//!               a long poll or a join gives it back, and holds `parked` memory while it waits
//!               a reply that grows with the state of the broker holds `answers`, records hold `fetches` or `followers`
//! ```
//!
//! Every share is bounded by bytes. What an item of a request may lead to (see [`bytes_per_element`]) counts with the
//! request, so that one item named many times costs its sender's claim, not memory that nobody counts. A reply whose size
//! does not follow from its request is estimated before it is built, and waits for its memory while it holds nothing.
//!
//! Followers have shares of their own for everything, so that no client can hold up replication: what clients wait for, with
//! memory in their hands, is often that followers fetch. A produce request that has appended gives its claim back before it
//! waits for them.

use std::time::Duration;

use protocol::ApiKey;

mod claims;
mod replies;
mod requests;

pub(crate) use claims::{Claims, Holds, NoMemory};
pub(crate) use replies::{Held, ReplyMemory};
pub(crate) use requests::{Claim, RequestMemory, SMALL_BYTES};

/// Followers' requests get, in addition, one part of so many of what clients' get, and their fetch replies of what consumers' get.
const FOLLOWERS_PARTS: usize = 4;
/// Replies other than those of fetches get one part of so many of what consumers' fetches get.
const ANSWERS_PARTS: usize = 4;
/// An answer that is estimated larger is refused, unless `firn.reply.memory.bytes` is larger.
const MAX_ANSWER_BYTES: usize = 128 << 20;
/// One part of so many of the memory for requests is what a single request may decode into, and as much again is for
/// requests that are parked.
const DECODED_PARTS: usize = 4;
/// What a request may decode into where the memory for requests is small.
const DECODED_LEAST_BYTES: usize = 16 << 20;
/// How long a reply or a long poll waits for memory.
pub(crate) const MEMORY_WAIT: Duration = Duration::from_secs(10);

/// The memory for requests by who sends them.
#[derive(Debug, Clone)]
pub(crate) struct RequestShares {
    clients: RequestMemory,
    followers: RequestMemory,
}

/// Who sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Sender {
    /// Anybody.
    #[default]
    Client,
    /// A broker that follows this one.
    Follower,
}

impl RequestShares {
    /// The share of `sender`.
    pub(crate) fn of(&self, sender: Sender) -> &RequestMemory {
        match sender {
            Sender::Client => &self.clients,
            Sender::Follower => &self.followers,
        }
    }
}

/// The shares.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Requests that are received or handled.
    pub(crate) requests: RequestShares,
    /// Records on their way to consumers.
    pub(crate) fetches: ReplyMemory,
    /// Records on their way to followers.
    pub(crate) followers: ReplyMemory,
    /// Other replies whose size does not follow from their request.
    answers: ReplyMemory,
    /// Requests that wait for something other than memory.
    parked: ReplyMemory,
    /// Followers' fetches that wait.
    parked_followers: ReplyMemory,
    answer_max_bytes: usize,
    decoded_max_bytes: usize,
}

impl Memory {
    /// Shares in proportion to `firn.request.memory.bytes` and `firn.reply.memory.bytes`.
    pub(crate) fn new(request_bytes: usize, reply_bytes: usize) -> Self {
        Memory {
            requests: RequestShares {
                clients: RequestMemory::new(request_bytes),
                followers: RequestMemory::new(request_bytes / FOLLOWERS_PARTS),
            },
            fetches: ReplyMemory::new(reply_bytes),
            followers: ReplyMemory::new(reply_bytes / FOLLOWERS_PARTS),
            answers: ReplyMemory::new(reply_bytes / ANSWERS_PARTS),
            parked: ReplyMemory::new(request_bytes / DECODED_PARTS),
            parked_followers: ReplyMemory::new(request_bytes / DECODED_PARTS),
            answer_max_bytes: reply_bytes.max(MAX_ANSWER_BYTES),
            decoded_max_bytes: (request_bytes / DECODED_PARTS).max(DECODED_LEAST_BYTES),
        }
    }

    /// What the elements of one request may count at most, see [`bytes_per_element`].
    pub(crate) fn decoded_max_bytes(&self) -> usize {
        self.decoded_max_bytes
    }
}

/// What an element of a request's arrays may lead to beyond its own size: the handler's copies, what it asks others, its
/// part of the response, in memory and encoded. Whatever is larger is claimed by the handler itself.
pub(crate) fn bytes_per_element(api: ApiKey) -> usize {
    match api {
        // A record of the offsets topic, and the committed offset.
        ApiKey::OffsetCommit => 1024,
        _ => 512,
    }
}

/// What one partition of a fetch takes while it is read, waits and is answered, its records not counted. Sessions have more
/// partitions than requests name.
pub(crate) const FETCHED_PARTITION_BYTES: usize = 1536;
