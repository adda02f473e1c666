//! Caching, sharing and read-ahead.

use std::sync::Arc;
use std::time::Duration;

use cold_tier::{ColdTier, Config};

use super::support::*;

async fn archived(config: Config, count: usize) -> (Arc<Faulty>, ColdTier, model::archive::ManifestPointer, Vec<Seen>) {
    let store = Faulty::new();
    let built = [simple(0, count, 200), simple(count as i64, count, 200)];
    let writer = ColdTier::with_store(super::support::config(), store.clone()).unwrap();
    let pointer = archive_all(&writer, &built).await;
    let tier = ColdTier::with_store(config, store.clone()).unwrap();
    store.plan(|_, _, _| None);
    (store, tier, pointer, built.iter().flat_map(|b| b.seen.clone()).collect())
}

fn gets(store: &Faulty) -> usize {
    store.log().iter().filter(|(operation, name)| operation == "get" && name.ends_with(".parquet")).count()
}

#[tokio::test]
async fn concurrent_readers_of_a_chunk_share_its_requests() {
    let (store, tier, pointer, _) = archived(config(), 500).await;
    store.plan(|_, _, _| Some(Fault::Stall(30)));
    let readers = (0..50).map(|_| tier.read(partition(), &pointer, fetch(100)));
    for read in futures::future::join_all(readers).await {
        assert!(!read.unwrap().records.is_empty());
    }
    assert!(gets(&store) <= 3, "{} requests", gets(&store));
}

#[tokio::test]
async fn a_chunk_that_was_read_is_not_fetched_again() {
    let (store, tier, pointer, seen) = archived(config(), 500).await;
    assert_eq!(read_all(&tier, &pointer, 0).await.unwrap(), seen);
    let before = gets(&store);
    assert_eq!(read_all(&tier, &pointer, 0).await.unwrap(), seen);
    assert_eq!(gets(&store), before);
    assert!(tier.cache_stats().chunk_bytes > 0);
}

#[tokio::test]
async fn a_sequential_reader_is_read_ahead_of_across_objects_and_needs_few_requests() {
    let (store, tier, pointer, seen) = archived(config(), 2000).await;
    let mut request = fetch(0);
    request.max_bytes = 4096;
    store.plan(|_, _, _| Some(Fault::Stall(2)));
    assert_eq!(read_with(&tier, &pointer, request).await.unwrap(), seen);
    let with_ahead = gets(&store);

    let without = ColdTier::with_store(Config { read_ahead_max_bytes: 0, ..config() }, store.clone()).unwrap();
    store.plan(|_, _, _| None);
    assert_eq!(read_with(&without, &pointer, request).await.unwrap(), seen);
    let without_ahead = gets(&store);
    assert!(with_ahead * 3 < without_ahead, "{with_ahead} requests with read-ahead, {without_ahead} without");
}

#[tokio::test]
async fn a_single_random_read_fetches_one_chunk() {
    let (store, tier, pointer, _) = archived(config(), 2000).await;
    let mut request = fetch(1234);
    request.max_bytes = 1;
    tier.read(partition(), &pointer, request).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(tier.cache_stats().chunks_loading, 0);
    // One footer, and the chunk's pages in one coalesced request.
    assert_eq!(gets(&store), 2);
}

#[tokio::test]
async fn every_reader_makes_progress_however_small_the_cache() {
    for cache_bytes in [0, 1 << 10, 40 << 10] {
        let (_, tier, pointer, seen) = archived(Config { cache_bytes, ..config() }, 400).await;
        let seen = Arc::new(seen);
        let readers = (0..16).map(|i| {
            let (tier, pointer, seen) = (tier.clone(), pointer.clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                let mut request = fetch(i * 40);
                request.max_bytes = 1000;
                let read = read_with(&tier, &pointer, request).await.unwrap();
                assert_eq!(read, seen[usize::try_from(i).unwrap() * 40..]);
            })
        });
        let all = futures::future::join_all(readers);
        for reader in tokio::time::timeout(Duration::from_secs(60), all).await.expect("readers hang") {
            reader.unwrap();
        }
        let stats = tier.cache_stats();
        assert_eq!(stats.in_flight_bytes, 0, "reserved memory came back");
    }
}

#[tokio::test]
async fn a_fetch_answers_whole_batches_within_its_limits() {
    let (_, tier, pointer, _) = archived(config(), 500).await;
    let mut request = fetch(0);
    request.max_bytes = 1;
    let one = tier.read(partition(), &pointer, request).await.unwrap();
    assert_eq!(one.records.len(), 1, "the first batch comes whole");
    let size = one.size_bytes();
    request.max_bytes = size * 2 + 1;
    let two = tier.read(partition(), &pointer, request).await.unwrap();
    assert!(two.size_bytes() <= request.max_bytes && two.size_bytes() >= size);

    let mut request = fetch(10);
    request.upper = 10;
    let nothing = tier.read(partition(), &pointer, request).await.unwrap();
    assert_eq!((nothing.records.len(), nothing.next_offset), (0, 10));
    let end = tier.read(partition(), &pointer, fetch(pointer.archived_end)).await.unwrap();
    assert_eq!((end.records.len(), end.next_offset), (0, pointer.archived_end));
}
