//! Filters that a scan applies give what the same filters give above it, whatever they compare and whatever is null.

use std::sync::Arc;

use model::batch::Compression;
use proptest::prelude::*;

use crate::world::{Kind, NOW, World, csv, record, value};

/// A topic of two partitions with an archived half, a hot half and a log start inside an object; every third record has no
/// timestamp.
async fn topic() -> Arc<World> {
    let world = World::new().await;
    world.create("t", 2);
    for partition in 0..2 {
        for batch in 0..6 {
            let at = |n: i64| if n % 3 == 0 { -1 } else { NOW + n * 1000 };
            let records: Vec<_> = (batch * 5..batch * 5 + 5).map(|n| record(at(n), format!("{n}"))).collect();
            world.produce("t", partition, Kind::Plain(Compression::None), &records);
        }
        world.archive("t", partition, 2).await;
        world.archive("t", partition, 2).await;
    }
    world.delete("t", 1, 3, false).await;
    world
}

/// The same rows behind a wall: no filter goes through a limit.
const BEHIND: &str = "(SELECT * FROM t LIMIT 1000000)";

async fn assert_same(engine: &analytics::sql::Engine, filter: &str) {
    for shown in ["count(*)", "count(*), sum(offset)", "count(value), max(partition)", "min(offset), max(offset)"] {
        let of = |from: &str| format!("SELECT {shown} FROM {from} AS t WHERE {filter}");
        let (pushed, above) = (csv(engine, &of("t")).await, csv(engine, &of(BEHIND)).await);
        assert_eq!(pushed.is_err(), above.is_err(), "{filter}: {pushed:?}, {above:?}");
        if let (Ok(pushed), Ok(above)) = (pushed, above) {
            assert_eq!(pushed, above, "{shown}: {filter}");
        }
    }
}

#[tokio::test]
async fn a_filter_that_comes_to_null_or_false_leaves_no_row() {
    let engine = topic().await.engine();
    for filter in [
        "offset IN (NULL)",
        "offset NOT IN (5, NULL)",
        "partition IN (NULL, NULL)",
        "offset = NULL",
        "offset > 1 AND offset <> NULL",
        "timestamp < NULL",
        "NOT (offset > NULL)",
        "offset BETWEEN NULL AND 1",
        "offset * NULL > 1",
        "CASE WHEN offset IS NULL THEN true END",
        "nullif(offset, offset) = 1",
        "offset IN (1) AND offset IN (2)",
    ] {
        let counted = value(&engine, &format!("SELECT count(*) FROM t WHERE {filter}")).await;
        let listed = csv(&engine, &format!("SELECT value FROM t WHERE {filter}")).await.unwrap();
        assert_eq!((counted.as_str(), listed.len()), ("0", 0), "{filter}");
        assert_same(&engine, filter).await;
    }
}

fn operand() -> impl Strategy<Value = (&'static str, Vec<String>)> {
    let offsets = proptest::collection::vec(
        prop_oneof![1 => Just("NULL".to_owned()), 4 => (-2..32_i64).prop_map(|n| n.to_string())],
        3,
    );
    let times = proptest::collection::vec(
        prop_oneof![
            1 => Just("NULL".to_owned()),
            4 => (0..32_i64).prop_map(|n| format!("to_timestamp_millis({})", NOW + n * 1000)),
        ],
        3,
    );
    prop_oneof![
        offsets.clone().prop_map(|values| ("offset", values)),
        offsets.prop_map(|values| ("partition", values)),
        times.prop_map(|values| ("timestamp", values)),
    ]
}

fn comparison() -> impl Strategy<Value = String> {
    const OPERATORS: [&str; 8] = ["=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"];
    let shape = prop_oneof![
        8 => (0..OPERATORS.len()).prop_map(|i| format!("$c {} $0", OPERATORS[i])),
        2 => (0..OPERATORS.len()).prop_map(|i| format!("$0 {} $c", OPERATORS[i])),
        6 => prop_oneof![
            Just("$c IN ($0, $1, $2)"),
            Just("$c NOT IN ($0, $1, $2)"),
            Just("$c IN ($0)"),
            Just("$c NOT IN ($0)"),
            Just("$c BETWEEN $0 AND $1"),
            Just("$c NOT BETWEEN $0 AND $1"),
            Just("$c IS NULL"),
            Just("$c IS NOT NULL"),
            Just("coalesce($c, $0) = $1"),
            Just("nullif($c, $0) <> $1"),
            Just("CASE WHEN $c < $0 THEN $c > $1 ELSE NULL END"),
            Just("($c = $0) IS NOT TRUE"),
            Just("($c > $0) IS UNKNOWN"),
            Just("greatest($c, $0) <= $1"),
        ].prop_map(str::to_owned),
    ];
    (shape, operand()).prop_map(|(shape, (column, values))| {
        let filled = (0..3).fold(shape, |text, i| text.replace(&format!("${i}"), &values[i]));
        filled.replace("$c", column)
    })
}

fn filter() -> impl Strategy<Value = String> {
    comparison().prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            2 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) AND ({b})")),
            2 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) OR ({b})")),
            1 => inner.prop_map(|a| format!("NOT ({a})")),
        ]
    })
}

#[test]
fn a_filter_gives_the_same_inside_the_scan_as_above_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let engine = runtime.block_on(async { topic().await.engine() });
    let config = ProptestConfig { cases: 40, ..ProptestConfig::default() };
    proptest!(config, |(filter in filter())| {
        runtime.block_on(assert_same(&engine, &filter));
    });
}
