//! Random histories: what is produced, archived, deleted and expired in any order, SQL sees what a consumer sees.

use std::sync::Arc;

use analytics::sql::Engine;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use model::batch::Compression;
use proptest::prelude::*;

use crate::world::{Kind, NOW, Produced, Row, World, ask, csv, rows_of, value};

const TOPIC: &str = "any.topic";
const PARTITIONS: i32 = 2;

#[derive(Debug, Clone)]
enum Step {
    Produce {
        partition: i32,
        kind: Kind,
        records: Vec<Produced>,
    },
    Archive {
        partition: i32,
        batches: usize,
    },
    /// Moves the log start by this share of what is there.
    Delete {
        partition: i32,
        percent: i64,
        in_ledger: bool,
    },
    /// Drops whole what is archived.
    Expire {
        partition: i32,
    },
    Check {
        seed: i64,
    },
}

fn record() -> impl Strategy<Value = Produced> {
    let timestamp = prop_oneof![
        12 => (0..40_i64).prop_map(|step| NOW + step * 1000),
        2 => Just(-1),
        1 => Just(i64::MAX / 1000 + 1),
        1 => Just(0),
    ];
    let bytes = || {
        prop_oneof![
            1 => Just(None),
            4 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Some),
            2 => (1..2000_usize).prop_map(|len| Some(vec![b'v'; len])),
        ]
    };
    let headers = proptest::collection::vec(("[a-c]{0,3}", bytes()), 0..3);
    (timestamp, bytes(), bytes(), headers).prop_map(|(timestamp, key, value, headers)| Produced {
        timestamp,
        key,
        value,
        headers,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        3 => Just(Kind::Plain(Compression::None)),
        2 => Just(Kind::Plain(Compression::Zstd)),
        1 => Just(Kind::Plain(Compression::Lz4)),
        1 => Just(Kind::Aborted),
        1 => Just(Kind::Control),
    ];
    let produce =
        (0..PARTITIONS, kind, proptest::collection::vec(record(), 1..12)).prop_map(|(partition, kind, mut records)| {
            if kind == Kind::Control {
                records.truncate(1);
            }
            Step::Produce { partition, kind, records }
        });
    prop_oneof![
        8 => produce,
        3 => (0..PARTITIONS, 1..6_usize).prop_map(|(partition, batches)| Step::Archive { partition, batches }),
        1 => (0..PARTITIONS, 0..60_i64, any::<bool>())
            .prop_map(|(partition, percent, in_ledger)| Step::Delete { partition, percent, in_ledger }),
        1 => (0..PARTITIONS).prop_map(|partition| Step::Expire { partition }),
        2 => any::<i64>().prop_map(|seed| Step::Check { seed }),
    ]
}

/// A timestamp as the column shows it.
fn shown(timestamp: i64) -> Option<i64> {
    (timestamp != -1).then(|| timestamp.checked_mul(1000)).flatten()
}

fn rows(batches: &[RecordBatch]) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in batches {
        let (partitions, offsets) =
            (batch.column(0).as_primitive::<Int32Type>(), batch.column(1).as_primitive::<Int64Type>());
        let micros = batch.column(2).as_primitive::<TimestampMicrosecondType>();
        let (keys, values) = (batch.column(3).as_binary_view(), batch.column(4).as_binary_view());
        let headers = batch.column(5).as_list::<i32>();
        let millis = batch.column(11).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let timestamp = match (micros.is_valid(row), millis.is_valid(row)) {
                (true, false) => micros.value(row) / 1000,
                (false, true) => millis.value(row),
                (false, false) => -1,
                (true, true) => panic!("two timestamps"),
            };
            let bytes =
                |column: &arrow_array::BinaryViewArray| column.is_valid(row).then(|| column.value(row).to_vec());
            let pairs = headers.value(row);
            let pairs = pairs.as_struct();
            let (names, contents) = (pairs.column(0).as_string::<i32>(), pairs.column(1).as_binary::<i32>());
            let pair = |i: usize| (names.value(i).to_owned(), contents.is_valid(i).then(|| contents.value(i).to_vec()));
            let headers = (0..pairs.len()).map(pair).collect();
            let record = Produced { timestamp, key: bytes(keys), value: bytes(values), headers };
            rows.push((partitions.value(row), offsets.value(row), record));
        }
    }
    rows.sort_by_key(|(partition, offset, _)| (*partition, *offset));
    rows
}

fn literal(micros: i64) -> String {
    format!("arrow_cast({micros}, 'Timestamp(Microsecond, Some(\"UTC\"))')")
}

/// Counts, ranges and bounds by SQL are those of the rows.
async fn check_answers(engine: &Engine, expected: &[Row], seed: i64) {
    let count = |matches: &dyn Fn(&Row) -> bool| expected.iter().filter(|row| matches(row)).count();
    let sql = format!("SELECT count(*) FROM \"{TOPIC}\"");
    assert_eq!(value(engine, &sql).await, expected.len().to_string());
    let bounds = "SELECT partition, count(*), min(offset), max(offset)";
    let sql = format!("{bounds} FROM \"{TOPIC}\" GROUP BY 1 ORDER BY 1");
    let grouped = csv(engine, &sql).await.unwrap();
    let of = |partition: i32| expected.iter().filter(move |row| row.0 == partition).map(|row| row.1);
    let group = |partition| {
        let (min, max) = (of(partition).min()?, of(partition).max()?);
        Some(format!("{partition},{},{min},{max}", of(partition).count()))
    };
    assert_eq!(grouped, (0..PARTITIONS).filter_map(group).collect::<Vec<_>>());
    let bound = |of: Option<i64>| of.map_or_else(String::new, |offset| offset.to_string());
    let (min, max) = (expected.iter().map(|row| row.1).min(), expected.iter().map(|row| row.1).max());
    let bounds = value(engine, &format!("SELECT min(offset), max(offset) FROM \"{TOPIC}\"")).await;
    assert_eq!(bounds, format!("{},{}", bound(min), bound(max)));

    let (from, len) = (seed.rem_euclid(60), seed.rem_euclid(25) + 1);
    let by_offset = format!("SELECT count(*) FROM \"{TOPIC}\" WHERE offset >= {from} AND offset < {}", from + len);
    assert_eq!(
        value(engine, &by_offset).await,
        count(&|row| (from..from + len).contains(&row.1)).to_string(),
        "{by_offset}"
    );
    let start = (NOW + seed.rem_euclid(40) * 1000) * 1000;
    let end = start + len * 1_000_000;
    let range = format!("timestamp >= {} AND timestamp < {}", literal(start), literal(end));
    let in_range = |row: &Row| shown(row.2.timestamp).is_some_and(|at| (start..end).contains(&at));
    let by_time = format!("SELECT count(*) FROM \"{TOPIC}\" WHERE {range}");
    assert_eq!(value(engine, &by_time).await, count(&in_range).to_string(), "{by_time}");
    let no_time = format!("SELECT count(*) FROM \"{TOPIC}\" WHERE timestamp IS NULL AND partition = 1");
    let untimed = |row: &Row| shown(row.2.timestamp).is_none() && row.0 == 1;
    assert_eq!(value(engine, &no_time).await, count(&untimed).to_string());
    let either =
        format!("SELECT count(*) FROM \"{TOPIC}\" WHERE offset = {from} OR NOT (timestamp <= {})", literal(start));
    let later = |row: &Row| row.1 == from || shown(row.2.timestamp).is_some_and(|at| at > start);
    assert_eq!(value(engine, &either).await, count(&later).to_string(), "{either}");
    let listed = format!("SELECT partition, offset FROM \"{TOPIC}\" WHERE {range} AND value IS NOT NULL ORDER BY 1, 2");
    let matching = expected.iter().filter(|row| in_range(row) && row.2.value.is_some());
    let lines: Vec<_> = matching.map(|row| format!("{},{}", row.0, row.1)).collect();
    assert_eq!(csv(engine, &listed).await.unwrap(), lines, "{listed}");
}

async fn apply(world: &Arc<World>, engine: &Engine, step: Step) {
    let state = |partition: i32| world.topics.lock()[TOPIC].partitions[partition as usize].clone();
    match step {
        Step::Produce { partition, kind, records } => world.produce(TOPIC, partition, kind, &records),
        Step::Archive { partition, batches } => world.archive(TOPIC, partition, batches).await,
        Step::Delete { partition, percent, in_ledger } => {
            let before = state(partition);
            let to = before.log_start + (before.end - before.log_start) * percent / 100;
            world.delete(TOPIC, partition, to, in_ledger).await;
        }
        Step::Expire { partition } => {
            if let Some(pointer) = state(partition).pointer {
                world.delete(TOPIC, partition, pointer.archived_end, true).await;
            }
        }
        Step::Check { seed } => {
            let expected = world.rows(TOPIC);
            check_answers(engine, &expected, seed).await;
            // The topic goes on under a query that has begun.
            let answer = engine.query(&format!("SELECT * FROM \"{TOPIC}\""), None).await.unwrap();
            for partition in 0..PARTITIONS {
                world.produce(TOPIC, partition, Kind::Plain(Compression::None), &[crate::world::record(NOW, "later")]);
                world.archive(TOPIC, partition, 2).await;
            }
            assert_eq!(rows(&rows_of(answer).await.unwrap()), expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn sql_sees_what_a_consumer_sees(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            world.create(TOPIC, PARTITIONS as usize);
            let engine = world.engine();
            for step in steps {
                apply(&world, &engine, step).await;
            }
            apply(&world, &engine, Step::Check { seed: 7 }).await;
            assert_eq!(rows(&ask(&engine, &format!("SELECT * FROM \"{TOPIC}\"")).await.unwrap()), world.rows(TOPIC));
        });
    }
}
