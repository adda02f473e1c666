//! What queries answer, and how they refuse.

use std::sync::Arc;

use analytics::sql::{Position, SqlError};
use model::batch::Compression;

use crate::world::{Kind, NOW, Produced, World, ask, csv, record, value};

const PLAIN: Kind = Kind::Plain(Compression::None);

/// Topic `flights` with two partitions: 600 archived records each in three objects, 50 hot ones each.
async fn flights() -> Arc<World> {
    let world = World::new().await;
    world.create("flights", 2);
    for partition in 0..2 {
        for batch in 0..13 {
            let records: Vec<_> = (0..50)
                .map(|i| {
                    let n = batch * 50 + i;
                    let carrier = ["LH", "AF", "BA"][(n % 3) as usize];
                    Produced {
                        key: Some(format!("k{n}").into_bytes()),
                        headers: vec![("source".into(), Some(b"test".to_vec())), ("none".into(), None)],
                        ..record(
                            NOW + n * 1000,
                            format!(r#"{{"carrier":"{carrier}","delay":{n},"n":{{"deep":[1,{n}]}}}}"#),
                        )
                    }
                })
                .collect();
            let kind = if batch % 2 == 0 { PLAIN } else { Kind::Plain(Compression::Zstd) };
            world.produce("flights", partition, kind, &records);
        }
        for _ in 0..3 {
            world.archive("flights", partition, 4).await;
        }
    }
    world
}

#[tokio::test]
async fn both_halves_are_one_table() {
    let world = flights().await;
    let engine = world.engine();
    assert_eq!(value(&engine, "SELECT count(*) FROM flights").await, "1300");
    assert_eq!(value(&engine, "SELECT count(*), min(offset), max(offset) FROM flights").await, "1300,0,649");
    let rows = csv(&engine, "SELECT partition, count(*) FROM flights GROUP BY partition ORDER BY 1").await.unwrap();
    assert_eq!(rows, ["0,650", "1,650"]);
    let row = value(&engine, "SELECT * FROM flights WHERE partition = 1 AND offset = 620").await;
    let headers = r#""[{""key"":""source"",""value"":""test""},{""key"":""none"",""value"":null}]""#;
    let record = r#""{""carrier"":""BA"",""delay"":620,""n"":{""deep"":[1,620]}}""#;
    assert_eq!(row, format!("1,620,2023-11-14T22:23:40Z,k620,{record},{headers},0,-1,-1,-1,-1,"));
    let archived = value(&engine, "SELECT * FROM flights WHERE partition = 1 AND offset = 20").await;
    assert!(
        archived.starts_with("1,20,2023-11-14T22:13:40Z,k20,") && archived.ends_with(",0,-1,-1,-1,-1,"),
        "{archived}"
    );
}

#[tokio::test]
async fn values_are_text_and_json() {
    let world = flights().await;
    let engine = world.engine();
    for json in [
        "value->>'carrier'",
        "text(value)->>'carrier'",
        "json_get_str(value, 'carrier')",
        "json_get_str(text(value), 'carrier')",
    ] {
        let sql = format!("SELECT {json} AS carrier, count(*) FROM flights GROUP BY 1 ORDER BY 1");
        assert_eq!(csv(&engine, &sql).await.unwrap(), ["AF,434", "BA,432", "LH,434"], "{json}");
    }
    for sum in [
        "(value->>'delay')::bigint",
        "json_get_int(value, 'delay')",
        "json_get(value, 'delay')::bigint",
        "(value->'delay')::bigint",
    ] {
        assert_eq!(value(&engine, &format!("SELECT sum({sum}) FROM flights")).await, "421850", "{sum}");
    }
    let deep = "SELECT value->'n'->'deep'->>1 FROM flights WHERE offset = 5 AND partition = 0";
    assert_eq!(value(&engine, deep).await, "5");
    assert_eq!(
        value(&engine, "SELECT count(*) FROM flights WHERE value->>'carrier' = 'LH' AND offset < 10").await,
        "8"
    );
    assert_eq!(
        value(&engine, "SELECT encode(key, 'hex') FROM flights WHERE offset = 1 AND partition = 0").await,
        "6b31"
    );
    assert_eq!(value(&engine, "SELECT text(decode('azE=', 'base64'))").await, "k1");
    assert_eq!(value(&engine, "SELECT text(decode('ff', 'hex')) IS NULL").await, "true");
}

#[tokio::test]
async fn numbers_in_json_are_numbers_whatever_their_sign_and_size() {
    let engine = World::new().await.engine();
    let json =
        r#"'{"a": -5, "b": -0.25, "c": 12345678901234567890, "d": "-7", "e": null, "f": {"g": [1, -2]}, "h": true}'"#;
    for (expression, wanted) in [
        ("json_get_int($, 'a')", "-5"),
        ("json_get_float($, 'a')", "-5.0"),
        ("json_get_float($, 'b')", "-0.25"),
        ("($->'a')::int", "-5"),
        ("($->'b')::double", "-0.25"),
        ("($->>'a')::bigint", "-5"),
        ("json_get_int($, 'c') IS NULL", "true"),
        ("$->'c'", "12345678901234567890"),
        ("json_get($, 'c')", "12345678901234567890"),
        ("json_get_float($, 'c')", "1.2345678901234567e19"),
        ("json_get_int($, 'd')", "-7"),
        ("json_get_int($, 'e') IS NULL", "true"),
        ("$->'f'->'g'->>1", "-2"),
        ("json_get_int($, 'f', 'g', 1)", "-2"),
        ("($->'f'->'g'->1)::int", "-2"),
        ("($->'h')::boolean", "true"),
        ("json_get_int($, 'f') IS NULL", "true"),
    ] {
        let sql = format!("SELECT {}", expression.replace('$', json));
        assert_eq!(value(&engine, &sql).await, wanted, "{expression}");
    }
}

#[tokio::test]
async fn columns_are_named_without_quotes() {
    let world = flights().await;
    let engine = world.engine();
    for column in [
        "partition",
        "offset",
        "timestamp",
        "key",
        "value",
        "headers",
        "timestamp_type",
        "leader_epoch",
        "producer_id",
        "producer_epoch",
        "sequence",
        "timestamp_ms",
    ] {
        let sql = format!("SELECT {column} FROM flights WHERE {column} IS NOT NULL ORDER BY offset LIMIT 1");
        let rows = csv(&engine, &sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(rows.len(), usize::from(column != "timestamp_ms"), "{sql}");
    }
}

#[tokio::test]
async fn a_time_range_is_counted_without_reading_records() {
    let world = flights().await;
    let engine = world.engine();
    // From the 101st second to the 500th, both partitions.
    let range = "timestamp >= '2023-11-14T22:15:00Z' AND timestamp < '2023-11-14T22:21:40Z'";
    assert_eq!(value(&engine, &format!("SELECT count(*) FROM flights WHERE {range}")).await, "800");
    let plan = csv(&engine, &format!("EXPLAIN SELECT count(*) FROM flights WHERE {range}")).await.unwrap().join("\n");
    assert!(plan.contains("CountedExec"), "{plan}");
    let late = "EXPLAIN SELECT value FROM flights WHERE timestamp >= '2023-11-14T22:21:00Z' AND partition = 1";
    let plan = csv(&engine, late).await.unwrap().join("\n");
    assert!(plan.contains("topic=flights, objects: 1 of 6 (partition 3, offset 0, timestamp 2)"), "{plan}");
    let by_offset = "EXPLAIN SELECT value FROM flights WHERE offset BETWEEN 210 AND 220";
    let plan = csv(&engine, by_offset).await.unwrap().join("\n");
    assert!(plan.contains("objects: 2 of 6 (partition 0, offset 4, timestamp 0)"), "{plan}");
}

#[tokio::test]
async fn the_largest_offset_is_known_without_reading_records() {
    let world = flights().await;
    let engine = world.engine();
    assert_eq!(value(&engine, "SELECT max(offset) FROM flights").await, "649");
    let by_partition = "SELECT partition, min(offset), max(offset) FROM flights GROUP BY partition ORDER BY 1";
    assert_eq!(csv(&engine, by_partition).await.unwrap(), ["0,0,649", "1,0,649"]);
    for sql in ["SELECT max(offset) FROM flights", by_partition] {
        let plan = csv(&engine, &format!("EXPLAIN {sql}")).await.unwrap().join("\n");
        assert!(plan.contains("EdgesExec") && !plan.contains("DataSourceExec"), "{plan}");
    }
    let plan = csv(&engine, "EXPLAIN SELECT max(offset), count(*) FROM flights").await.unwrap().join("\n");
    assert!(!plan.contains("EdgesExec"), "{plan}");
}

#[tokio::test]
async fn deleted_records_are_not_seen() {
    let world = flights().await;
    let engine = world.engine();
    world.delete("flights", 0, 333, true).await;
    world.delete("flights", 1, 333, false).await;
    assert_eq!(value(&engine, "SELECT count(*), min(offset) FROM flights").await, "634,333");
    assert_eq!(value(&engine, "SELECT count(*) FROM flights").await, "634");
    assert_eq!(value(&engine, "SELECT count(*) FROM flights WHERE offset < 350").await, "34");
    assert_eq!(value(&engine, "SELECT count(*) FROM flights WHERE timestamp < '2023-11-14T22:19:00Z'").await, "14");
    let rows = csv(&engine, "SELECT offset FROM flights WHERE offset > 0 LIMIT 40").await.unwrap();
    assert!(rows.iter().all(|offset| offset.parse::<i64>().unwrap() >= 333), "{rows:?}");
    let first = csv(&engine, "SELECT text(key) FROM flights ORDER BY offset LIMIT 2").await.unwrap();
    assert_eq!(first, ["k333", "k333"]);
    world.delete("flights", 0, 640, false).await;
    assert_eq!(value(&engine, "SELECT count(*) FROM flights WHERE partition = 0").await, "10");
}

#[tokio::test]
async fn names_with_dots_are_quoted_and_near_names_are_offered() {
    let world = flights().await;
    world.create("orders.eu-1", 1);
    world.produce("orders.eu-1", 0, PLAIN, &[record(-1, "x"), record(NOW, vec![0xff_u8])]);
    let engine = world.engine();
    assert_eq!(value(&engine, r#"SELECT count(*) FROM "orders.eu-1""#).await, "2");
    let rows = csv(&engine, r#"SELECT timestamp, value FROM "orders.eu-1" ORDER BY offset"#).await.unwrap();
    assert_eq!(rows, [",x", "2023-11-14T22:13:20Z,\\xff"]);
    let unknown = ask(&engine, "SELECT *\n FROM flihgts").await.unwrap_err();
    let at = Some(Position { line: 2, column: 7 });
    assert_eq!(unknown, SqlError::UnknownTable { name: "flihgts".into(), nearest: Some("flights".into()), at });
    let dotted = ask(&engine, "SELECT * FROM orders.eu").await.unwrap_err();
    assert_eq!(
        dotted.to_string(),
        "there is no topic \"orders.eu\" at line 1, column 15; did you mean \"orders.eu-1\"?"
    );
    let column = ask(&engine, "SELECT partition, offst FROM flights").await.unwrap_err();
    assert_eq!(column.to_string(), "there is no column \"offst\" at line 1, column 19; did you mean offset?");
}

#[tokio::test]
async fn what_is_no_query_is_refused() {
    let world = flights().await;
    let engine = world.engine();
    let refused = async |sql: &str| ask(&engine, sql).await.unwrap_err();
    for sql in [
        "INSERT INTO flights VALUES (1)",
        "DROP TABLE flights",
        "CREATE TABLE x AS SELECT 1",
        "DELETE FROM flights",
        "COPY flights TO 'x.csv'",
        "SET datafusion.execution.batch_size = 1",
        "UPDATE flights SET offset = 1",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        "EXPLAIN INSERT INTO flights VALUES (1)",
        "BEGIN",
        "TRUNCATE TABLE flights",
        "PREPARE p AS SELECT 1",
    ] {
        assert!(matches!(refused(sql).await, SqlError::ReadOnly { .. }), "{sql}: {}", refused(sql).await);
    }
    let syntax = refused("SELECT offset,\nFROM flights WHERE").await;
    assert!(matches!(&syntax, SqlError::Syntax { at: Some(Position { line: 2, .. }), .. }), "{syntax:?}");
    assert!(matches!(refused("SELECT 1; SELECT 2").await, SqlError::Syntax { .. }));
    assert!(matches!(refused(" ").await, SqlError::Syntax { .. }));
    assert!(matches!(refused("SELECT nothing(offset) FROM flights").await, SqlError::Invalid { .. }));
    assert!(matches!(refused("SELECT 1 / (offset - offset) FROM flights").await, SqlError::Failed { .. }));
    assert!(refused("SELECT * FROM '/etc/passwd'").await.to_string().contains("/etc/passwd"));
}

#[tokio::test]
async fn tables_and_columns_can_be_listed() {
    let world = flights().await;
    let engine = world.engine();
    let tables = csv(&engine, "SHOW TABLES").await.unwrap();
    assert!(tables.iter().any(|line| line == "firn,topics,flights,BASE TABLE"), "{tables:?}");
    assert_eq!(csv(&engine, "SHOW COLUMNS FROM flights").await.unwrap().len(), 12);
    assert_eq!(csv(&engine, "DESCRIBE flights").await.unwrap().len(), 12);
}

#[tokio::test]
async fn an_empty_topic_has_columns_and_no_rows() {
    let world = World::new().await;
    world.create("empty", 3);
    let engine = world.engine();
    assert_eq!(value(&engine, "SELECT count(*) FROM empty").await, "0");
    let answer = engine.query("SELECT * FROM empty", None).await.unwrap();
    assert_eq!(answer.schema.fields().len(), 12);
    assert_eq!(crate::world::rows_of(answer).await.unwrap().len(), 0);
}

#[tokio::test]
async fn what_was_aborted_is_not_seen_in_either_half() {
    let world = World::new().await;
    world.create("t", 1);
    for round in 0..6 {
        world.produce("t", 0, PLAIN, &[record(NOW, format!("kept {round}")), record(NOW + 1, "kept too")]);
        world.produce("t", 0, Kind::Aborted, &[record(NOW, "aborted"), record(NOW, "aborted too")]);
        world.produce("t", 0, Kind::Control, &[record(NOW, "marker")]);
    }
    world.archive("t", 0, 8).await;
    let engine = world.engine();
    let seen = csv(&engine, "SELECT partition, offset, value FROM t ORDER BY offset").await.unwrap();
    let line = |(partition, offset, record): (i32, i64, Produced)| {
        format!("{partition},{offset},{}", String::from_utf8(record.value.unwrap()).unwrap())
    };
    assert_eq!(seen, world.rows("t").into_iter().map(line).collect::<Vec<_>>());
    assert_eq!(value(&engine, "SELECT count(*) FROM t").await, "12");
    assert_eq!(value(&engine, "SELECT count(*) FROM t WHERE timestamp > '2023-11-14T22:13:20Z'").await, "6");
}

/// Rows that scans of objects decode for a query.
async fn decoded_rows(engine: &analytics::sql::Engine, sql: &str) -> usize {
    let plan = csv(engine, &format!("EXPLAIN ANALYZE {sql}")).await.unwrap().join("\n");
    let scans = plan.lines().filter(|line| line.contains("DataSourceExec"));
    let rows = scans.filter_map(|line| {
        let count = line.split("output_rows=").nth(1)?;
        count.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok()
    });
    let rows: Vec<_> = rows.collect();
    assert!(!rows.is_empty(), "{plan}");
    rows.iter().sum()
}

#[tokio::test]
async fn a_point_and_a_short_time_range_read_at_most_two_chunks_of_a_partition() {
    let world = flights().await;
    let engine = world.engine();
    // A chunk of 4 KiB holds 40 of these records or fewer.
    let point = "SELECT * FROM flights WHERE partition = 1 AND offset = 333";
    assert!(decoded_rows(&engine, point).await <= 2 * 40);
    let seconds = "timestamp BETWEEN '2023-11-14T22:15:00Z' AND '2023-11-14T22:15:20Z'";
    assert_eq!(value(&engine, &format!("SELECT count(value) FROM flights WHERE {seconds}")).await, "42");
    assert!(decoded_rows(&engine, &format!("SELECT value FROM flights WHERE {seconds}")).await <= 2 * 2 * 40);
}

#[tokio::test]
async fn now_is_one_moment_of_the_query() {
    let engine = flights().await.engine();
    let year = chrono_year();
    for sql in [
        "SELECT date_part('year', now())",
        "SELECT date_part('year', current_timestamp)",
        "SELECT date_part('year', current_date)",
    ] {
        assert_eq!(value(&engine, sql).await, year, "{sql}");
    }
    assert_eq!(value(&engine, "SELECT now() = current_timestamp AND current_time IS NOT NULL").await, "true");
    assert_eq!(value(&engine, "SELECT count(*) FROM flights WHERE timestamp < now()").await, "1300");
    assert_eq!(value(&engine, "SELECT count(*) FROM flights WHERE timestamp > now() - INTERVAL '1 hour'").await, "0");
}

/// The present year, as a number.
fn chrono_year() -> String {
    let days = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64() / 86_400.0;
    format!("{}", (1970.0 + (days + 0.5) / 365.2425).floor())
}

#[tokio::test]
async fn a_recursive_query_over_a_topic_follows_its_records() {
    let engine = flights().await.engine();
    let chain = "WITH RECURSIVE chain AS (\
        SELECT partition, \"offset\", key, value, timestamp FROM flights WHERE partition = 0 AND \"offset\" = 0 \
        UNION ALL \
        SELECT f.partition, f.\"offset\", f.key, f.value, f.timestamp FROM flights f JOIN chain c \
          ON f.\"offset\" = c.\"offset\" * 2 + 1 AND f.partition = c.partition) \
        SELECT count(*), max(\"offset\") FROM chain";
    assert_eq!(value(&engine, chain).await, "10,511");
    let counted = "WITH RECURSIVE steps AS (\
        SELECT min(\"offset\") AS n FROM flights UNION ALL SELECT n + 1 FROM steps WHERE n < 5) SELECT count(*) FROM steps";
    assert_eq!(value(&engine, counted).await, "6");
    let computed = "WITH RECURSIVE steps AS (\
        SELECT \"offset\" FROM flights WHERE \"offset\" = 600 UNION ALL SELECT \"offset\" + 1 FROM steps WHERE \"offset\" < 605) \
        SELECT count(*) FROM steps";
    assert_eq!(value(&engine, computed).await, "12");
}

#[tokio::test]
async fn joins_of_three_topics_on_inequalities_answer() {
    let world = World::new().await;
    world.create("t", 1);
    for batch in 0..4 {
        let records: Vec<_> = (0..15).map(|i| record(NOW + batch * 15 + i, format!("{i}"))).collect();
        world.produce("t", 0, PLAIN, &records);
    }
    world.archive("t", 0, 2).await;
    let engine = world.engine();
    let three = 60 * 59 * 58 / 6;
    for (from, right) in [
        ("t a, t b, t c WHERE a.\"offset\" < b.\"offset\" AND b.\"offset\" < c.\"offset\"", three),
        ("t a JOIN t b ON a.\"offset\" < b.\"offset\" JOIN t c ON b.\"offset\" < c.\"offset\"", three),
        ("t a LEFT JOIN t b ON a.\"offset\" < b.\"offset\" LEFT JOIN t c ON b.\"offset\" < c.\"offset\"", three + 60),
    ] {
        assert_eq!(value(&engine, &format!("SELECT count(*) FROM {from}")).await, right.to_string(), "{from}");
    }
}

#[tokio::test]
async fn a_recursive_query_keeps_the_columns_that_its_terms_compare() {
    let engine = flights().await.engine();
    let two = "WITH RECURSIVE t(k, v) AS (SELECT 1 AS k, 10 AS v UNION ALL SELECT 2, 20 FROM t WHERE k = 1)";
    assert_eq!(csv(&engine, &format!("{two} SELECT v FROM t ORDER BY v")).await.unwrap(), ["10", "20"]);
    assert_eq!(value(&engine, &format!("{two} SELECT count(*) FROM t")).await, "2");
    let listed = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10) SELECT sum(i) FROM n";
    assert_eq!(value(&engine, listed).await, "55");
    assert_eq!(value(&engine, &format!("SELECT 1 WHERE EXISTS ({two} SELECT v FROM t WHERE v = 20)")).await, "1");
}

/// Every operator that a row goes through on its own or with others has the columns' types, whichever half it comes from.
#[tokio::test]
async fn whole_rows_of_both_halves_go_through_every_operator() {
    let world = flights().await;
    world.create("hot", 1);
    world.produce("hot", 0, PLAIN, &[record(NOW, "a"), record(NOW, "b")]);
    let engine = world.engine();
    for topic in ["hot", "flights"] {
        let few = format!("(SELECT * FROM {topic} WHERE offset < 2 AND partition = 0)");
        for (rows, query) in [
            (2, format!("SELECT * FROM {topic}, (SELECT 1 AS z) WHERE offset < 2 AND partition = 0")),
            (4, format!("SELECT * FROM {few} a, {few} b")),
            (3, format!("SELECT * FROM {few} a FULL JOIN {few} b ON a.offset < b.offset OR a.offset > b.offset + 9")),
            (1, format!("SELECT first_value(headers ORDER BY offset), max(offset) FROM {few}")),
            (2, format!("SELECT lag(headers) OVER (ORDER BY offset), lead(headers) OVER (ORDER BY offset) FROM {few}")),
            (1, format!("SELECT count(DISTINCT headers), last_value(headers ORDER BY offset) FROM {few}")),
            (1, format!("SELECT array_agg(headers) FROM {few}")),
            (4, format!("SELECT * FROM {few} UNION ALL SELECT * FROM {few}")),
            (2, format!("SELECT * FROM {few} UNION SELECT * FROM {few}")),
            (2, format!("SELECT DISTINCT ON (offset) * FROM {few}")),
            (
                2,
                format!(
                    "SELECT a.headers, b.headers FROM {few} a JOIN {few} b ON a.headers = b.headers AND a.offset = b.offset"
                ),
            ),
            (2, format!("SELECT coalesce(headers, NULL), CASE WHEN offset > 0 THEN headers END FROM {few}")),
            (2, format!("SELECT headers[1], headers[1]['key'] FROM {few} ORDER BY headers, offset")),
        ] {
            assert_eq!(csv(&engine, &query).await.map(|rows| rows.len()), Ok(rows), "{query}");
        }
    }
}
