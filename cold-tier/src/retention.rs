//! Which log start a topic's retention asks for. Nothing is deleted here: the caller commits a manifest with the new log
//! start, and the sweep takes the objects that it no longer names.

use std::ops::ControlFlow;

use model::archive::ManifestPointer;
use model::settings::TopicSettings;
use model::{NO_TIMESTAMP, Offset, TimestampMs};

use crate::error::ReadError;
use crate::manifest::ArchivedSegment;
use crate::tier::ColdTier;

/// Total retention of a partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetentionLimits {
    /// `retention.ms`; `None` is unlimited.
    pub retention_ms: Option<u64>,
    /// `retention.bytes`; `None` is unlimited.
    pub retention_bytes: Option<u64>,
}

impl From<&TopicSettings> for RetentionLimits {
    fn from(settings: &TopicSettings) -> Self {
        RetentionLimits { retention_ms: settings.retention_ms, retention_bytes: settings.retention_bytes }
    }
}

impl ColdTier {
    /// The log start that the limits ask for: the end of the last archived segment that must go, or the present log start.
    ///
    /// Segments go from the oldest on, as in Kafka: a segment whose largest timestamp is older than `retention_ms` (its
    /// archival time counts where no record has a timestamp), and a segment without which the partition still has
    /// `retention_bytes`. The size counts what the ledger has committed plus `local_record_bytes`, the bytes of local
    /// segments that are not archived; a failed or unfinished upload counts nothing.
    ///
    /// # Errors
    /// When a manifest cannot be read; then nothing may go.
    pub async fn retention_start(
        &self,
        pointer: &ManifestPointer,
        limits: RetentionLimits,
        local_record_bytes: u64,
        now: TimestampMs,
    ) -> Result<Offset, ReadError> {
        let mut start = pointer.log_start;
        if limits == RetentionLimits::default() {
            return Ok(start);
        }
        let mut size = pointer.record_bytes.saturating_add(local_record_bytes);
        let visit = |segment: &ArchivedSegment| {
            let too_large =
                limits.retention_bytes.is_some_and(|limit| size.saturating_sub(segment.record_bytes) >= limit);
            let too_old = limits.retention_ms.is_some_and(|limit| is_older(segment, limit, now));
            if !too_large && !too_old {
                return ControlFlow::Break(());
            }
            size = size.saturating_sub(segment.record_bytes);
            start = start.max(segment.next_offset);
            ControlFlow::Continue(())
        };
        self.inner.manifests.each(pointer, pointer.log_start, |_| true, visit).await?;
        Ok(start)
    }
}

fn is_older(segment: &ArchivedSegment, limit_ms: u64, now: TimestampMs) -> bool {
    // Times before 1970 say nothing of a record's age, as in Kafka and in the hot tier.
    let newest = if segment.max_timestamp <= NO_TIMESTAMP { segment.archived_at } else { segment.max_timestamp };
    now.saturating_sub_unsigned(limit_ms) > newest
}
