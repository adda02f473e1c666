//! The two times of a decision.

use model::TimestampMs;

/// When something is decided: by a clock that never jumps, and by the calendar.
///
/// Deadlines live in memory and count durations, so a wall clock that is set must not move them. What is persisted and
/// compared across restarts needs the calendar: when offsets were committed, since when a group is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never jumps, from any origin.
    pub steady_ms: TimestampMs,
    /// Milliseconds since the epoch.
    pub calendar_ms: TimestampMs,
}

impl From<TimestampMs> for Now {
    /// Both clocks agree.
    fn from(ms: TimestampMs) -> Self {
        Now { steady_ms: ms, calendar_ms: ms }
    }
}
