//! A store that fails, stalls, lies or loses answers: no wrong record, no lost object, no hang.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cold_tier::{ArchiveError, ColdTier, ReadError, StoreErrorKind};

use super::support::*;

fn tier(store: &Arc<Faulty>) -> ColdTier {
    ColdTier::with_store(config(), store.clone()).unwrap()
}

/// An archive of three segments whose caches are cold.
async fn cold() -> (Arc<Faulty>, ColdTier, model::archive::ManifestPointer, Vec<Seen>) {
    let store = Faulty::new();
    let built = [simple(0, 200, 100), simple(200, 200, 100), simple(400, 200, 100)];
    let pointer = archive_all(&tier(&store), &built).await;
    let seen = built.iter().flat_map(|b| b.seen.clone()).collect();
    let tier = tier(&store);
    (store, tier, pointer, seen)
}

#[tokio::test]
async fn every_nth_call_may_fail_and_a_reader_that_asks_again_gets_every_record() {
    let (store, tier, pointer, seen) = cold().await;
    for n in [2, 3, 5] {
        store.plan(move |_, _, number| (number % n == 0).then_some(Fault::Fail));
        let mut from = 0;
        let mut read = Vec::new();
        let mut failures = 0;
        while from < pointer.archived_end {
            match tier.read(partition(), &pointer, fetch(from)).await {
                Ok(part) => {
                    read.extend(part.records.iter().flat_map(|slice| parse(slice)).filter(|r| r.offset >= from));
                    from = part.next_offset;
                }
                Err(ReadError::Store(_)) => failures += 1,
                Err(other) => panic!("{other}"),
            }
            assert!(failures < 1000, "no progress");
        }
        assert_eq!(read, seen);
    }
}

#[tokio::test]
async fn short_and_wrong_bytes_never_become_records() {
    for fault in [Fault::Short, Fault::Wrong] {
        for object in [".manifest", ".parquet"] {
            let (store, tier, pointer, seen) = cold().await;
            store.plan(move |operation, name, _| (operation == "get" && name.ends_with(object)).then_some(fault));
            let error = read_all(&tier, &pointer, 0).await.unwrap_err();
            match (&error, fault) {
                (ReadError::Store(e), Fault::Short) => assert!(e.to_string().contains(object), "{error}"),
                (ReadError::Corrupt { object: name, .. }, Fault::Wrong) => assert!(name.ends_with(object), "{error}"),
                _ => panic!("{fault:?} of {object}: {error}"),
            }
            // Nothing wrong stays in a cache.
            store.plan(|_, _, _| None);
            assert_eq!(read_all(&tier, &pointer, 0).await.unwrap(), seen);
        }
    }
}

#[tokio::test]
async fn a_wrong_byte_anywhere_in_an_object_is_noticed() {
    let (store, _, pointer, seen) = cold().await;
    for wrong in 0..40 {
        let tier = tier(&store);
        let bad = move |operation: &str, _: &str, number: u64| {
            (operation == "get" && number == wrong).then_some(Fault::Wrong)
        };
        store.plan(bad);
        match read_all(&tier, &pointer, 0).await {
            Ok(read) => assert_eq!(read, seen, "call {wrong}"),
            Err(ReadError::Corrupt { .. }) => {}
            Err(other) => panic!("call {wrong}: {other}"),
        }
    }
}

#[tokio::test]
async fn a_read_that_times_out_keeps_filling_the_cache() {
    let (store, tier, pointer, _) = cold().await;
    store.plan(|operation, name, _| (operation == "get" && name.ends_with(".parquet")).then_some(Fault::Stall(350)));
    let mut request = fetch(0);
    request.timeout = Duration::from_millis(20);
    let start = Instant::now();
    let error = tier.read(partition(), &pointer, request).await.unwrap_err();
    assert!(matches!(error, ReadError::TimedOut { offset: 0, .. }), "{error}");
    assert!(start.elapsed() < Duration::from_millis(340), "it did not wait for the store");
    // Footer and chunk arrive meanwhile: each try finds more.
    let mut tries = 0;
    while tier.read(partition(), &pointer, request).await.is_err() {
        tries += 1;
        assert!(tries < 500);
    }
    let gets = store.log().iter().filter(|(op, name)| op == "get" && name.ends_with(".parquet")).count();
    assert!(gets <= 4, "{gets} requests for one footer and one chunk");
}

#[tokio::test]
async fn a_call_that_never_answers_ends_by_its_deadline() {
    let (store, tier, pointer, _) = cold().await;
    store.plan(|_, _, _| Some(Fault::Stall(60_000)));
    let start = Instant::now();
    let error = read_all(&tier, &pointer, 0).await.unwrap_err();
    assert!(matches!(&error, ReadError::Store(e) if e.kind == StoreErrorKind::TimedOut), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

/// Archives a segment, and reads it back; the first put of the object and that of the manifest meet the fault.
async fn archived_despite(fault: Fault) {
    let store = Faulty::new();
    let tier = tier(&store);
    let fail_first_put = || store.plan(move |operation, _, n| (operation == "put" && n == 0).then_some(fault));
    fail_first_put();
    let built = simple(0, 100, 100);
    let archived = tier.archive(std::slice::from_ref(&built.segment), options()).await.unwrap();
    fail_first_put();
    let pointer = commit(&tier, None, append(vec![archived])).await;
    assert_eq!(read_all(&tier, &pointer, 0).await.unwrap(), built.seen);
}

#[tokio::test]
async fn an_upload_whose_answer_is_lost_is_settled_by_reading_it_back() {
    archived_despite(Fault::FailAfterEffect).await;
}

#[tokio::test]
async fn an_upload_that_conflicts_with_one_that_fails_is_made_again() {
    archived_despite(Fault::Conflict).await;
}

#[tokio::test]
async fn an_upload_that_fails_leaves_an_uncertain_error_and_no_commit() {
    let store = Faulty::new();
    let tier = tier(&store);
    store.plan(|operation, _, _| (operation == "put").then_some(Fault::Fail));
    let built = simple(0, 100, 100);
    let error = tier.archive(std::slice::from_ref(&built.segment), options()).await.unwrap_err();
    let ArchiveError::Store(error) = error else { panic!("{error}") };
    assert!(!error.kind.is_certain());
    assert_eq!((error.operation, error.detail.contains("as planned")), ("put", true));
}

#[tokio::test]
async fn an_object_in_parts_that_reads_back_wrong_is_not_committed() {
    let store = Faulty::new();
    let mut config = config();
    config.upload_part_bytes = 0;
    config.chunk_bytes = 1 << 20;
    let tier = ColdTier::with_store(config, store.clone()).unwrap();
    let noise = |seed: u64| {
        let mut x = seed;
        let step = move |_| {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
            (x >> 40) as u8
        };
        (0..500_000).map(step).collect::<Vec<u8>>()
    };
    let batches: Vec<_> = (0..20).map(|i| plain_batch(vec![record(noise(i + 1))])).collect();
    let built = segment(0, &batches, &[]);
    store.plan(|operation, _, number| (operation == "get" && number == 4).then_some(Fault::Wrong));
    let error = tier.archive(std::slice::from_ref(&built.segment), options()).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Encode { .. }), "{error}");
    store.plan(|_, _, _| None);
    tier.archive(std::slice::from_ref(&built.segment), options()).await.unwrap();
}

#[tokio::test]
async fn a_damaged_segment_is_not_archived() {
    use std::os::unix::fs::FileExt;
    let store = Faulty::new();
    let tier = tier(&store);
    let built = simple(0, 300, 100);
    for position in [70, 5000, built.segment.size_bytes - 1, 8, 16, 59] {
        let mut byte = [0];
        built.segment.file.read_exact_at(&mut byte, position).unwrap();
        built.segment.file.write_all_at(&[byte[0] ^ 0x21], position).unwrap();
        let error = tier.archive(std::slice::from_ref(&built.segment), options()).await.unwrap_err();
        assert!(matches!(error, ArchiveError::DamagedSegment { .. }), "byte {position}: {error}");
        built.segment.file.write_all_at(&byte, position).unwrap();
    }
    assert!(names(&*store).await.is_empty());
}
