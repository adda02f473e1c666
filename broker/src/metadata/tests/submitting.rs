//! Commands, replies, images.

use std::collections::BTreeSet;

use coordinator::cluster::{ClusterError, Record};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_comes_with_its_effect_in_the_image() {
    let folder = TempDir::new().unwrap();
    let metadata = open(&folder).await;
    let before = metadata.image();
    let created = create(&metadata, "orders").await;
    assert_eq!(metadata.image().topic("orders").unwrap().id, created.id);
    assert_eq!(metadata.image().topic_by_id(created.id).unwrap().name.as_str(), "orders");
    assert!(before.topic("orders").is_none() && before.version() < metadata.image().version());
    metadata.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_watch_see_every_last_change() {
    let folder = TempDir::new().unwrap();
    let metadata = open(&folder).await;
    let mut watch = metadata.watch();
    watch.mark_unchanged();
    create(&metadata, "orders").await;
    tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.unwrap().unwrap();
    assert!(watch.borrow_and_update().topic("orders").is_some());
    metadata.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_the_cluster_are_certain() {
    let folder = TempDir::new().unwrap();
    let metadata = open(&folder).await;
    let stranger = BrokerRef { broker_id: 9, broker_epoch: 0 };
    let refused = metadata.submit(Command::AllocateProducerIds(stranger)).await;
    assert_eq!(refused, Err(SubmitError::Refused(ClusterError::UnknownBroker { broker_id: 9 })));
    let unknown = Command::DeleteTopics { topics: vec![TopicRef::Name("none".to_owned())] };
    let Reply::TopicsDeleted(outcomes) = metadata.submit(unknown).await.unwrap() else { panic!("another reply") };
    assert_eq!(outcomes, [Err(ClusterError::UnknownTopic { name: "none".to_owned() })]);
    metadata.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_commands_at_once_are_all_applied_once() {
    let folder = TempDir::new().unwrap();
    let metadata = open_with(MetadataConfig { snapshot_every: 50, ..config(&folder) }).await;
    let tasks: Vec<_> = (0..3_000)
        .map(|_| {
            let metadata = metadata.clone();
            tokio::spawn(async move { allocate(&metadata).await })
        })
        .collect();
    let mut blocks = BTreeSet::new();
    for task in tasks {
        assert!(blocks.insert(task.await.unwrap()), "a block was handed out twice");
    }
    assert_eq!(blocks.into_iter().collect::<Vec<_>>(), (0..3_000).map(|n| n * 1000).collect::<Vec<_>>());
    let entries = metadata.image().version();
    assert!(entries < 1_500, "{entries} log entries for 3000 commands: they did not share any");
    metadata.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_ran_out_of_time_is_never_called_not_applied_wrongly() {
    let folder = TempDir::new().unwrap();
    let metadata = open(&folder).await;
    let (mut outcomes, mut applied) = (Vec::new(), 0);
    for i in 0..400_u64 {
        let command = Command::AllocateProducerIds(metadata.broker());
        let outcome = metadata.submit_within(command, Duration::from_micros(i * 5)).await;
        outcomes.push(outcome);
    }
    // What was on its way has arrived once a later command is answered.
    let total = allocate(&metadata).await / 1000;
    let mut uncertain = 0;
    for outcome in outcomes {
        match outcome {
            Ok(_) => applied += 1,
            Err(error) if error.is_uncertain() => uncertain += 1,
            Err(SubmitError::NotApplied { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(
        applied <= total && total <= applied + uncertain,
        "{applied} applied, {uncertain} uncertain, in truth {total}"
    );
    metadata.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_metadata_apply_nothing_and_still_show_their_last_image() {
    let folder = TempDir::new().unwrap();
    let metadata = open(&folder).await;
    create(&metadata, "orders").await;
    metadata.close().await;
    let outcome = metadata.submit(topic("late")).await;
    assert!(matches!(outcome, Err(SubmitError::NotApplied { .. })), "{outcome:?}");
    assert!(metadata.health().is_err());
    assert!(metadata.image().topic("orders").is_some());
    metadata.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_was_decided_on_another_state_is_void() {
    let folder = TempDir::new().unwrap();
    let metadata = open(&folder).await;
    let records = Arc::new(vec![Record::ProducerIdsAllocated { next: 1_000 }]);
    let decided = entry::Decided { base: metadata.image().version(), records };
    let mut effects = Vec::new();
    for _ in 0..2 {
        effects.push(metadata.inner.raft.client_write(decided.clone()).await.unwrap().data);
    }
    assert_eq!(effects, [entry::Effect::Applied, entry::Effect::Void]);
    assert_eq!(allocate(&metadata).await, 1_000);
    metadata.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_meet_entries_of_another_writer_and_are_still_applied_once() {
    let folder = TempDir::new().unwrap();
    let metadata = open(&folder).await;
    let other = metadata.clone();
    let writer = tokio::spawn(async move {
        for _ in 0..200 {
            let image = other.image();
            let configs = SettingsMap::from([("n".to_owned(), image.version().to_string())]);
            let records = Arc::new(vec![Record::BrokerConfigsSet { broker_id: None, configs }]);
            other.inner.raft.client_write(entry::Decided { base: image.version(), records }).await.unwrap();
        }
    });
    for n in 0..200 {
        assert_eq!(allocate(&metadata).await, n * 1_000);
    }
    writer.await.unwrap();
    metadata.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_stops_and_says_so() {
    let folder = TempDir::new().unwrap();
    let metadata = open(&folder).await;
    metadata.health().unwrap();
    metadata.inner.writer.stop();
    let outcome = metadata.submit(topic("orders")).await;
    assert!(matches!(outcome, Err(SubmitError::Uncertain { .. })), "{outcome:?}");
    assert!(matches!(metadata.health(), Err(MetadataError::Stopped(_))));
    assert!(metadata.image().topic("orders").is_none());
    metadata.close().await;
    let metadata = open(&folder).await;
    create(&metadata, "orders").await;
    metadata.close().await;
}

#[test]
fn a_log_entry_keeps_its_form() {
    let records = Arc::new(vec![Record::BrokerUnregistered { broker_id: 7 }]);
    let decided = entry::Decided { base: 5, records };
    let text = r#"{"base":5,"records":[{"broker_unregistered":{"broker_id":7}}]}"#;
    assert_eq!(serde_json::to_string(&decided).unwrap(), text);
    assert_eq!(serde_json::from_str::<entry::Decided>(text).unwrap(), decided);
}
