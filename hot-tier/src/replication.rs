//! The pure arithmetic of replication: what the replicas' flushed ends say about the log.

use model::Offset;

/// The high watermark: what every in-sync replica has on stable storage, and what was committed before.
///
/// `leader_flushed_end` is the leader's own, `follower_ends` those of the other in-sync replicas. It never moves
/// backwards: `current` is what was answered before. It does not pass the leader's end either, which is only possible
/// when a caller mixes up logs; then it stays.
#[must_use]
pub fn high_watermark(
    current: Offset,
    leader_flushed_end: Offset,
    follower_ends: impl IntoIterator<Item = Offset>,
) -> Offset {
    follower_ends.into_iter().fold(leader_flushed_end, Offset::min).max(current)
}

/// True when a write that ends at `required_end` may be acknowledged to `acks=all`: it is committed, and enough replicas
/// are in sync (`min.insync.replicas`, the leader included).
#[must_use]
pub fn is_acknowledged(
    required_end: Offset,
    high_watermark: Offset,
    in_sync_replicas: usize,
    min_in_sync_replicas: u32,
) -> bool {
    let enough = usize::try_from(min_in_sync_replicas).is_ok_and(|min| in_sync_replicas >= min);
    enough && high_watermark >= required_end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_in_sync_replica_decides() {
        assert_eq!(high_watermark(0, 10, [7, 9]), 7);
        assert_eq!(high_watermark(0, 5, [7, 9]), 5);
    }

    #[test]
    fn a_leader_alone_commits_what_it_has_flushed() {
        assert_eq!(high_watermark(0, 10, []), 10);
    }

    #[test]
    fn the_high_watermark_never_moves_backwards() {
        assert_eq!(high_watermark(8, 10, [3]), 8, "a replica that just joined the in-sync replicas is behind");
    }

    #[test]
    fn an_acknowledgement_needs_the_watermark_and_enough_replicas() {
        assert!(is_acknowledged(10, 10, 1, 1));
        assert!(!is_acknowledged(10, 9, 1, 1));
        assert!(!is_acknowledged(10, 10, 1, 2));
    }
}
