//! Topics whose objects hold records of very different sizes.

use std::sync::Arc;

use analytics::sql::output::Format;
use arrow_array::RecordBatch;
use bytes::Bytes;
use futures::TryStreamExt;
use model::batch::Compression;

use crate::world::{Kind, NOW, World, ask, record, value};

const PLAIN: Kind = Kind::Plain(Compression::None);

/// A topic of 30,000 small archived records, and one object more for each of `others`.
async fn busy_and(others: &[usize]) -> Arc<World> {
    let world = World::new().await;
    world.create("t", 1);
    let batch =
        |first: i64| -> Vec<_> { (first..first + 1000).map(|n| record(NOW + n, format!("value {n:0>100}"))).collect() };
    for first in 0..30 {
        world.produce("t", 0, PLAIN, &batch(first * 1000));
    }
    world.archive("t", 0, 30).await;
    for &bytes in others {
        world.produce("t", 0, PLAIN, &[record(NOW, vec![b'x'; bytes])]);
        world.archive("t", 0, 1).await;
    }
    world
}

fn batches_per_row(rows: &[RecordBatch]) -> f64 {
    rows.len() as f64 / rows.iter().map(RecordBatch::num_rows).sum::<usize>() as f64
}

#[tokio::test]
async fn an_object_of_one_record_does_not_set_the_size_of_all_batches() {
    let queries = [
        "SELECT value FROM t WHERE octet_length(value) > 0",
        "SELECT \"offset\", lag(value) OVER (ORDER BY \"offset\") FROM t",
        "SELECT a.\"offset\", b.value FROM t a JOIN t b USING (\"offset\")",
    ];
    for others in [&[1_usize][..], &[1, 2, 3, 4, 5, 6], &[5 << 20]] {
        let world = busy_and(others).await;
        let engine = world.engine();
        for query in queries {
            let batches = batches_per_row(&ask(&engine, query).await.unwrap());
            assert!(batches < 1.0 / 25.0, "{others:?}: {query}: {batches} batches a row");
        }
    }
}

#[tokio::test]
async fn an_answer_in_arrow_takes_about_as_many_bytes_as_its_values() {
    let world = busy_and(&[1]).await;
    // Many rows at a time share what they were read from; a few of them must not carry all of it.
    let wide = "SELECT value, headers, text(value) AS t FROM t ORDER BY \"offset\"";
    let engine = world.engine_with(|limits| limits.memory_bytes = 4 << 20);
    let values: usize = value(&world.engine(), "SELECT sum(octet_length(value)) FROM t").await.parse().unwrap();
    for (engine, query) in [(&world.engine(), wide), (&engine, "SELECT value, headers, text(value) FROM t")] {
        let answer = engine.query_as(query, None, Format::Arrow).await.unwrap();
        let bytes: usize = answer
            .pieces
            .map_ok(|piece: Bytes| piece.len())
            .try_fold(0, |a, b| async move { Ok(a + b) })
            .await
            .unwrap();
        assert!(bytes < 4 * values, "{query}: {bytes} bytes for {values} of values");
    }
}
