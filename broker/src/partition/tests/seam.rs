//! Lookups while records move from the local disk to the archive.

use cold_tier::{ArchiveOptions, ManifestChange};
use model::batch::Compression;
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};

use super::*;

/// Archives the segment that begins at `from`; the partition does not learn of it.
async fn archive(
    replica: &Replica,
    archiver: &ColdTier,
    from: Offset,
    before: Option<&ManifestPointer>,
) -> ManifestPointer {
    let segment = replica.partition.log.sealed_segments(from, from + 1).unwrap().remove(0);
    let (attempt, leader_epoch) = (Uuid::new_v4(), 1);
    let options = ArchiveOptions { codec: Compression::None, attempt, leader_epoch, now: 0, from: None };
    let object = archiver.archive(&[segment], options).await.unwrap();
    let change = ManifestChange { append: vec![object], log_start: None, leader_epoch, attempt };
    archiver.write_manifest(&id(), &replica.partition.topic, before, change).await.unwrap()
}

#[tokio::test]
async fn a_lookup_by_time_finds_a_record_that_moves_to_the_archive_meanwhile() {
    let store = Arc::new(ThrottledStore::new(InMemory::new(), ThrottleConfig::default()));
    let tier = || {
        let config = cold_tier::Config { cluster_id: "c".to_owned(), ..cold_tier::Config::default() };
        ColdTier::with_store(config, store.clone()).unwrap()
    };
    // The partition's own has nothing in its caches.
    let (archiver, replica) =
        (tier(), replica_over(tier(), Arc::new(tempfile::tempdir().unwrap()), (1, 1), settings()));
    let (partition, log) = (Arc::clone(&replica.partition), &replica.partition.log);
    replica.follow(1, 1, &[1]);
    for timestamp in [10, 20, 30] {
        let mut batch = BatchBuilder::new(BatchFacts::default());
        batch.append(&NewRecord { offset: 0, timestamp, key: None, value: None, headers: &[] });
        let batch = ValidatedBatch::from_own(batch.finish().unwrap()).unwrap();
        partition.append(vec![batch], AppendTime::from(0)).unwrap();
        log.roll().unwrap();
    }
    replica.flushed();
    replica.hot.checkpoint().unwrap();
    let first = archive(&replica, &archiver, 0, None).await;
    let second = archive(&replica, &archiver, 1, Some(&first)).await;
    partition.follow_ledger(Some(&Arc::new(first)));
    log.evict_below(1).unwrap();

    store.config_mut(|config| config.wait_get_per_call = Duration::from_millis(100));
    let looking = tokio::spawn({
        let partition = Arc::clone(&partition);
        async move { partition.offset_at(20).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    partition.follow_ledger(Some(&Arc::new(second)));
    log.evict_below(2).unwrap();
    assert_eq!(log.local_start(), 2);
    store.config_mut(|config| config.wait_get_per_call = Duration::ZERO);
    let found = looking.await.unwrap().unwrap().unwrap();
    assert_eq!((found.offset, found.timestamp), (1, 20));
}
