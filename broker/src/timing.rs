//! The broker's clock and the bounds on how long a request may take. Nobody else asks for the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::TimestampMs;

/// Longest that a request waits, whatever the client asks for.
pub(crate) const MAX_REQUEST_TIMEOUT: Duration = Duration::from_secs(300);

/// Wall time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

impl Clock {
    /// Milliseconds since the epoch.
    #[must_use]
    pub fn now_ms(self) -> TimestampMs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

/// A request's own timeout in ms, bounded.
pub(crate) fn request_timeout(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0)).min(MAX_REQUEST_TIMEOUT)
}
