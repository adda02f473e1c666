//! Commands that are handed in more than once.

use super::*;

fn allocate(scene: &Scene, sequence: u64) -> Submission {
    let broker = scene.broker(1);
    let id = CommandId { node_id: 1, broker_epoch: broker.broker_epoch, sequence };
    Submission { id: Some(id), command: Command::AllocateProducerIds(broker) }
}

#[test]
fn a_command_handed_in_again_gets_its_first_answer_and_changes_nothing() {
    let mut scene = Scene::with_brokers(1);
    let (one, two) = (allocate(&scene, 1), allocate(&scene, 2));
    let first = scene.submit(&one);
    assert!(matches!(first.records.last(), Some(Record::Answered { .. })));
    scene.submit(&two);
    let again = scene.submit(&one);
    assert_eq!((again.records, again.reply), (vec![], first.reply));
}

#[test]
fn numbers_may_come_out_of_order() {
    let mut scene = Scene::with_brokers(1);
    for sequence in [3, 1, 2] {
        let command = allocate(&scene, sequence);
        assert!(matches!(scene.submit(&command).reply, Reply::ProducerIds { .. }));
    }
    assert_eq!(scene.state.next_producer_id(), 3000);
}

#[test]
fn a_command_whose_answer_is_forgotten_is_refused() {
    let mut scene = Scene::with_brokers(1);
    let first = allocate(&scene, 1);
    scene.submit(&first);
    for sequence in 2..=REMEMBERED_ANSWERS + 1 {
        let command = allocate(&scene, sequence);
        scene.submit(&command);
    }
    assert_eq!(scene.submit(&first).reply, Reply::Refused(ClusterError::Forgotten { node_id: 1, sequence: 1 }));
    assert_eq!(scene.state.answers.len() as u64, REMEMBERED_ANSWERS);
}

#[test]
fn commands_of_an_older_process_are_refused_and_its_answers_dropped() {
    let mut scene = Scene::with_brokers(1);
    let old = allocate(&scene, 1);
    scene.submit(&old);
    scene.register(1, 2);
    assert!(matches!(scene.submit(&old).reply, Reply::Refused(ClusterError::StaleBrokerEpoch { .. })));
    let new = allocate(&scene, 1);
    assert!(matches!(scene.submit(&new).reply, Reply::ProducerIds { first: 1000, .. }));
    assert_eq!(scene.state.answers.len(), 1);
}

#[test]
fn a_refused_command_leaves_no_trace() {
    let mut scene = Scene::with_brokers(1);
    let id = CommandId { node_id: 1, broker_epoch: scene.broker(1).broker_epoch, sequence: 1 };
    let delete = Command::DeleteTopics { topics: vec![TopicRef::Name("none".to_owned())] };
    assert_eq!(scene.submit(&Submission { id: Some(id), command: delete }).records, []);
}

#[test]
fn a_large_answer_is_not_kept_and_its_command_still_applies_once() {
    let mut scene = Scene::with_brokers(1);
    let topics = (0..2_000).map(|i| NewTopic {
        id: TopicId(Uuid::from_u128(1_000 + i)),
        name: format!("{}-{i}", "long".repeat(20)),
        layout: Layout::Placed { partitions: 1, replication_factor: 1 },
        configs: Vec::new(),
        wanted_replicas: None,
    });
    let command = Command::CreateTopics { topics: topics.collect(), validate_only: false };
    let id = CommandId { node_id: 1, broker_epoch: scene.broker(1).broker_epoch, sequence: 1 };
    let submission = Submission { id: Some(id), command };
    let first = scene.submit(&submission);
    assert!(matches!(&first.reply, Reply::TopicsCreated(outcomes) if outcomes.iter().all(Result::is_ok)));
    let remembered = serde_json::to_vec(first.records.last().unwrap()).unwrap();
    assert!(remembered.len() < 1_000, "{} bytes repeat the answer", remembered.len());
    let again = scene.submit(&submission);
    assert!(matches!(again.reply, Reply::Refused(ClusterError::Forgotten { .. })), "{:?}", again.reply);
    assert_eq!(again.records, vec![]);
}
