//! Commits, races, crash points, retention, deletion and the sweep.

use std::sync::Arc;
use std::time::Duration;

use cold_tier::{
    ArchiveError, ArchiveOptions, ColdTier, Config, LedgerEntry, ManifestChange, RetentionLimits, SweepBy,
    TimestampOffset,
};
use model::TopicName;
use model::archive::ManifestPointer;
use model::batch::BatchFacts;
use model::segment::{EpochStart, SealedSegment};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use uuid::Uuid;

use super::support::*;

/// Later than any object's time of writing.
const LATER: i64 = 99_999_999_999_999;

fn store() -> (Arc<InMemory>, ColdTier) {
    let store = Arc::new(InMemory::new());
    let tier = ColdTier::with_store(config(), store.clone()).unwrap();
    (store, tier)
}

fn log_start(offset: i64) -> ManifestChange {
    ManifestChange { log_start: Some(offset), ..append(Vec::new()) }
}

async fn offsets(tier: &ColdTier, pointer: &ManifestPointer) -> Vec<i64> {
    read_all(tier, pointer, pointer.log_start).await.unwrap().iter().map(|r| r.offset).collect()
}

#[tokio::test]
async fn a_long_history_stays_readable_and_its_manifest_small() {
    let (store, tier) = store();
    let template = tier.archive(&[simple(0, 1, 10).segment], options()).await.unwrap();
    let mut pointer: Option<ManifestPointer> = None;
    let mut largest = 0;
    for i in 0..20_000_i64 {
        let mut segment = template.clone();
        (segment.base_offset, segment.next_offset) = (i, i + 1);
        let next = commit(&tier, pointer.as_ref(), append(vec![segment])).await;
        let size = store.head(&next.object.as_str().into()).await.unwrap().size;
        largest = largest.max(size);
        // Old manifests would fill the test's memory.
        if let Some(old) = pointer.replace(next) {
            store.delete(&old.object.as_str().into()).await.unwrap();
        }
    }
    let pointer = pointer.unwrap();
    assert_eq!((pointer.version, pointer.objects, pointer.archived_end), (20_000, 20_000, 20_000));
    assert!(largest < 64 << 10, "a manifest of {largest} bytes");
    let children = names(&*store).await.iter().filter(|name| name.ends_with(".node")).count();
    // Those that were joined are there until they are swept.
    assert!(children < 20_000 / 16 + 20_000 / 64 + 50, "{children} child manifests");
    let entries = tier.entries(&pointer).await.unwrap();
    let ranges: Vec<_> = entries.iter().map(|e| (e.base_offset, e.next_offset)).collect();
    assert_eq!(ranges, (0..20_000).map(|i| (i, i + 1)).collect::<Vec<_>>());

    // Cut in the middle of old children.
    for cut in [1, 63, 64, 65, 4097, 12_345, 19_999, 20_000] {
        let cut_pointer = commit(&tier, Some(&pointer), log_start(cut)).await;
        assert_eq!(cut_pointer.objects, 20_000 - cut as u64);
        assert_eq!((cut_pointer.log_start, cut_pointer.archived_end), (cut, 20_000));
        let entries = tier.entries(&cut_pointer).await.unwrap();
        assert_eq!(entries.first().map(|e| e.base_offset), (cut < 20_000).then_some(cut));
        assert_eq!(entries.len() as u64, cut_pointer.objects);
    }
}

#[tokio::test]
async fn a_crash_after_any_step_loses_nothing_and_leaves_only_garbage() {
    let built = [simple(0, 50, 100), simple(50, 50, 100)];
    for crash_after in ["object", "manifest", "pointer"] {
        let (store, tier) = store();
        let ledger = archive_all(&tier, &built[..1]).await;
        let archived = tier.archive(&[built[1].segment.clone()], options()).await.unwrap();
        let written = match crash_after {
            "object" => None,
            _ => Some(commit(&tier, Some(&ledger), append(vec![archived])).await),
        };
        let ledger = if crash_after == "pointer" { written.unwrap() } else { ledger };

        // A new process knows only the ledger, and continues from there.
        let tier = ColdTier::with_store(config(), store.clone()).unwrap();
        tier.sweep_partition(&topic(), partition(), Some(&ledger), by(LATER)).await.unwrap();
        let mut ledger = ledger;
        if ledger.archived_end == 50 {
            let archived = tier.archive(&[built[1].segment.clone()], options()).await.unwrap();
            ledger = commit(&tier, Some(&ledger), append(vec![archived])).await;
        }
        assert_eq!(offsets(&tier, &ledger).await, (0..100).collect::<Vec<_>>(), "crash after {crash_after}");
        tier.sweep_partition(&topic(), partition(), Some(&ledger), by(LATER)).await.unwrap();
        assert_eq!(names(&*store).await.len(), 3, "two objects and one manifest");
        let fresh = ColdTier::with_store(config(), store.clone()).unwrap();
        assert_eq!(offsets(&fresh, &ledger).await, (0..100).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn of_two_archivers_one_wins_and_the_losers_objects_are_swept() {
    let (store, one) = store();
    let two = ColdTier::with_store(config(), store.clone()).unwrap();
    let built = simple(0, 50, 100);
    let (a, b) = tokio::join!(
        one.archive(std::slice::from_ref(&built.segment), options()),
        two.archive(std::slice::from_ref(&built.segment), options())
    );
    let (a, b) =
        tokio::join!(commit(&one, None, append(vec![a.unwrap()])), commit(&two, None, append(vec![b.unwrap()])));
    assert_ne!(a.object, b.object);
    // The ledger took `a`; both sweep with what it holds.
    let report = two.sweep_partition(&topic(), partition(), Some(&a), by(LATER)).await.unwrap();
    assert_eq!((report.deleted, report.waiting), (2, 0));
    assert_eq!(offsets(&two, &a).await, (0..50).collect::<Vec<_>>());
    assert!(!names(&*store).await.contains(&b.object));
}

#[tokio::test]
async fn the_sweep_spares_what_a_stalled_archiver_may_still_commit() {
    let (store, tier) = store();
    let built = [simple(0, 50, 100), simple(50, 50, 100)];
    let ledger = archive_all(&tier, &built[..1]).await;
    let archived = tier.archive(&[built[1].segment.clone()], options()).await.unwrap();
    let report = tier.sweep_partition(&topic(), partition(), Some(&ledger), by(LATER)).await.unwrap();
    assert_eq!((report.deleted, report.waiting), (0, 1));
    let next = commit(&tier, Some(&ledger), append(vec![archived])).await;
    let report = tier.sweep_partition(&topic(), partition(), Some(&ledger), by(LATER)).await.unwrap();
    assert_eq!((report.deleted, report.waiting), (0, 2), "a stale pointer deletes nothing that is newer");
    assert_eq!(offsets(&tier, &next).await, (0..100).collect::<Vec<_>>());
    assert_eq!(names(&*store).await.len(), 4);
}

#[tokio::test]
async fn the_sweep_deletes_nothing_without_a_pointer_or_within_the_grace_period() {
    let (store, tier) = store();
    let built = [simple(0, 50, 100), simple(50, 50, 100)];
    let first = archive_all(&tier, &built[..1]).await;
    let archived = tier.archive(&[built[1].segment.clone()], options()).await.unwrap();
    let second = commit(&tier, Some(&first), append(vec![archived])).await;
    assert_eq!(tier.sweep_partition(&topic(), partition(), None, by(LATER)).await.unwrap().deleted, 0);
    assert_eq!(tier.sweep_partition(&topic(), partition(), Some(&second), by(0)).await.unwrap().waiting, 1);
    let mut missing = second.clone();
    missing.object = missing.object.replace("manifest/0", "manifest/1");
    assert!(tier.sweep_partition(&topic(), partition(), Some(&missing), by(LATER)).await.is_err());
    assert_eq!(names(&*store).await.len(), 4);
}

#[tokio::test]
async fn the_same_commit_twice_is_one_commit() {
    let (store, tier) = store();
    let built = simple(0, 50, 100);
    let archived = tier.archive(std::slice::from_ref(&built.segment), options()).await.unwrap();
    let change = append(vec![archived]);
    let a = commit(&tier, None, change.clone()).await;
    let b = commit(&tier, None, change).await;
    assert_eq!(a, b);
    assert_eq!(names(&*store).await.len(), 2);
}

#[tokio::test]
async fn what_retention_drops_stays_for_the_grace_period_however_old_it_is() {
    const GRACE_MS: i64 = 1000;
    let memory = Arc::new(InMemory::new());
    let settings = Config { sweep_grace: Duration::from_millis(GRACE_MS.unsigned_abs()), ..config() };
    let tier = ColdTier::with_store(settings, memory.clone()).unwrap();
    let ledger = archive_all(&tier, &[simple(0, 50, 100), simple(50, 50, 100)]).await;
    let cut = commit(&tier, Some(&ledger), log_start(50)).await;
    // The object and the manifests before are a day old when they are dropped.
    let sweep = async |now| tier.sweep_partition(&topic(), partition(), Some(&cut), by(now)).await.unwrap();
    let report = sweep(LATER).await;
    assert_eq!((report.deleted, report.waiting), (0, 3), "one object and two manifests");
    assert_eq!(offsets(&tier, &ledger).await.len(), 100, "who holds the older manifest reads on");
    assert_eq!(sweep(LATER + GRACE_MS - 1).await.deleted, 0);
    assert_eq!(sweep(LATER + GRACE_MS).await.deleted, 3);
    assert_eq!(offsets(&tier, &cut).await, (50..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_table_goes_with_its_topic() {
    let (store, tier) = store();
    let ledger = archive_all(&tier, &[simple(0, 50, 100)]).await;
    let table = format!("{}/iceberg", tier.topic_folder(&topic(), partition().topic_id));
    let attempt = Uuid::from_u128(7);
    let files = ["metadata/version-hint.text".to_owned(), "metadata/v1.metadata.json".to_owned()];
    let files =
        files.into_iter().chain([format!("metadata/{attempt}-added.avro"), format!("data/0-{attempt}-cut.parquet")]);
    for file in files {
        store.put(&format!("{table}/{file}").as_str().into(), "x".into()).await.unwrap();
    }
    let state = format!("{}/table-state/{attempt}-state.json", tier.topic_folder(&topic(), partition().topic_id));
    for file in [state, format!("{table}/data/left by an engine.parquet"), format!("{table}-notes.txt")] {
        store.put(&Path::parse(file).unwrap(), "x".into()).await.unwrap();
    }
    let report = tier.sweep_partition(&topic(), partition(), Some(&ledger), by(LATER)).await.unwrap();
    assert_eq!((report.deleted, names(&*store).await.len()), (0, 9), "a partition's sweep does not know the table");
    let report = tier.delete_topic(&topic(), partition().topic_id).await.unwrap();
    assert_eq!((report.deleted, report.foreign), (8, 1), "what an engine has left in the table's folder goes, too");
    assert_eq!(names(&*store).await, [format!("{table}-notes.txt")]);
}

#[tokio::test]
async fn a_segment_that_does_not_continue_the_archive_is_refused() {
    let (_, tier) = store();
    let ledger = archive_all(&tier, &[simple(0, 50, 100)]).await;
    for base in [0, 49, 51, 100] {
        let archived = tier.archive(&[simple(base, 10, 100).segment], options()).await.unwrap();
        let error =
            tier.write_manifest(&partition(), &topic(), Some(&ledger), append(vec![archived])).await.unwrap_err();
        assert!(matches!(error, ArchiveError::Segments { .. }), "{error}");
    }
    assert!(tier.archive(&[simple(0, 5, 10).segment, simple(6, 5, 10).segment], options()).await.is_err());
    assert!(tier.archive(&[], options()).await.is_err());
}

#[tokio::test]
async fn delete_records_moves_the_log_start_within_and_beyond_the_archive() {
    let (store, tier) = store();
    let ledger = archive_all(&tier, &[simple(0, 50, 100), simple(50, 50, 100)]).await;
    let within = commit(&tier, Some(&ledger), log_start(70)).await;
    assert_eq!((within.log_start, within.archived_end, within.objects), (70, 100, 1));
    assert_eq!(offsets(&tier, &within).await, (70..100).collect::<Vec<_>>());
    let below = tier.read(partition(), &within, fetch(69)).await.unwrap_err();
    assert!(below.to_string().contains("below the log start 70"), "{below}");
    let back = commit(&tier, Some(&within), log_start(10)).await;
    assert_eq!(back.log_start, 70, "the log start never moves back");

    let beyond = commit(&tier, Some(&back), log_start(120)).await;
    assert_eq!((beyond.log_start, beyond.archived_end, beyond.objects, beyond.record_bytes), (120, 120, 0, 0));
    let read = tier.read(partition(), &beyond, fetch(120)).await.unwrap();
    assert_eq!((read.next_offset, read.records.len()), (120, 0));
    let mut options = options();
    options.from = Some(120);
    let archived = tier.archive(&[simple(100, 50, 100).segment], options).await.unwrap();
    let next = commit(&tier, Some(&beyond), append(vec![archived])).await;
    assert_eq!(offsets(&tier, &next).await, (120..150).collect::<Vec<_>>());
    tier.sweep_partition(&topic(), partition(), Some(&next), by(LATER)).await.unwrap();
    assert_eq!(names(&*store).await.len(), 2);
}

#[tokio::test]
async fn retention_by_size_and_time_asks_for_whole_segments_from_the_oldest() {
    let (_, tier) = store();
    let built = [simple(0, 100, 100), simple(100, 100, 100), simple(200, 100, 100)];
    let ledger = archive_all(&tier, &built).await;
    let size = built[0].segment.size_bytes;
    let start = async |limits: (Option<u64>, Option<u64>), local: u64, now: i64| {
        let limits = RetentionLimits { retention_ms: limits.0, retention_bytes: limits.1 };
        tier.retention_start(&ledger, limits, local, now).await.unwrap()
    };
    assert_eq!(start((None, None), 0, LATER).await, 0);
    assert_eq!(start((None, Some(ledger.record_bytes)), 0, NOW).await, 0);
    assert_eq!(
        start((None, Some(ledger.record_bytes - 1)), 0, NOW).await,
        0,
        "a segment goes only when it is not needed"
    );
    assert_eq!(start((None, Some(ledger.record_bytes - size)), 0, NOW).await, 100);
    assert_eq!(start((None, Some(ledger.record_bytes)), 2 * size + 100, NOW).await, 200);
    assert_eq!(start((None, Some(0)), 0, NOW).await, 300);
    // The newest record of the first segment has timestamp NOW + 99.
    assert_eq!(start((Some(1000), None), 0, NOW + 1099).await, 0);
    assert_eq!(start((Some(1000), None), 0, NOW + 1100).await, 100);
    assert_eq!(start((Some(1000), None), 0, LATER).await, 300);
}

#[tokio::test]
async fn records_without_timestamps_or_from_before_1970_age_by_the_time_of_archival() {
    for timestamp in [-1, -2, -86_400_000] {
        let (_, tier) = store();
        let records = vec![RecordSpec { timestamp, ..record("v") }];
        let ledger = archive_all(&tier, &[segment(0, &[plain_batch(records)], &[])]).await;
        let limits = RetentionLimits { retention_ms: Some(1000), retention_bytes: None };
        assert_eq!(tier.retention_start(&ledger, limits, 0, NOW + 1000).await.unwrap(), 0, "{timestamp}");
        assert_eq!(tier.retention_start(&ledger, limits, 0, NOW + 1001).await.unwrap(), 1, "{timestamp}");
        assert_eq!(tier.max_timestamp(&ledger).await.unwrap(), None, "{timestamp}");
    }
}

#[tokio::test]
async fn a_deleted_topic_leaves_nothing_and_its_namesake_everything() {
    let (store, tier) = store();
    archive_all(&tier, &[simple(0, 50, 100)]).await;
    let mut namesake = simple(0, 20, 100).segment;
    namesake.partition.topic_id = model::TopicId(Uuid::from_u128(0xbeef));
    let archived = tier.archive(&[namesake.clone()], options()).await.unwrap();
    let pointer = tier.write_manifest(&namesake.partition, &topic(), None, append(vec![archived])).await.unwrap();
    let report = tier.delete_topic(&topic(), partition().topic_id).await.unwrap();
    assert_eq!(report.deleted, 2);
    assert_eq!(names(&*store).await.len(), 2);
    assert_eq!(tier.read(namesake.partition, &pointer, fetch(0)).await.unwrap().next_offset, 20);
    assert_eq!(tier.delete_topic(&topic(), partition().topic_id).await.unwrap().deleted, 0);
}

#[tokio::test]
async fn what_others_put_into_our_folders_stays() {
    let (store, tier) = store();
    let ledger = archive_all(&tier, &[simple(0, 50, 100)]).await;
    let ours = names(&*store).await;
    let folder = ours[0].split("/data/").next().unwrap().to_owned();
    let topic_folder = folder.rsplit_once('/').unwrap().0.to_owned();
    let foreign = [
        format!("{folder}/data/notes.txt"),
        format!("{folder}/data/0.parquet"),
        format!("{folder}/data/copy-of-{}", ours[0].rsplit('/').next().unwrap()),
        format!("{folder}/manifest/00000000000000000000-old.manifest"),
        format!("{topic_folder}/README"),
    ];
    for name in &foreign {
        store.put(&name.as_str().into(), "theirs".into()).await.unwrap();
    }
    let report = tier.sweep_partition(&topic(), partition(), Some(&ledger), by(LATER)).await.unwrap();
    assert_eq!((report.deleted, report.foreign), (0, 4));
    let report = tier.delete_topic(&topic(), partition().topic_id).await.unwrap();
    assert_eq!((report.listed, report.deleted, report.foreign), (2, 2, 5));
    let mut left = names(&*store).await;
    left.sort();
    let mut expected = foreign.to_vec();
    expected.sort();
    assert_eq!(left, expected);
}

#[tokio::test]
async fn a_timestamp_finds_the_first_record_that_is_new_enough() {
    let (_, tier) = store();
    let at = |times: &[i64]| times.iter().map(|&t| RecordSpec { timestamp: t, ..record(vec![7; 900]) }).collect();
    let first = segment(0, &[plain_batch(at(&[10, 30, 20, -1, 5, 40])), plain_batch(at(&[40, 15]))], &[]);
    let second = segment(8, &[plain_batch(at(&[12, 90, 50])), plain_batch(at(&[90, 60, 70, 61, 62, 63]))], &[]);
    let ledger = archive_all(&tier, &[first, second]).await;
    let find = async |pointer: &ManifestPointer, t| {
        tier.offset_for_timestamp(pointer, t).await.unwrap().map(|found| (found.offset, found.timestamp))
    };
    for (t, expected) in [
        (0, Some((0, 10))),
        (10, Some((0, 10))),
        (11, Some((1, 30))),
        (31, Some((5, 40))),
        (41, Some((9, 90))),
        (90, Some((9, 90))),
        (91, None),
    ] {
        assert_eq!(find(&ledger, t).await, expected, "timestamp {t}");
    }
    let max = tier.max_timestamp(&ledger).await.unwrap();
    assert_eq!(max, Some(TimestampOffset { timestamp: 90, offset: 9, leader_epoch: LEADER_EPOCH }));

    // Behind the log start lies a part of a segment that must not be found.
    for (start, timestamp, offset) in [(6, 90, 9), (10, 90, 11), (12, 70, 13), (14, 63, 16), (16, 63, 16)] {
        let cut = commit(&tier, Some(&ledger), log_start(start)).await;
        let max = tier.max_timestamp(&cut).await.unwrap().unwrap();
        assert_eq!((max.timestamp, max.offset), (timestamp, offset), "log start {start}");
    }
}

#[tokio::test]
async fn leader_epochs_end_where_the_next_begins() {
    let (_, tier) = store();
    let batch = |epoch, count| {
        let facts = BatchFacts { leader_epoch: epoch, ..BatchFacts::default() };
        BatchSpec { facts, records: (0..count).map(|_| record("v")).collect() }
    };
    let mut first = segment(0, &[batch(1, 10), batch(4, 10)], &[]);
    let mut second = segment(20, &[batch(4, 5), batch(6, 5)], &[]);
    let epoch = |leader_epoch, start_offset| EpochStart { leader_epoch, start_offset };
    first.segment.epochs = vec![epoch(1, 0), epoch(4, 10)];
    second.segment.epochs = vec![epoch(1, 0), epoch(4, 10), epoch(6, 25)];
    let ledger = archive_all(&tier, &[first, second]).await;
    for (asked, expected) in [
        (0, None),
        (1, Some((1, 10))),
        (3, Some((1, 10))),
        (4, Some((4, 25))),
        (5, Some((4, 25))),
        (6, Some((6, 30))),
        (9, Some((6, 30))),
    ] {
        assert_eq!(tier.end_offset_for_epoch(&ledger, asked).await.unwrap(), expected, "epoch {asked}");
    }
    let entries = tier.entries(&ledger).await.unwrap();
    assert_eq!(entries[1].epochs, [epoch(4, 10), epoch(6, 25)]);
}

/// What another history of the partition has left: an object in `leader_epoch`, named by a manifest that follows `after`.
async fn other_history(tier: &ColdTier, after: &ManifestPointer, built: &Built, leader_epoch: i32) -> ManifestPointer {
    let archived =
        tier.archive(std::slice::from_ref(&built.segment), ArchiveOptions { leader_epoch, ..options() }).await.unwrap();
    commit(tier, Some(after), ManifestChange { leader_epoch, ..append(vec![archived]) }).await
}

#[tokio::test]
async fn nothing_is_deleted_while_the_bucket_knows_more_than_the_ledger() {
    const GRACE_MS: i64 = 1000;
    let memory = Arc::new(InMemory::new());
    let settings = Config { sweep_grace: Duration::from_millis(GRACE_MS.unsigned_abs()), ..config() };
    let tier = ColdTier::with_store(settings.clone(), memory.clone()).unwrap();
    let first = archive_all(&tier, &[simple(0, 50, 100)]).await;
    let ledger = commit(&tier, Some(&first), log_start(10)).await;
    let other = other_history(&tier, &ledger, &simple(50, 50, 100), LEADER_EPOCH).await;
    let sweep = async |now| tier.sweep_partition(&topic(), partition(), Some(&ledger), by(now)).await.unwrap();
    let found = sweep(LATER).await;
    assert_eq!((found.deleted, found.ahead), (0, None), "a commit may be under way");
    let found = sweep(LATER + GRACE_MS).await;
    assert_eq!(found.deleted, 0, "not the first manifest either");
    assert_eq!(found.ahead.as_deref(), Some(other.object.as_str()));

    // Once held, the sweep stays so for every process, also when the ledger has passed the other history.
    tier.hold_sweep(&topic(), partition(), &other.object).await.unwrap();
    tier.hold_sweep(&topic(), partition(), "another").await.unwrap();
    let own = other_history(&tier, &ledger, &simple(50, 60, 100), LEADER_EPOCH).await;
    let own = commit(&tier, Some(&own), log_start(20)).await;
    let fresh = ColdTier::with_store(Config { sweep_grace: Duration::ZERO, ..settings }, memory.clone()).unwrap();
    for _ in 0..2 {
        let found = fresh.sweep_partition(&topic(), partition(), Some(&own), by(LATER)).await.unwrap();
        let held = found.held.expect("it is held");
        assert!(held.ends_with("/2/sweep-held.json"), "{held}");
        assert_eq!(found.deleted, 0);
    }
    let held = names(&*memory).await.into_iter().find(|name| name.ends_with("sweep-held.json")).unwrap();
    memory.delete(&held.as_str().into()).await.unwrap();
    let found = fresh.sweep_partition(&topic(), partition(), Some(&own), by(LATER)).await.unwrap();
    assert!(found.deleted > 0 && found.held.is_none(), "{found:?}");
    fresh.hold_sweep(&topic(), partition(), &other.object).await.unwrap();
    fresh.delete_topic(&topic(), partition().topic_id).await.unwrap();
    assert!(names(&*memory).await.is_empty(), "it goes with the topic");
}

#[tokio::test]
async fn objects_of_a_later_leadership_than_the_sweepers_stop_the_sweep() {
    let (store, tier) = store();
    let first = archive_all(&tier, &[simple(0, 50, 100)]).await;
    let ledger = commit(&tier, Some(&first), log_start(10)).await;
    let newer = ArchiveOptions { leader_epoch: LEADER_EPOCH + 1, ..options() };
    let newer = tier.archive(&[simple(50, 50, 100).segment], newer).await.unwrap();
    let found = tier.sweep_partition(&topic(), partition(), Some(&ledger), by(LATER)).await.unwrap();
    assert_eq!((found.deleted, found.ahead), (0, Some(newer.object)));
    let later = SweepBy { leader_epoch: LEADER_EPOCH + 1, now: LATER };
    let found = tier.sweep_partition(&topic(), partition(), Some(&ledger), later).await.unwrap();
    assert_eq!((found.deleted, found.ahead), (1, None), "the first manifest, by the leader of that epoch");
    assert_eq!(names(&*store).await.len(), 3);
}

#[tokio::test]
async fn an_object_whose_writer_cannot_have_had_the_archives_records_is_kept() {
    let (store, tier) = store();
    let first = archive_all(&tier, &[simple(0, 50, 100)]).await;
    // The archive continues with records of epoch 3; the other history was archived by the leader of epoch 2.
    let other = other_history(&tier, &first, &simple(50, 50, 100), LEADER_EPOCH - 1).await;
    let own = other_history(&tier, &first, &simple(50, 60, 100), LEADER_EPOCH).await;
    let own = commit(&tier, Some(&own), log_start(20)).await;
    let found = tier.sweep_partition(&topic(), partition(), Some(&own), by(LATER)).await.unwrap();
    assert_eq!(found.foreign, 2, "the other history's object and manifest");
    assert_eq!(found.deleted, 2, "the manifests before");
    assert!(names(&*store).await.contains(&other.object));
    assert_eq!(offsets(&tier, &other).await.len(), 100);
}

#[tokio::test]
async fn a_store_keeps_the_first_identity_and_tells_what_it_lacks() {
    let (_, tier) = store();
    let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    assert_eq!(tier.store_id().await.unwrap(), None);
    assert_eq!(tier.create_store_id(one).await.unwrap(), one);
    assert_eq!(tier.create_store_id(other).await.unwrap(), one);
    assert_eq!(tier.store_id().await.unwrap(), Some(one));

    let built = [simple(0, 50, 100), simple(50, 50, 100)];
    let ledger = archive_all(&tier, &built).await;
    assert_eq!(tier.seen_until(&ledger, 0, 100).await.unwrap(), 100);
    assert_eq!(tier.seen_until(&ledger, 60, 70).await.unwrap(), 70);
    let entry = |pointer: ManifestPointer| {
        vec![LedgerEntry { topic: topic(), partition: partition(), pointer: Arc::new(pointer) }]
    };
    assert_eq!(tier.missing_manifests(entry(ledger.clone())).await.unwrap(), Vec::<String>::new());
    let objects = tier.entries(&ledger).await.unwrap();
    tier.store().delete(&objects[1].object).await.unwrap();
    assert_eq!(tier.seen_until(&ledger, 0, 50).await.unwrap(), 50);
    let missing = tier.seen_until(&ledger, 0, 100).await.unwrap_err().to_string();
    assert!(missing.contains(&objects[1].object), "{missing}");
    tier.store().put_new(&objects[1].object, "shorter".into()).await.unwrap();
    let shorter = tier.seen_until(&ledger, 0, 100).await.unwrap_err().to_string();
    assert!(shorter.contains("the store has 7 bytes"), "{shorter}");

    let swept = ManifestPointer { object: "gone".to_owned(), version: 1, ..ledger.clone() };
    assert_eq!(
        tier.missing_manifests(entry(swept)).await.unwrap(),
        Vec::<String>::new(),
        "the newer manifest has what it had"
    );
    tier.store().delete(&ledger.object).await.unwrap();
    let older = tier.newest_manifest(&topic(), partition()).await.unwrap().unwrap();
    assert_eq!(older.pointer.version, 1);
    let missing = tier.missing_manifests(entry(ledger.clone())).await.unwrap();
    assert_eq!(missing, std::slice::from_ref(&ledger.object));
    assert!(tier.seen_until(&ledger, 0, 50).await.is_err(), "the caches do not answer for the store");
}

#[tokio::test]
async fn an_archive_under_a_long_name_that_is_not_cut_is_read_swept_and_deleted() {
    let (store, tier) = store();
    let long = TopicName::new(&"x".repeat(249)).unwrap();
    let (folder, id) = (tier.topic_folder(&long, partition().topic_id), partition().topic_id);
    assert!(folder.ends_with(&format!("/{}-{id}", "x".repeat(232))), "{folder}");
    let segment = SealedSegment { topic: long.clone(), ..simple(0, 50, 100).segment };
    let mut archived = tier.archive(&[segment], options()).await.unwrap();
    // Where it lay before names were cut.
    let whole = archived.object.replace(&format!("-{id}/"), &format!("{}-{id}/", "x".repeat(17)));
    store.rename(&archived.object.as_str().into(), &whole.as_str().into()).await.unwrap();
    archived.object = whole;
    let ledger = tier.write_manifest(&partition(), &long, None, append(vec![archived])).await.unwrap();
    assert_eq!(offsets(&tier, &ledger).await.len(), 50);
    let newest = tier.newest_manifests(&long, id).await.unwrap();
    assert_eq!(newest[0].pointer.object, ledger.object);
    assert_eq!(tier.archived_topics().await.unwrap(), [(long.clone(), id)]);
    let cut = tier.write_manifest(&partition(), &long, Some(&ledger), log_start(50)).await.unwrap();
    let report = tier.sweep_partition(&long, partition(), Some(&cut), by(LATER)).await.unwrap();
    assert_eq!((report.deleted, report.foreign), (2, 0), "the object and the manifest before");
    let left = format!("{}{}-{id}/0/data/", folder.strip_suffix(&format!("-{id}")).unwrap(), "x".repeat(17));
    let late = format!("{left}{:020}-{:020}-{:010}-{}.parquet", 50, 60, LEADER_EPOCH, Uuid::from_u128(9));
    store.put(&late.as_str().into(), "late".into()).await.unwrap();
    assert_eq!(tier.delete_topic(&long, id).await.unwrap().deleted, 2);
    assert!(names(&*store).await.is_empty());
}
