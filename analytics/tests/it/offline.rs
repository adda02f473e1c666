//! A bucket without its cluster.

use std::path::Path;

use analytics::sql::offline::Offline;
use analytics::sql::{Engine, Limits};
use model::batch::Compression;

use crate::world::{Kind, NOW, World, config, csv, record, value};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_copied_bucket_answers_for_what_was_archived() {
    let world = World::new().await;
    for topic in ["orders.eu-1", "clicks"] {
        world.create(topic, 2);
        for i in 0..30 {
            world.produce(
                topic,
                i % 2,
                Kind::Plain(Compression::None),
                &[record(NOW + i64::from(i), format!("{topic} {i}"))],
            );
        }
        world.archive(topic, 0, 5).await;
        world.archive(topic, 0, 5).await;
        world.archive(topic, 1, 3).await;
        world.delete(topic, 0, 4, true).await;
    }
    let other = tempfile::tempdir().unwrap();
    copy(&world.folder.path().join("store"), &other.path().join("store"));
    drop(world);
    let mut settings = config(other.path());
    settings.cluster_id = "unknown".into();
    let source = Offline::open(settings, None).await.unwrap();
    let engine = Engine::new(source, Limits::new(other.path().join("spill"))).unwrap();
    assert_eq!(value(&engine, r#"SELECT count(*), min(offset) FROM "orders.eu-1""#).await, "9,0");
    assert_eq!(
        csv(&engine, "SELECT value FROM clicks WHERE partition = 0 ORDER BY offset LIMIT 1").await.unwrap(),
        ["clicks 8"]
    );
    let answer = engine.query("SELECT 1 FROM clicks", None).await.unwrap();
    assert!(answer.notice.unwrap().contains("only archived records"));
}

#[tokio::test]
async fn a_folder_without_an_archive_or_with_several_says_so() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("store")).unwrap();
    let error = Offline::open(config(folder.path()), None).await.unwrap_err();
    assert!(error.to_string().contains("holds no archive"), "{error}");
    for id in ["a", "b"] {
        std::fs::write(folder.path().join(format!("store/firn-cluster-{id}.json")), "{}").unwrap();
    }
    let error = Offline::open(config(folder.path()), None).await.unwrap_err();
    assert!(error.to_string().ends_with("several clusters, say which: a, b"), "{error}");
    Offline::open(config(folder.path()), Some("a".into())).await.unwrap();
}
