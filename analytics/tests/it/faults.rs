//! Objects that vanish or are damaged, memory that is short, and topics that go away.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use analytics::sql::SqlError;
use model::batch::Compression;

use crate::world::{self, Kind, NOW, World, ask, record, value};

async fn archived(partitions: i32, records: i64) -> Arc<World> {
    let values: Vec<_> = (0..records).map(|i| format!("{{\"n\":{i},\"pad\":\"{i:0>100}\"}}")).collect();
    world::archived(partitions, 100, &values).await
}

fn objects(world: &World) -> Vec<PathBuf> {
    fn walk(folder: PathBuf, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(path, found);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(world.folder.path().join("store"), &mut found);
    found.sort();
    found
}

fn name(path: &std::path::Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_object_that_vanished_fails_the_query_by_its_name() {
    let world = archived(2, 1000).await;
    let engine = world.engine();
    assert_eq!(value(&engine, "SELECT sum(json_get_int(value, 'n')) FROM t").await, "999000");
    let object = objects(&world).remove(1);
    std::fs::remove_file(&object).unwrap();
    let error = ask(&engine, "SELECT sum(json_get_int(value, 'n')) FROM t").await.unwrap_err();
    assert!(matches!(error, SqlError::Unreadable { .. }), "{error:?}");
    assert!(error.to_string().contains(&name(&object)), "{error}");
    // The other partition is still there.
    assert_eq!(value(&engine, "SELECT count(*) FROM t WHERE partition = 0 AND key IS NULL").await, "1000");
}

#[tokio::test]
async fn a_damaged_object_fails_the_query_by_its_name() {
    let world = archived(1, 1000).await;
    let object = objects(&world).remove(0);
    let whole = std::fs::read(&object).unwrap();
    // A byte of a value, then a byte of the footer.
    for place in [whole.len() / 3, whole.len() - 100] {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x40;
        std::fs::write(&object, &damaged).unwrap();
        let engine = world.engine();
        let error = ask(&engine, "SELECT * FROM t").await.map(|_| "an answer").unwrap_err();
        assert!(matches!(error, SqlError::Unreadable { .. }), "{place}: {error:?}");
        assert!(error.to_string().contains(&name(&object)), "{place}: {error}");
    }
}

#[tokio::test]
async fn a_changed_bit_anywhere_in_an_object_never_gives_a_wrong_answer() {
    let queries = [
        "SELECT sum(\"offset\") FROM t",
        "SELECT max(leader_epoch), min(sequence), count(producer_id) FROM t",
        "SELECT min(timestamp), max(timestamp) FROM t WHERE value IS NOT NULL",
        "SELECT count(key), count(DISTINCT \"offset\") FROM t",
        "SELECT count(*) FROM t WHERE \"offset\" > 10 AND \"offset\" < 900",
        "SELECT sum(octet_length(value)) FROM t",
    ];
    let world = archived(1, 1000).await;
    let object = objects(&world).remove(0);
    let whole = std::fs::read(&object).unwrap();
    // Engines share a folder for what they spill, and the last one to go removes it: none goes before the end.
    let mut engines = vec![world.engine()];
    let mut right = Vec::new();
    for query in queries {
        right.push(world::csv(&engines[0], query).await.unwrap());
    }
    let mut refused = 0;
    for place in (4..whole.len()).step_by(whole.len() / 97) {
        let mut damaged = whole.clone();
        damaged[place] ^= 1 << (place % 8);
        std::fs::write(&object, &damaged).unwrap();
        // What an earlier engine cached was read from other bytes.
        let engine = world.engine();
        for (query, right) in queries.iter().zip(&right) {
            match world::csv(&engine, query).await {
                Ok(answer) => assert_eq!(&answer, right, "{query}, byte {place} of {}", whole.len()),
                Err(error) => {
                    assert!(matches!(error, SqlError::Unreadable { .. }), "{query}, byte {place}: {error:?}");
                    refused += 1;
                }
            }
        }
        engines.push(engine);
    }
    assert!(refused > 20, "{refused} answers were refused");
}

#[tokio::test]
async fn a_query_that_needs_more_memory_spills_or_fails_alone() {
    let world = archived(2, 40_000).await;
    let engine = world.engine_with(|limits| limits.memory_bytes = 16 << 20);
    // Sorting eighteen megabytes of values, for which a sort wants twice the room.
    let rows = ask(&engine, "SELECT value FROM t ORDER BY value DESC").await.unwrap();
    assert_eq!(rows.iter().map(arrow_array::RecordBatch::num_rows).sum::<usize>(), 80_000);
    let plan = world::csv(&engine, "EXPLAIN ANALYZE SELECT value FROM t ORDER BY value DESC").await.unwrap();
    let plan = plan.join("\n");
    assert!(plan.contains("spill_count=") && !plan.contains("spill_count=0"), "{plan}");
    let tiny = world.engine_with(|limits| {
        limits.memory_bytes = 256 << 10;
        limits.spill_bytes = 0;
    });
    let error = ask(&tiny, "SELECT value FROM t ORDER BY value DESC").await.unwrap_err();
    assert!(matches!(error, SqlError::Memory { .. }), "{error:?}");
    assert_eq!(value(&tiny, "SELECT count(*) FROM t").await, "80000");
}

#[tokio::test]
async fn a_query_ends_at_its_deadline_and_says_so() {
    let world = archived(1, 1000).await;
    let engine = world.engine();
    let limit = Duration::from_millis(300);
    let slow = "SELECT count(*) FROM t a, t b, t c WHERE a.offset + b.offset + c.offset = -1";
    let answer = engine.query(slow, Some(limit)).await.unwrap();
    assert_eq!(world::rows_of(answer).await.unwrap_err(), SqlError::TimedOut { limit });
}

#[tokio::test]
async fn a_join_that_was_given_up_makes_room_for_others() {
    let world = archived(1, 300).await;
    let engine = world.engine_with(|limits| limits.threads = 1);
    let endless = "SELECT count(*) FROM t a, t b, t c, t d WHERE a.offset * b.offset + c.offset * d.offset = -1";
    let given_up = engine.query(endless, Some(Duration::from_millis(300))).await.unwrap();
    assert!(matches!(world::rows_of(given_up).await, Err(SqlError::TimedOut { .. })));
    // It would take hours.
    let next = tokio::time::timeout(Duration::from_secs(60), value(&engine, "SELECT 42")).await;
    assert_eq!(next.unwrap(), "42");
    let pairs = "SELECT count(*) FROM t a, t b WHERE a.offset < b.offset";
    assert_eq!(value(&engine, pairs).await, (300 * 299 / 2).to_string());
}

#[tokio::test]
async fn queries_beyond_the_limit_wait_and_are_then_refused() {
    let world = archived(1, 1000).await;
    let engine = world.engine_with(|limits| {
        limits.concurrency = 1;
        limits.queue = Duration::from_millis(200);
    });
    let slow = "SELECT a.value FROM t a, t b";
    let first = engine.query(slow, None).await.unwrap();
    let refused = ask(&engine, "SELECT count(*) FROM t").await.unwrap_err();
    assert!(matches!(refused, SqlError::Busy { running: 1, .. }), "{refused:?}");
    // Nobody waits for the first any more: its place is free.
    drop(first);
    assert_eq!(value(&engine, "SELECT count(*) FROM t").await, "1000");
}

#[tokio::test]
async fn a_topic_that_was_deleted_under_a_query_fails_it() {
    let world = World::new().await;
    world.create("t", 1);
    for _ in 0..3 {
        world.produce("t", 0, Kind::Plain(Compression::None), &[record(NOW, "hot")]);
    }
    let engine = world.engine();
    let answer = engine.query("SELECT a.value FROM t a", None).await;
    world.topics.lock().clear();
    // Pinned before or after, it is never an answer with fewer rows.
    match answer {
        Ok(answer) => {
            if let Ok(rows) = world::rows_of(answer).await {
                assert_eq!(rows.iter().map(arrow_array::RecordBatch::num_rows).sum::<usize>(), 3);
            }
        }
        Err(error) => assert!(error.to_string().contains("deleted"), "{error}"),
    }
    let error = ask(&engine, "SELECT * FROM t").await.unwrap_err();
    assert!(matches!(error, SqlError::UnknownTable { .. }), "{error:?}");
}

#[tokio::test]
async fn large_values_are_read_one_by_one() {
    let world = World::new().await;
    world.create("t", 1);
    for i in 0..8_u8 {
        world.produce("t", 0, Kind::Plain(Compression::None), &[record(NOW, vec![b'a' + i; 10 << 20])]);
    }
    world.archive("t", 0, 6).await;
    let engine = world.engine();
    assert_eq!(
        value(&engine, "SELECT count(*), max(octet_length(value)) FROM t WHERE value IS NOT NULL").await,
        "8,10485760"
    );
    let answer = engine.query("SELECT value FROM t WHERE octet_length(value) > 0", None).await.unwrap();
    let rows = world::rows_of(answer).await.unwrap();
    assert!(rows.iter().all(|batch| batch.num_rows() <= 2), "more than 20 MB in a batch");
}

#[tokio::test]
async fn thousands_of_objects_are_planned_quickly() {
    let world = World::new().await;
    world.create("t", 1);
    for i in 0..300 {
        world.produce("t", 0, Kind::Plain(Compression::None), &[record(NOW + i, "x")]);
        world.archive("t", 0, 1).await;
    }
    let engine = world.engine();
    assert_eq!(value(&engine, "SELECT count(*) FROM t").await, "300");
    assert_eq!(value(&engine, "SELECT count(value) FROM t WHERE offset >= 298").await, "2");
    assert_eq!(value(&engine, "SELECT max(text(value)) FROM t").await, "x");
}
