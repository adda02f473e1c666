//! Views and the parts of a `WITH`: what their names mean, and how much they may become together.

use std::sync::Arc;

use analytics::sql::output::Format;
use analytics::sql::{Engine, SqlError, Text, View};
use bytes::Bytes;
use futures::TryStreamExt;
use model::batch::Compression;

use crate::world::{Kind, NOW, World, record, value};

/// Topics `t`, with ten records, and `u`, with three.
async fn topics() -> Arc<World> {
    let world = World::new().await;
    for (topic, count) in [("t", 10), ("u", 3)] {
        world.create(topic, 1);
        let records: Vec<_> = (0..count).map(|n| record(NOW + n, format!("{n}"))).collect();
        world.produce(topic, 0, Kind::Plain(Compression::None), &records);
    }
    world
}

async fn answer(engine: &Engine, sql: &str, views: &[(&str, &str)]) -> Result<String, SqlError> {
    let views = views.iter().map(|(name, sql)| View { name: (*name).to_owned(), sql: (*sql).to_owned() });
    let text = Text { sql: sql.to_owned(), views: views.collect(), ..Text::default() };
    let pieces: Vec<Bytes> = engine.query_as(text, None, Format::Csv).await?.pieces.try_collect().await?;
    let text = String::from_utf8(pieces.concat()).unwrap();
    Ok(text.lines().skip(1).collect::<Vec<_>>().join(" "))
}

#[tokio::test]
async fn a_view_means_the_same_whatever_the_query_calls_its_own_parts() {
    let engine = topics().await.engine();
    let few = ("few", "SELECT * FROM t WHERE offset < 4");
    let own = ("own", "WITH t AS (SELECT * FROM t WHERE offset < 6), p AS (SELECT * FROM t) SELECT p.* FROM p");
    let same = ("t", "SELECT * FROM t WHERE offset < 5");
    let all = [few, own, same];
    for (sql, wanted) in [
        ("SELECT count(*) FROM few", "4"),
        ("SELECT few.offset FROM few ORDER BY few.offset DESC LIMIT 1", "3"),
        ("SELECT count(*) FROM own a JOIN own b ON a.offset = b.offset", "5"),
        ("WITH few AS (SELECT * FROM few WHERE offset > 0) SELECT count(*) FROM few", "3"),
        ("WITH few AS (SELECT 1 AS x) SELECT count(*) FROM few", "1"),
        ("WITH p AS (SELECT * FROM own) SELECT count(*) FROM p, few", "20"),
        ("WITH t AS (SELECT * FROM t LIMIT 1) SELECT (SELECT count(*) FROM own), (SELECT count(*) FROM t)", "5,1"),
        ("WITH u AS (SELECT * FROM few), w AS (SELECT * FROM own) SELECT count(*) FROM u, w", "20"),
        ("SELECT count(*) FROM t", "5"),
        (
            "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT count(*) FROM n, t",
            "15",
        ),
        (
            "WITH RECURSIVE few AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM few WHERE i < 3) SELECT count(*) FROM few",
            "3",
        ),
        (
            "SELECT * FROM (WITH x AS (SELECT 1 AS a) SELECT a FROM x) UNION ALL SELECT count(*) FROM few ORDER BY 1",
            "1 4",
        ),
        ("WITH x AS (SELECT 1 AS a) SELECT a FROM (WITH x AS (SELECT 2 AS a FROM x) SELECT a FROM x) AS y", "2"),
        ("SELECT count(*) FROM u WHERE EXISTS (SELECT 1 FROM few WHERE few.offset = u.offset + 1)", "3"),
        ("EXPLAIN SELECT count(*) FROM few", ""),
    ] {
        let answered = answer(&engine, sql, &all).await;
        assert!(answered == Ok(wanted.to_owned()) || wanted.is_empty() && answered.is_ok(), "{sql}: {answered:?}");
    }
    // A part that takes the name of a topic within the query hides it from the query, not from views.
    let hidden = "WITH t AS (SELECT 1 AS x), u AS (SELECT 2 AS y) SELECT count(*) FROM few, t, u";
    assert_eq!(answer(&engine, hidden, &[few]).await.as_deref(), Ok("4"));
    let unknown = answer(&engine, "SELECT * FROM v", &[("v", "SELECT * FROM nothing")]).await.unwrap_err();
    assert!(unknown.to_string().starts_with("there is no topic \"nothing\""), "{unknown}");
    let twice = answer(&engine, "WITH a AS (SELECT 1), a AS (SELECT 2) SELECT * FROM a", &[]).await.unwrap_err();
    assert!(twice.to_string().contains("more than once"), "{twice}");
}

#[tokio::test]
async fn parts_that_name_each_other_twice_are_refused_before_they_are_planned() {
    let engine = topics().await.engine();
    let double = |n: usize, first: &str| format!("SELECT a.{first} FROM c{} a, c{} b", n - 1, n - 1);
    for (leaf, column) in [("SELECT 1 AS n", "n"), ("SELECT offset FROM t", "offset")] {
        let part = |n: usize| if n == 0 { leaf.to_owned() } else { double(n, column) };
        let named: Vec<_> = (0..21).map(|n| (format!("c{n}"), part(n))).collect();
        let ctes: Vec<_> = named.iter().map(|(name, sql)| format!("{name} AS ({sql})")).collect();
        let views: Vec<_> = named.iter().map(|(name, sql)| (name.as_str(), sql.as_str())).collect();
        for (sql, views) in [
            (format!("WITH {} SELECT * FROM c20", ctes.join(", ")), &[][..]),
            (format!("SELECT 1 WHERE EXISTS (WITH {} SELECT * FROM c20)", ctes.join(", ")), &[]),
            ("SELECT * FROM c20".to_owned(), &views),
        ] {
            let refused = answer(&engine, &sql, views).await.unwrap_err();
            assert!(refused.to_string().contains("more than the limit of 500"), "{refused}");
        }
        let few = answer(&engine, "SELECT count(*) FROM c2", &views).await.unwrap();
        assert_eq!(few, if column == "n" { "1" } else { "10000" });
    }
    let wide = vec!["1"; 1500].join(" + 1 + ");
    let ctes = format!("WITH a AS (SELECT {wide} AS n), b AS (SELECT * FROM a {}) SELECT * FROM b", ", a".repeat(90));
    let refused = answer(&engine, &ctes, &[]).await.unwrap_err();
    assert!(refused.to_string().contains("expressions"), "{refused}");
    assert_eq!(value(&engine, "SELECT 42").await, "42");
}
