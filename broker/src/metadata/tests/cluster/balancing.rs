//! Leaderships go back to where they belong.

use coordinator::cluster::{AlteredPartition, BrokerRef, IsrChange};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_was_away_leads_again_what_it_should() {
    let scene = Scene::new().await;
    let nodes = scene.cluster().await;
    let metadata = nodes[leader_of(&nodes).await].metadata.clone();
    until("all may lead", || (1..=3).all(|id| metadata.image().is_alive(id))).await;
    let layout = Layout::Assigned(vec![vec![1, 2, 3]]);
    let topic =
        NewTopic { id: new_topic_id(), name: "moved".to_owned(), layout, configs: Vec::new(), wanted_replicas: None };
    metadata.submit(Command::CreateTopics { topics: vec![topic], validate_only: false }).await.unwrap();
    let leader = || metadata.image().partitions().next().unwrap().1.leader;
    metadata.submit(Command::FenceBroker(member(&metadata, 1))).await.unwrap();
    until("another leads", || leader() == 2).await;
    until("broker 1 is back", || metadata.image().is_alive(1)).await;
    join(&metadata, &[2, 3, 1]).await;
    assert_eq!(leader(), 2);
    let stop = CancellationToken::new();
    for node in &nodes {
        tokio::spawn(node.metadata.clone().keep_balanced(Duration::from_millis(20), stop.clone()));
    }
    until("broker 1 leads", || leader() == 1).await;
    stop.cancel();
    for node in nodes {
        node.stop().await;
    }
}

fn member(metadata: &Metadata, broker_id: NodeId) -> BrokerRef {
    BrokerRef { broker_id, broker_epoch: metadata.image().broker(broker_id).unwrap().epoch }
}

/// The leader of the only partition takes members into its ISR.
async fn join(metadata: &Metadata, isr: &[NodeId]) {
    let image = metadata.image();
    let (partition, state) = image.partitions().next().unwrap();
    let isr = isr.iter().map(|id| member(metadata, *id)).collect();
    let (leader_epoch, partition_epoch) = (state.leader_epoch, state.partition_epoch);
    let change = IsrChange { partition, leader_epoch, partition_epoch, isr };
    let command = Command::AlterPartitions { broker: member(metadata, state.leader), changes: vec![change] };
    let reply = metadata.submit(command).await.unwrap();
    let Reply::PartitionsAltered(outcomes) = reply else { panic!("{reply:?}") };
    assert!(matches!(&outcomes[0], Ok(AlteredPartition { .. })), "{outcomes:?}");
}
