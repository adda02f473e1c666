//! The broker's clock and the bounds on how long a request may take. Nobody else asks for the time.
//!
//! Wall clocks jump: an operator sets one, a machine comes up in 1970 and is corrected, a hypervisor is wrong. So there are
//! three times, and each question has its own:
//!
//! | Time | Does it jump? | For |
//! |---|---|---|
//! | [`Clock::now_ms`] | with the wall clock | what people and clients see: timestamps of appends and commits |
//! | [`Clock::steady_ms`], tokio's `Instant` | never | durations: sessions, rebalances, deadlines, long polls |
//! | [`Clock::settled_ms`] | back at once, ahead an hour later | age: retention, eviction, sweep, closing of segments, expiry |
//!
//! The last one is our own: by the wall clock alone, one second in the wrong year would delete everything that is older
//! than `retention.ms`. A leap ahead is believed once it has lasted for an hour.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hot_tier::AppendTime;
use model::TimestampMs;
use parking_lot::Mutex;
use tracing::warn;

/// For so long a request waits that does not want to wait.
const DISK_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest that a request waits, whatever the client asks for.
pub(crate) const MAX_REQUEST_TIMEOUT: Duration = Duration::from_secs(300);
/// How far the wall clock may run ahead of the steady one between two looks before that is a leap.
const LEAP_MS: i64 = 60_000;
/// How long a leap ahead must last before it is believed.
const LEAP_HOLD: Duration = Duration::from_secs(3600);

/// The time, in its three kinds. Copies share what they know of leaps.
#[derive(Debug, Clone)]
pub struct Clock {
    started: Instant,
    started_ms: TimestampMs,
    settled: Arc<Mutex<Settled>>,
}

impl Default for Clock {
    fn default() -> Self {
        Clock { started: Instant::now(), started_ms: wall_ms(), settled: Arc::default() }
    }
}

impl Clock {
    /// Wall time, in milliseconds since the epoch.
    #[must_use]
    pub fn now_ms(&self) -> TimestampMs {
        wall_ms()
    }

    /// Milliseconds that never jump. They began with the wall time at the start, for readers of logs.
    #[must_use]
    pub fn steady_ms(&self) -> TimestampMs {
        let elapsed = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.started_ms.saturating_add(elapsed)
    }

    /// Wall time as far as it may be believed, in milliseconds since the epoch: to be asked before something is deleted.
    #[must_use]
    pub fn settled_ms(&self) -> TimestampMs {
        self.settled.lock().observe(self.steady_ms(), self.now_ms())
    }

    /// What an append is stamped with, and what its age is counted from.
    pub(crate) fn append_time(&self) -> AppendTime {
        AppendTime { stamp_ms: self.now_ms(), age_ms: self.settled_ms() }
    }
}

/// How far the wall clock is believed to be ahead of the steady one.
#[derive(Debug, Default)]
struct Settled {
    ahead_ms: i64,
    /// The steady time at which a leap was seen that is not believed yet.
    leap_since: Option<TimestampMs>,
}

impl Settled {
    fn observe(&mut self, steady_ms: TimestampMs, wall_ms: TimestampMs) -> TimestampMs {
        let ahead_ms = wall_ms.saturating_sub(steady_ms);
        let leap_ms = ahead_ms.saturating_sub(self.ahead_ms);
        if leap_ms <= LEAP_MS {
            self.believe(ahead_ms);
        } else {
            let since = *self.leap_since.get_or_insert_with(|| {
                warn!(
                    leap_s = leap_ms / 1000,
                    "the wall clock leapt ahead; nothing is deleted by age on its account for {LEAP_HOLD:?}"
                );
                steady_ms
            });
            if u128::try_from(steady_ms.saturating_sub(since)).unwrap_or(0) >= LEAP_HOLD.as_millis() {
                warn!(leap_s = leap_ms / 1000, "the wall clock stayed ahead and is believed from now on");
                self.believe(ahead_ms);
            }
        }
        steady_ms.saturating_add(self.ahead_ms)
    }

    fn believe(&mut self, ahead_ms: i64) {
        self.ahead_ms = ahead_ms;
        self.leap_since = None;
    }
}

fn wall_ms() -> TimestampMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A request's own timeout in ms, bounded. A request that does not want to wait at all waits for the disk all the same: it
/// would never succeed, where Kafka's, which waits for memory, may.
pub(crate) fn request_timeout(timeout_ms: i32) -> Duration {
    match u64::try_from(timeout_ms) {
        Ok(ms @ 1..) => Duration::from_millis(ms).min(MAX_REQUEST_TIMEOUT),
        _ => DISK_TIMEOUT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const YEAR: i64 = 365 * 24 * HOUR;

    #[test]
    fn a_leap_ahead_is_believed_after_an_hour() {
        let mut settled = Settled::default();
        assert_eq!(settled.observe(0, 0), 0);
        assert_eq!(settled.observe(1000, 1000 + YEAR), 1000);
        assert_eq!(settled.observe(HOUR, HOUR + YEAR), HOUR);
        assert_eq!(settled.observe(HOUR + 1000, HOUR + 1000 + YEAR), HOUR + 1000 + YEAR);
    }

    #[test]
    fn a_leap_that_is_taken_back_changes_nothing() {
        let mut settled = Settled::default();
        assert_eq!(settled.observe(1000, 1000 + YEAR), 1000);
        assert_eq!(settled.observe(2000, 2000), 2000);
        // The next one has its own hour.
        assert_eq!(settled.observe(HOUR, HOUR + YEAR), HOUR);
        assert_eq!(settled.observe(HOUR + 2000, HOUR + 2000 + YEAR), HOUR + 2000);
    }

    #[test]
    fn a_clock_that_is_set_back_or_drifts_is_followed() {
        let mut settled = Settled::default();
        assert_eq!(settled.observe(1000, 1000 - 5 * HOUR), 1000 - 5 * HOUR);
        for minute in 1..600 {
            // Half a minute too fast in every minute.
            let (steady, wall) = (1000 + minute * 60_000, 1000 - 5 * HOUR + minute * 90_000);
            assert_eq!(settled.observe(steady, wall), wall);
        }
    }
}
