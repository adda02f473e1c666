//! A replica whose disk has lost files.

use super::*;

/// Three records in segments of their own, the first two of which are archived and evicted; without what says where the log
/// starts.
async fn without_log_start() -> Replica {
    let replica = replica(1, 1).await;
    replica.follow(1, 5, &[1]);
    let log = &replica.partition.log;
    for _ in 0..3 {
        replica.append(1);
        log.roll().unwrap();
    }
    replica.flushed();
    replica.hot.checkpoint().unwrap();
    replica.partition.follow_ledger(Some(&Arc::new(archived(1, 2))));
    log.evict_below(2).unwrap();
    replica.hot.checkpoint().unwrap();
    let (dir, ledger, history) = (Arc::clone(&replica.dir), replica.partition.ledger(), log.dir().join("history"));
    drop(replica);
    std::fs::remove_file(history).unwrap();
    std::fs::remove_file(dir.path().join("checkpoint")).unwrap();
    std::fs::remove_dir_all(dir.path().join("journal")).unwrap();
    let replica = replica_in(dir, (1, 1), settings()).await;
    replica.partition.follow_ledger(ledger.as_ref());
    replica
}

#[tokio::test]
async fn a_replica_that_lost_its_log_start_takes_that_of_the_archive() {
    let replica = without_log_start().await;
    let (partition, log) = (&replica.partition, &replica.partition.log);
    assert_eq!((partition.log_start(), log.local_start(), log.log_end()), (0, 2, 3));
    assert!(partition.is_cold(0) && partition.hole().is_none(), "the archive has what readers may ask for");
    replica.follow(1, 6, &[1]);
    assert_eq!((partition.log_start(), log.log_start()), (0, 0), "a leader takes nothing of the archive away");
}

#[tokio::test]
async fn a_replica_that_lost_its_log_start_takes_that_of_the_metadata() {
    let replica = without_log_start().await;
    replica.follow_from(1, 1, 6, &[1]);
    assert_eq!((replica.partition.log_start(), replica.partition.log.local_start()), (1, 2));
}
