//! Follows one leader: fetches what its partitions lack, over one connection, for as long as it leads any.
//!
//! Invariants: a partition is in one request at a time; the offset that is fetched is flushed; a partition that fails rests by
//! itself; whatever may block for disk happens on another thread.
//!
//! A new partition, or one that was waiting for something, does not wait for the long poll of the others: the connection is
//! given up and the next request names everything.
//!
//! Where an answer cannot be taken as a whole, the partition at fault is looked for ([`super::narrowing`]). From then on it is
//! asked for alone, so that it holds up no other, until an answer for it can be taken.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{LeaderEpoch, NodeId, TopicId, TopicPartition};
use protocol::messages::{FetchRequest, FetchResponse};
use protocol::{ErrorCode, Str};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tracing::{debug, info, warn};

use super::alignment::{self, Leader};
use super::apply::{Answer, Applied, Trouble, apply_all};
use super::narrowing::Narrowing;
use super::pause::{ALONE, BROKEN, Pause, WAITING};
use super::session::{Session, Wanted};
use super::told::Told;
use super::{Assignment, Shared};
use crate::machine::blocking::{self, unwound};
use crate::partition::Partition;
use crate::wire::{CallError, Connection};

/// The version of our fetches: topic ids, the replica's epoch, and the high watermark that it knows.
pub(super) const FETCH_VERSION: i16 = 18;
/// How long a leader may take to accept a connection.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Pause between two looks whether lost records are restored.
const LOST_LOOK: Duration = Duration::from_secs(1);
/// How long partitions that have aligned with the leader wait for others that do.
const GATHERING: Duration = Duration::from_millis(20);
/// Pause between two looks at a throttle that is closed.
const THROTTLE_LOOK: Duration = Duration::from_millis(500);
/// Partitions that may ask for the leader's state at a time.
const ALIGNING_MAX: usize = 16;

/// One partition that is followed.
#[derive(Debug)]
struct Follower {
    partition: Arc<Partition>,
    leader_epoch: LeaderEpoch,
    pause: Pause,
    /// It waits for the leader's state.
    aligns: bool,
    /// An answer for it alone could not be taken: it is asked for alone.
    is_suspect: bool,
    /// What it rests for, as it was last told to people.
    told: Option<String>,
    lag: metrics::Gauge,
}

/// The task for one leader.
#[derive(Debug)]
pub(super) struct Fetcher {
    shared: Arc<Shared>,
    leader: NodeId,
    assigned: watch::Receiver<Arc<Assignment>>,
    assignment: Arc<Assignment>,
    followers: BTreeMap<TopicPartition, Follower>,
    connection: Option<Connection>,
    session: Session,
    narrowing: Narrowing,
    link: Pause,
    aligning: JoinSet<(TopicPartition, LeaderEpoch, Result<(), Trouble>)>,
}

/// What the partitions that are followed need.
#[derive(Debug, Default)]
struct Look {
    /// What to ask now.
    wanted: BTreeMap<TopicPartition, Wanted>,
    /// What to ask alone, before the others.
    suspect: Option<(TopicPartition, Wanted)>,
    /// When the first of those that rest may be asked for.
    rests_until: Option<Instant>,
    /// True when something is not flushed here, and cannot be followed before it is.
    is_unflushed: bool,
}

/// How a fetch ended.
enum Fetched {
    Answered(Box<FetchResponse>),
    /// There is something new to ask.
    Interrupted,
    Failed(CallError),
}

impl Fetcher {
    pub(super) fn new(shared: Arc<Shared>, leader: NodeId, assigned: watch::Receiver<Arc<Assignment>>) -> Self {
        let assignment = Arc::default();
        Fetcher {
            shared,
            leader,
            assigned,
            assignment,
            followers: BTreeMap::new(),
            connection: None,
            session: Session::default(),
            narrowing: Narrowing::default(),
            link: Pause::default(),
            aligning: JoinSet::new(),
        }
    }

    /// Follows until the supervisor lets go of the assignment.
    pub(super) async fn run(mut self) {
        // Asked for each time: a fetch that is interrupted by it would be repeated at once, and without end.
        while self.assigned.has_changed().is_ok() {
            self.take_assignment();
            let now = Instant::now();
            let link_rests = self.link.rests_until(now);
            let Look { wanted, suspect, rests_until, is_unflushed } = self.look(now);
            if link_rests.is_none() && is_unflushed {
                self.flush_own().await;
            } else if link_rests.is_none()
                && let Some(suspect) = suspect.filter(|_| self.assignment.address.is_some())
            {
                self.round([suspect].into(), Some(now)).await;
            } else if link_rests.is_none() && !wanted.is_empty() && self.assignment.address.is_some() {
                self.round(wanted, rests_until).await;
            } else if !self.rest(link_rests.or(rests_until)).await {
                return;
            }
        }
    }

    /// Takes over what is followed now. A partition in a new epoch begins without a past.
    fn take_assignment(&mut self) {
        let newest = Arc::clone(&self.assigned.borrow_and_update());
        if Arc::ptr_eq(&newest, &self.assignment) {
            return;
        }
        if newest.address != self.assignment.address {
            self.hang_up();
            self.link.succeeded();
        }
        let mut before = std::mem::take(&mut self.followers);
        for (partition, leader_epoch) in &newest.followed {
            let same = before.remove(&partition.id).filter(|follower| {
                follower.leader_epoch == *leader_epoch && Arc::ptr_eq(&follower.partition, partition)
            });
            let follower = same.unwrap_or_else(|| Follower::new(partition, *leader_epoch));
            self.followers.insert(partition.id, follower);
        }
        // Whoever follows or leads it now tells of it.
        before
            .values()
            .filter(|gone| !self.followers.contains_key(&gone.partition.id))
            .for_each(|gone| gone.lag.set(0.0));
        self.assignment = newest;
    }

    /// True when a partition is assigned that no request has named in this epoch.
    fn is_news(&self, assignment: &Assignment) -> bool {
        assignment.address != self.assignment.address
            || assignment.followed.iter().any(|(partition, leader_epoch)| {
                self.followers.get(&partition.id).is_none_or(|known| known.leader_epoch != *leader_epoch)
            })
    }

    /// What this node wrote as a leader a moment ago may not be durable yet.
    async fn flush_own(&mut self) {
        let hot = self.shared.hot.clone();
        if let Err(error) = blocking::run(move || hot.wait_flushed()).await {
            // Told where the tier failed.
            let pause = self.link.failed(BROKEN, Instant::now());
            warn!(leader = self.leader, %error, ?pause, "cannot follow: the local log does not flush");
        }
    }

    /// Looks at all partitions that are followed.
    fn look(&self, now: Instant) -> Look {
        let mut look = Look::default();
        let closed = self.shared.throttles.follower.closed_for(now);
        // A closed throttle is looked at now and then: the rate may be changed.
        let opens = closed.map(|closed| now + closed.min(THROTTLE_LOOK));
        for (id, follower) in &self.followers {
            look.is_unflushed |= !follower.is_flushed() && follower.is_current();
            if follower.aligns {
                continue;
            }
            // Whoever lacks records of the past must not be taken for in sync.
            let lost = || follower.partition.lost().map(|_| now + LOST_LOOK);
            let throttled = || opens.filter(|_| follower.is_throttled(self.shared.node_id));
            if let Some(until) = follower.pause.rests_until(now).or_else(throttled).or_else(lost) {
                look.rests_until = Some(look.rests_until.map_or(until, |first| first.min(until)));
            } else if let Some(asked) = follower.asks(self.shared.limits.max_bytes) {
                if follower.is_suspect {
                    look.suspect = Some((*id, asked));
                } else {
                    look.wanted.insert(*id, asked);
                }
            }
        }
        look
    }

    /// One request and what follows from its answer.
    async fn round(&mut self, wanted: BTreeMap<TopicPartition, Wanted>, rests_until: Option<Instant>) {
        let asked = self.narrowing.choose(wanted);
        let rests_until = if self.narrowing.is_active() { Some(Instant::now()) } else { rests_until };
        match self.fetch(asked.clone(), rests_until).await {
            Fetched::Interrupted => self.hang_up(),
            Fetched::Failed(error) if error.may_lie_in_one_partition() => {
                self.hang_up();
                metrics::counter!("firn_replication_fetch_failures_total").increment(1);
                self.narrow(&asked, &error);
            }
            Fetched::Failed(error) => {
                self.hang_up();
                metrics::counter!("firn_replication_fetch_failures_total").increment(1);
                let is_first = self.link == Pause::default();
                let pause = self.link.failed(WAITING, Instant::now());
                if is_first {
                    info!(leader = self.leader, %error, ?pause, "cannot fetch from the leader, it is tried again");
                }
            }
            Fetched::Answered(response) => {
                self.narrowing.succeeded(&asked);
                self.take(*response).await;
            }
        }
    }

    /// An answer could not be taken as a whole: looks for the partition at fault, which then rests by itself.
    fn narrow(&mut self, asked: &BTreeMap<TopicPartition, Wanted>, error: &CallError) {
        let is_first = !self.narrowing.is_active();
        let Some(at_fault) = self.narrowing.failed(asked) else {
            if is_first {
                info!(leader = self.leader, %error, asked = asked.len(), "cannot take an answer of the leader, asking for less");
            }
            return;
        };
        let Some(follower) = self.followers.get_mut(&at_fault) else { return };
        follower.is_suspect = true;
        let mut told = Told::default();
        follower.rest(Trouble { pace: ALONE, reason: Some(error.to_string()) }, &mut told);
        told.tell(self.leader);
    }

    async fn fetch(&mut self, wanted: BTreeMap<TopicPartition, Wanted>, rests_until: Option<Instant>) -> Fetched {
        let limits = self.shared.limits;
        let mut connection = match self.connect().await {
            Ok(connection) => connection,
            Err(error) => return Fetched::Failed(error),
        };
        let until_next = rests_until.map_or(limits.max_wait, |until| until.saturating_duration_since(Instant::now()));
        let max_wait = limits.max_wait.min(until_next.max(Duration::from_millis(1)));
        let mut request = FetchRequest {
            max_wait_ms: i32::try_from(max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: limits.min_bytes,
            max_bytes: limits.response_max_bytes,
            ..FetchRequest::default()
        };
        request.replica_state.replica_id = self.shared.node_id;
        request.replica_state.replica_epoch = self.assignment.broker_epoch;
        self.session.fill(&mut request, wanted);
        let deadline = tokio::time::Instant::now() + max_wait + limits.patience;
        let mut call = Box::pin(connection.call(&request, FETCH_VERSION, deadline));
        let mut gathered = None;
        let answered = loop {
            tokio::select! {
                answer = &mut call => break answer,
                changed = self.assigned.changed() => {
                    let newest = Arc::clone(&self.assigned.borrow());
                    if changed.is_err() || self.is_news(&newest) {
                        return Fetched::Interrupted;
                    }
                }
                Some(done) = self.aligning.join_next() => {
                    self.note_aligned(done);
                    // Others that finish soon are asked for together.
                    gathered.get_or_insert_with(|| tokio::time::Instant::now() + GATHERING);
                }
                () = until(gathered) => return Fetched::Interrupted,
            }
        };
        drop(call);
        match answered {
            Ok(response) => {
                self.connection = Some(connection);
                Fetched::Answered(Box::new(response))
            }
            Err(error) => Fetched::Failed(error),
        }
    }

    async fn connect(&mut self) -> Result<Connection, CallError> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let Some(address) = &self.assignment.address else {
            return Err(std::io::Error::other("the leader's address is not known").into());
        };
        let client_id = Str::from(super::follower_name(self.shared.node_id, self.leader).as_str());
        let at = (address.host.as_str(), address.port);
        Ok(Connection::open(at, CONNECT_WITHIN, client_id, self.shared.limits.frame_max_bytes).await?)
    }

    fn hang_up(&mut self) {
        self.connection = None;
        self.session.start_over();
    }

    async fn take(&mut self, response: FetchResponse) {
        match ErrorCode::from_code(response.error_code) {
            Some(ErrorCode::None) => {}
            Some(ErrorCode::FetchSessionIdNotFound | ErrorCode::InvalidFetchSessionEpoch) => {
                self.session.forget();
                return;
            }
            code => {
                self.session.forget();
                let pause = self.link.failed(WAITING, Instant::now());
                metrics::counter!("firn_replication_fetch_failures_total").increment(1);
                let code = code.map_or_else(|| response.error_code.to_string(), |code| code.to_string());
                warn!(leader = self.leader, code, ?pause, "the leader refuses to be followed");
                return;
            }
        }
        if self.link != Pause::default() {
            info!(leader = self.leader, "follows the leader again");
        }
        self.link.succeeded();
        self.session.succeeded(response.session_id);
        let answers = self.answers(response);
        if answers.is_empty() {
            return;
        }
        let ids: Vec<TopicPartition> = answers.iter().map(|answer| answer.partition.id).collect();
        let hot = self.shared.hot.clone();
        let applied = blocking::run(move || apply_all(&hot, answers)).await;
        let mut told = Told::default();
        for (id, applied) in ids.into_iter().zip(applied) {
            self.note(id, applied, &mut told);
        }
        told.tell(self.leader);
    }

    fn answers(&self, response: FetchResponse) -> Vec<Answer> {
        let mut answers = Vec::new();
        for topic in response.responses {
            for data in topic.partitions {
                let id = TopicPartition { topic_id: TopicId(topic.topic_id), partition: data.partition_index };
                let (Some(wanted), Some(follower)) = (self.session.asked(id), self.followers.get(&id)) else {
                    continue;
                };
                answers.push(Answer { partition: Arc::clone(&follower.partition), wanted, data });
            }
        }
        answers
    }

    fn note(&mut self, id: TopicPartition, applied: Applied, told: &mut Told) {
        let Some(follower) = self.followers.get_mut(&id) else { return };
        match applied {
            Applied::Followed { bytes, lag } => {
                follower.recovered(told);
                if follower.is_throttled(self.shared.node_id) {
                    self.shared.throttles.follower.note(bytes, Instant::now());
                }
                metrics::counter!("firn_replication_bytes_total").increment(bytes as u64);
                #[allow(clippy::cast_precision_loss, reason = "a gauge")]
                follower.lag.set(lag as f64);
            }
            Applied::Over => {}
            Applied::OutOfRange => self.align(id),
            Applied::Trouble(trouble) => follower.rest(trouble, told),
        }
    }

    /// Asks the leader for its state, beside the others' fetches.
    fn align(&mut self, id: TopicPartition) {
        let Some(follower) = self.followers.get_mut(&id) else { return };
        if self.aligning.len() >= ALIGNING_MAX {
            // The next answer says the same again.
            follower.pause.failed(WAITING, Instant::now());
            return;
        }
        follower.aligns = true;
        let (partition, leader_epoch) = (Arc::clone(&follower.partition), follower.leader_epoch);
        let leader = Leader { node_id: self.leader, internal: self.assignment.internal.clone() };
        let shared = Arc::clone(&self.shared);
        self.aligning
            .spawn(async move { (id, leader_epoch, alignment::align(&shared, leader, partition, leader_epoch).await) });
    }

    fn note_aligned(&mut self, done: Result<(TopicPartition, LeaderEpoch, Result<(), Trouble>), JoinError>) {
        let (id, leader_epoch, outcome) = unwound(done);
        let Some(follower) = self.followers.get_mut(&id).filter(|f| f.leader_epoch == leader_epoch) else { return };
        follower.aligns = false;
        let mut told = Told::default();
        match outcome {
            Ok(()) => follower.recovered(&mut told),
            Err(trouble) => follower.rest(trouble, &mut told),
        }
        told.tell(self.leader);
    }

    /// Waits for something to do; `false` when it is over.
    async fn rest(&mut self, due: Option<Instant>) -> bool {
        tokio::select! {
            changed = self.assigned.changed() => return changed.is_ok(),
            Some(done) = self.aligning.join_next() => self.note_aligned(done),
            () = until(due.map(Into::into)) => {}
        }
        true
    }
}

impl Follower {
    fn new(partition: &Arc<Partition>, leader_epoch: LeaderEpoch) -> Self {
        let labels = [("topic", partition.topic.to_string()), ("partition", partition.id.partition.to_string())];
        Follower {
            partition: Arc::clone(partition),
            leader_epoch,
            pause: Pause::default(),
            aligns: false,
            is_suspect: false,
            told: None,
            lag: metrics::gauge!("firn_replication_lag_offsets", &labels),
        }
    }

    /// What to ask for; nothing once the epoch is over: then the log may hold what this leader never had.
    fn asks(&self, max_bytes: i32) -> Option<Wanted> {
        let log = &self.partition.log;
        let asked = Wanted {
            leader_epoch: self.leader_epoch,
            fetch_offset: log.log_end(),
            last_fetched_epoch: log.latest_epoch(),
            log_start: self.partition.log_start(),
            high_watermark: self.partition.high_watermark(),
            max_bytes,
        };
        // Looked at last: a new epoch is known before anything of it is in the log.
        (asked.fetch_offset <= log.flushed_end() && self.is_current()).then_some(asked)
    }

    fn is_flushed(&self) -> bool {
        self.partition.log.flushed_end() >= self.partition.log.log_end()
    }

    fn is_current(&self) -> bool {
        self.partition.leadership().leader_epoch == self.leader_epoch
    }

    /// Whether it may be held back for others' sake: only while it is not in sync.
    fn is_throttled(&self, node_id: NodeId) -> bool {
        self.partition.log.settings().follower_throttled.contains(self.partition.id.partition, node_id)
            && !self.partition.leadership().isr.contains(&node_id)
    }

    fn recovered(&mut self, told: &mut Told) {
        self.pause.succeeded();
        self.is_suspect = false;
        if self.told.take().is_some() {
            told.recovered.add(&self.partition.topic, self.partition.id.partition);
        }
    }

    fn rest(&mut self, trouble: Trouble, told: &mut Told) {
        let pause = self.pause.failed(trouble.pace, Instant::now());
        metrics::counter!("firn_replication_fetch_failures_total").increment(1);
        let Some(reason) = trouble.reason else { return };
        if self.told.as_ref() != Some(&reason) {
            let (topic, partition) = (&self.partition.topic, self.partition.id.partition);
            debug!(%topic, partition, reason, ?pause, "a partition cannot follow its leader");
            told.troubled(reason.clone(), topic, partition);
            self.told = Some(reason);
        }
    }
}

/// Waits until then; for ever without a time.
async fn until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
