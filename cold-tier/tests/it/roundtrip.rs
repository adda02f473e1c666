//! What is read from the archive is what was appended, record by record.

use cold_tier::inspect::{Inspected, inspect};
use model::batch::{BatchFacts, Compression, TimestampType};
use model::segment::AbortedTransaction;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::sync::Arc;

use super::support::*;
use cold_tier::ColdTier;

#[tokio::test]
async fn a_segment_reads_back_as_it_was() {
    let tier = memory_tier();
    let built = simple(10, 1000, 300);
    let pointer = archive_all(&tier, std::slice::from_ref(&built)).await;
    assert_eq!((pointer.log_start, pointer.archived_end, pointer.version), (10, 1010, 1));
    assert_eq!(pointer.record_bytes, built.segment.size_bytes);
    assert_eq!(read_all(&tier, &pointer, 10).await.unwrap(), built.seen);
}

#[tokio::test]
async fn a_read_may_begin_at_any_offset() {
    let tier = memory_tier();
    let built = [simple(0, 300, 200), simple(300, 200, 50)];
    let pointer = archive_all(&tier, &built).await;
    let all: Vec<_> = built.iter().flat_map(|b| b.seen.clone()).collect();
    for from in 0..500 {
        let read = read_all(&tier, &pointer, from).await.unwrap();
        assert_eq!(read, all[usize::try_from(from).unwrap()..], "from {from}");
    }
}

#[tokio::test]
async fn adjacent_segments_become_one_object() {
    let tier = memory_tier();
    let built = [simple(0, 10, 100), simple(10, 1, 100), simple(11, 30, 100)];
    let segments: Vec<_> = built.iter().map(|b| b.segment.clone()).collect();
    let archived = tier.archive(&segments, options()).await.unwrap();
    assert_eq!((archived.base_offset, archived.next_offset, archived.records), (0, 41, 41));
    let pointer = commit(&tier, None, append(vec![archived])).await;
    assert_eq!(pointer.objects, 1);
    let all: Vec<_> = built.iter().flat_map(|b| b.seen.clone()).collect();
    assert_eq!(read_all(&tier, &pointer, 0).await.unwrap(), all);
}

#[tokio::test]
async fn a_new_leaders_segment_continues_in_its_middle() {
    let tier = memory_tier();
    let first = simple(0, 50, 100);
    let mut pointer = archive_all(&tier, std::slice::from_ref(&first)).await;
    let other = simple(30, 70, 100);
    let mut options = options();
    options.from = Some(50);
    let archived = tier.archive(std::slice::from_ref(&other.segment), options).await.unwrap();
    assert_eq!((archived.base_offset, archived.next_offset), (50, 100));
    pointer = commit(&tier, Some(&pointer), append(vec![archived])).await;
    let offsets: Vec<_> = read_all(&tier, &pointer, 0).await.unwrap().iter().map(|r| r.offset).collect();
    assert_eq!(offsets, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_segment_of_which_nothing_remains_is_an_empty_range() {
    let tier = memory_tier();
    let facts = BatchFacts {
        producer_id: 7,
        producer_epoch: 0,
        base_sequence: 0,
        is_transactional: true,
        ..BatchFacts::default()
    };
    let aborted = AbortedTransaction { producer_id: 7, first_offset: 0, last_offset: 2 };
    let marker = BatchFacts { is_control: true, base_sequence: -1, ..facts };
    let batches = [
        BatchSpec { facts, records: vec![record("a"), record("b")] },
        BatchSpec { facts: marker, records: vec![record("m")] },
    ];
    let built = segment(0, &batches, &[aborted]);
    assert!(built.seen.is_empty());
    let after = simple(3, 5, 10);
    let pointer = archive_all(&tier, &[built, after]).await;
    let read = tier.read(partition(), &pointer, fetch(0)).await.unwrap();
    assert_eq!(parse(&read.records.concat()).first().unwrap().offset, 3);
}

#[tokio::test]
async fn timestamps_beyond_microseconds_survive() {
    let tier = memory_tier();
    let times = [i64::MAX, i64::MAX / 1000 + 1, 0, -1, 5, i64::MAX / 1000];
    let records = times.iter().map(|&timestamp| RecordSpec { timestamp, ..record("v") }).collect();
    let built = segment(0, &[plain_batch(records)], &[]);
    let pointer = archive_all(&tier, std::slice::from_ref(&built)).await;
    assert_eq!(read_all(&tier, &pointer, 0).await.unwrap(), built.seen);
}

#[tokio::test]
async fn a_value_larger_than_a_chunk_and_a_row_group_survives() {
    let tier = memory_tier();
    let records = vec![record(vec![1; 100_000]), record(vec![]), record(vec![2; 3_000_000])];
    let built = segment(0, &[plain_batch(records)], &[]);
    let pointer = archive_all(&tier, std::slice::from_ref(&built)).await;
    assert_eq!(read_all(&tier, &pointer, 0).await.unwrap(), built.seen);
}

#[tokio::test]
async fn an_object_that_is_uploaded_in_parts_reads_back_as_it_was() {
    let store = Arc::new(InMemory::new());
    let mut config = config();
    config.upload_part_bytes = 0; // Raised to the smallest part.
    let tier = ColdTier::with_store(config, store.clone()).unwrap();
    let mut seed = 1_u64;
    let noise = |seed: &mut u64| {
        let next = |seed: &mut u64| {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*seed >> 33) as u8
        };
        (0..200_000).map(|_| next(seed)).collect::<Vec<u8>>()
    };
    let batches: Vec<_> = (0..80).map(|_| plain_batch(vec![record(noise(&mut seed))])).collect();
    let built = segment(0, &batches, &[]);
    let pointer = archive_all(&tier, std::slice::from_ref(&built)).await;
    assert!(pointer.bytes > 15 << 20, "{} bytes", pointer.bytes);
    assert_eq!(read_all(&tier, &pointer, 0).await.unwrap(), built.seen);
}

#[tokio::test]
async fn an_object_can_be_inspected_offline() {
    let store = Arc::new(InMemory::new());
    let tier = ColdTier::with_store(config(), store.clone()).unwrap();
    let built = simple(0, 200, 200);
    let archived = tier.archive(std::slice::from_ref(&built.segment), options()).await.unwrap();
    let bytes = store.get(&Path::from(archived.object.as_str())).await.unwrap().bytes().await.unwrap();
    let Inspected::Object(file) = inspect(bytes.clone()).unwrap() else { panic!("not an object") };
    let chunks = file.chunks();
    assert!(chunks.len() > 5 && chunks.last().unwrap().row_group > 0);
    let seen: Vec<_> = (0..chunks.len()).flat_map(|i| parse(&file.batches(i).unwrap())).collect();
    assert_eq!(seen, built.seen);
    assert_eq!(&file.producers().unwrap()[..], b"producer state");
    for cut in [0, 3, 4, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        assert!(inspect(bytes.slice(..cut)).is_err(), "{cut} bytes were taken for an object");
    }
}

fn facts() -> impl Strategy<Value = (BatchFacts, bool)> {
    let producer =
        prop_oneof![Just((-1, -1, -1)), (0..4_i64, 0..3_i16, prop_oneof![0..5_i32, i32::MAX - 3..=i32::MAX]),];
    (producer, 0..3_i32, 0..5_usize, any::<bool>(), 0..8_u8).prop_map(|(producer, epoch, codec, append_time, kind)| {
        let (producer_id, producer_epoch, base_sequence) = producer;
        let has_producer = producer_id >= 0;
        let facts = BatchFacts {
            leader_epoch: epoch,
            timestamp_type: if append_time { TimestampType::LogAppendTime } else { TimestampType::CreateTime },
            producer_id,
            producer_epoch,
            base_sequence,
            compression: Compression::ALL[codec],
            is_transactional: has_producer && kind < 4,
            is_control: has_producer && kind == 0,
        };
        (facts, has_producer && kind < 3)
    })
}

fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        1 => Just(None),
        4 => vec(any::<u8>(), 0..40).prop_map(Some),
        1 => (any::<u8>(), 0..9000_usize).prop_map(|(b, n)| Some(vec![b; n])),
    ]
}

fn records() -> impl Strategy<Value = Vec<RecordSpec>> {
    let header = ("[a-zé]{0,5}", option::of(vec(any::<u8>(), 0..6)));
    let timestamp = prop_oneof![Just(-1_i64), 0..2000_i64, Just(NOW), Just(i64::MAX), Just(i64::MAX / 1000 + 5)];
    let gap = prop_oneof![5 => Just(0_u32), 1 => 1..100_u32];
    let record = (gap, timestamp, bytes(), bytes(), vec(header, 0..4))
        .prop_map(|(gap, timestamp, key, value, headers)| RecordSpec { gap, timestamp, key, value, headers });
    vec(record, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_is_what_was_appended(
        batches in vec((facts(), records()), 1..12),
        base in 0..1_000_000_i64,
        chunk_bytes in prop_oneof![Just(1_usize), Just(200), Just(4096), Just(1 << 20)],
        codec in 0..5_usize,
        max_bytes in prop_oneof![Just(1_usize), Just(500), Just(1 << 20)],
    ) {
        let mut aborted = Vec::new();
        let mut next = base;
        let specs: Vec<BatchSpec> = batches.into_iter().map(|((facts, abort), records)| {
            let first = next;
            next += records.iter().map(|r| i64::from(r.gap) + 1).sum::<i64>();
            if abort {
                aborted.push(AbortedTransaction {
                    producer_id: facts.producer_id, first_offset: first, last_offset: next - 1,
                });
            }
            BatchSpec { facts, records }
        }).collect();
        let built = segment(base, &specs, &aborted);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut config = config();
            config.chunk_bytes = chunk_bytes;
            config.row_group_bytes = chunk_bytes * 5;
            let tier = ColdTier::with_store(config, Arc::new(InMemory::new())).unwrap();
            let options = cold_tier::ArchiveOptions { codec: Compression::ALL[codec], ..options() };
            let archived = tier.archive(std::slice::from_ref(&built.segment), options).await.unwrap();
            let pointer = commit(&tier, None, append(vec![archived])).await;
            let mut request = fetch(base);
            request.max_bytes = max_bytes;
            let seen = read_with(&tier, &pointer, request).await.unwrap();
            assert_eq!(seen, built.seen);
        });
    }
}
