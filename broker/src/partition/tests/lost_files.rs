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

/// Four records in segments of their own, nothing archived, without the file of one of them.
async fn without_segment(base: Offset) -> Replica {
    let local = || Arc::new(TopicSettings { remote_storage_enable: false, ..(*settings()).clone() });
    let replica = replica_in(Arc::new(tempfile::tempdir().unwrap()), (1, 1), local()).await;
    replica.follow(1, 5, &[1]);
    let log = &replica.partition.log;
    for _ in 0..4 {
        replica.append(1);
        log.roll().unwrap();
    }
    replica.flushed();
    let (dir, file) = (Arc::clone(&replica.dir), log.dir().join(format!("{base:020}.log")));
    drop(replica);
    std::fs::remove_file(file).unwrap();
    replica_in(dir, (1, 1), local()).await
}

#[tokio::test]
async fn lost_segments_are_refused_counted_and_mended_also_at_the_head() {
    for base in [0, 1, 3] {
        let replica = without_segment(base).await;
        replica.follow(1, 6, &[1]);
        let partition = &replica.partition;
        assert_eq!((partition.log_start(), partition.log.log_end()), (0, 4));
        assert!(partition.is_damaged());
        assert_eq!(partition.lost(), Some(base..base + 1));
        assert_eq!(partition.damage_to_mend(Instant::now() + Duration::from_secs(1)), Some(base));
        for from in 0..4 {
            let request = ReadRequest { from, max_bytes: 1, min_one: true, deadline: soon() };
            match partition.read(request).await {
                Ok(read) => assert!(from != base && read.size_bytes() > 0, "{from}"),
                Err(failure) => assert!(from == base && matches!(failure, ReadFailure::Damaged(_)), "{failure}"),
            }
        }
        partition.log.advance_log_start(base + 1).unwrap();
        assert!(partition.lost().is_none(), "what was deleted is not missed");
    }
}

#[tokio::test]
async fn records_that_the_archive_has_are_not_lost() {
    let replica = without_segment(1).await;
    replica.partition.follow_ledger(Some(&Arc::new(archived(1, 2))));
    replica.follow(1, 6, &[1]);
    assert_eq!(replica.partition.lost(), None);
    let replica = without_segment(1).await;
    replica.partition.follow_ledger(Some(&Arc::new(archived(1, 1))));
    replica.follow(1, 6, &[1]);
    assert_eq!(replica.partition.lost(), Some(1..2));
}
