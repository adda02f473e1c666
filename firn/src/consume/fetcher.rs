//! Fetching ahead: a task per leader, each with a connection of its own, into one bounded queue.
//!
//! A task goes on where it was after any error that Kafka calls retriable, at whichever broker leads then. It gives up
//! when an expected end does not come nearer for longer than the client's timeout.

use std::collections::BTreeMap;

use anyhow::{anyhow, bail};
use bytes::Bytes;
use protocol::ErrorCode;
use protocol::messages::fetch_response::PartitionData;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::cluster::{EARLIEST, LATEST};
use crate::client::records::{Isolation, whole_batches};
use crate::client::{Backoff, Client, ClientError, ClusterView};

/// Answers that may wait to be printed.
const ANSWERS_AHEAD: usize = 4;

/// Offsets that are wanted; without an end, all that come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: i64,
    pub(super) end: Option<i64>,
}

impl Range {
    fn is_done(self) -> bool {
        self.end.is_some_and(|end| self.start >= end)
    }
}

/// Whole batches of one partition. `range.start` is the first offset that has not been seen before.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) partition: i32,
    pub(super) range: Range,
    pub(super) records: Bytes,
}

/// The running tasks; they end when this is dropped.
#[derive(Debug)]
pub(super) struct Fetcher {
    answers: mpsc::Receiver<anyhow::Result<Fetched>>,
    _tasks: JoinSet<()>,
}

impl Fetcher {
    /// Starts to fetch `ranges` of `topic`.
    pub(super) async fn start(
        client: &mut Client,
        topic: &str,
        mut ranges: BTreeMap<i32, Range>,
    ) -> Result<Self, ClientError> {
        ranges.retain(|_, range| !range.is_done());
        let view = client.leaders(topic).await?;
        let (sender, answers) = mpsc::channel(ANSWERS_AHEAD);
        let mut tasks = JoinSet::new();
        for partitions in view.by_leader(topic, ranges.keys().copied())?.into_values() {
            let ranges = partitions.iter().filter_map(|p| Some((*p, *ranges.get(p)?))).collect();
            let mut task =
                LeaderTask { client: client.another(), topic: topic.to_owned(), ranges, sender: sender.clone() };
            let view = view.clone();
            tasks.spawn(async move {
                if let Err(error) = task.run(view).await {
                    // Nobody listens any more when enough was printed.
                    let _ = task.sender.send(Err(error)).await;
                }
            });
        }
        Ok(Fetcher { answers, _tasks: tasks })
    }

    /// The next batches, an error that ends the run, or nothing once every range is done.
    pub(super) async fn next(&mut self) -> Option<anyhow::Result<Fetched>> {
        self.answers.recv().await
    }

    /// Whether nothing waits to be printed.
    pub(super) fn is_idle(&self) -> bool {
        self.answers.is_empty()
    }
}

struct LeaderTask {
    client: Client,
    topic: String,
    ranges: BTreeMap<i32, Range>,
    sender: mpsc::Sender<anyhow::Result<Fetched>>,
}

impl LeaderTask {
    async fn run(&mut self, mut view: ClusterView) -> anyhow::Result<()> {
        let mut patience = self.client.deadline();
        let mut backoff = Backoff::until(patience);
        while !self.ranges.is_empty() {
            match self.fetch_once(&view).await {
                Ok(has_progress) => {
                    backoff = Backoff::until(self.client.deadline());
                    if has_progress || self.ranges.values().all(|range| range.end.is_none()) {
                        patience = self.client.deadline();
                    } else if Instant::now() >= patience {
                        bail!(self.stalled());
                    }
                }
                Err(FetchError::Ended) => return Ok(()),
                Err(FetchError::Client(error)) if error.has_code(ErrorCode::OffsetOutOfRange) => {
                    return Err(self.out_of_range(error).await);
                }
                Err(FetchError::Client(error)) => {
                    backoff.pause_after(error).await?;
                    if let Ok(newer) = self.client.leaders(&self.topic).await {
                        view = newer;
                    }
                }
            }
        }
        Ok(())
    }

    /// One round over the leaders; whether anything came.
    async fn fetch_once(&mut self, view: &ClusterView) -> Result<bool, FetchError> {
        let mut has_progress = false;
        for (endpoint, partitions) in view.by_leader(&self.topic, self.ranges.keys().copied())? {
            let positions = partitions.iter().filter_map(|p| Some((*p, self.ranges.get(p)?.start))).collect();
            for data in self.client.fetch(&endpoint, &self.topic, &positions, Isolation::Uncommitted).await? {
                has_progress |= self.take(data).await?;
            }
        }
        Ok(has_progress)
    }

    async fn take(&mut self, data: PartitionData) -> Result<bool, FetchError> {
        let partition = data.partition_index;
        let doing = || format!("fetching from {} partition {partition}", self.topic);
        ClientError::check(data.error_code, None, doing)?;
        let (Some(range), Some(records)) = (self.ranges.get(&partition).copied(), data.records) else {
            return Ok(false);
        };
        let Some((records, next)) = whole_batches(&records.into_bytes()) else { return Ok(false) };
        if next <= range.start {
            return Ok(false);
        }
        let fetched = Fetched { partition, range, records };
        self.sender.send(Ok(fetched)).await.map_err(|_| FetchError::Ended)?;
        let rest = Range { start: next, ..range };
        if rest.is_done() {
            self.ranges.remove(&partition);
        } else {
            self.ranges.insert(partition, rest);
        }
        Ok(true)
    }

    fn stalled(&self) -> String {
        let waiting =
            self.ranges.iter().map(|(partition, range)| format!("partition {partition} at offset {}", range.start));
        format!(
            "{} sends nothing although its end is not reached: {}",
            self.topic,
            waiting.collect::<Vec<_>>().join(", ")
        )
    }

    async fn out_of_range(&mut self, error: ClientError) -> anyhow::Error {
        let partitions: Vec<i32> = self.ranges.keys().copied().collect();
        let starts = self.client.offsets(&self.topic, &partitions, EARLIEST).await.unwrap_or_default();
        let ends = self.client.offsets(&self.topic, &partitions, LATEST).await.unwrap_or_default();
        let gone = self.ranges.iter().find_map(|(partition, range)| {
            let (first, end) = (*starts.get(partition)?, *ends.get(partition)?);
            let is_outside = range.start < first || range.start > end;
            is_outside
                .then(|| anyhow!("offset {} of partition {partition} is gone: it has {first} to {end}", range.start))
        });
        gone.unwrap_or_else(|| error.into())
    }
}

/// Why a round ended early.
enum FetchError {
    /// Nobody wants more.
    Ended,
    Client(ClientError),
}

impl From<ClientError> for FetchError {
    fn from(error: ClientError) -> Self {
        FetchError::Client(error)
    }
}
