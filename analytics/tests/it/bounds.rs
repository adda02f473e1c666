//! Queries that would take more than their share: deep statements, results that multiply, large records, endless computing.

use std::time::{Duration, Instant};

use analytics::sql::SqlError;
use analytics::sql::output::Format;
use bytes::Bytes;
use datafusion::parquet::file::reader::{FileReader, SerializedFileReader};
use futures::TryStreamExt;
use model::batch::Compression;

use crate::world::{Kind, NOW, World, ask, record, value};

/// A chain of so many of something, which a query nests as deep.
fn chain(what: &str, sign: &str, count: usize) -> String {
    vec![what; count].join(sign)
}

/// Stacks grow with the number of operators, so that what holds for these lengths holds for the largest that are let through.
#[tokio::test]
async fn chains_of_operators_are_planned_run_and_dropped() {
    let engine = World::new().await.engine();
    let ctes: Vec<_> = (1..60).map(|n| format!("c{n} AS (SELECT n + 1 AS n FROM c{})", n - 1)).collect();
    let over = |list: String, values: &str| format!("SELECT {list} FROM (VALUES {values}) AS t(n)");
    let queries = [
        format!("SELECT {}", chain("1", "+", 300)),
        over(chain("n", "+", 300), "(1), (2)"),
        over(chain("n", "||", 300), "('a'), ('b')"),
        over("1".into(), "(1)") + " WHERE " + &chain("n = 1", " OR ", 150),
        over("1".into(), "(true), (false)") + " WHERE " + &chain("n", " AND ", 300),
        over("n ".to_owned() + &chain("IS NULL", " ", 150), "(1)"),
        over(format!("n{}", chain("::int", "", 150)), "(1)"),
        format!("SELECT {}", chain("1", " UNION ALL SELECT ", 150)),
        format!("WITH c0 AS (SELECT 1 AS n), {} SELECT * FROM c59", ctes.join(", ")),
        "EXPLAIN ".to_owned() + &over(chain("n", " - ", 300), "(1), (2)"),
    ];
    for query in queries {
        let shown: String = query.chars().take(60).collect();
        let began = Instant::now();
        // The answer does not matter, as long as the process lives.
        let outcome = ask(&engine, &query).await.map(|batches| batches.len()).map_err(|error| error.to_string());
        println!("{shown}…: {outcome:?} after {:?}", began.elapsed());
    }
    assert_eq!(value(&engine, "SELECT 42").await, "42");
    let refused = ask(&engine, &format!("SELECT {}", chain("1", "+", 5000))).await.unwrap_err();
    assert!(matches!(refused, SqlError::Invalid { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_record_batch_that_unpacks_to_more_than_the_memory_fails_its_query_alone() {
    let world = World::new().await;
    world.create("small", 1);
    world.create("large", 1);
    let zeros = |bytes: usize| [record(NOW, vec![0; bytes])];
    for _ in 0..20 {
        world.produce("small", 0, Kind::Plain(Compression::Zstd), &zeros(6 << 20));
    }
    world.produce("large", 0, Kind::Plain(Compression::Zstd), &zeros(80 << 20));
    let engine = world.engine_with(|limits| limits.memory_bytes = 32 << 20);
    // Together they are larger than the memory, each is not.
    assert_eq!(value(&engine, "SELECT sum(octet_length(value)) FROM small").await, (20 * (6 << 20)).to_string());
    let refused = ask(&engine, "SELECT octet_length(value) FROM large").await.unwrap_err();
    assert!(matches!(refused, SqlError::Memory { .. }), "{refused:?}");
}

#[tokio::test]
async fn parquet_ends_a_row_group_by_bytes_too() {
    let world = World::new().await;
    world.create("t", 1);
    let random = |seed: u64| {
        let mut state = seed + 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        (0..100_000).map(|_| next()).collect::<Vec<_>>()
    };
    for batch in 0..60 {
        let records: Vec<_> = (0..10).map(|n| record(NOW, random(batch * 10 + n))).collect();
        world.produce("t", 0, Kind::Plain(Compression::None), &records);
    }
    let engine = world.engine();
    let answer = engine.query_as("SELECT value FROM t", None, Format::Parquet).await.unwrap();
    let pieces: Vec<Bytes> = answer.pieces.try_collect().await.unwrap();
    let file = SerializedFileReader::new(Bytes::from(pieces.concat())).unwrap();
    let groups = file.metadata().row_groups();
    assert_eq!(groups.iter().map(|group| group.num_rows()).sum::<i64>(), 600);
    let largest = groups.iter().map(|group| group.total_byte_size()).max().unwrap();
    assert!(groups.len() > 2 && largest < 24 << 20, "{} row groups of up to {largest} bytes", groups.len());
}

#[tokio::test]
async fn a_query_that_computes_holds_up_no_other_one_and_is_known_to_overrun() {
    let world = World::new().await;
    let engine = world.engine_with(|limits| {
        limits.threads = 1;
        limits.concurrency = 2;
    });
    let computes = "SELECT levenshtein(repeat('a', 12000), repeat('b', 12000))";
    let limit = Duration::from_millis(100);
    let refused = engine.query(computes, Some(limit)).await.unwrap_err();
    assert_eq!(refused, SqlError::TimedOut { limit });
    assert_eq!(engine.running(), 1);
    let before = engine.overrun();
    assert_eq!(value(&engine, "SELECT 42").await, "42");
    assert!(engine.overrun() > before || engine.running() == 0);
    // Its place is free once it has really ended.
    let deadline = Instant::now() + Duration::from_secs(60);
    while engine.running() > 0 {
        assert!(Instant::now() < deadline, "it never ends");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(engine.overrun(), Duration::ZERO);
}
