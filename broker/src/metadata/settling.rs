//! One try with a batch of commands: decided and written here, or handed over to the node that leads the log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use coordinator::cluster::{Cluster, ClusterError, Command, Decision, Reply, Submission};
use openraft::error::{ClientWriteError, RaftError};
use tokio::time::{sleep, timeout};

use super::bulk;
use super::entry::{Decided, Effect, Raft, encoded_len};
use super::image::Images;
use super::peers::Peers;
use super::processes::Processes;
use super::proposer::{Pending, Tried, Written, answer_all, as_outcome, not_applied, uncertain};
use super::rpc::{self, FORWARDED_FOR, Forwarded, Outcomes};
use super::{NowSource, SubmitError, node_id};
use crate::internal::client::CallError;

/// An entry with that many bytes of records takes no further command. One replication request has this size at least.
const ENTRY_BYTES: usize = 256 << 10;
/// Most bytes of the records of one command that a client asked for, as Kafka's limit for a batch of metadata records.
pub(super) const MAX_COMMAND_BYTES: usize = 8 << 20;
/// How long an entry may take at least to become durable on most voters.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of commands that are handed over to the leader at once, or one larger command.
const FORWARDED_BYTES: usize = 1 << 20;
/// How long the leader may take to answer, and how much longer per [`FORWARDED_BYTES`].
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
const ANSWERED_WITHIN_MORE: Duration = Duration::from_secs(1);
/// How long this node's image may be behind an answer.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(10);

/// What the task decides on, and writes to.
pub(super) struct Log {
    pub(super) raft: Raft,
    pub(super) raft_id: u64,
    pub(super) images: Arc<Images>,
    pub(super) peers: Arc<Peers>,
    pub(super) now: NowSource,
    /// Which processes this node hears.
    pub(super) processes: Processes,
}

impl Log {
    /// True when this node is to decide.
    pub(super) fn leads(&self) -> bool {
        self.raft.metrics().borrow().current_leader == Some(self.raft_id)
    }

    /// Takes commands from the front of the batch, as many as fit one entry, and answers them.
    pub(super) async fn settle(&self, batch: &mut VecDeque<Pending>) -> Tried {
        let Made { decided, replies, bytes } = self.decide(batch.iter().map(|pending| &pending.submission));
        let records = decided.records.len();
        let within = WRITTEN_WITHIN.max(bulk::time_for(bytes));
        // openraft answers a deposed leader late, and not at all when a snapshot takes the place of the entry.
        let written = tokio::select! {
            written = Box::pin(self.raft.client_write(decided)) => written,
            () = self.is_deposed() => return Tried::Unknown("this node lost the leadership of the metadata log".to_owned()),
            () = sleep(within) => return Tried::Unknown("most voters do not answer".to_owned()),
        };
        match written {
            Ok(written) if written.data == Effect::Applied => {
                let answered = batch.drain(..replies.len());
                for (pending, reply) in answered.zip(replies) {
                    // Those who wait may have given up: nobody minds.
                    let _ = pending.waiting.send(as_outcome(reply));
                }
                Tried::Settled(Written { records, bytes })
            }
            Ok(_) => Tried::Unknown("other entries of the log kept coming between".to_owned()),
            // It may have been written before the leadership was lost.
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                Tried::Unknown("this node lost the leadership of the metadata log".to_owned())
            }
            Err(error) => Tried::Failed(error.to_string()),
        }
    }

    async fn is_deposed(&self) {
        let mut metrics = self.raft.metrics();
        // When the log has stopped, the write says so.
        if metrics.wait_for(|metrics| metrics.current_leader != Some(self.raft_id)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Hands the commands of this broker over to the leader. Those of others go back: they ask the leader themselves.
    /// `doubt`: why the log may know of them already.
    pub(super) async fn forward(&self, batch: &mut VecDeque<Pending>, doubt: Option<&str>) -> Tried {
        let all = std::mem::take(batch);
        let (own, others): (VecDeque<_>, VecDeque<_>) = all.into_iter().partition(|pending| pending.is_from_here);
        let given_back = doubt.map_or_else(|| not_applied("this node does not lead the metadata log"), uncertain);
        answer_all(others.into_iter(), &given_back);
        *batch = own;
        if batch.is_empty() {
            return Tried::Settled(Written::default());
        }
        let Some(leader) = self.leader() else { return Tried::NotTaken };
        let (asked, within) = forwardable(batch);
        match self.peers.call::<Outcomes>(node_id(leader), rpc::SUBMIT, &asked, within).await {
            Ok(answer) if answer.outcomes.len() == asked.submissions.len() => self.answer(batch, answer).await,
            Ok(_) => Tried::Unknown("the leader's answer has another length".to_owned()),
            Err(CallError::NobodyThere | CallError::Refused { .. }) => Tried::NotTaken,
            Err(error) => Tried::Unknown(format!("node {leader}, which leads the metadata log: {error}")),
        }
    }

    fn leader(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let leader = metrics.current_leader?;
        if let Some(node) = metrics.membership_config.membership().get_node(&leader) {
            self.peers.learn(node_id(leader), &node.addr);
        }
        Some(leader)
    }

    /// Answers those at the front that are settled, once the image shows it; the others stay in the batch, in their order.
    async fn answer(&self, batch: &mut VecDeque<Pending>, answer: Outcomes) -> Tried {
        let mut images = self.images.watch();
        let caught_up = timeout(CATCH_UP_WITHIN, images.wait_for(|image| image.version() >= answer.version)).await;
        let is_caught_up = matches!(caught_up, Ok(Ok(_)));
        let (mut left, mut doubt) = (VecDeque::new(), None);
        let asked = batch.drain(..answer.outcomes.len());
        for (pending, outcome) in asked.zip(answer.outcomes) {
            let outcome = match outcome {
                Err(SubmitError::NotApplied { .. }) => {
                    left.push_back(pending);
                    continue;
                }
                Err(SubmitError::Uncertain { reason }) if pending.submission.id.is_some() => {
                    doubt = Some(reason);
                    left.push_back(pending);
                    continue;
                }
                outcome if is_caught_up => outcome,
                _ => uncertain("it was answered, but this node does not receive the metadata log"),
            };
            // Those who wait may have given up: nobody minds.
            let _ = pending.waiting.send(outcome);
        }
        let is_all_settled = left.is_empty();
        left.append(batch);
        *batch = left;
        match doubt {
            _ if is_all_settled => Tried::Settled(Written::default()),
            Some(reason) => Tried::Unknown(reason),
            None => Tried::NotTaken,
        }
    }

    /// Decides commands, each on what those before it lead to, until the entry is full.
    fn decide<'a>(&self, submissions: impl Iterator<Item = &'a Submission>) -> Made {
        let (image, now) = (self.images.current(), (self.now)());
        let mut state = Cluster::clone(&image);
        let (mut records, mut replies, mut bytes) = (Vec::new(), Vec::new(), 0);
        for submission in submissions {
            if let Some(refusal) = self.processes.refusal(&state, &submission.command) {
                replies.push(Reply::Refused(refusal));
                continue;
            }
            let decision = state.decide(submission, now);
            let more = encoded_len(&decision.records);
            if more > MAX_COMMAND_BYTES && is_of_client(&submission.command) {
                replies.push(Reply::Refused(too_large(more)));
                continue;
            }
            let Decision { records: decided, reply } = decision;
            for record in &decided {
                state.apply(record.clone());
            }
            records.extend(decided);
            replies.push(reply);
            bytes += more;
            if bytes >= ENTRY_BYTES {
                break;
            }
        }
        Made { decided: Decided { base: image.version(), records: Arc::new(records) }, replies, bytes }
    }
}

/// An entry that is to be written, and the answers to its commands.
struct Made {
    decided: Decided,
    replies: Vec<Reply>,
    /// Size of the records.
    bytes: usize,
}

/// The commands at the front that are handed over at once, and how long that may take.
fn forwardable(batch: &VecDeque<Pending>) -> (Forwarded, Duration) {
    let (mut submissions, mut bytes) = (Vec::new(), 0_usize);
    for pending in batch {
        bytes = bytes.saturating_add(pending.bytes);
        if bytes > FORWARDED_BYTES && !submissions.is_empty() {
            break;
        }
        submissions.push(pending.submission.clone());
    }
    let times = u32::try_from(bytes / FORWARDED_BYTES).unwrap_or(u32::MAX);
    (Forwarded { submissions }, ANSWERED_WITHIN.saturating_add(ANSWERED_WITHIN_MORE.saturating_mul(times)))
}

/// True when a client can make the command as large as it likes. What the cluster itself has to do, such as to fence a broker
/// with very many partitions, must be possible.
fn is_of_client(command: &Command) -> bool {
    matches!(
        command,
        Command::CreateTopics { .. }
            | Command::DeleteTopics { .. }
            | Command::CreatePartitions { .. }
            | Command::AlterConfigs { .. }
            | Command::ElectLeaders { .. }
            | Command::AlterReassignments { .. }
    )
}

/// The refusal of a command whose records, or which itself, has that many bytes.
pub(super) fn too_large(bytes: usize) -> ClusterError {
    let reason = format!(
        "the change takes {bytes} bytes in the metadata log: at most {MAX_COMMAND_BYTES} are allowed at once; change less \
         at a time"
    );
    ClusterError::LimitExceeded { reason }
}

impl super::Metadata {
    /// Settles commands of another broker, as the leader of the log.
    pub(super) async fn settle_for_another(
        &self,
        submissions: Vec<Submission>,
    ) -> Result<Outcomes, crate::internal::Refusal> {
        let proposer = self.inner.proposer.lock().clone();
        let Some(proposer) = proposer.filter(|_| self.leads()) else {
            return Err(crate::internal::Refusal::later("this node does not lead the metadata log"));
        };
        let outcomes = proposer.submit_for_another(submissions, FORWARDED_FOR).await;
        Ok(Outcomes { outcomes, version: self.image().version() })
    }
}
