//! Offsets of deleted topics.

use super::*;

fn deleted(number: u128) -> DeletedTopics {
    let mut deleted = DeletedTopics::default();
    deleted.insert("t", TopicId(Uuid::from_u128(number)), None);
    deleted
}

fn commit_for(number: u128, partition: i32) -> CommitOffsets {
    let mut commit = commit(7);
    commit.offsets[0].topic_id = TopicId(Uuid::from_u128(number));
    commit.offsets[0].partition = partition;
    commit
}

#[tokio::test]
async fn a_deletion_removes_offsets_of_that_topic_and_none_of_its_successor() {
    let log = Arc::new(MemoryLog::new());
    let groups = loaded(&log).await;
    for commit in [commit_for(1, 0), commit_for(1, 1), commit_for(2, 0)] {
        groups.commit(commit).await.unwrap();
    }
    groups.forget_topics(&deleted(1));
    while groups.offsets("g").await.unwrap()["t"].contains_key(&1) {
        tokio::task::yield_now().await;
    }
    assert_eq!(groups.offsets("g").await.unwrap()["t"].len(), 1);
    // What is written down says the same.
    assert_eq!(loaded(&log).await.offsets("g").await.unwrap()["t"][&0].topic_id, TopicId(Uuid::from_u128(2)));
}

#[tokio::test]
async fn a_deletion_is_remembered_while_the_coordinator_loads_or_cannot_write() {
    let log = Arc::new(MemoryLog::new());
    loaded(&log).await.commit(commit_for(1, 0)).await.unwrap();
    log.hold(true);
    let groups = coordinator(&log);
    groups.forget_topics(&deleted(1));
    log.lack_replicas(true);
    log.hold(false);
    until_loaded(&groups).await;
    assert!(!groups.offsets("g").await.unwrap().is_empty());
    log.lack_replicas(false);
    while !groups.offsets("g").await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_deletion_whose_records_the_log_has_lost_is_decided_again() {
    let log = Arc::new(MemoryLog::new());
    let groups = loaded(&log).await;
    groups.commit(commit_for(1, 0)).await.unwrap();
    let stored = log.batches().len();
    log.hold(true);
    groups.forget_topics(&deleted(1));
    while log.batches().len() == stored {
        tokio::task::yield_now().await;
    }
    // The coordinator finds that nothing is left to remove.
    for _ in 0..100 {
        groups.list(ListFilter::default()).await.unwrap();
    }
    log.lose_uncommitted();
    while groups.loading() == 0 {
        tokio::task::yield_now().await;
    }
    log.hold(false);
    until_loaded(&groups).await;
    let removed = async {
        while groups.offsets("g").await.is_ok_and(|offsets| !offsets.is_empty()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), removed).await.expect("the offset of a deleted topic is removed");
    assert!(loaded(&log).await.offsets("g").await.unwrap().is_empty(), "and stays so");
}
