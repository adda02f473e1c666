//! Who is alive: notices nodes that are lost, has them fenced, replaces a lost leader of the log, and brings this broker back
//! after it was fenced.
//!
//! The leader of the metadata log fences a broker whose process has ended at once, and a silent one after
//! `broker.session.timeout.ms`. When the leader itself has ended, the other voters elect a new one at once instead of
//! waiting for Raft's timers. A broker registers fenced and asks to be unfenced when it serves; so it does when it was
//! fenced while it was alive, after a pause or a cut.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use coordinator::cluster::{Broker, BrokerRef, Command};
use model::NodeId;
use rand::Rng;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::formation::tell;
use super::impaired::{DiskFault, Relief};
use super::succession::Succession;
use super::{Metadata, node_id};
use crate::supervision;

/// Pause between two looks when nothing happens.
pub(super) const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// This process stood still when a look comes that late.
const STOOD_STILL: Duration = Duration::from_secs(1);
/// Elections that voters start by themselves, until Raft's timers are left to it.
const MAX_ELECTIONS: u32 = 12;
/// Head start of a voter before the one with the next lower id.
const HEAD_START: Duration = Duration::from_millis(70);
/// How long a node leaves the election to a candidate that it has voted for.
const VOTED_PATIENCE: Duration = Duration::from_millis(400);
/// A leadership that lasts so long has succeeded the one that is over.
const LASTS: Duration = Duration::from_secs(2);
/// Most of a random delay on top of it.
const MAX_JITTER_MS: u64 = 40;
/// How long a command about a broker's liveness may take before it is handed in anew.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Beats that are older do not count as company. Raft's timers wait for longer before a follower stands for election.
const HEARD_WITHIN: Duration = Duration::from_millis(1_800);
/// A node that did not hear most voters has to hear them for so long before it may stand for election: not longer than the timers
/// of a cluster that starts wait, longer than a leader takes to reconnect.
const COMPANY_FOR: Duration = Duration::from_secs(1);

/// A leadership of the log that is over, until another one has lasted. A candidate that won may be unseated at once by a
/// vote that was under way: then the election continues.
#[derive(Debug, Default)]
struct Vacancy {
    /// The leadership that is over: node and term.
    over: Option<(NodeId, u64)>,
    /// Elections that this node has started for it.
    elections: u32,
    /// Since when there is another leader.
    filled: Option<Instant>,
}

impl Vacancy {
    /// Notes who leads now; `is_over` judges it.
    fn note(&mut self, led: Option<(NodeId, u64)>, is_over: impl FnOnce((NodeId, u64)) -> bool) {
        match led {
            Some(led) if !is_over(led) => {
                let since = *self.filled.get_or_insert_with(Instant::now);
                if since.elapsed() > LASTS {
                    (self.over, self.elections) = (None, 0);
                }
            }
            Some(led) if self.over != Some(led) => *self = Vacancy { over: Some(led), elections: 0, filled: None },
            _ => self.filled = None,
        }
    }

    /// The leadership that needs a successor now.
    fn to_fill(&self) -> Option<(NodeId, u64)> {
        self.over.filter(|_| self.filled.is_none() && self.elections < MAX_ELECTIONS)
    }
}

impl Metadata {
    /// Watches over the cluster, and over this broker's place in it, until `stop`. Fences a broker that was silent for
    /// `session_timeout`, when this node leads the log.
    pub async fn watch_over(self, session_timeout: Duration, stop: CancellationToken) {
        let all = async {
            tokio::join!(
                self.keep_sessions(stop.clone()),
                self.fence_the_lost(session_timeout),
                self.replace_lost_leader(),
                self.come_back(),
                self.rejoin_when_healthy(),
                self.stand_in_company(),
                self.panic_when_wanted(),
            )
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.inner.closing.cancelled() => {}
            _ = Box::pin(all) => {}
        }
    }

    /// This broker serves: it may lead from now on.
    pub fn set_serving(&self) {
        self.inner.is_serving.send_replace(true);
    }

    /// Waits until this broker may lead. False when that takes longer than `patience`.
    pub async fn wait_until_unfenced(&self, patience: Duration) -> bool {
        let mut images = self.watch();
        let node_id = self.node_id();
        timeout(patience, images.wait_for(|image| image.is_alive(node_id))).await.is_ok_and(|seen| seen.is_ok())
    }

    /// A connection to every other node, as nodes come and go.
    async fn keep_sessions(&self, stop: CancellationToken) {
        let (mut images, mut metrics) = (self.watch(), self.inner.raft.metrics());
        let mut kept: BTreeMap<NodeId, CancellationToken> = BTreeMap::new();
        loop {
            let others = self.other_nodes();
            kept.retain(|node, stop| {
                others.contains(node) || {
                    stop.cancel();
                    false
                }
            });
            for node in others {
                kept.entry(node).or_insert_with(|| {
                    let stop = stop.child_token();
                    let keeping = self.inner.sessions.clone().keep(node, self.inner.peers.clone(), stop.clone());
                    tokio::spawn(supervision::without_panic("session", keeping));
                    stop
                });
            }
            tokio::select! {
                changed = images.changed() => if changed.is_err() { return },
                changed = metrics.changed() => if changed.is_err() { return },
            }
        }
    }

    pub(super) fn other_nodes(&self) -> BTreeSet<NodeId> {
        let metrics = self.inner.raft.metrics();
        let members: Vec<(NodeId, String)> = {
            let metrics = metrics.borrow();
            let nodes = metrics.membership_config.membership().nodes();
            nodes.map(|(id, node)| (node_id(*id), node.addr.clone())).collect()
        };
        for (node, address) in &members {
            self.inner.peers.learn(*node, address);
        }
        let image = self.image();
        let brokers = image.brokers().map(|broker| broker.id);
        members.iter().map(|(node, _)| *node).chain(brokers).filter(|node| *node != self.node_id()).collect()
    }

    async fn fence_the_lost(&self, session_timeout: Duration) {
        let mut changes = self.inner.sessions.watch();
        let mut seen_alive: BTreeMap<(NodeId, i64), Instant> = BTreeMap::new();
        let (mut relief, mut looked) = (Relief::default(), Instant::now());
        loop {
            if looked.elapsed() > STOOD_STILL {
                self.inner.sessions.forgive();
            }
            looked = Instant::now();
            let image = self.image();
            let alive = image.brokers().filter(|broker| !broker.is_fenced && broker.id != self.node_id());
            let alive: Vec<&Broker> = alive.collect();
            seen_alive
                .retain(|(node, epoch), _| alive.iter().any(|broker| broker.id == *node && broker.epoch == *epoch));
            for broker in alive {
                let since = *seen_alive.entry((broker.id, broker.epoch)).or_insert(looked);
                if let Some(reason) = self.loss_of(broker, since, session_timeout).filter(|_| self.leads()) {
                    self.fence(broker, reason).await;
                }
            }
            if self.leads() {
                self.relieve_impaired(&mut relief).await;
            }
            // A command may have taken its time: that is no pause of the process.
            looked = Instant::now();
            let _ = timeout(LOOK_AGAIN_AFTER, changes.changed()).await;
        }
    }

    /// Why the broker counts as lost. `since`: when it was first seen unfenced in its present registration.
    fn loss_of(&self, broker: &Broker, since: Instant, session_timeout: Duration) -> Option<&'static str> {
        let session = self.inner.sessions.of(broker.id)?;
        if session.gone.is_some_and(|gone| gone.broker_epoch == Some(broker.epoch)) {
            return Some("its process has ended");
        }
        let is_silent = session.heard.max(since).elapsed() > session_timeout;
        is_silent.then_some("nothing was heard of it for broker.session.timeout.ms")
    }

    pub(super) async fn fence(&self, broker: &Broker, reason: &str) {
        let lost = BrokerRef { broker_id: broker.id, broker_epoch: broker.epoch };
        let before = self.image();
        match self.submit_within(Command::FenceBroker(lost), PATIENCE).await {
            Ok(_) => {
                let succession = Succession::between(&before, &self.image(), broker.id);
                // It said so beforehand: nothing is wrong, unless something has no leader now.
                if broker.is_shutting_down && succession.orphaned.is_empty() {
                    tracing::info!(broker = broker.id, "a broker has stopped: {succession}");
                } else {
                    tracing::warn!(broker = broker.id, reason, "a broker was lost: {succession}");
                }
            }
            Err(error) => tracing::debug!(broker = broker.id, %error, "a lost broker is not fenced yet"),
        }
    }

    /// Elects a new leader of the log when the old one's process has ended.
    async fn replace_lost_leader(&self) {
        let mut changes = self.inner.sessions.watch();
        let mut vacancy = Vacancy::default();
        loop {
            vacancy.note(self.leadership(), |(leader, term)| self.is_over(leader, term));
            let may_stand = self.inner.may_stand.load(Ordering::Acquire);
            let is_due = |(leader, term): &(NodeId, u64)| may_stand && self.is_over(*leader, *term);
            let Some((old, _)) = vacancy.to_fill().filter(is_due) else {
                let _ = timeout(LOOK_AGAIN_AFTER, changes.changed()).await;
                continue;
            };
            // All voters stand at once: that frees each of its word to the old leader, which would bind it for seconds.
            tracing::info!(leader = old, election = vacancy.elections, "the metadata log needs another leader");
            if self.inner.raft.trigger().elect().await.is_err() {
                // The log has stopped, and this node with it.
                return;
            }
            vacancy.elections += 1;
            self.wait_for_leader(self.head_start(old) * vacancy.elections).await;
        }
    }

    /// Who leads the log, and the number of the leadership.
    fn leadership(&self) -> Option<(NodeId, u64)> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow();
        metrics.current_leader.map(|leader| (node_id(leader), metrics.current_term))
    }

    /// True when the leader has ended, or gave up. A node with a sound disk does not wait for one with an impaired disk
    /// either: that one may be unable to give up.
    fn is_over(&self, leader: NodeId, term: u64) -> bool {
        let session = self.inner.sessions.of(leader);
        session.is_some_and(|session| {
            let is_impaired = session.impaired.is_some() && self.disk_fault().is_none();
            session.gone.is_some() || session.resigned == Some(term) || is_impaired
        })
    }

    /// Voters with higher ids win a tie; the others wait longer before they stand again.
    fn head_start(&self, lost: NodeId) -> Duration {
        let metrics = self.inner.raft.metrics().borrow().clone();
        let voters = metrics.membership_config.membership().voter_ids();
        let higher = voters.filter(|id| node_id(*id) > self.node_id() && node_id(*id) != lost).count();
        let rank = u32::try_from(higher).unwrap_or(u32::MAX);
        HEAD_START * rank.saturating_add(1) + Duration::from_millis(rand::rng().random_range(0..MAX_JITTER_MS))
    }

    /// Waits for a leader whose leadership is not over; longer for one that this node has voted for. Standing against it
    /// would raise the term, and end a leadership that has just begun.
    async fn wait_for_leader(&self, patience: Duration) {
        let mut metrics = self.inner.raft.metrics();
        let has_voted =
            |vote: &openraft::Vote<u64>| !vote.is_committed() && vote.leader_id().node_id != self.inner.raft_id;
        for patience in [patience, VOTED_PATIENCE] {
            let is_led = |leader: Option<u64>, term| leader.is_some_and(|leader| !self.is_over(node_id(leader), term));
            let led = metrics.wait_for(|metrics| is_led(metrics.current_leader, metrics.current_term));
            if timeout(patience, led).await.is_ok() || !has_voted(&metrics.borrow().vote) {
                return;
            }
        }
    }

    /// Lets this node stand for the leadership of the log only while it hears most of the voters. It could not win without
    /// them, and would come back with a higher term than that of the leader they have, who would have to give up.
    ///
    /// After a cut its timer is long over, and the others may be heard before the leader's next entries come: so it has to hear
    /// them for a while first.
    async fn stand_in_company(&self) {
        let mut alone = None;
        loop {
            if !self.hears_most_voters() {
                alone = Some(Instant::now());
            }
            let has_company = alone.is_none_or(|alone| alone.elapsed() > COMPANY_FOR);
            let may_stand = self.inner.may_stand.load(Ordering::Acquire);
            self.inner.raft.runtime_config().elect(may_stand && has_company && !self.leaves_election_to_others());
            // It notes the time.
            let _ = self.without_quorum_for();
            sleep(LOOK_AGAIN_AFTER).await;
        }
    }

    /// This node's disk is impaired, and another voter is here whose disk is not.
    fn leaves_election_to_others(&self) -> bool {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow();
        let is_sound = |id: NodeId| self.inner.sessions.of(id).is_some_and(|session| session.impaired.is_none());
        let mut others = metrics.membership_config.membership().voter_ids().map(node_id);
        self.disk_fault().is_some() && others.any(|id| id != self.node_id() && self.hears(id) && is_sound(id))
    }

    pub(super) fn hears_most_voters(&self) -> bool {
        let membership = self.inner.raft.metrics().borrow().membership_config.clone();
        let is_here = |id: &u64| *id == self.inner.raft_id || self.hears(node_id(*id));
        let mut halves = membership.membership().get_joint_config().iter();
        halves.all(|voters| voters.iter().filter(|id| is_here(id)).count() > voters.len() / 2)
    }

    pub(super) fn hears(&self, node: NodeId) -> bool {
        let session = self.inner.sessions.of(node);
        session.is_some_and(|session| session.was_there && session.heard.elapsed() < HEARD_WITHIN)
    }

    /// Asks to be unfenced whenever this broker serves and is fenced all the same.
    async fn come_back(&self) {
        let (mut images, mut serving) = (self.watch(), self.inner.is_serving.subscribe());
        let mut told = Some(Instant::now());
        let mut impairment = self.watch_impairment();
        loop {
            let broker = self.broker();
            let image = images.borrow_and_update().clone();
            let known = image.broker(broker.broker_id).filter(|known| known.epoch == broker.broker_epoch);
            // With a disk that has failed it serves nothing, whether it may lead or not.
            let can_serve = impairment.borrow_and_update().as_ref().is_none_or(|one| one.fault != DiskFault::Failed);
            let wants_in = *serving.borrow_and_update() && can_serve && known.is_some_and(|known| known.is_fenced);
            if !wants_in {
                tokio::select! {
                    changed = images.changed() => if changed.is_err() { return },
                    changed = serving.changed() => if changed.is_err() { return },
                    changed = impairment.changed() => if changed.is_err() { return },
                }
                continue;
            }
            match self.submit_within(Command::UnfenceBroker(broker), PATIENCE).await {
                Ok(_) => {
                    let leads = self.image().partitions().filter(|(_, p)| p.leader == broker.broker_id).count();
                    tracing::info!(broker = broker.broker_id, leads, "this broker may lead");
                }
                Err(error) => {
                    tell(&mut told, || tracing::info!(%error, "this broker may not lead yet"));
                    sleep(LOOK_AGAIN_AFTER).await;
                }
            }
        }
    }

    /// From now on this broker does not ask to lead.
    pub(super) fn stop_serving(&self) {
        self.inner.is_serving.send_replace(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_election_continues_until_a_leader_has_lasted() {
        let (old, new) = ((1, 5), (3, 6));
        let mut vacancy = Vacancy::default();
        let note = |vacancy: &mut Vacancy, led| vacancy.note(led, |led| led == old);
        note(&mut vacancy, Some(new));
        assert_eq!(vacancy.to_fill(), None, "no leader was lost");
        note(&mut vacancy, Some(old));
        assert_eq!(vacancy.to_fill(), Some(old));
        vacancy.elections = 1;
        note(&mut vacancy, Some(new));
        assert_eq!(vacancy.to_fill(), None);
        note(&mut vacancy, None);
        assert_eq!((vacancy.to_fill(), vacancy.elections), (Some(old), 1), "the winner was unseated");
        note(&mut vacancy, Some(new));
        sleep(LASTS * 2).await;
        note(&mut vacancy, Some(new));
        note(&mut vacancy, None);
        assert_eq!(vacancy.to_fill(), None, "a later loss is another one");
        note(&mut vacancy, Some(old));
        vacancy.elections = MAX_ELECTIONS;
        assert_eq!(vacancy.to_fill(), None, "the rest is left to the timers of Raft");
    }
}
