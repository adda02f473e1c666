//! Requests of clients with very much in them.

use std::sync::atomic::{AtomicBool, Ordering};

use coordinator::cluster::{ConfigChange, ConfigEdit, ConfigOp, ConfigOpKind, ConfigResource};

use super::*;
use crate::metadata::parts::{InParts, encoded_len};

const TOPICS: usize = 200;

fn change(topic: usize, value: &str) -> ConfigChange {
    let op = |name: &str| ConfigOp { name: name.to_owned(), kind: ConfigOpKind::Set, value: Some(value.to_owned()) };
    let ops = vec![op("leader.replication.throttled.replicas"), op("follower.replication.throttled.replicas")];
    ConfigChange { resource: ConfigResource::Topic(format!("topic-{topic}")), edit: ConfigEdit::Incremental(ops) }
}

async fn alter(metadata: &Metadata, changes: Vec<ConfigChange>) -> Vec<Result<(), SubmitError>> {
    let outcomes = |reply| match reply {
        Reply::ConfigsAltered(outcomes) => Some(outcomes),
        _ => None,
    };
    let how = InParts { command: |changes| Command::AlterConfigs { changes, validate_only: false }, outcomes };
    metadata.submit_in_parts(changes, encoded_len, how).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_many_megabytes_keeps_the_leader_and_lets_other_commands_through() {
    let scene = Scene { session_timeout: Duration::from_secs(30), ..Scene::new().await };
    let nodes = scene.cluster().await;
    let leader = leader_of(&nodes).await;
    let topics = (0..TOPICS).map(|i| NewTopic {
        id: new_topic_id(),
        name: format!("topic-{i}"),
        layout: Layout::Placed { partitions: 1, replication_factor: 1 },
        configs: Vec::new(),
        wanted_replicas: None,
    });
    let command = Command::CreateTopics { topics: topics.collect(), validate_only: false };
    nodes[leader].metadata.submit(command).await.unwrap();
    let term = nodes[leader].metadata.quorum().epoch;

    // Twice 32 KiB for each topic, asked for at a node that hands it over to the leader.
    let words: Vec<String> = (0..4_000).map(|i| format!("{}:{}", i % 10, 100 + i % 900)).collect();
    let value = words.join(",");
    let asked = nodes[(leader + 1) % 3].metadata.clone();
    let is_done = Arc::new(AtomicBool::new(false));
    let others = tokio::spawn({
        let (metadata, is_done) = (nodes[(leader + 2) % 3].metadata.clone(), is_done.clone());
        async move {
            let mut served = 0;
            while !is_done.load(Ordering::Acquire) {
                allocate(&metadata).await;
                served += 1;
            }
            served
        }
    });
    let outcomes = alter(&asked, (0..TOPICS).map(|topic| change(topic, &value)).collect()).await;
    is_done.store(true, Ordering::Release);
    assert!(outcomes.iter().all(Result::is_ok), "{:?}", outcomes.iter().find(|outcome| outcome.is_err()));
    assert!(others.await.unwrap() >= 3, "other commands were hardly served in the meantime");
    assert_eq!((nodes[leader].metadata.quorum().epoch, leader_of(&nodes).await), (term, leader));
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_the_log_is_refused_by_itself_with_the_limit() {
    let folder = TempDir::new().unwrap();
    let metadata = open(&folder).await;
    create(&metadata, "topic-0").await;
    let too_large = change(0, &"9".repeat(5 << 20));
    let outcomes = alter(&metadata, vec![too_large, change(0, "0:1")]).await;
    let refused = format!("{}", outcomes[0].as_ref().unwrap_err());
    assert!(refused.contains("at most 8388608 are allowed"), "{refused}");
    assert_eq!(outcomes[1], Ok(()));
    metadata.close().await;
}
