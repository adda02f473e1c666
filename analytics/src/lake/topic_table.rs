//! One topic's table: what is known of it, and the next commit.

use std::time::{Duration, Instant};

use cold_tier::{ColdTier, StoreErrorKind};
use iceberg::spec::TableMetadata;
use model::TimestampMs;
use model::archive::TopicArchive;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::error::{LakeError, Unusable};
use super::files::{Files, absent, newest};
use super::join::{Index, parse_all, rewrites};
use super::plan::{NoPlan, Plan, is_behind, plan};
use super::state::{STATE, State};
use super::sweep::Orphans;
use crate::iceberg::{Change, Commit, File, Stamp, Standing, TableError, advance, expire, has_expired};

/// How often a commit is tried when others commit at the same time.
const MAX_RACES: u32 = 4;
/// Time from a commit's first file to its last: much less than what an unnamed file waits until it is swept.
const MAX_COMMIT: Duration = Duration::from_secs(20);

/// What a pass over a table is given.
pub struct Pass<'a> {
    /// The time in ms.
    pub now: TimestampMs,
    /// Snapshots made before this expire.
    pub expire_before: TimestampMs,
    /// Whether this node still may commit: asked before the work, and again before what makes the commit.
    pub may_commit: &'a (dyn Fn() -> bool + Send + Sync),
    /// Told each step that a test may want to die at.
    pub step: fn(&str),
}

impl std::fmt::Debug for Pass<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pass").field("now", &self.now).finish_non_exhaustive()
    }
}

/// What a pass did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The table showed the ledger already.
    Unchanged,
    /// It shows the ledger now.
    Committed {
        /// Number of the commit.
        version: u64,
        /// Files written, the hint not counted.
        files: usize,
    },
    /// It was up to date, and old snapshots are forgotten.
    Expired,
}

/// A topic's table in the object store.
#[derive(Debug)]
pub struct TopicTable {
    pub(super) files: Files,
    /// What the table is, as long as no other node has committed since.
    pub(super) known: Option<Known>,
    /// The hint could not be written after the last commit.
    hint_is_behind: bool,
    pub(super) orphans: Orphans,
}

/// The newest metadata and what they lead to.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) standing: Standing,
    state: State,
    index: Index,
}

/// What a commit follows.
enum Base {
    Known(Box<Known>),
    /// Nothing, or nothing that can be used: the number of the last metadata, and the time before which none are made.
    Nothing {
        after: u64,
        not_before: TimestampMs,
    },
}

struct Made {
    commit: Commit,
    state: State,
    index: Index,
}

impl TopicTable {
    /// The table of a topic; nothing is read yet.
    #[must_use]
    pub fn new(cold: &ColdTier, topic: &TopicArchive) -> TopicTable {
        let files = Files::new(cold, &topic.name, topic.id);
        TopicTable { files, known: None, hint_is_behind: false, orphans: Orphans::default() }
    }

    /// Whether the ledger says more than the table shows, as far as is known without reading anything.
    #[must_use]
    pub fn is_behind(&self, topic: &TopicArchive) -> bool {
        self.known.as_ref().is_none_or(|known| is_behind(&known.state, topic))
    }

    /// Makes the table show what the ledger says: by one commit, or none.
    ///
    /// # Errors
    /// [`LakeError`]; the next pass looks at what is there.
    pub async fn bring_up(&mut self, topic: &TopicArchive, pass: &Pass<'_>) -> Result<Outcome, LakeError> {
        if self.hint_is_behind
            && let Some(known) = &self.known
        {
            self.files.set_hint(known.standing.version).await?;
            self.hint_is_behind = false;
        }
        for _ in 0..MAX_RACES {
            match Box::pin(self.attempt(topic, pass)).await {
                Err(error) if is_lost_race(&error) => {
                    metrics::counter!("firn_iceberg_commits_total", "outcome" => "lost").increment(1);
                }
                done => return done,
            }
        }
        Err(LakeError::Overtaken(MAX_RACES))
    }

    /// One try. Unless it succeeds, nothing is known of the table afterwards.
    async fn attempt(&mut self, topic: &TopicArchive, pass: &Pass<'_>) -> Result<Outcome, LakeError> {
        if !(pass.may_commit)() {
            return Err(LakeError::NotLeader);
        }
        let base = match self.known.take() {
            Some(known) => Base::Known(Box::new(known)),
            None => self.load().await?,
        };
        let attempt = Uuid::new_v4();
        let made = match base {
            Base::Nothing { after, not_before } => self.recreate(topic, pass, attempt, (after, not_before)).await?,
            Base::Known(mut known) => match self.next(&mut known, topic, pass, attempt).await {
                Ok(Some(made)) => made,
                Ok(None) => return self.rest(*known, pass).await,
                Err(NoPlan::Failed(error)) => return Err(error),
                Err(NoPlan::Unusable(reason)) => {
                    self.tell_unusable(&reason);
                    let Standing { version, metadata, .. } = known.standing;
                    self.recreate(topic, pass, attempt, (version, metadata.last_updated_ms() + 1)).await?
                }
            },
        };
        self.store(&made.commit, pass).await?;
        let Made { commit, state, index } = made;
        let outcome = Outcome::Committed { version: commit.standing.version, files: commit.files.len() };
        self.known = Some(Known { standing: commit.standing, state, index });
        self.tell(pass).await;
        Ok(outcome)
    }

    /// Nothing has changed: at most, old snapshots are forgotten.
    async fn rest(&mut self, known: Known, pass: &Pass<'_>) -> Result<Outcome, LakeError> {
        if !has_expired(&known.standing, pass.expire_before) {
            self.known = Some(known);
            return Ok(Outcome::Unchanged);
        }
        let commit = expire(&self.files.table, &known.standing, pass.expire_before, pass.now)?;
        self.store(&commit, pass).await?;
        self.known = Some(Known { standing: commit.standing, ..known });
        self.tell(pass).await;
        Ok(Outcome::Expired)
    }

    /// Reads the newest metadata and what they lead to.
    async fn load(&mut self) -> Result<Base, LakeError> {
        let Some(found) = newest(&self.files).await? else { return Ok(Base::Nothing { after: 0, not_before: 0 }) };
        if !found.is_hinted {
            self.files.set_hint(found.version).await?;
        }
        let mut not_before = 0;
        match self.read(found.version, &mut not_before).await? {
            Ok(known) => Ok(Base::Known(Box::new(known))),
            Err(reason) => {
                self.tell_unusable(&reason);
                Ok(Base::Nothing { after: found.version, not_before })
            }
        }
    }

    async fn read(&self, version: u64, not_before: &mut TimestampMs) -> Result<Result<Known, Unusable>, LakeError> {
        let unusable = |reason: String| Ok(Err(Unusable::Metadata(reason)));
        let Some(bytes) = absent(self.files.metadata(version).await)? else {
            return unusable(format!("v{version}.metadata.json is not there"));
        };
        let metadata: TableMetadata = match serde_json::from_slice(&bytes) {
            Ok(metadata) => metadata,
            Err(error) => return unusable(format!("v{version}.metadata.json: {error}")),
        };
        *not_before = metadata.last_updated_ms() + 1;
        if metadata.location() != self.files.table.location() {
            return Ok(Err(Unusable::Elsewhere(metadata.location().to_owned())));
        }
        let Some(snapshot) = metadata.current_snapshot() else { return unusable("there is no snapshot".into()) };
        let Some(state_url) = snapshot.summary().additional_properties.get(STATE) else {
            return unusable("the snapshot names no state".into());
        };
        let Some(read) =
            absent(self.files.get_all(vec![snapshot.manifest_list().to_owned(), state_url.clone()]).await)?
        else {
            return unusable(format!("what v{version}.metadata.json names is not there"));
        };
        let [(_, list), (_, state)] = &read[..] else { return unusable("two files were asked for".into()) };
        let standing = match Standing::parse(version, &bytes, list) {
            Ok(standing) => standing,
            Err(error) => return unusable(error.to_string()),
        };
        match State::decode(state) {
            Ok(state) => Ok(Ok(Known { standing, state, index: Index::default() })),
            Err(reason) => unusable(format!("{state_url}: {reason}")),
        }
    }

    /// The commit that follows; `None` when there is nothing to tell.
    async fn next(
        &self,
        known: &mut Known,
        topic: &TopicArchive,
        pass: &Pass<'_>,
        attempt: Uuid,
    ) -> Result<Option<Made>, NoPlan> {
        let Some(plan) = plan(&self.files.cold, &known.state, topic).await? else { return Ok(None) };
        let dropping = rewrites(&self.files, &known.standing, &mut known.index, &plan.dropped).await?;
        let cuts_before = Plan { state: std::mem::take(&mut known.state), ..Plan::default() }.cuts();
        if plan.added.is_empty() && dropping.dropped.is_empty() && plan.cuts() == cuts_before {
            // What readers see is the same: the next commit says of which ledger.
            known.state = plan.state;
            return Ok(None);
        }
        let deletes = known.standing.delete_manifest().map(|manifest| manifest.manifest_path.clone());
        let standing_cuts = parse_all(&self.files, deletes.into_iter().collect()).await?.pop();
        let change = Change {
            added: plan.added.clone(),
            dropped: dropping.dropped,
            rewrites: dropping.manifests,
            cuts: plan.cuts(),
            standing_cuts,
            expire_before: pass.expire_before,
            ..Change::default()
        };
        let stamp = Stamp { now: pass.now, attempt };
        let index = std::mem::take(&mut known.index);
        Ok(Some(self.made(Some(&known.standing), change, (plan.state, index), stamp).await?))
    }

    /// The commit that makes the table from the ledger alone.
    async fn recreate(
        &self,
        topic: &TopicArchive,
        pass: &Pass<'_>,
        attempt: Uuid,
        (after, not_before): (u64, TimestampMs),
    ) -> Result<Made, LakeError> {
        let plan = match plan(&self.files.cold, &State::default(), topic).await {
            Ok(plan) => plan.unwrap_or_default(),
            Err(NoPlan::Failed(error)) => return Err(error),
            Err(NoPlan::Unusable(reason)) => return Err(TableError::Inconsistent(reason.to_string()).into()),
        };
        let cuts = plan.cuts();
        let change = Change { added: plan.added, cuts, after, ..Change::default() };
        let stamp = Stamp { now: pass.now.max(not_before), attempt };
        Ok(self.made(None, change, (plan.state, Index::default()), stamp).await?)
    }

    async fn made(
        &self,
        standing: Option<&Standing>,
        mut change: Change,
        (state, index): (State, Index),
        stamp: Stamp,
    ) -> Result<Made, TableError> {
        let url = self.files.table.state_url(stamp.attempt);
        let bytes = state.encode().map_err(TableError::Inconsistent)?;
        change.properties.insert(STATE.to_owned(), url.clone());
        let (table, standing) = (self.files.table.clone(), standing.cloned());
        // Many thousands of objects keep a core busy for long: not one of those that serve clients.
        let runtime = Handle::current();
        let making = move || runtime.block_on(advance(&table, standing.as_ref(), &change, stamp));
        let made = tokio::task::spawn_blocking(making).await;
        let mut commit =
            made.map_err(|error| TableError::Inconsistent(format!("the making of a commit ended: {error}")))??;
        commit.files.insert(0, File { url, bytes: bytes.into() });
        Ok(Made { commit, state, index })
    }

    /// Stores a commit's files, the last one last: with it, the commit has taken place.
    ///
    /// The name of old metadata is free again once they are swept. So it is not enough that the name is free: the metadata
    /// that this commit follows must be there still. As the sweep takes versions in their order, a successor that was made
    /// and swept would have taken them along; and one that is made between this check and the put stays for long.
    async fn store(&self, commit: &Commit, pass: &Pass<'_>) -> Result<(), LakeError> {
        let Some((metadata, parts)) = commit.files.split_last() else { return Ok(()) };
        // From the first file on: planning reads the manifests of the whole archive, which may take long.
        let started = Instant::now();
        let after = commit.standing.version - 1;
        self.files.create_all(parts).await?;
        (pass.step)("iceberg.files-written");
        if started.elapsed() > MAX_COMMIT {
            return Err(LakeError::TooLate(started.elapsed().as_secs()));
        }
        if !(pass.may_commit)() {
            return Err(LakeError::NotLeader);
        }
        let is_next = after == 0 || (!self.files.has(after + 1).await? && self.files.has(after).await?);
        if !is_next {
            return Err(LakeError::Overtaken(1));
        }
        self.files.create(metadata).await?;
        (pass.step)("iceberg.metadata-written");
        Ok(())
    }

    /// Writes the hint. The commit has taken place, so a failure is mended later.
    async fn tell(&mut self, pass: &Pass<'_>) {
        let Some(known) = &self.known else { return };
        if let Err(error) = self.files.set_hint(known.standing.version).await {
            tracing::warn!(topic = %self.files.table.topic, %error, "the hint to the table's newest metadata lags behind");
            self.hint_is_behind = true;
        }
        (pass.step)("iceberg.hint-written");
    }

    fn tell_unusable(&self, reason: &Unusable) {
        tracing::warn!(topic = %self.files.table.topic, %reason, "the topic's table cannot be used and is recreated");
    }
}

/// Whether another node has made the commit that this node wanted to make.
fn is_lost_race(error: &LakeError) -> bool {
    match error {
        LakeError::Store(error) => error.kind == StoreErrorKind::AlreadyExists,
        LakeError::Overtaken(_) => true,
        _ => false,
    }
}
