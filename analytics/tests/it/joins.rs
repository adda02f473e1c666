//! Joins on inequalities, which compare every row of one side with every row of the other.

use std::sync::Arc;

use analytics::sql::SqlError;

use crate::world::{self, World, ask, value};

/// A topic of two partitions with so many archived records each.
async fn archived(records: i64) -> Arc<World> {
    let values: Vec<_> = (0..records).map(|n| format!("{n:0>40}")).collect();
    world::archived(2, 500, &values).await
}

#[tokio::test]
async fn a_join_that_needs_more_memory_than_there_is_fails_as_that_and_harms_no_other_query() {
    let world = archived(800).await;
    let near = "a.\"offset\" < b.\"offset\" AND b.\"offset\" < a.\"offset\" + 60";
    let few = "(SELECT * FROM t WHERE \"offset\" < 5) c";
    // The last one has a left side that hands out its rows once.
    let queries = [
        format!(
            "SELECT max(a.value), max(b.value), max(c.value) FROM t a JOIN t b ON {near} JOIN {few} ON b.\"offset\" > c.\"offset\""
        ),
        format!(
            "SELECT max(a.value), max(b.value), max(c.value) FROM t a LEFT JOIN t b ON {near} LEFT JOIN {few} ON b.\"offset\" > c.\"offset\""
        ),
        format!(
            "SELECT max(a.v), max(b.v), count(*) FROM \
             (SELECT a.value AS v, a.\"offset\" AS n FROM t a JOIN t b ON a.\"offset\" / 60 = b.\"offset\" / 60) a \
             JOIN (SELECT value AS v, \"offset\" AS n FROM t) b ON a.n < b.n JOIN {few} ON c.\"offset\" < b.n"
        ),
    ];
    for (query, mib) in queries.into_iter().zip([3, 3, 8]) {
        let engine = world.engine_with(|limits| limits.memory_bytes = mib << 20);
        let error = ask(&engine, &query).await.map(|_| "an answer").unwrap_err();
        assert!(matches!(error, SqlError::Memory { .. }), "{query}: {error:?}");
        assert_eq!(value(&engine, "SELECT count(*) FROM t").await, "1600");
    }
}

/// Each row of the left side that meets none of the right comes once, however the right side is spread over threads.
#[tokio::test]
async fn an_outer_join_under_short_memory_gives_each_row_once_or_none() {
    let world = archived(800).await;
    let query = "SELECT count(*), count(b.\"offset\") FROM t a LEFT JOIN t b ON b.\"offset\" < a.\"offset\" AND b.\"offset\" < 2";
    let right = value(&world.engine(), query).await;
    for kib in [256, 400, 600, 1024] {
        let engine = world.engine_with(|limits| limits.memory_bytes = kib << 10);
        match world::csv(&engine, query).await {
            Ok(rows) => assert_eq!(rows, std::slice::from_ref(&right), "{kib} KiB"),
            Err(error) => assert!(matches!(error, SqlError::Memory { .. }), "{kib} KiB: {error:?}"),
        }
    }
}
