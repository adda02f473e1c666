//! New leaders whose logs may not be what was archived.

use model::segment::EpochStart;

use super::*;

/// Leader of epoch 4 for ten records; then node 2 leads in epoch 5 and archives up to offset 6.
async fn replaced_leader() -> Replica {
    let replica = replica(1, 1).await;
    replica.follow(1, 4, &[1, 2]);
    replica.append(10);
    replica.flushed();
    replica.follow(2, 5, &[2]);
    archive(&replica);
    replica
}

/// The ledger of an archive up to offset 6, made in epoch 5.
fn archive(replica: &Replica) {
    replica.partition.follow_ledger(Some(&Arc::new(archived(1, 6))));
}

fn refuses(replica: &Replica) -> bool {
    let refused = replica.partition.append(vec![batch(1)], AppendTime::from(0));
    matches!(refused, Err(NotAccepted::NotLeader))
}

#[tokio::test]
async fn an_unclean_leader_gives_way_to_the_archive_where_its_log_is_of_another_lineage() {
    let unclean = replaced_leader().await;
    unclean.follow(1, 6, &[1]);
    assert!(refuses(&unclean), "its records from 4 on may be others than the archived ones");
    assert_eq!(unclean.partition.high_watermark(), 6, "only the archive is certainly committed");
    let archived = EpochStart { leader_epoch: 5, start_offset: 4 };
    unclean.partition.settle_lineage(6, 6, Some(archived)).unwrap();
    let log = &unclean.partition.log;
    assert_eq!((unclean.partition.log_start(), log.local_start(), log.log_end()), (0, 6, 6));
    assert_eq!(unclean.append(1).appended.base_offset, 6);
    assert_eq!(log.epochs(), [EpochStart { leader_epoch: 6, start_offset: 6 }]);
}

#[tokio::test]
async fn an_unclean_leader_keeps_a_log_that_continues_the_archive() {
    let unclean = replaced_leader().await;
    unclean.follow(1, 6, &[1]);
    assert!(refuses(&unclean));
    // Node 2 has archived what the leader before it wrote.
    let archived = EpochStart { leader_epoch: 4, start_offset: 0 };
    unclean.partition.settle_lineage(5, 6, Some(archived)).unwrap();
    assert!(refuses(&unclean), "that was found out in another term");
    unclean.partition.settle_lineage(6, 6, Some(archived)).unwrap();
    assert_eq!((unclean.partition.log.local_start(), unclean.partition.high_watermark()), (0, 10));
    assert_eq!(unclean.append(1).appended.base_offset, 10);
}

#[tokio::test]
async fn a_leader_elected_from_the_in_sync_replicas_does_not_wait_for_the_archive() {
    let clean = replaced_leader().await;
    clean.follow(2, 5, &[1, 2]);
    clean.follow(1, 6, &[1]);
    assert_eq!(clean.append(1).appended.base_offset, 10);
    let with_follower = replaced_leader().await;
    with_follower.follow(1, 6, &[1, 3]);
    assert_eq!(with_follower.append(1).appended.base_offset, 10);
}

/// Leader of epoch 4 for ten records, alone in sync, which has archived up to offset 6 in epoch 5.
async fn archived_alone() -> Replica {
    let replica = replica(1, 1).await;
    replica.follow(1, 4, &[1]);
    replica.append(10);
    replica.flushed();
    replica.follow(1, 5, &[1]);
    archive(&replica);
    replica
}

#[tokio::test]
async fn a_restarted_leader_that_was_alone_in_sync_does_not_wait_for_the_store() {
    let restarted = archived_alone().await.restarted().await;
    restarted.follow(1, 6, &[1]);
    assert_eq!(restarted.partition.high_watermark(), 10);
    assert_eq!(restarted.append(1).appended.base_offset, 10);
    // Nor after the next restart, nor when it has archived again.
    let again = restarted.restarted().await;
    again.follow(1, 7, &[1]);
    assert_eq!(again.append(1).appended.base_offset, 11);
}

#[tokio::test]
async fn a_restarted_leader_that_another_one_had_replaced_waits_for_the_store() {
    let restarted = replaced_leader().await.restarted().await;
    restarted.follow(1, 6, &[1]);
    assert!(refuses(&restarted), "its records from 4 on may be others than the archived ones");
}
