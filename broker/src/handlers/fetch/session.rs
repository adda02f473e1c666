//! Incremental fetch sessions (KIP-227): a client names its partitions once and then only says what changed.
//!
//! Invariants: a session's epoch grows with every request; a request with another epoch is refused, so a lost reply
//! cannot desynchronise both sides; at most `slots` sessions are kept, of `most_bytes` in all, and one is only evicted for
//! a newer one after it has been idle for [`EVICTION_IDLE`]. A client that gets or keeps no session names its partitions
//! in every fetch.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use model::{LeaderEpoch, Offset, PartitionIndex, TopicId};
use parking_lot::Mutex;
use protocol::{ErrorCode, Str};

/// Kafka's `min.incremental.fetch.session.eviction.ms`.
const EVICTION_IDLE: Duration = Duration::from_secs(120);
/// What a session takes, and each of its partitions without its topic's name, in bytes.
const SESSION_BYTES: usize = 512;
const PARTITION_BYTES: usize = 320;
/// "I want no session, or close mine."
const FINAL_EPOCH: i32 = -1;
/// "Here is a full list of partitions; give me a session."
const INITIAL_EPOCH: i32 = 0;

/// Whose records are wanted. Clients before version 13 know names only, later ones ids only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// The topic's id, zero when the client speaks names.
    pub(crate) topic_id: TopicId,
    /// The topic's name, empty when the client speaks ids.
    pub(crate) topic: Str,
    /// Which partition.
    pub(crate) partition: PartitionIndex,
}

/// What is wanted of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The leader epoch that the client believes in, or −1.
    pub(crate) current_leader_epoch: LeaderEpoch,
    /// First offset.
    pub(crate) fetch_offset: Offset,
    /// Epoch of the record before `fetch_offset`, or −1 (KIP-595: divergence is found by it).
    pub(crate) last_fetched_epoch: LeaderEpoch,
    /// First offset that the follower would show to readers.
    pub(crate) log_start: Offset,
    /// What the follower knows to be committed (KIP-1166); the largest number when it does not wait for news of it.
    pub(crate) high_watermark: Offset,
    /// Most bytes for this partition.
    pub(crate) max_bytes: usize,
}

/// The last answer about a partition: an incremental reply leaves out partitions without changes and without records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Told {
    /// High watermark.
    pub(crate) high_watermark: Offset,
    /// Log start offset.
    pub(crate) log_start: Offset,
}

#[derive(Debug)]
struct Session {
    epoch: i32,
    partitions: IndexMap<Target, (Wanted, Option<Told>)>,
    first: usize,
    used: Instant,
    bytes: usize,
    all_bytes: Arc<AtomicUsize>,
}

impl Session {
    /// Counts what it takes now.
    fn weigh(&mut self) {
        let bytes = SESSION_BYTES + self.partitions.keys().map(target_bytes).sum::<usize>();
        self.all_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.all_bytes.fetch_sub(std::mem::replace(&mut self.bytes, bytes), Ordering::Relaxed);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.all_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Names are counted for each partition: each may have come in a request of its own.
fn target_bytes(target: &Target) -> usize {
    PARTITION_BYTES + target.topic.len()
}

/// The session that a fetch runs in.
#[derive(Debug)]
pub(crate) struct FetchContext {
    /// Id for the reply; 0 when there is no session.
    pub(crate) session_id: i32,
    /// What to read, in the order to read it in: rotated from fetch to fetch so that no partition starves.
    pub(crate) partitions: Vec<(Target, Wanted)>,
    session: Option<Arc<Mutex<Session>>>,
    is_incremental: bool,
}

impl FetchContext {
    /// How many partitions are read.
    pub(crate) fn size(&self) -> usize {
        self.session.as_ref().map_or(self.partitions.len(), |session| session.lock().partitions.len())
    }

    /// Fills in the partitions of an incremental fetch, which take memory.
    pub(crate) fn list_partitions(&mut self) {
        let Some(session) = self.session.as_ref().filter(|_| self.is_incremental) else { return };
        let session = session.lock();
        let count = session.partitions.len();
        let rotated = session.partitions.iter().cycle().skip(session.first).take(count);
        self.partitions = rotated.map(|(target, (wanted, _))| (target.clone(), *wanted)).collect();
    }

    /// Notes what the reply tells of `target`; answers whether the reply must mention it although it has no records.
    pub(crate) fn note(&self, target: &Target, told: Option<Told>) -> bool {
        let Some(session) = &self.session else { return true };
        let mut session = session.lock();
        let Some((_, last)) = session.partitions.get_mut(target) else { return true };
        let has_changed = told.is_none() || *last != told;
        *last = told;
        has_changed || !self.is_incremental
    }
}

/// Changes to a session's partitions, or a full list.
#[derive(Debug)]
pub(crate) struct SessionRequest {
    /// Session id, 0 for none.
    pub(crate) session_id: i32,
    /// Session epoch.
    pub(crate) epoch: i32,
    /// Partitions to add or change.
    pub(crate) wanted: Vec<(Target, Wanted)>,
    /// Partitions to drop.
    pub(crate) forgotten: Vec<Target>,
}

/// All sessions of a broker.
#[derive(Debug)]
pub(crate) struct FetchSessions {
    slots: usize,
    most_bytes: usize,
    /// What all sessions take, also those that were removed while a fetch still uses them.
    all_bytes: Arc<AtomicUsize>,
    sessions: Mutex<HashMap<i32, Arc<Mutex<Session>>>>,
}

impl FetchSessions {
    /// Keeps at most `slots` sessions, of at most `most_bytes` in all.
    pub(crate) fn new(slots: usize, most_bytes: usize) -> Self {
        FetchSessions { slots, most_bytes, all_bytes: Arc::default(), sessions: Mutex::default() }
    }

    /// Number of sessions.
    pub(crate) fn len(&self) -> usize {
        self.sessions.lock().len()
    }

    /// Opens, continues or closes a session; `new_id` is a random positive number.
    ///
    /// # Errors
    /// `FETCH_SESSION_ID_NOT_FOUND` and `INVALID_FETCH_SESSION_EPOCH`: the client starts over with a full fetch.
    pub(crate) fn enter(&self, request: SessionRequest, new_id: i32, now: Instant) -> Result<FetchContext, ErrorCode> {
        match request.epoch {
            FINAL_EPOCH => {
                self.sessions.lock().remove(&request.session_id);
                Ok(FetchContext { session_id: 0, partitions: request.wanted, session: None, is_incremental: false })
            }
            INITIAL_EPOCH => Ok(self.open(request, new_id, now)),
            _ => self.resume(request, now),
        }
    }

    fn open(&self, request: SessionRequest, new_id: i32, now: Instant) -> FetchContext {
        let partitions = request.wanted.clone();
        let bytes = SESSION_BYTES + request.wanted.iter().map(|(target, _)| target_bytes(target)).sum::<usize>();
        let mut sessions = self.sessions.lock();
        sessions.remove(&request.session_id);
        if sessions.contains_key(&new_id) || !self.make_place(&mut sessions, bytes, now) {
            return FetchContext { session_id: 0, partitions, session: None, is_incremental: false };
        }
        let mut session = Session {
            epoch: INITIAL_EPOCH + 1,
            partitions: request.wanted.into_iter().map(|(target, wanted)| (target, (wanted, None))).collect(),
            first: 0,
            used: now,
            bytes: 0,
            all_bytes: Arc::clone(&self.all_bytes),
        };
        session.weigh();
        let session = Arc::new(Mutex::new(session));
        sessions.insert(new_id, Arc::clone(&session));
        FetchContext { session_id: new_id, partitions, session: Some(session), is_incremental: false }
    }

    /// Evicts idle sessions until there is a place for one of that size; false when there is none.
    fn make_place(&self, sessions: &mut HashMap<i32, Arc<Mutex<Session>>>, bytes: usize, now: Instant) -> bool {
        let is_full = |count: usize| {
            count >= self.slots || self.all_bytes.load(Ordering::Relaxed).saturating_add(bytes) > self.most_bytes
        };
        if !is_full(sessions.len()) {
            return true;
        }
        let used = |(id, session): (&i32, &Arc<Mutex<Session>>)| (session.lock().used, *id);
        let mut oldest: Vec<(Instant, i32)> = sessions.iter().map(used).collect();
        oldest.sort_unstable();
        for (_, id) in oldest.into_iter().take_while(|(used, _)| now.duration_since(*used) >= EVICTION_IDLE) {
            sessions.remove(&id);
            if !is_full(sessions.len()) {
                return true;
            }
        }
        false
    }

    fn resume(&self, request: SessionRequest, now: Instant) -> Result<FetchContext, ErrorCode> {
        let found = self.sessions.lock().get(&request.session_id).cloned();
        let session = found.ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let mut guard = session.lock();
        if guard.epoch != request.epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        guard.epoch = if request.epoch == i32::MAX { 1 } else { request.epoch + 1 };
        guard.used = now;
        if !request.forgotten.is_empty() {
            let forgotten: HashSet<Target> = request.forgotten.into_iter().collect();
            guard.partitions.retain(|target, _| !forgotten.contains(target));
        }
        let before = guard.partitions.len();
        for (target, wanted) in request.wanted {
            let slot = guard.partitions.entry(target).or_insert((wanted, None));
            slot.0 = wanted;
        }
        let count = guard.partitions.len();
        guard.first = if count == 0 { 0 } else { (guard.first + 1) % count };
        guard.weigh();
        drop(guard);
        if count > before && self.all_bytes.load(Ordering::Relaxed) > self.most_bytes {
            self.sessions.lock().remove(&request.session_id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        let session_id = request.session_id;
        Ok(FetchContext { session_id, partitions: Vec::new(), session: Some(session), is_incremental: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(partition: i32) -> Target {
        Target { topic_id: TopicId::ZERO, topic: Str::from("t"), partition }
    }

    fn wanted(fetch_offset: i64) -> Wanted {
        Wanted {
            current_leader_epoch: -1,
            fetch_offset,
            last_fetched_epoch: -1,
            log_start: -1,
            high_watermark: Offset::MAX,
            max_bytes: 1,
        }
    }

    fn request(session_id: i32, epoch: i32, wanted: Vec<(Target, Wanted)>) -> SessionRequest {
        SessionRequest { session_id, epoch, wanted, forgotten: Vec::new() }
    }

    #[test]
    fn a_session_remembers_partitions_and_tells_only_changes() {
        let sessions = FetchSessions::new(10, 1 << 20);
        let now = Instant::now();
        let full = vec![(target(0), wanted(5)), (target(1), wanted(6))];
        let context = sessions.enter(request(0, 0, full), 77, now).unwrap();
        assert_eq!(context.session_id, 77);
        let told = Some(Told { high_watermark: 9, log_start: 0 });
        assert!(context.note(&target(0), told), "a full fetch mentions every partition");
        let mut context = sessions.enter(request(77, 1, vec![(target(1), wanted(8))]), 0, now).unwrap();
        context.list_partitions();
        assert_eq!(context.partitions, [(target(1), wanted(8)), (target(0), wanted(5))]);
        assert!(!context.note(&target(0), told));
        assert!(context.note(&target(0), Some(Told { high_watermark: 10, log_start: 0 })));
        assert!(context.note(&target(0), None), "an error is always told");
    }

    #[test]
    fn wrong_ids_and_epochs_are_refused() {
        let sessions = FetchSessions::new(10, 1 << 20);
        let now = Instant::now();
        assert_eq!(sessions.enter(request(3, 4, vec![]), 1, now).unwrap_err(), ErrorCode::FetchSessionIdNotFound);
        sessions.enter(request(0, 0, vec![]), 9, now).unwrap();
        assert_eq!(sessions.enter(request(9, 2, vec![]), 1, now).unwrap_err(), ErrorCode::InvalidFetchSessionEpoch);
        assert!(sessions.enter(request(9, 1, vec![]), 1, now).is_ok());
        sessions.enter(request(9, -1, vec![]), 1, now).unwrap();
        assert_eq!(sessions.len(), 0);
    }

    #[test]
    fn a_full_cache_evicts_only_what_is_idle() {
        let sessions = FetchSessions::new(1, 1 << 20);
        let start = Instant::now();
        sessions.enter(request(0, 0, vec![]), 1, start).unwrap();
        assert_eq!(sessions.enter(request(0, 0, vec![]), 2, start).unwrap().session_id, 0);
        let later = start + EVICTION_IDLE;
        assert_eq!(sessions.enter(request(0, 0, vec![]), 3, later).unwrap().session_id, 3);
        assert_eq!(sessions.len(), 1);
    }

    #[test]
    fn the_partitions_of_all_sessions_are_bounded_in_bytes() {
        let many = |from: i32, count: i32| (from..from + count).map(|index| (target(index), wanted(0))).collect();
        let sessions = FetchSessions::new(10, 1 << 20);
        let now = Instant::now();
        assert_eq!(sessions.enter(request(0, 0, many(0, 1500)), 1, now).unwrap().session_id, 1);
        assert_eq!(sessions.enter(request(0, 0, many(0, 3000)), 2, now).unwrap().session_id, 0, "it would be too much");
        assert_eq!(sessions.enter(request(0, 0, many(0, 1500)), 3, now).unwrap().session_id, 3);
        let grown = sessions.enter(request(3, 1, many(5000, 1000)), 0, now);
        assert_eq!(grown.unwrap_err(), ErrorCode::FetchSessionIdNotFound, "it has grown too large");
        assert_eq!(sessions.len(), 1);
        sessions.enter(request(1, -1, vec![]), 0, now).unwrap();
        assert_eq!(sessions.all_bytes.load(Ordering::Relaxed), 0, "everything came back");
    }
}
