//! Commits as values: what is written, what is named again, what is refused.

use iceberg::spec::{DataFile, ManifestStatus, Operation};
use model::{TopicId, TopicName};

use super::*;

const NOW: TimestampMs = 1_700_000_000_000;

fn table() -> Table {
    Table {
        topic: TopicName::new("orders").unwrap(),
        topic_id: TopicId(Uuid::from_u128(1)),
        root: "file:///srv/archive".into(),
        folder: "c1/topics/orders-AAAAAAAAAAAAAAAAAAAAAQ".into(),
    }
}

fn object(base_offset: i64, next_offset: i64) -> DataObject {
    DataObject {
        object: format!("c1/topics/orders-AAAAAAAAAAAAAAAAAAAAAQ/0/data/{base_offset}.parquet"),
        base_offset,
        next_offset,
        bytes: 1000,
        records: u64::try_from(next_offset - base_offset).unwrap(),
        min_timestamp: 5,
        max_timestamp: 7,
    }
}

fn added(objects: &[DataObject]) -> Change {
    Change { added: objects.iter().map(|object| (0, object.clone())).collect(), ..Change::default() }
}

/// The `n`th commit, at a time of its own.
async fn commit(standing: Option<&Standing>, n: u32, change: Change) -> Commit {
    let stamp = Stamp { now: NOW + i64::from(n) * 1000, attempt: Uuid::from_u128(u128::from(n)) };
    advance(&table(), standing, &change, stamp).await.unwrap()
}

fn bytes<'a>(commits: &[&'a Commit], url: &str) -> &'a [u8] {
    let mut files = commits.iter().flat_map(|commit| &commit.files);
    &files.find(|file| file.url == url).unwrap().bytes
}

fn rewrite(commits: &[&Commit], manifest: &ManifestFile) -> Rewrite {
    Rewrite::parse(manifest.manifest_path.clone(), bytes(commits, &manifest.manifest_path)).unwrap()
}

fn entries(commits: &[&Commit], manifest: &ManifestFile) -> Vec<(ManifestStatus, DataFile)> {
    let read = rewrite(commits, manifest).entries;
    read.iter().map(|entry| (entry.status, entry.data_file().clone())).collect()
}

fn summary(standing: &Standing, key: &str) -> Option<u64> {
    let snapshot = standing.metadata.current_snapshot().unwrap();
    snapshot.summary().additional_properties.get(key).map(|count| count.parse().unwrap())
}

fn operation(standing: &Standing) -> Operation {
    standing.metadata.current_snapshot().unwrap().summary().operation.clone()
}

#[test]
fn columns_have_the_ids_of_the_archive() {
    let metadata = table().empty(NOW).unwrap();
    let schema = metadata.current_schema();
    let frozen = [
        ("partition", 1),
        ("offset", 2),
        ("timestamp", 3),
        ("key", 4),
        ("value", 5),
        ("headers", 6),
        ("headers.element", 12),
        ("headers.element.key", 13),
        ("headers.element.value", 14),
        ("timestamp_type", 7),
        ("leader_epoch", 8),
        ("producer_id", 9),
        ("producer_epoch", 10),
        ("sequence", 11),
        ("timestamp_ms", 15),
    ];
    for (name, id) in frozen {
        assert_eq!(schema.field_id_by_name(name), Some(id), "{name}");
    }
    assert_eq!(schema.highest_field_id(), 15);
    assert_eq!(metadata.uuid(), Uuid::from_u128(1));
    assert_eq!(metadata.last_updated_ms(), NOW);
}

#[tokio::test]
async fn the_metadata_come_last_and_name_what_came_before() {
    let made = commit(None, 1, added(&[object(0, 10), object(10, 30)])).await;
    let urls: Vec<_> = made.files.iter().map(|file| file.url.as_str()).collect();
    let [manifest, list, metadata] = urls[..] else { panic!("{urls:?}") };
    assert_eq!(metadata, table().metadata_url(1));
    let read = Standing::parse(1, bytes(&[&made], metadata), bytes(&[&made], list)).unwrap();
    assert_eq!(read, made.standing);
    assert_eq!(read.metadata.current_snapshot().unwrap().manifest_list(), list);
    assert_eq!(read.manifests[0].manifest_path, manifest);
    let files = entries(&[&made], &read.manifests[0]);
    assert_eq!(files[1].0, ManifestStatus::Added);
    assert_eq!(files[1].1.file_path(), table().object_url(&object(10, 30).object));
    assert_eq!(files[1].1.record_count(), 20);
    assert_eq!(files[1].1.lower_bounds()[&2], iceberg::spec::Datum::long(10));
    assert_eq!(files[1].1.upper_bounds()[&2], iceberg::spec::Datum::long(29));
    assert_eq!(files[1].1.upper_bounds()[&3], iceberg::spec::Datum::timestamptz_micros(7000));
    assert_eq!((summary(&read, "total-records"), summary(&read, "total-data-files")), (Some(30), Some(2)));
}

#[tokio::test]
async fn timestamps_that_are_not_surely_known_have_no_bounds() {
    let unknown = [(-1, -1), (-1, 7), (5, i64::MAX), (i64::MIN, 7)];
    for (min_timestamp, max_timestamp) in unknown {
        let file = DataObject { min_timestamp, max_timestamp, ..object(0, 10) }.to_file(&table(), 0).unwrap();
        assert!(!file.lower_bounds().contains_key(&3) && !file.upper_bounds().contains_key(&3));
    }
}

#[tokio::test]
async fn a_commit_writes_only_what_is_new() {
    let mut last = commit(None, 1, added(&[object(0, 10)])).await;
    for n in 2..40 {
        let base = i64::from(n) * 10;
        last = commit(Some(&last.standing), n, added(&[object(base, base + 10)])).await;
        assert_eq!(last.files.len(), 3, "one manifest, the list, the metadata");
    }
    assert_eq!(last.standing.manifests.len(), 39);
    assert_eq!(summary(&last.standing, "total-records"), Some(390));
    assert_eq!(summary(&last.standing, "added-records"), Some(10));
    assert_eq!(operation(&last.standing), Operation::Append);
    let numbers: Vec<_> = last.standing.manifests.iter().map(|manifest| manifest.sequence_number).collect();
    assert_eq!(numbers, (1..40).collect::<Vec<_>>());
}

#[tokio::test]
async fn dropped_objects_leave_the_table_and_keep_the_others_in_their_order() {
    let first = commit(None, 1, added(&[object(0, 10), object(10, 30)])).await;
    let change = Change {
        dropped: [object(0, 10).object].into(),
        rewrites: vec![rewrite(&[&first], &first.standing.manifests[0])],
        ..Change::default()
    };
    let second = commit(Some(&first.standing), 2, change).await;
    let statuses = entries(&[&second], &second.standing.manifests[0]);
    let statuses: Vec<_> = statuses.iter().map(|(status, file)| (*status, file.record_count())).collect();
    assert_eq!(statuses, [(ManifestStatus::Deleted, 10), (ManifestStatus::Existing, 20)]);
    let kept = &rewrite(&[&second], &second.standing.manifests[0]).entries[1];
    assert_eq!((kept.sequence_number(), kept.file_sequence_number), (Some(1), Some(1)));
    assert_eq!(operation(&second.standing), Operation::Delete);
    assert_eq!(
        (summary(&second.standing, "total-records"), summary(&second.standing, "deleted-records")),
        (Some(20), Some(10))
    );
    // The last file goes as well: the manifest that tells it is not named by later snapshots.
    let change = Change {
        dropped: [object(10, 30).object].into(),
        rewrites: vec![rewrite(&[&second], &second.standing.manifests[0])],
        ..Change::default()
    };
    let third = commit(Some(&second.standing), 3, change).await;
    assert_eq!(third.standing.data_manifests().count(), 0);
    let fourth = commit(Some(&third.standing), 4, Change::default()).await;
    assert!(fourth.standing.manifests.is_empty());
    assert_eq!(summary(&fourth.standing, "total-records"), Some(0));
}

#[tokio::test]
async fn contradictions_are_refused() {
    let first = commit(None, 1, added(&[object(0, 10)])).await;
    let stamp = Stamp { now: NOW, attempt: Uuid::from_u128(9) };
    let unnamed = Change { dropped: [object(0, 10).object].into(), ..Change::default() };
    let refused = advance(&table(), Some(&first.standing), &unnamed, stamp).await.unwrap_err();
    assert!(refused.to_string().contains("0.parquet"), "{refused}");
    let foreign = Rewrite { url: "file:///elsewhere.avro".into(), entries: Vec::new() };
    let unknown = Change { rewrites: vec![foreign], ..Change::default() };
    let refused = advance(&table(), Some(&first.standing), &unknown, stamp).await.unwrap_err();
    assert!(refused.to_string().contains("elsewhere"), "{refused}");
}

#[tokio::test]
async fn a_log_start_inside_an_object_is_a_position_delete_that_moves_with_it() {
    let cut = |rows| Cut { partition: 0, object: object(0, 10).object, rows };
    let first = commit(None, 1, Change { cuts: vec![cut(4)], ..added(&[object(0, 10), object(10, 30)]) }).await;
    let deletes = first.standing.delete_manifest().unwrap();
    let files = entries(&[&first], deletes);
    assert_eq!((files.len(), files[0].0, files[0].1.record_count()), (1, ManifestStatus::Added, 4));
    assert_eq!(files[0].1.referenced_data_file(), Some(table().object_url(&object(0, 10).object)));
    assert_eq!(positions(bytes(&[&first], files[0].1.file_path())), [0, 1, 2, 3]);
    assert_eq!(summary(&first.standing, "total-position-deletes"), Some(4));

    let standing_cuts = Some(rewrite(&[&first], deletes));
    let same = Change { cuts: vec![cut(4)], standing_cuts: standing_cuts.clone(), ..Change::default() };
    let second = commit(Some(&first.standing), 2, same).await;
    assert_eq!(second.standing.delete_manifest(), Some(deletes), "an unchanged cut is not written again");

    let further = Change { cuts: vec![cut(6)], standing_cuts, ..Change::default() };
    let third = commit(Some(&second.standing), 3, further).await;
    let files = entries(&[&third], third.standing.delete_manifest().unwrap());
    let rows: Vec<_> = files.iter().map(|(status, file)| (*status, file.record_count())).collect();
    assert_eq!(rows, [(ManifestStatus::Added, 6), (ManifestStatus::Deleted, 4)]);
    assert_eq!(summary(&third.standing, "total-position-deletes"), Some(6));

    let gone = Change {
        dropped: [object(0, 10).object].into(),
        rewrites: vec![rewrite(&[&first], third.standing.data_manifests().next().unwrap())],
        standing_cuts: third.standing.delete_manifest().map(|manifest| rewrite(&[&third], manifest)),
        ..Change::default()
    };
    let fourth = commit(Some(&third.standing), 4, gone).await;
    assert!(fourth.standing.delete_manifest().is_none());
    assert_eq!(summary(&fourth.standing, "total-position-deletes"), Some(0));

    let stamp = Stamp { now: NOW, attempt: Uuid::from_u128(9) };
    let forgotten = advance(&table(), Some(&third.standing), &Change::default(), stamp).await;
    assert!(forgotten.is_err(), "a standing delete manifest must be given");
}

fn positions(parquet: &[u8]) -> Vec<i64> {
    use arrow_array::cast::AsArray;
    let bytes = Bytes::copy_from_slice(parquet);
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(bytes, 1024).unwrap();
    let batches = reader.map(Result::unwrap);
    batches.flat_map(|batch| batch["pos"].as_primitive::<arrow_array::types::Int64Type>().values().to_vec()).collect()
}

#[tokio::test]
async fn two_committers_of_one_state_want_the_same_last_name_and_no_other() {
    let first = commit(None, 1, added(&[object(0, 10)])).await;
    let one = commit(Some(&first.standing), 2, added(&[object(10, 20)])).await;
    let other = commit(Some(&first.standing), 3, added(&[object(10, 20)])).await;
    let names = |made: &Commit| made.files.iter().map(|file| file.url.clone()).collect::<BTreeSet<_>>();
    let shared: Vec<_> = names(&one).intersection(&names(&other)).cloned().collect();
    assert_eq!(shared, [table().metadata_url(2)]);
}

#[tokio::test]
async fn a_clock_that_goes_back_does_not_turn_snapshots_around() {
    let first = commit(None, 100, added(&[object(0, 10)])).await;
    let second = commit(Some(&first.standing), 1, added(&[object(10, 20)])).await;
    let log: Vec<_> = second.standing.metadata.history().iter().map(|entry| entry.timestamp_ms).collect();
    assert_eq!(log, [NOW + 100_000, NOW + 100_001]);
}

#[tokio::test]
async fn old_snapshots_expire_and_the_newest_never_does() {
    let first = commit(None, 1, added(&[object(0, 10)])).await;
    let second = commit(Some(&first.standing), 2, added(&[object(10, 20)])).await;
    let all = Change { expire_before: i64::MAX, ..Change::default() };
    let third = commit(Some(&second.standing), 3, all).await;
    assert_eq!(third.standing.metadata.snapshots().count(), 1);
    assert_eq!(third.standing.metadata.history().len(), 1);
    assert_eq!(summary(&third.standing, "total-records"), Some(20));
    let logged = third.standing.metadata.metadata_log();
    assert_eq!(logged.last().unwrap().metadata_file, table().metadata_url(2));
}

/// Avro files hold a random marker and maps in any order: they are compared by what is read from them.
#[tokio::test]
async fn the_files_are_as_in_the_golden_files() {
    let golden = |name: &str| {
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/").to_owned() + name).expect(name)
    };
    let cut = Cut { partition: 0, object: object(0, 10).object, rows: 4 };
    let made = commit(None, 1, Change { cuts: vec![cut], ..added(&[object(0, 10)]) }).await;
    let names = ["added.avro", "cut.parquet", "cuts.avro", "list.avro", "v1.metadata.json"];
    assert_eq!(made.files.len(), names.len());
    let [data, cut, deletes, _, metadata] = &made.files[..] else { unreachable!("five files") };
    assert_eq!(str::from_utf8(&metadata.bytes).unwrap(), str::from_utf8(&golden(names[4])).unwrap());
    let read = Standing::parse(1, &golden(names[4]), &golden(names[3])).unwrap();
    assert_eq!(read, made.standing);
    for (file, name) in [(data, names[0]), (deletes, names[2])] {
        let read = Rewrite::parse(file.url.clone(), &golden(name)).unwrap();
        assert_eq!(read.entries, Rewrite::parse(file.url.clone(), &file.bytes).unwrap().entries, "{name}");
    }
    assert_eq!(positions(&golden(names[1])), positions(&cut.bytes));
}
