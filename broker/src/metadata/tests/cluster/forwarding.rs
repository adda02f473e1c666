//! Commands from nodes that do not lead.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn any_node_takes_commands_and_shows_their_effect_when_it_answers() {
    let scene = Scene::new().await;
    let nodes = scene.cluster().await;
    for round in 0..10 {
        for node in &nodes {
            let created = create(&node.metadata, &format!("topic-{round}-{}", node.id())).await;
            assert!(node.metadata.image().topic_by_id(created.id).is_some());
        }
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_reach_the_node_that_asked() {
    let scene = Scene::new().await;
    let nodes = scene.cluster().await;
    let stranger = BrokerRef { broker_id: 9, broker_epoch: 0 };
    for node in &nodes {
        let refused = node.metadata.submit(Command::AllocateProducerIds(stranger)).await;
        assert!(matches!(refused, Err(SubmitError::Refused(_))), "{refused:?}");
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_answer_was_lost_is_applied_once() {
    let scene = Scene::new().await;
    let nodes = scene.cluster().await;
    let leader = leader_of(&nodes).await;
    let follower = &nodes[(leader + 1) % 3].metadata;
    let broker = follower.broker();
    let id =
        coordinator::cluster::CommandId { node_id: broker.broker_id, broker_epoch: broker.broker_epoch, sequence: 200 };
    let submission = coordinator::cluster::Submission { id: Some(id), command: Command::AllocateProducerIds(broker) };
    let forwarded = rpc::Forwarded { submissions: vec![submission] };
    let mut replies = Vec::new();
    for _ in 0..3 {
        let to = nodes[leader].id();
        let answer: rpc::Outcomes =
            follower.inner.peers.call(to, rpc::SUBMIT, &forwarded, Duration::from_secs(5)).await.unwrap();
        replies.push(answer.outcomes);
    }
    assert!(replies.iter().all(|reply| reply == &replies[0] && reply[0].is_ok()), "{replies:?}");
    let Ok(Reply::ProducerIds { first, count }) = replies[0][0].clone() else { panic!("{replies:?}") };
    assert_eq!(allocate_in(&nodes[leader].metadata).await, first + count);
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_commands_from_all_nodes_are_applied_once() {
    let scene = Scene { snapshot_every: 50, ..Scene::new().await };
    let nodes = scene.cluster().await;
    let tasks: Vec<_> = (0..1_500)
        .map(|i| {
            let metadata = nodes[i % 3].metadata.clone();
            tokio::spawn(async move { allocate(&metadata).await })
        })
        .collect();
    let mut blocks = BTreeSet::new();
    for task in tasks {
        assert!(blocks.insert(task.await.unwrap()), "a block was handed out twice");
    }
    assert_eq!(blocks.into_iter().collect::<Vec<_>>(), (0..1_500).map(|n| n * 1000).collect::<Vec<_>>());
    for node in nodes {
        node.stop().await;
    }
}
