//! Answers as bytes of a format.

use std::str::FromStr;

use analytics::sql::output::Format;
use analytics::sql::{Engine, SqlError};
use bytes::Bytes;
use futures::TryStreamExt;

use crate::world::World;

async fn written(engine: &Engine, sql: &str, format: &str) -> Result<String, SqlError> {
    let answer = engine.query_as(sql, None, Format::from_str(format).unwrap()).await?;
    let pieces: Vec<Bytes> = answer.pieces.try_collect().await?;
    Ok(String::from_utf8(pieces.concat()).unwrap())
}

#[tokio::test]
async fn a_time_beyond_the_calendar_is_an_error_in_every_text_format() {
    let engine = World::new().await.engine();
    let far = "to_timestamp_millis(9223372036854775807)";
    for value in [
        far.to_owned(),
        format!("make_array({far})"),
        format!("named_struct('at', {far})"),
        "arrow_cast(9223372036854775807, 'Date64')".to_owned(),
        format!("CASE WHEN n = 2 THEN {far} END"),
    ] {
        let sql = format!("SELECT {value} AS t FROM (VALUES (1), (2), (3)) AS v(n)");
        for format in ["json", "csv", "table", "lines"] {
            let outcome = written(&engine, &sql, format).await;
            assert!(matches!(outcome, Err(SqlError::Failed { .. })), "{format}: {sql}: {outcome:?}");
        }
    }
    let near = "SELECT to_timestamp_millis(n) AS t, make_array(to_timestamp_millis(n), NULL) AS l FROM (VALUES (0), (NULL)) AS v(n)";
    let lines =
        "{\"t\":\"1970-01-01T00:00:00\",\"l\":[\"1970-01-01T00:00:00\",null]}\n{\"t\":null,\"l\":[null,null]}\n";
    assert_eq!(written(&engine, near, "json").await.as_deref(), Ok(lines));
}

#[tokio::test]
async fn no_key_of_a_json_row_comes_twice() {
    let engine = World::new().await.engine();
    let of = "FROM (VALUES (1, 2)) AS a(x, y), (VALUES (3, 4)) AS b(x, y)";
    for (columns, line) in [
        ("a.x, b.x", r#"{"x":1,"x (2)":3}"#),
        ("*", r#"{"x":1,"y":2,"x (2)":3,"y (2)":4}"#),
        ("a.x, b.x AS \"x (2)\", b.x", r#"{"x":1,"x (2)":3,"x (3)":3}"#),
        ("a.x, b.y", r#"{"x":1,"y":4}"#),
    ] {
        let sql = format!("SELECT {columns} {of}");
        assert_eq!(written(&engine, &sql, "json").await, Ok(format!("{line}\n")), "{sql}");
    }
}
