//! Pauses that grow while something fails.

use std::time::{Duration, Instant};

/// How a pause grows: doubled with each failure, from `first` to `longest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// After the first failure.
    pub(super) first: Duration,
    /// The longest.
    pub(super) longest: Duration,
}

/// The leader is not there, or says that it does not lead: the next image of the metadata tells.
pub(super) const WAITING: Pace = Pace { first: Duration::from_millis(20), longest: Duration::from_secs(1) };
/// Something is broken and must be mended by somebody.
pub(super) const BROKEN: Pace = Pace { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
/// An answer for one partition alone cannot be taken: the link may be at fault as well as the partition.
pub(super) const ALONE: Pace = Pace { first: Duration::from_secs(1), longest: Duration::from_secs(8) };

/// Whether something may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Pause {
    /// Failures of the same pace in a row.
    failures: u32,
    pace: Option<Pace>,
    until: Option<Instant>,
}

impl Pause {
    /// It failed at `now`. Answers how long it rests.
    pub(super) fn failed(&mut self, pace: Pace, now: Instant) -> Duration {
        if self.pace != Some(pace) {
            (self.pace, self.failures) = (Some(pace), 0);
        }
        let factor = 1_u32.checked_shl(self.failures.min(20)).unwrap_or(u32::MAX);
        let pause = pace.first.saturating_mul(factor).min(pace.longest);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + pause);
        pause
    }

    /// It works.
    pub(super) fn succeeded(&mut self) {
        *self = Pause::default();
    }

    /// When it may be tried, if that is later than `now`.
    pub(super) fn rests_until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_up_to_its_longest_and_ends_with_a_success() {
        let now = Instant::now();
        let mut pause = Pause::default();
        assert_eq!(pause.rests_until(now), None);
        let paces: Vec<u64> = (0..8).map(|_| u64::try_from(pause.failed(WAITING, now).as_millis()).unwrap()).collect();
        assert_eq!(paces, [20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(pause.rests_until(now), Some(now + WAITING.longest));
        assert_eq!(pause.rests_until(now + WAITING.longest), None);
        assert_eq!(pause.failed(BROKEN, now), BROKEN.first, "how often it waited says nothing of this");
        pause.succeeded();
        assert_eq!(pause.failed(BROKEN, now), BROKEN.first);
        for _ in 0..100 {
            pause.failed(BROKEN, now);
        }
        assert_eq!(pause.failed(BROKEN, now), BROKEN.longest);
    }
}
