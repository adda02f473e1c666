//! Appends with entries, to a node that may need longer for them than for a heartbeat.
//!
//! openraft gives every append one heartbeat interval and sends the same again afterwards: entries that do not pass in that
//! time would never arrive. So an append with entries outlives the call that began it, with a deadline of its own that
//! grows with its size, and the next call for the same place of the log waits for it. Only one is under way per node.
//!
//! Meanwhile the node gets heartbeats, over a connection of their own: bulk never passes for a lost leader. A heartbeat that is
//! answered is the answer of that call, too: the node has the log up to the first of the entries, and nothing new yet. Before
//! the first entry of all there is nothing that it could have, and the call times out.

use std::time::Duration;

use openraft::AnyError;
use openraft::error::{NetworkError, RPCError};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::entry::{LogId, TypeConfig, Vote, encoded_len};
use super::network::{AppendOutcome, Asking, Connection};
use crate::internal::client::CallError;

/// Time for an append or a snapshot of any size.
const TIME_AT_LEAST: Duration = Duration::from_secs(5);
/// The slowest link on which a node can still follow, in bytes per second.
const SLOWEST_LINK: u64 = 64 << 10;
/// An append is begun again when the node answers after so long a silence: its connection may have broken in it, which TCP
/// notices late.
const SILENT_FOR: Duration = Duration::from_millis(1_600);

/// An append that is under way. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Bulk {
    vote: Vote,
    prev: Option<LogId>,
    last: Option<LogId>,
    /// When the node was last heard.
    heard: Instant,
    task: JoinHandle<AppendOutcome>,
}

impl Drop for Bulk {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bulk {
    fn begin(asking: Asking, request: AppendEntriesRequest<TypeConfig>) -> Bulk {
        let (vote, prev, last) = (request.vote, request.prev_log_id, request.entries.last().map(|entry| entry.log_id));
        // Its panic is the failure of the call that waits for it: openraft sends the entries again.
        let task = tokio::spawn(async move {
            let within = time_for(request.entries.iter().map(encoded_len).sum());
            asking.append(&request, within).await
        });
        Bulk { vote, prev, last, heard: Instant::now(), task }
    }

    /// True when it is for the same place of the log.
    fn is_for(&self, request: &AppendEntriesRequest<TypeConfig>) -> bool {
        self.vote == request.vote && self.prev == request.prev_log_id
    }

    async fn outcome(&mut self) -> AppendOutcome {
        match (&mut self.task).await {
            Ok(outcome) => outcome,
            Err(error) => Err(RPCError::Network(NetworkError::new(&AnyError::new(&error)))),
        }
    }
}

/// How long bytes may be under way to another node.
pub(super) fn time_for(bytes: usize) -> Duration {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    TIME_AT_LEAST + Duration::from_secs(bytes / SLOWEST_LINK)
}

impl Connection {
    /// Sends the entries, or waits for those that are being sent. `within`: when openraft gives the call up.
    pub(super) async fn append_in_bulk(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        within: Duration,
    ) -> AppendOutcome {
        let began = Instant::now();
        let heartbeat = AppendEntriesRequest { entries: Vec::new(), ..request.clone() };
        let wanted = request.entries.last().map(|entry| entry.log_id);
        let mut bulk = match self.bulk.take() {
            Some(bulk) if bulk.is_for(&request) => self.bulk.insert(bulk),
            _ => self.bulk.insert(Bulk::begin(self.asking.clone(), request.clone())),
        };
        // The usual case: the entries are few.
        tokio::select! {
            outcome = bulk.outcome() => return self.answered(outcome, wanted),
            () = sleep_until(began + within / 3) => {}
        }
        tokio::select! {
            outcome = bulk.outcome() => return self.answered(outcome, wanted),
            answer = self.asking.append(&heartbeat, within / 2) => match answer {
                Ok(AppendEntriesResponse::Success) => {}
                // It does not take entries here: openraft finds out what it takes.
                Ok(refused) => {
                    self.bulk = None;
                    return Ok(refused);
                }
                Err(_) => {
                    let outcome = bulk.outcome().await;
                    return self.answered(outcome, wanted);
                }
            },
        }
        if bulk.heard.elapsed() > SILENT_FOR {
            bulk = self.bulk.insert(Bulk::begin(self.asking.clone(), request));
        }
        bulk.heard = Instant::now();
        tokio::select! {
            outcome = bulk.outcome() => self.answered(outcome, wanted),
            () = sleep_until(began + within * 5 / 6) => nothing_new(heartbeat.prev_log_id),
        }
    }

    /// The answer to what was sent is one to what was asked for, as far as the one reaches into the other.
    #[expect(clippy::result_large_err, reason = "the error is openraft's")]
    fn answered(&mut self, outcome: AppendOutcome, wanted: Option<LogId>) -> AppendOutcome {
        let sent = self.bulk.take().and_then(|bulk| bulk.last);
        match outcome {
            Ok(AppendEntriesResponse::Success) => Ok(AppendEntriesResponse::PartialSuccess(sent.min(wanted))),
            outcome => outcome,
        }
    }
}

/// The answer for a node that has the log up to `prev`, and takes its time with what follows. An empty log is no
/// progress: openraft panics on such an answer.
#[expect(clippy::result_large_err, reason = "the error is openraft's")]
fn nothing_new(prev: Option<LogId>) -> AppendOutcome {
    match prev {
        Some(prev) => Ok(AppendEntriesResponse::PartialSuccess(Some(prev))),
        None => Err(RPCError::Network(NetworkError::new(&CallError::TimedOut))),
    }
}

#[cfg(test)]
mod tests {
    use openraft::LeaderId;

    use super::*;

    #[test]
    fn a_node_without_any_entry_has_made_no_progress() {
        let prev = LogId::new(LeaderId::new(1, 1), 7);
        assert!(matches!(nothing_new(Some(prev)), Ok(AppendEntriesResponse::PartialSuccess(Some(id))) if id == prev));
        assert!(nothing_new(None).is_err());
    }
}
