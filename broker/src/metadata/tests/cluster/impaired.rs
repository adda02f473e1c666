//! Nodes whose local disk fails, fills up or stalls: others lead instead, without waiting for a session to end.

use super::liveness::{NEVER, create_led_by_all, led_by, until_all_alive};
use super::*;

fn impairment(fault: DiskFault) -> Option<Impairment> {
    Some(Impairment { fault, reason: "injected".to_owned() })
}

/// No partition has the broker as its leader or in its ISR, and each has a leader.
fn is_out(image: &ClusterImage, broker: NodeId) -> bool {
    image.partitions().all(|(_, p)| p.has_leader() && p.leader != broker && !p.isr.contains(&broker))
}

/// Three nodes that lead two partitions each, and the folder that they live in.
async fn started() -> (Scene, Vec<Node>) {
    let scene = Scene { session_timeout: NEVER, ..Scene::new().await };
    let nodes = scene.cluster().await;
    until_all_alive(&nodes).await;
    create_led_by_all(&nodes[0].metadata).await;
    for node in &nodes {
        until("all lead", || (1..=3).all(|id| led_by(&node.metadata.image(), id) > 0)).await;
    }
    (scene, nodes)
}

async fn stop(nodes: Vec<Node>) {
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_disk_fails_is_fenced_at_once_and_stays_fenced() {
    let (_scene, nodes) = started().await;
    let leader = leader_of(&nodes).await;
    let (sick, well) = (&nodes[(leader + 1) % 3], &nodes[leader]);
    sick.metadata.set_impairment(impairment(DiskFault::Failed));
    until("it is fenced", || !well.metadata.image().is_alive(sick.id())).await;
    assert!(is_out(&well.metadata.image(), sick.id()));
    // It hears of it, and does not ask to lead again.
    until("it knows", || !sick.metadata.image().is_alive(sick.id())).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!well.metadata.image().is_alive(sick.id()));
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_whose_disk_fails_lets_another_lead_the_log_and_its_partitions() {
    let (_scene, nodes) = started().await;
    let leader = leader_of(&nodes).await;
    let (sick, other) = (&nodes[leader], &nodes[(leader + 1) % 3]);
    sick.metadata.set_impairment(impairment(DiskFault::Failed));
    until("it is fenced", || !other.metadata.image().is_alive(sick.id())).await;
    assert!(is_out(&other.metadata.image(), sick.id()));
    until("another leads the log", || !sick.leads() && nodes.iter().any(Node::leads)).await;
    create(&other.metadata, "later").await;
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_metadata_log_fails_is_fenced_before_its_session_ends() {
    let (_scene, nodes) = started().await;
    for _ in 0..2 {
        let leader = leader_of(&nodes).await;
        let (sick, well) = (&nodes[(leader + 1) % 3], &nodes[leader]);
        if sick.metadata.health().is_err() {
            continue;
        }
        sick.metadata.inner.writer.stop();
        create(&well.metadata, "orders-2").await;
        until("it is fenced", || !well.metadata.image().is_alive(sick.id())).await;
        break;
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_disk_is_full_hands_over_and_takes_part_again_when_there_is_space() {
    let (_scene, nodes) = started().await;
    let leader = leader_of(&nodes).await;
    for sick in [&nodes[leader], &nodes[(leader + 1) % 3]] {
        let other = nodes.iter().find(|node| node.id() != sick.id()).unwrap();
        let before = sick.metadata.broker();
        sick.metadata.set_impairment(impairment(DiskFault::Full));
        until("it has handed over", || is_out(&other.metadata.image(), sick.id())).await;
        assert!(other.metadata.image().is_alive(sick.id()), "what no other can lead stays there for its readers");
        sick.metadata.set_impairment(None);
        until("it takes part again", || other.metadata.image().is_active(sick.id())).await;
        until("it knows", || sick.metadata.broker().broker_epoch > before.broker_epoch).await;
        let known = other.metadata.image().broker(sick.id()).unwrap().epoch;
        assert_eq!(sick.metadata.broker().broker_epoch, known);
        allocate_in(&sick.metadata).await;
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_every_disk_is_full_each_partition_keeps_a_leader_and_one_broker_its_place() {
    let (_scene, nodes) = started().await;
    let image = || nodes[0].metadata.image();
    for node in &nodes[..2] {
        node.metadata.set_impairment(impairment(DiskFault::Full));
        until("it hands over", || !image().is_active(node.id())).await;
    }
    let last = &nodes[2];
    last.metadata.set_impairment(impairment(DiskFault::Full));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(image().is_active(last.id()));
    assert!(image().partitions().all(|(_, partition)| partition.leader == last.id()));
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_disk_keeps_it_behind_refuses_metadata_requests() {
    let (_scene, nodes) = started().await;
    let leader = leader_of(&nodes).await;
    let (sick, well) = (&nodes[(leader + 1) % 3], &nodes[leader]);
    sick.metadata.set_impairment(impairment(DiskFault::Slow));
    until("it has handed over", || is_out(&well.metadata.image(), sick.id())).await;
    sick.metadata.confirm().await.unwrap();
    sick.metadata.inner.writer.stop();
    create(&well.metadata, "later").await;
    let refused = sick.metadata.confirm().await.unwrap_err();
    assert!(refused.to_string().contains("ask another broker"), "{refused}");
    well.metadata.confirm().await.unwrap();
    stop(nodes).await;
}
