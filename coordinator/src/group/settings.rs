//! Settings of the group coordinator, under Kafka's names.

/// What the broker is set to. Defaults are Kafka's, and bounds of our own where Kafka has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members before its first rebalance.
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`: members of one group.
    pub max_size: usize,
    /// Protocols that one member may offer; Kafka's clients offer one to three.
    pub max_protocols: usize,
    /// Member ids that one group hands out before the first of them joins or lapses.
    pub max_pending_members: usize,
    /// Bytes that the ids take which all groups of one partition of `__consumer_offsets` have handed out and no member has
    /// joined with yet. Beyond it the oldest are forgotten.
    pub max_pending_bytes: usize,
    /// `offset.metadata.max.bytes`: UTF-16 units of one commit's metadata text.
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval_ms: i64,
    /// How long a brand-new member may wait in JoinGroup before it is taken for gone; Kafka's constant.
    pub new_member_join_timeout_ms: i32,
    /// Groups that one partition of `__consumer_offsets` may hold in memory.
    pub max_groups: usize,
    /// Records that one sweep of expired offsets may write.
    pub max_expired_per_sweep: usize,
    /// Bytes that a decision which the time or a deleted topic causes may write, roughly. Must be below `max.message.bytes`.
    pub max_cleanup_bytes: usize,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            max_size: 0x7fff_ffff,
            max_protocols: 100,
            max_pending_members: 10_000,
            max_pending_bytes: 4 << 20,
            offset_metadata_max_bytes: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1_000,
            offsets_retention_check_interval_ms: 600_000,
            new_member_join_timeout_ms: 300_000,
            max_groups: 100_000,
            max_expired_per_sweep: 10_000,
            max_cleanup_bytes: 256 << 10,
        }
    }
}
