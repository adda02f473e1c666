//! One try with a batch of commands: decided and written here, or handed over to the node that leads the log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use coordinator::cluster::{Cluster, Reply, Submission};
use openraft::error::{ClientWriteError, RaftError};
use tokio::time::{sleep, timeout};

use super::entry::{Decided, Effect, Raft};
use super::image::Images;
use super::peers::Peers;
use super::proposer::{Pending, Tried, answer_all, as_outcome, not_applied, uncertain};
use super::rpc::{self, FORWARDED_FOR, Forwarded, Outcomes};
use super::{NowSource, SubmitError, node_id};
use crate::internal::client::CallError;

/// An entry with that many records takes no further command: one command has about 10,000 of them at most.
const MANY_RECORDS: usize = 1_000;
/// How long an entry may take to become durable on most voters.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);
/// How long the leader may take to answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// How long this node's image may be behind an answer.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(10);

/// What the task decides on, and writes to.
pub(super) struct Log {
    pub(super) raft: Raft,
    pub(super) raft_id: u64,
    pub(super) images: Arc<Images>,
    pub(super) peers: Arc<Peers>,
    pub(super) now: NowSource,
}

impl Log {
    /// True when this node is to decide.
    pub(super) fn leads(&self) -> bool {
        self.raft.metrics().borrow().current_leader == Some(self.raft_id)
    }

    /// Takes commands from the front of the batch, as many as fit one entry, and answers them.
    pub(super) async fn settle(&self, batch: &mut VecDeque<Pending>) -> Tried {
        let (decided, replies) = self.decide(batch.iter().map(|pending| &pending.submission));
        let records = decided.records.len();
        // openraft answers a deposed leader late, and not at all when a snapshot takes the place of the entry.
        let written = tokio::select! {
            written = Box::pin(self.raft.client_write(decided)) => written,
            () = self.is_deposed() => return Tried::Unknown("this node lost the leadership of the metadata log".to_owned()),
            () = sleep(WRITTEN_WITHIN) => return Tried::Unknown("most voters do not answer".to_owned()),
        };
        match written {
            Ok(written) if written.data == Effect::Applied => {
                let answered = batch.drain(..replies.len());
                for (pending, reply) in answered.zip(replies) {
                    // Those who wait may have given up: nobody minds.
                    let _ = pending.waiting.send(as_outcome(reply));
                }
                Tried::Settled { records }
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
            return Tried::Settled { records: 0 };
        }
        let Some(leader) = self.leader() else { return Tried::NotTaken };
        let asked = Forwarded { submissions: batch.iter().map(|pending| pending.submission.clone()).collect() };
        match self.peers.call::<Outcomes>(node_id(leader), rpc::SUBMIT, &asked, ANSWERED_WITHIN).await {
            Ok(answer) if answer.outcomes.len() == batch.len() => self.answer(batch, answer).await,
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

    /// Answers those that are settled, once the image shows it; the others stay in the batch, in their order.
    async fn answer(&self, batch: &mut VecDeque<Pending>, answer: Outcomes) -> Tried {
        let mut images = self.images.watch();
        let caught_up = timeout(CATCH_UP_WITHIN, images.wait_for(|image| image.version() >= answer.version)).await;
        let is_caught_up = matches!(caught_up, Ok(Ok(_)));
        let (mut left, mut doubt) = (VecDeque::new(), None);
        for (pending, outcome) in batch.drain(..).zip(answer.outcomes) {
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
        *batch = left;
        match doubt {
            _ if batch.is_empty() => Tried::Settled { records: 0 },
            Some(reason) => Tried::Unknown(reason),
            None => Tried::NotTaken,
        }
    }

    /// Decides commands, each on what those before it lead to, until the entry is full.
    fn decide<'a>(&self, submissions: impl Iterator<Item = &'a Submission>) -> (Decided, Vec<Reply>) {
        let (image, now) = (self.images.current(), (self.now)());
        let mut state = Cluster::clone(&image);
        let (mut records, mut replies) = (Vec::new(), Vec::new());
        for submission in submissions {
            let decision = state.decide(submission, now);
            for record in &decision.records {
                state.apply(record.clone());
            }
            records.extend(decision.records);
            replies.push(decision.reply);
            if records.len() >= MANY_RECORDS {
                break;
            }
        }
        (Decided { base: image.version(), records: Arc::new(records) }, replies)
    }
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
