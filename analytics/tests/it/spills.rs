//! Queries over more than their memory holds, which are answered by way of the disk.

use std::sync::Arc;

use model::batch::Compression;

use crate::world::{self, Kind, NOW, World, csv, record};

/// Fewer rows come first: what is compared is short.
fn digest(query: &str) -> String {
    format!("SELECT count(*), sum(o), min(substr(text(v), 1, 300)), max(substr(text(v), 1, 300)) FROM ({query}) AS x")
}

async fn assert_answered(world: &Arc<World>, memory_bytes: usize, query: &str) {
    let right = csv(&world.engine_with(|limits| limits.memory_bytes = 4 << 30), &digest(query)).await.unwrap();
    for threads in [1, 2] {
        let engine = world.engine_with(|limits| (limits.memory_bytes, limits.threads) = (memory_bytes, threads));
        let answered = csv(&engine, &digest(query)).await;
        assert_eq!(answered.as_ref(), Ok(&right), "{threads} threads: {query}");
    }
}

#[tokio::test]
async fn joins_on_equality_and_long_limits_spill() {
    let values: Vec<_> = (0..1_500).map(|n| format!("{n:0>200}")).collect();
    let world = world::archived(2, 500, &values).await;
    for query in [
        "SELECT a.offset AS o, b.value AS v FROM t a JOIN t b ON a.value = b.value",
        "SELECT offset AS o, value AS v FROM t a WHERE NOT EXISTS (SELECT 1 FROM t b WHERE b.value = a.value AND b.offset % 5 > 0)",
        "SELECT offset AS o, value AS v FROM t ORDER BY value DESC LIMIT 2800",
    ] {
        assert_answered(&world, 2 << 20, query).await;
    }
}

#[tokio::test]
async fn large_records_that_are_not_archived_are_sorted() {
    let world = World::new().await;
    world.create("t", 2);
    for batch in 0..40 {
        let records: Vec<_> =
            (0..20).map(|n| record(NOW, format!("{:0>40000}", (batch * 20 + n) * 7919 % 800))).collect();
        world.produce("t", batch % 2, Kind::Plain(Compression::Zstd), &records);
    }
    let sorted = "SELECT offset AS o, value AS v FROM t ORDER BY value DESC LIMIT 100000";
    assert_answered(&world, 28 << 20, sorted).await;
}
