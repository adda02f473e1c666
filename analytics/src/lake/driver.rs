//! All tables that this node keeps: which are due, what goes wrong with them, and how far they lag behind.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cold_tier::ColdTier;
use model::archive::TopicArchive;
use model::{TimestampMs, TopicId};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::error::LakeError;
use super::topic_table::{Outcome, Pass, TopicTable};

/// Tables that are brought up to date at the same time.
const CONCURRENCY: usize = 4;
/// A pass waits so long for the tables that it has begun with; those that take longer are worked on beside the next passes.
const LONGEST_PASS: Duration = Duration::from_secs(2);
/// Longest pause after a failure.
const MAX_RETRY: Duration = Duration::from_secs(10);
/// Least time for which a file that nothing names is left alone: a commit that is under way names it at its end, and what it
/// has seen of the metadata still holds then.
const MIN_WAIT: Duration = Duration::from_secs(300);
/// Time between two sweeps of a table to which nothing is committed: engines may leave files there.
const IDLE_SWEEP_INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// How often, and how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Time between two commits to a table.
    pub interval: Duration,
    /// Age at which snapshots expire.
    pub max_age: Duration,
    /// Time for which the archive keeps an object that the ledger names no more.
    pub grace: Duration,
    /// Time between two sweeps of a table.
    pub sweep_interval: Duration,
}

impl Limits {
    /// No snapshot may outlive its objects: those go `grace` after the ledger has dropped them, and the table drops them at
    /// most `interval` later.
    #[must_use]
    pub fn snapshot_age(&self) -> Duration {
        self.max_age.min(self.grace.saturating_sub(self.interval))
    }
}

/// Whether a topic is to have a table: an archived one that people use, unless its settings say no.
#[must_use]
pub fn has_table(topic: &TopicArchive) -> bool {
    let settings = &topic.settings;
    settings.iceberg_enable && settings.remote_storage_enable && !topic.name.is_internal()
}

/// A topic whose table this node keeps.
pub struct Led {
    /// The topic, as the ledger says.
    pub topic: TopicArchive,
    /// Whether this node still leads it.
    pub may_commit: Box<dyn Fn() -> bool + Send + Sync>,
}

impl std::fmt::Debug for Led {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Led").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// Keeps the tables of the topics that this node leads.
#[derive(Debug)]
pub struct Driver {
    cold: ColdTier,
    limits: Limits,
    step: fn(&str),
    /// Tables at rest.
    kept: HashMap<TopicId, Kept>,
    /// Tables that are being brought up to date, and their tasks.
    under_way: HashMap<TopicId, Lag>,
    tasks: JoinSet<(TopicId, Kept)>,
    slots: Arc<Semaphore>,
}

/// How far a table lags behind its topic.
#[derive(Debug, Clone)]
struct Lag {
    topic: String,
    /// Since when the ledger says more than the table shows.
    behind_since: Option<Instant>,
}

#[derive(Debug)]
struct Kept {
    table: TopicTable,
    lag: Lag,
    /// When the next commit may be made.
    due: Instant,
    sweep_due: Instant,
    /// When the sweep looks for what engines have left, though nothing was committed.
    idle_sweep_due: Instant,
    is_unswept: bool,
    trouble: Option<String>,
}

impl Driver {
    /// A driver that keeps nothing yet. `step` is called at the steps of commits at which a test may want to die.
    #[must_use]
    pub fn new(cold: ColdTier, limits: Limits, step: fn(&str)) -> Driver {
        if limits.grace < limits.interval * 2 {
            warn!(
                grace = ?limits.grace, interval = ?limits.interval,
                "tables may name objects that are gone already: firn.sweep.grace.ms should be at least twice firn.iceberg.commit.interval.ms"
            );
        }
        Driver {
            cold,
            limits,
            step,
            kept: HashMap::new(),
            under_way: HashMap::new(),
            tasks: JoinSet::new(),
            slots: Arc::new(Semaphore::new(CONCURRENCY)),
        }
    }

    /// Brings the tables up to date that are due, and waits for them for at most two seconds: one slow table does not hold up
    /// the others. `now` is the time in ms, `steady` one that does not jump.
    pub async fn pass(&mut self, led: Vec<Led>, now: TimestampMs, steady: Instant) {
        while let Some(ended) = self.tasks.try_join_next() {
            self.put_back(ended);
        }
        self.forget_all_but(&led);
        let mut begun = HashSet::new();
        for led in led {
            let id = led.topic.id;
            if let Some(lag) = self.under_way.get(&id) {
                lag.show(steady);
                continue;
            }
            let new = || Kept::new(&self.cold, &led.topic, steady, self.limits);
            let mut kept = self.kept.remove(&id).unwrap_or_else(new);
            kept.measure_lag(&led.topic, steady);
            if steady < kept.due {
                self.kept.insert(id, kept);
            } else {
                begun.insert(id);
                self.start(kept, led, now, steady);
            }
        }
        let all = async {
            while !begun.is_empty()
                && let Some(ended) = self.tasks.join_next().await
            {
                begun.retain(|id| !matches!(&ended, Ok((done, _)) if done == id));
                self.put_back(ended);
            }
        };
        // Those that are not done by then are put back by a later pass.
        let _ = timeout(LONGEST_PASS, all).await;
    }

    fn start(&mut self, mut kept: Kept, led: Led, now: TimestampMs, steady: Instant) {
        let (id, slots, limits, step) = (led.topic.id, Arc::clone(&self.slots), self.limits, self.step);
        self.under_way.insert(id, kept.lag.clone());
        self.tasks.spawn(async move {
            let _slot = slots.acquire_owned().await;
            Box::pin(kept.bring_up(&led, limits, step, (now, steady))).await;
            (id, kept)
        });
    }

    fn put_back(&mut self, ended: Result<(TopicId, Kept), JoinError>) {
        match ended {
            Ok((id, kept)) => {
                self.under_way.remove(&id);
                self.kept.insert(id, kept);
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Tasks are cancelled only with the runtime.
            Err(_) => {}
        }
    }

    /// Tables that this node keeps no more have no lag here.
    fn forget_all_but(&mut self, led: &[Led]) {
        let led: HashSet<TopicId> = led.iter().map(|led| led.topic.id).collect();
        self.under_way.iter().filter(|(id, _)| !led.contains(id)).for_each(|(_, lag)| lag.show_none());
        self.kept.retain(|id, kept| {
            let stays = led.contains(id);
            if !stays {
                kept.lag.show_none();
            }
            stays
        });
    }
}

impl Lag {
    fn show(&self, steady: Instant) {
        let seconds = self.behind_since.map_or(0.0, |since| steady.saturating_duration_since(since).as_secs_f64());
        metrics::gauge!("firn_iceberg_commit_lag_seconds", "topic" => self.topic.clone()).set(seconds);
    }

    fn show_none(&self) {
        metrics::gauge!("firn_iceberg_commit_lag_seconds", "topic" => self.topic.clone()).set(0.0);
    }
}

impl Kept {
    fn new(cold: &ColdTier, topic: &TopicArchive, steady: Instant, limits: Limits) -> Kept {
        Kept {
            table: TopicTable::new(cold, topic),
            lag: Lag { topic: topic.name.to_string(), behind_since: None },
            due: steady + limits.interval,
            sweep_due: steady + limits.sweep_interval,
            idle_sweep_due: steady + limits.sweep_interval.max(IDLE_SWEEP_INTERVAL),
            // What a crash left is looked for once.
            is_unswept: true,
            trouble: None,
        }
    }

    fn measure_lag(&mut self, topic: &TopicArchive, steady: Instant) {
        if self.table.is_behind(topic) {
            self.lag.behind_since.get_or_insert(steady);
        } else {
            self.lag.behind_since = None;
        }
        self.lag.show(steady);
    }

    async fn bring_up(&mut self, led: &Led, limits: Limits, step: fn(&str), (now, steady): (TimestampMs, Instant)) {
        let age_ms = u64::try_from(limits.snapshot_age().as_millis()).unwrap_or(u64::MAX);
        let expire_before = now.saturating_sub_unsigned(age_ms);
        let pass = Pass { now, expire_before, may_commit: &*led.may_commit, step };
        match Box::pin(self.table.bring_up(&led.topic, &pass)).await {
            Ok(outcome) => self.succeeded(&outcome, steady + limits.interval),
            Err(error) => self.failed(&error, steady + limits.interval.min(MAX_RETRY)),
        }
        let is_due = if self.is_unswept { steady >= self.sweep_due } else { steady >= self.idle_sweep_due };
        if is_due {
            self.sweep_due = steady + limits.sweep_interval;
            self.idle_sweep_due = steady + limits.sweep_interval.max(IDLE_SWEEP_INTERVAL);
            self.sweep(now, limits.grace.max(MIN_WAIT)).await;
        }
    }

    fn succeeded(&mut self, outcome: &Outcome, due: Instant) {
        self.due = due;
        self.lag.behind_since = None;
        self.lag.show_none();
        if self.trouble.take().is_some() {
            info!(topic = self.lag.topic, "the topic's table is brought up to date again");
        }
        let name = match outcome {
            Outcome::Unchanged => return,
            Outcome::Committed { version, files } => {
                debug!(topic = self.lag.topic, version, files, "committed to the topic's table");
                "committed"
            }
            Outcome::Expired => "expired",
        };
        self.is_unswept = true;
        metrics::counter!("firn_iceberg_commits_total", "outcome" => name).increment(1);
    }

    /// A failure is logged once, until it changes.
    fn failed(&mut self, error: &LakeError, due: Instant) {
        self.due = due;
        let name = if matches!(error, LakeError::Older { .. } | LakeError::NotLeader) { "refused" } else { "failed" };
        metrics::counter!("firn_iceberg_commits_total", "outcome" => name).increment(1);
        let message = error.to_string();
        if self.trouble.as_ref() != Some(&message) {
            warn!(topic = self.lag.topic, %error, "cannot bring the topic's table up to date, it is tried again");
            self.trouble = Some(message);
        }
    }

    async fn sweep(&mut self, now: TimestampMs, wait: Duration) {
        match self.table.sweep(now, i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)).await {
            Ok(swept) => {
                self.is_unswept = self.table.has_orphans();
                if swept > 0 {
                    info!(topic = self.lag.topic, files = swept, "swept files that the topic's table names no more");
                }
            }
            Err(error) => {
                warn!(topic = self.lag.topic, %error, "the sweep of the topic's table failed and is tried again")
            }
        }
    }
}
