//! What goes wrong between a partition and its archive, in words, until it goes right again.
//!
//! One trouble per activity: its first and its last failure, how often, and when it is tried again. A success of the same
//! activity ends it; a failed read also ends with time, because nobody may ask for its offset again.

use std::collections::VecDeque;
use std::time::Duration;

use cold_tier::ReadError;
use model::{Offset, TimestampMs};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Pause after the first failure in a row; it doubles up to `firn.archive.retry.max.ms`.
const MIN_PAUSE: Duration = Duration::from_millis(500);
/// Closed segments of one partition whose waiting time is noted; later ones count as closed with the last of these.
const MAX_WAITING: usize = 1024;
/// A failed read that nobody repeats is no trouble any more after this time.
const READ_TROUBLE_TTL: Duration = Duration::from_secs(600);
/// Failed reads of a partition are logged once in this time, unless the reason changes.
const READ_LOG_PAUSE: Duration = Duration::from_secs(10);

/// What a partition does with its archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activity {
    /// Closed segments go to the object store.
    Archive,
    /// Consumers read what is only in the archive.
    Read,
    /// Total retention moves the log start.
    Retention,
    /// Objects that no manifest names are removed.
    Sweep,
    /// Archived segments leave the local disk.
    Evict,
}

/// How many activities there are.
const ACTIVITIES: usize = 5;
/// Pause after an eviction that failed.
const EVICTION_PAUSE: Duration = Duration::from_secs(5);

/// An activity that fails; times in ms since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Which.
    pub activity: Activity,
    /// The last failure.
    pub error: String,
    /// When it failed first.
    pub since_ms: TimestampMs,
    /// When it failed last.
    pub last_ms: TimestampMs,
    /// Failures in a row.
    pub attempts: u32,
    /// When it is tried again, where that is up to the broker and has a time of its own.
    pub next_attempt_ms: Option<TimestampMs>,
    /// First offset that could not be read.
    pub offset: Option<Offset>,
}

#[derive(Debug)]
struct Failing {
    activity: Activity,
    error: String,
    since: Instant,
    last: Instant,
    logged: Instant,
    /// Of what was logged.
    reason: String,
    attempts: u32,
    retry_at: Option<Instant>,
    offset: Option<Offset>,
}

/// How the archive of a partition is doing.
#[derive(Debug, Default)]
pub(crate) struct ArchiveHealth {
    failing: [Option<Failing>; ACTIVITIES],
    /// Ends of closed segments that are not archived, and when each was first seen closed; the oldest first.
    waiting: VecDeque<(Offset, TimestampMs)>,
    /// When something that writes objects failed last: what it sent may still arrive.
    failed_at: Option<Instant>,
}

impl ArchiveHealth {
    /// Notes up to where segments are closed and archived at `now`.
    pub(super) fn note(&mut self, closed_end: Offset, archived_end: Offset, now: TimestampMs) {
        while self.waiting.front().is_some_and(|(end, _)| *end <= archived_end) {
            self.waiting.pop_front();
        }
        let newest = self.waiting.back().map_or(archived_end, |(end, _)| *end);
        if closed_end > newest && self.waiting.len() < MAX_WAITING {
            self.waiting.push_back((closed_end, now));
        }
    }

    /// When the oldest closed segment that ends above `archived_end` was first seen closed.
    pub(super) fn waiting_since(&self, archived_end: Offset) -> Option<TimestampMs> {
        self.waiting.iter().find(|(end, _)| *end > archived_end).map(|(_, since)| *since)
    }

    /// True while archiving still pauses after a failure at this time.
    pub(super) fn pauses(&self, at: Instant) -> bool {
        let failing = self.failing[Activity::Archive as usize].as_ref();
        failing.and_then(|failing| failing.retry_at).is_some_and(|retry_at| at < retry_at)
    }

    /// True while evicting still pauses after a failure at this time.
    pub(super) fn pauses_eviction(&self, at: Instant) -> bool {
        let failing = self.failing[Activity::Evict as usize].as_ref();
        failing.is_some_and(|failing| at.saturating_duration_since(failing.last) < EVICTION_PAUSE)
    }

    /// Takes note of an attempt to archive that failed at this time, and answers the pause before the next. `spread`, from
    /// 0 to 1, keeps partitions that fail together from trying again together.
    pub(super) fn archiving_failed(
        &mut self,
        error: String,
        at: Instant,
        max_pause: Duration,
        spread: f64,
    ) -> Duration {
        let failing = self.failed(Activity::Archive, error, at, None);
        let doublings = failing.attempts.saturating_sub(1);
        let pause =
            MIN_PAUSE.saturating_mul(2_u32.saturating_pow(doublings)).min(max_pause).mul_f64(1.0 - spread / 2.0);
        failing.retry_at = Some(at + pause);
        pause
    }

    /// Takes note of a failed read at `offset`; true when it is worth a line in the log.
    pub(super) fn reading_failed(&mut self, error: &ReadError, at: Instant, offset: Offset) -> bool {
        self.note_reading_failed((reason(error), error.to_string()), at, offset)
    }

    /// As [`ArchiveHealth::reading_failed`], for an offset that neither tier has.
    pub(super) fn offset_missing(&mut self, error: String, at: Instant, offset: Offset) -> bool {
        self.note_reading_failed(("missing".to_owned(), error), at, offset)
    }

    fn note_reading_failed(&mut self, (reason, error): (String, String), at: Instant, offset: Offset) -> bool {
        let before = self.failing[Activity::Read as usize].as_ref();
        let is_news =
            before.is_none_or(|b| b.reason != reason || at.saturating_duration_since(b.logged) >= READ_LOG_PAUSE);
        let failing = self.failed(Activity::Read, error, at, Some(offset));
        if is_news {
            failing.logged = failing.last;
            failing.reason = reason;
        }
        is_news
    }

    /// Takes note of a failed attempt at anything else.
    pub(super) fn upkeep_failed(&mut self, activity: Activity, error: String, at: Instant) {
        self.failed(activity, error, at, None);
    }

    /// Whether something that writes objects has failed within `grace` before this time: the store may yet show an object of it.
    pub(super) fn may_arrive_late(&self, at: Instant, grace: Duration) -> bool {
        self.failed_at.is_some_and(|failed| at.saturating_duration_since(failed) <= grace)
    }

    /// The activity went right.
    pub(super) fn succeeded(&mut self, activity: Activity) {
        self.failing[activity as usize] = None;
    }

    /// Offsets `[from, next)` were read.
    pub(super) fn read(&mut self, from: Offset, next: Offset) {
        let failing = &mut self.failing[Activity::Read as usize];
        if failing.as_ref().is_some_and(|f| f.offset.is_none_or(|at| (from..next).contains(&at))) {
            *failing = None;
        }
    }

    /// What fails at this time, which is `now` on the wall, of a log that begins at `log_start`.
    pub(super) fn troubles(&self, log_start: Offset, at: Instant, now: TimestampMs) -> Vec<Trouble> {
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let ago = |then: Instant| now.saturating_sub(ms(at.saturating_duration_since(then)));
        let is_over = |f: &&Failing| {
            f.activity == Activity::Read
                && (at.saturating_duration_since(f.last) > READ_TROUBLE_TTL
                    || f.offset.is_some_and(|offset| offset < log_start))
        };
        let failing = self.failing.iter().flatten().filter(|f| !is_over(f));
        failing
            .map(|f| Trouble {
                activity: f.activity,
                error: f.error.clone(),
                since_ms: ago(f.since),
                last_ms: ago(f.last),
                attempts: f.attempts,
                next_attempt_ms: f.retry_at.map(|retry| now.saturating_add(ms(retry.saturating_duration_since(at)))),
                offset: f.offset,
            })
            .collect()
    }

    fn failed(&mut self, activity: Activity, error: String, at: Instant, offset: Option<Offset>) -> &mut Failing {
        if matches!(activity, Activity::Archive | Activity::Retention) {
            self.failed_at = Some(at);
        }
        let failing = self.failing[activity as usize].get_or_insert_with(|| Failing {
            activity,
            error: String::new(),
            since: at,
            last: at,
            logged: at,
            reason: String::new(),
            attempts: 0,
            retry_at: None,
            offset: None,
        });
        failing.error = error;
        failing.last = at;
        failing.attempts = failing.attempts.saturating_add(1);
        failing.offset = offset;
        failing
    }
}

/// The error without what differs from try to try, as the store's words on times and request ids do.
fn reason(error: &ReadError) -> String {
    match error {
        ReadError::Store(error) => format!("{} {} {:?}", error.operation, error.object, error.kind),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use cold_tier::{StoreError, StoreErrorKind};

    use super::*;

    fn missing(detail: &str) -> ReadError {
        let (object, detail) = ("a".to_owned(), detail.to_owned());
        ReadError::Store(StoreError { operation: "get_range", object, kind: StoreErrorKind::NotFound, detail })
    }

    fn damaged() -> ReadError {
        ReadError::Corrupt { object: "a".into(), offset: 50, reason: "checksum".into() }
    }

    const MAX: Duration = Duration::from_secs(8);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_the_bound_and_end_with_a_success() {
        let (mut health, at) = (ArchiveHealth::default(), Instant::now());
        let mut fail = |spread| health.archiving_failed("down".into(), at, MAX, spread).as_millis();
        let pauses: Vec<_> = (0..7).map(|_| fail(0.0)).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 8000, 8000]);
        assert!(health.pauses(at));
        let told = health.troubles(0, at, 1_000_000);
        assert_eq!((told[0].attempts, told[0].next_attempt_ms), (7, Some(1_008_000)));
        let later = at + 9 * SECOND;
        assert!(!health.pauses(later));
        let told = health.troubles(0, later, 1_009_000);
        assert_eq!((told[0].since_ms, told[0].last_ms), (1_000_000, 1_000_000));
        health.succeeded(Activity::Archive);
        assert!(health.troubles(0, later, 1_009_000).is_empty());
        assert_eq!(health.archiving_failed("down".into(), later, MAX, 1.0).as_millis(), 250);
    }

    #[test]
    fn what_a_failed_upload_sent_may_arrive_until_the_grace_period_is_over() {
        let (mut health, at, grace) = (ArchiveHealth::default(), Instant::now(), 60 * SECOND);
        health.upkeep_failed(Activity::Sweep, "down".into(), at);
        health.reading_failed(&missing("after 2 ms"), at, 50);
        assert!(!health.may_arrive_late(at, grace), "these write nothing");
        for (activity, at) in [(Activity::Archive, at), (Activity::Retention, at + 2 * grace)] {
            health.upkeep_failed(activity, "down".into(), at);
            health.succeeded(activity);
            assert!(health.may_arrive_late(at + grace, grace));
            assert!(!health.may_arrive_late(at + grace + SECOND, grace));
        }
    }

    #[test]
    fn a_failed_read_is_a_trouble_until_it_succeeds_or_is_past() {
        let (mut health, at) = (ArchiveHealth::default(), Instant::now());
        assert!(health.reading_failed(&missing("after 2 ms"), at, 50));
        assert!(!health.reading_failed(&missing("after 3 ms"), at, 50), "the log hears the same reason once");
        assert!(health.reading_failed(&damaged(), at, 50));
        let at = at + READ_LOG_PAUSE;
        assert!(health.reading_failed(&damaged(), at, 50));
        health.read(0, 50);
        assert_eq!(health.troubles(0, at, 0)[0].offset, Some(50));
        assert!(health.troubles(51, at, 0).is_empty(), "retention has passed it");
        health.read(40, 60);
        assert!(health.troubles(0, at, 0).is_empty());
        health.reading_failed(&missing("after 2 ms"), at, 50);
        assert!(health.troubles(0, at + READ_TROUBLE_TTL + SECOND, 0).is_empty());
    }
}
